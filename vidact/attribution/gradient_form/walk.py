"""Watch each torch function while a network runs, and give those that need it another backward.

A network's modules stay as they are: a `TorchFunctionMode` sees functional code, in-place sums, fused attention and
weights that one module takes from another.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from vidact.attribution.gradient_form.calls import Call, Refusal, carries
from vidact.attribution.gradient_form.constants import constant_base, constant_part, part_of_base
from vidact.attribution.gradient_form.functions import (
    ADDS,
    CHOOSES,
    MOVES,
    OTHER_REMEDY,
    REMEDIES,
    REORDERS,
    WEIGHTED,
    name_of,
)
from vidact.attribution.gradient_form.ledger import BIAS, Ledger
from vidact.attribution.gradient_form.pixels import Pixels
from vidact.attribution.gradient_form.steps import OWN_NODES
from vidact.attribution.gradient_form.weights import Rules
from vidact.attribution.graph.operations import HARMLESS
from vidact.attribution.graph.tracing import name_of_hidden, nodes_of, place_of_call, walk_graph
from vidact.core.errors import ExplanationError
from vidact.models.layers import FrameDifferences

ADDED = "what is added in"


Handler = Callable[["Walk", Call], Any]


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
        self._owners = {
            id(parameter): name or type(self.network).__name__
            for module, name in self._names.items()
            for parameter in module.parameters(recurse=False)
        }

    @property
    def module(self) -> str:
        """The name of the module that runs now; the network's class outside of all."""
        return (self._stack and self._stack[-1]) or type(self.network).__name__

    def run(self, video: Float[Tensor, "B C T H W"]) -> tuple[Float[Tensor, "B K"], Pixels]:
        """Run the network on a video; gives its scores, and what relevance ends at."""
        leaf = video.detach().requires_grad_()
        given = leaf.clone()  # for a network that begins with a layer that works in place
        self.pixels = Pixels(leaf, given, self.rules.of_first_layer())
        self._know(given)
        with self._hooks(self.pixels), self:
            scores: Tensor = self.network(given)
        self._find_hidden(scores)
        return scores, self.pixels

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
            name = name_of_hidden(node)
            if name not in HARMLESS:
                remedy = "use torch functions: it is a custom or compiled function, and its steps cannot be seen"
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
        if not args and (name := next((name for name in ("input", "self") if name in kwargs), None)):
            args, kwargs = (kwargs[name],), {key: value for key, value in kwargs.items() if key != name}
        call = Call(func, name_of(func), tuple(args), kwargs)
        kept = self.pixels.kept_by(call)
        result = self._run(call)
        for values in kept:
            self.pixels.mark(values)
        if self.pixels.first_rule or call.name in REORDERS:
            self._follow_pixels(call, result)
        self._know((result, args))
        return result

    def _follow_pixels(self, call: Call, result: Any) -> None:
        """Mark what only reorders pixels, and refuse what computes with them before the layer that has its own rule."""
        given = [value for value in tree_leaves((call.args, call.kwargs)) if carries(value)]
        made = [value for value in tree_leaves(result) if carries(value) and not self.pixels.are(value)]
        pixels = [value for value in given if self.pixels.are(value)]
        if not pixels or not made or call.name in WEIGHTED or self._subtracts_frames():
            return
        if call.name not in REORDERS or len(pixels) < len(given):
            if not self.pixels.first_rule:
                return
            self.refuse(call, f"the {self.pixels.first_rule} rule is for a layer with weights that sees pixels alone")
        for value in made:
            self.pixels.mark(value)

    def _subtracts_frames(self) -> bool:
        """Say whether a layer runs that is followed as a whole, whatever it calls."""
        return bool(self._stack) and isinstance(self.network.get_submodule(self._stack[-1]), FrameDifferences)

    def _run(self, call: Call) -> Any:
        if (own := self.pixels.follow_function(call)) is not None:
            return own
        if call.kwargs.get("out") is not None or call.kwargs.get("reduce") is not None:
            self.refuse(call, "call it without out= and reduce=")
            raise ExplanationError(str(next(reversed(self.refused))))
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
        if not call.is_in_place:
            return handler(self, call)
        target, base = call.args[0], constant_base(call)
        kwargs = {name: value for name, value in call.kwargs.items() if name != "inplace"}
        func = getattr(Tensor, call.name, call.func) if call.func.__name__ != call.name else call.func
        result = handler(self, Call(func, call.name, (target.clone(), *call.args[1:]), kwargs))
        target.copy_(result)
        if carries(result) and base is not None:
            self.ledger.constant(ADDED, self.module, target._base, part_of_base(target, None, base))
        if not carries(result) and carries(target):  # a constant now
            if target._is_view():
                self.refuse(call, f"call {call.name} out of place")
            else:
                target.detach_()
        return target

    def _add(self, call: Call) -> Any:
        """Run a function that adds, and note what the constants among its arguments take."""
        part, base = constant_part(call), constant_base(call)
        result = call.run()
        changed = call.args[0] if call.name == "setitem" else result
        if call.is_in_place and changed._base is not None:  # what follows may use the base, or another view of it
            if part is not None or base is not None:
                self.ledger.constant(ADDED, self.module, changed._base, part_of_base(changed, part, base))
        elif part is not None:
            self.ledger.constant(ADDED, self.module, changed, part)
        return result

    def bias(self, result: Tensor, bias: Tensor, *, owner: str | None = None) -> None:
        """Note what a layer's bias takes of its output; `owner` is the module that has it, if another runs."""
        self.ledger.constant(BIAS, owner or self.module, result, bias)

    def is_owned(self, weight: Tensor) -> bool:
        """Say whether a tensor is a parameter of a module, or a view of one."""
        return id(weight) in self._owners or (weight._base is not None and id(weight._base) in self._owners)

    def owner_of(self, weight: Tensor) -> str:
        """Name the module that has a weight, which may be used by another one's code; else the module that runs."""
        base = weight if weight._base is None else weight._base
        return self._owners.get(id(weight)) or self._owners.get(id(base)) or self.module
