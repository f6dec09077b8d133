"""The layers that see the pixels: there relevance is divided as R, since g = R / x is undefined where a pixel is 0.

The relevance of a normalised voxel is the voxel's, whatever mean was subtracted, by a module or by code as
`(video - mean) / std`; that of a difference of two frames is half of each. A composite with a line for the first layer
turns to R there, too: from the layer that sees the pixels on, what travels is R, which moves through reshaping as a
gradient does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vidact.attribution.gradient_form.calls import Call, carries
from vidact.attribution.gradient_form.functions import REORDERS
from vidact.attribution.gradient_form.weights import Parts, Product
from vidact.core.errors import ConfigError
from vidact.models.layers import FrameDifferences

FLAT = "flat"
SHIFTS = {"add", "sub", "mul", "div"}


@dataclass(frozen=True)
class Shifted:
    """What code adds to pixels or multiplies them by, as a layer of its own."""

    call: Call

    def __call__(self, values: Tensor) -> Tensor:
        """Do the same to other values, which stay as they are."""
        values = values.clone() if self.call.is_in_place else values
        result: Tensor = self.call.func(values, *self.call.args[1:], **self.call.kwargs)
        return result


class Turned(Shifted):
    """What code does to the order or the shape of pixels, as a layer of its own."""


@dataclass
class Pixels:
    """The values that stand for the video's voxels, layer by layer.

    Attributes:
        values: The video, then the outputs of the layers that see nothing else; each requires a gradient of its own.
        given: What stands for the last of them in the network's code.
        first_rule: Rule of the first layer, `box`, `w_square` or `flat`; None for that of all others.
        layers: The layer between each two of the values, or what code does there.
    """

    values: list[Tensor]
    given: Tensor
    first_rule: str | None = None
    layers: list[Callable[[Tensor], Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._moved = {id(self.given): self.given}  # pixels, reordered or not; kept, so that no id is used again

    def follow(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor | None:
        """End at the output of a layer that subtracts frames of the pixels alone; gives the new output."""
        if not isinstance(module, FrameDifferences) or not inputs or inputs[0] is not self.given:
            return None
        assert isinstance(output, Tensor)
        return self._end(module, output)

    def follow_function(self, call: Call) -> Tensor | None:
        """End at what code makes of the pixels alone where it normalises or reorders them; gives the new output.

        To normalise is to shift or scale by a number, or by one for each colour. Whatever differs from place to place,
        as added positions do, is no normalisation, and takes relevance of its own.
        """
        if not call.args or call.args[0] is not self.given:
            return None
        turns = call.name == "clone" or (call.name in REORDERS and not self.first_rule)
        if call.is_in_place if turns else not (call.name in SHIFTS and self._is_statistic(call)):
            return None
        layer = (Turned if turns else Shifted)(call)
        with torch._C.DisableTorchFunction():
            output = layer(self.given) if call.is_in_place else call.run()
            if not carries(output) or output.numel() != self.given.numel():
                return None
            return self._end(layer, output, in_place=call.is_in_place)

    def _is_statistic(self, call: Call) -> bool:
        """Say whether a function's only other argument is a number, or a constant for each colour."""
        if len(call.args) != 2 or call.kwargs or carries(call.args[1]):
            return False
        return not isinstance(call.args[1], Tensor) or call.args[1].numel() in (1, self.values[0].shape[1])

    def _end(self, layer: Callable[[Tensor], Tensor], output: Tensor, *, in_place: bool = False) -> Tensor:
        self.layers.append(layer)
        self.values.append(output.detach().requires_grad_())
        if in_place:
            self.given.copy_(self.values[-1])
        else:
            self.given = self.values[-1].clone()  # what follows may work in place
        self.mark(self.given)
        return self.given

    def mark(self, values: Tensor) -> None:
        """Note that a tensor holds pixels, in whatever order."""
        self._moved[id(values)] = values

    def are(self, values: object) -> bool:
        """Say whether a tensor holds pixels alone, in whatever order."""
        return self._moved.get(id(values)) is values

    def first_layer(self, values: Tensor, weight: Tensor, bias: Tensor | None, product: Product) -> "FirstLayer":
        """Describe the layer that sees these pixels by its rule."""
        low = torch.zeros(1, self.values[0].shape[1], 1, 1, 1).to(values)
        high = torch.ones_like(low)
        for layer in self.layers:
            if isinstance(layer, FrameDifferences):
                low, high = low - high, high - low
            else:
                low, high = torch.minimum(layer(low), layer(high)), torch.maximum(layer(low), layer(high))
        bounds = [self._move(bound, values) for bound in ((low, high) if self.first_rule == "box" else (high / high,))]
        squared = None if bias is None or self.first_rule != "w_square" else bias**2
        return FirstLayer(self.first_rule, product, weight, squared, bounds)

    def _move(self, value: Tensor, values: Tensor) -> Tensor:
        """Reorder what stands for each pixel as the pixels themselves were; what was filled in beside them is 0.

        Reordering is linear, and the transpose of its transpose.
        """
        with torch.enable_grad(), torch._C.DisableTorchFunction():
            start = torch.zeros_like(values).requires_grad_()
            (back,) = torch.autograd.grad(
                values, self.given, start, create_graph=True, retain_graph=True, allow_unused=True
            )
            if back is None:
                raise ConfigError(
                    "the network uses pixels before and after they are normalised, and a rule for the first layer "
                    "cannot be right for both; leave it out"
                )
            (moved,) = torch.autograd.grad(back, start, value.expand_as(self.given), allow_unused=True)
        return torch.zeros_like(values) if moved is None else moved.detach()

    def relevance(self, scores: Tensor, weights: Tensor) -> Tensor:
        """Propagate Σ_k w_k f_k back to the voxels.

        Args:
            scores: Logits [B, K].
            weights: w [B, K].

        Raises:
            ConfigError: the flat rule gives every frame the same.
        """
        gradients = torch.autograd.grad(scores, self.values, weights, allow_unused=True)
        found = None
        for number in reversed(range(len(self.values))):
            values, gradient = self.values[number].detach(), gradients[number]
            own = torch.zeros_like(values) if gradient is None else gradient
            own = own if self.first_rule else own * values
            if found is not None:
                own = own + _back(self.layers[number], found, values)
            found = own
        assert found is not None
        if self.first_rule == FLAT:
            _refuse_one_for_all_frames(found)
        return found


def _back(layer: Callable[[Tensor], Tensor], relevance: Tensor, values: Tensor) -> Tensor:
    """Give relevance to the pixels that a layer, or code, has made its values of."""
    if isinstance(layer, FrameDifferences):
        return _half_each(relevance)
    if isinstance(layer, Turned):
        found: Tensor = torch.autograd.functional.vjp(layer, values, relevance)[1]  # type: ignore[no-untyped-call]
        return found
    return relevance


def _half_each(relevance: Tensor) -> Tensor:
    """Divide the relevance of differences x_t − x_{t−1}, where the first is that of the second again, among frames."""
    later = relevance[:, :, 1:].clone()
    later[:, :, :1] += relevance[:, :, :1]
    found = torch.zeros_like(relevance)
    found[:, :, 1:] += later / 2
    found[:, :, :-1] += later / 2
    return found


def _refuse_one_for_all_frames(relevance: Tensor) -> None:
    frames = relevance.sum(dim=(1, 3, 4))
    spread = frames.amax(dim=1) - frames.amin(dim=1)
    if relevance.shape[2] > 1 and bool((spread <= 1e-4 * frames.abs().amax(dim=1)).all()):
        raise ConfigError(
            "in this network each filter of the first layer sees all frames, and the flat rule would give every frame "
            "exactly the same relevance; leave it out"
        )


@dataclass(frozen=True)
class FirstLayer:
    """The layer that sees the pixels, and how it divides relevance R, not R / x.

    `box`: R_i = Σ_j (x_i w_ij − l_i w⁺_ij − h_i w⁻_ij) s_j for pixels between l and h; biases cancel (Montavon et al.
    2017, eq. 14). `w_square`: R_i = Σ_j w_ij² s_j (eq. 12 there). `flat`: R_i = Σ_j s_j (Lapuschkin et al. 2019). Each
    s_j is R_j, divided by the sum of the terms.

    Attributes:
        rule: Which.
        product: The layer's product with its weights.
        weight: Its weights.
        squared_bias: What takes part of the sum beside the inputs; None for nothing.
        bounds: l and h, or 1 for each pixel.
        stabiliser: Added to the sums.
    """

    rule: str | None
    product: Product
    weight: Tensor
    squared_bias: Tensor | None
    bounds: list[Tensor]
    stabiliser: float = 1e-6

    def terms(self, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """List what is multiplied with what, with its sign: (inputs, weights)."""
        weight = self.weight
        if self.rule == "box":
            low, high = self.bounds
            return [(values, weight), (-low, weight.clamp(min=0)), (-high, weight.clamp(max=0))]
        return [(self.bounds[0], torch.ones_like(weight) if self.rule == FLAT else weight**2)]

    def divide(self, values: Tensor, relevance: Tensor) -> tuple[Tensor, Parts]:
        """Divide the relevance of the outputs among the inputs."""
        terms = self.terms(values)
        total = sum(self.product.forward(given, weight) for given, weight in terms)
        total = total if self.squared_bias is None else total + self.squared_bias
        scaled = relevance / (total + self.stabiliser)
        found = sum(given * self.product.backward(scaled, given, weight) for given, weight in terms)
        of_bias = None if self.squared_bias is None else scaled * self.squared_bias
        assert isinstance(found, Tensor)
        return found, Parts(scaled, None, of_bias, scaled * self.stabiliser)


class FirstStep(torch.autograd.Function):
    """Runs the layer that sees the pixels; backward gives R."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, bias: Tensor | None, layer: FirstLayer, note: Callable[[Parts], None]
    ) -> Tensor:
        """Run it; `bias` has a shape that broadcasts to the output."""
        result = layer.product.forward(values, layer.weight)
        result = result if bias is None else result + bias
        ctx.save_for_backward(values)
        ctx.layer, ctx.note, ctx.result = layer, note, result.detach().clone()  # it may be overwritten
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Turn g to R = g y, divide it, and note what does not go to pixels."""
        (values,) = ctx.saved_tensors
        found, parts = ctx.layer.divide(values, gradient * ctx.result)
        ctx.note(parts)
        return found, None, None, None
