"""Watch each torch function while a network runs, and give those that need it another backward.

A network's modules stay as they are: a `TorchFunctionMode` sees functional code, in-place sums, fused attention and
weights that one module takes from another.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from vidact.attribution.gradient_form.functions import (
    ADDS,
    CHOOSES,
    MOVES,
    OTHER_REMEDY,
    REMEDIES,
    is_in_place,
    is_reversed,
    name_of,
)
from vidact.attribution.gradient_form.ledger import BIAS, Ledger
from vidact.attribution.gradient_form.pixels import Pixels
from vidact.attribution.gradient_form.settings import Rules
from vidact.attribution.gradient_form.steps import OWN_NODES
from vidact.attribution.graph.operations import HARMLESS, name_of_node
from vidact.attribution.graph.tracing import nodes_of, place_of_call, walk_graph

ADDED = "what is added in"
# They may add a number of Python's; the numbers in calls of the others are dimensions.
_ADDS_NUMBERS = {"add", "sub", "rsub", "where", "masked_fill", "fill", "index_fill", "scatter"}


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
        return f"{self.module}: relevance cannot follow `{self.function}`{at}; use {self.remedy}"


Handler = Callable[["Walk", Call], Any]


def carries(value: Any) -> bool:
    """Say whether relevance may go through a tensor: it comes from the video, with its gradient."""
    return isinstance(value, Tensor) and value.requires_grad


@dataclass
class Walk(TorchFunctionMode):
    """One forward pass of a network, prepared for relevance.

    Attributes:
        network: In eval mode; its parameters require no gradient, so that only data from the video have one.
        rules: How relevance is divided.
        handlers: Functions with a rule, by their names.
        ledger: Where constants are noted.
        looks_for_hidden: Whether to look for calls that function modes do not see, which takes longer.
        refused: Functions that relevance cannot follow, once for each place.
    """

    network: nn.Module
    rules: Rules
    handlers: Mapping[str, Handler]
    ledger: Ledger
    looks_for_hidden: bool = False
    refused: dict[Refusal, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._names = {module: name for name, module in self.network.named_modules()}
        self._stack: list[str] = []
        self._known: set[Any] = set()  # nodes of the graph

    @property
    def module(self) -> str:
        """The name of the module that runs now; the network's class outside of all."""
        return (self._stack and self._stack[-1]) or type(self.network).__name__

    def run(self, video: Float[Tensor, "B C T H W"]) -> tuple[Float[Tensor, "B K"], Pixels]:
        """Run the network on a video; gives its scores, and what relevance ends at."""
        leaf = video.detach().requires_grad_()
        given = leaf.clone()  # for a network that begins with a layer that works in place
        pixels = Pixels([leaf], given)
        self._know(given)
        with self._hooks(pixels), self:
            scores: Tensor = self.network(given)
        self._find_hidden(scores)
        return scores, pixels

    @contextlib.contextmanager
    def _hooks(self, pixels: Pixels) -> Iterator[None]:
        def enter(module: nn.Module, _: Any) -> None:
            self._stack.append(self._names[module])

        def leave(module: nn.Module, inputs: Any, output: Any) -> Any:
            self._find_hidden(output)
            self._stack.pop()
            with torch._C.DisableTorchFunction():
                own = pixels.follow(module, inputs, output)
            self._know(own)
            return own

        with contextlib.ExitStack() as stack:
            for module in self._names:
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave).remove)
            yield

    def _know(self, values: Any) -> set[Any]:
        """Mark the nodes that made these tensors as known; gives the new ones."""
        return walk_graph(nodes_of(values), seen=self._known) if self.looks_for_hidden else set()

    def _find_hidden(self, values: Any) -> None:
        """Refuse calls that function modes do not see: scripted functions, and custom autograd functions."""
        for node in self._know(values):
            if isinstance(node, OWN_NODES):
                continue
            is_own = isinstance(node, torch.autograd.function.BackwardCFunction)
            name = node.name().removesuffix("Backward") if is_own else name_of_node(node.name())
            if name not in HARMLESS:
                remedy = "torch functions: it is a custom or compiled function, and its steps cannot be seen"
                self.refused[Refusal(self.module, name, "", remedy)] = None

    def dispatch(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a function as if the network had called it."""
        return self._run(Call(func, name_of(func), args, kwargs))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function by its rule; torch calls this instead of each of its functions."""
        kwargs = kwargs or {}
        if not any(carries(value) for value in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        self._find_hidden((args, kwargs))
        result = self._run(Call(func, name_of(func), tuple(args), kwargs))
        self._know((result, args))
        return result

    def _run(self, call: Call) -> Any:
        handler = self.handlers.get(call.name)
        if handler is not None:
            return self._handle(handler, call)
        if call.name in ADDS:
            return self._add(call)
        result = call.run()
        if call.name not in MOVES and call.name not in CHOOSES and any(map(carries, tree_leaves(result))):
            self.refuse(call)
        return result

    def refuse(self, call: Call, remedy: str | None = None) -> None:
        """Note a function that relevance cannot follow."""
        remedy = remedy or REMEDIES.get(call.name, OTHER_REMEDY)
        self.refused[Refusal(self.module, call.name, place_of_call(), remedy)] = None

    def _handle(self, handler: Handler, call: Call) -> Any:
        """Run a function that has a rule; where it works in place, on a clone that is written back."""
        if not is_in_place(call.func, call.kwargs):
            return handler(self, call)
        target = call.args[0]
        kwargs = {name: value for name, value in call.kwargs.items() if name != "inplace"}
        func = getattr(Tensor, call.name, call.func) if call.func.__name__ != call.name else call.func
        result = handler(self, Call(func, call.name, (target.clone(), *call.args[1:]), kwargs))
        target.copy_(result)
        if not carries(result):  # a constant now
            if target._is_view():
                self.refuse(call, f"{call.name} out of place")
            else:
                target.detach_()
        return target

    def _add(self, call: Call) -> Any:
        """Run a function that adds, and note what the constants among its arguments take."""
        part = _constant_part(call)
        in_place = call.name == "setitem" or is_in_place(call.func, call.kwargs)
        result = call.run()
        result = call.args[0] if call.name == "setitem" else result
        if part is not None:
            noted = result
            if in_place and result._base is not None:  # what follows may use the base, or another view of it
                noted, own = result._base, part.expand_as(result)
                part = torch.zeros_like(noted, requires_grad=False)
                part.as_strided(result.size(), result.stride(), result.storage_offset()).copy_(own)
            self.ledger.constant(ADDED, self.module, noted, part)
        return None if call.name == "setitem" else result

    def bias(self, result: Tensor, bias: Tensor) -> None:
        """Note what a layer's bias takes of its output."""
        self.ledger.constant(BIAS, self.module, result, bias)


@torch.no_grad()
def _constant_part(call: Call) -> Tensor | None:
    """Compute what an affine function gives where the video's data are zero; None if that is nothing."""
    if not any(map(_is_constant, _added_values(call))):
        return None
    if call.name in ("add", "sub", "rsub"):
        return _added(call)
    args, kwargs = tree_map(_without_video, (call.args, call.kwargs))
    result = call.func(*args, **kwargs)
    part: Tensor = args[0] if call.name == "setitem" else result
    return part if bool(part.any()) else None


def _added(call: Call) -> Tensor | None:
    """Give the constant of a sum or a difference, with its sign and factor."""
    first, second = call.args[0], call.get("other", 1, None)
    if is_reversed(call.func):
        first, second = second, first
    alpha = call.kwargs.get("alpha", 1)
    constant = first if carries(second) else second
    factor = 1 if constant is first else alpha if call.name == "add" else -alpha
    like = second if carries(second) else first
    part = torch.as_tensor(constant, dtype=like.dtype, device=like.device).detach() * factor
    return part if bool(part.any()) else None


def _added_values(call: Call) -> list[Any]:
    """List the arguments of an affine function that may be added: dimensions and indices are none of them."""
    if call.name in ("pad", "constant_pad_nd"):
        return [call.get("value", 3 if call.name == "pad" else 2, None)]
    if call.name == "setitem":
        return [call.args[0], call.args[2]]
    values = tree_leaves((call.args, call.kwargs))
    return values if call.name in _ADDS_NUMBERS else [value for value in values if isinstance(value, Tensor)]


def _is_constant(value: Any) -> bool:
    """Say whether an argument may be a number that is added, and not zero."""
    if isinstance(value, Tensor):
        return not value.requires_grad and value.is_floating_point()
    return isinstance(value, float | int) and not isinstance(value, bool) and value != 0


def _without_video(value: Any) -> Any:
    """Replace data from the video by zeros; clone constants, as they may be overwritten."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.zeros_like(value, requires_grad=False) if value.requires_grad else value.detach().clone()
    return value
