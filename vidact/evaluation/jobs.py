"""Evaluate explanations clip by clip, a JSON file each, on one or many devices; clips measured already are kept."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import Trainer
from torch import Tensor

from vidact.core.errors import DataError, EnvironmentProblem, ExplanationError, VidactError
from vidact.core.files import write_json
from vidact.core.jobs import JobRunner, Outcome, make_request, read_record, sort_outcomes
from vidact.data.loading.windows import Window
from vidact.data.video.containers import file_sha1
from vidact.data.video.reading import Decoder
from vidact.evaluation.context import EvaluationContext, Measurements, Subjects, open_context
from vidact.evaluation.measuring import MEASURES_VERSION, NUM_PARTNERS, measure
from vidact.evaluation.names import COMPOSITION, LOCALISATION, NETWORK
from vidact.evaluation.results.statistics import ClipResult
from vidact.evaluation.settings import LABEL, EvaluateSettings
from vidact.runs.clips.chosen import ChosenClips, draw_key, read_pixels
from vidact.runs.run import Run

CLIPS = "clips"


@dataclass(frozen=True)
class Plan:
    """What is measured of a run.

    Attributes:
        settings: As asked for, without methods that do not work with the network.
        families: Of measures.
        kinds: Of masks.
        folder: Where to.
        again: Whether to measure clips again that are measured already.
    """

    settings: EvaluateSettings
    families: tuple[str, ...]
    kinds: tuple[str, ...]
    folder: Path
    again: bool = False

    def path_of(self, clip_id: str) -> Path:
        """Name a clip's file."""
        return self.folder / CLIPS / f"{clip_id}.json"


class ClipEvaluator(JobRunner):
    """Measures clips; a broken clip is reported, and the others are measured.

    `results` has an `Outcome` for each clip that failed or was kept.

    Args:
        run: The network and its settings.
        chosen: The clips.
        plan: What is measured.
    """

    def __init__(self, run: Run, chosen: ChosenClips, plan: Plan) -> None:
        super().__init__(len(chosen.windows))
        self.network, self.run, self.chosen, self.plan = run.network, run, chosen, plan
        self.results: list[Outcome] = []
        self._checkpoint_sha1 = file_sha1(run.checkpoint)
        self._sha1s: dict[Path, str] = {}
        self._context: EvaluationContext | None = None

    def open(self, stack: contextlib.ExitStack) -> None:
        """Get ready to open the explainers, once there is a clip to measure."""
        self._explainers, self._context = stack, None

    def work(self, numbers: Sequence[int]) -> None:
        """Measure the clips that are not measured yet."""
        windows = [self.chosen.windows[number] for number in numbers]
        ready = []
        for window in windows:
            try:
                if request := self._open_request(window):
                    ready.append((window, request, self._read(window)))
            except VidactError as error:
                self._fail(window, error)
        try:
            self._measure(ready)
        except EnvironmentProblem:
            raise
        except VidactError:  # one of them is broken; find out which
            for one in ready:
                try:
                    self._measure([one])
                except EnvironmentProblem:
                    raise
                except VidactError as error:
                    self._fail(one[0], error)

    def _fail(self, window: Window, error: VidactError) -> None:
        if isinstance(error, EnvironmentProblem):
            raise error
        self.results.append(Outcome(window.clip.clip_id, str(error).removeprefix(f"{window.clip.path}: ")))

    def _open_request(self, window: Window) -> dict[str, Any] | None:
        """Describe what a clip's numbers depend on; None if they are measured already."""
        request = self._request(window)
        kept = None if self.plan.again else read_record(self.plan.path_of(window.clip.clip_id))
        if kept is not None and kept["request"] == request:
            self.results.append(Outcome(window.clip.clip_id))
            return None
        return request

    def _request(self, window: Window) -> dict[str, Any]:
        settings, data = asdict(self.plan.settings), self.run.data_settings
        for name in ("batch_size", "measures", "masks"):  # the first changes nothing; the others are listed below
            settings.pop(name)
        masks, without = self.chosen.masks, self.chosen.without_confounder(window)
        mask = masks.digest(window.clip.clip_id) if masks and LOCALISATION in self.plan.families else None
        request = {
            "measures_version": MEASURES_VERSION,
            "clip_sha1": window.sha1,
            "checkpoint_sha1": self._checkpoint_sha1,
            "label": window.clip.class_name,
            "source": window.clip.source,
            "frame_numbers": window.frame_numbers,
            "input": {name: data[name] for name in ("size", "gray")} | {"decoder": window.decoder(self._decoder)},
            "settings": settings,
            "families": self.plan.families,
            "masks": self.plan.kinds,
            "mask_sha1": mask,
            "without_confounder_sha1": None if without is None else self._sha1(without),
            "partners": [partner.sha1 for partner in self._partners(window)],
            "recipes": {name: self._sha1(Path(name)) for name in self._recipe_files()},
        }
        return make_request(**request)

    @property
    def _decoder(self) -> Decoder:
        decoder: Decoder = self.run.data_settings.get("decoder", "decord")
        return decoder

    def _recipe_files(self) -> list[str]:
        details = [method.partition(":")[2] for method in self.plan.settings.methods]
        return [detail for detail in details if detail and Path(detail).is_file()]

    def _sha1(self, path: Path) -> str:
        if path not in self._sha1s:
            try:
                self._sha1s[path] = file_sha1(path)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        return self._sha1s[path]

    def _partners(self, window: Window) -> list[Window]:
        """Draw clips of other classes to compose a clip with, by the seed and the clip's id."""
        if COMPOSITION not in self.plan.families:
            return []
        others = [other for other in self.chosen.windows if other.clip.label != window.clip.label]
        if not others:
            raise DataError("composition needs clips of two classes or more; choose other --measures")
        words = self.plan.settings.seed, window.clip.clip_id
        order = sorted(others, key=lambda other: draw_key(words[0], words[1], other.clip.clip_id))
        return [order[place % len(order)] for place in range(NUM_PARTNERS)]

    def _read(self, window: Window) -> dict[str, Tensor]:
        """Read everything that measuring a clip needs."""
        video = read_pixels(self.run, window)
        read = {"video": video}
        for kind in self.plan.kinds:
            mask = self.chosen.read_mask(window, kind, size=(video.shape[2], video.shape[3]))
            read[f"mask/{kind}"] = torch.zeros(video.shape[1:], dtype=torch.bool) if mask is None else mask
        if partners := self._partners(window):
            read["partners"] = torch.stack([read_pixels(self.run, other) for other in partners])
        without = self.chosen.without_confounder(window)
        # NaN marks clips without such a copy, so that all clips of a batch can be stacked.
        read["without"] = (
            read_pixels(self.run, window, path=without) if without is not None else torch.full_like(video, torch.nan)
        )
        return read

    def _measure(self, ready: Sequence[tuple[Window, dict[str, Any], dict[str, Tensor]]]) -> None:
        """Measure some clips at once, and write a file for each."""
        if not ready:
            return
        together = {name: torch.stack([read[name] for *_, read in ready]).to(self.device) for name in ready[0][2]}
        if self._context is None:  # opened late: nothing is copied where all clips are measured already
            opened = open_context(self.network, self.plan.settings, self.plan.families)
            self._context = self._explainers.enter_context(opened)
        context, video = self._context, together["video"]
        scores = context.scores(video)
        if not bool(scores.isfinite().all()):
            raise ExplanationError("the network's scores are not finite, so there is nothing to explain")
        label = torch.tensor([window.clip.label for window, *_ in ready], device=self.device)
        predicted = scores.argmax(dim=1)
        target = label if self.plan.settings.target == LABEL else predicted
        subjects = Subjects(
            video=video,
            label=label,
            target=target,
            clip_ids=tuple(window.clip.clip_id for window, *_ in ready),
            masks={kind: together[f"mask/{kind}"] for kind in self.plan.kinds},
            partners=together.get("partners"),
        )
        found = measure(context, subjects)
        _put_reliance(context, found, together["without"], scores, subjects)
        for row, (window, request, _) in enumerate(ready):
            self._write(window, request, found, row, scores[row], target=int(target[row]))

    def _write(
        self, window: Window, request: dict[str, Any], found: Measurements, row: int, scores: Tensor, *, target: int
    ) -> None:
        content = {
            "request": request,
            "clip_id": window.clip.clip_id,
            "source": window.clip.source,
            "label": window.clip.class_name,
            "predicted": self.run.class_names[int(scores.argmax())],
            "score": float(scores[target]),
            "values": found.values_of(row),
            "curves": found.curves_of(row),
            "removed": found.removed,
        }
        write_json(self.plan.path_of(window.clip.clip_id), content)


def _put_reliance(
    context: EvaluationContext,
    found: Measurements,
    without: Float[Tensor, "B C T H W"],
    scores: Tensor,
    subjects: Subjects,
) -> None:
    """Compute what the label's logit loses without the confounder: f(x) − f(x without it); NaN where there is none."""
    there = ~without.flatten(1).isnan().any(dim=1)
    if bool(there.any()):
        loss = (scores - context.scores(without)).gather(1, subjects.label[:, None]).squeeze(1)
        found.put(NETWORK, "reliance", torch.where(there, loss, torch.nan))


def evaluate_all(model: ClipEvaluator, *, trainer: Trainer) -> tuple[list[ClipResult], list[str], int]:
    """Measure all clips, each on one of the devices; the same on every process.

    Returns:
        What was measured of each clip, in the order of the clips; a line for each clip that failed; how many were kept.
    """
    windows = model.chosen.windows
    # Not more at once than each process has.
    at_once = max(1, min(model.plan.settings.batch_size, -(-len(windows) // trainer.world_size)))
    outcomes = model.run_all(trainer=trainer, at_once=at_once)
    measured, lines, kept = sort_outcomes(outcomes, [window.clip.clip_id for window in windows])
    return [read_result(model.plan.path_of(clip_id)) for clip_id in measured], lines, kept


def read_result(path: Path) -> ClipResult:
    """Read the numbers of one clip.

    Raises:
        DataError: the file is missing, or is something else.
    """
    content = read_record(path)
    names = ("clip_id", "source", "label", "predicted", "score", "values", "curves", "removed")
    if content is None or any(name not in content for name in names):
        raise DataError(f"{path}: not what `evaluate` wrote; remove it, and run the same command again")
    return ClipResult(**{name: content[name] for name in names})
