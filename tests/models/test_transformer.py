import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidact.core.errors import ConfigError
from vidact.models.layers import PIXEL_MEAN, PIXEL_STD
from vidact.models.transformer import VideoTransformer

SMALL: dict[str, Any] = {
    "num_classes": 5,
    "num_frames": 6,
    "channels": 3,
    "size": (8, 12),
    "tubelet": (2, 4, 3),
    "width": 12,
    "depth": 2,
    "heads": 3,
    "mlp_ratio": 2,
}


def _build(**settings: Any) -> VideoTransformer:
    """Build a small network in float64, whose biases and scales are not the trivial ones of a new one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VideoTransformer(**{**SMALL, **settings}).double().eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return network


def _video(num_clips: int = 2) -> Tensor:
    return torch.rand(num_clips, 3, 6, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _normalise(tokens: Tensor, layer: nn.LayerNorm) -> Tensor:
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def _attend(tokens: Tensor, layer: nn.MultiheadAttention, *, heads: int) -> Tensor:
    """Attend head by head, as Vaswani et al., Attention is all you need, 2017, write it; tokens are [N, D]."""
    queries, keys, values = (tokens @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, dim=-1)
    found = []
    for query, key, value in zip(*(one.chunk(heads, dim=-1) for one in (queries, keys, values)), strict=True):
        weights = (query @ key.T / math.sqrt(query.shape[-1])).exp()
        found.append(weights / weights.sum(1, keepdim=True) @ value)
    return torch.cat(found, dim=-1) @ layer.out_proj.weight.T + layer.out_proj.bias


def _written_out(network: VideoTransformer, clip: Tensor) -> Tensor:
    """Score one clip [C, T, H, W], tubelet by tubelet and block by block."""
    mean, std = torch.tensor([PIXEL_MEAN, PIXEL_STD]).double()  # the network's buffers have been float32
    clip = (clip - mean) / std
    t, h, w = SMALL["tubelet"]
    cut = [
        clip[:, i : i + t, j : j + h, k : k + w].flatten()
        for i in range(0, clip.shape[1], t)
        for j in range(0, clip.shape[2], h)
        for k in range(0, clip.shape[3], w)
    ]
    embedding = network.embedding
    assert embedding.bias is not None
    tokens = torch.stack(cut) @ embedding.weight.flatten(1).T + embedding.bias + network.positions
    for block in network.blocks:
        tokens = tokens + _attend(_normalise(tokens, block.norm1), block.self_attn, heads=SMALL["heads"])
        inner = _normalise(tokens, block.norm2) @ block.linear1.weight.T + block.linear1.bias
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2  # GELU
        tokens = tokens + inner @ block.linear2.weight.T + block.linear2.bias
    return network.head.weight @ _normalise(tokens, network.norm).mean(0) + network.head.bias


def test_it_computes_what_the_papers_write() -> None:
    network, video = _build(), _video()
    expected = torch.stack([_written_out(network, clip) for clip in video])
    torch.testing.assert_close(network(video), expected, rtol=1e-10, atol=1e-10)
    with torch.no_grad():  # torch has another kernel where no gradient is needed
        torch.testing.assert_close(network(video), expected, rtol=1e-10, atol=1e-10)


def test_the_order_of_tubelets_in_time_matters() -> None:
    """Without positions the mean over tokens could not tell it."""
    network, video = _build(), _video()
    moved = video.unflatten(2, (3, 2)).flip(2).flatten(2, 3)
    assert (network(video) - network(moved)).abs().max() > 1e-3
    nn.init.zeros_(network.positions)
    torch.testing.assert_close(network(video), network(moved))


def test_each_token_attends_to_all_of_space_and_time() -> None:
    network, video = _build(depth=1), _video(1).requires_grad_()
    found: list[Tensor] = []
    network.blocks.register_forward_hook(lambda _, __, output: found.append(output))
    network(video)
    found[0][0, 0].pow(2).sum().backward()
    assert video.grad is not None
    assert (video.grad != 0).all()


def test_it_has_as_many_parameters_as_its_description_says() -> None:
    block = 4 * (128 * 128 + 128) + 2 * 4 * 128 * 128 + (4 + 1) * 128 + 2 * 2 * 128
    ends = (4 * 8 * 8 + 1) * 128 + 4 * 6 * 6 * 128 + 2 * 128 + 128 * 8 + 8
    assert sum(own.numel() for own in VideoTransformer(8).parameters()) == 4 * block + ends == 845_704


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tubelet": (4, 4, 3)}, r"tubelets must divide .* \[6, 8, 12\]; got tubelet \[4, 4, 3\]"),
        ({"tubelet": (2, 0, 3)}, r"tubelets must divide .* got tubelet \[2, 0, 3\]"),
        ({"heads": 5}, "its heads divide its width; got depth = 2, heads = 5, width = 12"),
        ({"depth": 0}, "one block or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _build(**settings)
