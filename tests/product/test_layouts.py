"""Data sets as people have them, from the command line: folders of sides, tables, Kinetics' own files."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vidact.cli.main import main
from vidact.cli.run_end import one_line_a_clip

CLASSES = ("left", "right", "up")
TINY = ["--data.num_frames", "4", "--data.size", "16", "--data.batch_size", "9", "--data.num_workers", "0"]
TINY += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
TINY += ["--relevance.every_n_epochs", "0", "--report", "false"]
RUN = Path("runs/version_0")

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore")]


def _clips(small_set: Path) -> list[tuple[str, Path, str]]:
    """List class, file and side: six, two and two of each class."""
    sides = ("train",) * 6 + ("val",) * 2 + ("test",) * 2
    files = {name: sorted((small_set / "videos" / name).iterdir()) for name in CLASSES}
    return [(name, path, side) for name in CLASSES for path, side in zip(files[name], sides, strict=True)]


def _nested(small_set: Path) -> None:
    for name, path, side in _clips(small_set):
        place = Path("nested", side, name, path.name.split("_")[0] + path.suffix)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)


def _table(small_set: Path) -> None:
    rows = [f"{path},{name},{side}" for name, path, side in _clips(small_set)]
    Path("clips.csv").write_text("\n".join(["path,class,split", *rows, ""]))


def _kinetics(small_set: Path) -> None:
    rows = []
    for number, (name, path, side) in enumerate(_clips(small_set)):
        rows.append(f"{name},id{number:09},{number},{number + 10},{side}")
        Path("kinetics").mkdir(exist_ok=True)
        if number % 10 != 2:
            Path("kinetics", f"id{number:09}_{number:06}_{number + 10:06}.avi").symlink_to(path)
    Path("kinetics/all.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows, ""]))


@pytest.mark.parametrize(
    ("make", "root", "scheme"),
    [(_nested, "nested", "folders"), (_table, "clips.csv", "table"), (_kinetics, "kinetics/all.csv", "table")],
)
def test_the_data_sets_own_split_is_the_one_that_is_trained_on(
    make: Callable[[Path], None], root: str, scheme: str, small_set: Path
) -> None:
    make(small_set)
    links = ["--data.follow_links", "true"]
    assert main(["data", "split", root, "--out", "split.json", "--follow_links", "true"]) == 0
    assert main(["fit", "--data.root", root, *TINY, *links]) == 0
    written, kept = (json.loads(path.read_text()) for path in (Path("split.json"), RUN / "split.json"))
    assert kept.pop("sha1")
    assert kept == written
    assert kept["scheme"] == scheme
    assert [len(kept[side]) for side in ("training", "validation", "test", "unused")] == [18, 6, 6, 0]
    left_out = RUN / "left_out.txt"
    assert (len(left_out.read_text().splitlines()) if left_out.exists() else 0) == 3 * (make is _kinetics)


@pytest.mark.parametrize("column", [True, False])
def test_the_advice_to_a_recipe_that_wants_official_files_works(
    small_set: Path, capsys: pytest.CaptureFixture[str], column: bool
) -> None:
    _table(small_set)
    if not column:
        text = Path("clips.csv").read_text()
        Path("clips.csv").write_text(re.sub(",(split|train|val|test)$", "", text, flags=re.MULTILINE))
    fit = ["fit", "--config", "hmdb51", "--data.root", "clips.csv", *TINY]
    assert main(fit) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vidact: error: ")]
    advice = line.partition("; try ")[2].split()
    assert advice == ["--data.split", "table" if column else "source"]
    assert main([*fit, *advice]) == 0


def test_a_column_that_is_not_used_is_named_once(small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _table(small_set)
    assert main(["data", "split", "clips.csv", "--scheme", "source", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["scheme"] == "source"
    assert said.err.count("clips.csv: not used: column 'split' (--scheme table uses it)") == 1


def test_a_clip_with_several_windows_is_left_out_once() -> None:
    class Data:
        @property
        def split_record(self) -> dict[str, list[str]]:
            return {"training": ["a/x", "a/x: 1"], "validation": [], "test": ["b/y"], "unused": ["c/z"]}

    lines = [
        "a/x: frame 3 is gone",
        "a/x: frame 9 is gone",
        "a/x: 1: gone",
        "a/x: 1: gone too",
        "b/y: no: never",
        "c/z: no",
    ]
    kept = ["a/x: 1: gone", "a/x: frame 3 is gone", "b/y: no: never", "c/z: no"]
    assert one_line_a_clip(lines, Data()) == kept
    assert one_line_a_clip(lines, None) == sorted(lines)
