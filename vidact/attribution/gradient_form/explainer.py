"""The explainer of relevance in gradient form, for networks with attention and for code that is not made of modules."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils import checkpoint

from vidact.attribution.account import ROUNDING, refined
from vidact.attribution.base import Explainer
from vidact.attribution.copies import differentiable
from vidact.attribution.gradient_form.activations import let_activations_pass
from vidact.attribution.gradient_form.handlers import HANDLERS
from vidact.attribution.gradient_form.ledger import Ledger
from vidact.attribution.gradient_form.settings import Rules
from vidact.attribution.gradient_form.walk import Refusal, Walk
from vidact.attribution.lrp.book import Layout
from vidact.attribution.lrp.checks import refuse_scripts
from vidact.attribution.lrp.composites import GRADIENT_FORM, CompositeSpec, read_recipe
from vidact.attribution.lrp.recipes import check_names
from vidact.attribution.names import CP_LRP, LRP
from vidact.attribution.targets import Against, Goal
from vidact.core.errors import ConfigError, ExplanationError
from vidact.core.explanation import Account, Explanation


class GradientForm(Explainer):
    """Layer-wise relevance in gradient form: AttnLRP (Achtibat et al. 2024) or CP-LRP (Ali et al. 2022), with γ.

    Args:
        network: As in `Explainer`.
        composite: One of `composites.GRADIENT_FORM`, or a YAML file or mapping with one of them as `otherwise`.
        check_network: Whether to make sure, before the first explanation, that relevance can follow the network.
        refine: Whether clips that do not close in float32 are explained again in float64 (`account.refined`).
        settings: As in `Explainer`.

    Raises:
        ConfigError: no such composite, or one that contradicts itself.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        composite: CompositeSpec = CP_LRP,
        check_network: bool = True,
        refine: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(network, **settings)
        self._spec, self._recipe, self._check_network = composite, read_recipe(composite), check_network
        self._refine = refine and self._dtype != torch.float64
        if self._recipe.attention is None:
            raise ConfigError(f"{self._recipe.name} is no composite in gradient form; try {' or '.join(GRADIENT_FORM)}")
        own = Path(composite).stem if isinstance(composite, str) else "own"
        attention = self._recipe.attention
        self.method = f"{LRP}:{attention}" + ("" if own == attention else f"_{own}")
        self._ledger: Ledger | None = None
        self._is_ready = False
        self._layouts: dict[Any, list[Layout | None] | None] = {}  # by the shape of a clip; None: one by one

    def __exit__(self, *error: Any) -> None:
        self._is_ready, self._layouts, self._ledger = False, {}, None
        super().__exit__(*error)

    def __enter__(self) -> "GradientForm":
        super().__enter__()
        return self

    def _prepare(self, video: Float[Tensor, "1 C T H W"]) -> None:
        if self._is_ready:
            return
        let_activations_pass(self._copy)
        if self._check_network and (refusals := self.refusals(video)):
            more = f" (and {len(refusals) - 1} more: python -m vidact inspect)" if len(refusals) > 1 else ""
            raise ExplanationError(f"{refusals[0]}{more}")
        check_names(self._recipe, self._copy)
        self._is_ready = True

    def refusals(self, video: Float[Tensor, "1 C T H W"]) -> list[Refusal]:
        """List the functions that relevance cannot follow, once for each place, by explaining an example clip.

        Raises:
            ExplanationError: no gradient reaches the clip, a module is TorchScript, or a step is overwritten that
                relevance needs.
        """
        refuse_scripts(self._copy)
        walk = self._walk(Ledger(1))
        walk.looks_for_hidden = True
        with differentiable(video.device), without_checkpoints():
            scores, pixels = walk.run(self._own(video))
            if not scores.requires_grad:
                raise ExplanationError(
                    "no gradient goes from the network's scores to the clip; let gradients through: no no_grad, no "
                    "detach"
                )
            if not walk.refused:
                with _reword_overwritten():
                    pixels.relevance(scores, torch.ones_like(scores))
        return list(walk.refused)

    def __call__(
        self, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"], *, against: Against = None
    ) -> Explanation:
        """Explain as every `Explainer` does, and add an account."""
        found = super().__call__(video, target, against=against)
        return refined(found, video, target, in_float64=self._in_float64) if self._refine else found

    def _in_float64(self) -> "GradientForm":
        return GradientForm(
            self._network,
            composite=self._spec,
            batch_size=self._batch_size,
            check_network=False,
            dtype=torch.float64,
        )

    def _walk(self, ledger: Ledger) -> Walk:
        return Walk(self._copy, Rules(self._recipe), HANDLERS, ledger)

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        self._ledger = Ledger(len(video), self._layouts.get(video.shape[1:]))
        walk = self._walk(self._ledger)
        with without_checkpoints():
            scores, pixels = walk.run(video)
            return pixels.relevance(scores, goal.weights(scores.detach())), scores.detach()

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
        """Find where the clips of a batch lie in each tensor that is noted; None if they cannot be told apart."""
        ledger = Ledger(2)
        try:
            with without_checkpoints():
                self._walk(ledger).run(torch.cat([video, torch.full_like(video, torch.nan)]))
        except Exception:  # whatever a network that is not ours does when it meets such numbers
            return None
        return ledger.found if None not in ledger.found and self._closes(video, ledger.found) else None

    def _closes(self, video: Float[Tensor, "1 C T H W"], layouts: list[Layout | None]) -> bool:
        """Say whether the accounts of two clips close together: a network may hand constants from clip to clip."""
        ledger = Ledger(2, layouts)
        with without_checkpoints():
            scores, pixels = self._walk(ledger).run(torch.cat([video, 1 - video]))
            chosen = nn.functional.one_hot(scores.argmax(dim=1), scores.shape[1]).to(scores)
            account = ledger.close(pixels.relevance(scores, chosen))
        return bool((account.gap((scores.detach() * chosen).sum(dim=1)) <= ROUNDING).all())


@contextlib.contextmanager
def _reword_overwritten() -> Iterator[None]:
    """Say what torch means by "modified by an inplace operation"."""
    try:
        yield
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise ExplanationError(
            "a tensor is overwritten (by +=, relu_ or the like) after a step whose relevance needs it; work on a clone "
            f"({str(error).partition('.')[0]})"
        ) from error


@contextlib.contextmanager
def without_checkpoints() -> Iterator[None]:
    """Run activation checkpoints as plain code: they would run it again in backward, without its rules."""

    def plain(*_: Any, **__: Any) -> Iterator[None]:
        yield

    before = checkpoint._checkpoint_without_reentrant_generator
    checkpoint._checkpoint_without_reentrant_generator = plain
    try:
        yield
    finally:
        checkpoint._checkpoint_without_reentrant_generator = before
