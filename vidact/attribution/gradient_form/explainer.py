"""The explainer of relevance in gradient form, for networks with attention and for code that is not made of modules."""

import contextlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils import checkpoint

from vidact.attribution.account import LARGEST_GAP, ROUNDING, refined
from vidact.attribution.base import Explainer, part_of
from vidact.attribution.copies import differ, differentiable, scores_of
from vidact.attribution.gradient_form.calls import Refusal
from vidact.attribution.gradient_form.handlers import HANDLERS
from vidact.attribution.gradient_form.ledger import Ledger, OtherSteps
from vidact.attribution.gradient_form.steps import let_activations_pass
from vidact.attribution.gradient_form.walk import Walk
from vidact.attribution.gradient_form.weights import Rules
from vidact.attribution.graph.unrolling import UnrollGRU, UnrollLSTM
from vidact.attribution.lrp.book import Layout
from vidact.attribution.lrp.checks import refuse_scripts
from vidact.attribution.lrp.composites import GRADIENT_FORM, CompositeSpec, read_recipe
from vidact.attribution.lrp.recipes import Recipe
from vidact.attribution.names import CP_LRP, LRP
from vidact.attribution.targets import Against, Goal
from vidact.core.errors import ConfigError, ExplanationError, nearest
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
        self.method = f"{LRP}:{attention}" + ("" if composite == attention else f"_{own}")
        self._ledger: Ledger | None = None
        self._is_ready = False
        self._shapes: set[Any] = set()  # of clips that were checked
        self._layouts: dict[Any, list[Layout | None] | None] = {}  # by the shape of a clip; None: one by one

    def __exit__(self, *error: Any) -> None:
        self._is_ready, self._shapes, self._layouts, self._ledger = False, set(), {}, None
        super().__exit__(*error)

    def __enter__(self) -> "GradientForm":
        super().__enter__()
        return self

    def _prepare(self, video: Float[Tensor, "1 C T H W"]) -> None:
        if not self._is_ready:
            for canonizer in (UnrollLSTM(), UnrollGRU()):
                canonizer.apply(self._copy)
            let_activations_pass(self._copy)
            _check_names(self._recipe, self._copy)
            self._is_ready = True
        if self._check_network and video.shape[1:] not in self._shapes:
            refusals, gap = self.check(video)
            if refusals:
                _raise_refused(refusals)
            if not gap <= LARGEST_GAP:
                raise ExplanationError(_does_not_close(gap))
        self._shapes.add(video.shape[1:])

    def check(self, video: Float[Tensor, "1 C T H W"]) -> tuple[list[Refusal], float]:
        """Explain an example clip, and list the functions that relevance cannot follow, once for each place.

        Returns:
            The functions and, where there are none, how far the account of all classes together is from closing, as a
            share of its largest part.

        Raises:
            ExplanationError: no gradient reaches the clip, a module is TorchScript, or a step is overwritten that
                relevance needs.
        """
        refuse_scripts(self._copy)
        walk = self._walk(Ledger(1))
        walk.looks_for_hidden = True
        expected = scores_of(self._copy, self._own(video))
        with differentiable(video.device), without_checkpoints():
            scores, pixels = walk.run(self._own(video))
            if differ(scores.detach(), expected):
                raise ExplanationError(
                    f"{type(self._copy).__name__} gives other scores where relevance is followed: it writes into a "
                    "tensor of which it uses another view; let it work on a clone"
                )
            if not scores.requires_grad:
                raise ExplanationError(
                    "no relevance goes from the network's scores to the clip; return logits, without softmax or "
                    "sigmoid, and let gradients through: no no_grad, no detach"
                )
            if walk.refused:
                return list(walk.refused), float("nan")
            with _reword_overwritten():
                found = pixels.relevance(scores, torch.ones_like(scores))
            account = walk.ledger.close(found)
            return [], float(account.gap(scores.detach().sum(dim=1)))

    def __call__(
        self, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"], *, against: Against = None
    ) -> Explanation:
        """Explain as every `Explainer` does, and add an account."""
        found = super().__call__(video, target, against=against)
        found = refined(found, video, target, in_float64=self._in_float64) if self._refine else found
        if found.account is not None and not bool((found.account.gap(found.score) <= LARGEST_GAP).all()):
            raise ExplanationError(_does_not_close(float(found.account.gap(found.score).max())))
        return found

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
        layouts = self._layouts.get(video.shape[1:])
        try:
            relevance, scores, self._ledger = self._propagate(video, goal, layouts)
        except OtherSteps:
            rows = [slice(row, row + 1) for row in range(len(video))]
            singles = [self._propagate(video[row], part_of(goal, row, video.device), None) for row in rows]
            relevance = torch.cat([own for own, _, _ in singles])
            scores = torch.cat([own for _, own, _ in singles])
            self._ledger = Ledger.join([own for _, _, own in singles])
        return relevance, scores

    def _propagate(
        self, video: Float[Tensor, "B C T H W"], goal: Goal, layouts: list[Layout | None] | None
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"], Ledger]:
        ledger = Ledger(len(video), layouts)
        walk = self._walk(ledger)
        with without_checkpoints():
            scores, pixels = walk.run(video)
            ledger.finish()
            if walk.refused:  # a step that the example clips did not take
                _raise_refused(list(walk.refused))
            with _reword_overwritten():
                return pixels.relevance(scores, goal.weights(scores.detach())), scores.detach(), ledger

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
                scores, _ = self._walk(ledger).run(torch.cat([video, torch.full_like(video, torch.nan)]))
            if None in ledger.found or not bool(scores[0].isfinite().all()):
                return None
            return ledger.found if self._closes(video, ledger.found) else None
        except Exception:  # whatever a network that is not ours does when it meets such numbers, or too little memory
            return None

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

    def plain_call(function: Callable[..., Any], args: Any, kwargs: Any, **_: Any) -> Any:
        return function(*args, **kwargs)

    def plain_generator(*_: Any, **__: Any) -> Iterator[None]:
        yield

    # Torch calls the first since 2.15, the second before.
    own = {"_checkpoint_impl": plain_call, "_checkpoint_without_reentrant_generator": plain_generator}
    before = {name: vars(checkpoint)[name] for name in own if name in vars(checkpoint)}
    vars(checkpoint).update({name: own[name] for name in before})
    try:
        yield
    finally:
        vars(checkpoint).update(before)


def _raise_refused(refusals: list[Refusal]) -> None:
    more = f" (and {len(refusals) - 1} more: python -m vidact inspect)" if len(refusals) > 1 else ""
    raise ExplanationError(f"{refusals[0]}{more}")


def _does_not_close(gap: float) -> str:
    return (
        f"the account does not close, the parts of the score differ from it by {gap:.1%} of the largest: a step of "
        "this network has no right rule in gradient form; try a method that only needs a gradient, such as "
        "gradient_x_input, and please tell the authors of vidact which step it is"
    )


def _check_names(recipe: Recipe, network: nn.Module) -> None:
    """Make sure that each pattern of names fits a module with weights of its own.

    Raises:
        ConfigError: a pattern that fits none.
    """
    owners = [
        name
        for name, module in network.named_modules()
        if any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
    ]
    for line in recipe.own_lines:
        if line.name is not None and not any(fnmatchcase(name, line.name) for name in owners):
            near = nearest(line.name, owners) or owners[:8]
            raise ConfigError(
                f"{recipe.name}: no module with weights fits {{name: {line.name}, rule: {line.rule}}}; nearest names: "
                f"{', '.join(near)}"
            )
