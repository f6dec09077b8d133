"""`explain`: show what a trained network looks at in videos.

Heavy imports happen when the verb runs, so that its help answers at once.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidact.cli.verbs.shared import TrainerSettings, build_trainer
from vidact.core.terminal import printable
from vidact.explaining.settings import ExplainSettings, FileSettings

if TYPE_CHECKING:
    from vidact.explaining.jobs import Beside, Result
    from vidact.runs.run import Run


def explain_videos(
    run: str,
    videos: list[str],
    *,
    out: str = "explanations",
    settings: ExplainSettings,
    files: FileSettings,
    overlap: float = 0.5,
    beside: str | None = None,
    again: bool = False,
    trust: str | None = None,
    trainer: TrainerSettings,
) -> int:
    """Show what a trained network looks at in any video: an overlay that moves, pictures, arrays and numbers.

    Windows slide over each video; videos that are explained already are kept. Exit status 0 if all videos were
    explained, 1 if some could not be.

    Args:
        run: A run folder (runs/version_0) or a checkpoint.
        videos: Video files, or folders of them.
        out: Where to; each video gets a folder of its own.
        settings: How they are explained.
        files: What is written.
        overlap: Share of a window that the next one overlaps.
        beside: Another method, or another run or checkpoint: drawn below the first, in comparison.png.
        again: Explain videos again that are explained already.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        trainer: On which devices.
    """
    from vidact.explaining.jobs import VideoExplainer, explain_all, list_jobs
    from vidact.runs.run import open_run, window_of
    from vidact.runs.trust import parse_modules

    jobs = list_jobs(videos, Path(out))
    named = parse_modules(trust)
    opened = open_run(run, trust=named)
    settings.check_target(opened.class_names)
    window = window_of(opened, overlap=overlap)
    other = None if beside is None else _read_beside(beside, opened, settings)
    model = VideoExplainer(opened, jobs, window=window, settings=settings, files=files, again=again, beside=other)
    built = build_trainer(trainer)
    try:
        results = explain_all(model, trainer=built)
    except SystemExit as error:  # Lightning ends so after Ctrl-C, without a message
        raise KeyboardInterrupt from error
    return _print_results(results) if built.is_global_zero else 0


def _read_beside(beside: str, run: "Run", settings: ExplainSettings) -> "Beside":
    """Read what `--beside` names: a method, or else a run or checkpoint."""
    from vidact.attribution.registry import METHODS
    from vidact.explaining.jobs import Beside
    from vidact.runs.run import open_run

    if beside.partition(":")[0] in METHODS:
        return Beside(run, replace(settings, method=beside))
    other = open_run(beside, trust=run.trust)
    settings.check_target(other.class_names)
    return Beside(other, settings)


def _print_results(results: "list[Result]") -> int:
    from vidact.runs.folder import relative

    for result in results:
        place = f"  {relative(result.folder)}" if result.state != "failed" else ""
        print(printable(f"{result.state:<10} {relative(result.path)}: {result.summary}{place}"))
        if result.warning:
            print(printable(f"{'warning':<10} {relative(result.path)}: {result.warning}"))
    failed = [result for result in results if result.state == "failed"]
    if failed:
        print(f"{len(failed)} of {len(results)} videos could not be explained")
    return int(bool(failed))
