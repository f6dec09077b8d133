"""Show a progress bar on standard error for work on many files."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

Report = Callable[[int, int], None]
NamedReport = Callable[[str, int, int], None]


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Report]:
    """Show a bar, updated by calls (done, total), until the block ends."""
    with named_progress_bar() as report:
        yield lambda done, total: report(title, done, total)


@contextlib.contextmanager
def named_progress_bar() -> Iterator[NamedReport]:
    """Show a bar, updated by calls (title, done, total; 0 for an unknown total), until the block ends."""
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.fields[of]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, visible=False, of="?")

        def report(title: str, done: int, total: int) -> None:
            of = f"{total:,}" if total else "?"
            bar.update(task, description=title, completed=done, total=total or None, of=of, visible=True)

        yield report
