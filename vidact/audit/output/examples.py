"""Examples of what an audit asked: a clip as it is, with the same part of its class's donor, and of another class's."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vidact.audit.actors.reading import ClipReader
from vidact.audit.asking import CLEAN, OTHER, SAME
from vidact.audit.factors.clips import Clips
from vidact.audit.results.summary import Audit
from vidact.audit.runs import Answered, Prepared
from vidact.audit.sections import EXCHANGES, Exchange
from vidact.audit.settings import REGIONS
from vidact.data.video.reading import write_video

NUM_EACH = 3  # examples that flipped, and that did not
PANELS = ("as it is", "same class's", "another class's")
PANEL_PIXELS = 192  # height of a panel of the video
HEAD_PIXELS = 34
GAP_PIXELS = 8
ENDINGS = ("npz", "mp4")
LOOPS = 4
SECONDS = 2.0  # that a clip takes


@dataclass(frozen=True)
class Example:
    """A clip and two exchanges.

    Attributes:
        clip: Its name.
        donors: Who lent: of the same class, and of another one.
        true: The clip's class.
        said: What the network says of the clip, with the same class's part, and with the other class's.
        flipped: Whether it is right with the same class's part, and wrong with the other's.
    """

    clip: str
    donors: tuple[str, str]
    true: str
    said: tuple[str, str, str]
    flipped: bool


def choose_examples(records: Sequence[Mapping[str, Any]], key: str, *, class_names: Sequence[str]) -> list[Example]:
    """Choose three clips that flipped and three that did not, of other sources and classes as far as there are any.

    Args:
        records: Of the clips.
        key: Finding and part: `background|background`.
        class_names: By number.
    """
    finding = key.partition("|")[0]
    chosen: dict[bool, list[Example]] = {True: [], False: []}
    used: set[tuple[bool, str]] = set()
    labels: set[tuple[bool, int]] = set()
    for only_new_classes in (True, False):
        for record in records:
            answers, donors = record["answers"], record["donors"].get(finding, {})
            if not answers.get(f"{key}|{SAME}") or not answers.get(f"{key}|{OTHER}"):
                continue
            said = [answers[CLEAN][0][0], answers[f"{key}|{SAME}"][0][0], answers[f"{key}|{OTHER}"][0][0]]
            label = record["label"]
            flipped = said[1] == label != said[2]
            kept = (flipped, record["source"]) in used or (only_new_classes and (flipped, label) in labels)
            if kept or said[1] != label or len(chosen[flipped]) == NUM_EACH:
                continue
            used.add((flipped, record["source"]))
            labels.add((flipped, label))
            names = [class_names[number] for number in said]
            lent = donors[SAME][0], donors[OTHER][0]
            chosen[flipped].append(Example(record["clip"], lent, class_names[label], (*names,), flipped))
    return [*chosen[True], *chosen[False]]


def write_examples(prepared: Prepared, answered: Answered, audit: Audit) -> list[Path]:
    """Write `examples/<finding>.mp4` to look at and `.npz` for the report, for each finding that exchanges something.

    Raises:
        DataError: a clip can no longer be read.
        EnvironmentProblem: a file cannot be written.
    """
    task = prepared.task
    reader = ClipReader(prepared.run, prepared.chosen, actor=task.actor, objects=task.objects)
    folder, written = prepared.task.folder / "examples", []
    folder.mkdir(exist_ok=True)
    for name in {*EXCHANGES, REGIONS, *audit.findings}:  # of what was asked before, which the report would show
        for ending in ENDINGS:
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    for name, found in audit.findings.items():
        if found is None or name not in answered.exchanges:
            continue
        key = f"{name}|{found.main}"
        examples = choose_examples(answered.records, key, class_names=prepared.run.class_names)
        if examples:
            videos = [_videos(reader, one, _exchange_of(answered, name, one), found.main) for one in examples]
            written += _write(folder / name, examples, np.stack(videos))
    return written


def _exchange_of(answered: Answered, name: str, example: Example) -> Exchange:
    task = answered.proposals.task
    proposed = {} if task is None else task.proposed.get(example.clip, {})
    return proposed.get(name, answered.exchanges[name])


def _videos(reader: ClipReader, example: Example, exchange: Exchange, part: str) -> UInt8[np.ndarray, "3 C T H W"]:
    clip = reader.read(example.clip)
    lent = Clips.join([reader.read(donor) for donor in example.donors])
    changed = exchange.parts[part].exchange(clip[[0, 0]], lent)
    return _bytes(torch.cat([clip.video, changed]))


def _bytes(video: Tensor) -> UInt8[np.ndarray, "..."]:
    found: UInt8[np.ndarray, ...] = (video * 255).round().clamp(0, 255).byte().cpu().numpy()
    return found


def _write(path: Path, examples: Sequence[Example], videos: UInt8[np.ndarray, "N 3 C T H W"]) -> list[Path]:
    # Names of findings have dots, so the ending is added, not replaced.
    numbers, film = (path.with_name(f"{path.name}.{ending}") for ending in ENDINGS)
    captions = json.dumps([asdict(one) for one in examples])
    np.savez_compressed(numbers, videos=videos, captions=np.array(captions))
    fps = max(1, round(videos.shape[3] / SECONDS))
    frames = list(_frames(examples, videos))
    write_video(film, frames * LOOPS, fps=fps, codec="libx264")
    return [numbers, film]


def _frames(
    examples: Sequence[Example], videos: UInt8[np.ndarray, "N 3 C T H W"]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Draw each moment of all examples: two columns of them, what the network says above each panel."""
    count, _, _, num_frames, height, width = videos.shape
    panel = PANEL_PIXELS, max(2, round(PANEL_PIXELS * width / height))
    cell = HEAD_PIXELS + panel[0] + GAP_PIXELS, 3 * (panel[1] + GAP_PIXELS) + GAP_PIXELS
    columns = 2 if count > 1 else 1
    rows = -(-count // columns)
    size = (columns * cell[1] + 1) // 2 * 2, (rows * cell[0] + GAP_PIXELS + 1) // 2 * 2
    font = ImageFont.load_default(size=13)
    for moment in range(num_frames):
        sheet = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(sheet)
        for number, example in enumerate(examples):
            row, column = number // columns, number % columns
            for place, said in enumerate(example.said):
                left = column * cell[1] + GAP_PIXELS + place * (panel[1] + GAP_PIXELS)
                top = row * cell[0] + GAP_PIXELS
                picture = np.broadcast_to(videos[number, place, :, moment], (3, height, width)).transpose(1, 2, 0)
                image = Image.fromarray(np.ascontiguousarray(picture)).resize(panel[::-1], Image.Resampling.BICUBIC)
                sheet.paste(image, (left, top + HEAD_PIXELS - GAP_PIXELS))
                is_right = said == example.true
                colour = "#1a6b3c" if is_right else "#b2182b"
                draw.text((left, top - 4), PANELS[place], fill="#59616b", font=font)
                draw.text((left, top + 10), f"says {said} ({'right' if is_right else 'wrong'})", fill=colour, font=font)
        yield np.asarray(sheet)
