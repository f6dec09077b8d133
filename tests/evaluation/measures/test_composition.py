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

from vidact.core.errors import VidactError
from vidact.evaluation.measures.composition import mosaic, splice, tile
from vidact.evaluation.measures.localisation import chance, relevance_mass

NUM_CLIPS = 7
PLACES = torch.tensor([0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.9999])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _video(height: int = 8, width: int = 6) -> Tensor:
    return torch.rand(NUM_CLIPS, 3, 5, height, width, generator=_generator(1))


def _others(video: Tensor) -> Tensor:
    return torch.stack([video.roll(step, dims=0) for step in (1, 2, 3)], dim=1)


def test_a_splice_is_one_clip_but_for_some_frames_of_another() -> None:
    video = _video()
    other = video.flip(0) / 2
    found = splice(video, other, place=PLACES, num_frames=2)
    for clip in range(NUM_CLIPS):
        frames = [frame for frame in range(5) if bool(found.mask[clip, frame].all())]
        assert len(frames) == 2
        assert frames[1] == frames[0] + 1
        assert int(found.mask[clip].sum()) == 2 * 8 * 6
        for frame in range(5):
            source = video if frame in frames else other
            assert torch.equal(found.video[clip, :, frame], source[clip, :, frame])
    torch.testing.assert_close(chance(found.mask), torch.full((NUM_CLIPS,), 2 / 5, dtype=torch.float64))


def test_half_of_the_frames_are_put_in_unless_one_says_how_many() -> None:
    assert splice(_video(), _video(), place=PLACES).mask[:, :, 0, 0].sum(dim=1).tolist() == [2] * NUM_CLIPS


@given(st.integers(2, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_frames_are_put_in_where_one_says_and_each_start_has_an_equal_share(length: int, data: st.DataObject) -> None:
    num_frames = data.draw(st.integers(1, length - 1))
    count = length - num_frames + 1
    place = (torch.arange(4 * count) + 0.5) / (4 * count)
    video = torch.ones(len(place), 1, length, 1, 1)
    found = splice(video, torch.zeros_like(video), place=place, num_frames=num_frames)
    first = found.mask[:, :, 0, 0].int().argmax(dim=1)
    assert torch.bincount(first, minlength=count).tolist() == [4] * count
    assert torch.equal(found.video[:, 0], found.mask.float())
    last = torch.nextafter(torch.tensor([1.0]), torch.tensor([0.0]))
    assert bool(splice(video[:1], video[:1], place=last, num_frames=num_frames).mask[0, -1].all())


def test_relevance_on_the_frames_put_in_has_all_of_its_share_there() -> None:
    found = splice(_video(), _video(), place=PLACES, num_frames=2)
    one = torch.ones(NUM_CLIPS, dtype=torch.float64)
    torch.testing.assert_close(relevance_mass(found.mask.float(), found.mask), one)
    torch.testing.assert_close(relevance_mass(torch.rand_like(found.mask.float()) * ~found.mask, found.mask), 0 * one)
    torch.testing.assert_close(relevance_mass(torch.ones_like(found.mask.float()), found.mask), 0.4 * one)


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (2, 3)], ids=str)
def test_a_mosaic_shows_four_small_clips_and_its_mask_the_clip_itself(size: tuple[int, int]) -> None:
    video = _video(*size)
    others = _others(video) / 2
    found = mosaic(video, others, place=PLACES)
    height, width = size
    top, left = height // 2, width // 2
    corners = [(0, 0, top, left), (0, left, top, width), (top, 0, height, left), (top, left, height, width)]
    for clip, own in enumerate([0, 0, 1, 2, 2, 3, 3]):
        for quadrant, (up, start, down, end) in enumerate(corners):
            source = video[clip] if quadrant == own else others[clip, (quadrant - own) % 4 - 1]
            small = transforms.resize(
                source, [down - up, end - start], interpolation=InterpolationMode.BILINEAR, antialias=True
            )
            torch.testing.assert_close(found.video[clip, :, :, up:down, start:end], small)
            assert bool((found.mask[clip, :, up:down, start:end] == (quadrant == own)).all())
    if height % 2 == width % 2 == 0:
        torch.testing.assert_close(chance(found.mask), torch.full((NUM_CLIPS,), 0.25, dtype=torch.float64))
    assert found.video.min() >= 0
    assert found.video.max() <= 1


def test_four_clips_are_tiled_where_one_says() -> None:
    clips = torch.arange(4.0)[:, None, None, None, None].expand(4, 1, 1, 4, 4)[None] / 4
    found = tile(clips, torch.tensor([[True, False, False, True]]))
    expected = torch.tensor([[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2)
    torch.testing.assert_close(found.video[0, 0, 0], expected / 4)
    assert torch.equal(found.mask[0, 0], (expected == 0) | (expected == 3))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda v: splice(v, v, place=PLACES, num_frames=0), "1 to 4 can be spliced in, got 0"),
        (lambda v: splice(v[:, :, :1], v[:, :, :1], place=PLACES), "of clips of 1 frames"),
        (lambda v: splice(v, v, place=PLACES + 0.1), "a place from 0 to below 1 for each of 7 clips"),
        (lambda v: mosaic(v, _others(v), place=-PLACES), "a place from 0 to below 1 for each of 7 clips"),
        (lambda v: mosaic(v[..., :1], _others(v[..., :1]), place=PLACES), "at least 2×2 pixels, got 8×1"),
        (lambda v: splice(v, v[:, :, :3], place=PLACES), r"other clips of shape \[7, 3, 5, 8, 6\]"),
        (lambda v: mosaic(v, _others(v)[:, :2], place=PLACES), r"other clips of shape \[7, 3, 3, 5, 8, 6\]"),
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
