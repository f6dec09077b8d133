from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vidact.data.checks.file_inspection import inspect_file
from vidact.data.datasets.index import index_clips
from vidact.data.video.reading import open_container, write_video
from vidact.data.video.similarity import MAX_DISTANCE_BITS, FrameHashes, hash_frames, hash_picture, near_duplicates

Picture = np.ndarray


def _by_scipy(picture: Picture) -> int:
    """Zauner's hash with scipy's transform, bit by bit."""
    low = scipy.fft.dctn(picture.astype(float), norm="ortho")[:8, :8].ravel()
    return int("".join("1" if value > np.median(low[1:]) else "0" for value in low), 2)


@given(arrays(np.uint8, (32, 32), elements=st.integers(0, 255)))
def test_the_hash_is_that_of_the_paper(picture: Picture) -> None:
    found = hash_picture(picture)
    assert (found is None) == (picture.std() < 4)
    # Where frequencies tie, as in a picture of few spikes, rounding decides.
    low = np.sort(scipy.fft.dctn(picture.astype(float), norm="ortho")[:8, :8].ravel())
    if found is not None and np.diff(low).min() > 1e-6:
        assert found == _by_scipy(picture)


def test_the_hash_of_noise_is_that_of_the_paper() -> None:
    for seed in range(10):
        picture = np.random.default_rng(seed).integers(0, 255, (32, 32)).astype(np.uint8)
        assert hash_picture(picture) == _by_scipy(picture)


def test_five_evenly_spread_pictures_are_taken() -> None:
    pictures = [np.random.default_rng(seed).integers(0, 255, (32, 32)).astype(np.uint8) for seed in range(51)]
    assert hash_frames(pictures) == tuple(_by_scipy(pictures[row]) for row in (5, 15, 25, 35, 45))
    assert hash_frames(pictures[:1]) == (_by_scipy(pictures[0]),) * 5


def _naive_pairs(clips: list[FrameHashes], limit: float) -> list[tuple[int, int, float]]:
    pairs = []
    for i, j in combinations(range(len(clips)), 2):
        bits = [(a ^ b).bit_count() for a, b in zip(clips[i], clips[j], strict=False) if None not in (a, b)]  # type: ignore[operator]
        if len(bits) >= 3 and sum(bits) / len(bits) <= limit:
            pairs.append((i, j, sum(bits) / len(bits)))
    return pairs


hashes = st.sampled_from([None, 0, 1, 0b111, 2**63, 2**64 - 1, 0xFFFF])
clip_hashes = st.one_of(st.just(()), st.tuples(hashes, hashes, hashes, hashes, hashes))


@given(st.lists(clip_hashes, max_size=12), st.floats(0, 64))
def test_pairs_are_those_of_a_comparison_one_by_one(clips: list[FrameHashes], limit: float) -> None:
    found = near_duplicates(clips, max_distance_bits=limit)
    assert [(pair.first, pair.second, pair.distance_bits) for pair in found] == _naive_pairs(clips, limit)


def test_pairs_are_found_across_blocks() -> None:
    generator = np.random.default_rng(0)
    clips = [tuple(int(value) for value in row) for row in generator.integers(0, 2**64, (600, 5), np.uint64)]
    clips[599], clips[3] = clips[290], clips[1]
    assert [(pair.first, pair.second) for pair in near_duplicates(clips)] == [(1, 3), (290, 599)]


def test_pictures_without_shape_match_nothing() -> None:
    black = hash_frames([np.zeros((32, 32), np.uint8)] * 5)
    grey = hash_frames([np.full((32, 32), 128, np.uint8)] * 5)
    assert black == (None,) * 5
    assert near_duplicates([black, grey, black]) == []


@pytest.fixture
def some_clips(hmdb51: Path) -> list[Path]:
    return [clip.path for clip in index_clips(hmdb51)[::70]]


def _copy(path: Path, to: Path, *, share: float, gain: float) -> Path:
    """Encode a clip anew, in H.264, scaled and brightened."""
    with open_container(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    size = [int(side * share) // 2 * 2 for side in frames[0].shape[1::-1]]
    bright = [np.clip(cv2.resize(frame, size) * gain, 0, 255).astype(np.uint8) for frame in frames]
    write_video(to, bright, fps=30, codec="libx264", options={"crf": "30", "preset": "ultrafast"})
    return to


def test_copies_of_real_clips_are_found_and_nothing_else(some_clips: list[Path], tmp_path: Path) -> None:
    copies = [_copy(path, tmp_path / f"{number}.mp4", share=0.7, gain=1.2) for number, path in enumerate(some_clips)]
    found = [inspect_file(path).frame_hashes for path in (*some_clips, *copies)]
    count = len(some_clips)
    pairs = near_duplicates(found)
    assert {(pair.first, pair.second) for pair in pairs} == {(row, row + count) for row in range(count)}
    assert np.median([pair.distance_bits for pair in pairs]) < MAX_DISTANCE_BITS / 2


def test_flat_clips_are_like_no_other(tmp_path: Path, write_clip: Callable[..., Path], some_clips: list[Path]) -> None:
    """Though every frame of them is like every other."""
    flat = [write_clip(tmp_path / f"{number}.avi", 10 + number) for number in range(2)]
    assert near_duplicates([inspect_file(path).frame_hashes for path in (*flat, some_clips[0])]) == []
