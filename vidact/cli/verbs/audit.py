"""`audit`: find out what a network leans on, by exchanging parts of clips for those of other clips.

Heavy imports happen when the verb runs, so that its help answers at once.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidact.audit.settings import AuditSettings
from vidact.cli.verbs.shared import TrainerSettings, build_trainer
from vidact.core.errors import ConfigError, DataError
from vidact.core.terminal import printable
from vidact.runs.clips.choice import Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import Logger

    from vidact.audit.gates.gate import Outcome
    from vidact.audit.runs import Answered, Prepared
    from vidact.runs.run import Run

GATE_FAILED = 4


def audit(
    runs: list[str],
    *,
    out: str | None = None,
    choice: Choice,
    settings: AuditSettings,
    fail_if: list[str] | str | None = None,
    gate: str | None = None,
    baseline: str | None = None,
    strict: bool = False,
    again: bool = False,
    wandb: bool = False,
    export: Literal["virelay"] | None = None,
    trust: str | None = None,
    trainer: TrainerSettings,
) -> int:
    """Say what a network leans on: the background, a cell of the frame, the border, a stretch of time, the order.

    The part is exchanged for that of other clips, of the same class and of another one, and the network is asked again.
    Exit status 0 if all clips could be asked about and no condition failed, 1 if some clips could not, 4 if a condition
    of --fail_if or --gate holds.

    Args:
        runs: Run folders (runs/version_0) or checkpoints.
        out: Where to; with several runs, a folder for each. Null for a folder audit in each run folder.
        choice: Which clips.
        settings: What is exchanged.
        fail_if: Conditions on which the command fails, as 'background.lean.low > 0.2' (sure that it leans),
            'background.lean.high > 0.2' (not sure that it does not), leans.
        gate: YAML file with such conditions under fail_if.
        baseline: audit.json of another audit, for conditions with baseline.background.lean.mean.
        strict: Let conditions fail on what could not be measured.
        again: Ask again about clips that are asked about already.
        wandb: Log table, pictures and files to wandb too: offline without a key, as WANDB_MODE has it.
        export: virelay also writes clips, their relevance and their groups (section clusters) as ViRelAy's files; needs
            h5py.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        trainer: On which devices.
    """
    from vidact.audit.gates.gate import parse_gate, read_gate
    from vidact.audit.output.files import read_content
    from vidact.audit.relevance.trusted import choose_method
    from vidact.audit.runs import prepare
    from vidact.core.files import check_writable
    from vidact.runs.run import open_run, unique_names
    from vidact.runs.trust import parse_modules

    if fail_if == []:
        raise ConfigError("--fail_if names no condition; try 'background.lean.low > 0.2'")
    built = build_trainer(trainer)
    named, is_strict = [fail_if] if isinstance(fail_if, str) else list(fail_if or ()), strict
    if gate is not None:
        own, own_strict = read_gate(Path(gate))
        named, is_strict = [*named, *own], strict or own_strict
    against = None if baseline is None else read_content(Path(baseline))
    opened = [open_run(path, trust=parse_modules(trust)) for path in runs]
    named_runs = zip(opened, unique_names(opened), strict=True)
    folders = [_folder(run, name, out=out, choice=choice, is_single=len(opened) == 1) for run, name in named_runs]
    if len({folder.resolve() for folder in folders}) < len(folders):  # checkpoints outside of run folders
        raise ConfigError(f"two runs would write into {folders[0]}; name a folder for all of them as --out")
    prepared = []
    for run, folder in zip(opened, folders, strict=True):
        check_writable(folder)
        method = choose_method(run.folder, settings.method)
        prepared.append(prepare(run, folder=folder, settings=settings, choice=choice, again=again, method=method))
    _check_export(export, prepared)
    gates = [parse_gate(named, findings=one.judged, has_baseline=against is not None) for one in prepared]
    status = 0
    for one, conditions in zip(prepared, gates, strict=True):
        told = _audit(one, conditions, against, strict=is_strict, wandb=wandb, export=export, trainer=built)
        status = max(status, told)
    return status


def _check_export(export: str | None, prepared: "list[Prepared]") -> None:
    """Refuse an export that will not be possible before anything is asked."""
    if export is not None:
        from vidact.audit.output.virelay import check_export

        for one in prepared:
            check_export(one.task.method)


def _folder(run: "Run", name: str, *, out: str | None, choice: Choice, is_single: bool) -> Path:
    own = "audit" if choice.root is None else f"audit_{Path(choice.root).absolute().name}"
    own = own if choice.part == Choice.part or choice.root is not None else f"{own}_{choice.part}"
    if out is None:
        return (run.folder or Path()) / own
    return Path(out) if is_single else Path(out) / name


def _audit(
    prepared: "Prepared",
    gate: Any,
    baseline: Any,
    *,
    strict: bool,
    wandb: bool,
    export: str | None,
    trainer: "Trainer",
) -> int:
    """Audit one run, write everything, and print a summary; gives the exit status."""
    from vidact.audit.output.junit import write_junit
    from vidact.audit.runs import ask
    from vidact.runs.loggers.wandb import build_wandb_logger

    for note in prepared.notes if trainer.is_global_zero else ():
        print(printable(f"{prepared.run.name}: {note}"))
    start, folder = time.monotonic(), prepared.task.folder
    logger = build_wandb_logger(folder) if wandb and trainer.is_global_zero else None
    try:
        answered = ask(prepared, trainer=trainer)
        if not trainer.is_global_zero:
            return 0
        content, pictures = _write(prepared, answered)
        if export is not None:
            from vidact.audit.output.virelay import explained_clips, export_virelay

            clips, strategies = explained_clips(prepared, answered), answered.proposals.strategies
            names, seed = prepared.run.class_names, prepared.task.settings.seed
            export_virelay(folder / "virelay", clips, strategies, class_names=names, seed=seed)
    except SystemExit as error:  # Lightning ends so after Ctrl-C, without a message
        raise KeyboardInterrupt from error
    except Exception as error:
        write_junit(folder / "junit.xml", {}, (), seconds=time.monotonic() - start, error=error)
        raise
    has_failed = _check(gate, content, baseline, folder, strict=strict, seconds=time.monotonic() - start)
    if logger is not None:
        _log(logger, content, folder, pictures, trainer=trainer)
    return GATE_FAILED if has_failed else int(bool(answered.failed))


def _write(prepared: "Prepared", answered: "Answered") -> "tuple[dict[str, Any], dict[str, Path]]":
    """Write numbers, pictures and examples, and print a summary; gives what `audit.json` has, and the pictures."""
    from vidact.audit.output.examples import write_examples
    from vidact.audit.output.files import write_audit
    from vidact.audit.output.pictures import audit_figures
    from vidact.audit.results.summary import summarise
    from vidact.audit.runs import mean_frame
    from vidact.drawing.figure import save_figures
    from vidact.runs.folder import relative

    folder = prepared.task.folder
    found = summarise(prepared, answered)
    names, frame = prepared.run.class_names, mean_frame(prepared)
    figures = audit_figures(found, answered.records, class_names=names, mean_frame=frame)
    content = write_audit(folder, found, pictures=figures)
    pictures = save_figures(folder, figures)
    try:
        write_examples(prepared, answered, found)
    except DataError as error:  # the numbers are there, and what follows needs no clip
        print(printable(f"{prepared.run.name}: no examples: {error}"))
    for line in found.left_out:
        print(printable(f"skipped    {line}"))
    before = f", {answered.kept} of them before" if answered.kept else ""
    print(printable(f"{found.run}: {found.clips} clips asked about{before}  {relative(folder / 'audit.md')}"))
    print(printable(f"{found.sentence}."))
    if failed := answered.failed:
        print(f"{len(failed)} clips could not be asked about")
    return content, pictures


def _check(gate: Any, content: Any, baseline: Any, folder: Path, *, strict: bool, seconds: float) -> bool:
    """Hold the conditions against what was found, and write `junit.xml`; says whether one of them holds."""
    from vidact.audit.gates.gate import check_gate
    from vidact.audit.output.junit import write_junit

    outcomes = check_gate(gate, content, baseline=baseline, strict=strict)
    write_junit(folder / "junit.xml", content, outcomes, seconds=seconds)
    return _tell(outcomes, folder)


def _log(logger: "Logger", content: Any, folder: Path, pictures: "Mapping[str, Path]", *, trainer: "Trainer") -> None:
    from vidact.audit.output.logging import log_audit

    trainer.loggers = [logger]
    print(printable(f"wandb      {log_audit(trainer, content, folder=folder, pictures=pictures)}"))
    trainer.loggers = []


def _tell(outcomes: "tuple[Outcome, ...]", folder: Path) -> bool:
    """Print and write what became of the conditions; says whether one of them holds."""
    from vidact.audit.gates.gate import gate_text
    from vidact.core.files import atomic_writer

    if not outcomes:
        (folder / "gate.txt").unlink(missing_ok=True)  # of conditions that were asked before
        return False
    text = gate_text(outcomes)
    with atomic_writer(folder / "gate.txt") as file:
        file.write(text)
    for line in text.splitlines():
        print(printable(line))
    return any(outcome.failed for outcome in outcomes)
