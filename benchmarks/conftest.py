"""The benchmarks' own tables: what pytest-benchmark measured, per clip and as ratios inside one run."""

from typing import Any

import pytest
from shared_fixtures import _own_cache as _own_cache
from shared_fixtures import _own_wandb_process as _own_wandb_process
from shared_fixtures import _usual_priority as _usual_priority
from shared_fixtures import elsewhere as elsewhere
from shared_fixtures import hmdb51 as hmdb51
from shared_fixtures import jhmdb as jhmdb
from shared_fixtures import small_run as small_run
from shared_fixtures import small_set as small_set
from shared_fixtures import write_clip as write_clip

from vidact.cli.memory import keep_freed_memory


@pytest.fixture(scope="session", autouse=True)
def _memory_as_on_the_command_line() -> None:
    """Keep it in the benchmarks alone: this file is read for the other tests, too."""
    keep_freed_memory()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    found = [
        row for row in (session.benchmarks if session else []) if row.has_error is False and "per" in row.extra_info
    ]
    for group in dict.fromkeys(row.group for row in found):
        rows = [row for row in found if row.group == group]
        terminalreporter.write_line(f"\n{group}\n\n" + "\n".join(_table(rows)))


def _table(rows: list[Any]) -> list[str]:
    """Lay out Markdown rows, fastest first, by the best round."""
    head = ("", "ms per clip", "clips per second", "times the fastest", "waiting for data")
    milliseconds = {row.name: 1000 * row.stats.min / row.extra_info["per"] for row in rows}
    fastest = min(milliseconds.values())
    lines = [
        (
            row.extra_info["title"],
            f"{milliseconds[row.name]:.3g}",
            f"{1000 / milliseconds[row.name]:,.0f}",
            f"{milliseconds[row.name] / fastest:.2f}",
            f"{share:.2%}" if (share := row.extra_info.get("waiting")) is not None else "",
        )
        for row in sorted(rows, key=lambda row: milliseconds[row.name])
    ]
    width = len(head) if any(line[-1] for line in lines) else len(head) - 1
    return [f"| {' | '.join(line[:width])} |" for line in [head, ("---", *["--:"] * (len(head) - 1)), *lines]]
