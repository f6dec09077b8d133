"""Examples that an audit keeps, and how a report shows them."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidact.audit.asking import CLEAN, OTHER, SAME
from vidact.audit.output.examples import Example, _write, choose_examples
from vidact.report.findings.audit_view import find_audit

KEY = "background|background"
NAMES = ("run", "jump", "hit")


def _record(number: int, *, label: int, same: int, other: int) -> dict[str, Any]:
    answers = {CLEAN: [(label, -0.1)], f"{KEY}|{SAME}": [(same, -0.1)], f"{KEY}|{OTHER}": [(other, -2.0)]}
    donors = {"background": {SAME: [f"s{number}"], OTHER: [f"o{number}"]}}
    return {"clip": f"c{number}", "label": label, "source": f"v{number // 2}", "answers": answers, "donors": donors}


def test_three_that_flipped_and_three_that_did_not_of_other_sources() -> None:
    records = [
        _record(number, label=number % 3, same=number % 3, other=(number + number // 9) % 3) for number in range(18)
    ]
    records.append(_record(20, label=0, same=1, other=1))
    chosen = choose_examples(records, KEY, class_names=NAMES)
    assert [one.flipped for one in chosen] == [True] * 3 + [False] * 3
    assert all((one.said[1] == one.true) and (one.said[2] == one.true) != one.flipped for one in chosen)
    for half in (chosen[:3], chosen[3:]):
        assert len({int(one.clip[1:]) // 2 for one in half}) == 3
        assert {one.true for one in half} == set(NAMES)
    assert chosen[0].donors == (chosen[0].clip.replace("c", "s"), chosen[0].clip.replace("c", "o"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An audit with one finding, and one example of it."""
    (tmp_path / "audit" / "examples").mkdir(parents=True)
    videos = np.random.default_rng(0).integers(0, 255, (1, 3, 1, 4, 20, 30), dtype=np.uint8)
    _write(
        tmp_path / "audit/examples/background", [Example("c", ("s", "o"), "run", ("run", "run", "jump"), True)], videos
    )
    estimate = {"mean": 0.9, "low": 0.8, "high": 0.95}
    numbers = dict.fromkeys(("lean", "same", "other", "aa", "artefact"), estimate)
    own = {"verdict": "leans", "reason": "because", "says": "the background", "main": "background", "parts": {}}
    content = {
        "run": "r",
        "part": "validation",
        "clips": 9,
        "sources": 3,
        "actor": "moving",
        "notes": [],
        "left_out": ["x: gone"],
        "settings": {"margin": 0.1},
        "accuracy": estimate,
        "sentence": "r: leans on <b>the background</b>",
        "sections": {"background": own | numbers},
        "beside": {"tags": {"sentence": "nothing"}},
    }
    (tmp_path / "audit/audit.json").write_text(json.dumps(content))
    return tmp_path


def test_a_video_shows_the_three_clips(folder: Path) -> None:
    with av.open(str(folder / "audit/examples/background.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4 * 4, "four frames, four times"
    with np.load(folder / "audit/examples/background.npz") as file:
        panel = file["videos"][0, :, 0, 0]
    seen = frames[0][26 + 8 : 26 + 8 + 192, 8 : 8 + 288].mean()  # below the heading, the first of three
    assert abs(seen - panel[0].mean()) < 8


def test_a_report_shows_what_was_found(folder: Path) -> None:
    view, problem = find_audit(folder)
    assert problem == ""
    assert view is not None
    assert view.sentence == "It leans on <b>the background</b>."
    (row,) = view.rows
    assert (row.verdict, row.lean, row.same) == ("leans", "0.90 (0.80 to 0.95)", "90 % (80 % to 95 %)")
    assert row.value == pytest.approx((0.9 + 0.25) / 1.25)
    (triplet,) = view.triplets
    assert triplet.said == ("run", "run", "jump")
    assert triplet.num_frames == 4
    assert view.notes == ("skipped: x: gone",)


@pytest.mark.parametrize("damage", ["{}", "{", '{"sections": {"a": {}}, "settings": {"margin": 0.1}}'])
def test_a_damaged_audit_is_told_and_breaks_no_report(folder: Path, damage: str) -> None:
    (folder / "audit/audit.json").write_text(damage)
    view, problem = find_audit(folder)
    assert view is None
    assert "not what `python -m vidact audit` wrote" in problem


def test_a_damaged_example_is_told(folder: Path) -> None:
    (folder / "audit/examples/background.npz").write_bytes(b"PK\x03\x04")
    view, problem = find_audit(folder)
    assert problem == ""
    assert view is not None
    assert view.rows, "the table is shown all the same"
    assert "examples/background.npz cannot be read" in view.notes[0]
    assert find_audit(None) == find_audit(folder / "nothing") == (None, "")
