"""Measure, layer by layer, how much of the score arrives as relevance, and where the rest is lost.

`inspect` prints the table. It reads the relevance at each layer's output and inputs, whatever rule computed it.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidact.attribution.account import LARGEST_GAP, TOLERANCE, in_words, is_negligible, join_accounts, parts_of
from vidact.attribution.base import Explainer
from vidact.attribution.lrp.composites import CompositeSpec
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.lrp.meters import meters
from vidact.attribution.targets import Against, set_goal
from vidact.core.explanation import Account

EXPLODED = 1e4  # max|R| / |score|
MADE_BY_BIASES = 0.9  # from this share of a score on, the last layer's biases make it


@dataclass(frozen=True)
class Flow:
    """Relevance at one layer, as shares of the score, summarised over clips.

    Attributes:
        arriving: Mean of ΣR at its output.
        leaving: Mean of ΣR at its inputs.
        worst_loss: arriving − leaving of the clip where it is farthest from 0.
        largest: The largest max|R| at its inputs or its output.
    """

    arriving: float
    leaving: float
    worst_loss: float
    largest: float

    @property
    def loss(self) -> float:
        """Mean of what arrives and does not leave; negative where relevance is created."""
        return self.arriving - self.leaving


@dataclass(frozen=True)
class LayerBalance:
    """One layer's relevance.

    Attributes:
        name: Of the module, as the canonized network has it.
        kind: Its class.
        handled: With rules that ignore biases.
        counted: With rules in which biases take part.
    """

    name: str
    kind: str
    handled: Flow
    counted: Flow


@dataclass(frozen=True)
class ConservationTable:
    """Where a network's relevance goes, as shares of the explained score.

    Attributes:
        method: Name of the method and its composite.
        layers: From the last that was called to the first.
        score: Of each clip.
        largest_logit: max |logit| of each clip.
        handled: ΣR / score of each clip, with rules that ignore biases.
        counted: The same with rules in which biases take part.
        account: Where the score of each clip went, with rules that ignore biases.
    """

    method: str
    layers: tuple[LayerBalance, ...] = field(repr=False)
    score: Float[Tensor, " B"]
    largest_logit: Float[Tensor, " B"]
    handled: Float[Tensor, " B"]
    counted: Float[Tensor, " B"]
    account: Account = field(repr=False)

    @property
    def lost_to_stabiliser(self) -> float:
        """Share of the score lost inside layers when biases are ignored: to ε, or where no input contributes."""
        return sum(layer.handled.loss for layer in self.layers)

    @property
    def lost_to_biases(self) -> float:
        """Share of the score that biases take when they are counted, beyond what the stabiliser takes.

        Only biases of convolutions and linear layers that have a rule: not those inside an LSTM's or GRU's gates, nor
        of a BatchNorm that is not merged into a layer.
        """
        return sum(layer.counted.loss for layer in self.layers) - self.lost_to_stabiliser

    @property
    def lost_between_layers(self) -> float:
        """Share of the score lost (negative: created) outside of rules: 0 for an explainable network."""
        return 1 - float(self.handled.mean()) - self.lost_to_stabiliser

    @property
    def largest(self) -> float:
        """The largest max|R| / |score| anywhere, with biases ignored."""
        return max((layer.handled.largest for layer in self.layers), default=0.0)

    def _largest_sum(self) -> float:
        flows = [layer.handled for layer in self.layers]
        return max((abs(value) for flow in flows for value in (flow.arriving, flow.leaving)), default=0.0)

    @property
    def closes(self) -> bool:
        """Whether voxels, biases and the stabiliser add up to the score of each clip."""
        return bool((self.account.gap(self.score) <= LARGEST_GAP).all())

    def warnings(self) -> tuple[str, ...]:
        """Describe what is wrong; empty if nothing is."""
        found = []
        negligible = is_negligible(self.score, self.largest_logit)
        if negligible.any():
            near = float(self.score[negligible].abs().min())
            found.append(f"a score is near zero ({near:.2g}): shares of it mean little; choose another clip or target")
        if (last := self._last_weighted()) is not None and last.counted.loss > MADE_BY_BIASES:
            found.append(
                f"the biases of {last.name} make {100 * last.counted.loss:.0f} % of the score, and the little "
                "relevance of its inputs is scaled up to make up for them, as in a network that has not learned yet"
            )
        worst = float(self.handled[(self.handled - 1).abs().nan_to_num(nan=torch.inf).argmax()])
        if not abs(worst - 1) <= TOLERANCE:
            found.append(f"relevance adds up to {worst:.4g} times the score instead of 1: {self.culprit()}")
        if not self.largest <= EXPLODED:
            first = next(layer for layer in self.layers if not layer.handled.largest <= EXPLODED)
            found.append(
                f"relevance explodes: max|R| is {self.largest:.2g} times the score, from {first.name} "
                f"({first.kind}) on; a rule divides by a sum near zero: try a larger epsilon, or z_plus or gamma there"
            )
        return tuple(found)

    def _last_weighted(self) -> LayerBalance | None:
        return next((layer for layer in self.layers if layer.kind.startswith(("Linear", "Conv"))), None)

    def where(self) -> str:
        """Say where the score went, for the clip whose voxels are farthest from having all of it."""
        worst = int((self.handled - 1).abs().nan_to_num(nan=torch.inf).argmax())
        return in_words(parts_of(self.account, worst), float(self.score[worst]))

    def culprit(self) -> str:
        """Say where most of the relevance is lost, and what that means; of use where relevance does not add up."""
        # Where relevance has exploded, rounding alone takes more than the score.
        if abs(self.lost_between_layers) > TOLERANCE * max(1.0, self._largest_sum()) or not self.layers:
            return (
                f"{self.lost_between_layers:.4g} of the score is lost between layers, where no rule applies: a module "
                "that is no layer of torch.nn or vidact, or a sum, product or mean that is no module; do not trust it"
            )
        layer = max(self.layers, key=lambda layer: abs(layer.handled.loss))
        return (
            f"{layer.name} ({layer.kind}) loses {layer.handled.loss:.4g} of the score, where its bias makes its "
            "output and no input contributes, or to a large epsilon; another rule there may keep it"
        )

    def __str__(self) -> str:
        """Write a table in Markdown, and below it the sums and the warnings."""
        head = (
            "| layer | kind | arriving | leaving | worst loss | max abs R | arriving, biases counted | leaving | "
            "worst loss | max abs R |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
        )
        rows = [f"| {one.name} | {one.kind} | {_row(one.handled)} | {_row(one.counted)} |" for one in self.layers]
        sums = [
            f"{self.method}, mean of {len(self.score)} clips; relevance in shares of the score",
            f"ΣR / score: {_spread(self.handled)}; biases counted: {_spread(self.counted)}",
            f"where the score is: {self.where()}",
            f"lost to biases where they are counted: {self.lost_to_biases:.4f}; to the stabiliser: "
            f"{self.lost_to_stabiliser:.2g}; between layers: {self.lost_between_layers:.2g}",
            f"max|R| / |score|: {self.largest:.4g}",
            "biases: those of convolutions and linear layers with a rule; no column has those of other layers",
        ]
        warnings = [f"warning: {line}" for line in self.warnings()]
        return "\n".join([head, *rows, "", *(f"- {line}" for line in [*sums, *warnings])])


def conservation_table(
    network: nn.Module,
    video: Float[Tensor, "B C T H W"],
    *,
    target: Int[Tensor, " B"],
    composite: CompositeSpec,
    against: Against = None,
) -> ConservationTable:
    """Follow the relevance of some clips through a network, once with biases ignored and once with biases counted.

    Args:
        network: From [B, C, T, H, W] in [0, 1] to logits [B, K]; stays as it is. It need not be explainable.
        video: In [0, 1].
        target: A class number per clip.
        composite: The rules, as `LayerwiseRelevance` takes them.
        against: As explainers take it.

    Raises:
        ConfigError: no such composite.
        ExplanationError: as explainers.
    """
    against = set_goal(target, against).against
    runs = {}
    for zero_biases in (True, False):
        explainer = LayerwiseRelevance(
            network, composite=composite, zero_biases=zero_biases, check_network=False, refine=False
        )
        with explainer as explain:
            largest_logit = explain.scores(video).abs().amax(dim=1)
            runs[zero_biases] = _follow(explain, video, target, against)
    (scores, account, totals, flows), (_, _, counted_totals, counted_flows) = runs[True], runs[False]
    layers = [LayerBalance(name, kind, flow, counted_flows[name, kind]) for (name, kind), flow in flows.items()]
    return ConservationTable(
        explainer.method, tuple(layers[::-1]), scores, largest_logit, totals, counted_totals, account
    )


def _follow(
    explain: Explainer, video: Tensor, target: Tensor, against: Tensor | None
) -> tuple[Tensor, Account, Tensor, dict[tuple[str, str], Flow]]:
    """Compute each clip's score, account and ΣR / score, and the flow through each layer, in the order of calls."""
    scores, accounts, totals = [], [], []
    seen: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for row in range(len(video)):  # one by one: where time is folded into the batch, clips could not be told apart
        part = slice(row, row + 1)
        with meters(explain.network) as read:
            found = explain(video[part], target[part], against=None if against is None else against[part])
        score = float(found.score) or float("nan")
        assert found.account is not None
        scores.append(found.score)
        accounts.append(found.account)
        totals.append(found.conservation)
        for key, meter in read.items():
            seen.setdefault(key, []).append((meter.arriving / score, meter.leaving / score, meter.largest / abs(score)))
    return (
        torch.cat(scores),
        join_accounts(accounts),
        torch.cat(totals),
        {key: _flow(shares) for key, shares in seen.items()},
    )


def _flow(shares: Any) -> Flow:
    arriving, leaving, largest = torch.tensor(shares, dtype=torch.float64).T
    loss = arriving - leaving
    worst = loss[loss.abs().nan_to_num(nan=torch.inf).argmax()]
    return Flow(float(arriving.mean()), float(leaving.mean()), float(worst), float(largest.max()))


def _row(flow: Flow) -> str:
    return f"{flow.arriving:.4f} | {flow.leaving:.4f} | {flow.worst_loss:.1e} | {flow.largest:.3g}"


def _spread(ratio: Float[Tensor, " B"]) -> str:
    worst = ratio[(ratio - 1).abs().nan_to_num(nan=torch.inf).argmax()]
    return f"{float(ratio.mean()):.4f} (worst {float(worst):.4f})"
