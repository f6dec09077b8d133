"""Write a synthetic set as video files in HMDB51's layout and naming, with the ground truth beside each clip.

Networks read these files like real clips.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from vidact.core.cache import cache_folder
from vidact.core.errors import ConfigError, DataError, EnvironmentProblem
from vidact.core.folders import remove_abandoned, scratch_folder
from vidact.data.checks.file_inspection import inspect_video
from vidact.data.synthetic.clips import DEMO, MASK_KINDS, SyntheticSettings, render_clip
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.data.video.reading import write_video

WITHOUT_CONFOUNDER = "without_confounder"
_MARK = "synthetic.json"
_TEST_SHARE = 0.3
# Key frames only, because coding noise would reveal the motion; the finest quantiser; no encoder version in the stream.
_ENCODER_OPTIONS = {"g": "1", "qmin": "2", "qmax": "2", "flags": "+bitexact"}


def synthesize(
    out: Path, *, settings: SyntheticSettings = DEMO, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a set of clips, with their masks, ground truth, split files and the settings.

    `videos/<class>/*.avi`, `masks/<class>/*.npz`, `truth/<class>/*.json`, `splits/*.txt`, `synthetic.json`; with a
    confounder, `without_confounder/<class>/*.avi` contains the same clips without it.

    The folder appears complete or not at all. Of several processes that start at once, the first to finish wins and
    the others use its result. A complete set with the same settings is kept.

    Args:
        out: The folder; missing, empty, or a complete set with the same settings.
        settings: Settings of the set.
        progress: Called after each clip with (done, total).

    Raises:
        DataError: `out` contains something else; nothing is deleted.
        EnvironmentProblem: `out` cannot be written.
    """
    out = out.resolve()
    if _is_complete(out, settings):
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(out.parent)
        with scratch_folder(out.parent) as room:
            built = room / out.name
            _build(built, settings, progress)
            _publish(built, out, settings)
    except OSError as error:
        raise EnvironmentProblem(f"{out}: the synthetic set cannot be written ({error})") from error


def _is_complete(out: Path, settings: SyntheticSettings) -> bool:
    """Return True for a complete set, False if there is nothing yet; raise DataError for anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != settings.record():
        what = "not a synthetic set" if found is None else "a set with other settings"
        raise DataError(f"{out} is {what}; choose another folder or remove it")
    files = (path for clip in _clips(out, settings) for path in _files(out, clip, settings))
    if missing := [path for path in files if not path.is_file()]:
        raise DataError(f"{out}: {len(missing)} files are missing, among them {missing[0]}; remove the folder")
    return True


def _publish(built: Path, out: Path, settings: SyntheticSettings) -> None:
    try:
        built.replace(out)
    except OSError:
        if not _is_complete(out, settings):  # else another process was faster
            raise


@dataclass(frozen=True)
class _ClipFile:
    source: int
    class_name: str
    index: int
    path: Path


def _clips(folder: Path, settings: SyntheticSettings) -> Iterator[_ClipFile]:
    indices = range(settings.clips_per_class_and_source)
    for source, name, index in product(range(settings.num_sources), CLASS_NAMES, indices):
        file = f"{source:04d}_scene_{name}_f_nm_np1_fr_goo_{index}.avi"
        yield _ClipFile(source, name, index, folder / "videos" / name / file)


def _files(folder: Path, clip: _ClipFile, settings: SyntheticSettings) -> list[Path]:
    """List all files of a clip: its video, masks, ground truth and, with a confounder, the video without it."""
    place = Path(clip.class_name) / clip.path.stem
    files = [clip.path, folder / "masks" / place.with_suffix(".npz"), folder / "truth" / place.with_suffix(".json")]
    return files + [folder / WITHOUT_CONFOUNDER / clip.class_name / clip.path.name] * bool(settings.confounder)


def _build(folder: Path, settings: SyntheticSettings, progress: Callable[[int, int], None] | None) -> None:
    parts = ["videos", "masks", "truth", *([WITHOUT_CONFOUNDER] if settings.confounder else [])]
    for part, name in product(parts, CLASS_NAMES):
        (folder / part / name).mkdir(parents=True)
    clips = list(_clips(folder, settings))
    for done, clip in enumerate(clips, start=1):
        _write_clip(folder, clip, settings)
        if progress is not None:
            progress(done, len(clips))
    _check_readable(clips[0].path, settings)
    _write_splits(folder, settings)
    (folder / _MARK).write_text(json.dumps(settings.record(), indent=2) + "\n", encoding="utf-8")


def _check_readable(path: Path, settings: SyntheticSettings) -> None:
    """Make sure that both decoders read videos of this size; decord garbles some small widths."""
    if inspect_video(path).only_pyav:
        height, width = settings.size
        raise ConfigError(f"size [{height}, {width}]: videos of this size cannot be read back; try multiples of 32")


def _write_clip(folder: Path, clip: _ClipFile, settings: SyntheticSettings) -> None:
    rendered = render_clip(clip.class_name, source=clip.source, index=clip.index, settings=settings)
    video, masks, truth, *plain = _files(folder, clip, settings)
    write_video(video, rendered.video, fps=settings.fps, options=_ENCODER_OPTIONS)
    if rendered.without_confounder is not None:
        write_video(plain[0], rendered.without_confounder, fps=settings.fps, options=_ENCODER_OPTIONS)
    arrays: dict[str, Any] = {kind: np.packbits(mask) for kind, mask in rendered.masks.items()}
    arrays["shape"] = np.array(rendered.video.shape[:3])  # packed bits do not hold it
    np.savez_compressed(masks, **arrays)
    truth.write_text(json.dumps(rendered.truth, indent=1) + "\n", encoding="utf-8")


def _write_splits(folder: Path, settings: SyntheticSettings) -> None:
    """Write three official-style splits by source (1 train, 2 test) whose test sources are disjoint."""
    (folder / "splits").mkdir()
    order = settings.generator().permutation(settings.num_sources)
    num_test = max(1, int(_TEST_SHARE * settings.num_sources))
    for split, name in product(range(3), CLASS_NAMES):
        test = order[split * num_test : (split + 1) * num_test]
        clips = (clip for clip in _clips(folder, settings) if clip.class_name == name)
        text = "".join(f"{clip.path.name} {2 if clip.source in test else 1} \n" for clip in clips)
        (folder / "splits" / f"{name}_test_split{split + 1}.txt").write_text(text, encoding="utf-8")


def load_mask(path: Path, kind: str = MASK_KINDS[0]) -> Bool[np.ndarray, "T H W"]:
    """Read one of a clip's masks.

    Args:
        path: The file.
        kind: One of `synthetic.MASK_KINDS`.

    Raises:
        DataError: missing, not written by `synthesize`, or no such kind.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            if kind not in arrays.files:
                there = ", ".join(name for name in arrays.files if name != "shape")
                raise DataError(f"{path}: holds no mask {kind!r}; there are {there}")
            shape = tuple(int(side) for side in arrays["shape"])
            bits = np.unpackbits(arrays[kind], count=int(np.prod(shape)))
            return bits.reshape(shape).astype(bool)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a mask of the synthetic set ({error})") from error


def default_folder(settings: SyntheticSettings = DEMO) -> Path:
    """Name a set's folder in the user's cache, by a hash of its settings."""
    key = hashlib.sha256(json.dumps(settings.record(), sort_keys=True).encode()).hexdigest()[:10]
    return cache_folder() / f"synthetic-{key}"
