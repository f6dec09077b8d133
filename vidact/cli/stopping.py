"""What a verb that a signal has ended comes to; it imports next to nothing, so that the command line starts with it."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # what shells say of a program that Ctrl-C or SIGTERM ended


class Stopped(Exception):
    """A signal has ended a verb: what to say, and the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Terminated(BaseException):
    """SIGTERM has come; no `except Exception` may hold it up."""


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise Terminated in here, as Ctrl-C raises KeyboardInterrupt."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    raise Terminated
