"""Open the explainers that are evaluated, and find out beforehand which of them a network cannot have."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.attribution.base import Explainer
from vidact.attribution.explainers import build_explainer
from vidact.core import ConfigError, ExplanationError
from vidact.evaluating import EvaluateSettings
from vidact.evaluation.randomisation import randomised
from vidact.evaluation_measures import Bench
from vidact.evaluation_tables import CONTROLS, RANDOM, RANDOMISATION


@contextlib.contextmanager
def open_bench(network: nn.Module, settings: EvaluateSettings, families: Sequence[str]) -> Iterator[Bench]:
    """Open all explainers of a network; each has a copy of it, while the context lasts.

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
        yield Bench(network, explainers, others, settings, tuple(families))


def _build(name: str, network: nn.Module, settings: EvaluateSettings) -> Explainer:
    own = {"seed": settings.seed} if name == RANDOM else {}
    return build_explainer(name, network, batch_size=settings.batch_size, **own)


def possible_methods(
    network: nn.Module, settings: EvaluateSettings, *, example: Float[Tensor, "1 C T H W"]
) -> tuple[EvaluateSettings, list[str]]:
    """Leave out the methods that a network cannot have.

    Args:
        network: In eval mode.
        settings: As asked for.
        example: A clip of the network's shape.

    Returns:
        The settings without these methods, and a line for each.

    Raises:
        ConfigError: none is left.
    """
    kept, lines = [], []
    for method in settings.methods:
        try:
            with build_explainer(method, network) as explain:
                explain.prepare(example)
            kept.append(method)
        except (ConfigError, ExplanationError) as error:
            lines.append(f"{method} is left out: {error}")
    if not kept:
        raise ConfigError(f"no method is left to evaluate: {'; '.join(lines)}")
    return replace(settings, methods=tuple(kept)), lines
