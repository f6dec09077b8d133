"""Exceptions and exit statuses for Ctrl-C and SIGTERM; `functions.py` and `verbs/trainer.py` catch them."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # the shell's exit statuses for SIGINT and SIGTERM: 128 + their numbers


class Stopped(Exception):
    """Raised when a signal has ended a verb, with the message and the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Terminated(BaseException):
    """Raised on SIGTERM; a BaseException, so that `except Exception` does not catch it."""


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Make SIGTERM raise Terminated within the context, as Ctrl-C raises KeyboardInterrupt."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    raise Terminated
