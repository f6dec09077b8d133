import os
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vidact.core import DataError
from vidact.data.index import index_clips
from vidact.data.measuring import measure_video
from vidact.data.sampling import windows
from vidact.data.video import read_frames, write_video

WriteClip = Callable[..., Path]


def _sequential(path: Path) -> Iterator[np.ndarray]:
    """Decode with PyAV from the first frame to the last: the truth."""
    with av.open(str(path), metadata_errors="ignore") as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _assert_same_picture(found: torch.Tensor, truth: np.ndarray) -> None:
    """Compare; two builds of FFmpeg round the inverse cosine transform differently, by a few grey levels."""
    difference = np.abs(found.numpy().transpose(1, 2, 0).astype(int) - truth)
    assert difference.max() <= 6
    assert difference.mean() < 0.05


def _check_frames(path: Path, wanted: list[int], truth: list[np.ndarray] | None = None) -> None:
    truth = truth or list(_sequential(path))
    video = read_frames(path, wanted, size=truth[0].shape[:2], gray=False)
    for place, number in enumerate(wanted):
        _assert_same_picture(video[:, place], truth[number])


def test_frames_of_real_clips_are_the_ones_asked_for(hmdb51: Path) -> None:
    """Every window of 70 HMDB51 clips, frame by frame: sparse reads get wrong frames in every one of them."""
    for clip in index_clips(hmdb51)[::14]:
        truth = list(_sequential(clip.path))
        assert measure_video(clip.path).num_frames == len(truth)
        for stride in (2, "adaptive"):
            for wanted in windows(len(truth), num_frames=16, stride=stride, num_windows=2):  # type: ignore[arg-type]
                _check_frames(clip.path, list(wanted), truth)


def test_the_last_frame_of_real_clips_can_be_read(hmdb51: Path, jhmdb: Path) -> None:
    for root in (hmdb51, jhmdb):
        for clip in index_clips(root)[::31]:
            last = measure_video(clip.path).num_frames - 1
            _check_frames(clip.path, [last, 0])


def test_neighbouring_frames_of_real_clips_are_told_apart(hmdb51: Path) -> None:
    """The comparison above can fail: a frame one early is seen, wherever something moves."""
    clip = index_clips(hmdb51)[0]
    truth = list(_sequential(clip.path))
    video = read_frames(clip.path, [20], size=truth[0].shape[:2], gray=False)
    with pytest.raises(AssertionError):
        _assert_same_picture(video[:, 0], truth[19])


@pytest.mark.parametrize("b_frames", [0, 1, 2])
def test_frames_of_made_clips_are_the_ones_asked_for(tmp_path: Path, write_clip: WriteClip, b_frames: int) -> None:
    path = write_clip(tmp_path / "clip.avi", 30, options={"bf": str(b_frames), "qmin": "2", "qmax": "2"})
    video = read_frames(path, [29, 3, 3, 17, 0], size=(48, 64), gray=True)
    assert video.shape == (1, 5, 48, 64)
    means = video.float().mean(dim=(0, 2, 3)).tolist()
    assert means == pytest.approx([8 + 7 * number for number in (29, 3, 3, 17, 0)], abs=3)


def test_resizing_averages_instead_of_skipping(tmp_path: Path) -> None:
    """A fine chequerboard becomes grey; without antialiasing it would become black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    path = tmp_path / "board.avi"
    write_video(path, [np.repeat(board[..., None], 3, axis=2)] * 3, fps=30, options={"b": "20000000"})
    small = read_frames(path, [1], size=(16, 16), gray=True)
    assert small.float().mean().item() == pytest.approx(127, abs=10)
    assert small.float().std().item() < 12


def test_gray_is_luma(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    write_video(path, [red] * 3, fps=30)
    assert read_frames(path, [0], size=(8, 8), gray=True).float().mean().item() == pytest.approx(0.299 * 200, abs=4)


def test_measuring_counts_the_frames_that_decode(tmp_path: Path, write_clip: WriteClip) -> None:
    path = write_clip(tmp_path / "clip.avi", 30)
    info = measure_video(path)
    assert (info.num_frames, info.header_frames, info.width, info.height, info.fps) == (30, 30, 64, 48, 30)


def test_measuring_sees_that_a_clip_is_cut(hmdb51: Path, tmp_path: Path) -> None:
    clip = index_clips(hmdb51)[0]
    whole = measure_video(clip.path)
    content = clip.path.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: len(content) // 2])
    info = measure_video(cut)
    assert 0 < info.num_frames < whole.num_frames - 5
    assert info.header_frames == whole.header_frames
    _check_frames(cut, [0, info.num_frames - 1])
    with pytest.raises(DataError, match="was asked for, decoding ends before it"):
        read_frames(cut, [whole.num_frames - 1], size=(8, 8), gray=True)


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("<html>not found</html>")


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.avi")


def _nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "the file is empty"),
        (_text, "not a video that FFmpeg can read"),
        (_folder, "not a regular file"),
        (_pipe, "not a regular file"),
        (_dangling, "no such file"),
        (_nothing, "no such file"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "clip.avi"
    make(path)
    with pytest.raises(DataError, match=message):
        measure_video(path)
    if make is not _text:
        with pytest.raises(DataError, match=message):
            read_frames(path, [0], size=(8, 8), gray=True)


def test_garbage_fails_when_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(DataError, match="decord cannot decode it"):
        read_frames(path, [0], size=(8, 8), gray=True)


def test_a_header_that_claims_billions_of_frames_is_refused(tmp_path: Path, write_clip: WriteClip) -> None:
    """decord would reserve room for them and end the process."""
    path = write_clip(tmp_path / "clip.avi", 20)
    content = path.read_bytes()
    count = (20).to_bytes(4, "little")
    header = content[: content.index(b"movi")].replace(count, (4_000_000_000).to_bytes(4, "little"))
    path.write_bytes(header + content[len(header) :])
    with pytest.raises(DataError, match="the header claims 4,000,000,000 frames, 20 decode"):
        measure_video(path)


def test_a_width_that_decord_garbles_is_refused(tmp_path: Path, write_clip: WriteClip) -> None:
    """At some small widths decord takes the padding of a line for more colours."""
    path = write_clip(tmp_path / "clip.avi", 5, size=(48, 24))
    with pytest.raises(DataError, match=r"decord garbles frames of this width \(24 pixels\)"):
        read_frames(path, [0], size=(8, 8), gray=True)
    with pytest.raises(DataError, match="decord garbles"):
        measure_video(path)


@pytest.mark.parametrize("name", ["-x.avi", "a [b] #c;d&.avi", "日本 ü.avi", "x" * 116 + ".avi", "'\"<x>.avi"])
def test_odd_names_are_read(tmp_path: Path, write_clip: WriteClip, name: str) -> None:
    path = write_clip(tmp_path / name, 5)
    assert measure_video(path).num_frames == 5
    assert read_frames(path, [4], size=(8, 8), gray=True).shape == (1, 1, 8, 8)
