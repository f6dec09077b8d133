"""The verb `accuracy`: measure how many clips runs recognise."""


def accuracy(
    runs: list[str],
    part: str = "test",
    frame_orders: list[str] = [],  # noqa: B006  # jsonargparse shows it in the help
    out: str | None = None,
    trust: str | None = None,
    accelerator: str = "auto",
) -> int:
    """Measure how many clips trained networks recognise, with 95 % intervals, beside chance and guessing from tags.

    Several runs, such as the folds of a split, are measured one by one and together; clips of one source video are one
    group of the interval. Runs that share their test clips, such as several seeds, are also measured as an ensemble, by
    the mean of their probabilities. Each run uses the windows per clip, mirror images and frame order of its config.

    Args:
        runs: Run folders (runs/version_0) or checkpoints; of a folder, the best one on validation.
        part: The clips that are measured: test or validation.
        frame_orders: natural, frozen (the middle frame repeated), shuffled or reversed, as '[natural, frozen]'; if
            empty, that of the runs' training.
        out: A JSON file to write the numbers to.
        trust: Modules that a run's config may import, as my_net or my_net,other.nets; vidact, torch, torchvision
            and lightning need no naming.
        accelerator: auto, cpu or gpu.
    """
    from pathlib import Path

    from vidact.core.devices import choose_device
    from vidact.core.files import check_writable
    from vidact.core.folders import refuse_foreign_file
    from vidact.runs.accuracy.table import (
        check_part,
        holds_accuracies,
        measure_accuracies,
        parse_frame_orders,
        table,
        trained_frame_order,
        write_accuracies,
    )
    from vidact.runs.run import open_run
    from vidact.runs.trust import parse_modules

    orders = parse_frame_orders(frame_orders) if frame_orders else []
    device = choose_device(accelerator)
    check_part(part)
    if out is not None:
        refuse_foreign_file(Path(out), holds_accuracies)
        check_writable(Path(out).parent)
    opened = [open_run(run, trust=parse_modules(trust)) for run in runs]
    rows = measure_accuracies(opened, part=part, orders=orders or [trained_frame_order(opened)], device=device)
    print(table(rows))  # before it is written: if that fails, nothing is lost
    if out is not None:
        write_accuracies(Path(out), rows, part=part)
    return 0
