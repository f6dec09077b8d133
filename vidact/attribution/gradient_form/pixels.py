"""The layers that see the pixels: there relevance is divided as R, since g = R / x is undefined where a pixel is 0.

The relevance of a normalised voxel is the voxel's, whatever mean was subtracted, by a module or by code as
`(video - mean) / std`; that of a difference of two frames is half of each. A composite with a line for the first layer
turns to R there, too: from the layer that sees the pixels on, what travels is R, which moves through reshaping as a
gradient does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from vidact.attribution.gradient_form.calls import Call, carries
from vidact.attribution.gradient_form.functions import REORDERS, is_reversed
from vidact.attribution.gradient_form.steps import FLAT, FirstLayer
from vidact.attribution.gradient_form.weights import Product
from vidact.attribution.graph.tracing import walk_graph
from vidact.core.errors import ConfigError
from vidact.models.layers import FrameDifferences

SHIFTS = {"add", "sub", "mul", "div"}


@dataclass(frozen=True)
class Leaf:
    """The pixels as they come, or after they are shifted, scaled or subtracted from each other.

    Attributes:
        values: Require a gradient of their own.
        origin: The place in the graph of what they were computed from; None for the video.
        back: Gives their relevance to what they were computed from.
        bounds: The least and the largest value of each, where a rule needs them.
    """

    values: Tensor
    origin: GradientEdge | None = None
    back: Callable[[Tensor], Tensor] | None = None
    bounds: tuple[Tensor, Tensor] | None = None


@dataclass
class Pixels:
    """The values that stand for the video's voxels.

    A tensor *holds pixels* as long as nothing but pixels, in whatever order, has been written into it.

    Attributes:
        video: As the network gets it; requires a gradient.
        given: What stands for it in the network's code.
        first_rule: Rule of the first layer, `box`, `w_square` or `flat`; None for that of all others.
    """

    video: Tensor
    given: Tensor
    first_rule: str | None = None
    leaves: list[Leaf] = field(default_factory=list)

    def __post_init__(self) -> None:
        bounds = (torch.zeros_like(self.video), torch.ones_like(self.video)) if self.first_rule else None
        self.leaves = [Leaf(self.video, bounds=bounds)]
        self._held: dict[int, tuple[Tensor, int]] = {}  # kept with their versions, so that no id is used again
        self.mark(self.given)

    def mark(self, values: Tensor) -> None:
        """Note that a tensor holds pixels."""
        self._held[id(values)] = values, values._version

    def are(self, values: object) -> bool:
        """Say whether a tensor holds pixels."""
        found = self._held.get(id(values))
        return found is not None and found[0] is values and found[0]._version == found[1]

    def kept_by(self, call: Call) -> list[Tensor]:
        """List the tensors that will still hold pixels after a function has reordered or written pixels in place."""
        if not call.is_in_place or not self.are(call.args[0]):
            return []
        is_written = call.name in ("setitem", "copy") and len(call.args) > 1 and self.are(call.args[-1])
        return self._sharing(call.args[0]) if is_written or call.name in REORDERS else []

    def _sharing(self, values: Tensor) -> list[Tensor]:
        memory = values.untyped_storage().data_ptr()
        held = [one for one, _ in self._held.values() if self.are(one)]
        return [one for one in held if one.untyped_storage().data_ptr() == memory]

    def follow(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor | None:
        """End at the output of a layer that subtracts frames of the pixels alone; gives the new output."""
        if not isinstance(module, FrameDifferences) or not inputs or not self.are(inputs[0]):
            return None
        assert isinstance(output, Tensor)
        assert isinstance(inputs[0], Tensor)
        return self._end(inputs[0], output, _half_each, lambda low, high: (low - high, high - low))

    def follow_function(self, call: Call) -> Tensor | None:
        """End at what code makes of pixels where it normalises them; gives the new output.

        To normalise is to shift or scale by a number, or by one for each colour. Whatever differs from place to place,
        as added positions do, is no normalisation, and takes relevance of its own.
        """
        if call.name not in SHIFTS or not call.args or not self.are(call.args[0]) or not self._is_statistic(call):
            return None

        def shift(values: Tensor) -> Tensor:
            values = values.clone() if call.is_in_place else values
            result: Tensor = call.func(values, *call.args[1:], **call.kwargs)
            return result

        with torch._C.DisableTorchFunction():
            given = call.args[0]
            output = shift(given)
            if not carries(output) or output.shape != given.shape:
                return None
            return self._end(
                given, output, _whole, lambda low, high: _sorted(shift(low), shift(high)), call.is_in_place
            )

    def _is_statistic(self, call: Call) -> bool:
        """Say whether a function's only other argument is a number, or a constant for each colour."""
        if len(call.args) > 2 or not call.kwargs.keys() <= {"other", "alpha"} or carries(call.kwargs.get("alpha")):
            return False
        if call.name == "div" and is_reversed(call.func):
            return False
        other = call.get("other", 1, None)
        if not isinstance(other, Tensor):
            return other is not None
        return not carries(other) and other.numel() in (1, self.video.shape[1])

    def _end(
        self,
        given: Tensor,
        output: Tensor,
        back: Callable[[Tensor], Tensor],
        bound: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        in_place: bool = False,
    ) -> Tensor:
        bounds = bound(*(self._moved(number, given) for number in (0, 1))) if self.first_rule else None
        leaf = Leaf(output.detach().requires_grad_(), get_gradient_edge(given), back, bounds)
        self.leaves.append(leaf)
        if in_place:
            kept = self._sharing(given)
            given.copy_(leaf.values)
        else:
            kept = [given := leaf.values.clone()]  # what follows may work in place
        for one in kept:
            self.mark(one)
        return given

    def _moved(self, number: int, values: Tensor) -> Tensor:
        bounds = [leaf.bounds[number] for leaf in self.leaves if leaf.bounds is not None]
        return self._move(bounds, values)

    def _move(self, fills: Sequence[Tensor], values: Tensor) -> Tensor:
        """Reorder what stands for each pixel as the pixels themselves were; what was filled in beside them is 0.

        Reordering is linear, and the transpose of its transpose.
        """
        leaves = [leaf.values for leaf in self.leaves]
        with torch.enable_grad(), torch._C.DisableTorchFunction():
            start = torch.zeros_like(values).requires_grad_()
            backs = torch.autograd.grad(values, leaves, start, create_graph=True, retain_graph=True, allow_unused=True)
            pairs = [(back, fill) for back, fill in zip(backs, fills, strict=True) if carries(back)]
            (moved,) = torch.autograd.grad(
                [back for back, _ in pairs], start, [fill for _, fill in pairs], allow_unused=True
            )
        return torch.zeros_like(values) if moved is None else moved.detach()

    def first_layer(self, values: Tensor, weight: Tensor, bias: Tensor | None, product: Product) -> FirstLayer:
        """Describe the layer that sees these pixels by its rule."""
        ones = [torch.ones_like(leaf.values) for leaf in self.leaves]
        is_box = self.first_rule == "box"
        bounds = [self._moved(0, values), self._moved(1, values)] if is_box else [self._move(ones, values)]
        squared = None if bias is None or self.first_rule != "w_square" else bias**2
        return FirstLayer(self.first_rule, product, weight, squared, bounds)

    def relevance(self, scores: Tensor, weights: Tensor) -> Tensor:
        """Propagate Σ_k w_k f_k back to the voxels.

        Args:
            scores: Logits [B, K].
            weights: w [B, K].

        Raises:
            ConfigError: the flat rule gives every frame the same.
        """
        leaves = [leaf.values for leaf in self.leaves]
        gradients = torch.autograd.grad(scores, leaves, weights, retain_graph=self._needs_graph(), allow_unused=True)
        factors = [torch.ones_like(values) if self.first_rule else values.detach() for values in leaves]
        found = [
            torch.zeros_like(factor) if gradient is None else gradient * factor
            for factor, gradient in zip(factors, gradients, strict=True)
        ]
        for number in range(len(leaves) - 1, 0, -1):
            leaf = self.leaves[number]
            assert leaf.origin is not None
            assert leaf.back is not None
            earlier = torch.autograd.grad(
                [leaf.origin], leaves[:number], leaf.back(found[number]), retain_graph=True, allow_unused=True
            )
            for place, own in enumerate(earlier):
                found[place] = found[place] if own is None else found[place] + own
        if self.first_rule == FLAT:
            _refuse_one_for_all_frames(found[0])
        return found[0]

    def _needs_graph(self) -> bool:
        """Say whether what reorders the pixels has kept something (indices, writes), which a backward pass frees."""
        nodes = walk_graph({leaf.origin.node for leaf in self.leaves if leaf.origin is not None}, seen=set())
        return any(node.name().endswith("CopySlices") or _keeps_tensors(node) for node in nodes)


def _keeps_tensors(node: Any) -> bool:
    return any(isinstance(getattr(node, name), Tensor) for name in dir(node) if name.startswith("_saved_"))


def _whole(relevance: Tensor) -> Tensor:
    return relevance


def _sorted(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return torch.minimum(first, second), torch.maximum(first, second)


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
