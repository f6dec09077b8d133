"""What a perturbation curve costs: time against the network's forward passes alone, and against Quantus.

Run by `make bench`, not by `make test`; on a CUDA device where there is one. What is compared takes turns, so that what
else the machine does hits all alike; each number is worth something only beside the others of its run.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from costs import DEVICE, seconds_of, take_turns
from torch import Tensor, nn

from vidact.evaluation.measures.fill_ins import build_fill
from vidact.evaluation.measures.perturbation import of_class, perturbation_curves
from vidact.evaluation.measures.units import Units, columns, frames, sum_by_unit, tubes
from vidact.models.residual import SlimResNet3D
from vidact.models.stacked import StackedFramesCNN

NUM_ROUNDS, NUM_LONG_ROUNDS = 5, 3
LEAST_RATE = 0.8  # of plain forward passes
LEAST_SPEED = 20.0  # times Quantus's: the goal
SIDES = {"slim residual": 64, "stacked frames": 100}
UNITS = {
    ("slim residual", "tubes"): tubes((16, 64, 64), size=(2, 8, 8)),
    ("slim residual", "frames"): frames((16, 64, 64)),
    ("slim residual", "columns"): columns((16, 64, 64), size=(8, 8)),
    ("stacked frames", "tubes"): tubes((16, 100, 100)),
    ("stacked frames", "frames"): frames((16, 100, 100)),
    ("stacked frames", "columns"): columns((16, 100, 100)),
}


def _network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SlimResNet3D(8, size=64) if name == "slim residual" else StackedFramesCNN(8)
    return network.eval().to(DEVICE)


def _clips(name: str, number: int) -> Tensor:
    shape = (number, 1, 16, SIDES[name], SIDES[name])
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)


def _map(name: str, units: Units, number: int) -> Tensor:
    """Make relevance [B, T, H, W] that is the same in every voxel of a unit, and of no two units."""
    order = torch.rand(number, units.count, generator=torch.Generator().manual_seed(2)).argsort(dim=1)
    return (order / units.count - 0.5)[:, units.number].to(DEVICE)


def _ratio(seconds: list[float], others: list[float]) -> float:
    """Compare the best rounds: what disturbs a round only adds to it."""
    return min(seconds) / min(others)


def _plain(network: nn.Module, video: Tensor, sizes: list[int]) -> None:
    """Score as many clips, as many at a time."""
    with torch.no_grad():
        for size in sizes:
            network(video[:size])


class _Alternating:
    """The network as a score; beside each of its calls, in turn before and after, as many clips are scored plainly.

    Whole curves and whole series of forward passes, seconds each, would not meet the same machine.
    """

    def __init__(self, network: nn.Module, batch: Tensor) -> None:
        self._network, self._batch = network, batch
        self.sizes: list[int] = []
        self.plain_seconds = 0.0

    def __call__(self, clips: Tensor) -> Tensor:
        self.sizes.append(len(clips))
        if len(self.sizes) % 2:
            self._score_plainly()
        scores: Tensor = self._network(clips)
        if not len(self.sizes) % 2:
            self._score_plainly()
        return scores

    def _score_plainly(self) -> None:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()  # what was begun before is not the plain call's
        self.plain_seconds += seconds_of(lambda: self._network(self._batch[: self.sizes[-1]]))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SIDES)
def test_a_curve_costs_little_more_than_its_forward_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Sums by unit, the fill, the orders and the pieced clips beside the network, MoRF and LeRF of four clips."""
    network, video = _network(name), _clips(name, 4)
    cases = [("tubes", "temporal_mean"), ("tubes", "noise"), ("columns", "blur"), ("frames", "freeze")]
    lines = [
        f"| {name}, {DEVICE.type} | clips scored | ms | forward passes alone, ms | rate |",
        "| --- | --: | --: | --: | --: |",
    ]
    rates = {}
    for kind, fill_in in cases:
        units = UNITS[name, kind]
        maps = _map(name, units, len(video))

        def evaluate(
            score: Callable[[Tensor], Tensor], units: Units = units, maps: Tensor = maps, fill_in: str = fill_in
        ) -> Tensor:
            relevance = sum_by_unit(maps, units)
            fill = build_fill(fill_in, video, units=units, generator=torch.Generator().manual_seed(3))
            both = torch.stack([relevance, -relevance])
            return perturbation_curves(score, video, units=units, relevance=both, fill=fill)

        batch = _clips(name, 64)
        evaluate(_Alternating(network, batch))
        own = plain = 0.0
        for _ in range(NUM_ROUNDS):
            score = _Alternating(network, batch)
            total = seconds_of(lambda evaluate=evaluate, score=score: evaluate(score))
            own, plain = own + total - score.plain_seconds, plain + score.plain_seconds
        rates[kind, fill_in] = plain / own
        own, plain = (1000 * seconds / NUM_ROUNDS for seconds in (own, plain))
        num_clips = sum(score.sizes)
        lines.append(f"| {kind}, {fill_in} | {num_clips} | {own:.0f} | {plain:.0f} | {rates[kind, fill_in]:.2f} |")
    with capsys.disabled():
        print("\n\n" + "\n".join(lines) + "\n")
    assert min(rates.values()) >= LEAST_RATE, rates


@dataclass(frozen=True)
class _Setting:
    """A curve that both compute: of so many clips, units per step and points; perhaps all four of an evaluation."""

    name: str
    clips: int
    points: int
    everything: bool = False  # MoRF and LeRF, logits and probabilities: four runs of Quantus

    @property
    def title(self) -> str:
        curves = ", MoRF and LeRF, logits and probabilities" if self.everything else ""
        return f"{self.name}, clips: {self.clips}, points: {self.points}{curves}"


SETTINGS = [
    _Setting("slim residual", 1, 32),
    _Setting("slim residual", 8, 32),
    _Setting("slim residual", 8, 32, everything=True),
    _Setting("stacked frames", 1, 50),
    _Setting("stacked frames", 1, 800),
    _Setting("stacked frames", 8, 50),
    _Setting("stacked frames", 8, 50, everything=True),
]


def _quantus(setting: _Setting, network: nn.Module, video: Tensor, maps: Tensor, target: Tensor) -> list[Tensor]:
    """Flip the units of each step to 0; [B, P] for each order and kind of score."""
    with warnings.catch_warnings():  # what it imports may warn
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus", reason="`make install` brings Quantus")
    metric = quantus.PixelFlipping(
        features_in_step=video[0].numel() // setting.points,
        normalise=False,
        disable_warnings=True,
        perturb_baseline=0.0,
    )
    curves = []
    for sign, softmax in [(1, False), (1, True), (-1, False), (-1, True)][: 4 if setting.everything else 1]:
        curve = metric(
            model=network,
            x_batch=video.cpu().numpy(),
            y_batch=target.cpu().numpy(),
            a_batch=(sign * maps[:, None]).cpu().numpy(),
            channel_first=True,
            softmax=softmax,
            device=DEVICE.type,
        )
        curves.append(torch.tensor(np.array(curve)))
    return curves


def _ours(
    setting: _Setting, score: Callable[[Tensor], Tensor], video: Tensor, maps: Tensor, target: Tensor
) -> list[Tensor]:
    units = UNITS[setting.name, "tubes"]
    fill = build_fill("dataset_mean", video, units=units, mean=torch.tensor(0.0))
    relevance = sum_by_unit(maps, units)
    orders = torch.stack([relevance, -relevance] if setting.everything else [relevance])
    curves = perturbation_curves(score, video, units=units, relevance=orders, fill=fill, num_steps=setting.points)
    found = []
    for logits in curves:
        found.append(of_class(logits, target)[:, 1:].cpu())  # Quantus leaves out the clip itself
        if setting.everything:
            found.append(of_class(logits.softmax(-1), target)[:, 1:].cpu())
    return found


@pytest.mark.timeout(7200)
def test_curves_are_computed_faster_than_by_quantus(capsys: pytest.CaptureFixture[str]) -> None:
    """The same network, clips, units per step and points; the goal is 20 times Quantus's speed."""
    lines = [
        f"| zero for tubes, {DEVICE.type} | Quantus, ms | vidact, ms | times Quantus's speed "
        "| forward passes alone, ms | at most | curves differ by |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    speeds = {}
    for setting in SETTINGS:
        network, video = _network(setting.name), _clips(setting.name, setting.clips)
        maps = _map(setting.name, UNITS[setting.name, "tubes"], setting.clips)
        arguments = video, maps, torch.arange(setting.clips, device=DEVICE) % 8
        sizes: list[int] = []

        def counted(clips: Tensor, network: nn.Module = network, sizes: list[int] = sizes) -> Tensor:
            sizes.append(len(clips))
            scores: Tensor = network(clips)
            return scores

        ours = _ours(setting, counted, *arguments)
        theirs = _quantus(setting, network, *arguments)
        difference = max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True))
        assert difference < 1e-4, f"{setting.title}: the curves differ by {difference}"
        batch = _clips(setting.name, max(sizes))
        works: dict[str, Callable[[], Any]] = {
            "Quantus": lambda setting=setting, network=network, arguments=arguments: _quantus(
                setting, network, *arguments
            ),
            "vidact": lambda setting=setting, network=network, arguments=arguments: _ours(setting, network, *arguments),
            "plain": lambda network=network, batch=batch, sizes=sizes: _plain(network, batch, sizes),
        }
        seconds = take_turns(works, num_rounds=NUM_LONG_ROUNDS)
        speeds[setting.title] = _ratio(seconds["Quantus"], seconds["vidact"])
        bound = _ratio(seconds["Quantus"], seconds["plain"])
        quantus, own, plain = (1000 * min(seconds[which]) for which in works)
        lines.append(
            f"| {setting.title} | {quantus:.0f} | {own:.0f} | {speeds[setting.title]:.2f} | {plain:.0f} | {bound:.2f} "
            f"| {difference:.0e} |"
        )
    with capsys.disabled():
        print("\n\n" + "\n".join(lines) + "\n")
    slowest, fastest = min(speeds.values()), max(speeds.values())
    if slowest < LEAST_SPEED:
        pytest.xfail(
            f"{slowest:.1f} to {fastest:.1f} times Quantus's speed; the goal is {LEAST_SPEED:.0f}. Both run the same "
            "forward passes, and those are most of the time: see 'at most'"
        )
