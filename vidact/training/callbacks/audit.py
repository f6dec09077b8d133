"""The callback that asks every few epochs what a network leans on, and how far its explanations have drifted."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor
from torch.nn import functional as F

from vidact.attribution.copies import keep_rng, private_copy
from vidact.attribution.lrp.composites import CompositeSpec
from vidact.attribution.names import AUTO, LRP
from vidact.attribution.registry import build_explainer, check_composite, check_method
from vidact.audit.actors.moving import moving_region
from vidact.audit.asking import Candidate, ask_clip, plan
from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.results.findings import measure
from vidact.audit.results.first_leans import LEAN, PREFIX
from vidact.audit.results.resampling import Resamples
from vidact.audit.sections import ACTOR, EXCHANGES, ORDER, PROBES, TRAITS, Exchange
from vidact.audit.settings import BACKGROUND, OVER_TIME, TIME
from vidact.core.clips import ClipBatch, as_float
from vidact.core.devices import gather
from vidact.core.errors import ConfigError, VidactError, nearest
from vidact.evaluation.measures.localisation import relevance_mass
from vidact.training.callbacks.schedule import ScheduledCallback

CAN_BE_ASKED = tuple(dict.fromkeys(exchange.section for exchange in EXCHANGES.values()))
BATCH_SIZE = 8
LEAST_SOURCES = 10  # with fewer, an interval would say nothing
NUM_RESAMPLES = 1000
GRID = 16  # rows and columns to which maps are pooled before they are compared


@dataclass(frozen=True)
class Drawn:
    """The map of one clip.

    Attributes:
        position: The clip's place among those that are asked about.
        grid: Relevance of each frame, pooled to at most 16 × 16 [T, h, w]; a NumPy array, to be sent around.
        rma: Share of positive relevance in the mask; NaN without a mask, or where it is undefined.
    """

    position: int
    grid: Any
    rma: float


class AuditCallback(ScheduledCallback):
    """Asks every few epochs what a network leans on, with the same few validation clips; off by default.

    Logged as `val/audit/<finding>/lean`: the share of right answers that hang on what a part of the clips says of the
    class, as of `python -m vidact audit`; of a finding with several parts, as the eighths of the time, their mean.
    The actor is where the batches' masks say (`--data.masks true`), else in what moves. With ten sources or more the
    interval is logged, too (`low`, `high`), for a finding of one part. Logged of explanations:
    `val/audit/drift/previous` and `drift/initial`, 1 − cosine of the maps of the true class to those of the last
    measurement and of the weights that training began with, and with masks `drift/rma`, the share of positive
    relevance in them. It never changes training. With several processes, each asks about its share of the clips.

    Args:
        every_n_epochs: Ask after every n-th epoch of training (at the first validation from then on), and after the
            last; 0 for never.
        sections: What is asked: time, background, darkness, cuts, border, cells, camera, scale, speed.
        clips_per_class: Number of clips of each class, all from different sources.
        donors: How many other clips lend each part, of the same class and of another one.
        method: A method of `attribution.registry.METHODS`, for the drift.
        composite: Relevance rules for `lrp`, as of `--relevance.composite`.
    """

    other_sources = True

    def __init__(
        self,
        every_n_epochs: int = 0,
        sections: tuple[str, ...] = (TIME, BACKGROUND),
        clips_per_class: int = 4,
        donors: int = 2,
        method: str = LRP,
        composite: CompositeSpec = AUTO,
    ) -> None:
        if every_n_epochs < 0 or clips_per_class < 2 or donors < 1:
            raise ConfigError(
                "expected --audit.every_n_epochs ≥ 0, --audit.clips_per_class ≥ 2 (one lends to the other) and "
                f"--audit.donors ≥ 1, got {every_n_epochs}, {clips_per_class} and {donors}"
            )
        for name in sections:
            if name not in CAN_BE_ASKED:
                near = nearest(name, CAN_BE_ASKED, at_most=1)
                hint = f"nearest: {near[0]}; " if near else ""
                raise ConfigError(
                    f"--audit.sections: {name!r} cannot be asked while training; {hint}there are "
                    f"{', '.join(CAN_BE_ASKED)}"
                )
        check_method(method)
        check_composite(composite)
        super().__init__(every_n_epochs, clips_per_class)
        self.sections, self.donors = tuple(sections), donors
        self.method, self.composite = method, composite
        self._maps: dict[str, Tensor] = {}  # of the initial weights and of the last measurement [B, T, h, w]
        self._asked: AskedClips | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain with the initial weights, to compare with; say once how much the numbers can tell."""
        if not self.every_n_epochs:
            return
        clips = self.example_clips(trainer)
        sources = len(set(clips.source))
        if sources < LEAST_SOURCES:
            rank_zero_info(
                f"val/audit: {len(clips)} clips of {sources} sources are too few for intervals; "
                "python -m vidact audit gives them"
            )
        if trainer.ckpt_path is None:  # else they are in the checkpoint
            self._drift(trainer, pl_module, clips)

    def work(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask about the clips, explain them, and log what was found."""
        clips = self.example_clips(trainer)
        if self._asked is None:
            self._asked = AskedClips(clips, self.sections, self.donors)
        records = gather(self._records(trainer, pl_module, self._asked))
        drift = self._drift(trainer, pl_module, clips)
        if not trainer.is_global_zero:
            return
        # A donor's source is in its record, so that all are wanted.
        leans = self._asked.leans(records) if len(records) == len(clips) else {}
        if values := leans | drift:
            for logger in trainer.loggers:
                logger.log_metrics(values | {"epoch": float(self.epoch)}, step=trainer.global_step)
                logger.save()

    def _records(self, trainer: Trainer, pl_module: LightningModule, asked: "AskedClips") -> list[dict[str, Any]]:
        shard = range(trainer.global_rank, len(asked.candidates), trainer.world_size)
        device = pl_module.device
        try:
            network = private_copy(pl_module.network)  # type: ignore[arg-type]
            with torch.no_grad(), torch.autocast(device.type, enabled=False), keep_rng(device):
                return [asked.ask(network, number, device=device) for number in shard]
        except (VidactError, RuntimeError) as error:  # a network that has diverged, for one: training goes on
            if not isinstance(error, VidactError) and not is_oom_error(error):
                raise
            warnings.warn(f"val/audit is not measured: {error}", stacklevel=2)
            return []

    def _drift(self, trainer: Trainer, pl_module: LightningModule, clips: ClipBatch) -> dict[str, float]:
        """Explain the clips and compare with the maps before; the maps are those before from now on."""
        shard = range(trainer.global_rank, len(clips), trainer.world_size)
        drawn = sorted(gather(self._explain(pl_module, clips, shard)), key=lambda one: one.position)
        if len(drawn) != len(clips) or not drawn:
            return {}
        maps = torch.stack([torch.from_numpy(one.grid) for one in drawn])
        values = {name: _distance(maps, before) for name, before in self._maps.items()}
        known = [one.rma for one in drawn if math.isfinite(one.rma)]
        values |= {"rma": sum(known) / len(known)} if known else {}
        self._maps = {"initial": self._maps.get("initial", maps), "previous": maps}
        return {f"{PREFIX}drift/{name}": value for name, value in values.items() if math.isfinite(value)}

    def _explain(self, pl_module: LightningModule, clips: ClipBatch, positions: Sequence[int]) -> list[Drawn]:
        settings = {"composite": self.composite, "check_network": False} if self.method.startswith(LRP) else {}
        found = []
        try:
            with build_explainer(self.method, pl_module.network, **settings) as explain:  # type: ignore[arg-type]
                for start in range(0, len(positions), BATCH_SIZE):
                    part = list(positions[start : start + BATCH_SIZE])
                    video, label = (own[part].to(pl_module.device) for own in (clips.video, clips.label))
                    maps = explain(as_float(video), label).relevance.sum(dim=1).cpu()
                    shares = [math.nan] * len(part) if clips.mask is None else relevance_mass(maps, clips.mask[part])
                    size = min(GRID, maps.shape[2]), min(GRID, maps.shape[3])
                    grids = F.adaptive_avg_pool2d(maps, size).numpy()
                    found += [Drawn(*one) for one in zip(part, grids, map(float, shares), strict=True)]
        except VidactError as error:
            warnings.warn(f"val/audit/drift is not measured: {error}", stacklevel=2)
            return []
        return found

    def state_dict(self) -> dict[str, Any]:
        """Save the maps to compare with, too."""
        return super().state_dict() | ({"maps": self._maps} if self._maps else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them; a training that was not asked before compares with the first measurement."""
        super().load_state_dict(state_dict)
        self._maps = dict(state_dict.get("maps", {}))


def _distance(maps: Tensor, before: Tensor) -> float:
    """Average 1 − cosine over clips; a clip without relevance does not count."""
    if maps.shape != before.shape:  # other clips than those of the checkpoint
        return math.nan
    one, other = maps.flatten(1).double(), before.flatten(1).double()
    return float((1 - (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))).nanmean())


class AskedClips:
    """The clips that are asked about, with their actors and backgrounds, and who lends to whom: always the same.

    Args:
        batch: The clips.
        sections: What is asked.
        donors: How many lend each part.
    """

    def __init__(self, batch: ClipBatch, sections: Sequence[str], donors: int) -> None:
        self._batch, self._donors = batch, donors
        is_single = batch.video.shape[2] == 1
        names = [name for name in sections if not (is_single and name in OVER_TIME)]
        # Controls are for verdicts, which a few clips do not allow.
        self._exchanges: Mapping[str, Exchange] = {
            name: replace(own, is_judged=False) for name, own in EXCHANGES.items() if own.section in names
        }
        self._probes = {ORDER: PROBES[ORDER]} if TIME in names else {}

    @cached_property
    def _actors(self) -> list[tuple[Tensor, Tensor]]:
        """Each clip's mask and still background; its pixels stay bytes."""
        found = []
        for number in range(len(self._batch)):
            video, mask = as_float(self._batch.video[[number]]), self._batch.mask
            whole = with_plate(video, moving_region(video) if mask is None else mask[[number]])
            assert whole.mask is not None
            assert whole.plate is not None
            found.append((whole.mask, whole.plate))
        return found

    def _read(self, number: int, device: torch.device) -> Clips:
        video = as_float(self._batch.video[[number]].to(device))
        mask, plate = (own.to(device) for own in self._actors[number])
        return Clips(video, mask, plate)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The clips as donors."""
        needs = {own for exchange in self._exchanges.values() for own in exchange.needs}
        found = []
        for number, label in enumerate(self._batch.label.tolist()):
            clip = self._read(number, torch.device("cpu"))
            traits = {name for name, has in TRAITS.items() if name in needs and has(clip)}
            traits |= {ACTOR} if clip.mask is not None and bool(clip.mask.any()) else set()
            found.append(Candidate(str(number), label, self._batch.source[number], frozenset(traits)))
        return found

    def ask(self, network: torch.nn.Module, number: int, *, device: torch.device) -> dict[str, Any]:
        """Ask a network, in eval mode on its device, about one clip."""
        own = self.candidates[number]
        planned = plan(own, self.candidates, exchanges=self._exchanges, donors=self._donors, seed=0)
        found = ask_clip(
            network,
            None,
            self._read(number, device),
            planned,
            read=lambda name: self._read(int(name), device),
            exchanges=self._exchanges,
            probes=self._probes,
            batch_size=BATCH_SIZE,
            seed=0,
        )
        return {"clip": own.clip_id, "label": own.label, "source": own.source, "donors": planned.donors, **found}

    def leans(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Estimate each finding's lean, by the name to log; what is not defined is left out."""
        sources = [record["source"] for record in records]
        resamples = Resamples(sources, generator=torch.Generator().manual_seed(0), num_resamples=NUM_RESAMPLES)
        asked: dict[str, Exchange | None] = {**dict.fromkeys(self._probes), **self._exchanges}
        values: dict[str, float] = {}
        for name, exchange in asked.items():
            found = measure(
                name,
                records,
                exchange=exchange,
                resamples=resamples,
                num_findings=len(asked),
                num_classes=int(self._batch.label.max()) + 1,
            )
            leans = [part.lean for part in found.parts.values() if part.lean.mean is not None] if found else []
            if leans:
                values[f"{PREFIX}{name}{LEAN}"] = sum(own.mean or 0.0 for own in leans) / len(leans)
            if len(leans) == 1 and len(set(sources)) >= LEAST_SOURCES:
                ends = {"low": leans[0].low, "high": leans[0].high}
                values |= {f"{PREFIX}{name}/{end}": value for end, value in ends.items() if value is not None}
        return values
