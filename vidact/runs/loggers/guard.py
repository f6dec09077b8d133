"""Keep failures of wandb from ending a training, or from keeping other things from being logged."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_warn

from vidact.core.errors import EnvironmentProblem

T = TypeVar("T")
# What wandb raises of a process of its own that is gone; by name, as they lie in its inner parts.
GONE = {"MailboxClosedError", "HandleAbandonedError", "WandbServiceConnectionError", "WandbAttachFailedError"}


class Guard:
    """Runs calls to wandb and warns once per kind of failure; once its connection has failed, no more calls are made.

    Args:
        leave: Called when the connection has failed.

    Attributes:
        is_gone: Whether the connection has failed.
    """

    def __init__(self, leave: Callable[[], None] | None = None) -> None:
        self.is_gone = False
        self._leave = leave
        self._told: set[str] = set()

    def attempt(self, kind: str, action: Callable[[], T], *, name: str = "") -> T | None:
        """Do something; gives None if it fails.

        Args:
            kind: Of the thing, as in "a chart".
            action: What may fail.
            name: Of the thing.
        """
        if self.is_gone:
            return None
        try:
            return action()
        except Exception as error:  # its process may die, its server go away, in ways that it does not list
            self._tell(kind, name, error)
            return None

    def attempt_all(self, kind: str, things: Mapping[str, T], action: Callable[[Mapping[str, T]], None]) -> None:
        """Do something with all things together; if that fails, with each alone."""
        if self.is_gone:
            return
        try:
            action(things)
        except Exception as error:
            if is_connection_error(error):
                self._tell(kind, "", error)
            for name, thing in things.items():
                self.attempt(kind, partial(action, {name: thing}), name=name)

    def _tell(self, kind: str, name: str, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}".partition("\n")[0]
        if is_connection_error(error):
            self.is_gone = True
            rank_zero_warn(f"wandb failed, and the run goes on without it: {told}")
            if self._leave is not None:
                self._leave()
        elif kind not in self._told:
            self._told.add(kind)
            named = f" {name!r}" if name else ""
            rank_zero_warn(
                f"wandb does not take {kind}{named}: it is skipped there, as are later ones, without another warning "
                f"({told})"
            )


def is_connection_error(error: Exception) -> bool:
    """Say whether wandb's process or server is gone, so that all further calls would fail, too."""
    names = {one.__name__ for one in type(error).__mro__}
    return isinstance(error, (ConnectionError, EnvironmentProblem)) or bool(names & GONE)
