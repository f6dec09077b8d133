"""Which relevance rule goes to which layer, by name; it does not know what is explained.

Bach et al., On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
propagation, 2015: ε (eq. 58) and αβ (eq. 60). Montavon et al., Explaining nonlinear classification decisions
with deep Taylor decomposition, 2017: z⁺.

Biases take no part in any rule (`zero_params`), so that the relevance of the pixels adds up to the score.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import LayerMapComposite
from zennit.core import Composite
from zennit.rules import AlphaBeta, Epsilon, Norm, Pass, ZPlus
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

from vidact.core import ConfigError
from vidact.models.layers import Normalisation

_NO_BIAS = {"zero_params": ["bias"]}
DEFAULT = "epsilon_plus"


def build_composite(name: str) -> Composite:
    """Build a composite by its name.

    Raises:
        ConfigError: no composite has this name.
    """
    if name not in COMPOSITES:
        raise ConfigError(f"composite {name!r} is unknown; there are {', '.join(COMPOSITES)}")
    return COMPOSITES[name]()


def _composite(convolution: Callable[..., Any], dense: Callable[..., Any]) -> LayerMapComposite:
    layer_map = [
        (Normalisation, Pass()),  # relevance of a normalised voxel is the voxel's
        (Activation, Pass()),
        (AvgPool, Norm()),
        (BatchNorm, Pass()),
        (Convolution, convolution(**_NO_BIAS)),
        (Linear, dense(**_NO_BIAS)),
        (nn.Identity, Pass()),
    ]
    return LayerMapComposite(layer_map, canonizers=[SequentialMergeBatchNorm()])


def _lrp_0(**kwargs: Any) -> Epsilon:
    return Epsilon(epsilon=1e-12, **kwargs)


def _alpha2_beta1(**kwargs: Any) -> AlphaBeta:
    return AlphaBeta(alpha=2, beta=1, **kwargs)


# A composite with the flat rule in the first layer is missing on purpose: where frames are channels, it gives
# every frame of a clip exactly the same relevance, whatever is in it.
COMPOSITES: dict[str, Callable[[], Composite]] = {
    "epsilon_plus": lambda: _composite(convolution=ZPlus, dense=Epsilon),
    "epsilon_alpha2_beta1": lambda: _composite(convolution=_alpha2_beta1, dense=Epsilon),
    "epsilon": lambda: _composite(convolution=Epsilon, dense=Epsilon),
    "lrp_0": lambda: _composite(convolution=_lrp_0, dense=_lrp_0),
}
