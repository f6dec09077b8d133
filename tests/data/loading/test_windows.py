from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_windows import WriteClip, make_windows, measures
from torch.utils.data import DataLoader

from vidact.core.clips import ClipBatch
from vidact.core.errors import DataError
from vidact.data.checks.file_inspection import VideoInfo
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.loading.windows import Window, WindowDataset, join, list_windows
from vidact.data.video.reading import read_frames

SIZE = (12, 16)


class Masks:
    """Masks that say which clip and frames they were asked for."""

    def read(
        self, clip_id: str, frame_numbers: Sequence[int], *, clip_frames: int, size: tuple[int, int]
    ) -> torch.Tensor:
        if clip_id.endswith("1"):
            raise DataError("no mask")
        picture = torch.zeros(len(frame_numbers), *size, dtype=torch.bool)
        for place, number in enumerate(frame_numbers):
            picture[place].view(-1)[: clip_frames - number] = True
        return picture


class Array:
    """Windows that lie in memory: row 10 + n is n everywhere."""

    def rows_of(self, windows: Sequence[Window]) -> list[int | None]:
        return [None if number == 5 else 10 + number for number in range(len(windows))]

    def read(self, rows: Sequence[int]) -> np.ndarray:
        return np.stack([np.full((1, 4, *SIZE), row - 10, np.uint8) for row in rows])


@pytest.fixture
def windows(tmp_path: Path, write_clip: WriteClip) -> list[Window]:
    return make_windows(tmp_path, write_clip)


def _same(one: ClipBatch, other: ClipBatch) -> bool:
    texts = (one.clip_id, one.left_out) == (other.clip_id, other.left_out)
    names = ("video", "label", "clip_index", "window_index", "frame_numbers", "times_seconds")
    return texts and all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_windows_say_what_they_are_of(windows: list[Window]) -> None:
    assert [window.clip_index for window in windows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [window.frame_numbers for window in windows[-2:]] == [(0, 3, 6, 9), (13, 16, 19, 22)]
    assert [window.clip_frames for window in windows[::2]] == [20, 21, 22, 23]
    assert {window.sha1 for window in windows} == {""}


def test_hashes_come_along_where_they_are_known(windows: list[Window]) -> None:
    clips = [window.clip for window in windows[::2]]
    infos = {clip.path: VideoInfo(**measures(20)) for clip in clips}
    listed = list_windows(clips, infos, num_frames=1, stride=1, num_windows=1, sha1s={clips[1].path: "abc"})
    assert [window.sha1 for window in listed] == ["", "abc", "", ""]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_read_the_frames_that_were_asked_for(windows: list[Window], num_workers: int) -> None:
    """The brightness of the n-th frame is 8 + 7n."""
    dataset = WindowDataset(windows, size=SIZE, gray=True)
    loader: DataLoader[ClipBatch] = DataLoader(dataset, batch_size=3, collate_fn=join, num_workers=num_workers)
    found = join(list(loader))
    assert found.window_index.tolist() == list(range(8))
    expected = torch.tensor([[8 + 7 * number for number in window.frame_numbers] for window in windows])
    torch.testing.assert_close(found.video.float().mean(dim=(1, 3, 4)), expected.float(), atol=3, rtol=0)
    for row, window in enumerate(windows):
        assert torch.equal(found.video[row], read_frames(window.clip.path, window.frame_numbers, size=SIZE, gray=True))


def test_workers_read_real_frames_as_one_process_does(hmdb51: Path) -> None:
    clips = index_clips(hmdb51)[::140]
    infos = {clip.path: VideoInfo(**measures(17)) for clip in clips}
    windows = list_windows(clips, infos, num_frames=8, stride=2, num_windows=1)
    dataset = WindowDataset(windows, size=(100, 100), gray=True)
    loader: DataLoader[ClipBatch] = DataLoader(dataset, batch_size=4, collate_fn=join, num_workers=2)
    found = join(list(loader))
    for row, window in enumerate(windows):
        alone = read_frames(window.clip.path, window.frame_numbers, size=(100, 100), gray=True)
        assert torch.equal(found.video[row], alone)


def test_a_batch_from_an_array_is_the_batch_of_its_items(windows: list[Window]) -> None:
    """Window 5 is not in the array: it is decoded."""
    dataset = WindowDataset(windows, size=SIZE, gray=True, decoded=Array())
    for indices in ([3, 0, 7], [4, 5, 6], [5]):
        batch = join(dataset.__getitems__(indices))
        assert _same(batch, join([dataset[index] for index in indices]))
        assert batch.window_index.tolist() == indices
        assert [int(video[0, 0, 0, 0]) for index, video in zip(indices, batch.video, strict=True) if index != 5] == [
            index for index in indices if index != 5
        ]
    assert torch.equal(dataset[5].video, WindowDataset(windows, size=SIZE, gray=True)[5].video)


@pytest.mark.parametrize("decoded", [None, Array()])
def test_masks_come_with_their_frames(windows: list[Window], decoded: Array | None) -> None:
    dataset = WindowDataset(windows, size=SIZE, gray=True, decoded=decoded, masks=Masks())
    batch = join(dataset.__getitems__([0, 1, 2, 6]))
    assert batch.clip_index.tolist() == [0, 0, 3]
    assert batch.left_out == ("wave/clip 1: no mask",)
    assert batch.mask is not None
    assert batch.mask.shape == (3, 4, *SIZE)
    expected = torch.tensor([20, 20, 23])[:, None] - batch.frame_numbers
    assert torch.equal(batch.mask.sum(dim=(2, 3)), expected)


def test_without_masks_there_are_none(windows: list[Window]) -> None:
    dataset = WindowDataset(windows, size=SIZE, gray=True)
    assert join([dataset[0], dataset[1]]).mask is None


def test_what_cannot_be_read_is_a_batch_of_none(windows: list[Window]) -> None:
    windows[1].clip.path.unlink()
    dataset = WindowDataset(windows, size=SIZE, gray=False, masks=Masks())
    batch = dataset[0]
    assert (len(batch), batch.video.shape, batch.clip_id) == (0, (0, 3, 4, *SIZE), ())
    assert batch.left_out[0].startswith("wave/clip 0: ")
    assert "no such file" in batch.left_out[0]
    together = join(dataset.__getitems__([0, 4]))
    assert len(together) == 1
    assert together.mask is not None
    assert len(together.mask) == 1


def test_frames_have_the_times_of_their_file() -> None:
    uneven = (0.0, 0.1, 0.15, 0.4, 0.5, 0.9)
    clip = Clip(Path("/a.mp4"), "wave", 0, "a", None)
    info = VideoInfo(**measures(6) | {"times_seconds": uneven})
    (window,) = list_windows([clip], {clip.path: info}, num_frames=3, stride=2, num_windows=1, frame_order="reversed")
    assert window.frame_numbers == (4, 2, 0)
    assert window.times_seconds == (0.5, 0.15, 0.0)
    (even,) = list_windows([clip], {clip.path: VideoInfo(**measures(6))}, num_frames=3, stride=2, num_windows=1)
    assert even.times_seconds == pytest.approx((0, 2 / 30, 4 / 30))


def test_clips_of_one_file_have_their_own_frames() -> None:
    whole = Clip(Path("/a.mp4"), "wave", 0, "a", None)
    clips = [replace(whole, start_seconds=1.0, end_seconds=1.5), replace(whole, start_seconds=2.0)]
    infos = {whole.path: VideoInfo(**measures(90))}
    first, second = list_windows(clips, infos, num_frames=4, stride=2, num_windows=1)
    assert first.frame_numbers == (34, 36, 38, 40), "in the middle of frames 30 to 44"
    assert second.frame_numbers == (71, 73, 75, 77)
    assert {first.clip_frames, second.clip_frames} == {90}, "by which masks are numbered"
    (short,) = list_windows(clips[:1], infos, num_frames=4, stride=2, num_windows=1, fps=6.0)
    assert short.frame_numbers == (30, 40, 40, 40), "the last is repeated within the clip"
