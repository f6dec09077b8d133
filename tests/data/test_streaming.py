from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidact.core import DataError
from vidact.data.sampling import frame_numbers, sampled_frames, sliding_starts, window_span
from vidact.data.streaming import VideoArray, VideoFile, WindowSettings, pick_frames, sliding_windows
from vidact.data.video import read_frames

SETTINGS = WindowSettings(num_frames=4, stride=2, size=(12, 16), gray=True)


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
    sampled = SETTINGS.sampled(video.num_frames)
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
    sampled = settings.sampled(video.num_frames)
    for places, pixels in sliding_windows(video, settings):
        expected = read_frames(path, [sampled[place] for place in places], size=(64, 64), gray=True, decoder="decord")
        assert (pixels.int() - expected.int()).abs().float().mean() < 0.5, "two builds of FFmpeg round differently"


def _write(path: Path, times: list[Fraction], *, size: tuple[int, int] = (48, 64)) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 600)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 8 + 9 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = int(time * 600), Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [Fraction(number, 30) for number in range(6)] + [
        Fraction(1, 2),
        Fraction(7, 10),
        Fraction(2),
        Fraction(61, 30),
    ]
    video = VideoFile(_write(tmp_path / "vfr.mp4", times))
    assert video.num_frames == len(times)
    assert video.times_seconds == pytest.approx([float(time) for time in times], abs=1e-3)
    assert [frame.time_seconds for frame in video.frames()] == list(video.times_seconds)


def test_avi_without_times_gets_even_ones(write_clip: Callable[..., Path], tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "clip.avi", num_frames=9))
    assert video.times_seconds == pytest.approx([number / 30 for number in range(9)], abs=1e-6)


def test_a_turned_video_is_shown_upright(tmp_path: Path) -> None:
    """A phone held upright stores a lying picture and a note to turn it."""
    path = tmp_path / "turned.mp4"
    lying = np.zeros((48, 64, 3), np.uint8)
    lying[:, :20] = 250  # the left edge
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(lying, format="rgb24")))
        container.mux(stream.encode())
    matrix = bytearray(path.read_bytes())
    place = matrix.index(b"tkhd") + 4 + 40  # the matrix of the track's header, version 0
    values = (0, 65536, 0, -65536, 0, 0, 0, 0, 1073741824)  # a quarter turn
    matrix[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(matrix)
    video = VideoFile(path)
    (first, *_) = video.frames()
    assert video.num_frames == 5
    assert first.picture.shape == (64, 48, 3)
    bright = first.picture[..., 0] > 128
    assert bright[:18].all() or bright[-18:].all(), "the edge is at the top or at the bottom"
    with av.open(str(path)) as container:
        rotation = next(container.decode(video=0)).rotation
    at_top = rotation == -90  # turned clockwise, the left edge comes to the top
    assert bright[:18].all() == at_top


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


def test_frames_are_picked_by_number(write_clip: Callable[..., Path], tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "clip.avi", num_frames=9))
    assert [frame.number for frame in pick_frames(video, [0, 3, 8])] == [0, 3, 8]


@pytest.mark.parametrize("content", [b"", b"<html></html>" * 50])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.mp4: .*(empty|not a video)"):
        VideoFile(path)


def test_a_video_that_changed_is_told(write_clip: Callable[..., Path], tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "clip.avi", num_frames=20))
    write_clip(tmp_path / "clip.avi", num_frames=5)
    with pytest.raises(DataError, match="it changed meanwhile"):
        list(video.frames())
