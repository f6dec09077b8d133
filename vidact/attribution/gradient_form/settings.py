"""Which rule a layer with weights has in gradient form, by a composite's lines."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

from vidact.attribution.gradient_form import weights
from vidact.attribution.lrp.recipes import Recipe
from vidact.attribution.names import CP_LRP


@dataclass(frozen=True)
class Rules:
    """How relevance is divided in gradient form.

    Attributes:
        recipe: A composite's lines, and what softmax does.
    """

    recipe: Recipe

    @property
    def weights_are_constant(self) -> bool:
        """Whether attention weights are constants, so that all relevance goes to the values (CP-LRP)."""
        return self.recipe.attention == CP_LRP

    def of(self, module: str, kind: str) -> weights.Rule | None:
        """Choose the rule of a layer with weights; None for its own gradient.

        Args:
            module: Name of the module that calls it.
            kind: `linear` or `convolution`.
        """
        for line in self.recipe.lines:
            if line.layer in (None, "weighted", kind) and (line.name is None or fnmatchcase(module, line.name)):
                return _RULES[line.rule](**line.settings)
        return None


_RULES: dict[str, Callable[..., weights.Rule | None]] = {
    "lrp_0": lambda: None,
    "epsilon": weights.epsilon_rule,
    "gamma": weights.gamma_rule,
    "z_plus": partial(weights.alpha_beta_rule, alpha=1.0, beta=0.0),
    "alpha1_beta0": partial(weights.alpha_beta_rule, alpha=1.0, beta=0.0),
    "alpha2_beta1": weights.alpha_beta_rule,
    "alpha_beta": weights.alpha_beta_rule,
}
