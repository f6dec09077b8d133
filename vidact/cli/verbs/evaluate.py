"""What `evaluate` does: a plain function that prints, and returns an exit status.

It holds no arithmetic. Heavy imports happen when it runs, so that its help answers at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidact.core.terminal import printable

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from vidact.evaluation.clips import Choice
    from vidact.evaluation.results.tables import Evaluation
    from vidact.evaluation.runs import Measured, Prepared
    from vidact.evaluation.settings import EvaluateSettings


def evaluate(
    runs: list[str],
    out: str | None = None,
    part: str = "validation",
    root: str | None = None,
    masks_folder: str | None = None,
    methods: list[str] = [  # noqa: B006  # jsonargparse shows it in the help
        "lrp:epsilon_plus",
        "lrp:epsilon_gamma",
        "lrp:epsilon",
        "gradient",
        "gradient_x_input",
        "smoothgrad",
        "integrated_gradients",
        "grad_cam",
    ],
    measures: list[str] | None = None,
    units: list[str] = ["tubes", "frames"],  # noqa: B006
    fills: list[str] = ["blur", "temporal_mean", "freeze"],  # noqa: B006
    num_steps: int = 10,
    random_orders: int = 20,
    masks: list[str] | None = None,
    num_clips: int | None = None,
    target: str = "label",
    batch_size: int = 16,
    seed: int = 0,
    again: bool = False,
    wandb: bool = False,
    trust: str | None = None,
    accelerator: str = "auto",
    devices: str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
) -> int:
    """Measure how good explanations are, and say which method to trust for a checkpoint, if any.

    The window in the middle of each clip is explained by each method and by controls that know nothing of the network:
    random, centre, motion_energy, intensity. What is measured already is left as it is. Exit status 0 if all clips were
    measured, 1 if some could not be.

    Args:
        runs: Run folders (runs/version_0) or checkpoints; several are compared.
        out: Where to; with several runs, a folder for each. Null for a folder in each run folder: evaluation, where
            `report` finds it, of the test part evaluation_test, of another data set evaluation_<its name>; what
            compares several runs is then in a folder of that name here.
        part: The clips that are measured: validation or test.
        root: Another data set, such as one with masks; clips that the run can know are left out.
        masks_folder: Where the masks are; null for where the run had them, or in or beside the data set.
        methods: Ways of explaining, as '[lrp:epsilon_plus, grad_cam, occlusion]'.
        measures: perturbation, localisation, composition, randomisation, sensitivity, sparseness; null for
            perturbation, sparseness and, where there are masks, localisation.
        units: What is taken away at once: tubes, frames, columns.
        fills: What takes its place: blur, temporal_mean, spatial_blur, dataset_mean, noise and, for frames, freeze and
            mean_frame. The first unit and the first fill that suits it decide which method is best.
        num_steps: Points of a perturbation curve.
        random_orders: How many random orders the methods are compared with.
        masks: Kinds of masks; null for all that the data set has.
        num_clips: At most so many clips, equally many of each class and at least one, drawn by the seed; null for all.
        target: What is explained: label or predicted.
        batch_size: Clips that go through the network at once.
        seed: Of all that is drawn.
        again: Measure anew what is measured already.
        wandb: Log table, pictures and files to wandb too: offline without a key, as WANDB_MODE has it.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        accelerator: As Lightning has it: auto, cpu, gpu, …
        devices: How many, or which; clips are shared out among them.
        num_nodes: How many machines.
        strategy: As Lightning has it: auto, ddp, …
    """
    from vidact.cli.verbs.shared import build_trainer
    from vidact.evaluation.clips import Choice
    from vidact.evaluation.settings import EvaluateSettings
    from vidact.runs.trust import modules_named

    own = tuple(methods), _tuple(measures), tuple(units), tuple(fills), num_steps, random_orders, _tuple(masks)
    settings = EvaluateSettings(*own, target, batch_size, seed)
    choice = Choice(part, root, num_clips, seed, masks_folder)
    trainer = build_trainer(accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy)
    named = modules_named(trust)
    return _evaluate(
        runs, out, settings=settings, choice=choice, again=again, use_wandb=wandb, trust=named, trainer=trainer
    )


def _evaluate(
    runs: Sequence[str],
    out: str | None,
    *,
    settings: "EvaluateSettings",
    choice: "Choice",
    again: bool,
    use_wandb: bool,
    trust: tuple[str, ...],
    trainer: "Trainer",
) -> int:
    from vidact.core.files import check_writable
    from vidact.evaluation.output.files import claim_folder
    from vidact.evaluation.runs import folder_name, measure, prepare
    from vidact.runs.loggers.wandb import build_wandb_logger

    shared = Path(out or folder_name(choice))
    if out is not None or len(runs) > 1:
        check_writable(shared)
        claim_folder(shared)
    place = None if out is None else shared
    prepared = prepare(runs, out=place, settings=settings, choice=choice, again=again, trust=trust)
    for one in prepared:
        check_writable(one.plan.folder)
    logger = None
    if trainer.is_global_zero:
        logger = build_wandb_logger(prepared[0].plan.folder if len(prepared) == 1 else shared) if use_wandb else None
        for one in prepared:
            for note in one.notes:
                print(printable(f"{one.name}: {note}"))
    try:
        measured = [measure(one, trainer=trainer) for one in prepared]
    except SystemExit as error:  # so Lightning ends after Ctrl-C, having said nothing
        raise KeyboardInterrupt from error
    trainer.loggers = [] if logger is None else [logger]
    return _tell(prepared, measured, shared, trainer=trainer) if trainer.is_global_zero else 0


def _tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _tell(prepared: "Sequence[Prepared]", measured: "Sequence[Measured]", out: Path, *, trainer: "Trainer") -> int:
    """Write everything, and say what was found."""
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
            print(printable(f"left out   {line}"))
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
