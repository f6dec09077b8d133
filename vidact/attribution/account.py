"""Join accounts (how a score is divided among voxels, biases and stabiliser), and put them into words.

The command line, the callbacks and the report all use this wording.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidact.attribution.names import ATTNLRP, CP_LRP, LRP
from vidact.core.errors import NetworkError
from vidact.core.explanation import Account, Explanation

VOXELS = "voxels"
TOLERANCE = 0.05  # of the share of a score that is on voxels
# Of the clip's largest |logit|. Shares of a score near zero mean little, and what is near depends on the network: 0.01
# is a large logit beside others of 0.001, and rounding alone moves a 1 beside others of 1000.
NEGLIGIBLE_SCORE = 0.01
SHOWN = 0.001  # a share below this is not named
MAX_NAMED = 3
# Of the largest part of an account: rounding in float32 stays below, and a missing rule above.
LARGEST_GAP = 1e-3
ROUNDING = 1e-4  # of the largest number in an account; beyond it, clips are explained again in float64

_IN_GRADIENT_FORM = (f"{LRP}:{CP_LRP}", f"{LRP}:{ATTNLRP}")

Parts = Mapping[str, float]
UNEXPLAINED = "nothing (unexplained)"


def parts_of(account: Account, row: int) -> dict[str, float]:
    """List the parts of one clip's score by name; they add up to the score."""
    return {name: float(taken[row]) for name, taken in account.parts.items()}


def mean_parts(account: Account) -> dict[str, float]:
    """Average each part over clips; the means add up to the mean score."""
    return {name: float(taken.double().mean()) for name, taken in account.parts.items()}


def in_words(parts: Parts, score: float) -> str:
    """Say where a score went: `95.2 % on voxels, 4.8 % on the bias of stem.0`.

    Args:
        parts: As `parts_of` gives them.
        score: What they should add up to; a gap is mentioned.
    """
    if not score:
        return "the score is 0: there are no shares of it"
    shares = {name: value / score for name, value in parts.items()}
    voxels, unknown = shares.pop(VOXELS), 1 - sum(parts.values()) / score
    named = sorted((name for name in shares if abs(shares[name]) >= SHOWN), key=lambda name: -abs(shares[name]))
    told = [f"{_percent(voxels)} on voxels", *(f"{_percent(shares[name])} on {name}" for name in named[:MAX_NAMED])]
    if rest := named[MAX_NAMED:]:
        told.append(f"{_percent(sum(shares[name] for name in rest))} on {len(rest)} others")
    if not abs(unknown) < SHOWN:
        told.append(f"{_percent(unknown)} lost where no rule applies")
    return ", ".join(told)


def warning_of(parts: Parts, score: float, *, method: str, largest_logit: float) -> str | None:
    """Warn where the voxels' share of the score is not near 1; None if it is.

    In gradient form, constants and softmax have shares of their own: only what is lost calls for a warning.

    Args:
        parts: As `parts_of` gives them.
        score: What they add up to.
        method: Name of the method, with its composite.
        largest_logit: max |logit| of the clip; of a score that is tiny beside it, shares mean little.
    """
    if abs(score) <= NEGLIGIBLE_SCORE * largest_logit:
        return None
    explained = sum(parts.values()) if method.startswith(_IN_GRADIENT_FORM) else parts[VOXELS]
    if abs(explained / score - 1) <= TOLERANCE:
        return None
    return f"the voxels do not add up to the whole score, {in_words(parts, score)}: {_meaning(parts, score)}"


def is_negligible(score: Float[Tensor, " B"], largest_logit: Float[Tensor, " B"]) -> Tensor:
    """Say which scores are so small beside their clip's largest |logit| that shares of them mean little.

    Args:
        score: What is explained.
        largest_logit: max |logit| of each clip.
    """
    return score.abs() <= NEGLIGIBLE_SCORE * largest_logit.abs()


def _meaning(parts: Parts, score: float) -> str:
    others = {name: abs(value) for name, value in parts.items() if name != VOXELS}
    others["lost"] = abs(score - sum(parts.values()))
    largest = max(others, key=lambda name: others[name])
    if largest == "lost":
        return (
            "relevance is lost (or created) between layers, where no rule applies: a module that is no layer of "
            "torch.nn or vidact, or a sum, product or mean that is no module; do not trust it"
        )
    if largest.startswith("the bias of"):
        return "where no input of a layer contributes to its output, as where nothing moves, its bias makes it"
    if largest == "the stabiliser":
        return "a smaller epsilon gives more to voxels"
    return "another rule there may give it to voxels"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace("-0.0 %", "0.0 %").replace("-", "−")


def join_accounts(accounts: Sequence[Account]) -> Account:
    """Concatenate the accounts of several batches; a part that one of them lacks is zero there."""

    def join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        names = dict.fromkeys(name for part in parts for name in part)
        none = [torch.zeros_like(one.voxels) for one in accounts]
        return {
            name: torch.cat([part.get(name, zeros) for part, zeros in zip(parts, none, strict=True)]) for name in names
        }

    return Account(
        torch.cat([one.voxels for one in accounts]),
        join([one.biases for one in accounts]),
        torch.cat([one.stabiliser for one in accounts]),
        join([one.others for one in accounts]),
    )


def with_rows(account: Account, rows: Int[Tensor, " N"], other: Account) -> Account:
    """Replace the account of some clips by another."""

    def put(own: Tensor, new: Tensor | None) -> Tensor:
        own = own.clone()
        own[rows] = torch.zeros_like(own[rows]) if new is None else new.to(own)
        return own

    def put_all(own: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: put(own.get(name, torch.zeros_like(account.voxels)), new.get(name)) for name in {**own, **new}}

    return Account(
        put(account.voxels, other.voxels),
        put_all(account.biases, other.biases),
        put(account.stabiliser, other.stabiliser),
        put_all(account.others, other.others),
    )


def account_of_sum(relevance: Float[Tensor, "B C T H W"], score: Float[Tensor, " B"]) -> Account:
    """Build the account of a method without rules: what is not on voxels is unexplained."""
    voxels = relevance.double().sum(dim=(1, 2, 3, 4))
    return Account(voxels, {}, torch.zeros_like(voxels), {UNEXPLAINED: score.double() - voxels})


def refined(
    found: Explanation,
    video: Float[Tensor, "B C T H W"],
    target: Int[Tensor, " B"],
    *,
    in_float64: Callable[[], AbstractContextManager[Callable[..., Explanation]]],
) -> Explanation:
    """Replace the relevance and the account of clips whose account does not close, beyond ROUNDING.

    It happens where a rule divides by sums near zero and relevance grows large.

    Args:
        found: An explanation with an account.
        video: Its clips.
        target: Their targets.
        in_float64: Builds an explainer with the same settings in float64.
    """
    if found.account is None:  # of an empty batch
        return found
    rows = torch.nonzero(~(found.account.gap(found.score) <= ROUNDING)).flatten()
    if not len(rows) or video.device.type == "mps":  # which has no float64
        return found
    own = None if found.against is None else found.against[rows]
    try:
        with in_float64() as explain:
            again = explain(video[rows], target[rows], against=own)
    except NetworkError:  # it runs in float32 alone
        return found
    assert again.account is not None
    found.relevance[rows] = again.relevance.to(found.relevance)
    found.score[rows] = again.score.to(found.score)
    return replace(found, account=with_rows(found.account, rows, again.account))
