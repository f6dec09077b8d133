"""An object is taken out of a clip, and that of the donor is put behind the actor."""

import torch
from torch import Tensor

from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.factors.objects import Object

BALL = Object("ball", dilation=0)


def _clips(seed: int, *, ball: tuple[int, int] | None, row: int = 5) -> tuple[Clips, Tensor]:
    """A still scene, an actor that walks through it, and a ball that lies at a place; gives the scene, too."""
    generator = torch.Generator().manual_seed(seed)
    scene, actor, round_thing = (torch.rand(1, 3, 1, *size, generator=generator) for size in ((12, 16), (1, 1), (1, 1)))
    video, at, of_ball = scene.repeat(1, 1, 6, 1, 1), *torch.zeros(2, 1, 6, 12, 16, dtype=torch.bool)
    for frame in range(6):
        at[:, frame, row : row + 3, 2 * frame : 2 * frame + 3] = True
    if ball is not None:
        of_ball[:, :, ball[0] : ball[0] + 3, ball[1] : ball[1] + 3] = True
    video = torch.where(of_ball[:, None], round_thing, video)
    video = torch.where(at[:, None], actor, video)
    of_ball &= ~at
    whole = with_plate(video, at, dilation=0)
    return Clips(video, at, whole.plate, {"ball": with_plate(video, of_ball, dilation=0)}), scene


def test_ones_own_object_and_the_absence_of_one_change_nothing() -> None:
    for ball in ((4, 9), None):
        clips, _ = _clips(0, ball=ball)
        assert (BALL.exchange(clips, clips) - clips.video).abs().max() <= 1 / 255


def test_the_absence_of_an_object_covers_it_by_what_is_around_it() -> None:
    clips, scene = _clips(0, ball=(4, 9))
    donors, _ = _clips(1, ball=None)
    found = BALL.exchange(clips, donors)
    of_ball = clips.objects["ball"].actor(0).expand_as(found)
    assert torch.equal(found[~of_ball], clips.video[~of_ball])
    assert (found[of_ball] != clips.video[of_ball]).all()
    assert found[of_ball].min() >= scene.min(), "nothing but mixtures of the scene"
    assert found[of_ball].max() <= scene.max()


def test_the_donors_object_lies_where_the_donor_has_it_behind_the_actor() -> None:
    clips, _ = _clips(0, ball=None)
    donors, _ = _clips(1, ball=(4, 9), row=0)
    found = BALL.exchange(clips, donors)
    actor, pasted = clips.actor(0).expand_as(found), donors.objects["ball"].actor(0).expand_as(found)
    assert (actor & pasted).any(), "they overlap in some frames"
    assert torch.equal(found[actor], clips.video[actor])
    assert torch.equal(found[pasted & ~actor], donors.video[pasted & ~actor])
    assert torch.equal(found[~pasted & ~actor], clips.video[~pasted & ~actor])


def test_objects_stay_with_their_clips() -> None:
    parts = [_clips(seed, ball=(seed, 3))[0] for seed in range(4)]
    chosen = Clips.join(parts)[[2, 0]]
    for row, number in enumerate((2, 0)):
        one = chosen[[row]].objects["ball"]
        assert one.mask is not None
        assert torch.equal(one.mask, parts[number].objects["ball"].actor(0)[:, 0])
        assert torch.equal(one.video, parts[number].video)
