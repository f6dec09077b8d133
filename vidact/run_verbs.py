"""What `explain` and `report` do: plain functions that print, and return an exit status.

They hold no arithmetic. Heavy imports happen when a verb runs, so that its help answers at once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from vidact.terminal import guard_warnings, printable

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from vidact.explaining import ExplainSettings
    from vidact.runs import Run
    from vidact.video_jobs import Beside, Result


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

    from vidact.core import ConfigError
    from vidact.explaining import ExplainSettings
    from vidact.explanation_files import FileSettings
    from vidact.runs import open_run
    from vidact.trust import modules_named
    from vidact.video_jobs import VideoExplainer, explain_all, list_jobs, window_of

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

    from vidact.attribution.explainers import METHODS
    from vidact.runs import open_run
    from vidact.video_jobs import Beside

    if beside.partition(":")[0] in METHODS:
        return Beside(run, replace(settings, method=beside))
    other = open_run(beside, trust=run.trust)
    settings.check_target(other.class_names)
    return Beside(other, settings)


def build_trainer(*, accelerator: str, devices: str, num_nodes: int, strategy: str) -> "Trainer":
    """Build Lightning's trainer, which shares work out among devices and machines."""
    import logging
    import warnings

    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import RichProgressBar

    from vidact.core import ConfigError

    guard_warnings()
    _check_processes(accelerator, devices)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # what it says of devices helps nobody here
    for message in ("`isinstance\\(treespec, LeafSpec", ".*does not have many workers"):
        warnings.filterwarnings("ignore", message=message)
    try:
        return Trainer(
            accelerator=accelerator,
            devices=int(devices) if devices.isdigit() else devices,
            num_nodes=num_nodes,
            strategy=strategy,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[RichProgressBar()],
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ConfigError(f"--accelerator, --devices or --strategy: {' '.join(str(error).split())}") from error


def _check_processes(accelerator: str, devices: str) -> None:
    """Make sure that there is a core for each process: on a CPU Lightning starts as many as it is told."""
    import os

    import torch

    from vidact.core import ConfigError

    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    cores = os.cpu_count() or 1
    if on_cpu and devices.isdigit() and int(devices) > cores:
        raise ConfigError(f"--devices {devices}: this machine has {cores} cores; ask for as many processes or fewer")


def _tell(results: "list[Result]") -> int:
    from vidact.runs import relative

    for result in results:
        place = f"  {relative(result.folder)}" if result.state != "failed" else ""
        print(printable(f"{result.state:<10} {relative(result.path)}: {result.told}{place}"))
        if result.warning:
            print(printable(f"{'warning':<10} {relative(result.path)}: {result.warning}"))
    failed = [result for result in results if result.state == "failed"]
    if failed:
        print(f"{len(failed)} of {len(results)} videos could not be explained")
    return int(bool(failed))


def report(
    runs: list[str],
    out: str = "report.html",
    part: str = "validation",
    methods: list[str] = ["lrp", "gradient_x_input"],  # noqa: B006  # jsonargparse shows it in the help
    clips_per_class: int = 2,
    mistakes: int = 8,
    megabytes: float = 20.0,
    trust: str | None = None,
    accelerator: str = "auto",
) -> int:
    """Write one HTML file that shows what a run learned and what it looks at; it needs no network and no server.

    Several runs are shown side by side. The clips are measured and explained anew with each run's best checkpoint.

    Args:
        runs: Run folders (runs/version_0) or checkpoints.
        out: The file.
        part: The clips that are measured: validation or test.
        methods: Ways of explaining that the page switches between, as '[lrp, grad_cam]'.
        clips_per_class: Clips of each class that are drawn at random to be looked at.
        mistakes: Further clips, those most surely taken for another class.
        megabytes: At most so large; what is left out is said in the page.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        accelerator: auto, cpu or gpu.
    """
    from pathlib import Path

    from vidact.folders import refuse_others
    from vidact.report.page import is_page, report_page, write_page
    from vidact.reporting import ReportSettings, view_run
    from vidact.trust import modules_named
    from vidact.video_jobs import own_devices

    settings = ReportSettings(part, tuple(methods), clips_per_class, mistakes)
    refuse_others(Path(out), is_page)
    device = own_devices(accelerator)
    views = [view_run(run, settings=settings, device=device, trust=modules_named(trust)) for run in runs]
    page = report_page(views, limit_bytes=int(megabytes * 1e6))
    write_page(page, Path(out))
    print(printable(out))
    return 0


def accuracy(
    runs: list[str],
    part: str = "test",
    frame_orders: list[str] = [],  # noqa: B006  # jsonargparse shows it in the help
    out: str | None = None,
    trust: str | None = None,
    accelerator: str = "auto",
) -> int:
    """Say how many clips trained networks recognise, with intervals by source video, beside chance and tags alone.

    Several runs (the folds of a split, several seeds) are measured one by one and together: the mean over them, and its
    interval with all clips of one source as one group. Where several see the same clips (several seeds), they are
    measured as an ensemble, too: the mean of their probabilities. Each run is measured as its config says: windows per
    clip, mirror images, the order of frames unless others are named.

    Args:
        runs: Run folders (runs/version_0) or checkpoints; of a folder, the best one on validation.
        part: The clips that are measured: test or validation.
        frame_orders: natural, frozen (the middle frame repeated), shuffled or reversed, as '[natural, frozen]'; if
            empty, what the runs were trained with.
        out: A JSON file for the numbers.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        accelerator: auto, cpu or gpu.
    """
    from pathlib import Path

    from vidact.accuracies import (
        check_part,
        frame_orders_named,
        holds_accuracies,
        measure_accuracies,
        own_frame_order,
        table,
        write_accuracies,
    )
    from vidact.folders import refuse_others
    from vidact.runs import open_run
    from vidact.trust import modules_named
    from vidact.video_jobs import check_writable, own_devices

    orders = frame_orders_named(frame_orders) if frame_orders else []
    device = own_devices(accelerator)
    check_part(part)
    if out is not None:
        refuse_others(Path(out), holds_accuracies)
        check_writable(Path(out).parent)
    opened = [open_run(run, trust=modules_named(trust)) for run in runs]
    rows = measure_accuracies(opened, part=part, orders=orders or [own_frame_order(opened)], device=device)
    print(table(rows))  # before it is written: if that fails, nothing is lost
    if out is not None:
        write_accuracies(Path(out), rows, part=part)
    return 0


VERBS: dict[str, Callable[..., int]] = {"explain": explain_videos, "report": report, "accuracy": accuracy}
