"""Attention rollout, alone and weighted by gradients: explain a transformer by its attention weights.

The network has to be one stream of tokens, each of which attends to all of them in every layer. A last layer of one
query that pools the tokens is understood, too.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.base import Explainer, part_of
from vidact.attribution.methods.attention_weights import Watch
from vidact.attribution.methods.tokens import Tokens, find_tokens, require_all_to_all
from vidact.attribution.targets import Goal


class _ByAttention(Explainer):
    """Base of methods that value each token, and show it as Grad-CAM shows positions."""

    def __init__(self, network: nn.Module, **settings: Any) -> None:
        super().__init__(network, **settings)
        self._tokens: tuple[torch.Size, Tokens] | None = None

    def __exit__(self, *error: Any) -> None:
        self._tokens = None  # the network may have changed, or moved, before the next copy
        super().__exit__(*error)

    def _prepare(self, video: Float[Tensor, "1 C T H W"]) -> None:
        if self._tokens is None or self._tokens[0] != video.shape:
            self._tokens = video.shape, find_tokens(self._copy, video, method=self.method)

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        assert self._tokens is not None  # base prepares
        _, tokens = self._tokens
        found, scores = [], []
        for row, clip in enumerate(video):  # one at a time: all that stands before queries and keys is heads then
            values, logits = self._value(clip[None], tokens, part_of(goal, slice(row, row + 1), video.device))
            found.append(values[tokens.number].to(video)[None, None])
            scores.append(logits.detach())
        maps = F.interpolate(torch.cat(found), size=tuple(video.shape[2:]), mode="trilinear", align_corners=False)
        return (maps / video.shape[1]).expand_as(video), torch.cat(scores)

    @abstractmethod
    def _value(
        self, clip: Float[Tensor, "1 C T H W"], tokens: Tokens, goal: Goal
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "1 K"]]:
        """Value the tokens of one clip; gives its logits, too."""


class AttentionRollout(_ByAttention):
    """Multiplies the attention of all layers (Abnar & Zuidema 2020): the same for every target.

    Each layer's weights are averaged over heads, and half is for the residual connection: R = Π_l (A_l + I) / 2. Shown
    is the row of the class token, or the mean over the tokens that the network averages, brought to the video's size by
    trilinear interpolation and spread evenly over the colours.

    Args:
        network: A transformer, in whose every layer all tokens of a clip attend to all.
        settings: As in `Explainer`.
    """

    method = "attention_rollout"

    def _value(
        self, clip: Float[Tensor, "1 C T H W"], tokens: Tokens, goal: Goal
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "1 K"]]:
        watch = Watch(self._copy, keep=lambda weights: _heads(weights).mean(dim=0))
        with torch.no_grad():
            scores = watch.run(clip)
            goal.check(scores.shape[1])
        require_all_to_all(watch.found, tokens.count, method=self.method)
        row = tokens.rows
        for layer in reversed(watch.found):
            passed = row @ layer.weights.to(row)
            row = (row + passed) / 2 if layer.shape[0] == tokens.count else passed
        return row, scores


class GradientTimesAttention(_ByAttention):
    """Multiplies attention weighted by its gradients (Chefer et al. 2021, the generic method: section 3 there).

    Ā = mean over heads of max(0, ∂f/∂A ⊙ A) (eq. 5), R ← R + Ā R from R = I on (eq. 6). Shown is the row of the class
    token, or the mean over the tokens that the network averages, less that of I; enlarged as in `AttentionRollout`.
    A last layer of one query that pools the tokens takes Ā R̄ (eq. 8 to 10).

    Args:
        network: As in `AttentionRollout`.
        settings: As in `Explainer`.
    """

    method = "gradient_x_attention"

    def _value(
        self, clip: Float[Tensor, "1 C T H W"], tokens: Tokens, goal: Goal
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "1 K"]]:
        watch = Watch(self._copy)
        scores = watch.run(clip.detach().requires_grad_().clone())
        require_all_to_all(watch.found, tokens.count, method=self.method)
        weights = [layer.weights for layer in watch.found]
        gradients = torch.autograd.grad(scores, weights, goal.weights(scores.detach()))
        layers = [
            _heads(one.detach() * gradient).clamp(min=0).mean(dim=0).to(tokens.rows)
            for one, gradient in zip(weights, gradients, strict=True)
        ]
        if len(layers[-1]) == tokens.count:
            return _passed_on(tokens.rows, reversed(layers)), scores
        *layers, pool = layers
        row = tokens.rows @ pool
        total = _passed_on(torch.ones_like(row), [layer.T for layer in layers])  # Σ_k (R − I)_ik
        return row + _passed_on(torch.where(total > 0, row / total, 0), reversed(layers)), scores


def _heads(weights: Tensor) -> Float[Tensor, "heads Q N"]:
    return weights.reshape(-1, *weights.shape[-2:])


def _passed_on(row: Float[Tensor, " N"], layers: Iterable[Float[Tensor, "N N"]]) -> Float[Tensor, " N"]:
    """Compute row · (Π (I + Ā) − I), last layer first; small numbers are not lost beside the 1 of I."""
    found = torch.zeros_like(row)
    for layer in layers:
        found = found + (row + found) @ layer
    return found
