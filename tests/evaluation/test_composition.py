from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from vidact.core import VidactError
from vidact.evaluation.composition import Composition, draw_partners, mosaic, splice, splice_into, tile
from vidact.evaluation.localisation import chance, relevance_mass

LABEL = torch.tensor([0, 1, 0, 2, 1, 2, 2])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _video(height: int = 8, width: int = 6) -> Tensor:
    return torch.rand(len(LABEL), 3, 5, height, width, generator=_generator(1))


COMPOSED: dict[str, Callable[[Tensor, Tensor, torch.Generator], Composition]] = {
    "splice": lambda video, label, generator: splice(video, label, num_frames=2, generator=generator),
    "mosaic": lambda video, label, generator: mosaic(video, label, generator=generator),
    "mosaic of two": lambda video, label, generator: mosaic(video, label, num_own=2, generator=generator),
}


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_partners_are_of_another_class_and_drawn_twice_only_where_there_are_too_few(
    labels: list[int], count: int, seed: int
) -> None:
    label = torch.tensor(labels)
    if len(set(labels)) == 1:
        with pytest.raises(VidactError, match="clips of at least two classes"):
            draw_partners(label, count=count, generator=_generator(seed))
        return
    found = draw_partners(label, count=count, generator=_generator(seed))
    assert found.shape == (len(labels), count)
    assert bool((label[found] != label[:, None]).all())
    for own, partners in zip(labels, found.tolist(), strict=True):
        there = sum(other != own for other in labels)
        assert len(set(partners)) == min(count, there)


def test_every_partner_is_drawn_equally_often() -> None:
    label = torch.tensor([0] + [1] * 5)
    generator = _generator()
    drawn = torch.stack([draw_partners(label, generator=generator)[0, 0] for _ in range(2000)])
    share = torch.bincount(drawn, minlength=6)[1:] / 2000
    torch.testing.assert_close(share, torch.full((5,), 0.2), atol=0.04, rtol=0)


def test_partners_of_the_same_class_are_other_clips() -> None:
    found = draw_partners(LABEL, count=2, same=True, generator=_generator())
    assert bool((LABEL[found] == LABEL[:, None]).all())
    assert bool((found != torch.arange(len(LABEL))[:, None]).all())
    with pytest.raises(VidactError, match=r"two clips of each class; got 3 clips and no partner for class 4"):
        draw_partners(torch.tensor([4, 1, 1]), same=True, generator=_generator())


@pytest.mark.parametrize("name", COMPOSED)
def test_what_is_composed_depends_on_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (COMPOSED[name](_video(), LABEL, _generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.video, again.video)
    assert torch.equal(first.mask, again.mask)
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.video, other.video)


@pytest.mark.parametrize("seed", range(5))
def test_a_splice_is_one_clip_but_for_some_frames_of_another_class(seed: int) -> None:
    video = _video()
    found = splice(video, LABEL, num_frames=2, generator=_generator(seed))
    assert found.rows[:, 0].tolist() == list(range(len(LABEL)))
    for clip, partner in found.rows.tolist():
        assert LABEL[clip] != LABEL[partner]
        frames = [frame for frame in range(5) if bool(found.mask[clip, frame].all())]
        assert len(frames) == 2
        assert frames[1] == frames[0] + 1
        assert int(found.mask[clip].sum()) == 2 * 8 * 6
        for frame in range(5):
            source = clip if frame in frames else partner
            assert torch.equal(found.video[clip, :, frame], video[source, :, frame])
    torch.testing.assert_close(chance(found.mask), torch.full((len(LABEL),), 2 / 5, dtype=torch.float64))


def test_a_splice_starts_at_every_place_in_time() -> None:
    label = torch.arange(400) % 2
    video = torch.zeros(400, 1, 5, 2, 2)
    mask = splice(video, label, num_frames=2, generator=_generator()).mask
    first = mask[:, :, 0, 0].int().argmax(dim=1)
    assert torch.bincount(first, minlength=4).min() > 70


def test_frames_are_put_where_one_says() -> None:
    video = _video()
    first = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    found, mask = splice_into(video, torch.zeros_like(video), first=first, num_frames=3)
    for clip, start in enumerate(first.tolist()):
        assert mask[clip].any(dim=2).any(dim=1).tolist() == [start <= frame < start + 3 for frame in range(5)]
    torch.testing.assert_close(found, video * mask[:, None])


def test_relevance_on_the_frames_put_in_has_all_of_its_share_there() -> None:
    found = splice(_video(), LABEL, num_frames=2, generator=_generator())
    one = torch.ones(len(LABEL), dtype=torch.float64)
    torch.testing.assert_close(relevance_mass(found.mask.float(), found.mask), one)
    torch.testing.assert_close(relevance_mass(torch.rand_like(found.mask.float()) * ~found.mask, found.mask), 0 * one)
    torch.testing.assert_close(relevance_mass(torch.ones_like(found.mask.float()), found.mask), 0.4 * one)


@pytest.mark.parametrize("num_own", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 6), (9, 7), (2, 3)], ids=str)
def test_a_mosaic_shows_four_small_clips_and_its_mask_those_of_the_class(num_own: int, size: tuple[int, int]) -> None:
    video = _video(*size)
    found = mosaic(video, LABEL, num_own=num_own, generator=_generator())
    height, width = size
    top, left = height // 2, width // 2
    corners = [(0, 0, top, left), (0, left, top, width), (top, 0, height, left), (top, left, height, width)]
    for clip, sources in enumerate(found.rows.tolist()):
        assert sorted(LABEL[sources].tolist()).count(int(LABEL[clip])) == num_own
        assert clip in sources
        for source, (up, start, down, end) in zip(sources, corners, strict=True):
            small = transforms.resize(
                video[source], [down - up, end - start], interpolation=InterpolationMode.BILINEAR, antialias=True
            )
            torch.testing.assert_close(found.video[clip, :, :, up:down, start:end], small)
            own = LABEL[source] == LABEL[clip]
            assert bool((found.mask[clip, :, up:down, start:end] == own).all())
    if height % 2 == width % 2 == 0:
        expected = torch.full((len(LABEL),), num_own / 4, dtype=torch.float64)
        torch.testing.assert_close(chance(found.mask), expected)
    assert found.video.min() >= 0
    assert found.video.max() <= 1


def test_a_clip_stands_in_every_quadrant_equally_often() -> None:
    label = torch.arange(800) % 4
    video = torch.zeros(800, 1, 1, 2, 2)
    mask = mosaic(video, label, generator=_generator()).mask
    assert mask.sum() == 800
    assert mask.flatten(1).sum(dim=0).min() > 150


def test_four_clips_are_tiled_where_one_says() -> None:
    clips = torch.arange(4.0)[:, None, None, None, None].expand(4, 1, 1, 4, 4)[None] / 4
    tiled, mask = tile(clips, torch.tensor([[True, False, False, True]]))
    expected = torch.tensor([[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2)
    torch.testing.assert_close(tiled[0, 0, 0], expected / 4)
    assert torch.equal(mask[0, 0], (expected == 0) | (expected == 3))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda v: splice(v, 0 * LABEL, num_frames=2, generator=_generator()), "at least two classes; got 7 clips"),
        (lambda v: mosaic(v, 0 * LABEL, generator=_generator()), "no partner for class 0"),
        (lambda v: mosaic(v, LABEL, num_own=4, generator=_generator()), "1 to 3 quadrants"),
        (lambda v: splice(v, LABEL, num_frames=0, generator=_generator()), "1 to 4 can be spliced in, got 0"),
        (lambda v: splice(v, LABEL, num_frames=5, generator=_generator()), "1 to 4 can be spliced in, got 5"),
        (lambda v: splice_into(v, v, first=LABEL + 2, num_frames=2), "can start at 0 to 3, got 2 to 4"),
        (lambda v: splice(v[:3], LABEL, num_frames=2, generator=_generator()), "a class number for each of 3 clips"),
        (lambda v: mosaic(v[:3], LABEL, generator=_generator()), "a class number for each of 3 clips"),
        (lambda v: mosaic(v[..., :1], LABEL, generator=_generator()), "at least 2×2 pixels, got 8×1"),
        (lambda v: splice_into(v, v[:, :, :3], first=LABEL, num_frames=2), r"other clips of shape \[7, 3, 5, 8, 6\]"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_what_cannot_be_composed_is_told_in_one_line(work: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(VidactError, match=message) as found:
        work(_video())
    assert "\n" not in str(found.value)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """What users have: no shape is checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
