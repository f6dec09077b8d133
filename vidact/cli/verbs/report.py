"""The verb `report`: write an HTML page about runs."""

from vidact.core.terminal import printable


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
    """Write one HTML file that shows what a run learned and what it looks at; it opens without a network or a server.

    Several runs are shown side by side. The clips are measured and explained anew with each run's best checkpoint.

    Args:
        runs: Run folders (runs/version_0) or checkpoints.
        out: The file.
        part: The clips that are measured: validation or test.
        methods: Methods of explaining that the page switches between, as '[lrp, grad_cam]'; lrp is by the composite
            that the run was trained with.
        clips_per_class: Clips of each class to show, drawn at random.
        mistakes: Further clips to show: the most confident mistakes.
        megabytes: Limit of the file's size; the page lists the clips that it omits.
        trust: Modules that a run's config may import, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        accelerator: auto, cpu or gpu.
    """
    from pathlib import Path

    from vidact.core.devices import choose_device
    from vidact.core.folders import refuse_foreign_file
    from vidact.report.page import is_page, report_page, write_page
    from vidact.report.run_view import ReportSettings, view_run
    from vidact.runs.trust import parse_modules

    settings = ReportSettings(part, tuple(methods), clips_per_class, mistakes)
    refuse_foreign_file(Path(out), is_page)
    device = choose_device(accelerator)
    views = [view_run(run, settings=settings, device=device, trust=parse_modules(trust)) for run in runs]
    page = report_page(views, limit_bytes=int(megabytes * 1e6))
    write_page(page, Path(out))
    print(printable(out))
    return 0
