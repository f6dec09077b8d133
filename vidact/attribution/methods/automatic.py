"""Layer-wise relevance by the composite that suits a network: rules on its modules, or else gradient form."""

import contextlib
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidact.attribution.base import Explainer
from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.attribution.lrp.checks import find_obstacles
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.names import CP_LRP, DEFAULT_COMPOSITE, LRP
from vidact.attribution.targets import Against, Goal
from vidact.core.explanation import Explanation

# What was chosen for a network; looking for obstacles takes longer than an explanation.
_CHOSEN: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def choose_composite(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> str:
    """Choose `epsilon_plus` where rules on modules can follow a network, else `cp_lrp`, which follows any code.

    Args:
        network: From [B, C, T, H, W] in [0, 1] to logits [B, K]; stays as it is.
        video: One clip is enough; noise will do.

    Raises:
        ExplanationError: the network does not give logits [B, K], holds TorchScript, or cannot be copied or run.
    """
    hides = any(obstacle.hides_relevance for obstacle in find_obstacles(network, video[:1]))
    _CHOSEN[network] = CP_LRP if hides else DEFAULT_COMPOSITE
    return _CHOSEN[network]


class AutomaticRelevance(Explainer):
    """Layer-wise relevance by the composite that `choose_composite` finds; `method` says which, once it is prepared.

    Args:
        network: As in `Explainer`.
        check_network: Whether to make sure, before the first explanation, that relevance can follow the network; if
            not, what was chosen for this network before is kept.
        refine: As in `LayerwiseRelevance`.
        settings: As in `Explainer`.
    """

    method = LRP

    def __init__(self, network: nn.Module, *, check_network: bool = True, refine: bool = True, **settings: Any) -> None:
        super().__init__(network, **settings)
        self._check_network = check_network
        self._settings = {**settings, "refine": refine}
        self._followed: Explainer | None = None

    def __enter__(self) -> "AutomaticRelevance":
        self._stack, self._followed = contextlib.ExitStack(), None
        return self

    def __exit__(self, *error: Any) -> None:
        self._followed = None
        self._stack.close()

    @property
    def network(self) -> nn.Module:
        """The copy that is explained; it exists once the explainer is prepared, while the context is open."""
        return self._chosen.network

    @property
    def _chosen(self) -> Explainer:
        assert self._followed is not None, "prepare comes first"
        return self._followed

    def _make_ready(self, video: Float[Tensor, "1 C T H W"]) -> bool:
        if self._followed is None:
            self._followed = self._stack.enter_context(self._choose(video))
            self.method = self._followed.method
        self._followed.prepare(video)
        return True

    def _choose(self, video: Float[Tensor, "1 C T H W"]) -> Explainer:
        known = None if self._check_network else _CHOSEN.get(self._network)
        if (known or choose_composite(self._network, video)) == CP_LRP:
            return GradientForm(self._network, check_network=self._check_network, **self._settings)
        return LayerwiseRelevance(self._network, check_network=False, **self._settings)

    def scores(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class of each clip, as the explained copy does."""
        self.prepare(_example(video))
        return self._chosen.scores(video)

    def __call__(
        self, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"], *, against: Against = None
    ) -> Explanation:
        """Explain as the chosen explainer does."""
        self.prepare(_example(video))
        return self._chosen(video, target, against=against)

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        raise AssertionError("the chosen explainer explains")


def _example(video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "1 C T H W"]:
    """Give the first clip, or a black one of the same shape where there is none."""
    return video[:1] if len(video) else torch.zeros(1, *video.shape[1:], dtype=video.dtype, device=video.device)
