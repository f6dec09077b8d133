"""The explainer `lrp`: put the rules of a composite on a copy of the network, and propagate relevance through it."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from zennit.core import Composite

from vidact.attribution.account import refined
from vidact.attribution.base import Explainer
from vidact.attribution.copies import SAME, differentiable, scores_of
from vidact.attribution.lrp.book import Book, find_layouts
from vidact.attribution.lrp.checks import require_explainable
from vidact.attribution.lrp.composites import GRADIENT_FORM, CompositeSpec, build_composite, read_recipe
from vidact.attribution.lrp.first_layer import FirstLayer, find_first_layer
from vidact.attribution.lrp.recipes import check_names
from vidact.attribution.names import DEFAULT_COMPOSITE, LRP
from vidact.attribution.targets import Against, Goal
from vidact.core.errors import ConfigError, ExplanationError
from vidact.core.explanation import Account, Explanation


class LayerwiseRelevance(Explainer):
    """Layer-wise relevance propagation (Bach et al. 2015) through Zennit.

    What is propagated is Σ_k w_k f_k (`targets.class_weights`), and ΣR is its value, the explanation's `score`.

    Args:
        network: As in `Explainer`.
        composite: The rules per layer: one of `composites.COMPOSITES`, a YAML file, or a mapping as in one.
        zero_biases: Whether rules ignore biases; None for what the composite says.
        check_network: Whether to make sure, before the first explanation, that the rules can follow the network.
        refine: Whether clips that do not close in float32 are explained again in float64 (`account.refined`).
        settings: As in `Explainer`.

    Raises:
        ConfigError: no such composite, or one that contradicts itself.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        composite: CompositeSpec = DEFAULT_COMPOSITE,
        zero_biases: bool | None = None,
        check_network: bool = True,
        refine: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(network, **settings)
        self._refine = refine and self._dtype != torch.float64
        self._spec, self._recipe, self._zero_biases = composite, read_recipe(composite), zero_biases
        self._check_network = check_network
        name = Path(composite).stem if isinstance(composite, str) else "own"
        self.method = f"{LRP}:{name}" + ("_own" if name in GRADIENT_FORM else "")
        self._composite: Composite | None = None
        self._first: tuple[Any, FirstLayer] | None = None
        self._book = Book()
        self._tells_apart: dict[Any, bool] = {}  # by the shape of a clip

    def __exit__(self, *error: Any) -> None:
        if self._composite is not None:
            self._composite.remove()
        self._composite = self._first = None
        self._tells_apart = {}
        super().__exit__(*error)

    def _prepare(self, video: Float[Tensor, "1 C T H W"]) -> None:
        """Put the rules on the copy, and again when the bounds of the first layer change their shape."""
        shape = video.shape[1:]
        if self._composite is not None and (self._first is None or self._first[0] == shape):
            return
        if self._composite is not None:
            self._composite.remove()
            self._composite = None
        elif self._check_network:
            require_explainable(self._copy, video)
        first = find_first_layer(self._copy, video) if self._recipe.needs_first else None
        if first is not None:
            self._refuse_flat_over_time(first)
        scores = scores_of(self._copy, video)
        composite = build_composite(self._spec, first=first, zero_biases=self._zero_biases, clip=video, book=self._book)
        try:
            composite.register(self._copy)
            check_names(self._recipe, self._copy)
            _refuse_other_scores(scores, scores_of(self._copy, video))
        except Exception:
            composite.remove()  # half a composite must explain nothing
            raise
        self._composite, self._first = composite, None if first is None else (shape, first)

    def _refuse_flat_over_time(self, first: FirstLayer) -> None:
        if any(line.rule == "flat" for line in self._recipe.lines) and first.is_blind_to_time_when_flat():
            raise ConfigError(
                f"{self.method}: in this network each filter of the first layer sees all frames, and the flat rule "
                "would give every frame exactly the same relevance; try epsilon_plus"
            )

    def __call__(
        self, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"], *, against: Against = None
    ) -> Explanation:
        """Explain as every `Explainer` does, and add an account."""
        found = super().__call__(video, target, against=against)
        return refined(found, video, target, in_float64=self._in_float64) if self._refine else found

    def _in_float64(self) -> "LayerwiseRelevance":
        return LayerwiseRelevance(
            self._network,
            composite=self._spec,
            zero_biases=self._zero_biases,
            batch_size=self._batch_size,
            check_network=False,
            dtype=torch.float64,
        )

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        def start(scores: Tensor) -> Tensor:
            handed = scores * goal.weights(scores)
            self._book.set_score(handed.sum(dim=1))
            return handed

        self._book.open(self._copy, len(video))
        return self._backpropagate(video, start)

    def _account(self, relevance: Float[Tensor, "B C T H W"], score: Float[Tensor, " B"]) -> Account:
        return self._book.close(relevance)

    def _limit(self, video: Float[Tensor, "B C T H W"]) -> int:
        """Explain clips one by one where the clips of a batch cannot be told apart in every layer."""
        limit = super()._limit(video)
        if limit > 1 and video.shape[1:] not in self._tells_apart:
            with differentiable(video.device):
                layouts = find_layouts(self._copy, self._own(video[:1]))
            self._book.layouts = layouts or {}
            self._tells_apart = {video.shape[1:]: layouts is not None}
        return limit if limit == 1 or self._tells_apart[video.shape[1:]] else 1


def _refuse_other_scores(plain: Float[Tensor, "1 K"], canonized: Float[Tensor, "1 K"]) -> None:
    tolerance = max(SAME, 16 * torch.finfo(plain.dtype).eps)
    difference = float((plain - canonized).abs().max())
    if difference > tolerance * max(1.0, float(plain.abs().max())):
        raise ExplanationError(
            f"prepared for relevance rules, the network gives other scores (they differ by {difference:.2g}): a "
            "parameter or a module is used in two ways, or the output of a layer before a BatchNorm is used without "
            "its gradient as well"
        )
