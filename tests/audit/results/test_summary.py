"""What a summary tells of clips that cannot be exchanged."""

from typing import Any

from vidact.audit.results.summary import _remarks


def _record(label: int, source: str, *, fills: bool = False) -> dict[str, Any]:
    return {"label": label, "source": source, "fills_frame": fills}


def test_classes_of_one_source_and_actors_that_fill_the_frame_are_told() -> None:
    records = [_record(0, "a"), _record(0, "b"), _record(1, "a"), _record(1, "a"), _record(2, "c", fills=True)]
    told = _remarks(records, ("run", "jump", "hit"))
    assert told == [
        "clips of jump, hit are of a single source each, and have no donors of their class",
        "the actor takes more than 60 % of the frames in 1 clips; there no background is exchanged",
    ]
    assert _remarks(records[:2], ("run", "jump", "hit")) == []
