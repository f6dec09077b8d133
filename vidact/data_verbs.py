"""What each verb of `python -m vidact data` does: plain functions that print, and return an exit status.

They hold no arithmetic. Heavy imports happen when a verb runs, so that its help answers at once.
"""

import json as json_format
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vidact.terminal import printable, printable_json, printable_lines


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
    """Decode every clip once, in processes that may die, and say which can be trusted; nothing is changed.

    Exit status 0 if no clip is at fault, else 1.

    Args:
        root: A folder with <class>/*, videos/<class>/* or train/<class>/* and so on, or a CSV file of clips.
        classes: Which classes, as '[run, jump]'; all if not given.
        num_frames: Frames of a window; clips that are shorter than a window get a note.
        stride: Distance between two frames of a window, or adaptive (3 to 6, by the clip's length).
        split: A split file, or a scheme such as official: look-alikes are then faults where they are on two sides.
        fold: Which of the official splits.
        table: Write the manifest there, a CSV file with a row for each clip.
        json: Print everything as JSON.
        strict: Notes (a file for PyAV alone, a header that overstates, a clip shorter than a window) are faults, too.
        time_limit_seconds: For one clip; what takes longer is ended and noted.
        num_processes: How many processes measure; as many as there are cores if not given.
        follow_links: Follow links that lead out of the root.
    """
    from vidact.core import ConfigError
    from vidact.data import findings
    from vidact.data.preparation import DivisionSettings, divide, load_clips
    from vidact.data.sampling import least_frames
    from vidact.folders import refuse_others

    _check_at_least_1(num_frames=num_frames, stride=stride, num_processes=num_processes)
    if time_limit_seconds <= 0:
        raise ConfigError(f"--time_limit_seconds must be more than 0, got {time_limit_seconds:g}")
    if table is not None:
        refuse_others(Path(table), findings.is_table, option="--table")
    options = {"time_limit_seconds": time_limit_seconds, "num_processes": num_processes}
    clips, inspections = load_clips(Path(root), classes=classes, follow_links=follow_links, **options)
    divided = divide(clips, Path(root), settings=DivisionSettings(split, fold=fold)) if split is not None else None
    sides = divided.side_of if divided else None
    least = least_frames(num_frames=num_frames, stride=stride)
    found = findings.check_clips(clips, inspections, least_frames=least, sides=sides)
    if table is not None:
        findings.write_table(Path(table), found)
    print(_as_json(found.record()) if json else printable_lines(found.summary()))
    _tell_notes(root, option="--split", scheme=divided.scheme if divided else None)
    return int(any(finding.verdict.value != "ok" for finding in found.findings)) if strict else found.exit_status


def _tell_notes(root: str, *, option: str = "--data.split", scheme: str | None = None) -> None:
    """Say what of a data set is not used, on standard error: what is printed may be JSON."""
    from vidact.data.index import list_notes

    for note in list_notes(Path(root), scheme=scheme):
        print(printable(f"vidact: {note.replace('--data.split', option)}"), file=sys.stderr)


def _check_at_least_1(**settings: int | str | None) -> None:
    from vidact.core import ConfigError

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

    The file that is written can be given to fit as --data.split. It is the same for the same seed on every machine.

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
        use_unused: Clips that the official split leaves aside may train where their film is on no other side.
        validation_share: How much of the training side validates.
        keep_out: Another data set that the network is to be measured on: clips of the films that it tests on are on the
            test side, whatever the scheme.
        keep_out_fold: The other one tests on its official test side of that fold; on all its clips if all, or if it has
            no official split files.
        json: Print the records as JSON.
        follow_links: Follow links that lead out of the root.
    """
    from vidact.data.preparation import DivisionSettings, divide, examine, load_clips
    from vidact.data.preparation import keep_out as find_kept_out
    from vidact.data.split_files import is_split_file, split_record, write_split_file
    from vidact.folders import refuse_others

    numbers = range(1, num_folds + 1) if scheme == "kfold" else [fold]
    for number in numbers:
        refuse_others(_split_path(out, scheme=scheme, fold=number), is_split_file)
    clips, inspections = load_clips(Path(root), classes=classes, follow_links=follow_links)
    folder = Path(splits_folder) if splits_folder is not None else None
    settings = DivisionSettings(scheme, fold, num_folds, seed, folder, use_unused, validation_share)
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
    """Compare the frames that are read with a sequential decode of every clip, and with decord's sparse reads.

    Exit status 0 if vidact reads every frame of every clip that is asked for, else 1.

    Args:
        root: A folder with <class>/*, videos/<class>/* or train/<class>/* and so on, or a CSV file of clips.
        classes: Which classes, as '[run, jump]'; all if not given.
        markdown: Print a Markdown table.
        num_threads: How many clips at a time; as many as there are cores if not given.
        follow_links: Follow links that lead out of the root.
    """
    from vidact.data.frame_check import check_frames
    from vidact.data.preparation import list_unusable, load_clips
    from vidact.data.progress import progress_bar
    from vidact.data.timeline import why_unusable

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


def transcode(root: str, out: str, short_side: int = 128, codec: Literal["mpeg4", "h264"] = "mpeg4") -> int:
    """Write a small copy of a data set, with the same names, layout and frames; split files and masks come along.

    A run that was stopped goes on where it ended. Exit status 1 if a clip could not be copied.

    Args:
        root: The data set's folder.
        out: The folder to make.
        short_side: The shorter side of the copies in pixels, even; smaller clips keep their size.
        codec: mpeg4 (fast; sparse reads of the copies are right), or h264 (smaller; sparse reads of .avi are wrong).
    """
    from vidact.data.progress import progress_bar
    from vidact.data.transcode import TranscodeSettings
    from vidact.data.transcode import transcode as make_copies

    settings = TranscodeSettings(short_side, codec)
    with progress_bar("transcoding") as progress:
        done = make_copies(Path(root), Path(out), settings=settings, progress=progress)
    for line in done.left_out:
        print(printable(f"left out: {line}"))
    print(
        f"{printable(out)}: {done.written} clips written, {done.kept} were there; other files: {done.copied} copied, "
        f"{done.ignored} ignored; {done.bytes_before / 1e6:,.1f} MB became {done.bytes_after / 1e6:,.1f} MB"
    )
    return int(bool(done.left_out))


def download(
    dataset: Literal["hmdb51"],
    out: str,
    mirrors: list[str] | None = None,
    only_mirrors: bool = False,
    classes: list[str] | None = None,
    keep_archives: bool = True,
) -> int:
    """Fetch HMDB51 and its official split files, and unpack them; a run that was stopped goes on where it ended.

    RAR archives need `pip install 'vidact[download]'` and the program unrar or unar; ZIP archives need neither.

    Args:
        dataset: Which; hmdb51.
        out: Gets videos/<class>/*.avi, splits/*.txt and archives/.
        mirrors: Addresses of folders that hold the archives, as '[https://…]'; they are tried first.
        only_mirrors: Try no address but those.
        classes: Which classes to unpack, as '[run, jump]'; all if not given.
        keep_archives: Whether the archives stay.
    """
    from vidact.core import ConfigError
    from vidact.data.hmdb51_download import Mirrors, download_hmdb51
    from vidact.data.progress import named_progress_bar

    if only_mirrors and not mirrors:
        raise ConfigError("--only_mirrors needs mirrors: --mirrors '[https://…]'")
    chosen = Mirrors(tuple(mirrors or ()), builtin=not only_mirrors)
    with named_progress_bar() as progress:
        done = download_hmdb51(
            Path(out), mirrors=chosen, classes=classes, keep_archives=keep_archives, progress=progress
        )
    told = f"{done.videos}: {done.num_clips:,} clips of {done.num_classes} classes; split files in {done.splits}"
    print(printable_lines([told, f"python -m vidact data check {out}"]))
    return 0


def synthesize(
    out: str,
    preset: str = "demo",
    num_sources: int | None = None,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    action_frames: tuple[int, int] | None = None,
    walkers: int | None = None,
    blobs: int | None = None,
    drift: float | None = None,
    cut_probability: float | None = None,
    confounder: Literal["patch", "band", "flicker"] | None = None,
    agreement: float | None = None,
    seed: int | None = None,
) -> int:
    """Render a synthetic set: eight motion-only classes as video files in HMDB51's layout, and the truth about them.

    Beside the videos: five kinds of masks, a JSON file of the truth for each clip, and split files by scene.

    Args:
        out: The folder to make.
        preset: demo, motion (a walker, a drifting camera and cuts as well) or clever-hans (a patch that agrees with
            the class in 95 % of the clips); what is given besides goes before it.
        num_sources: Scenes, each with a clip of every class.
        num_frames: Frames per clip.
        size: Height and width in pixels, even, as '[64, 64]'.
        action_frames: Least and greatest number of frames that an action takes, as '[4, 16]'.
        walkers: Discs that step to and fro with the action's motion energy, at most 4.
        blobs: Pairs of a dark and a bright blob that lie still.
        drift: How far the camera drifts per frame at most, in shares of the frame's shorter side.
        cut_probability: Share of the clips with a cut.
        confounder: A sign that seems to tell the class.
        agreement: How often the sign is that of the class, from 0.125 (chance) to 1.
        seed: Equal seeds give equal clips.
    """
    given = dict(locals())  # before anything else has a name here
    from vidact.core import ConfigError
    from vidact.data import synthetic, synthetic_files
    from vidact.data.progress import progress_bar

    del given["out"], given["preset"]
    if preset not in synthetic.PRESETS:
        raise ConfigError(f"--preset {preset}: unknown; there are {', '.join(synthetic.PRESETS)}")
    chosen = replace(synthetic.PRESETS[preset], **{name: value for name, value in given.items() if value is not None})
    with progress_bar("rendering") as progress:
        synthetic_files.synthesize(Path(out), settings=chosen, progress=progress)
    print(printable(f"{out}: ready; python -m vidact fit --data.root {out}"))
    return 0


def _as_json(record: object) -> str:
    return printable_json(json_format.dumps(record, indent=1, ensure_ascii=False))


VERBS: dict[str, Callable[..., int]] = {
    function.__name__: function for function in (check, split, frames, transcode, download, synthesize)
}
