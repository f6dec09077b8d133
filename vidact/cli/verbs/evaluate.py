"""`evaluate`: measure how good explanations are, and say which method to trust.

Heavy imports happen when the verb runs, so that its help answers at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidact.cli.verbs.shared import TrainerSettings, build_trainer
from vidact.core.terminal import printable
from vidact.evaluation.settings import EvaluateSettings
from vidact.runs.clips.choice import Choice

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from vidact.evaluation.results.tables import Evaluation
    from vidact.evaluation.runs import Measured, Prepared


def evaluate(
    runs: list[str],
    *,
    out: str | None = None,
    choice: Choice,
    settings: EvaluateSettings,
    again: bool = False,
    wandb: bool = False,
    trust: str | None = None,
    trainer: TrainerSettings,
) -> int:
    """Measure how good explanations are, and say which method to trust for a checkpoint, if any.

    The window in the middle of each clip is explained by each method and by controls that ignore the network:
    random, centre, motion_energy, intensity. Clips that are measured already are kept. Exit status 0 if all clips were
    measured, 1 if some could not be.

    Args:
        runs: Run folders (runs/version_0) or checkpoints; several are compared.
        out: Where to; with several runs, a folder for each. Null for a folder in each run folder: evaluation, where
            `report` finds it, of the test part evaluation_test, of another data set evaluation_<its name>; what
            compares several runs is then in a folder of that name in the current one.
        choice: Which clips.
        settings: What is measured.
        again: Measure clips again that are measured already.
        wandb: Log table, pictures and files to wandb too: offline without a key, as WANDB_MODE has it.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        trainer: On which devices.
    """
    from vidact.core.files import check_writable
    from vidact.evaluation.output.files import claim_folder
    from vidact.evaluation.runs import folder_name, measure, prepare
    from vidact.runs.loggers.wandb import build_wandb_logger
    from vidact.runs.trust import parse_modules

    built = build_trainer(trainer)
    named = parse_modules(trust)
    shared = Path(out or folder_name(choice))
    if out is not None or len(runs) > 1:
        check_writable(shared)
        claim_folder(shared)
    place = None if out is None else shared
    prepared = prepare(runs, out=place, settings=settings, choice=choice, again=again, trust=named)
    for one in prepared:
        check_writable(one.plan.folder)
    logger = None
    if built.is_global_zero:
        logger = build_wandb_logger(prepared[0].plan.folder if len(prepared) == 1 else shared) if wandb else None
        for one in prepared:
            for note in one.notes:
                print(printable(f"{one.name}: {note}"))
    try:
        measured = [measure(one, trainer=built) for one in prepared]
    except SystemExit as error:  # Lightning ends so after Ctrl-C, without a message
        raise KeyboardInterrupt from error
    built.loggers = [] if logger is None else [logger]
    return _write_results(prepared, measured, shared, trainer=built) if built.is_global_zero else 0


def _write_results(
    prepared: "Sequence[Prepared]", measured: "Sequence[Measured]", out: Path, *, trainer: "Trainer"
) -> int:
    """Write everything, and print a summary."""
    from vidact.evaluation.output.files import write_comparison, write_evaluation
    from vidact.evaluation.output.logging import draw_comparison, draw_evaluation, log_evaluations, written_files
    from vidact.evaluation.results.comparison import compare
    from vidact.evaluation.runs import summarise
    from vidact.runs.folder import relative

    evaluations: list[Evaluation] = []
    pictures: dict[str, Path] = {}
    files: dict[str, Path] = {}
    for one, found in zip(prepared, measured, strict=True):
        evaluation = summarise(one, found)
        write_evaluation(one.plan.folder, evaluation)
        evaluations.append(evaluation)
        prefix = f"{one.name}/" if len(prepared) > 1 else ""
        drawn = draw_evaluation(one.plan.folder, evaluation)
        pictures |= {f"{prefix}{name}": path for name, path in drawn.items()}
        files |= written_files(one.plan.folder, prefix=prefix)
        for line in found.left_out:
            print(printable(f"skipped    {line}"))
        kept = f", {found.num_kept} of them before" if found.num_kept else ""
        place = relative(one.plan.folder / "evaluation.md")
        print(printable(f"{one.name}: {evaluation.clips} clips measured{kept}  {place}"))
        print(f"{evaluation.verdict.sentence}.")
    if len(evaluations) > 1:
        comparison = compare(evaluations)
        write_comparison(out, comparison)
        pictures |= draw_comparison(out, comparison)
        files |= written_files(out)
        print(printable(relative(out / "comparison.md")))
    if place := log_evaluations(trainer, evaluations, pictures=pictures, files=files):
        print(printable(f"wandb      {place}"))
    failed = sum(found.num_failed for found in measured)
    if failed:
        print(f"{failed} clips could not be measured")
    return int(bool(failed))
