import pytest
import torch

from vidact.audit.factors.clips import Clips
from vidact.audit.factors.speed import Speed


def _moving(step: float, *, frames: int = 12, channels: int = 3) -> Clips:
    """Gray that grows by `step` per frame, on a 5×3 frame."""
    rise = step * torch.arange(frames) / 100
    return Clips(rise[None, None, :, None, None].expand(1, channels, frames, 5, 3).clone())


@pytest.mark.parametrize("shape", [(2, 3, 9, 5, 7), (1, 1, 1, 1, 1), (2, 1, 2, 3, 3)], ids=str)
def test_ones_own_speed_changes_nothing(shape: tuple[int, ...]) -> None:
    clips = Clips(torch.rand(shape))
    assert torch.equal(Speed().exchange(clips, clips), clips.video)


@pytest.mark.parametrize(
    ("donor", "shown"),
    [
        (2.0, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (3.0, [0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8]),
        (6.0, [0, 1, 3, 4, 6, 7, 9, 10, 0, 1, 3, 4]),
        (8.0, [0, 2, 4, 6, 8, 10] * 2),
        (0.5, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (99.0, [0, 2, 4, 6, 8, 10] * 2),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_frames_are_repeated_left_out_and_shown_again(donor: float, shown: list[int], channels: int) -> None:
    """The clip moves by 4 per frame; never slower than half, nor faster than twice."""
    clips = _moving(4.0, channels=channels)
    assert torch.equal(Speed().exchange(clips, _moving(donor, channels=channels)), clips.video[:, :, shown])


def test_speed_of_a_batch_is_that_of_its_clips_and_stillness_stays() -> None:
    clips, donors = Clips.join([_moving(4.0), _moving(0.0)]), Clips.join([_moving(7.0), _moving(3.0)])
    found = Speed().exchange(clips, donors)
    assert torch.equal(found[1], clips.video[1])
    for row in range(2):
        assert torch.equal(Speed().exchange(clips[[row]], donors[[row]]), found[[row]])
