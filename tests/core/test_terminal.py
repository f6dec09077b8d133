"""Whatever names files have, output escapes them for terminals and spreadsheets, and readers may stop early."""

import csv
import io
import json
import math
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.cli.main import main
from vidact.core.errors import DataError
from vidact.core.terminal import escape_cell, escape_row, printable, printable_json, printable_lines, unescape_cell
from vidact.data.datasets.index import index_clips
from vidact.data.video.reading import write_video

EVIL = "\x1b[2Jx\r\x9b31m\n\u202e\x7f\x00"
VERBS = ("explain", "report", "evaluate", "accuracy", "inspect")
DATA_VERBS = ("check", "split", "frames", "download", "transcode", "synthesize")


def is_control(character: str) -> bool:
    """Say so by Unicode's own tables."""
    return unicodedata.category(character) in {"Cc", "Zl", "Zp"} or unicodedata.bidirectional(character) in {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    }


@given(st.text())
def test_no_control_character_is_printed_and_everything_else_is(text: str) -> None:
    shown = printable(text)
    assert not any(map(is_control, shown))
    assert printable(shown) == shown
    if not any(map(is_control, text)):
        assert shown == text


@given(st.lists(st.text(), max_size=4))
def test_lines_stay_as_many_as_they_are(lines: list[str]) -> None:
    assert len(printable_lines(lines).split("\n")) == max(1, len(lines))


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_the_same_json(record: dict[str, str]) -> None:
    shown = printable_json(json.dumps(record, indent=1, ensure_ascii=False))
    assert json.loads(shown) == record
    assert not any(is_control(character) for character in shown if character != "\n")


def test_an_error_is_one_line_whatever_a_file_is_called() -> None:
    assert str(DataError(f"{EVIL}: bad")) == r"\x1b[2Jx\r\x9b31m\n\u202e\x7f\x00: bad"
    assert f"{DataError(EVIL)}" == printable(EVIL)


FORMULAS = ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''=1", "＝1", "-foo"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_is_no_formula(text: str) -> None:
    assert escape_cell(text) == f"'{text}"
    assert unescape_cell(escape_cell(text)) == text


@given(st.one_of(st.text(), st.text("'=+-@\t\r0.5", max_size=6)))
def test_a_cell_is_read_as_it_was_written(text: str) -> None:
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    if cell[:1] and cell[0] in "=+-@\t\r\n":
        assert math.isfinite(float(cell)) or cell.lstrip("+-").lower() in {"inf", "infinity", "nan"}


@pytest.mark.parametrize("value", [-0.5, 0, None, True, "-0.5", "+1e-3", "-12", "", "run", "a=b", "'", "it's"])
def test_numbers_and_other_cells_stay(value: object) -> None:
    assert escape_cell(value) is value


def test_columns_are_cells_as_well() -> None:
    assert escape_row({"=a": "=b", "c": -1.0}) == {"'=a": "'=b", "c": -1.0}


@pytest.fixture
def evil_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set whose classes and clips have evil names."""
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path / "cache"))
    frames = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    for class_name in ("=run", "wa\x1b[2Jve"):
        for name in ("-1+1", "\x1b]0;owned\x07\nvidact: fine", "@x"):
            (tmp_path / "set" / class_name).mkdir(parents=True, exist_ok=True)
            write_video(tmp_path / "set" / class_name / f"{name}.avi", frames, fps=25)
    (tmp_path / "set" / "=run" / "\x1bbad.avi").write_text("no video")
    return tmp_path / "set"


def test_verbs_show_evil_names_as_they_are_and_tables_hold_no_formula(
    evil_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    main(["data", "check", str(evil_set), "--table", str(table), "--num-frames", "4", "--stride", "1"])
    main(["data", "check", str(evil_set), "--json"])
    main(["data", "split", str(evil_set), "--scheme", "clip", "--out", str(tmp_path / "split.json")])
    main(["data", "transcode", str(evil_set), str(tmp_path / "small\x1b")])
    main(["data", "check", f"{evil_set}\x1b[2J\nfine"])
    found = capsys.readouterr()
    assert r"\x1bbad" in found.out
    assert r"\x1b[2J\nfine: no such folder" in found.err
    assert not any(is_control(character) for character in found.out + found.err if character not in "\n\r")
    assert "\x1b" not in found.out + found.err
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"), newline="")))
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]
    assert {unescape_cell(row["class"]) for row in rows} == {"=run", "wa\x1b[2Jve"}
    with pytest.raises(DataError, match="without control characters"):  # of a class; they do not become folders' names
        index_clips(table)
    with (tmp_path / "run.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["class"] == "'=run")
    assert [clip.class_name for clip in index_clips(tmp_path / "run.csv")] == ["=run"] * 4, "read back as a data set"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vidact.cli.main import main\n"
        "for words in sys.argv[1:]:\n"
        "    try: main([*words.split(), '--help'])\n"
        "    except SystemExit: pass\n"
        "    heavy = {'torch', 'lightning', 'zennit', 'torchvision', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
    )
    verbs = [*VERBS, *(f"data {verb}" for verb in DATA_VERBS)]
    found = subprocess.run([sys.executable, "-c", code, *verbs], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert [verb for verb in verbs if f"python -m vidact {verb}" not in found.stdout] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="other pipes")
def test_who_reads_no_further_ends_nothing(evil_set: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vidact", "data", "split", evil_set, "--scheme", "kfold", "--num-folds", "3"]
    command += ["--out", tmp_path / "fold.json"]
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    told = child.stderr.read().decode()
    child.stderr.close()
    assert child.wait() == 0, told
    assert "Traceback" not in told
    assert "BrokenPipe" not in told
    assert sorted(path.name for path in tmp_path.glob("fold_*")) == ["fold_1.json", "fold_2.json", "fold_3.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_behind_the_output_is_reported() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "vidact", "--version"]
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 3
    assert found.stderr == "vidact: error: the output cannot be written (No space left on device)\n"
