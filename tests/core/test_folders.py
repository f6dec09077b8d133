"""Whatever things are named, nothing is written outside of the output folder, and nothing of a user's is removed."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidact.core import folders
from vidact.core.errors import ConfigError, DataError, VidactError
from vidact.core.folders import in_scratch_folder, place_inside, refuse_foreign_file, remove_abandoned, scratch_folder
from vidact.explaining.folder import (
    ALL_FILES,
    COMPARISON,
    OVERLAY,
    RECORD,
    UNFINISHED,
    check_folder,
    put_in_place,
    read_record,
    write_record,
)
from vidact.explaining.jobs import Job, list_jobs

STRANGE = [
    "",
    ".",
    "..",
    "...",
    " ",
    ". .",
    "~",
    "-",
    "a\\b",
    "C:",
    "con",
    "a.",
    "a ",
    "A",
    "a",
    "é",
    "e\u0301",
    "clip",
]
NAMES = st.one_of(st.sampled_from(STRANGE), st.text(st.characters(exclude_characters="/\0", codec="utf-8"), max_size=8))
OWN = sorted(ALL_FILES - {COMPARISON})


def write_all(path: Path, content: str = "mine") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def snapshot(folder: Path) -> dict[str, str]:
    """List all files and links of a tree, with what is in them."""
    found = {}
    for base, names, files in os.walk(folder):
        for path in [Path(base) / name for name in (*names, *files)]:
            if path.is_symlink():
                found[str(path)] = f"-> {path.readlink()}"
            elif path.is_file():
                found[str(path)] = path.read_text()
    return found


def put(job: Job, *, names: list[str] = OWN, sha1: str = "1") -> None:
    """Do what `explain` does, without its pictures."""
    place_inside(job.out, job.folder.relative_to(job.out))
    check_folder(job.folder, is_compared=COMPARISON in names)
    record = {"files": names, "request": {"video_sha1": sha1}}
    with scratch_folder(job.out) as room:
        (part := room / "files").mkdir()
        for name in set(names) - {RECORD}:
            (part / name).write_text(f"explained {sha1}")
        write_record(part / RECORD, record)
        put_in_place(part, job.folder, record)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    videos=st.lists(st.tuples(st.lists(NAMES, max_size=2), NAMES), min_size=1, max_size=5),
    mine=st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=5),
    links=st.lists(
        st.tuples(NAMES, st.sampled_from(["..", ".", "/", "elsewhere", "../elsewhere", "nowhere"])), max_size=3
    ),
    out=st.sampled_from(["out", "videos", ".", "linked"]),
    together=st.booleans(),
)
def test_no_name_leads_out_of_the_output_folder_or_removes_what_was_there(
    videos: list[tuple[list[str], str]], mine: list[list[str]], links: list[tuple[str, str]], out: str, together: bool
) -> None:
    with tempfile.TemporaryDirectory() as own:
        root = Path(own).resolve()
        target = root / "real" if out == "linked" else root / out
        target.mkdir(exist_ok=True)
        if out == "linked":
            (root / "linked").symlink_to("real")
        write_all(root / "elsewhere" / "thesis.txt")
        paths = [root / "videos" / Path(*parts) / f"{stem}.avi" for parts, stem in videos]
        for path in [*paths, *(target / Path(*parts) for parts in mine)]:
            if path.resolve().is_relative_to(root):
                try:
                    write_all(path)
                except OSError:  # a folder is there, or the name is too long
                    continue
        for name, leads in links:
            if not os.path.lexists(target / name):
                (target / name).symlink_to(leads)
        before = snapshot(root)
        there = [str(root / "videos")] if together else [str(path) for path in paths]
        for _ in range(2):
            try:
                jobs = list_jobs(there, root / out)
            except VidactError:
                break
            for job in jobs:
                assert job.folder.resolve().is_relative_to(target)
                assert job.folder.resolve() != target
                try:
                    put(job)
                except VidactError:
                    continue
                assert read_record(job.folder) is not None
        after = snapshot(root)
        assert {path: after.get(path) for path in before} == before
        assert all(Path(path).parent.resolve().is_relative_to(target) for path in set(after) - set(before))
        assert {Path(path).name for path in set(after) - set(before)} <= ALL_FILES


@pytest.mark.parametrize("name", ["...avi", "..avi", ". .avi", "sub/...avi", "sub/..avi"])
@pytest.mark.parametrize("together", [True, False])
def test_a_video_of_which_no_folder_can_be_named_is_refused(tmp_path: Path, name: str, together: bool) -> None:
    write_all(tmp_path / "videos" / name)
    given_name = tmp_path / "videos" / ("" if together else name)
    with pytest.raises(DataError, match=r"no folder can be named '[. ]+', its name without its ending; rename it"):
        list_jobs([str(given_name)], tmp_path / "out")


def test_what_a_user_put_into_a_folder_of_ours_stays(tmp_path: Path) -> None:
    job = Job(tmp_path / "clip.avi", tmp_path / "out" / "clip", tmp_path / "out")
    put(job, names=[*OWN, COMPARISON])
    write_all(job.folder / "notes.txt")
    write_all(job.folder / "clip.avi")
    write_all(job.folder / "more" / OVERLAY)
    put(job, sha1="2")
    assert {path.name for path in job.folder.iterdir()} == {*OWN, "notes.txt", "clip.avi", "more"}, "no comparison"
    assert (job.folder / "notes.txt").read_text() == (job.folder / "clip.avi").read_text() == "mine"
    assert (job.folder / OVERLAY).read_text() == "explained 2"
    write_all(job.folder / COMPARISON)
    with pytest.raises(ConfigError, match=r"comparison.png: is not of the explanation there; move it away"):
        put(job, names=[*OWN, COMPARISON])
    assert (job.folder / COMPARISON).read_text() == "mine"
    put(job, sha1="3")
    assert (job.folder / COMPARISON).read_text() == "mine"


def test_who_is_killed_while_files_are_replaced_leaves_what_the_next_one_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path / "clip.avi", tmp_path / "out" / "clip", tmp_path / "out")
    put(job, names=[*OWN, COMPARISON])
    replace = Path.replace

    def stop(path: Path, target: Path) -> Path:
        if path.name == "heatmap.png":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        put(job, sha1="2")
    monkeypatch.undo()
    record = read_record(job.folder)
    assert record is not None
    assert record[UNFINISHED] is True
    put(job, sha1="2")
    assert read_record(job.folder) == {"files": OWN, "request": {"video_sha1": "2"}}
    assert {(job.folder / name).read_text() for name in OWN if name != RECORD} == {"explained 2"}
    assert {path.name for path in job.folder.iterdir()} == set(OWN)


def test_overlays_of_ours_are_no_videos_and_those_of_others_are(tmp_path: Path) -> None:
    put(Job(tmp_path / "clip.avi", tmp_path / "clip", tmp_path))
    write_all(tmp_path / "mine" / OVERLAY)
    write_all(tmp_path / "clip" / "another.mp4")
    with scratch_folder(tmp_path) as room:
        write_all(room / "files" / OVERLAY)
        assert in_scratch_folder(room / "files" / OVERLAY)
        found = [job.path for job in list_jobs([str(tmp_path)], tmp_path)]
    assert found == [tmp_path / "clip" / "another.mp4", tmp_path / "mine" / OVERLAY]


def test_only_scratch_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vidact.core.folders import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])) as room:\n"
        "    (room / 'scratch').mkdir(); (room / 'scratch' / 'half').write_text('x')\n"
        "    print(room.parent, flush=True); time.sleep(600)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    dead, alive = ((child.stdout.readline().strip() if child.stdout else "") for child in started)
    started[0].kill()
    started[0].communicate()
    for name in (".vidact-notes/lock", ".vidact-0123456789abcdef/lock", ".vidact-0123456789abcdef/workshop.json"):
        write_all(tmp_path / name)
    write_all(tmp_path / ".clip-0123456789abcdef" / OVERLAY)
    expected = set(snapshot(tmp_path)) - set(snapshot(Path(dead)))
    with scratch_folder(tmp_path):
        remove_abandoned(tmp_path)
    try:
        assert not Path(dead).exists()
        assert set(snapshot(tmp_path)) == expected
    finally:
        started[1].kill()
        started[1].communicate()
    remove_abandoned(tmp_path)
    assert not Path(alive).exists()


def test_names_that_one_folder_cannot_tell_apart_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one/Run.avi", "two/run.avi"):
        write_all(tmp_path / name)
    videos = [str(tmp_path / "one" / "Run.avi"), str(tmp_path / "two" / "run.avi")]
    is_linux = not folders.folds_case(tmp_path)
    if is_linux:
        assert len(list_jobs(videos, tmp_path / "out")) == 2
    monkeypatch.setattr("vidact.explaining.jobs.folds_case", lambda _: True)
    with pytest.raises(DataError, match="would both be explained in"):
        list_jobs(videos, tmp_path / "out")


@pytest.mark.parametrize("place", ["", ".", "..", "a/../..", "/etc", "a/../b"])
def test_a_place_must_lie_inside(tmp_path: Path, place: str) -> None:
    with pytest.raises(DataError, match="is no folder inside of"):
        place_inside(tmp_path, Path(place))


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"

    def is_ours(path: Path) -> bool:
        return "vidact" in json.loads(path.read_text())

    refuse_foreign_file(path, is_ours)
    path.touch()
    refuse_foreign_file(path, is_ours)
    path.write_text('{"vidact": 1}')
    refuse_foreign_file(path, is_ours)
    for content in ("{}", "no JSON", "5"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"already exists, and this command did not write it; choose ano"):
            refuse_foreign_file(path, is_ours)
    with pytest.raises(ConfigError, match="is a folder; give the name of a file"):
        refuse_foreign_file(tmp_path, is_ours)
