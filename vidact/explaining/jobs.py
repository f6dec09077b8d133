"""Explain many videos, one folder of files each, on one or many devices; videos that are explained already are kept."""

import contextlib
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from vidact.core.errors import DataError, VidactError
from vidact.core.files import check_writable
from vidact.core.folders import folds_case, in_scratch_folder, place_inside, remove_abandoned, scratch_folder
from vidact.core.jobs import JobRunner, make_request
from vidact.core.terminal import printable
from vidact.data.datasets.index import ENDINGS
from vidact.data.loading.streaming import VideoFile, WindowSettings
from vidact.data.video.containers import file_sha1
from vidact.data.video.reading import checked_path
from vidact.explaining.files import write_files
from vidact.explaining.folder import OVERLAY, UNFINISHED, check_folder, read_record
from vidact.explaining.settings import ExplainSettings, FileSettings
from vidact.explaining.stitching import Subject
from vidact.explaining.videos import VideoExplanation, explain_video
from vidact.runs.run import Run, window_of


@dataclass(frozen=True)
class Job:
    """One video, the folder of its explanation, and the folder around that, for unfinished files."""

    path: Path
    folder: Path
    out: Path


@dataclass(frozen=True)
class Beside:
    """A second explanation of each video: by which trained network, and how."""

    run: Run
    settings: ExplainSettings


@dataclass(frozen=True)
class Result:
    """What became of a video.

    Attributes:
        path: The video.
        folder: Where its explanation is.
        state: `explained`, `kept` from an earlier run, or `failed`.
        summary: The class with its probability and where its score went, or why the video failed.
        warning: About its relevance; may be empty.
    """

    path: str
    folder: str
    state: str
    summary: str
    warning: str = ""


def list_jobs(videos: Sequence[str], out: Path) -> list[Job]:
    """List videos, also those in folders, each with a folder of its own inside `out`.

    Raises:
        DataError: no such file, a folder without videos, two videos with the same folder, or a folder outside of
            `out`.
    """
    check_writable(out)
    jobs: dict[Path, Path] = {}
    for name in videos:
        if "://" in name:
            raise DataError(f"{name}: addresses are refused; download the video and give its path")
        for video, place in _videos_in(Path(name)):
            folder = place_inside(out, place)
            _check_alone(video, jobs.setdefault(folder, video), folder)
    for folder, video in jobs.items():
        if inside := next((other for other in jobs if folder in other.parents), None):
            raise DataError(f"{video}: {inside} would lie inside of its folder {folder}; explain it with another --out")
    names: dict[str, Path] = {}
    same = folds_case(out)  # on such disks a.mp4 and A.mp4 would share a folder
    for folder, video in jobs.items():
        key = unicodedata.normalize("NFC", str(folder)).casefold() if same else str(folder)
        _check_alone(video, names.setdefault(key, video), folder)
    return [Job(path, folder, out) for folder, path in jobs.items()]


def _check_alone(video: Path, other: Path, folder: Path) -> None:
    if other.absolute() != video.absolute():
        raise DataError(
            f"{video} and {other} would both be explained in {folder}; give their common folder, or explain "
            "them one by one with another --out"
        )


def _videos_in(path: Path) -> list[tuple[Path, Path]]:
    """List a video, or all videos in a folder but overlays that vidact wrote, each with its place."""
    if not path.is_dir():
        return [(path, _place_of(path, path.parent))]
    found = [
        item
        for item in sorted(path.rglob("*"))
        if item.suffix.lower() in ENDINGS and item.is_file() and not _is_ours(item)
    ]
    if not found:
        raise DataError(f"{path}: expected videos ({', '.join(ENDINGS)}) in this folder, found none")
    return [(item, _place_of(item, path)) for item in found]


def _place_of(video: Path, folder: Path) -> Path:
    """Name a video's place below a folder by its name without its ending.

    Raises:
        DataError: that is no name for a folder.
    """
    if not video.stem.strip(". "):
        raise DataError(f"{video}: no folder can be named {video.stem!r}, its name without its ending; rename it")
    return video.parent.relative_to(folder) / video.stem


def _is_ours(path: Path) -> bool:
    """Say whether a video is an overlay that vidact wrote, or an unfinished one."""
    return (path.name == OVERLAY and read_record(path.parent) is not None) or in_scratch_folder(path.absolute())


class VideoExplainer(JobRunner):
    """Explains one video after the other; a broken video is reported, and the others are explained.

    `results` has a `Result` for each video.

    Args:
        run: The network and its settings.
        jobs: The videos.
        window: What the network sees at once.
        settings: What is explained.
        files: What is written.
        again: Whether to explain videos again that are explained already.
        beside: A second explanation, drawn below the first.
    """

    def __init__(
        self,
        run: Run,
        jobs: Sequence[Job],
        *,
        window: WindowSettings,
        settings: ExplainSettings,
        files: FileSettings,
        again: bool,
        beside: Beside | None = None,
    ) -> None:
        super().__init__(len(jobs))
        self.jobs, self.results = list(jobs), list[Result]()
        self.network, self.run, self.settings, self.files, self.again = run.network, run, settings, files, again
        self.window, self.beside = window, beside
        self.other = None if beside is None else beside.run.network  # a module of its own, so that it moves along
        self._checkpoint_sha1 = file_sha1(run.checkpoint)
        self._beside = None if beside is None else [file_sha1(beside.run.checkpoint), beside.settings.method]

    def open(self, stack: contextlib.ExitStack) -> None:
        """Remove what killed processes have left, and open the explainers."""
        for out in {job.out for job in self.jobs}:
            remove_abandoned(out)
        self._explain = stack.enter_context(self.settings.build_explainer(self.network))
        if self.beside is not None:
            self._other = stack.enter_context(self.beside.settings.build_explainer(self.beside.run.network))

    def work(self, numbers: Sequence[int]) -> None:
        """Explain one video after the other."""
        self.results += [self._result(self.jobs[number]) for number in numbers]

    def _result(self, job: Job) -> Result:
        try:
            state, record = self._explain_or_keep(job)
        except VidactError as error:
            summary = str(error).removeprefix(printable(f"{job.path}: "))
            return Result(str(job.path), str(job.folder), "failed", summary)
        warning = str(record.get("relevance_warning", ""))
        return Result(str(job.path), str(job.folder), state, _in_words(record), warning)

    def _explain_or_keep(self, job: Job) -> tuple[str, dict[str, Any]]:
        request = self._request(job)
        place_inside(job.out, job.folder.relative_to(job.out))  # again: links may have been made since
        kept = read_record(job.folder)
        if not self.again and kept is not None and UNFINISHED not in kept and kept["request"] == request:
            return "kept", kept
        check_folder(job.folder, is_compared=self.beside is not None)
        video = VideoFile(job.path)
        with scratch_folder(job.out) as room:
            (scratch := room / "scratch").mkdir()
            explanation = explain_video(
                self._explain,
                Subject(video, self.window, self.device),
                class_names=self.run.class_names,
                settings=self.settings,
                scratch=scratch,
            )
            beside = None if self.beside is None else self._explain_beside(video, self.beside, scratch / "beside")
            record = write_files(
                job.folder, explanation, video, room=room, settings=self.files, request=request, beside=beside
            )
        return "explained", record

    def _explain_beside(self, video: VideoFile, beside: Beside, scratch: Path) -> VideoExplanation:
        scratch.mkdir()
        window = window_of(beside.run, overlap=self.window.overlap)
        return explain_video(
            self._other,
            Subject(video, window, self.device),
            class_names=beside.run.class_names,
            settings=beside.settings,
            scratch=scratch,
        )

    def _request(self, job: Job) -> dict[str, Any]:
        """Describe what an explanation depends on."""
        settings = asdict(self.settings)
        settings.pop("batch_size")  # changes nothing
        if Path(str(self.settings.composite)).is_file():
            settings["composite"] = hashlib.sha1(Path(str(self.settings.composite)).read_bytes()).hexdigest()
        return make_request(
            video_sha1=file_sha1(checked_path(job.path)),
            checkpoint_sha1=self._checkpoint_sha1,
            window=asdict(self.window),
            settings=settings,
            files=asdict(self.files),
            beside=self._beside,
        )


def explain_all(model: VideoExplainer, *, trainer: Trainer) -> list[Result]:
    """Explain all videos, each on one of the devices; gives what became of each, in order, on every process."""
    found = {result.folder: result for result in model.run_all(trainer=trainer)}
    return [found[str(job.folder)] for job in model.jobs if str(job.folder) in found]


def _in_words(record: Mapping[str, Any]) -> str:
    name, probability = record["classes"][0]
    rate, where = record.get("frame_rate"), record.get("where_the_score_is")
    summary = f"{name}, {100 * probability:.1f} %" + (f" ({rate})" if rate else "")
    return summary + (f"; its score: {where}" if where else "")
