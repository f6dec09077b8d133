"""Find what the constants among a function's arguments add to its result, for the account."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from vidact.attribution.gradient_form.calls import Call, carries
from vidact.attribution.gradient_form.functions import is_reversed

# They may add a number of Python's; the numbers in calls of the others are dimensions.
_ADDS_NUMBERS = {"add", "sub", "rsub", "where", "masked_fill", "fill", "index_fill", "scatter"}


@torch.no_grad()
def constant_part(call: Call) -> Tensor | None:
    """Compute what an affine function gives where the video's data are zero; None if it adds no constant.

    Whether there is one does not depend on the values, so that each clip is noted at the same places.
    """
    if not any(map(_is_constant, _added_values(call))):
        return None
    if call.name in ("add", "sub", "rsub"):
        return _added(call)
    args, kwargs = tree_map(_without_video, (call.args, call.kwargs))
    result = call.func(*args, **kwargs)
    part: Tensor = args[0] if call.name == "setitem" else result
    return part


def _added(call: Call) -> Tensor:
    """Give the constant of a sum or a difference, with its sign and factor."""
    first, second = call.args[0], call.get("other", 1, None)
    if is_reversed(call.func):
        first, second = second, first
    alpha = call.kwargs.get("alpha", 1)
    constant = first if carries(second) else second
    factor = 1 if constant is first else alpha if call.name == "add" else -alpha
    like = second if carries(second) else first
    return torch.as_tensor(constant, dtype=like.dtype, device=like.device).detach() * factor


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
        return not value.requires_grad
    return isinstance(value, float | int) and not isinstance(value, bool) and value != 0


def _without_video(value: Any) -> Any:
    """Replace data from the video by zeros; clone constants, as they may be overwritten."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.zeros_like(value, requires_grad=False) if value.requires_grad else value.detach().clone()
    return value


def constant_base(call: Call) -> Tensor | None:
    """Give the constant that a call is about to write the video's data into, through a view of it; None for others."""
    target = call.args[0] if call.is_in_place and call.args else None
    base = target._base if isinstance(target, Tensor) else None
    return base.detach().clone() if base is not None and not base.requires_grad else None


@torch.no_grad()
def part_of_base(view: Tensor, part: Tensor | None, before: Tensor | None) -> Tensor:
    """Spread what constants add to a view over the tensor that it is a view of.

    Args:
        view: As it is after it was written into.
        part: What constants add to it; None for nothing.
        before: The constant that its base was; None if that was the video's.
    """
    base = view._base
    assert base is not None
    found = torch.zeros_like(base, requires_grad=False) if before is None else before
    own = found.as_strided(view.size(), view.stride(), view.storage_offset())
    own.copy_(torch.zeros_like(own) if part is None else part.expand_as(own))
    return found
