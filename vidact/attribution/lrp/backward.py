"""Base class of LRP rules: replace a module's `forward` so that its backward pass gives relevance.

A registered rule replaces the `forward` of its module and leaves everything else of it as it is; a changed weight or
a missing bias goes into a twin that shares the rest. What a call needs for its backward pass is kept in that call's
own autograd graph, so that a module may be called twice (Zennit keeps one stored input per module).

The gradient at a module's input or output, as any hook on them sees it, is the relevance there. Under
`Composite.inactive` it is the plain gradient, also where the graph was made before.
"""

import copy
import inspect
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from zennit.core import Hook, RemovableHandle, RemovableHandleList, Stabilizer
from zennit.types import Linear

from vidact.attribution.lrp.book import Book
from vidact.core.errors import ExplanationError

Forward = Callable[..., Any]


class _TimesInput(torch.autograd.Function):
    """Returns a part of x, or all of it; backward gives x the part times the incoming gradient: R_i = x_i g_i."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: Tensor, hook: Hook) -> Tensor:
        ctx.hook = hook
        ctx.save_for_backward(part)
        return part.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if not ctx.hook.active:
            return None, gradients[0], None
        (part,) = ctx.saved_tensors
        return part * gradients[0], None, None


class _Quotient(torch.autograd.Function):
    """Returns the output; backward gives z the quotient R / stabilised(z), and notes what constants and ε take."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, output: Tensor, hook: Hook, module: nn.Module, constant: Tensor | None) -> Tensor:
        ctx.hook, ctx.module, ctx.constant = hook, module, constant
        ctx.save_for_backward(z)
        return output.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if not ctx.hook.active:
            return None, gradients[0], None, None, None
        (z,), hook = ctx.saved_tensors, ctx.hook
        if hook.book is None or not hook.book.is_open:
            return _divided(gradients[0], z, hook.stabilizer), None, None, None, None
        epsilon = added(z.detach(), hook.stabilizer)
        quotient = gradients[0] / (z + epsilon)
        hook.note(ctx.module, z.detach(), epsilon, quotient.detach(), constant=ctx.constant)
        return quotient, None, None, None, None


class _Propagated(torch.autograd.Function):
    """Returns the output; backward gives x the relevance that the hook computes, past the module's own graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor, hook: Any, module: nn.Module) -> Tensor:
        ctx.hook, ctx.module, ctx.shape = hook, module, x.shape
        return output.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if not ctx.hook.active:
            return None, gradients[0], None, None
        if not ctx.needs_input_grad[0]:  # a constant, as the signal of a gate
            ctx.hook.note_constant(ctx.module, gradients[0].detach())
            return None, None, None, None
        return ctx.hook.propagate(gradients[0]).sum_to_size(ctx.shape), None, None, None


class _ByFormula(torch.autograd.Function):
    """Returns the output; backward runs Zennit's formula of the rule with the input of this call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor, hook: Any, twin: nn.Module, module: nn.Module) -> Tensor:
        ctx.hook, ctx.twin, ctx.module = hook, twin, module
        ctx.save_for_backward(x)
        return output.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if not ctx.hook.active:
            return None, gradients[0], None, None, None
        formula, inputs = ctx.hook.copy(), ctx.saved_tensors  # read once: an activation checkpoint gives them only once
        formula.stored_tensors.update(input=inputs, kwargs={})
        if ctx.hook.book is not None and ctx.hook.book.is_open:
            formula.gradient_mapper = partial(ctx.hook.note_formula, ctx.twin, ctx.module)
        (relevance,) = formula.backward(ctx.twin, inputs, gradients)
        return relevance, None, None, None, None


times_input, quotient, handed_down, by_formula = (
    node.apply for node in (_TimesInput, _Quotient, _Propagated, _ByFormula)
)


def added(z: Tensor, stabilizer: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute what a stabiliser adds to z: ε sign(z) by default."""
    plain: Any = stabilizer
    if type(stabilizer) is Stabilizer and not (plain.clip or plain.norm_scale):
        return torch.copysign(torch.full((), plain.epsilon, dtype=z.dtype, device=z.device), z)
    return stabilizer(z) - z


def _divided(relevance: Tensor, z: Tensor, stabilizer: Callable[[Tensor], Tensor]) -> Tensor:
    """Divide by z + ε sign(z), with fewer passes over memory than Zennit's stabilizer.

    The results differ at z = −0.0 only, which does not matter: all terms of such a sum are zero and get no relevance.
    """
    plain: Any = stabilizer
    is_plain = type(stabilizer) is Stabilizer and not (plain.clip or plain.norm_scale)
    if torch.is_grad_enabled() or not is_plain:  # someone wants the gradient of the relevance, or another denominator
        return relevance / stabilizer(z)
    epsilon = torch.full((), plain.epsilon, dtype=z.dtype, device=z.device)
    denominator = torch.copysign(epsilon, z).add_(z)
    return torch.div(relevance, denominator, out=denominator)


class _Replacement:
    """Replaces a module's forward until it is removed."""

    def __init__(self, module: nn.Module, function: Forward) -> None:
        self.module, self.function, self.before = module, function, vars(module).get("forward")
        module.forward = function

    def remove(self) -> None:
        # Composites remove canonizers first; one that had set a forward has removed both by now.
        if vars(self.module).get("forward") is not self.function:
            return
        del self.module.forward
        if self.before is not None:
            self.module.forward = self.before


class Rule(Hook):  # type: ignore[misc]
    """Base of all rules: replaces a module's `forward`, and keeps no state of a call."""

    several_inputs = False
    changes_parameters = True
    book: Book | None = None  # notes what inputs do not get; shared by the copies of a hook

    def copy(self) -> "Rule":
        """Copy the rule for another module."""
        clone = copy.copy(self)
        clone.stored_tensors, clone.tensor_handles = {}, RemovableHandleList()
        return clone

    def register(self, module: nn.Module) -> RemovableHandleList:
        """Put the rule on a module, until the handles that this returns are removed.

        Raises:
            ExplanationError: the module has a rule already, or its weight or its forward is not its own.
        """
        forward = module.forward
        _check(module, forward, needs_own_forward=self.changes_parameters)
        self.tensor_handles.append(_Replacement(module, partial(self._call, module, forward)))
        return RemovableHandleList([RemovableHandle(self)])

    def _call(self, module: nn.Module, forward: Forward, *inputs: Any, **named: Any) -> Any:
        """Run the module, so that a backward pass through its output gives relevance."""
        tensors = [value for value in (*inputs, *named.values()) if isinstance(value, Tensor)]
        if not (self.active and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
            return forward(*inputs, **named)
        if named:
            inputs, named = _by_place(forward, inputs, named)
        if named or (len(tensors) > 1 and not self.several_inputs):
            raise ExplanationError(
                f"{type(self).__name__} is a rule for modules with one input; got {len(tensors)} tensors"
                f"{f', {sorted(named)} by name only,' if named else ''} for {module}; try Norm for an addition, "
                "SignalTakesAll for a gate"
            )
        return self._explain(module, forward, *inputs)

    def _explain(self, module: nn.Module, forward: Forward, *inputs: Any) -> Any:
        twin = twin_of(module, forward)
        return by_formula(inputs[0], twin.forward(*inputs), self, twin, module)

    def makes_output(self, bias: Tensor) -> Tensor:
        """Say which biases can make an output to which no input contributes."""
        return bias != 0

    @torch.no_grad()
    def note(
        self,
        module: nn.Module,
        z: Tensor,
        epsilon: Tensor,
        quotient: Tensor,
        *,
        constant: Tensor | None,
        makes_output: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Note what a rule that divides by z + ε does not give to inputs: R b / (z + ε) and R ε / (z + ε).

        Where z is zero, the latter is all of R: then the bias alone has made the output, or no input contributes.

        Args:
            module: The layer.
            z: What the rule adds up; with the constant b, if that takes part in it.
            epsilon: What the stabiliser adds to it.
            quotient: R / (z + ε).
            constant: b, in the shape of the output or one that broadcasts to it.
            makes_output: Which biases can make an output to which no input contributes; by default
                `self.makes_output`.
        """
        book = self.book
        assert book is not None
        if constant is not None:
            book.bias(module, quotient * constant)
        taken = book.product(module, epsilon, quotient)
        if not book.is_small(taken):
            alone, bias = torch.where(z == 0, epsilon * quotient, 0), bias_of(module)
            taken = taken - book.per_clip(module, alone)
            by_bias = alone * (0 if bias is None else (makes_output or self.makes_output)(bias))
            book.bias(module, by_bias)
            book.nothing(module, alone - by_bias)
        book.stabiliser(module, taken)

    def note_constant(self, module: nn.Module, relevance: Tensor) -> None:
        """Note relevance that goes to a constant as a whole."""
        if self.book is not None and self.book.is_open:
            self.book.bias(module, relevance)


def bias_of(module: nn.Module) -> Tensor | None:
    """Give a layer's bias in a shape that broadcasts to its output."""
    bias, weight = module._parameters.get("bias"), module._parameters.get("weight")
    if bias is None or weight is None or not isinstance(module, Linear):
        return None
    return bias.detach().reshape(-1, *[1] * (weight.ndim - 2))


def _by_place(
    forward: Forward, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn keyword arguments into positional ones, as far as the function's signature allows."""
    bound = inspect.signature(forward).bind(*inputs, **named)
    bound.apply_defaults()
    return bound.args, bound.kwargs


def _check(module: nn.Module, forward: Forward, *, needs_own_forward: bool) -> None:
    """Refuse modules that would silently get wrong relevance."""
    if isinstance(forward, partial) and isinstance(getattr(forward.func, "__self__", None), Rule):
        raise ExplanationError(f"{module} has a rule already; leave the first composite before the second begins")
    if isinstance(module, Linear) and "weight" not in module._parameters:
        raise ExplanationError(
            f"the weight of {module} is computed from other parameters, and no rule can change it; "
            "try torch.nn.utils.parametrize.remove_parametrizations"
        )
    if needs_own_forward and module._parameters and getattr(forward, "__self__", None) is not module:
        raise ExplanationError(
            f"the forward of {module} was replaced by a function that is not its method and would not see changed "
            "weights; try module.forward = types.MethodType(function, module)"
        )


def twin_of(module: nn.Module, forward: Forward, **parameters: Tensor | None) -> nn.Module:
    """Build a twin of a module with other parameters, without rule and never in-place, that shares everything else.

    Args:
        module: A module whose forward a rule replaces.
        forward: Its forward before that.
        parameters: What the twin has instead of the module's.
    """
    twin: nn.Module = object.__new__(type(module))
    vars(twin).update(vars(module), _parameters={**module._parameters, **parameters})
    if vars(twin).get("inplace"):
        vars(twin)["inplace"] = False  # the values before are still wanted
    del twin.forward
    function = getattr(forward, "__func__", None)
    if getattr(forward, "__self__", None) is not module:
        twin.forward = forward
    elif function is not None and function is not type(module).forward:
        twin.forward = MethodType(function, twin)  # a canonizer's: it has to see the twin's parameters
    return twin
