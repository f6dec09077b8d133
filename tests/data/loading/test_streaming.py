from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_videos import inspect_here, write_timed

from vidact.core.errors import DataError
from vidact.data.loading.streaming import VideoArray, VideoFile, WindowSettings, pick_frames, sliding_windows
from vidact.data.video.reading import read_frames
from vidact.data.video.sampling import frame_numbers, sampled_frames, sliding_starts, window_span
from vidact.data.video.timeline import FrameRates

SETTINGS = WindowSettings(num_frames=4, stride=2, size=(12, 16), gray=True)


@pytest.fixture(autouse=True)
def _inspected_here(monkeypatch: pytest.MonkeyPatch) -> None:
    inspect_here(monkeypatch)


@given(st.integers(1, 90), st.integers(1, 20), st.integers(1, 6))
def test_sampled_frames_are_inside_and_a_short_video_is_seen_as_in_training(
    clip_frames: int, num_frames: int, stride: int
) -> None:
    found = sampled_frames(clip_frames, num_frames=num_frames, stride=stride)
    assert list(found) == sorted(set(found))
    assert 0 <= found[0] <= found[-1] < clip_frames
    if window_span(num_frames, stride=stride) > clip_frames:
        training = frame_numbers(0, num_frames=num_frames, stride=stride, clip_frames=clip_frames)
        assert found == tuple(dict.fromkeys(training))
    else:
        assert found == tuple(range(0, clip_frames, stride))


@given(st.integers(1, 200), st.integers(1, 32), st.data())
def test_sliding_windows_hold_every_frame_and_reach_the_end(
    num_sampled: int, num_frames: int, data: st.DataObject
) -> None:
    hop = data.draw(st.integers(1, num_frames))
    starts = sliding_starts(num_sampled, num_frames=num_frames, hop=hop)
    assert list(starts) == sorted(set(starts))
    held = {place for start in starts for place in range(start, min(start + num_frames, num_sampled))}
    assert held == set(range(num_sampled))
    assert starts[-1] + num_frames == max(num_sampled, num_frames)
    assert all(second - first <= hop for first, second in pairwise(starts))


@pytest.mark.parametrize("num_frames", [1, 5, 7, 8, 30])
def test_windows_hold_the_frames_that_training_reads(
    write_clip: Callable[..., Path], tmp_path: Path, num_frames: int
) -> None:
    path = write_clip(tmp_path / "clip.avi", num_frames=num_frames)
    video = VideoFile(path)
    sampled = SETTINGS.sampled(video.times_seconds)
    windows = list(sliding_windows(video, SETTINGS))
    assert len(windows) == len(SETTINGS.starts(len(sampled)))
    for places, pixels in windows:
        numbers = [sampled[place] for place in places]
        expected = read_frames(path, numbers, size=(12, 16), gray=True, decoder="pyav")
        assert torch.equal(pixels, expected)


def test_hmdb51_is_streamed_as_training_reads_it(hmdb51: Path) -> None:
    path = min((hmdb51 / "videos" / "jump").glob("*.avi"))
    settings = WindowSettings(num_frames=16, stride=2, size=(64, 64), gray=True)
    video = VideoFile(path)
    sampled = settings.sampled(video.times_seconds)
    for places, pixels in sliding_windows(video, settings):
        expected = read_frames(path, [sampled[place] for place in places], size=(64, 64), gray=True, decoder="decord")
        assert (pixels.int() - expected.int()).abs().float().mean() < 0.5, "two builds of FFmpeg round differently"


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [Fraction(number, 30) for number in range(6)] + [
        Fraction(1, 2),
        Fraction(7, 10),
        Fraction(2),
        Fraction(61, 30),
    ]
    video = VideoFile(write_timed(tmp_path / "vfr.mp4", times))
    assert video.num_frames == len(times)
    assert video.times_seconds == pytest.approx([float(time) for time in times], abs=1e-3)
    assert [frame.time_seconds for frame in video.frames()] == list(video.times_seconds)


def test_a_video_of_twice_the_rate_shows_the_same_windows(tmp_path: Path) -> None:
    """The same motion, filmed at 30 and at 60 frames a second, looks the same to a network that learned from 30."""
    thirty = write_timed(tmp_path / "30.mp4", [Fraction(n, 30) for n in range(30)], [8 * n for n in range(30)])
    sixty = write_timed(tmp_path / "60.mp4", [Fraction(n, 60) for n in range(60)], [4 * n for n in range(60)])
    settings = replace(SETTINGS, rates=FrameRates(30.0, 30.0, 30.0))
    one, other = VideoFile(thirty), VideoFile(sixty)
    assert settings.sampled(other.times_seconds) == tuple(2 * n for n in settings.sampled(one.times_seconds))
    pairs = list(zip(sliding_windows(one, settings), sliding_windows(other, settings), strict=True))
    assert len(pairs) > 3
    for (places, pixels), (other_places, other_pixels) in pairs:
        assert places == other_places
        assert (pixels.int() - other_pixels.int()).abs().max() <= 2
    assert settings.note(one.times_seconds) == ""
    assert "60 frames a second, sampled" in settings.note(other.times_seconds)
    assert SETTINGS.sampled(other.times_seconds) == tuple(range(0, 60, 2)), "as it is, where nobody knows the rate"


def test_frames_are_given_as_often_as_they_are_asked_for(tmp_path: Path) -> None:
    video = VideoFile(write_timed(tmp_path / "10.mp4", [Fraction(n, 10) for n in range(6)]))
    settings = replace(SETTINGS, stride=1, rates=FrameRates(30.0, 30.0, 30.0))
    sampled = settings.sampled(video.times_seconds)
    assert sampled == tuple(n for n in range(6) for _ in range(3))
    assert [frame.number for frame in pick_frames(video, sampled)] == list(sampled)
    for places, pixels in sliding_windows(video, settings):
        expected = read_frames(video.path, [sampled[n] for n in places], size=(12, 16), gray=True, decoder="pyav")
        assert torch.equal(pixels, expected)


def test_j_hmdb_has_the_times_at_which_its_frames_are_shown(jhmdb: Path) -> None:
    """Its frames, 25 a second, stand in files of 30 that leave out every sixth; training shows them as they are."""
    path = min((jhmdb / "videos" / "jump").glob("*.avi"))
    video = VideoFile(path)
    with av.open(str(path)) as container:
        stamps = [frame.time for frame in container.decode(video=0)]
    assert video.times_seconds == pytest.approx([stamp - stamps[0] for stamp in stamps], abs=1e-3)
    learned = replace(SETTINGS, stride=1, rates=FrameRates(24.7, 25.0, 25.2))
    assert learned.sampled(video.times_seconds) == tuple(range(video.num_frames))


def test_avi_without_times_gets_even_ones(write_clip: Callable[..., Path], tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "clip.avi", num_frames=9))
    assert video.times_seconds == pytest.approx([number / 30 for number in range(9)], abs=1e-6)


@pytest.mark.parametrize("shape", [(7, 12, 16, 3), (3, 7, 12, 16), (7, 12, 16, 1), (1, 7, 12, 16)])
def test_arrays_of_either_order_are_videos(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    frames = list(VideoArray(pixels, fps=25).frames())
    assert len(frames) == 7
    assert frames[3].time_seconds == pytest.approx(3 / 25)
    ordered = pixels if shape[0] == 7 else pixels.transpose(1, 2, 3, 0)
    assert all((frame.picture == own).all() for frame, own in zip(frames, ordered, strict=True))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((7, 12, 16), np.uint8), np.zeros((7, 12, 16, 3), np.float32), np.zeros((0, 12, 16, 3), np.uint8)],
)
def test_other_arrays_are_refused_in_one_line(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected a video uint8 \[T, H, W, C\]"):
        VideoArray(pixels)


@pytest.mark.parametrize("fps", [0, float("nan"), float("inf")])
def test_an_array_needs_frames_per_second(fps: float) -> None:
    with pytest.raises(DataError, match="frames per second, more than 0"):
        VideoArray(np.zeros((7, 12, 16, 3), np.uint8), fps=fps)


def test_frames_are_picked_by_number(write_clip: Callable[..., Path], tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "clip.avi", num_frames=9))
    assert [frame.number for frame in pick_frames(video, [0, 3, 8])] == [0, 3, 8]


@pytest.mark.parametrize("content", [b"", b"<html></html>" * 50])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.mp4: .*(empty|not a video)"):
        VideoFile(path)


def test_a_video_that_changed_is_reported(write_clip: Callable[..., Path], tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "clip.avi", num_frames=20))
    write_clip(tmp_path / "clip.avi", num_frames=5)
    with pytest.raises(DataError, match="the file changed meanwhile"):
        list(video.frames())
