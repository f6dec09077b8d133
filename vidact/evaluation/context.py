"""What measures work with: the explainers of a network, the clips, and where results are put."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidact.attribution.base import Explainer
from vidact.attribution.methods.automatic import choose_composite
from vidact.attribution.methods.random_weights import randomised
from vidact.attribution.names import AUTO, DEFAULT_COMPOSITE, LRP
from vidact.attribution.registry import build_explainer
from vidact.core.errors import ConfigError, ExplanationError
from vidact.evaluation.names import CONTROLS, RANDOM, RANDOMISATION
from vidact.evaluation.settings import SUITED, EvaluateSettings
from vidact.runs.clips.chosen import seeded_generator


@dataclass(frozen=True)
class Subjects:
    """The clips that are measured, with their labels and masks, on the network's device.

    Attributes:
        video: In [0, 1].
        label: The true classes.
        target: What is explained.
        clip_ids: Their names.
        masks: By kind; all False for a clip that has none.
        partners: Clips of other classes for each, where composition is measured.
    """

    video: Float[Tensor, "B C T H W"]
    label: Int[Tensor, " B"]
    target: Int[Tensor, " B"]
    clip_ids: tuple[str, ...]
    masks: Mapping[str, Bool[Tensor, "B T H W"]] = field(default_factory=dict)
    partners: Float[Tensor, "B P C T H W"] | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)


@dataclass
class Measurements:
    """What was measured: a value and a curve for each clip, by method and key.

    Attributes:
        values: NaN where undefined.
        curves: The target's logit at each point.
        removed: The share of units that is replaced at each point, by the units' name.
    """

    values: dict[str, dict[str, Float[Tensor, " B"]]] = field(default_factory=dict)
    curves: dict[str, dict[str, Float[Tensor, "B P"]]] = field(default_factory=dict)
    removed: dict[str, list[float]] = field(default_factory=dict)

    def put(
        self, method: str, key: str, values: Float[Tensor, " B"], *, undefined: Bool[Tensor, " B"] | None = None
    ) -> None:
        """Store a value for each clip; NaN where it is undefined."""
        kept = values.detach().double().cpu().clone()
        self.values.setdefault(method, {})[key] = kept
        if undefined is not None:
            kept[undefined.cpu()] = math.nan

    def discard(self, method: str, rows: Bool[Tensor, " B"]) -> None:
        """Set all values and curves of some clips by a method to NaN."""
        for values in self.values.get(method, {}).values():
            values[rows] = math.nan
        for curve in self.curves.get(method, {}).values():
            curve[rows] = math.nan

    def values_of(self, row: int) -> dict[str, dict[str, float | None]]:
        """List one clip's values as plain numbers."""
        return {
            method: {key: _plain(float(values[row])) for key, values in own.items()}
            for method, own in self.values.items()
        }

    def curves_of(self, row: int) -> dict[str, dict[str, list[float]]]:
        """List one clip's curves as plain numbers, without those that are not finite."""
        return {
            method: {key: curve[row].tolist() for key, curve in own.items() if bool(curve[row].isfinite().all())}
            for method, own in self.curves.items()
        }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class EvaluationContext:
    """The network, its explainers, and what is measured.

    Attributes:
        network: From [B, C, T, H, W] to logits, on its device.
        explainers: By method, open.
        random_explainers: Of the network with random weights, where randomisation is measured.
        settings: What is measured, and how.
        families: As `settings.families` names them.
    """

    network: nn.Module
    explainers: Mapping[str, Explainer]
    random_explainers: Mapping[str, Explainer]
    settings: EvaluateSettings
    families: tuple[str, ...]

    def scores(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class, a few clips at a time."""
        with torch.no_grad():
            parts = torch.split(video, self.settings.batch_size)
            return torch.cat([self.network(part.clone()) for part in parts])  # a network may work in place

    def explain(
        self, method: str, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"], *, is_random: bool = False
    ) -> tuple[Float[Tensor, "B C T H W"], Bool[Tensor, " B"]]:
        """Explain; gives relevance, and which maps were not finite and are set to 0."""
        explainer = (self.random_explainers if is_random else self.explainers)[method]
        relevance = explainer(video, target).relevance
        broken = ~relevance.isfinite().flatten(1).all(dim=1)
        return relevance.masked_fill(broken[:, None, None, None, None], 0), broken

    def map(
        self, method: str, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"], *, is_random: bool = False
    ) -> tuple[Float[Tensor, "B T H W"], Bool[Tensor, " B"]]:
        """Explain, and sum over colour; gives maps, and which of them were not finite and are set to 0."""
        relevance, broken = self.explain(method, video, target, is_random=is_random)
        return relevance.sum(dim=1), broken

    def generator(self, *words: str) -> torch.Generator:
        """Seed a random generator from the seed and words."""
        return seeded_generator(self.settings.seed, *words)


@contextlib.contextmanager
def open_context(
    network: nn.Module, settings: EvaluateSettings, families: Sequence[str]
) -> Iterator[EvaluationContext]:
    """Open all explainers of a network; each holds a copy of it until the context ends.

    Args:
        network: In eval mode, on its device.
        settings: What is measured.
        families: Of measures.
    """
    names = (*settings.methods, *CONTROLS)
    with contextlib.ExitStack() as stack:
        explainers = {name: stack.enter_context(_build(name, network, settings)) for name in names}
        others: dict[str, Explainer] = {}
        if RANDOMISATION in families:
            other = randomised(network, generator=torch.Generator().manual_seed(settings.seed))
            others = {name: stack.enter_context(_build(name, other, settings)) for name in names}
        yield EvaluationContext(network, explainers, others, settings, tuple(families))


def _build(name: str, network: nn.Module, settings: EvaluateSettings) -> Explainer:
    own = {"seed": settings.seed} if name == RANDOM else {}
    return build_explainer(name, network, batch_size=settings.batch_size, **own)


def _suited(network: nn.Module, example: Float[Tensor, "1 C T H W"]) -> tuple[str, ...]:
    try:
        return SUITED[choose_composite(network, example)]
    except ExplanationError:  # they are then skipped one by one, with the reason
        return SUITED[DEFAULT_COMPOSITE]


def possible_methods(
    network: nn.Module, settings: EvaluateSettings, *, example: Float[Tensor, "1 C T H W"]
) -> tuple[EvaluateSettings, list[str]]:
    """Put the methods that suit a network in the place of `auto`, and drop those that do not work with it.

    Args:
        network: In eval mode.
        settings: As asked for.
        example: A clip of the network's shape.

    Returns:
        The settings without these methods, and a line for each of them.

    Raises:
        ConfigError: none is left.
    """
    suited = _suited(network, example) if AUTO in settings.methods else ()
    methods = [own for method in settings.methods for own in (suited if method == AUTO else (method,))]
    kept, lines = [], []
    for method in dict.fromkeys(methods):
        try:
            with build_explainer(method, network) as explain:
                explain.prepare(example)
            kept.append(method)
        except (ConfigError, ExplanationError) as error:
            if method in settings.methods or method.startswith(LRP):  # else nobody has asked for it by name
                lines.append(f"{method} is skipped: {error}")
    if not kept:
        raise ConfigError(f"no method is left to evaluate: {'; '.join(lines)}")
    return replace(settings, methods=tuple(kept)), lines
