"""Turn what `audit` wrote into the sentence, the table and the examples that a report shows."""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import UInt8

from vidact.audit.actors.reading import name_actor
from vidact.audit.factors.places import GRID
from vidact.audit.output.files import read_content
from vidact.audit.runs import NAME
from vidact.audit.settings import CELLS
from vidact.core.errors import DataError, VidactError
from vidact.report.encoding import pack_frames
from vidact.report.findings.contents import AuditView, FactorRow, Triplet

FOLDERS = (NAME, f"{NAME}_test")  # of a run; the first that is there is shown
LOW, HIGH = -0.25, 1.0  # ends of the scale
MOST_BYTES = 6_000_000  # of examples
_GAP_PIXELS = 4


def find_audit(folder: Path | None) -> tuple[AuditView | None, str]:
    """Read what `audit` has written into a run folder.

    Args:
        folder: The run's; None for a checkpoint on its own.

    Returns:
        The view, None if the run has not been audited; and why its files cannot be shown, empty if they can.
    """
    for name in FOLDERS if folder is not None else ():
        assert folder is not None
        if (path := folder / name / f"{NAME}.json").is_file():
            try:
                return view_audit(read_content(path), folder=path.parent), ""
            except DataError as error:
                return None, str(error)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                reason = " ".join(str(error).split())
                return None, f"{path}: not what `python -m vidact audit` wrote ({reason}); audit again, with --again"
    return None, ""


def view_audit(content: Mapping[str, Any], *, folder: Path) -> AuditView:
    """Turn the content of `audit.json` into words, and pack the examples beside it.

    Args:
        content: Of the file.
        folder: Where it lies, with `examples/*.npz`.
    """
    sections, margin = content["sections"], float(content["settings"]["margin"])
    sentence = str(content["sentence"]).removeprefix(f"{content['run']}: ")
    damaged: list[str] = []
    triplets = tuple(_triplets(folder, sections, damaged))
    right = f"{_interval(content['accuracy'], percent=True)} right as they are"
    return AuditView(
        sentence=f"It {sentence}." if not sentence.startswith("nothing") else f"{sentence.capitalize()}.",
        facts=(
            f"{content['clips']} {content['part']} clips of {content['sources']} sources, {right}; "
            f"actor: {name_actor(content['actor'])}"
        ),
        rows=tuple(_row(name, own) for name, own in sections.items()),
        zero=_share(0.0),
        margin=_share(margin),
        cells=_cells(sections.get(CELLS)),
        triplets=triplets,
        beside=tuple((name, f"{own['sentence']}.") for name, own in content.get("beside", {}).items()),
        notes=(*content["notes"], *damaged, *(f"skipped: {line}" for line in content["left_out"])),
    )


def _share(value: float) -> float:
    return (min(HIGH, max(LOW, value)) - LOW) / (HIGH - LOW)


def _row(name: str, own: Mapping[str, Any]) -> FactorRow:
    lean = own.get("lean")
    where = f" ({own['main']})" if len(own.get("parts", ())) > 1 else ""
    ends = [None if lean is None or lean[end] is None else _share(lean[end]) for end in ("low", "mean", "high")]
    return FactorRow(
        name=f"{own['says']}{where}",
        key=name,
        verdict=own["verdict"],
        lean="" if lean is None else _interval(lean),
        low=ends[0],
        value=ends[1],
        high=ends[2],
        same=_interval(own.get("same"), percent=True),
        other=_interval(own.get("other"), percent=True),
        control=_interval(own.get("aa")),
        artefact=_interval(own.get("artefact")),
        reason=own["reason"],
    )


def _interval(one: Mapping[str, float | None] | None, *, percent: bool = False) -> str:
    if one is None or one["mean"] is None:
        return ""

    def text(value: float) -> str:  # an interval that is widened for few sources may leave the shares
        return f"{100 * min(1.0, max(0.0, value)):.0f} %" if percent else f"{value:.2f}".replace("-", "−")

    low, high = one["low"], one["high"]
    return text(one["mean"]) + ("" if low is None or high is None else f" ({text(low)} to {text(high)})")


def _cells(own: Mapping[str, Any] | None) -> tuple[tuple[float | None, ...], ...]:
    if not own or not own.get("parts"):
        return ()
    parts = own["parts"]
    return tuple(tuple(parts[f"{row},{column}"]["lean"]["mean"] for column in range(GRID)) for row in range(GRID))


def _triplets(folder: Path, sections: Mapping[str, Any], damaged: list[str]) -> Iterator[Triplet]:
    """Pack examples, while there is room in the page; those of findings that lean come first.

    Args:
        folder: Of the audit.
        sections: Its findings.
        damaged: Gets a line for each file that cannot be shown.
    """
    room = MOST_BYTES
    for name in sorted(sections, key=lambda name: sections[name]["verdict"] != "leans"):
        path = folder / "examples" / f"{name}.npz"
        if not path.is_file():
            continue
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                videos, captions = file["videos"], json.loads(str(file["captions"]))
            shown = [_triplet(name, video, caption) for video, caption in zip(videos, captions, strict=True)]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            IndexError,
            zlib.error,
            BadZipFile,
            VidactError,
        ) as error:
            damaged.append(f"examples/{path.name} cannot be read ({error}); audit again, with --again")
            continue
        for one in shown:
            room -= len(one.sprite.uri)
            if room < 0:
                damaged.append(f"examples from {name} on are left out, for the page to stay small")
                return
            yield one


def _triplet(name: str, video: UInt8[np.ndarray, "3 C T H W"], caption: Mapping[str, Any]) -> Triplet:
    wide = _side_by_side(video)
    sprite = pack_frames(wide)
    gap = _GAP_PIXELS * sprite.width / wide.shape[3]
    return Triplet(name, caption["clip"], caption["true"], tuple(caption["said"]), sprite, video.shape[2], gap)


def _side_by_side(video: UInt8[np.ndarray, "3 C T H W"]) -> UInt8[np.ndarray, "C T _ _"]:
    """Put the three clips beside each other, with white between them."""
    gap = np.full((*video.shape[1:4], _GAP_PIXELS), 255, np.uint8)
    scale = max(1, round(150 / video.shape[4]))
    wide = [np.repeat(np.repeat(one, scale, axis=2), scale, axis=3) for one in video]
    gap = np.repeat(gap, scale, axis=2)
    return np.concatenate([wide[0], gap, wide[1], gap, wide[2]], axis=3)
