"""`swap_gap` on networks whose answer is known."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidact.audit import swap_gap
from vidact.audit.factors.clips import Clips
from vidact.audit.factors.places import Background, Border, Cell, Factor
from vidact.core.errors import ConfigError

CLASSES, SOURCES = 3, 40
LABELS = torch.arange(CLASSES).repeat(SOURCES)
FROM = [f"s{number // CLASSES}" for number in range(CLASSES * SOURCES)]


class OnePixel(nn.Module):
    """Says the class that one pixel names, in gray levels of 0.1."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm3d(1), nn.Dropout(0.5)

    def forward(self, video: Tensor) -> Tensor:
        self.norm(self.drop(video))
        told = (video[:, 0, 0, 0, 0] * 10).round().long().clamp(0, CLASSES - 1)
        return nn.functional.one_hot(told, CLASSES).to(video) * 9


class Constant(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0, 0.0]], device=video.device).expand(len(video), CLASSES)


def _clips() -> Tensor:
    clips = torch.rand(len(LABELS), 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    clips[:, 0, :, 0, 0] = LABELS[:, None] / 10
    return clips


@pytest.mark.parametrize(("factor", "lean"), [(Cell(0, 0), 1.0), (Border(), 1.0), (Cell(2, 1), 0.0)])
def test_a_network_that_reads_one_pixel_leans_on_what_holds_it_alone(factor: Factor, lean: float) -> None:
    found = swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=factor, donors=4)
    assert (found.numbers.lean.mean, found.numbers.gap.mean, found.numbers.same.mean) == (lean, lean, 1.0)
    assert found.verdict.verdict == ("leans" if lean else "does not lean"), found.verdict.reason
    assert (found.clips, found.sources) == (len(LABELS), SOURCES)


def test_masks_say_where_the_background_is() -> None:
    masks = torch.zeros(len(LABELS), 8, 8, 8, dtype=torch.bool)
    masks[:, :, 5:7, 5:7] = True
    leans = swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Background(dilation=0), masks=masks, donors=4)
    assert (leans.numbers.lean.mean, leans.verdict.verdict) == (1.0, "leans")
    masks[:, :, :2, :2] = True  # the pixel is on the actor
    found = swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Background(dilation=0), masks=masks, donors=4)
    assert (found.numbers.lean.mean, found.verdict.verdict) == (0.0, "does not lean")


def test_a_clip_whose_mask_is_empty_neither_gets_nor_lends_a_background() -> None:
    """The network sees the actor alone; without one the whole frame would be exchanged, and it with it."""
    masks = torch.zeros(len(LABELS), 8, 8, 8, dtype=torch.bool)
    masks[CLASSES * 5 :, :, :2, :2] = True
    found = swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Background(dilation=0), masks=masks, donors=4)
    assert (found.clips, found.numbers.lean.mean) == (len(LABELS) - CLASSES * 5, 0.0)
    with pytest.raises(ConfigError, match="no clip has donors"):
        swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Background(), masks=torch.zeros_like(masks))


def test_nothing_can_be_said_of_a_network_that_always_says_the_same() -> None:
    found = swap_gap(Constant(), _clips(), LABELS, FROM, factor=Cell(0, 0), donors=4)
    assert found.numbers.gap.mean == 0.0
    assert "not above chance" in found.verdict.reason


def test_the_network_is_left_as_it_is() -> None:
    network = OnePixel().train()
    network.drop.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    swap_gap(network, _clips(), LABELS, FROM, factor=Cell(0, 0), donors=2)
    assert network.norm.training
    assert not network.drop.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


class Swap:
    """A factor of one's own: all pixels."""

    def exchange(self, clips: Clips, donors: Clips) -> Tensor:
        return donors.video


def test_a_factor_of_ones_own() -> None:
    assert swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Swap(), donors=2).numbers.lean.mean == 1.0


def test_bad_arrays_are_answered() -> None:
    with pytest.raises(ConfigError, match="as many labels and sources as clips, got 120, 119 and 120"):
        swap_gap(OnePixel(), _clips(), LABELS[1:], FROM, factor=Swap())
    with pytest.raises(ConfigError, match="no clip has donors"):
        swap_gap(OnePixel(), _clips(), LABELS, ["one"] * len(LABELS), factor=Swap())
    with pytest.raises(ConfigError, match="the network knows 3 classes, from 0; got the label 7"):
        swap_gap(OnePixel(), _clips(), torch.where(LABELS == 2, 7, LABELS), FROM, factor=Swap())
    with pytest.raises(ConfigError, match="donors must be at least 2, got 0"):
        swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Swap(), donors=0)


class Wrong:
    """Gives back whatever it was made with."""

    def __init__(self, given: object) -> None:
        self.given = given

    def exchange(self, clips: Clips, donors: Clips) -> Any:
        return self.given(clips.video) if callable(self.given) else self.given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"factor: exchange must give a tensor of the clips' shape \(4, 1, 8, 8, 8\), got NoneType"),
        (lambda video: video[:, :, :4], r"got \(4, 1, 4, 8, 8\)"),
        (lambda video: video[:1], r"got \(1, 1, 8, 8, 8\)"),
        (lambda video: video / 0, "factor: exchange gives values that are not finite"),
    ],
)
def test_a_factor_that_gives_back_no_clips_is_refused(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Wrong(given), donors=4)


class InPlace:
    """Writes into what it is given."""

    def exchange(self, clips: Clips, donors: Clips) -> Tensor:
        clips.video[..., :2, :2] = donors.video[..., :2, :2]
        donors.video.zero_()
        return clips.video


def test_a_factor_may_write_into_what_it_is_given() -> None:
    clips = _clips()
    found = swap_gap(OnePixel(), clips, LABELS, FROM, factor=InPlace(), donors=4)
    assert torch.equal(clips, _clips())
    assert (found.numbers.lean.mean, found.numbers.same.mean) == (1.0, 1.0)


def test_an_actor_that_fills_the_frame_acquits_nobody() -> None:
    """Where nothing is left to be exchanged, nothing changes, whatever the network leans on."""
    masks = torch.ones(len(LABELS), 8, 8, 8, dtype=torch.bool)
    with pytest.raises(ConfigError, match="no clip has donors"):
        swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Background(), masks=masks)
    masks[:, :, 2:, 2:] = False  # 44 % of the frame
    found = swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Background(dilation=0), masks=masks, donors=4)
    assert found.numbers.lean.mean == 0.0


def test_labels_and_sources_may_be_lists_and_numbers() -> None:
    expected = swap_gap(OnePixel(), _clips(), LABELS, FROM, factor=Border(), donors=4)
    numbers = [number // CLASSES for number in range(CLASSES * SOURCES)]
    for sources in (numbers, torch.tensor(numbers)):
        found = swap_gap(OnePixel(), _clips(), LABELS.tolist(), sources, factor=Border(), donors=4)
        assert (found.clips, found.sources) == (expected.clips, expected.sources)
        assert found.numbers.lean.mean == expected.numbers.lean.mean


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 2.0}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"factor": Background()}, "these clips have no masks"),
        ({"factor": Swap}, "expected an object with exchange"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        swap_gap(OnePixel(), _clips(), LABELS, FROM, **{"factor": Swap(), **changes})
