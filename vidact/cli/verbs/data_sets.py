"""The verbs `data transcode`, `data download` and `data synthesize`."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from vidact.core.terminal import printable, printable_lines


def transcode(root: str, out: str, short_side: int = 128, codec: Literal["mpeg4", "h264"] = "mpeg4") -> int:
    """Write a small copy of a data set, with the same names, layout and frames; split files and masks come along.

    The same command resumes a copy that was stopped. Exit status 1 if a clip could not be copied.

    Args:
        root: The data set's folder.
        out: The folder to make.
        short_side: The shorter side of the copies in pixels, even; smaller clips keep their size.
        codec: mpeg4 (fast; sparse reads of the copies are right), or h264 (smaller; sparse reads of .avi are wrong).
    """
    from vidact.core.progress import progress_bar
    from vidact.data.transcode.encoding import TranscodeSettings
    from vidact.data.transcode.writing import transcode as make_copies

    settings = TranscodeSettings(short_side, codec)
    with progress_bar("transcoding") as progress:
        done = make_copies(Path(root), Path(out), settings=settings, progress=progress)
    for line in done.skipped:
        print(printable(f"skipped: {line}"))
    print(
        f"{printable(out)}: {done.written} clips written, {done.kept} were there; other files: {done.copied} copied, "
        f"{done.ignored} ignored; {done.bytes_before / 1e6:,.1f} MB became {done.bytes_after / 1e6:,.1f} MB"
    )
    return int(bool(done.skipped))


def download(
    dataset: Literal["hmdb51"],
    out: str,
    mirrors: list[str] | None = None,
    only_mirrors: bool = False,
    classes: list[str] | None = None,
    keep_archives: bool = True,
) -> int:
    """Download HMDB51 and its official split files, and unpack them; the same command resumes a download.

    RAR archives need `pip install 'vidact[download]'` and the program unrar or unar; ZIP archives need neither.

    Args:
        dataset: Which; hmdb51.
        out: Gets videos/<class>/*.avi, splits/*.txt and archives/.
        mirrors: Addresses of folders that hold the archives, as '[https://…]'; they are tried first.
        only_mirrors: Try no other address.
        classes: Which classes to unpack, as '[run, jump]'; all if not given.
        keep_archives: Whether to keep the archives.
    """
    from vidact.core.errors import ConfigError
    from vidact.core.progress import named_progress_bar
    from vidact.data.download.hmdb51 import download_hmdb51
    from vidact.data.download.hmdb51_mirrors import Mirrors

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
    confounder: Literal["patch", "band", "flicker", "plate", "dark", "shot", "cut", "drift", "size"] | None = None,
    agreement: float | None = None,
    seed: int | None = None,
) -> int:
    """Render a synthetic set: eight motion-only classes as video files in HMDB51's layout, and the truth about them.

    With the videos come five kinds of masks, a JSON file of the truth for each clip, and split files by scene.

    Args:
        out: The folder to make.
        preset: demo, motion (a walker, a drifting camera and cuts as well) or clever-hans (a patch, or
            what --confounder says, that agrees with the class in 95 % of the clips); other options override it.
        num_sources: Scenes, each with a clip of every class.
        num_frames: Frames per clip.
        size: Height and width in pixels, even, as '[64, 64]'.
        action_frames: Least and greatest number of frames that an action takes, as '[4, 16]'.
        walkers: Discs that move to and fro with the action's motion energy, at most 4.
        blobs: Pairs of a dark and a bright blob that lie still.
        drift: How far the camera drifts per frame at most, in shares of the frame's shorter side.
        cut_probability: Share of the clips with a cut.
        confounder: A sign that correlates with the class, one of eight of its kind: patch (dots in a dark corner),
            band (height of a dark band), flicker (when a corner is lit), plate (a striped thing that stands in the
            background), dark (brightness of the clip), shot (the scene that the last quarter shows), cut (when the
            scene changes), drift (where the camera drifts to), size (radius of the acting disc).
        agreement: How often the sign is that of the class, from 0.125 (chance) to 1.
        seed: Equal seeds give equal clips.
    """
    given = dict(locals())  # before anything else has a name here
    from vidact.core.errors import ConfigError
    from vidact.core.progress import progress_bar
    from vidact.data.synthetic import clips as synthetic
    from vidact.data.synthetic import files as synthetic_files

    del given["out"], given["preset"]
    if preset not in synthetic.PRESETS:
        raise ConfigError(f"--preset {preset}: unknown; there are {', '.join(synthetic.PRESETS)}")
    chosen = replace(synthetic.PRESETS[preset], **{name: value for name, value in given.items() if value is not None})
    with progress_bar("rendering") as progress:
        synthetic_files.synthesize(Path(out), settings=chosen, progress=progress)
    print(printable(f"{out}: ready; python -m vidact fit --data.root {out}"))
    return 0
