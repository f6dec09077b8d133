"""Explanations that are wrong in a known way are told from the right one.

Each clip shows a dot that moves for a few frames in the direction of its class, and elsewhere and at another time a
second one, for fewer frames, in the direction of the next class. The network is built to detect such motion and nothing
else: a filter per direction fires where a dot has moved on by one pixel.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.registry import build_explainer
from vidact.evaluation.measures.composition import Composition, mosaic, splice
from vidact.evaluation.measures.localisation import auroc, lift, over_space, over_time, relevance_mass
from vidact.evaluation.measures.randomisation import random_logit

NUM_CLIPS, NUM_FRAMES, SIZE = 96, 12, 16
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))  # pixels down and across per frame
LABEL = torch.arange(NUM_CLIPS) % len(DIRECTIONS)
ROUNDING = 1e-4
Method = Callable[[Tensor, Tensor], Tensor]
Measure = Callable[[Method], Tensor]


class _MotionNet(nn.Module):
    """Counts, for each direction, how often something bright has moved on by a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.filters, self.relu = nn.Conv3d(1, len(DIRECTIONS), (2, 3, 3), padding=(0, 1, 1)), nn.ReLU()
        self.pool, self.flat = nn.AdaptiveAvgPool3d(1), nn.Flatten()
        with torch.no_grad():
            self.filters.weight.zero_()
            self.filters.bias.fill_(-1.05)
            for number, (down, across) in enumerate(DIRECTIONS):
                self.filters.weight[number, 0, 0, 1, 1] = 1
                self.filters.weight[number, 0, 1, 1 + down, 1 + across] = 1

    def forward(self, video: Tensor) -> Tensor:
        return self.flat(self.pool(self.relu(self.filters(video))))  # type: ignore[no-any-return]


def _draw(video: Tensor, mask: Tensor | None, *, label: int, start: tuple[int, int], first: int, steps: int) -> None:
    """Let a dot stand, take some steps and stand again; the mask holds it while it moves."""
    down, across = DIRECTIONS[label]
    for frame in range(NUM_FRAMES):
        step = min(max(frame - first, 0), steps)
        row, column = (start[0] + down * step) % SIZE, (start[1] + across * step) % SIZE
        video[0, frame, row, column] = 1
        if mask is not None and first <= frame <= first + steps:
            mask[frame, row, column] = True


@cache
def _clips() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    video = 0.02 * torch.rand(NUM_CLIPS, 1, NUM_FRAMES, SIZE, SIZE, generator=generator)
    mask = torch.zeros(NUM_CLIPS, NUM_FRAMES, SIZE, SIZE, dtype=torch.bool)
    for clip, label in enumerate(LABEL.tolist()):
        # In the left half of the upper half, and in the middle of the lower half: mirroring finds other pixels.
        here, there = torch.randint(4, (2, 2), generator=generator).tolist()
        first, second = torch.randperm(2, generator=generator).tolist()  # which of the two moves in the first half
        _draw(video[clip], mask[clip], label=label, start=(here[0] + 1, here[1] + 1), first=1 + 6 * first, steps=4)
        other = (label + 1) % len(DIRECTIONS)
        _draw(video[clip], None, label=other, start=(there[0] + 9, there[1] + 6), first=1 + 6 * second, steps=2)
    return video, mask


def _enlarged() -> Tensor:
    """Make dots of 2×2 pixels, which survive that a mosaic halves its clips."""
    return _clips()[0].repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)


def _right(name: str, **settings: Any) -> Method:
    own = {"baseline": 0.0} if name == "gradient_x_input" else {}

    def explain(video: Tensor, target: Tensor) -> Tensor:
        with build_explainer(name, _MotionNet(), **own, **settings) as work:
            return work(video, target).relevance.sum(dim=1)

    return explain


BUGS: dict[str, Callable[[Method], Method]] = {
    "a frame late": lambda right: lambda video, target: right(video, target).roll(1, dims=1),
    "mirrored": lambda right: lambda video, target: right(video, target).flip(3),
    "of another class": lambda right: lambda video, target: right(video, (target + 1) % len(DIRECTIONS)),
    "of one class always": lambda right: lambda video, target: right(video, torch.zeros_like(target)),
}


def _on_clips(measure: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    return lambda method: measure(method(_clips()[0], LABEL), _clips()[1])


def _in_own_part(compose: Callable[[], Composition]) -> Measure:
    def measure(method: Method) -> Tensor:
        composed = compose()
        return relevance_mass(method(composed.video, LABEL), composed.mask)

    return measure


def _difference_between_classes(method: Method) -> Tensor:
    video, _ = _clips()
    return 1 - random_logit(method(video, LABEL), method(video, (LABEL + 1) % len(DIRECTIONS)))


def _others(video: Tensor) -> Tensor:
    """Give each clip three clips of other classes: one of each."""
    order = [torch.randperm(NUM_CLIPS // len(DIRECTIONS), generator=_generator()) for _ in DIRECTIONS]
    rows = [
        [
            int(order[step][clip // len(DIRECTIONS)]) * len(DIRECTIONS) + (clip + step) % len(DIRECTIONS)
            for step in (1, 2, 3)
        ]
        for clip in range(NUM_CLIPS)
    ]
    return video[torch.tensor(rows)]


def _places() -> Tensor:
    return torch.rand(NUM_CLIPS, generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


MEASURES: dict[str, Measure] = {
    "rma": _on_clips(relevance_mass),
    "time_rma": _on_clips(lambda relevance, mask: relevance_mass(over_time(relevance), over_time(mask))),
    "time_auroc": _on_clips(lambda relevance, mask: auroc(over_time(relevance), over_time(mask))),
    "space_rma": _on_clips(lambda relevance, mask: relevance_mass(over_space(relevance), over_space(mask))),
    "space_lift": _on_clips(lambda relevance, mask: lift(over_space(relevance), over_space(mask))),
    "splice": _in_own_part(lambda: splice(_clips()[0], _others(_clips()[0])[:, 0], place=_places())),
    "mosaic": _in_own_part(lambda: mosaic(_enlarged(), _others(_enlarged()), place=_places())),
    "random_logit": _difference_between_classes,
}

CAUGHT_BY = {
    "a frame late": {"rma", "time_rma", "time_auroc", "splice"},
    "mirrored": {"rma", "space_rma", "space_lift"},
    "of another class": {"rma", "time_rma", "space_rma", "splice", "mosaic"},
    "of one class always": {"splice", "mosaic", "random_logit"},
}
BLIND = {
    "a frame late": {"space_rma", "random_logit"},
    "mirrored": {"time_rma", "time_auroc", "splice", "random_logit"},
}


def _worse(right: Tensor, wrong: Tensor) -> tuple[float, float]:
    """Give the 95 % interval of the mean paired difference, by the bootstrap over clips."""
    difference = (right - wrong)[~(right - wrong).isnan()]
    assert len(difference) >= NUM_CLIPS / 3, "too few clips have relevance in both"
    drawn = torch.randint(len(difference), (2000, len(difference)), generator=torch.Generator().manual_seed(0))
    low, high = difference[drawn].mean(dim=1).quantile(torch.tensor([0.025, 0.975], dtype=difference.dtype)).tolist()
    return low, high


RIGHT = ("gradient_x_input", "lrp:epsilon_plus")


@pytest.fixture(scope="module", params=RIGHT)
def right(request: pytest.FixtureRequest) -> Method:
    return _right(request.param)


def test_the_network_recognises_its_clips() -> None:
    assert torch.equal(_MotionNet()(_clips()[0]).argmax(dim=1), LABEL)


def test_the_right_explanation_finds_what_the_network_detects(right: Method) -> None:
    for name in ("rma", "time_rma", "space_rma", "random_logit"):
        found = MEASURES[name](right)
        torch.testing.assert_close(found, torch.ones_like(found), atol=2e-3, rtol=0)


@pytest.mark.parametrize("bug", BUGS)
def test_a_wrong_explanation_is_told_from_the_right_one(right: Method, bug: str) -> None:
    wrong = BUGS[bug](right)
    for name in CAUGHT_BY[bug]:
        low, _ = _worse(MEASURES[name](right), MEASURES[name](wrong))
        assert low > 0, f"{name} does not catch relevance {bug}"
    for name in BLIND.get(bug, ()):
        low, high = _worse(MEASURES[name](right), MEASURES[name](wrong))
        assert -ROUNDING < low <= high < ROUNDING, f"{name} cannot see relevance {bug}"


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_explanation_is_not_told_from_itself(name: str) -> None:
    """Computed once more, in other batches and in another precision."""
    once, again = _right(name), _right(name, batch_size=40, dtype=torch.float64)
    for measure, work in MEASURES.items():
        low, high = _worse(work(once), work(again))
        assert -ROUNDING < low <= high < ROUNDING, measure
