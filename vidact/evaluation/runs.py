"""Evaluate runs: choose clips and possible methods, measure, and summarise each run as tables and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from vidact.core import __version__
from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError, DataError
from vidact.core.jobs import installed_versions
from vidact.data.video.containers import file_sha1
from vidact.evaluation.context import possible_methods
from vidact.evaluation.jobs import ClipEvaluator, Plan, evaluate_all
from vidact.evaluation.names import CONTROLS, LOCALISATION, PERTURBATION
from vidact.evaluation.output.files import NAME, claim_folder, read_evaluation
from vidact.evaluation.results.statistics import ClipResult, Table
from vidact.evaluation.results.tables import Evaluation
from vidact.evaluation.results.verdict import decide, why_undecided
from vidact.evaluation.settings import EvaluateSettings, headline
from vidact.runs.clips.choice import Choice
from vidact.runs.clips.chosen import ChosenClips, choose_clips
from vidact.runs.folder import EVALUATION
from vidact.runs.run import Run, open_run, unique_names

CHECKPOINT = "checkpoint_sha1"
LIBRARIES = ("torch", "zennit", "captum", "lightning", "numpy", "scipy", "av", "decord")


@dataclass(frozen=True)
class Prepared:
    """A run, its clips and its plan, ready to be measured.

    Attributes:
        name: Unique among the runs.
        run: The run.
        chosen: Its clips.
        plan: What is measured.
        choice: How the clips were chosen.
        notes: Remarks on clips and methods, for the user.
    """

    name: str
    run: Run
    chosen: ChosenClips
    plan: Plan
    choice: Choice
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What was measured of a run.

    Attributes:
        results: The numbers of each clip.
        left_out: A line for each clip that could not be measured.
        num_kept: How many were measured by an earlier run.
        num_failed: How many failed.
    """

    results: tuple[ClipResult, ...]
    left_out: tuple[str, ...]
    num_kept: int
    num_failed: int


def prepare(
    paths: Sequence[str],
    *,
    out: Path | None,
    settings: EvaluateSettings,
    choice: Choice,
    again: bool,
    trust: Sequence[str] = (),
) -> list[Prepared]:
    """Open runs, choose their clips, and find out what can be measured, before anything expensive starts.

    Args:
        paths: Run folders or checkpoints.
        out: Where to; with several runs, each gets a folder of its own in it. None for a folder in each run's
            own or, for a checkpoint outside of run folders, in the current folder.
        settings: What is measured.
        choice: Which clips are measured.
        again: Whether to measure clips again that are measured already.
        trust: See `open_run`.

    Raises:
        CheckpointError: no run, or a run given twice.
        ConfigError: no usable method, measure or kind of masks; a folder that holds the evaluation of another
            checkpoint or of other clips, a damaged one, or files that vidact did not write.
        DataError: no usable clip.
    """
    runs = [open_run(path, trust=trust) for path in paths]
    names = unique_names(runs)
    own = folder_name(choice)
    folders = [
        _folder(run, name, out=out, own=own, is_single=len(runs) == 1) for run, name in zip(runs, names, strict=True)
    ]
    for run, folder in zip(runs, folders, strict=True):
        claim_folder(folder)
        if not again:
            _refuse_another(folder, run, choice)
    return [
        _prepare(run, name, folder, settings=settings, choice=choice, again=again)
        for run, name, folder in zip(runs, names, folders, strict=True)
    ]


def folder_name(choice: Choice) -> str:
    """Name the default folder of an evaluation: each part and each other data set has its own."""
    if choice.root is not None:
        return f"{EVALUATION}_{_root_name(choice.root)}"
    return EVALUATION if choice.part == Choice.part else f"{EVALUATION}_{choice.part}"


def _root_name(root: str) -> str:
    return Path(root).absolute().name.removesuffix(".csv")


def _folder(run: Run, name: str, *, out: Path | None, own: str, is_single: bool) -> Path:
    if out is None and run.folder is not None:
        return run.folder / own
    shared = Path(own) if out is None else out
    return shared if is_single else shared / name


def _refuse_another(folder: Path, run: Run, choice: Choice) -> None:
    """Refuse a folder with the evaluation of another checkpoint or other clips, which would be overwritten."""
    path = folder / f"{NAME}.json"
    if not path.exists():
        return
    try:
        other = read_evaluation(path)
    except DataError as error:
        raise ConfigError(
            f"{str(error).partition(';')[0]}; replace it with --again, or choose another --out"
        ) from error
    there = _clips_of(other.settings.get("root"), other.settings.get("part"))
    here = _clips_of(None if choice.root is None else _root_name(choice.root), choice.part)
    if other.settings.get(CHECKPOINT) != file_sha1(run.checkpoint):
        what = f"another checkpoint ({other.run})"
    elif there != here:
        what = f"other clips ({there}, not {here})"
    else:
        return
    raise ConfigError(f"{folder}: holds the evaluation of {what}; choose another --out, or replace it with --again")


def _clips_of(root: str | None, part: str | None) -> str:
    return f"data set {root}" if root is not None else f"part {part}"


def _prepare(run: Run, name: str, folder: Path, *, settings: EvaluateSettings, choice: Choice, again: bool) -> Prepared:
    data = run.data_settings
    height, width = height_and_width(data["size"])
    generator = torch.Generator().manual_seed(settings.seed)
    example = torch.rand(1, 1 if data["gray"] else 3, data["num_frames"], height, width, generator=generator)
    own, lines = possible_methods(run.network, settings, example=example)
    chosen = choose_clips(run, choice, seed=settings.seed)
    families = own.families(has_masks=bool(chosen.mask_kinds))
    kinds = own.mask_kinds(chosen.mask_kinds) if LOCALISATION in families else ()
    if PERTURBATION in families:
        lines += own.idle_note(data["num_frames"])
    sources = {
        key: chosen.sources_of(key.removeprefix("rma/") if key.startswith("rma/") else None)
        for key in headline(own, families, kinds, num_frames=data["num_frames"])
    }
    if told := why_undecided(sources, num_clips=len(chosen.windows), num_methods=len(own.methods)):
        lines += [told]
    return Prepared(name, run, chosen, Plan(own, families, kinds, folder, again), choice, (*chosen.notes, *lines))


def measure(prepared: Prepared, *, trainer: Trainer) -> Measured:
    """Measure all clips of a run, each on one of the devices.

    Raises:
        DataError: no clip could be measured.
    """
    model = ClipEvaluator(prepared.run, prepared.chosen, prepared.plan)
    results, failed, kept = evaluate_all(model, trainer=trainer)
    if not results:
        raise DataError(f"{prepared.name}: no clip could be measured; the first: {failed[0]}")
    return Measured(tuple(results), (*prepared.chosen.left_out, *failed), kept, len(failed))


def summarise(prepared: Prepared, measured: Measured) -> Evaluation:
    """Compute a run's table, curves and verdict."""
    plan, results = prepared.plan, measured.results
    table = Table(results, run=prepared.name, methods=plan.settings.methods)
    rows = table.rows()
    num_frames = prepared.run.data_settings["num_frames"]
    criteria = headline(plan.settings, plan.families, plan.kinds, num_frames=num_frames)
    return Evaluation(
        run=prepared.name,
        part=prepared.choice.part if prepared.choice.root is None else "other data",
        data=prepared.chosen.folder.name,
        class_names=prepared.chosen.class_names,
        methods=plan.settings.methods,
        controls=CONTROLS,
        settings=_settings(prepared),
        versions={"vidact": __version__} | installed_versions(LIBRARIES),
        clips=len(results),
        sources=len({result.source for result in results}),
        right=sum(result.is_right for result in results),
        rows=rows,
        curves=table.curves(),
        verdict=decide(table, rows, criteria=criteria),
        left_out=measured.left_out,
        notes=prepared.notes,
    )


def _settings(prepared: Prepared) -> dict[str, Any]:
    """List all settings but the batch size and devices, on which no number depends."""
    settings: dict[str, Any] = asdict(prepared.plan.settings) | asdict(prepared.choice)
    settings |= {"measures": list(prepared.plan.families), "masks": list(prepared.plan.kinds)}
    settings[CHECKPOINT] = file_sha1(prepared.run.checkpoint)
    settings["root"] = None if prepared.choice.root is None else _root_name(prepared.choice.root)
    settings["masks_folder"] = prepared.chosen.masks.folder.name if prepared.chosen.masks is not None else None
    settings.pop("batch_size")
    return settings
