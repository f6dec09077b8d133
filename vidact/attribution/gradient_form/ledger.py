"""Note, clip by clip, what constants, softmax and stabilisers take of a score, at the functions that take it.

Each share is computed by its own formula and noted where it is lost. Nothing is filled up to the score, so that a
missing or a wrong rule shows as an account that does not close.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vidact.attribution.lrp.book import Layout, layout_of
from vidact.core.errors import ExplanationError
from vidact.core.explanation import Account

BIAS, STABILISER = "bias", "stabiliser"


class OtherSteps(Exception):
    """A network takes other steps for these clips than for the one that the layouts were found with."""


@dataclass
class Ledger:
    """The account of the clips that are explained now.

    Attributes:
        num_clips: B.
        layouts: Where the clips lie in each noted tensor, in the order of notes in forward; None while they are found.
    """

    num_clips: int
    layouts: list[Layout | None] | None = None
    found: list[Layout | None] = field(default_factory=list)
    taken: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    _count: int = 0

    def constant(self, kind: str, name: str, result: Tensor, part: Tensor) -> None:
        """Note, when relevance arrives at a tensor, what a constant that was added into it takes: Σ g c.

        Args:
            kind: `bias`, or what takes it in words.
            name: Of the module.
            result: The tensor, y = f(x) + c.
            part: c, in a shape that broadcasts to y.
        """

        def take(gradient: Tensor) -> Tensor:
            # Of a single clip, sums come first: c is often a number per channel.
            return _product(gradient.sum_to_size(part.shape) if self.num_clips == 1 else gradient, part)

        self.on_gradient(kind, name, result, take, watched=part)

    def on_gradient(
        self, kind: str, name: str, result: Tensor, take: Callable[[Tensor], Tensor], *, watched: Tensor | None = None
    ) -> None:
        """Note what `take` makes of the gradient that arrives at a tensor, element by element.

        Raises:
            ExplanationError: (during backward) `watched` has been overwritten since.
        """
        if not result.requires_grad:
            return
        layout, version = self.layout(result), None if watched is None else watched._version

        def note(gradient: Tensor) -> None:
            if watched is not None and watched._version != version:
                raise ExplanationError(f"{name}: a tensor that it used is overwritten afterwards; work on a clone")
            self.add(kind, name, self.per_clip(take(gradient), layout))

        result.register_hook(note)  # type: ignore[no-untyped-call]

    def layout(self, tensor: Tensor) -> Layout | None:
        """Give where the clips lie in a tensor that is noted at this place of forward; None for a single clip.

        The n-th note of a forward pass has the n-th layout.

        Raises:
            OtherSteps: there are more notes than when the layouts were found.
        """
        if self.num_clips == 1:
            return None
        if self.layouts is None:
            self.found.append(layout_of(torch.isnan(tensor.detach())))
            return self.found[-1]
        if self._count == len(self.layouts):
            raise OtherSteps
        self._count += 1
        return self.layouts[self._count - 1]

    def finish(self) -> None:
        """Make sure, after forward, that as many notes were made as when the layouts were found.

        Raises:
            OtherSteps: there were fewer.
        """
        if self.layouts is not None and self.num_clips > 1 and self._count != len(self.layouts):
            raise OtherSteps

    @staticmethod
    def join(singles: "Sequence[Ledger]") -> "Ledger":
        """Put the accounts of single clips together."""
        found = Ledger(len(singles))
        for key in dict.fromkeys(key for one in singles for key in one.taken):
            values = [one.taken.get(key) for one in singles]
            none = torch.zeros_like(next(value for value in values if value is not None))
            found.taken[key] = torch.cat([none if value is None else value for value in values])
        return found

    def per_clip(self, values: Tensor, layout: Layout | None) -> Float[Tensor, " B"]:
        """Add up a tensor clip by clip; its rows in their own precision, which needs no copy, the rest in float64."""
        if layout is None:
            return (values.sum(-1) if values.dim() else values).sum(dtype=torch.float64)[None]
        values = values.movedim(layout.dim, 0)
        return values.reshape(layout.outer, self.num_clips, -1).sum(dim=(0, 2), dtype=torch.float64)

    def add(self, kind: str, name: str, taken: Float[Tensor, " B"]) -> None:
        """Add to what a module takes."""
        key = kind, name
        self.taken[key] = self.taken[key] + taken if key in self.taken else taken

    def close(self, relevance: Float[Tensor, "B C T H W"]) -> Account:
        """Finish the account with the relevance that has reached the voxels."""
        total = relevance.double().sum(dim=(1, 2, 3, 4))
        taken = [(key, value) for key, value in reversed(self.taken.items()) if bool(value.any())]
        biases = {name: value for (kind, name), value in taken if kind == BIAS}
        stabiliser = sum((value for (kind, _), value in taken if kind == STABILISER), start=torch.zeros_like(total))
        others = {f"{kind} {name}": value for (kind, name), value in taken if kind not in (BIAS, STABILISER)}
        return Account(total, biases, stabiliser, others)


def _product(gradient: Tensor, part: Tensor) -> Tensor:
    """Multiply, where a mask of −inf, which lets nothing through, takes nothing."""
    product = gradient * part
    return product if bool(product.sum().isfinite()) else torch.where(gradient == 0, 0, product)
