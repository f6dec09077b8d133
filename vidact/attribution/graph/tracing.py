"""Watch one forward pass: which modules are called, and which operations run outside of them.

`lrp/obstacles.py` judges what is found.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vidact.attribution.graph.operations import (
    HARMLESS,
    WEIGHTED_OPERATIONS,
    is_constructor,
    name_of_call,
    name_of_node,
    only_first_counts,
)
from vidact.models.layers import Gate

# Lines in these files tell the author of a network nothing; the last ones check types and shapes.
_FOREIGN = (
    __file__,
    str(Path(__file__).parents[1] / "gradient_form"),
    *(f"{Path(file).parent}{os.sep}" for file in (str(torch.__file__), jaxtyping.__file__)),
    "<@beartype",
)


@dataclass(frozen=True)
class Operation:
    """A computation with the video's data in a module's `forward` that is not done by a module.

    Attributes:
        module: Name of the innermost module; empty for the network itself.
        name: As torch calls it: `add`, `relu`, `mean`, ….
        place: `file:line` of the code that called it; empty where unknown.
        from_video: For each tensor among the arguments, whether it comes from the video.
        counts: Whether its result reaches the scores, other than through a gate.
        is_detached: Whether some of the video's data reach it without their gradient.
        is_in_place: Whether it overwrites the output of a module.
        weight: Of a convolution or a linear map.
    """

    module: str
    name: str
    place: str
    from_video: tuple[bool, ...]
    counts: bool
    is_detached: bool = False
    is_in_place: bool = False
    weight: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Trace:
    """The modules and operations of one forward pass.

    Attributes:
        scores: The network's output.
        num_calls: How often each module was called, by its name.
        reaching: Names of the modules whose output reaches the scores, other than through a gate.
        operations: In the order of their execution.
    """

    scores: Tensor
    num_calls: dict[str, int]
    reaching: frozenset[str]
    operations: tuple[Operation, ...]


def trace(network: nn.Module, video: Tensor, *, is_leaf: Callable[[nn.Module], bool]) -> Trace:
    """Run a network once and watch it.

    Args:
        network: Its parameters require no gradient, so that only data from the video have one.
        video: [B, C, T, H, W].
        is_leaf: Which modules are not looked into.
    """
    watch = _Watch(network, is_leaf)
    given = video.detach().clone().requires_grad_().clone()  # no leaf, so that it may be written into
    watch.know(given)
    with _hooks(network, watch), watch:
        scores = network(given)
    watch.leave("", scores)
    alive = walk_graph(nodes_of(scores), seen=set())
    operations = tuple(replace(step, counts=not alive.isdisjoint(nodes)) for step, nodes in watch.steps)
    reaching = frozenset(name for name, nodes in watch.outputs.items() if not alive.isdisjoint(nodes))
    return Trace(scores, watch.num_calls, reaching, operations)


class _Watch(TorchFunctionMode):
    """Follows the autograd graph while it grows: nodes that are new after an operation were made by it."""

    def __init__(self, network: nn.Module, is_leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self._names = {module: name for name, module in network.named_modules()}
        self._is_leaf = is_leaf
        self._stack: list[nn.Module] = [network]
        self._in_leaf = self._in_hook = 0
        self._seen: set[Any] = set()
        self._detached: dict[int, Tensor] = {}  # by id; comes from the video and has no gradient
        self._given: dict[int, Tensor] = {}  # by id; made by modules
        self.num_calls: dict[str, int] = {}
        self.outputs: dict[str, set[Any]] = {}
        self.steps: list[tuple[Operation, set[Any]]] = []

    def know(self, values: Any) -> set[Any]:
        """Mark the nodes that made these tensors as known; gives the new ones."""
        return walk_graph(nodes_of(values), seen=self._seen)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Note that a module begins; the gate of a product carries no relevance."""
        name = self._names[module]
        self.num_calls[name] = self.num_calls.get(name, 0) + 1
        with self._unwatched():
            self._find_hidden((args, kwargs))
            if isinstance(module, Gate):
                args, kwargs = (
                    (*args[:1], *map(Tensor.detach, args[1:])),
                    {key: value.detach() if key == "gate" else value for key, value in kwargs.items()},
                )
        self._stack.append(module)
        self._in_leaf += self._is_leaf(module)
        return args, kwargs

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note that a module ends."""
        with self._unwatched():
            if self._is_leaf(module):
                self._in_leaf -= 1
                self.know((args, kwargs, output))
                self._note_detached(module, (args, kwargs), output)
            self.leave(self._names[module], output)
            taken = {id(_root(tensor)) for tensor in _tensors((args, kwargs))}
            roots = [_root(tensor) for tensor in _tensors(output)]
            self._given |= {id(root): root for root in roots if id(root) not in taken}
        self._stack.pop()

    def leave(self, name: str, output: Any) -> None:
        """Note a module's output."""
        self._find_hidden(output)
        self.outputs.setdefault(name, set()).update(nodes_of(output))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation; torch calls this instead of each of its functions."""
        kwargs = kwargs or {}
        if self._in_leaf or self._in_hook:
            return func(*args, **kwargs)
        self._find_hidden((args, kwargs))
        name, tensors = getattr(func, "__name__", str(func)).strip("_"), list(_tensors((args, kwargs)))
        name = name_of_call(name, args, kwargs, from_video=self._is_from_video)
        operation = Operation(
            module=self._names[self._stack[-1]],
            name=name,
            place="",
            from_video=tuple(self._is_from_video(tensor) for tensor in tensors),
            counts=False,
            is_detached=any(id(tensor) in self._detached for tensor in tensors if not tensor.requires_grad),
            weight=kwargs.get("weight", args[1] if len(args) > 1 else None) if name in WEIGHTED_OPERATIONS else None,
        )
        given = [(part, part._version) for part in tensors if part.requires_grad and id(_root(part)) in self._given]
        result = func(*args, **kwargs)
        self._follow_detached(name, operation.from_video, args if result is None else result)
        if new := self.know((result, args, kwargs)):
            is_in_place = any(part._version != version for part, version in given)
            self.steps.append((replace(operation, place=place_of_call(), is_in_place=is_in_place), new))
        return result

    @contextlib.contextmanager
    def _unwatched(self) -> Iterator[None]:
        self._in_hook += 1
        yield
        self._in_hook -= 1

    def _is_from_video(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and (tensor.requires_grad or id(tensor) in self._detached)

    def _follow_detached(self, name: str, from_video: tuple[bool, ...], results: Any) -> None:
        """Remember tensors that were computed from the video and have lost their gradient."""
        counting = from_video[:1] if only_first_counts(name) else from_video
        if any(counting) and not is_constructor(name):
            lost = [part for part in _tensors(results) if part.is_floating_point() and not part.requires_grad]
            self._detached |= {id(part): part for part in lost}

    def _note_detached(self, module: nn.Module, given: Any, output: Any) -> None:
        """Follow detached data through a module, and note where they meet data with a gradient."""
        tensors = list(_tensors(given))
        from_video = tuple(self._is_from_video(tensor) for tensor in tensors)
        self._follow_detached("", from_video, output)
        if any(id(tensor) in self._detached for tensor in tensors if not tensor.requires_grad):
            kind = type(module).__name__
            operation = Operation(self._names[module], kind, "", from_video, counts=False, is_detached=True)
            self.steps.append((operation, nodes_of(output)))

    def _find_hidden(self, values: Any) -> None:
        """Find calls that torch function modes do not see: scripted functions, and custom autograd functions."""
        new = set() if self._in_leaf else self.know(values)
        for node in new:
            name = name_of_hidden(node)
            from_video = tuple(below is not None for below, _ in node.next_functions)
            if getattr(node, "_saved_accumulate", False):
                name += " with accumulate"
            elif from_video[-1:] == (True,) and getattr(node, "_saved_alpha", 1) != 1:
                name += " with alpha"
            if name not in HARMLESS:
                self.steps.append((Operation(self._names[self._stack[-1]], name, "", from_video, counts=False), {node}))


@contextlib.contextmanager
def _hooks(network: nn.Module, watch: _Watch) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in network.modules():
            before = module.register_forward_pre_hook(watch.before, with_kwargs=True)
            # Before hooks of others: what those do to an output is done outside of the module.
            after = module.register_forward_hook(watch.after, with_kwargs=True, prepend=True)
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


def _tensors(values: Any) -> Iterator[Tensor]:
    """Find the tensors in nested tuples, lists and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)


def _root(tensor: Tensor) -> Tensor:
    """Give what a tensor is a view of, or the tensor."""
    return tensor if tensor._base is None else tensor._base


def nodes_of(values: Any) -> set[Any]:
    """Find the nodes that made these tensors; for a view that was written into, those of its base, too."""
    nodes = set()
    for tensor in _tensors(values):
        base = tensor._base
        nodes |= {part.grad_fn for part in (tensor, base) if part is not None and part.grad_fn is not None}
    return nodes


def name_of_hidden(node: Any) -> str:
    """Name the call that made a node: by its class if it is a custom autograd function, else as torch calls it."""
    is_own = isinstance(node, torch.autograd.function.BackwardCFunction)
    return str(node.name().removesuffix("Backward")) if is_own else name_of_node(node.name())


def walk_graph(nodes: set[Any], *, seen: set[Any]) -> set[Any]:
    """List these nodes and all before them that are not in `seen`, and add them to it."""
    new, waiting = set(), list(nodes - seen)
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            new.add(node)
            waiting += [below for below, _ in node.next_functions if below is not None]
    return new


def place_of_call() -> str:
    """Name the innermost line of code outside of torch and of what watches the network."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_FOREIGN):
        frame = frame.f_back
    return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}" if frame is not None else ""


@functools.cache
def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "/".join(path.parts[-3:])
