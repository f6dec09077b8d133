import errno
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_windows import make_windows
from torch.utils.data import DataLoader

from vidact.core.clips import ClipBatch
from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.core.folders import scratch_folder
from vidact.data.loading import decoded as decoded_module
from vidact.data.loading.decoded import DecodedWindows, decode_windows
from vidact.data.loading.windows import Window, WindowDataset, join
from vidact.data.video.reading import read_frames

SIZE = (12, 16)
WINDOW_BYTES = 4 * 12 * 16
fork = multiprocessing.get_context("fork")


@pytest.fixture
def windows(tmp_path: Path, write_clip: Callable[..., Path]) -> list[Window]:
    return make_windows(tmp_path, write_clip)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "windows"


def _decode(windows: list[Window], folder: Path, **kwargs: Any) -> DecodedWindows:
    settings: dict[str, Any] = {"size": SIZE, "gray": True, "limit_bytes": 10**8, "folder": folder}
    return decode_windows(windows, **settings | kwargs)


def _pixels(decoded: DecodedWindows, windows: list[Window]) -> np.ndarray:
    rows = [row for row in decoded.rows_of(windows) if row is not None]
    assert len(rows) == len(windows)
    return decoded.read(rows)


def _live(windows: list[Window], *, size: tuple[int, int] = SIZE, gray: bool = True) -> np.ndarray:
    return np.stack(
        [read_frames(window.clip.path, window.frame_numbers, size=size, gray=gray).numpy() for window in windows]
    )


@pytest.mark.parametrize(("gray", "num_workers"), [(True, 0), (False, 2)])
def test_the_array_holds_what_decoding_gives(windows: list[Window], folder: Path, gray: bool, num_workers: int) -> None:
    steps: list[tuple[int, int]] = []
    report = lambda done, total: steps.append((done, total))  # noqa: E731
    decoded = _decode(windows, folder, gray=gray, num_workers=num_workers, progress=report)
    assert np.array_equal(_pixels(decoded, windows), _live(windows, gray=gray))
    assert steps == [(done, 8) for done in range(1, 9)]
    video = np.load(decoded.folder / "video.npy")
    assert (video.shape, video.dtype) == ((8, 1 if gray else 3, 4, *SIZE), np.uint8)
    assert json.loads((decoded.folder / "index.json").read_text())["left_out"] == {}


def test_nothing_is_decoded_twice_whatever_the_split(
    windows: list[Window], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _decode(windows, folder)
    monkeypatch.setattr("vidact.data.loading.windows.read_frames", None)
    other = [replace(window, clip_index=7, clip=replace(window.clip, label=1)) for window in reversed(windows)]
    second = _decode(other, folder)
    assert second.folder == first.folder
    assert np.array_equal(_pixels(second, other), _pixels(first, windows)[::-1])


def test_files_that_moved_are_known_by_their_content(
    windows: list[Window], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _decode(windows, folder)
    shutil.copytree(tmp_path / "wave", tmp_path / "elsewhere" / "wave")
    monkeypatch.setattr("vidact.data.loading.windows.read_frames", None)
    moved = [
        replace(window, clip=replace(window.clip, path=tmp_path / "elsewhere" / "wave" / window.clip.path.name))
        for window in windows
    ]
    second = _decode(moved, folder)
    assert second.folder == first.folder
    assert np.array_equal(_pixels(second, moved), _pixels(first, windows))


def test_one_content_has_one_row(windows: list[Window], folder: Path, tmp_path: Path) -> None:
    twin = shutil.copy(windows[0].clip.path, tmp_path / "wave" / "twin.avi")
    both = [*windows, replace(windows[0], clip=replace(windows[0].clip, path=twin))]
    decoded = _decode(both, folder)
    rows = decoded.rows_of(both)
    assert rows[0] == rows[-1]
    assert len(set(rows)) == 8


def test_every_setting_that_matters_has_an_array_of_its_own(
    windows: list[Window], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [
        _decode(windows, folder).folder,
        _decode(windows, folder, size=(16, 12)).folder,
        _decode(windows, folder, gray=False).folder,
        _decode(windows[1:], folder).folder,
        _decode(
            [
                replace(window, frame_numbers=window.frame_numbers[:3], times_seconds=window.times_seconds[:3])
                for window in windows
            ],
            folder,
        ).folder,
        _decode([replace(windows[0], sha1="other"), *windows[2:]], folder).folder,
    ]
    monkeypatch.setitem(decoded_module.VERSIONS, "decord", "decord 9")
    folders.append(_decode(windows, folder).folder)
    assert len(set(folders)) == 7


def test_batches_from_the_array_are_those_from_the_files(windows: list[Window], folder: Path) -> None:
    dataset = WindowDataset(windows, size=SIZE, gray=True, decoded=_decode(windows, folder))
    live = WindowDataset(windows, size=SIZE, gray=True)
    for num_workers in (0, 2):
        loader: DataLoader[ClipBatch] = DataLoader(dataset, batch_size=3, collate_fn=join, num_workers=num_workers)
        for number, batch in enumerate(loader):
            expected = join([live[index] for index in range(3 * number, min(3 * number + 3, 8))])
            assert torch.equal(batch.video, expected.video)
            assert (batch.clip_id, batch.left_out) == (expected.clip_id, ())


def test_what_is_read_is_a_copy(windows: list[Window], folder: Path) -> None:
    dataset = WindowDataset(windows, size=SIZE, gray=True, decoded=_decode(windows, folder))
    dataset[0].video.zero_()
    assert int(dataset[0].video.sum()) > 0


def test_a_worker_that_is_spawned_is_not_sent_the_pixels(windows: list[Window], folder: Path) -> None:
    decoded = _decode(windows, folder, size=(100, 100))
    expected = _pixels(decoded, windows)
    sent = pickle.dumps(decoded)
    assert len(sent) < 10_000 < expected.nbytes
    assert np.array_equal(_pixels(pickle.loads(sent), windows), expected)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(moment: str | int, monkeypatch: pytest.MonkeyPatch, windows: list[Window], folder: Path) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    if moment == "full":
        monkeypatch.setattr(decoded_module, "flush_file", lambda file: _die())
    if moment == "named":
        monkeypatch.setattr(decoded_module, "flush_folder", lambda folder: _die())
    _decode(windows, folder, progress=lambda done, _: _die() if done == moment else None)


def test_a_writer_that_is_killed_leaves_nothing_that_matters(
    windows: list[Window], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = _decode(windows, tmp_path / "undisturbed")
    moments: list[str | int] = [1, 5, 8, "full", "named"]
    for moment in moments:
        process = fork.Process(target=_die_at, args=(moment, monkeypatch, windows, folder))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert len(list(folder.glob(".*-*"))) == (0 if moment == "named" else 1), "killed runs do not pile up"
    again = _decode(windows, folder)
    for name in ("video.npy", "index.json"):
        assert (again.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()
    assert not list(folder.glob(".*-*"))


def _decode_slowly(windows: list[Window], folder: Path, counts: Any) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork

    def report(done: int, total: int) -> None:
        counts.put(done)

    assert np.array_equal(_pixels(_decode(windows, folder, progress=report), windows), _live(windows))


def test_of_several_processes_one_decodes(windows: list[Window], folder: Path) -> None:
    counts = fork.Queue()
    processes = [fork.Process(target=_decode_slowly, args=(windows, folder, counts)) for _ in range(4)]
    for process in processes:
        process.start()
    done = [counts.get(timeout=60) for _ in windows]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert done == list(range(1, 9))
    assert counts.empty()
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


def test_what_other_killed_runs_left_is_removed_and_what_runs_is_kept(windows: list[Window], folder: Path) -> None:
    with scratch_folder(folder) as running:
        shutil.copytree(running.parent, folder / ".vidact-0123456789abcdef")  # as a killed process leaves it
        (folder / ".my-notes").mkdir()
        _decode(windows, folder)
        assert sorted(path.name for path in folder.glob(".*-*")) == sorted([running.parent.name, ".my-notes"])


def test_what_a_user_has_put_among_windows_stays(windows: list[Window], folder: Path) -> None:
    (entry,) = {found.folder for found in (_decode(windows, folder),)}
    (entry / "index.json").write_text("damaged")
    (entry / "thesis.txt").write_text("mine")
    with pytest.raises(EnvironmentProblem, match="cannot be kept there"):
        _decode(windows, folder)
    assert (entry / "thesis.txt").read_text() == "mine"


def test_the_limit_is_kept_before_anything_is_decoded(
    windows: list[Window], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _decode(windows, folder)
    monkeypatch.setattr("vidact.data.loading.windows.read_frames", None)
    message = (
        r"8 windows of 4 frames, 100x100 pixels, decoded, need 0\.3 MB, the cache's limit is 0\.3 MB and 0\.0 MB of it "
        r"are in use: raise --data.cache_gigabytes .*, use fewer windows or smaller frames, or remove the old ones: "
        r"rm -r .*windows"
    )
    with pytest.raises(ConfigError, match=message):
        _decode(windows, folder, size=(100, 100), limit_bytes=320_001)
    assert not list(folder.glob(".*-*"))
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


def test_an_array_that_is_there_is_used_whatever_the_limit(windows: list[Window], folder: Path) -> None:
    _decode(windows, folder)
    _decode(windows, folder, limit_bytes=1)


def test_a_disk_without_room_is_named_before_anything_is_decoded(
    windows: list[Window], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidact.data.loading.windows.read_frames", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 5000))  # type: ignore[attr-defined]
    with pytest.raises(EnvironmentProblem, match=r"need 0\.0 MB, .* has 0\.0 MB free: set VIDACT_CACHE"):
        _decode(windows, folder)


def test_a_disk_that_fills_up_is_named_and_nothing_stays(
    windows: list[Window], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(file: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(decoded_module, "flush_file", fill_up)
    with pytest.raises(EnvironmentProblem, match=r"cannot be kept there \(No space left on device\); set VIDACT_CACHE"):
        _decode(windows, folder)
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_made_is_named(windows: list[Window], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match=r"file/windows: decoded windows cannot be kept there \(.*directory"):
        _decode(windows, tmp_path / "file" / "windows")


def _cut(entry: Path) -> None:
    path = entry / "video.npy"
    path.write_bytes(path.read_bytes()[:-1])


def _empty(entry: Path) -> None:
    (entry / "video.npy").write_bytes(b"")


def _garbage(entry: Path) -> None:
    (entry / "index.json").write_bytes(b"\xff\x00garbage")


def _another(entry: Path) -> None:
    index = json.loads((entry / "index.json").read_text())
    (entry / "index.json").write_text(json.dumps(index | {"key": "0"}))


def _no_index(entry: Path) -> None:
    (entry / "index.json").unlink()


def _other_shape(entry: Path) -> None:
    np.save(entry / "video.npy", np.zeros((8, 1, 4, 6, 6), np.uint8))


@pytest.mark.parametrize("damage", [_cut, _empty, _garbage, _another, _no_index, _other_shape])
def test_a_damaged_array_is_made_again_and_reported_once(
    windows: list[Window], folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    first = _decode(windows, folder)
    expected = _pixels(first, windows)
    damage(first.folder)
    with caplog.at_level(logging.WARNING):
        again = _decode(windows, folder)
        _decode(windows, folder)
    assert np.array_equal(_pixels(again, windows), expected)
    assert [record.getMessage() for record in caplog.records] == [
        f"{first.folder}: the decoded windows are damaged; decoding them again"
    ]


def test_a_clip_that_cannot_be_decoded_is_skipped_and_named(
    windows: list[Window], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its windows have no row; the data set tries the file, and says at each epoch why it has no pixels."""
    windows[2].clip.path.write_bytes(b"garbage")
    with caplog.at_level(logging.WARNING):
        decoded = _decode(windows, folder)
    assert "2 of 8 windows cannot be decoded; the first: wave/clip 1: " in caplog.text
    for found in (decoded, _decode(windows, folder)):
        assert [row is None for row in found.rows_of(windows)] == [index in (2, 3) for index in range(8)]
        rest = [*windows[:2], *windows[4:]]
        assert np.array_equal(_pixels(found, rest), _live(rest))
    dataset = WindowDataset(windows, size=SIZE, gray=True, decoded=decoded)
    batch = join(dataset.__getitems__(range(8)))
    assert batch.window_index.tolist() == [0, 1, 4, 5, 6, 7]
    assert len(batch.left_out) == 2
    assert "wave/clip 1: " in batch.left_out[0]


def test_a_clip_that_is_gone_is_skipped(windows: list[Window], folder: Path) -> None:
    windows[0].clip.path.unlink()
    rows = _decode(windows, folder).rows_of(windows)
    assert [row is None for row in rows] == [True] * 2 + [False] * 6
