import contextlib
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer, serve_files
from rar_writer import RarEntry, rar_bytes

from vidact.core.errors import ConfigError, DataError, EnvironmentProblem
from vidact.core.folders import scratch_folder
from vidact.data.datasets.hmdb51 import read_official_split
from vidact.data.datasets.index import index_clips
from vidact.data.download import hmdb51 as hmdb51_download
from vidact.data.download.hmdb51 import Hmdb51Folders, download_hmdb51
from vidact.data.download.hmdb51_mirrors import CLASS_NAMES, NUM_CLIPS, Mirrors
from vidact.data.download.transfer import Patience
from vidact.data.splits.files import find_official_folder

CLASSES = ["jump", "run", "wave"]
CLIPS = {
    name: {f"[x] {name}_f_cm_np1_fr_med_{i}.avi": random.Random(f"{name}{i}").randbytes(40_000) for i in range(4)}
    for name in CLASSES
}
SPLITS = {
    f"{name}_test_split{fold}.txt": "".join(f"{clip} {1 + (i + fold) % 2} \n" for i, clip in enumerate(CLIPS[name]))
    for name in CLASSES
    for fold in (1, 2, 3)
}
INNER = {name: rar_bytes({f"{name}/{clip}": data for clip, data in CLIPS[name].items()}) for name in CLASSES}
VIDEOS_RAR = rar_bytes({f"{name}.rar": data for name, data in INNER.items()})
SPLITS_RAR = rar_bytes({f"testTrainMulti_7030_splits/{name}": text.encode() for name, text in SPLITS.items()})
WHOLE = {f"videos/{name}/{clip}": data for name in CLASSES for clip, data in CLIPS[name].items()}
WHOLE |= {f"splits/{name}": text.encode() for name, text in SPLITS.items()}
BOOKS = {".download.lock", ".downloaded.json"}
ARCHIVES = {"archives/hmdb51_org.rar": VIDEOS_RAR, "archives/test_train_splits.rar": SPLITS_RAR}

Get = Callable[..., Hmdb51Folders]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serve the archives; what is made up here has none of the real checksums."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("_VIDEOS", "_SPLITS"):
        known = [replace(s, md5=None, sha256=None, num_bytes=None) for s in getattr(hmdb51_download, name)]
        monkeypatch.setattr(hmdb51_download, name, tuple(known))
    with serve_files() as running:
        running.put("hmdb51_org.rar", VIDEOS_RAR)
        running.put("test_train_splits.rar", SPLITS_RAR)
        yield running


@pytest.fixture
def get(server: FileServer, tmp_path: Path) -> Get:
    return functools.partial(
        download_hmdb51,
        tmp_path / "hmdb51",
        mirrors=Mirrors((f"{server.url}/",), builtin=False),
        classes=CLASSES,
        patience=Patience(attempts=3, pause_seconds=0.0, timeout_seconds=20.0),
    )


def files_in(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in BOOKS]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def make_zip(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.read_bytes()


def test_the_classes_are_those_of_the_official_split_files(hmdb51: Path) -> None:
    files = (hmdb51 / "splits").glob("*_test_split1.txt")
    assert sorted(path.name.removesuffix("_test_split1.txt") for path in files) == list(CLASS_NAMES)
    assert len(read_official_split(hmdb51 / "splits", fold=1, class_names=CLASS_NAMES)) == NUM_CLIPS


def test_a_rar_of_rars_becomes_folders_that_the_readers_know(get: Get, tmp_path: Path) -> None:
    got = get()
    assert (got.num_classes, got.num_clips) == (3, 12)
    assert files_in(tmp_path / "hmdb51") == WHOLE | ARCHIVES
    assert got.archives == tmp_path / "hmdb51" / "archives"
    assert len(index_clips(tmp_path / "hmdb51", classes=CLASSES)) == 12
    assert find_official_folder(tmp_path / "hmdb51") == got.splits


def test_the_archives_go_if_they_are_not_wanted(get: Get, tmp_path: Path) -> None:
    assert get(keep_archives=False).archives is None
    assert files_in(tmp_path / "hmdb51") == WHOLE


def test_a_second_run_asks_for_nothing(get: Get, server: FileServer, tmp_path: Path) -> None:
    get(keep_archives=False)
    server.asked.clear()
    assert get().num_clips == 12
    assert server.asked == []


def test_other_classes_come_from_the_same_archive(get: Get, server: FileServer, tmp_path: Path) -> None:
    assert get(classes=["run"]).num_clips == 4
    assert sorted(path.name for path in (tmp_path / "hmdb51" / "videos").iterdir()) == ["run"]
    server.asked.clear()
    assert get(classes=["wave", "run", "wave"]).num_clips == 8
    assert server.asked == []


def test_progress_tells_bytes_and_classes(get: Get) -> None:
    told: list[tuple[str, int, int]] = []
    get(progress=lambda *what: told.append(what))
    assert list(dict.fromkeys(what for what, _, _ in told)) == ["test_train_splits.rar", "hmdb51_org.rar", "unpacking"]
    assert [done for what, done, _ in told if what == "unpacking"] == [0, 1, 2, 3]
    assert ("hmdb51_org.rar", len(VIDEOS_RAR), len(VIDEOS_RAR)) in told


@pytest.mark.parametrize("layout", ["{}/{}", "hmdb51/{}/{}", "{0}/{0}/{1}"])
def test_a_zip_of_class_folders_does_as_well(get: Get, server: FileServer, tmp_path: Path, layout: str) -> None:
    videos = {layout.format(name, clip): data for name in CLASSES for clip, data in CLIPS[name].items()}
    videos |= {"__MACOSX/run/._x.avi": b"junk", "readme.txt": b"about", "run/": b""}
    server.files.clear()
    server.put("hmdb51_org.zip", make_zip(tmp_path / "v.zip", videos))
    server.put("test_train_splits.zip", make_zip(tmp_path / "s.zip", {f"x/{n}": t.encode() for n, t in SPLITS.items()}))
    get(keep_archives=False)
    assert files_in(tmp_path / "hmdb51") == WHOLE


def test_without_the_package_a_zip_is_taken(
    get: Get, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rarfile", None)
    with pytest.raises(EnvironmentProblem, match=r"zip: the server answered 404 .*; not tried: .*vidact\[download\]"):
        get()
    assert not any("rar" in asked.path for asked in server.asked)
    splits = {name: text.encode() for name, text in SPLITS.items()}
    server.put("test_train_splits.zip", make_zip(tmp_path / "s.zip", splits))
    server.put(
        "hmdb51_org.zip", make_zip(tmp_path / "v.zip", {name.removeprefix("videos/"): WHOLE[name] for name in WHOLE})
    )
    get(keep_archives=False)
    assert files_in(tmp_path / "hmdb51") == WHOLE


def test_an_archive_that_a_user_put_there_is_taken(get: Get, server: FileServer, tmp_path: Path) -> None:
    for name, content in ARCHIVES.items():
        (tmp_path / "hmdb51" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hmdb51" / name).write_bytes(content)
    get()
    assert server.asked == []
    assert files_in(tmp_path / "hmdb51") == WHOLE | ARCHIVES


def test_a_hostile_class_archive_leaves_no_trace_outside(get: Get, server: FileServer, tmp_path: Path) -> None:
    evil = rar_bytes({"run/a.avi": b"a", "run/../../../../evil.avi": b"evil"})
    server.put("hmdb51_org.rar", rar_bytes({"jump.rar": INNER["jump"], "run.rar": evil, "wave.rar": INNER["wave"]}))
    with pytest.raises(DataError, match=r"hmdb51_org.rar, run.rar: entry 'run/../../../../evil.avi' has a path that"):
        get()
    assert not list(tmp_path.parent.rglob("evil.avi"))
    assert [path.name for path in (tmp_path / "hmdb51" / "videos").iterdir()] == ["jump"]


def test_a_damaged_clip_is_named(get: Get, server: FileServer) -> None:
    broken = rar_bytes([RarEntry("run/a.avi", b"data", crc=1)])
    server.put("hmdb51_org.rar", rar_bytes({"jump.rar": INNER["jump"], "run.rar": broken, "wave.rar": INNER["wave"]}))
    with pytest.raises(DataError, match=r"hmdb51_org.rar, run.rar, entry run/a.avi: damaged"):
        get()


def test_a_missing_class_is_reported(get: Get, server: FileServer) -> None:
    server.put("hmdb51_org.rar", rar_bytes({"run.rar": INNER["run"]}))
    with pytest.raises(DataError, match=r"hmdb51_org.rar: holds neither clips nor an archive of jump, wave"):
        get()


def test_missing_split_files_are_reported(get: Get, server: FileServer) -> None:
    inner = {f"{name}.rar": data for name, data in INNER.items()} | {"golf.rar": rar_bytes({"golf/g.avi": b"g"})}
    server.put("hmdb51_org.rar", rar_bytes(inner))
    with pytest.raises(DataError, match=r"splits: 3 of 6 files are missing \(golf_test_split1.txt, .*\); delete"):
        get(classes=["run", "golf"])


def test_what_killed_runs_left_goes_in_the_end(get: Get, tmp_path: Path) -> None:
    for parent in ("", "videos"):
        with scratch_folder(tmp_path / "hmdb51" / parent) as room:
            (room / "half.avi").write_bytes(b"half")
            shutil.copytree(room.parent, room.parents[1] / ".vidact-0123456789abcdef")
    (tmp_path / "hmdb51" / "archives").mkdir()
    (tmp_path / "hmdb51" / "archives" / ".hmdb51_org.rar.0123456789ab.part.json").write_bytes(b"half")
    get()
    assert files_in(tmp_path / "hmdb51") == WHOLE | ARCHIVES


@pytest.mark.parametrize("keep", [True, False])
def test_what_a_user_has_put_there_stays(get: Get, tmp_path: Path, keep: bool) -> None:
    folder = tmp_path / "hmdb51"
    mine = {
        "archives/test_train_splits.rar": SPLITS_RAR,
        **dict.fromkeys(
            ("archives/thesis.txt", "archives/.hmdb51_org.rar.mine.part", "archives/.notes.part1"), b"mine"
        ),
        **dict.fromkeys(("videos/.run.part/notes.txt", "videos/.run.rar.part", "videos/.vidact-mine/lock"), b"mine"),
    }
    for name, content in mine.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    get(keep_archives=keep)
    assert files_in(folder) == WHOLE | mine | (ARCHIVES if keep else {})


def test_an_archive_that_replaced_a_downloaded_one_stays(get: Get, tmp_path: Path) -> None:
    get()
    path = tmp_path / "hmdb51" / "archives" / "hmdb51_org.rar"
    path.write_bytes(b"another, with its 4 GB")
    get(keep_archives=False)
    assert files_in(tmp_path / "hmdb51") == WHOLE | {"archives/hmdb51_org.rar": b"another, with its 4 GB"}


def test_archives_of_an_earlier_call_go_as_well(get: Get, tmp_path: Path) -> None:
    get()
    get(keep_archives=False)
    assert not (tmp_path / "hmdb51" / "archives").exists()


def test_a_clip_that_the_split_files_name_is_missed(get: Get, tmp_path: Path) -> None:
    get()
    gone = next(iter(CLIPS["run"]))
    (tmp_path / "hmdb51" / "videos" / "run" / gone).unlink()
    with pytest.raises(DataError, match=r"videos: 1 of 12 files are missing \(run/\[x\] run_f_cm_np1_fr_med_0.avi\)"):
        get()


def test_all_classes_must_be_as_many_as_hmdb51_has(get: Get) -> None:
    with pytest.raises(DataError, match=r"holds neither clips nor an archive of brush_hair, cartwheel"):
        get(classes=None)


def test_an_unknown_class_gets_the_nearest_names(get: Get, server: FileServer) -> None:
    with pytest.raises(ConfigError, match="'jumping' is not in HMDB51; nearest: .*jump"):
        get(classes=["jumping"])
    assert server.asked == []


def test_two_downloads_into_one_folder_do_not_meet(get: Get, tmp_path: Path) -> None:
    def second(what: str, done: int, total: int) -> None:
        with pytest.raises(EnvironmentProblem, match="another download into this folder is running"):
            get()

    get(progress=second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_line_it_ends_with_the_same_files(server: FileServer, tmp_path: Path) -> None:
    server.files["/hmdb51_org.rar"].cuts = [20_000] * 10_000
    rng = random.Random(0)
    kills = 0
    with start_program() as run:
        undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
        killed, status, num_lines = run(str(undisturbed), server.url, CLASSES, None)
        assert (killed, status) == (False, 0)
        expected = files_in(undisturbed)
        limit = num_lines // 15
        while True:
            killed, status, _ = run(str(folder), server.url, CLASSES, rng.randint(1, limit))
            if not killed:
                break
            kills += 1
            limit += num_lines // 50  # a class that is unpacked anew needs more lines than the others
            for name, content in visible_files_in(folder).items():
                assert content == expected[name]
            for whole in ("splits", *(f"videos/{name}" for name in CLASSES)):
                if (folder / whole).exists():
                    assert files_in(folder / whole) == files_in(undisturbed / whole)
    assert status == 0
    assert kills >= 10
    assert files_in(folder) == expected == WHOLE | ARCHIVES


def visible_files_in(folder: Path) -> dict[str, bytes]:
    files = files_in(folder).items()
    return {name: data for name, data in files if not any(part.startswith(".") for part in name.split("/"))}


@contextlib.contextmanager
def start_program() -> Iterator[Callable[..., tuple[bool, int, int]]]:
    program = Path(__file__).parents[2] / "support" / "killed_download.py"
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*order: object) -> tuple[bool, int, int]:
            process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            killed, status, num_lines = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            return killed, status, num_lines

        yield run
        process.stdin.close()
