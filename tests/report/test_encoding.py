"""What is packed for the browser is what the arrays held."""

import base64
import inspect
import io
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, UInt8
from PIL import Image

from vidact.attribution.hotspots import frame_relevance, hotspots, hotspots_per_frame
from vidact.core.errors import VidactError
from vidact.report.encoding import FULL_SCALE, ZERO_BYTE, PackedRelevance, Sprite, pack_frames, pack_relevance


def unpack(packed: PackedRelevance) -> UInt8[np.ndarray, "T h w"]:
    values = np.frombuffer(zlib.decompress(base64.b64decode(packed.data)), dtype=np.uint8)
    return values.reshape(-1, packed.height, packed.width)


def expand(packed: PackedRelevance) -> Float[np.ndarray, "T h w"]:
    """Undo the companding, as drawing.js does."""
    root = (unpack(packed).astype(np.float64) - ZERO_BYTE) / FULL_SCALE
    return np.asarray(np.sign(root) * root**2 * packed.largest)


def sheet(sprite: Sprite) -> UInt8[np.ndarray, "height width 3"]:
    header, data = sprite.uri.split(",")
    assert header == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def heavy_tailed(seed: int, *, scale: float = 1.0) -> Float[np.ndarray, "T h w"]:
    return np.asarray(scale * np.random.default_rng(seed).normal(size=(5, 9, 7)) ** 3, dtype=np.float32)


@given(st.integers(0, 1000), st.sampled_from([1e-30, 1e-4, 1.0, 1e20]), st.floats(0, 1))
def test_relevance_comes_back_within_a_step_of_its_byte(seed: int, scale: float, threshold: float) -> None:
    relevance = heavy_tailed(seed, scale=scale)
    packed = pack_relevance(relevance, threshold=threshold)
    largest = np.abs(relevance).max()
    assert packed.largest == pytest.approx(largest)
    # A byte is a step of 1/127 in √|R|, the rounding half of it, and a voxel beside the threshold moves by one.
    expected, got = (np.sign(r) * np.sqrt(np.abs(r) / largest) for r in (relevance, expand(packed)))
    assert np.abs(expected - got).max() <= 1.001 / FULL_SCALE


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.3, 0.30001, 0.5, 1.0]))
def test_the_browser_finds_exactly_the_hotspots_that_the_bars_count(seed: int, threshold: float) -> None:
    relevance = heavy_tailed(seed)
    packed = pack_relevance(relevance, threshold=threshold)
    spots = hotspots(torch.from_numpy(relevance)[None, None], threshold=threshold)
    assert np.array_equal(unpack(packed) >= packed.hotspot_byte, spots[0].numpy())
    assert list(packed.hotspots) == hotspots_per_frame(spots)[0].tolist()


def test_bars_are_summed_before_anything_is_rounded() -> None:
    relevance = heavy_tailed(3)
    packed = pack_relevance(relevance, threshold=0.3)
    positive, negative = frame_relevance(torch.from_numpy(relevance)[None, None])
    assert packed.positive == pytest.approx(positive[0].tolist())
    assert packed.negative == pytest.approx(negative[0].tolist())


def test_no_relevance_is_all_zero_bytes_without_a_hotspot() -> None:
    packed = pack_relevance(np.zeros((2, 3, 4), dtype=np.float16), threshold=0.0)
    assert set(unpack(packed).ravel().tolist()) == {ZERO_BYTE}
    assert (packed.hotspots, packed.largest, packed.hotspot_byte) == ((0, 0), 0.0, 256)


def test_extremes_and_zero_have_bytes_of_their_own() -> None:
    relevance = np.array([[[-2.0, 0.0, 2.0]]])
    assert unpack(pack_relevance(relevance, threshold=0.3)).ravel().tolist() == [1, 128, 255]


@pytest.mark.parametrize("colours", [1, 3])
def test_each_frame_is_at_its_place_in_the_sprite(colours: int) -> None:
    video = np.full((colours, 5, 32, 48), 0, dtype=np.uint8)
    video += (40 * np.arange(5, dtype=np.uint8))[:, None, None]
    sprite = pack_frames(video)
    assert (sprite.width, sprite.height, sprite.columns) == (48, 32, 3)
    picture = sheet(sprite)
    for number in range(5):
        row, column = divmod(number, 3)
        colour = picture[32 * row + 16, 48 * column + 24]
        assert np.abs(colour.astype(int) - 40 * number).max() <= 4


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1080, 1920), (240, 426)), ((1920, 1080), (240, 135)), ((100, 4000), (12, 480)), ((240, 320), (240, 320))],
)
def test_large_frames_shrink_in_proportion(size: tuple[int, int], expected: tuple[int, int]) -> None:
    sprite = pack_frames(np.zeros((1, 2, *size), dtype=np.uint8))
    assert (sprite.height, sprite.width) == expected


def test_very_many_frames_still_fit_into_one_picture() -> None:
    sprite = pack_frames(np.zeros((1, 10_000, 2, 200), dtype=np.uint8))
    assert sprite.columns * sprite.width <= 16383


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (3, 0, 8, 8), (3, 4, 0, 8), (4, 8, 8)])
def test_a_video_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VidactError, match=r"video\.shape = "):
        inspect.unwrap(pack_frames)(np.zeros(shape, dtype=np.uint8))
