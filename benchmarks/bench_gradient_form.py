"""What relevance in gradient form costs, beside one gradient: time, and memory at once.

Run by `make bench`; on a CUDA device where there is one. The methods take turns, and each number is worth something
only beside the others of its run. Weights are random: they change neither time nor memory.
"""

import contextlib
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from costs import DEVICE, gradient_of, median_ratio, peak_megabytes, take_turns
from torch import Tensor, nn
from torchvision.models.video import mvit_v2_s, r3d_18, swin3d_t

from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.attribution.lrp.explainer import LayerwiseRelevance

NUM_ROUNDS = 5
PLAIN = [{"layer": "weighted", "rule": "lrp_0"}]
Z_PLUS = [{"layer": "convolution", "rule": "z_plus"}, {"layer": "linear", "rule": "epsilon"}]
COMPOSITES: dict[str, Any] = {
    "CP-LRP, ε": {"rules": PLAIN, "otherwise": "cp_lrp"},
    "AttnLRP, ε": {"rules": PLAIN, "otherwise": "attnlrp"},
    "CP-LRP, γ": "cp_lrp",
    "z⁺": {"rules": Z_PLUS, "otherwise": "cp_lrp"},
}
# At most so many gradients; on r3d_18 there is no attention, and on the others z⁺ makes no sense.
GOALS = {"CP-LRP, ε": 1.1, "CP-LRP, γ": 2.5, "z⁺": 1.6}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "r3d_18": (r3d_18, (16, 112)),
    "swin3d_t": (swin3d_t, (16, 112)),
    "mvit_v2_s": (mvit_v2_s, (16, 224)),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_form_costs_little_more_than_a_gradient(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    build, (num_frames, size) = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build().eval().requires_grad_(requires_grad=False).to(DEVICE)
    video = torch.rand(1, 3, num_frames, size, size, generator=torch.Generator().manual_seed(1)).to(DEVICE)

    with contextlib.ExitStack() as stack:
        methods: dict[str, Callable[[], Tensor]] = {"gradient": gradient_of(network, video)}
        chosen = {title: composite for title, composite in COMPOSITES.items() if (title == "z⁺") == (name == "r3d_18")}
        for title, composite in chosen.items():
            explain = stack.enter_context(GradientForm(network, composite=composite, refine=False))
            methods[title] = _explaining(explain, video)
        if name == "r3d_18":
            rules = stack.enter_context(LayerwiseRelevance(network, check_network=False, refine=False))
            methods["z⁺ by rules on modules"] = _explaining(rules, video)
        for explain_once in methods.values():
            explain_once()
        megabytes = {title: peak_megabytes(explain_once) for title, explain_once in methods.items()}
        seconds = take_turns(methods, num_rounds=NUM_ROUNDS)
    costs = {title: median_ratio(own, seconds["gradient"]) for title, own in seconds.items()}
    lines = [
        f"| {name}, {DEVICE.type} | ms | gradients | peak MB | of the gradient's |",
        "| --- | --: | --: | --: | --: |",
    ]
    for title, cost in costs.items():
        share = megabytes[title] / megabytes["gradient"]
        milliseconds = 1000 * statistics.median(seconds[title])
        lines.append(f"| {title} | {milliseconds:.0f} | {cost:.2f} | {megabytes[title]:.0f} | {share:.2f} |")
    with capsys.disabled():
        print("\n\n" + "\n".join(lines) + "\n")
    for title, most in GOALS.items():
        assert costs.get(title, 0) <= most, f"{title}: {costs[title]:.2f} gradients; the goal is {most}"


def _explaining(explain: Any, video: Tensor) -> Callable[[], Tensor]:
    target = torch.zeros(1, dtype=torch.long, device=video.device)

    def explain_once() -> Tensor:
        found: Tensor = explain(video, target).relevance
        return found

    return explain_once
