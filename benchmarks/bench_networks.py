"""Networks as people have them, explained by `cp_lrp` as they are: whether the account closes, and what it costs.

Run by `make bench`. Random weights; a row each, beside one gradient of its network in the same run.
"""

from collections.abc import Callable
from typing import Any

import functional_networks
import pytest
import torch
from costs import DEVICE, gradient_of, median_ratio, peak_megabytes, take_turns
from torch import Tensor, nn
from torchvision.models import video as torchvision_video

from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.models.huggingface import HuggingFaceVideoNet
from vidact.models.transformer import VideoTransformer

NUM_ROUNDS = 3
Build = Callable[[], nn.Module]


def _hugging_face(kind: str, frames: int, /, **settings: Any) -> Build:
    """Of 12 layers and 768 features, as the usual ones, but for smaller pictures."""
    size = settings.get("image_size") or settings.get("crop_size")
    return lambda: HuggingFaceVideoNet(400, {"model_type": kind, **settings}, num_frames=frames, size=size)


# Name: how it is built, and (T, side in pixels) of its clips.
NETWORKS: dict[str, tuple[Build, tuple[int, int]]] = {
    "swin3d_t": (torchvision_video.swin3d_t, (16, 112)),
    "swin3d_s": (torchvision_video.swin3d_s, (16, 112)),
    "mvit_v1_b": (torchvision_video.mvit_v1_b, (16, 224)),
    "mvit_v2_s": (torchvision_video.mvit_v2_s, (16, 224)),
    "VideoMAE, 12 layers": (_hugging_face("videomae", 16, num_frames=16, image_size=112), (16, 112)),
    "TimeSformer, 12 layers": (_hugging_face("timesformer", 8, num_frames=8, image_size=112), (8, 112)),
    "ViViT, 12 layers": (_hugging_face("vivit", 16, num_frames=16, image_size=112), (16, 112)),
    "V-JEPA 2, 12 layers": (
        _hugging_face("vjepa2", 8, frames_per_clip=8, crop_size=112, hidden_size=768, num_hidden_layers=12),
        (8, 112),
    ),
    "vidact's VideoTransformer": (lambda: VideoTransformer(8, num_frames=16, channels=3, size=48), (16, 48)),
    "nn.TransformerEncoder": (functional_networks.NETWORKS["encoder"], (4, 16)),
    "a block as timm writes it": (functional_networks.NETWORKS["timm"], (4, 16)),
    "RMSNorm, rotary, SwiGLU, einsum": (functional_networks.NETWORKS["modern"], (4, 16)),
    "X3D-like, functional": (functional_networks.NETWORKS["efficient"], (4, 16)),
    "SlowFast-like, functional": (functional_networks.NETWORKS["pathways"], (4, 16)),
    "TSM-like shifts": (functional_networks.NETWORKS["shifting"], (4, 16)),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_explained_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    build, (num_frames, size) = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build().eval().requires_grad_(requires_grad=False).to(DEVICE)
        for parameter in network.parameters():  # biases and tokens of a new network are zero
            parameter.add_(0.02 * torch.randn_like(parameter))
    video = torch.rand(1, 3, num_frames, size, size, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    target = torch.zeros(1, dtype=torch.long, device=DEVICE)

    with GradientForm(network, refine=False) as explain:

        def explained() -> Tensor:
            found: Tensor = explain(video, target).relevance
            return found

        methods = {"gradient": gradient_of(network, video), "relevance": explained}
        for once in methods.values():
            once()
        megabytes = {title: peak_megabytes(once) for title, once in methods.items()}
        seconds = take_turns(methods, num_rounds=NUM_ROUNDS)
    cost = median_ratio(seconds["relevance"], seconds["gradient"])
    share = megabytes["relevance"] / megabytes["gradient"]
    gap, difference, refused = _account(network.double(), video.double(), target)
    weights = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    # What Python takes to run a small network says nothing about large ones: no cost is shown for those.
    with capsys.disabled():
        print(
            f"\n| {name} | {weights:.1f} M | {num_frames}×{size}×{size} | {gap:.1e} | {difference:.1e} | {refused} "
            + (f"| {cost:.2f} | {share:.2f} |" if weights > 0.1 else "| – | – |")
        )
    assert not refused
    assert difference < 1e-10
    assert gap < 1e-9


def _account(network: nn.Module, video: Tensor, target: Tensor) -> tuple[float, float, int]:
    """Measure, in float64, how far the account is from closing, how scores differ, and how many places are refused."""
    with GradientForm(network, dtype=torch.float64, check_network=False) as explain:
        explain.prepare(video)
        refused, _ = explain.check(video)
        if refused:
            return float("nan"), float("nan"), len(refused)
        found = explain(video, target)
        difference = (explain.scores(video) - network(video)).abs().max() / network(video).abs().max()
    assert found.account is not None
    return float(found.account.gap(found.score).max()), float(difference), 0
