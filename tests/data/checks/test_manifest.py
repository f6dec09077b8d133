import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import EnvironmentProblem
from vidact.data.checks import manifest as module
from vidact.data.checks.manifest import Manifest, Row, stamp_of
from vidact.data.video.containers import file_sha1
from vidact.data.video.verdicts import Inspection, Verdict, VideoInfo

INFO = VideoInfo(num_frames=5, header_frames=6, width=64, height=48, fps=29.97, codec="mpeg4")


def _row(number: int = 0) -> Row:
    return Row((100 + number, 2**60 + number), Inspection(Verdict.OK, info=INFO, sha1=f"{number:040x}"))


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path / "cache"))
    return Manifest(tmp_path)


@given(
    verdict=st.sampled_from(Verdict),
    reason=st.text(),
    info=st.none() | st.just(INFO),
    hashes=st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=5),
)
def test_an_inspection_survives_json(
    verdict: Verdict, reason: str, info: VideoInfo | None, hashes: list[int | None]
) -> None:
    inspection = Inspection(verdict, reason, info, frame_hashes=tuple(hashes))
    assert Inspection.from_record(json.loads(json.dumps(inspection.record()))) == inspection


def test_rows_are_read_back_sorted_and_as_they_were(manifest: Manifest) -> None:
    names = ["b/ü [1].avi", "a/-x.avi", "a/\n.avi"]
    with manifest.updating() as update:
        for number, name in enumerate(names):
            update.add(name, _row(number))
    assert manifest.read() == {name: _row(number) for number, name in enumerate(names)}
    lines = manifest.path.read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines[1:]] == sorted(names)


def test_the_order_of_measuring_leaves_no_trace(manifest: Manifest) -> None:
    contents = []
    for order in ([0, 1, 2], [2, 0, 1]):
        manifest.path.unlink(missing_ok=True)
        with manifest.updating() as update:
            for number in order:
                update.add(str(number), _row(number))
        contents.append(manifest.path.read_bytes())
    assert contents[0] == contents[1]


class _Killed(BaseException):
    pass


def _add_and_die(manifest: Manifest, rows: dict[str, Row]) -> None:
    with manifest.updating() as update:
        for name, row in rows.items():
            update.add(name, row)
        raise _Killed


def test_what_was_added_before_an_end_is_kept(manifest: Manifest) -> None:
    with pytest.raises(_Killed):
        _add_and_die(manifest, {"a": _row(1)})
    assert manifest.read() == {"a": _row(1)}
    with manifest.updating() as update:
        assert update.rows == {"a": _row(1)}
        update.add("b", _row(2))
    assert manifest.read() == {"a": _row(1), "b": _row(2)}
    assert [path.suffix for path in manifest.path.parent.iterdir() if path.suffix != ".lock"] == [".jsonl"]


def test_a_torn_last_line_is_measured_again(manifest: Manifest) -> None:
    with pytest.raises(_Killed):
        _add_and_die(manifest, {str(number): _row(number) for number in range(3)})
    journal = manifest.path.with_suffix(".journal")
    whole = journal.read_bytes()
    lengths = [len(line) for line in whole.splitlines(keepends=True)]
    for kept in range(0, len(whole), 7):
        journal.write_bytes(whole[:kept])
        complete = sum(sum(lengths[: number + 1]) - 1 <= kept for number in range(1, 4))  # but for the line's end
        assert manifest.read() == {str(number): _row(number) for number in range(complete)}


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b"\xff\xfe\n", b'{"vidact_manifest": 1}\n{}\n'])
def test_a_manifest_that_is_not_ours_is_made_anew(manifest: Manifest, content: bytes) -> None:
    manifest.path.parent.mkdir(parents=True)
    manifest.path.write_bytes(content)
    assert manifest.read() == {}
    with manifest.updating() as update:
        update.add("a", _row())
    assert manifest.read() == {"a": _row()}


def test_what_other_decoders_measured_is_not_trusted(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    with manifest.updating() as update:
        update.add("a", _row())
    monkeypatch.setattr(module, "version", lambda name: "0")
    assert Manifest(manifest.root).read() == {}


def test_each_data_set_has_its_own(tmp_path: Path) -> None:
    assert Manifest(tmp_path / "a").path != Manifest(tmp_path / "b").path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    path.write_bytes(b"content")
    return path


def _row_of(file: Path, **changes: object) -> Row:
    values: dict[str, object] = {"verdict": Verdict.OK, "sha1": file_sha1(file)} | changes
    return Row(stamp_of(file), Inspection(**values))  # type: ignore[arg-type]


def test_the_same_size_and_time_are_trusted(file: Path) -> None:
    row = _row_of(file, sha1="never looked at")
    assert row.if_current(file, time_limit_seconds=60.0) is row


def test_a_touched_file_keeps_its_measures_under_a_new_stamp(file: Path) -> None:
    row = _row_of(file)
    os.utime(file, ns=(1, 1))
    held = row.if_current(file, time_limit_seconds=60.0)
    assert held == Row((7, 1), row.inspection)


@pytest.mark.parametrize("content", [b"CONTENT", b"longer content"])
def test_a_changed_file_is_measured_again(file: Path, content: bytes) -> None:
    row = _row_of(file)
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    assert row.if_current(file, time_limit_seconds=60.0) is None


@pytest.mark.parametrize(("limit", "trusted"), [(5.0, True), (10.0, True), (10.5, False)])
def test_a_time_out_is_tried_again_with_more_time_only(file: Path, limit: float, trusted: bool) -> None:
    row = _row_of(file, verdict=Verdict.TIME_OUT, time_limit_seconds=10.0)
    assert (row.if_current(file, time_limit_seconds=limit) is not None) == trusted


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path / "file"))
    with (
        pytest.raises(EnvironmentProblem, match="cannot be written .* set VIDACT_CACHE"),
        Manifest(tmp_path).updating(),
    ):
        pass


# Without torch and Lightning, whose import takes seconds and which are not what is tested here.
HOLDER = """
import sys
from unittest.mock import MagicMock
for heavy in ("vidact.core.errors", "lightning", "lightning.pytorch", "lightning.pytorch.utilities"):
    sys.modules[heavy] = MagicMock()
from pathlib import Path
from vidact.data.checks.manifest import Manifest
from vidact.data.video.verdicts import Inspection, Verdict
from vidact.data.checks.manifest import Row
with Manifest(Path(sys.argv[1])).updating() as update:
    update.add("theirs", Row((1, 1), Inspection(Verdict.OK)))
    print("holding", flush=True)
    sys.stdin.readline()
    update.add("last", Row((1, 1), Inspection(Verdict.OK)))
"""


def test_the_second_waits_and_finds_the_rows_of_the_first(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "holding\n"
        locked = module.locked

        def let_go_then_lock(path: Path, *, waiting: str) -> AbstractContextManager[None]:
            assert str(tmp_path) in waiting
            first.stdin.close()  # type: ignore[union-attr]  # only now may the first one go on
            return locked(path, waiting=waiting)

        monkeypatch.setattr(module, "locked", let_go_then_lock)
        with manifest.updating() as update:
            assert set(update.rows) == {"theirs", "last"}
