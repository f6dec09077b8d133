"""Find a transformer's tokens in the clip, and refuse networks that are not one stream of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidact.attribution.methods.attention_weights import Attending, Watch, uneven
from vidact.core.errors import ExplanationError

TRY = "try lrp:cp_lrp or grad_cam"
WHOLE = 0.05  # how far a token's number, found by gradients, may be from a whole one


@dataclass(frozen=True)
class Tokens:
    """How a network's tokens lie in the clip.

    Attributes:
        number: The token at each position, in time and space.
        count: N, with class tokens and others that no pixel makes.
        rows: Shares of the last layer's queries that the scores use: the class token, all that are averaged, or the one
            that pools the tokens.
    """

    number: Int[Tensor, "t h w"]
    count: int
    rows: Float[Tensor, " Q"]


def find_tokens(network: nn.Module, video: Float[Tensor, "1 C T H W"], *, method: str) -> Tokens:
    """Find the tokens of a transformer, whatever their order, among class tokens and others that no pixel makes.

    Args:
        network: In eval mode.
        video: A clip.
        method: For messages.

    Raises:
        ExplanationError: it has no attention, some layer's attention is not of all tokens to all tokens, or no gradient
            goes through it.
    """
    leaf, watch = video.detach().requires_grad_(), Watch(network)
    scores = watch.run(leaf.clone())
    if not watch.found:
        raise ExplanationError(
            f"{method} needs a transformer, and no attention was found in {type(network).__name__}; try lrp or grad_cam"
        )
    first, last = watch.found[0], watch.found[-1]
    if not scores.requires_grad or not all(one.weights.requires_grad for one in watch.found):
        raise ExplanationError(
            f"{first.module}: no gradient goes from the scores through its attention to the clip; let gradients "
            "through: no no_grad, no detach"
        )
    found = None if first.mark is None else _number_tokens(first.mark, watch.pictures, leaf)
    if found is None or first.mark is None:
        grid = " x ".join(map(str, _grid(watch.pictures[0]))) if watch.pictures else "no"
        raise _refusal(method, first, f"a first convolution of {grid} positions")
    require_all_to_all(watch.found, first.shape[1], method=method)
    rows = _rows_used(scores, last.weights)
    return Tokens(found, len(first.mark), rows / rows.sum())


def require_all_to_all(found: list[Attending], num_tokens: int, *, method: str) -> None:
    """Refuse layers whose attention is not of all tokens to all; the last may be of one query that pools them."""
    for one in found:
        if one.shape != (num_tokens, num_tokens) and not (one is found[-1] and one.shape == (1, num_tokens)):
            raise _refusal(method, one, f"a first attention of {num_tokens} tokens")


def _refusal(method: str, one: Attending, behind: str) -> ExplanationError:
    return ExplanationError(
        f"{one.module}: {method} needs tokens that are the positions of one convolution's output, and attention of all "
        f"of them to all in every layer; got {one.shape[0]} queries and {one.shape[1]} keys behind {behind}; {TRY}"
    )


def _grid(picture: Tensor) -> tuple[int, int, int]:
    """Say how many positions a convolution's output [n, K, (T',) H', W'] has; time may be folded into the batch."""
    *in_time, height, width = picture.shape[2:]
    return picture.shape[0] * (in_time[0] if in_time else 1), height, width


def _number_tokens(
    mark: Float[Tensor, " N"], pictures: list[Tensor], leaf: Float[Tensor, "1 C T H W"]
) -> Int[Tensor, "t h w"] | None:
    """Find which token each position has become; None where tokens are not the positions of one convolution's output.

    A token i depends on its own position alone, so that there ∂(Σ_i i·mark_i) = i · ∂(Σ_i mark_i).
    """
    counted = torch.arange(1, len(mark) + 1).to(mark)
    for picture in reversed(pictures):
        plain, weighted = (
            torch.autograd.grad(mark, picture, start, retain_graph=True, allow_unused=True)[0]
            for start in (torch.ones_like(mark), counted)
        )
        if plain is None:
            continue
        plain, weighted = (gradient.double().movedim(1, -1).flatten(0, -2) for gradient in (plain, weighted))
        found = (plain * weighted).sum(dim=1) / plain.square().sum(dim=1) - 1
        number = found.nan_to_num(-1).round().long()
        others = torch.ones_like(mark, dtype=torch.bool)
        if not ((found - number).abs() <= WHOLE).all() or number.amin() < 0 or number.amax() >= len(mark):
            continue
        others[number] = False
        if len(set(number.tolist())) == len(number) and not _comes_from(leaf, mark, others):
            return number.view(_grid(picture))
    return None


def _comes_from(leaf: Tensor, mark: Float[Tensor, " N"], others: Bool[Tensor, " N"]) -> bool:
    """Say whether any of the other tokens is made of pixels."""
    (gradient,) = torch.autograd.grad(mark, leaf, others.to(mark), retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient.any())


def _rows_used(scores: Float[Tensor, "1 K"], weights: Tensor) -> Float[Tensor, " Q"]:
    """Mark the queries whose attention reaches the scores."""
    (gradient,) = torch.autograd.grad(scores, weights, uneven(scores)[None], allow_unused=True)
    used = None if gradient is None else gradient.reshape(-1, *gradient.shape[-2:]).abs().amax(dim=(0, 2)) > 0
    if used is None or not used.any():
        raise ExplanationError(f"the scores do not depend on the network's last attention; {TRY}")
    return used.to(scores)
