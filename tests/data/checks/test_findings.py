import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vidact.data.checks.findings import COLUMNS, Check, check_clips, judge, write_table
from vidact.data.checks.inspection import inspect_clips
from vidact.data.datasets.hmdb51 import ClipTags
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.video.verdicts import Inspection, Verdict, VideoInfo

INFO = VideoInfo(num_frames=40, header_frames=40, width=64, height=48, fps=30.0, codec="mpeg4")
LOST = {
    *(Verdict.MISSING, Verdict.NOT_A_FILE, Verdict.UNREADABLE, Verdict.EMPTY, Verdict.TIME_OUT, Verdict.CRASHED),
    *(Verdict.NOT_A_VIDEO, Verdict.DAMAGED),
}
NOISE = [0x9E3779B97F4A7C15 * number % 2**64 for number in range(1, 21)]


def _clip(name: str) -> Clip:
    class_name, stem = name.split("/")
    return Clip(Path(f"/set/{name}.avi"), class_name, 0, stem, ClipTags("f", "cm", 1, "fr", "goo"))


def _good(number: int, **changes: object) -> Inspection:
    hashes = tuple(NOISE[5 * number : 5 * number + 5])
    return replace(Inspection(Verdict.OK, info=INFO, sha1=str(number), frame_hashes=hashes), **changes)  # type: ignore[arg-type]


def _check(inspections: dict[str, Inspection], **settings: object) -> Check:
    clips = [_clip(name) for name in inspections]
    measured = {_clip(name).path: inspection for name, inspection in inspections.items()}
    return check_clips(clips, measured, **settings)  # type: ignore[arg-type]


def _verdicts(check: Check) -> dict[str, str]:
    return {finding.clip.clip_id: finding.verdict.value for finding in check.findings}


def test_a_sound_set_has_nothing_to_look_at() -> None:
    check = _check({"run/a": _good(0), "run/b": _good(1)}, least_frames=40)
    assert _verdicts(check) == {"run/a": "ok", "run/b": "ok"}
    assert check.exit_status == 0
    assert check.summary() == ["2 clips; 2 can be used, with 80 frames", "  ok: 2"]


def test_a_clip_that_is_lost_is_a_fault() -> None:
    for verdict in LOST:
        check = _check({"run/a": _good(0), "run/b": Inspection(verdict, "because")})
        assert _verdicts(check)["run/b"] == verdict
        assert check.exit_status == 1
        assert f"  run/b: {verdict.value}: because" in check.summary()


def test_short_clips_and_boastful_headers_are_notes() -> None:
    boastful = _good(1, verdict=Verdict.HEADER_OVERSTATES, reason="40 of the header's 48 frames exist")
    check = _check({"run/a": _good(0), "run/b": boastful}, least_frames=41)
    assert _verdicts(check) == {"run/a": "too_short", "run/b": "header_overstates"}
    assert check.findings[1].verdicts == ("header_overstates", "too_short")
    assert check.findings[1].reason == "40 of the header's 48 frames exist; 40 frames, a window spans 41"
    assert check.exit_status == 0


def test_a_header_that_hides_every_frame_is_a_fault() -> None:
    check = _check({"run/a": Inspection(Verdict.HEADER_OVERSTATES, "claims 4,000,000,000 frames")})
    assert check.exit_status == 1


def test_copies_are_distinguished_from_the_first_by_path() -> None:
    same = {"sha1": "same"}
    found = {"run/c": _good(0, **same), "hit/b": _good(0, **same), "run/a": _good(0, **same), "run/d": _good(1)}
    check = _check(found, sides={"hit/b": "training", "run/a": "test", "run/c": "training"})
    assert _verdicts(check) == {"run/c": "duplicate", "hit/b": "ok", "run/a": "duplicate", "run/d": "ok"}
    assert check.findings[2].reason == "the same bytes as hit/b (training, this one: test)"
    assert check.findings[0].reason == "the same bytes as hit/b"
    assert check.look_alikes == ()  # named once is enough


def test_files_that_were_not_read_are_no_copies_of_each_other() -> None:
    check = _check({"run/a": Inspection(Verdict.EMPTY), "run/b": Inspection(Verdict.EMPTY)})
    assert _verdicts(check) == {"run/a": "empty", "run/b": "empty"}


def _near(number: int) -> Inspection:
    """Looks like the clip of that number, but for four bits of each frame."""
    found = _good(number)
    return replace(found, sha1="other", frame_hashes=tuple((value or 0) ^ 0b1111 for value in found.frame_hashes))


@pytest.mark.parametrize(
    ("sides", "verdict", "pairs"),
    [
        (None, "ok", 1),
        ({"run/a": "training", "run/b": "training"}, "ok", 0),
        ({"run/a": "training", "run/b": "test"}, "near_duplicate", 1),
        ({"run/a": "training"}, "ok", 0),
    ],
)
def test_look_alikes_matter_across_the_split_only(sides: dict[str, str] | None, verdict: str, pairs: int) -> None:
    check = _check({"run/a": _good(0), "run/b": _near(0), "run/c": _good(1)}, sides=sides)
    assert _verdicts(check) == {"run/a": verdict, "run/b": verdict, "run/c": "ok"}
    assert [(pair.first, pair.second, pair.distance_bits) for pair in check.look_alikes] == [
        ("run/a", "run/b", 4.0)
    ] * pairs
    assert check.exit_status == (verdict != "ok")


def test_the_first_verdict_in_their_order_is_given() -> None:
    order = list(Verdict)
    both = {Verdict.DUPLICATE: "twin", Verdict.NEAR_DUPLICATE: "near"}
    cut = _good(0, verdict=Verdict.TRUNCATED, reason="cut")
    assert judge(cut, num_frames=cut.info.num_frames, least_frames=99, reasons=both) == (
        (Verdict.TRUNCATED, Verdict.DUPLICATE, Verdict.NEAR_DUPLICATE, Verdict.TOO_SHORT),
        "cut; twin; near; 40 frames, a window spans 99",
    )
    assert judge(_good(0), num_frames=40, least_frames=99, reasons=both)[0][0] is Verdict.DUPLICATE
    assert order.index(Verdict.TRUNCATED) < order.index(Verdict.DUPLICATE) < order.index(Verdict.NEAR_DUPLICATE)
    assert judge(Inspection(Verdict.EMPTY, "0 bytes"), num_frames=0, least_frames=1, reasons=both) == (
        (Verdict.EMPTY,),
        "0 bytes",
    )


def test_every_verdict_is_ok_a_note_or_a_fault() -> None:
    assert [(verdict is Verdict.OK) + verdict.is_note + verdict.is_fault for verdict in Verdict] == [1] * len(Verdict)


def test_long_lists_are_shortened_but_counted() -> None:
    lines = _check({f"run/{number:03}": Inspection(Verdict.EMPTY, "0 bytes") for number in range(50)}).summary()
    assert "to look at, 50:" in lines
    assert lines[-1] == "  … and 30 more"


def test_the_record_is_plain_json() -> None:
    check = _check({"run/a": _good(0), "run/b": _near(0)}, sides={"run/a": "training", "run/b": "test"})
    record = json.loads(json.dumps(check.record()))
    assert record["exit_status"] == 1
    assert record["verdicts"] == {"near_duplicate": 2}
    assert [clip["path"] for clip in record["clips"]] == ["/set/run/a.avi", "/set/run/b.avi"]
    assert record["look_alikes"][0]["sides"] == ["training", "test"]


def test_the_table_reads_back_as_it_was(tmp_path: Path) -> None:
    reason = 'comma, "quote" and ü'
    check = _check({"run/a": _good(0), "run/b": Inspection(Verdict.DAMAGED, reason, num_bytes=7)})
    write_table(tmp_path / "table.csv", check)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["frames"], row["verdict"], row["reason"]) for row in rows] == [
        ("40", "ok", ""),
        ("0", "damaged", reason),
    ]
    assert rows[0]["tags"] == "f cm 1 fr goo"


def test_a_split_by_source_separates_what_looks_alike(hmdb51: Path) -> None:
    """Clips of one source often show the same scene; a split by clip has them on both sides."""
    clips = [clip for clip in index_clips(hmdb51) if clip.class_name == "catch"][:60]
    found = inspect_clips([clip.path for clip in clips])
    sources = sorted({clip.source for clip in clips})
    names = ("training", "test")
    by_source = {clip.clip_id: names[sources.index(clip.source) % 2] for clip in clips}
    by_clip = {clip.clip_id: names[number % 2] for number, clip in enumerate(clips)}
    apart, mixed = (check_clips(clips, found, sides=sides) for sides in (by_source, by_clip))
    assert (len(apart.look_alikes), apart.exit_status) == (0, 0)
    assert (len(mixed.look_alikes) > 5, mixed.exit_status) == (True, 1)


def test_clips_of_one_file_are_copies_where_they_share_time() -> None:
    def check(times: list[tuple[float | None, float | None]]) -> Check:
        clips = [
            replace(_clip(f"run/{n}"), start_seconds=start, end_seconds=end) for n, (start, end) in enumerate(times)
        ]
        return check_clips(clips, {clip.path: _good(0) for clip in clips})

    assert set(_verdicts(check([(0.0, 0.5), (0.5, None)])).values()) == {"ok"}
    assert list(_verdicts(check([(0.0, 0.6), (0.5, None)])).values()) == ["ok", "duplicate"]
    assert list(_verdicts(check([(0.0, 0.4), (0.5, None), (0.6, None)])).values()) == ["ok", "ok", "duplicate"]


@pytest.mark.parametrize(("other", "verdict"), [("training", "ok"), ("test", "duplicate")])
def test_parts_of_one_file_that_overlap_are_copies_on_two_sides(other: str, verdict: str) -> None:
    first = replace(_clip("run/a"), end_seconds=1.0)
    second = replace(first, class_name="jump", start_seconds=0.5, end_seconds=None)
    sides = {"run/a": "training", "jump/a": other}
    assert _verdicts(check_clips([first, second], {first.path: _good(0)}, sides=sides))["jump/a"] == verdict
    assert _verdicts(check_clips([first, second], {first.path: _good(0)}))["jump/a"] == "ok"


def test_the_frames_of_a_clip_with_times_are_counted_not_those_of_its_file() -> None:
    """0.3 seconds at 30 frames a second are 9 frames; a file counts once, however many clips it holds."""
    first = replace(_clip("run/a"), end_seconds=0.3)
    second = replace(first, class_name="jump", start_seconds=0.3, end_seconds=0.6)
    third = _clip("run/b")
    found = check_clips([first, second, third], {first.path: _good(0), third.path: _good(1)})
    assert found.summary()[0] == "3 clips; 3 can be used, with 58 frames (their files have 80)"
    assert [row["frames"] for row in found.record()["clips"]] == [9, 9, 40]


def test_a_table_that_was_written_names_the_same_parts_of_files(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("path,class,start,end\na.avi,run,0.5,1.5\na.avi,jump,,0.5\nb.avi,run,,\n")
    clips = index_clips(tmp_path / "own.csv")
    write_table(tmp_path / "checked.csv", check_clips(clips, {clip.path: _good(0) for clip in clips}))
    again = index_clips(tmp_path / "checked.csv")
    assert [(c.clip_id, c.start_seconds, c.end_seconds) for c in again] == [
        (c.clip_id, c.start_seconds, c.end_seconds) for c in clips
    ]


def test_a_clip_outside_of_its_file_is_a_fault_and_cannot_be_used() -> None:
    late = replace(_clip("run/a"), start_seconds=5.0)
    short = replace(_clip("run/b"), start_seconds=1.0)
    found = check_clips([late, short], {late.path: _good(0), short.path: _good(1)}, least_frames=20)
    assert _verdicts(found) == {"run/a": "wrong_times", "run/b": "too_short"}
    assert "run/a: wrong_times: starts at 5 s, but its file ends at 1.33 s" in "\n".join(found.summary())
    assert found.summary()[0] == "2 clips; 1 can be used, with 10 frames (their files have 40)"
    assert found.exit_status == 1
