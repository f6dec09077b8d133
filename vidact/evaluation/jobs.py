"""Evaluate explanations clip by clip, a JSON file each, on one or many devices; what is done already is left as it is.

It does not know how clips were chosen, nor what is made of the files.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from vidact.core import __version__
from vidact.core.clips import as_float
from vidact.core.devices import gather
from vidact.core.errors import DataError, EnvironmentProblem, ExplanationError, VidactError
from vidact.data.loading.windows import Window
from vidact.data.video.containers import file_sha1
from vidact.data.video.reading import Decoder, read_frames
from vidact.evaluation.clips import ChosenClips, draw_key
from vidact.evaluation.context import EvaluationContext, Found, Subjects, open_context
from vidact.evaluation.measuring import MEASURES_VERSION, NUM_PARTNERS, measure
from vidact.evaluation.output.files import write_json
from vidact.evaluation.results.statistics import ClipResult
from vidact.evaluation.results.tables import COMPOSITION, LOCALISATION, NETWORK
from vidact.evaluation.settings import LABEL, EvaluateSettings
from vidact.runs.run import Run

CLIPS = "clips"


@dataclass(frozen=True)
class Plan:
    """What is to be measured of a run.

    Attributes:
        settings: As asked for, without the methods that the network cannot have.
        families: Of measures.
        kinds: Of masks.
        folder: Where to.
        again: Whether to measure anew what is measured already.
    """

    settings: EvaluateSettings
    families: tuple[str, ...]
    kinds: tuple[str, ...]
    folder: Path
    again: bool = False

    def path_of(self, clip_id: str) -> Path:
        """Name a clip's file."""
        return self.folder / CLIPS / f"{clip_id}.json"


class ClipEvaluator(LightningModule):
    """Measures the clips that `Trainer.predict` hands it; one that is broken is told, and the rest goes on.

    Args:
        run: The network and its settings.
        chosen: The clips; it is handed their numbers.
        plan: What is measured.
    """

    def __init__(self, run: Run, chosen: ChosenClips, plan: Plan) -> None:
        super().__init__()
        self.network, self.run, self.chosen, self.plan = run.network, run, chosen, plan
        self.failed: list[tuple[str, str]] = []
        self.num_kept = 0
        self._checkpoint_sha1 = file_sha1(run.checkpoint)
        self._sha1s: dict[Path, str] = {}
        self._context: EvaluationContext | None = None

    def on_predict_start(self) -> None:
        """Get ready to open explainers, on the device where the network is by now."""
        self._stack = contextlib.ExitStack()

    def on_predict_end(self) -> None:
        """Close them."""
        self._context = None
        self._stack.close()

    def predict_step(self, batch: list[int]) -> int:
        """Measure what is not measured yet; gives how many clips were looked at."""
        windows = [self.chosen.windows[number] for number in batch if number < len(self.chosen.windows)]
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
        except VidactError:  # one of them is broken: which?
            for one in ready:
                try:
                    self._measure([one])
                except EnvironmentProblem:
                    raise
                except VidactError as error:
                    self._fail(one[0], error)
        return len(windows)

    def _fail(self, window: Window, error: VidactError) -> None:
        if isinstance(error, EnvironmentProblem):
            raise error
        self.failed.append((window.clip.clip_id, str(error).removeprefix(f"{window.clip.path}: ")))

    def _open_request(self, window: Window) -> dict[str, Any] | None:
        """Say what a clip's numbers depend on; None where the file of an earlier run was made for the same."""
        request = self._request(window)
        kept = None if self.plan.again else _read(self.plan.path_of(window.clip.clip_id))
        if kept is not None and kept["request"] == request:
            self.num_kept += 1
            return None
        return request

    def _request(self, window: Window) -> dict[str, Any]:
        settings, data = asdict(self.plan.settings), self.run.data_settings
        for name in ("batch_size", "measures", "masks"):  # the first changes nothing; the others are said below
            settings.pop(name)
        masks, without = self.chosen.masks, self.chosen.without_confounder(window)
        mask = masks.find(window.clip.clip_id) if masks and LOCALISATION in self.plan.families else None
        request = {
            "vidact": __version__,
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
            "mask_sha1": None if mask is None else self._sha1(mask),
            "without_confounder_sha1": None if without is None else self._sha1(without),
            "partners": [partner.sha1 for partner in self._partners(window)],
            "recipes": {name: self._sha1(Path(name)) for name in self._recipe_files()},
        }
        plain: dict[str, Any] = json.loads(json.dumps(request))
        return plain

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
        """Choose clips of other classes to compose a clip with, by the seed and the clip's id."""
        if COMPOSITION not in self.plan.families:
            return []
        others = [other for other in self.chosen.windows if other.clip.label != window.clip.label]
        if not others:
            raise DataError("composition needs clips of two classes or more; choose other --measures")
        words = self.plan.settings.seed, window.clip.clip_id
        order = sorted(others, key=lambda other: draw_key(words[0], words[1], other.clip.clip_id))
        return [order[place % len(order)] for place in range(NUM_PARTNERS)]

    def _pixels(self, path: Path, window: Window) -> Float[Tensor, "C T H W"]:
        """Read the frames of a window, as the network sees them."""
        data = self.run.data_settings
        size = (data["size"], data["size"]) if isinstance(data["size"], int) else tuple(data["size"])
        decoder = window.decoder(self._decoder)
        video = read_frames(path, window.frame_numbers, size=size, gray=data["gray"], decoder=decoder)
        return as_float(video[None])[0]

    def _read(self, window: Window) -> dict[str, Tensor]:
        """Read all that a clip is measured with."""
        video = self._pixels(window.clip.path, window)
        read = {"video": video}
        for kind in self.plan.kinds:
            mask = self.chosen.read_mask(window, kind, size=(video.shape[2], video.shape[3]))
            read[f"mask/{kind}"] = torch.zeros(video.shape[1:], dtype=torch.bool) if mask is None else mask
        if partners := self._partners(window):
            read["partners"] = torch.stack([self._pixels(other.clip.path, other) for other in partners])
        without = self.chosen.without_confounder(window)
        read["without"] = self._pixels(without, window) if without is not None else torch.full_like(video, torch.nan)
        return read

    def _measure(self, ready: Sequence[tuple[Window, dict[str, Any], dict[str, Tensor]]]) -> None:
        """Measure some clips at once, and write a file for each."""
        if not ready:
            return
        together = {name: torch.stack([read[name] for *_, read in ready]).to(self.device) for name in ready[0][2]}
        if self._context is None:
            opened = open_context(self.network, self.plan.settings, self.plan.families)
            self._context = self._stack.enter_context(opened)
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
        self, window: Window, request: dict[str, Any], found: Found, row: int, scores: Tensor, *, target: int
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
    context: EvaluationContext, found: Found, without: Float[Tensor, "B C T H W"], scores: Tensor, subjects: Subjects
) -> None:
    """Say what the label's logit loses without the confounder: f(x) − f(x without it); NaN where there is none."""
    there = ~without.flatten(1).isnan().any(dim=1)
    if bool(there.any()):
        loss = (scores - context.scores(without)).gather(1, subjects.label[:, None]).squeeze(1)
        found.put(NETWORK, "reliance", torch.where(there, loss, torch.nan))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "request" in content else None


def evaluate_all(model: ClipEvaluator, *, trainer: Trainer) -> tuple[list[ClipResult], list[str], int]:
    """Measure all clips, each on one of the devices; the same on every process.

    Returns:
        What was measured of each clip, in the order of the clips; a line for each that is broken; how many were kept.
    """
    windows = model.chosen.windows
    count, size = len(windows), model.plan.settings.batch_size
    # Not more at once than each process has, and at least one number for each: one without any would leave the others
    # waiting for it.
    size = max(1, min(size, -(-count // trainer.world_size)))
    loader: DataLoader[int] = DataLoader(range(max(count, trainer.world_size)), batch_size=size, collate_fn=list)  # type: ignore[arg-type]
    trainer.predict(model, loader, return_predictions=False)
    failed = dict(gather(model.failed))
    kept = sum(gather([model.num_kept]))
    results = []
    for window in windows:
        if window.clip.clip_id not in failed:
            results.append(read_result(model.plan.path_of(window.clip.clip_id)))
    order = {window.clip.clip_id: place for place, window in enumerate(windows)}
    return results, [f"{name}: {failed[name]}" for name in sorted(failed, key=order.__getitem__)], kept


def read_result(path: Path) -> ClipResult:
    """Read what was measured of a clip.

    Raises:
        DataError: it is not there, or not such a file.
    """
    content = _read(path)
    names = ("clip_id", "source", "label", "predicted", "score", "values", "curves", "removed")
    if content is None or any(name not in content for name in names):
        raise DataError(f"{path}: not what `evaluate` wrote; remove it, and run the same command again")
    return ClipResult(**{name: content[name] for name in names})
