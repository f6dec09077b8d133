import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vidact.data.video.agreement import MAX_DIFFERENCE, Samples


def _noise(seed: int, size: tuple[int, int] = (60, 100)) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 230, (*size, 3), dtype=np.uint8)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**20))
def test_a_picture_is_distinguished_from_every_other_however_long_the_video(
    num_frames: int, height: int, width: int, limit_bytes: int
) -> None:
    """Memory has a limit; below it the grid gets coarser, down to a pixel."""
    samples = Samples(limit_bytes)
    for number in range(num_frames):
        samples.add(np.full((height, width, 3), 6 * number + 3, np.uint8))
    for number in range(num_frames):
        assert samples.difference_to(number, np.full((height, width, 3), 6 * number + 3, np.uint8)) == ""
        other = (number + 7) % num_frames
        fault = samples.difference_to(number, np.full((height, width, 3), 6 * other + 3, np.uint8))
        assert fault == ("" if other == number else f"differs by up to {6 * abs(other - number)} grey levels")


def test_rounding_is_forgiven_and_a_small_thing_that_moves_is_not() -> None:
    samples = Samples()
    picture = _noise(0)
    samples.add(picture)
    rounded = picture.copy()
    rounded[::10, ::10] += 2
    assert samples.difference_to(0, rounded) == ""
    moved = picture.copy()
    moved[30:34, 50:54] ^= 64
    assert "grey levels" in samples.difference_to(0, moved)
    assert samples.difference_to(0, picture + np.uint8(MAX_DIFFERENCE)) != "", "a little, everywhere"


def test_another_size_is_another_picture() -> None:
    samples = Samples()
    samples.add(_noise(0, (60, 100)))
    assert samples.difference_to(0, _noise(0, (100, 60))) == "has 60x100 pixels, not 100x60"
