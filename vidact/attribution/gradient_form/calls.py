"""A torch function as a network calls it, and its refusal where relevance cannot follow it."""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidact.attribution.gradient_form.functions import is_in_place


@dataclass
class Call:
    """A torch function as a network calls it with data from the video.

    Attributes:
        func: The function.
        name: As in `functions`.
        args: Positional arguments.
        kwargs: Named arguments.
    """

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def get(self, name: str, position: int, default: Any) -> Any:
        """Give an argument by name or position."""
        return self.kwargs.get(name, self.args[position] if position < len(self.args) else default)

    def without(self, *names: str, first: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give the arguments that are left without the first ones, and without these names."""
        return self.args[first:], {name: value for name, value in self.kwargs.items() if name not in names}

    def bound(self, function: Any) -> dict[str, Any]:
        """Name all arguments, as a function in Python declares them."""
        return dict(inspect.signature(function).bind(*self.args, **self.kwargs).arguments)

    @property
    def is_in_place(self) -> bool:
        """Whether it overwrites its first argument."""
        return self.name == "setitem" or is_in_place(self.func, self.kwargs)

    def run(self, *args: Any) -> Any:
        """Run the function, with other positional arguments if they are given."""
        return self.func(*(args or self.args), **self.kwargs)


@dataclass(frozen=True)
class Refusal:
    """A function that relevance cannot follow.

    Attributes:
        module: Name of the module that calls it; the network's class for the network itself.
        function: Its name.
        place: `file:line`.
        remedy: What to do.
    """

    module: str
    function: str
    place: str
    remedy: str

    def __str__(self) -> str:
        at = f" in {self.place}" if self.place else ""
        return f"{self.module}: relevance cannot follow `{self.function}`{at}; {self.remedy}"


def carries(value: Any) -> bool:
    """Say whether relevance may go through a tensor: it comes from the video, with its gradient."""
    return isinstance(value, Tensor) and value.requires_grad
