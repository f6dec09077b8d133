"""What `explain` and `report` do: plain functions that print, and return an exit status.

They hold no arithmetic. Heavy imports happen when a verb runs, so that its help answers at once.
"""

from typing import TYPE_CHECKING

from vidact.cli.verbs.shared import build_trainer
from vidact.core.terminal import printable

if TYPE_CHECKING:
    from vidact.explaining.jobs import Beside, Result
    from vidact.explaining.videos import ExplainSettings
    from vidact.runs.run import Run


def explain_videos(
    run: str,
    videos: list[str],
    out: str = "explanations",
    method: str = "lrp",
    composite: str = "epsilon_plus",
    target: str = "predicted",
    threshold: float = 0.3,
    top_k: int = 3,
    overlap: float = 0.5,
    layout: str = "beside",
    max_width: int = 1920,
    beside: str | None = None,
    batch_size: int = 8,
    again: bool = False,
    trust: str | None = None,
    accelerator: str = "auto",
    devices: str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
) -> int:
    """Show what a trained network looks at in any video: an overlay that moves, pictures, arrays and numbers.

    Windows slide over each video; what is explained already is left as it is. Exit status 0 if all videos were
    explained, 1 if some could not be.

    Args:
        run: A run folder (runs/version_0) or a checkpoint.
        videos: Video files, or folders of them.
        out: Where to; each video gets a folder of its own.
        method: lrp, gradient, gradient_x_input, smoothgrad, integrated_gradients, occlusion, grad_cam, …
        composite: The relevance rules per layer, for lrp: a name or a .yaml file.
        target: What is explained: predicted, a class, or A-vs-B (why A and not B).
        threshold: A voxel is a hotspot from this share of the video's largest relevance on.
        top_k: How many classes are named.
        overlap: Share of a window that the next one sees again.
        layout: The overlay beside the original, or over it.
        max_width: The overlay video's greatest width in pixels, at least 320.
        beside: Another method, or another run or checkpoint: drawn below the first, in comparison.png.
        batch_size: Windows that go through the network at once.
        again: Explain anew what is explained already.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        accelerator: As Lightning has it: auto, cpu, gpu, …
        devices: How many, or which; videos are shared out among them.
        num_nodes: How many machines.
        strategy: As Lightning has it: auto, ddp, …
    """
    from pathlib import Path

    from vidact.core.errors import ConfigError
    from vidact.explaining.files import FileSettings
    from vidact.explaining.jobs import VideoExplainer, explain_all, list_jobs
    from vidact.explaining.videos import ExplainSettings
    from vidact.runs.run import open_run, window_of
    from vidact.runs.trust import modules_named

    settings = ExplainSettings(method, composite, target, batch_size)
    if layout not in ("beside", "over"):
        raise ConfigError(f"--layout is beside or over, got {layout!r}")
    files = FileSettings(threshold, top_k, layout, max_width)  # type: ignore[arg-type]
    jobs = list_jobs(videos, Path(out))
    named = modules_named(trust)
    opened = open_run(run, trust=named)
    settings.check_target(opened.class_names)
    window = window_of(opened, overlap=overlap)
    other = None if beside is None else _read_beside(beside, opened, settings)
    model = VideoExplainer(opened, jobs, window=window, settings=settings, files=files, again=again, beside=other)
    trainer = build_trainer(accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy)
    try:
        results = explain_all(model, trainer=trainer)
    except SystemExit as error:  # so Lightning ends after Ctrl-C, having said nothing
        raise KeyboardInterrupt from error
    return _tell(results) if trainer.is_global_zero else 0


def _read_beside(beside: str, run: "Run", settings: "ExplainSettings") -> "Beside":
    """Read what `--beside` names: a method, or else a run or checkpoint."""
    from dataclasses import replace

    from vidact.attribution.registry import METHODS
    from vidact.explaining.jobs import Beside
    from vidact.runs.run import open_run

    if beside.partition(":")[0] in METHODS:
        return Beside(run, replace(settings, method=beside))
    other = open_run(beside, trust=run.trust)
    settings.check_target(other.class_names)
    return Beside(other, settings)


def _tell(results: "list[Result]") -> int:
    from vidact.runs.folder import relative

    for result in results:
        place = f"  {relative(result.folder)}" if result.state != "failed" else ""
        print(printable(f"{result.state:<10} {relative(result.path)}: {result.told}{place}"))
        if result.warning:
            print(printable(f"{'warning':<10} {relative(result.path)}: {result.warning}"))
    failed = [result for result in results if result.state == "failed"]
    if failed:
        print(f"{len(failed)} of {len(results)} videos could not be explained")
    return int(bool(failed))
