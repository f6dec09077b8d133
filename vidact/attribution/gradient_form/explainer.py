"""The explainer of relevance in gradient form, for networks with attention and for code that is not made of modules."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import checkpoint

from vidact.attribution.base import Explainer
from vidact.attribution.copies import differentiable
from vidact.attribution.gradient_form.handlers import HANDLERS
from vidact.attribution.gradient_form.ledger import Ledger
from vidact.attribution.gradient_form.settings import Rules
from vidact.attribution.gradient_form.walk import Refusal, Walk
from vidact.attribution.lrp.book import Layout
from vidact.attribution.names import LRP
from vidact.attribution.targets import Goal
from vidact.core.errors import ExplanationError
from vidact.core.explanation import Account


class GradientForm(Explainer):
    """Layer-wise relevance in gradient form: AttnLRP (Achtibat et al. 2024) or CP-LRP (Ali et al. 2022), with γ.

    Args:
        network: As in `Explainer`.
        rules: How relevance is divided.
        settings: As in `Explainer`.
    """

    def __init__(self, network: nn.Module, *, rules: Rules | None = None, **settings: Any) -> None:
        super().__init__(network, **settings)
        self._rules = rules or Rules()
        self.method = f"{LRP}:{self._rules.attention}"
        self._ledger: Ledger | None = None
        self._checked: set[Any] = set()  # shapes of clips
        self._layouts: dict[Any, list[Layout | None] | None] = {}  # by the shape of a clip; None: one by one

    def __exit__(self, *error: Any) -> None:
        self._checked, self._layouts, self._ledger = set(), {}, None
        super().__exit__(*error)

    def _prepare(self, video: Float[Tensor, "1 C T H W"]) -> None:
        if video.shape[1:] in self._checked:
            return
        walk = self._walk(Ledger(1))
        with without_checkpoints():
            scores = walk.run(video.clone().requires_grad_().clone())
        require_followed(walk, scores)
        self._checked.add(video.shape[1:])

    def _walk(self, ledger: Ledger) -> Walk:
        return Walk(self._copy, self._rules, HANDLERS, ledger)

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        self._ledger = Ledger(len(video), self._layouts.get(video.shape[1:]))
        walk = self._walk(self._ledger)
        leaf = video.detach().requires_grad_()
        with without_checkpoints():
            scores = walk.run(leaf.clone())
            (gradient,) = torch.autograd.grad(scores, leaf, goal.weights(scores.detach()))
        return gradient * video, scores.detach()

    def _account(self, relevance: Float[Tensor, "B C T H W"], score: Float[Tensor, " B"]) -> Account:
        assert self._ledger is not None
        return self._ledger.close(relevance)

    def _limit(self, video: Float[Tensor, "B C T H W"]) -> int:
        """Explain clips one by one where the clips of a batch cannot be told apart in every tensor that is noted."""
        limit, shape = super()._limit(video), video.shape[1:]
        if limit > 1 and shape not in self._layouts:
            with differentiable(video.device):
                self._layouts[shape] = self._find_layouts(self._own(video[:1]))
        return limit if limit == 1 or self._layouts[shape] is not None else 1

    def _find_layouts(self, video: Float[Tensor, "1 C T H W"]) -> list[Layout | None] | None:
        ledger = Ledger(2)
        try:
            with without_checkpoints():
                self._walk(ledger).run(torch.cat([video, torch.full_like(video, torch.nan)]).requires_grad_().clone())
        except Exception:  # whatever a network that is not ours does when it meets such numbers
            return None
        return None if None in ledger.found else ledger.found


def require_followed(walk: Walk, scores: Tensor) -> None:
    """Refuse a network with functions that relevance cannot follow.

    Raises:
        ExplanationError: names the first one, its place and what to do.
    """
    if not scores.requires_grad:
        raise ExplanationError(
            "no gradient goes from the network's scores to the clip; let gradients through: no no_grad, no detach"
        )
    refused = list(walk.refused)
    if refused:
        more = f" (and {len(refused) - 1} more: python -m vidact inspect)" if len(refused) > 1 else ""
        raise ExplanationError(f"{refused[0]}{more}")


@contextlib.contextmanager
def without_checkpoints() -> Iterator[None]:
    """Run activation checkpoints as plain code: they would run it again in backward, without its rules."""

    def plain(*_: Any, **__: Any) -> Iterator[None]:
        yield

    before = checkpoint._checkpoint_without_reentrant_generator
    checkpoint._checkpoint_without_reentrant_generator = plain  # type: ignore[assignment]
    try:
        yield
    finally:
        checkpoint._checkpoint_without_reentrant_generator = before


__all__ = ["GradientForm", "Refusal", "Rules"]
