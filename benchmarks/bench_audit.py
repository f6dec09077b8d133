"""What an audit costs beside the network's forward passes alone.

Run by `make bench`, not by `make test`; on a CUDA device where there is one. Each of the audit's calls of the network
and as many plain ones take turns, so that what else the machine does hits both alike. Decoding is not in it: each clip
is read once for a network's many passes.
"""

import time

import pytest
import torch
from costs import DEVICE
from torch import Tensor, nn

from vidact.audit.asking import Candidate, ask_clip, plan
from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.sections import ACTOR, EXCHANGES, PROBES
from vidact.audit.settings import BACKGROUND, BORDER, CELLS, DARKNESS, TIME
from vidact.models.residual import SlimResNet3D
from vidact.models.stacked import StackedFramesCNN

LEAST_RATE = 0.85  # of plain forward passes
DONORS, BATCH, NUM_CLIPS, NUM_ASKED = 8, 32, 12, 3
SECTIONS = (TIME, BACKGROUND, DARKNESS, BORDER, CELLS)  # the default's that every clip has and that need no relevance


class Alternating(nn.Module):
    """A network that scores the same clips once more, in turn before and after each call, and takes the time of it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls, self.plain_seconds = 0, 0.0

    def forward(self, videos: Tensor) -> Tensor:
        self.calls += 1
        if self.calls % 2:
            self._plainly(videos)
        scores: Tensor = self.network(videos)
        if not self.calls % 2:
            self._plainly(videos)
        return scores

    def _plainly(self, videos: Tensor) -> None:
        _wait()
        start = time.perf_counter()
        self.network(videos)
        _wait()
        self.plain_seconds += time.perf_counter() - start


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@pytest.mark.parametrize(("name", "side"), [("demo", 48), ("stacked frames", 100)])
def test_the_audit_keeps_the_networks_rate(name: str, side: int) -> None:
    torch.manual_seed(0)
    network = SlimResNet3D(8, size=48, widths=(8, 16, 32, 64)) if name == "demo" else StackedFramesCNN(8)
    alternating = Alternating(network.eval().to(DEVICE))
    clips, candidates = [_clip(number, side) for number in range(NUM_CLIPS)], _candidates()
    exchanges = {one: own for one, own in EXCHANGES.items() if own.section in SECTIONS}
    probes = {one: own for one, own in PROBES.items() if one.partition(".")[0] in SECTIONS}
    with torch.inference_mode():
        _wait()
        start = time.perf_counter()
        for number in range(NUM_ASKED):
            ask_clip(
                alternating,
                None,
                clips[number],
                plan(candidates[number], candidates, exchanges=exchanges, donors=DONORS, seed=0),
                read=lambda clip_id: clips[int(clip_id)],
                exchanges=exchanges,
                probes=probes,
                batch_size=BATCH,
                seed=0,
            )
        _wait()
        seconds = time.perf_counter() - start - alternating.plain_seconds
    rate = alternating.plain_seconds / seconds
    print(f"\n{name}: {rate:.2f} of the plain rate ({1000 * seconds / NUM_ASKED:.0f} ms a clip on {DEVICE})")
    assert rate >= LEAST_RATE


def _clip(number: int, side: int) -> Clips:
    video = torch.rand(1, 1, 16, side, side, generator=torch.Generator().manual_seed(number))
    mask = torch.zeros(1, 16, side, side, dtype=torch.bool)
    mask[..., side // 4 : side // 2, side // 3 : side // 2] = True
    return with_plate(video.to(DEVICE), mask.to(DEVICE))


def _candidates() -> list[Candidate]:
    return [Candidate(str(number), number % 2, f"s{number}", frozenset({ACTOR})) for number in range(NUM_CLIPS)]
