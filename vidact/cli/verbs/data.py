"""The verbs `data check`, `data split` and `data frames`.

Heavy imports happen when a verb runs, so that its help answers at once.
"""

import json as json_format
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vidact.core.terminal import printable, printable_json, printable_lines


def check(
    root: str,
    classes: list[str] | None = None,
    num_frames: int = 16,
    stride: int | Literal["adaptive"] = 2,
    split: str | None = None,
    fold: int = 1,
    table: str | None = None,
    json: bool = False,
    strict: bool = False,
    time_limit_seconds: float = 60.0,
    num_processes: int | None = None,
    follow_links: bool = False,
) -> int:
    """Decode every clip once, in processes that may crash, and list those that are damaged; nothing is changed.

    Exit status 0 if no clip has a fault, else 1.

    Args:
        root: A folder with <class>/*, videos/<class>/* or train/<class>/* and so on, or a CSV file of clips.
        classes: Which classes, as '[run, jump]'; all if not given.
        num_frames: Frames of a window; clips that are shorter than a window get a note.
        stride: Distance between two frames of a window, or adaptive (3 to 6, by the clip's length).
        split: A split file, or a scheme such as official; look-alikes on two sides of it are then faults.
        fold: Which of the official splits.
        table: A CSV file to write, with a row for each clip.
        json: Print everything as JSON.
        strict: Count notes (a file that only PyAV reads, a header with too many frames, a short clip) as faults, too.
        time_limit_seconds: For one clip; a clip that takes longer is a fault.
        num_processes: How many processes measure; as many as there are cores if not given.
        follow_links: Follow links that lead out of the root.
    """
    from vidact.core.errors import ConfigError
    from vidact.core.folders import refuse_foreign_file
    from vidact.data.checks import findings
    from vidact.data.preparation import SplitSettings, divide, load_clips
    from vidact.data.video.sampling import least_frames

    _check_at_least_1(num_frames=num_frames, stride=stride, num_processes=num_processes)
    if time_limit_seconds <= 0:
        raise ConfigError(f"--time_limit_seconds must be more than 0, got {time_limit_seconds:g}")
    if table is not None:
        refuse_foreign_file(Path(table), findings.is_table, option="--table")
    options = {"time_limit_seconds": time_limit_seconds, "num_processes": num_processes}
    clips, inspections = load_clips(Path(root), classes=classes, follow_links=follow_links, **options)
    divided = divide(clips, Path(root), settings=SplitSettings(split, fold=fold)) if split is not None else None
    sides = divided.side_of if divided else None
    least = least_frames(num_frames=num_frames, stride=stride)
    found = findings.check_clips(clips, inspections, least_frames=least, sides=sides)
    if table is not None:
        findings.write_table(Path(table), found)
    print(_as_json(found.record()) if json else printable_lines(found.summary()))
    _tell_notes(root, option="--split", scheme=divided.scheme if divided else None)
    return int(any(finding.verdict.value != "ok" for finding in found.findings)) if strict else found.exit_status


def _tell_notes(root: str, *, option: str = "--data.split", scheme: str | None = None) -> None:
    """Print what of a data set is not used, on standard error, as standard output may be JSON."""
    from vidact.data.datasets.index import list_notes

    for note in list_notes(Path(root), scheme=scheme):
        print(printable(f"vidact: {note.replace('--data.split', option)}"), file=sys.stderr)


def _check_at_least_1(**settings: int | str | None) -> None:
    from vidact.core.errors import ConfigError

    for name, value in settings.items():
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")


def split(
    root: str,
    scheme: Literal["auto", "official", "source", "film", "clip", "kfold", "table", "folders"] = "auto",
    out: str | None = None,
    classes: list[str] | None = None,
    fold: int = 1,
    num_folds: int = 5,
    seed: int = 0,
    splits_folder: str | None = None,
    use_unused: bool = False,
    validation_share: float = 0.2,
    keep_out: str | None = None,
    keep_out_fold: int | Literal["all"] = 1,
    json: bool = False,
    follow_links: bool = False,
) -> int:
    """Divide a data set into training, validation and test, and report what leaks from one side to another.

    Give the file that is written to fit as --data.split. The same seed gives the same file on every machine.

    Args:
        root: A folder with <class>/*, videos/<class>/* or train/<class>/* and so on, or a CSV file of clips.
        scheme: official (HMDB51's, J-HMDB's or UCF101's files), source (no source video on two sides), film (the same,
            whatever its name's spelling and numbers), clip (at random: shows what leaks), kfold (by film; writes a file
            for each fold), table (by its column split), folders (train, val and test), auto (folders or table where the
            data set has one of them, else source).
        out: The file to write; split_<scheme>_<fold>.json if not given, with every fold's number for kfold.
        classes: Which classes, as '[run, jump]'; all if not given.
        fold: Which fold is the test part, from 1.
        num_folds: How many folds kfold makes.
        seed: Chooses the groups.
        splits_folder: Where the official files are; searched in and beside the root if not given.
        use_unused: Train also on clips that the official split does not use, if their film is on no other side.
        validation_share: How much of the training side validates.
        keep_out: Another data set that the network will be measured on: clips that share a film with its test clips
            go to the test side, whatever the scheme.
        keep_out_fold: The other one tests on its official test side of that fold; on all its clips if all, or if it has
            no official split files.
        json: Print the records as JSON.
        follow_links: Follow links that lead out of the root.
    """
    from vidact.core.folders import refuse_foreign_file
    from vidact.data.preparation import SplitSettings, divide, examine, load_clips
    from vidact.data.preparation import keep_out as find_kept_out
    from vidact.data.splits.files import is_split_file, split_record, write_split_file

    numbers = range(1, num_folds + 1) if scheme == "kfold" else [fold]
    for number in numbers:
        refuse_foreign_file(_split_path(out, scheme=scheme, fold=number), is_split_file)
    clips, inspections = load_clips(Path(root), classes=classes, follow_links=follow_links)
    folder = Path(splits_folder) if splits_folder is not None else None
    settings = SplitSettings(scheme, fold, num_folds, seed, folder, use_unused, validation_share)
    kept_out = None
    if keep_out is not None:
        kept_fold = None if keep_out_fold == "all" else keep_out_fold
        kept_out = find_kept_out(clips, Path(keep_out), fold=kept_fold, follow_links=follow_links)
    records = []
    for number in numbers:
        divided = divide(clips, Path(root), settings=replace(settings, fold=number), kept_out=kept_out)
        leakage = examine(divided, inspections)
        path = _split_path(out, scheme=divided.scheme, fold=number)
        write_split_file(path, divided, leakage=leakage.record())
        records.append(split_record(divided, leakage=leakage.record()))
        if not json:
            print(printable_lines([*divided.lines(), *leakage.lines(), f"written: {path}", ""]))
    if json:
        print(_as_json(records if scheme == "kfold" else records[0]))
    _tell_notes(root, option="--scheme", scheme=divided.scheme)
    return 0


def _split_path(out: str | None, *, scheme: str, fold: int) -> Path:
    path = Path(out or f"split_{scheme}.json")
    return path if out is not None and scheme != "kfold" else path.with_stem(f"{path.stem}_{fold}")


def frames(
    root: str,
    classes: list[str] | None = None,
    markdown: bool = False,
    num_threads: int | None = None,
    follow_links: bool = False,
) -> int:
    """Check that the right frames are read, by a sequential decode of every clip, and compare decord's sparse reads.

    Exit status 0 if vidact reads every requested frame of every clip, else 1.

    Args:
        root: A folder with <class>/*, videos/<class>/* or train/<class>/* and so on, or a CSV file of clips.
        classes: Which classes, as '[run, jump]'; all if not given.
        markdown: Print a Markdown table.
        num_threads: How many clips at a time; as many as there are cores if not given.
        follow_links: Follow links that lead out of the root.
    """
    from vidact.core.progress import progress_bar
    from vidact.data.checks.frames import check_frames
    from vidact.data.datasets.clip_frames import why_unusable
    from vidact.data.preparation import list_unusable, load_clips

    clips, inspections = load_clips(Path(root), classes=classes, follow_links=follow_links)
    unusable = list_unusable(clips, inspections)
    for line in unusable:
        print(printable(f"not compared: {line}"))
    usable = [clip for clip in clips if not why_unusable(clip, inspections[clip.path])]
    with progress_bar("comparing frames") as progress:
        only_pyav = {path for path, inspection in inspections.items() if inspection.info and inspection.info.only_pyav}
        found = check_frames(usable, only_pyav=only_pyav, progress=progress, num_threads=num_threads)
    print(found.markdown() if markdown else found.text())
    _tell_notes(root)
    return int(not found.passed or bool(unusable))


def _as_json(record: object) -> str:
    return printable_json(json_format.dumps(record, indent=1, ensure_ascii=False))
