"""What is explained: a class's logit, or one class against another or against all the rest; it knows no method.

`against` is None (the logit f_A), a class per clip (the difference f_A − f_B: why A and not B), or "rest", −1 in
tensors (the log-odds log p_A / (1 − p_A) = f_A − log Σ_{k≠A} exp f_k).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vidact.attribution.names import PREDICTED, TRUE
from vidact.core.errors import ExplanationError, nearest

REST = -1  # as `core.Explanation.against` has it
VERSUS, REST_WORD = "-vs-", "rest"

Against = Int[Tensor, " B"] | str | None


@dataclass(frozen=True)
class Goal:
    """What is explained of some clips.

    Attributes:
        target: A, the class that is spoken for.
        against: B, the class that is spoken against: −1 for the rest, None for nobody.
    """

    target: Int[Tensor, " B"]
    against: Int[Tensor, " B"] | None = None

    def check(self, num_classes: int) -> None:
        """Make sure that these are classes of the network.

        Raises:
            ExplanationError: a number that is no class, a class against itself, or a rest of no class.
        """
        _check_range("targets", self.target, 0, num_classes)
        if self.against is None:
            return
        _check_range("classes to explain against", self.against, REST, num_classes)
        if (self.against == self.target).any():
            raise ExplanationError(f"a class cannot be explained against itself, got {self.target.tolist()} twice")
        if num_classes < 2:
            raise ExplanationError("there is no rest to explain against: the network has one class")

    def weights(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Weigh the logits as `class_weights` does.

        Raises:
            ExplanationError: as `check`.
        """
        self.check(scores.shape[1])
        return class_weights(scores, self.target, self.against)

    def value(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
        """Compute what is explained as `contrast` does.

        Raises:
            ExplanationError: as `check`.
        """
        self.check(scores.shape[1])
        return contrast(scores, self.target, self.against)


def set_goal(target: Int[Tensor, " B"], against: Against) -> Goal:
    """Write `against` as class numbers.

    Raises:
        ExplanationError: a word that is not "rest", or numbers that are not whole.
    """
    target = _whole("targets", target)
    if not isinstance(against, str):
        other = None if against is None else _whole("classes to explain against", against)
        return Goal(target, None if other is None else other.to(target.device))
    if against != REST_WORD:
        raise ExplanationError(f"against takes class numbers, {REST_WORD!r} or None, got {against!r}")
    return Goal(target, torch.full_like(target, REST))


def _whole(what: str, numbers: Tensor) -> Int[Tensor, " B"]:
    """Make class numbers of any integer type what torch looks up with."""
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ExplanationError(f"{what} are class numbers, got a tensor of {numbers.dtype}")
    return numbers.long()


def _check_range(what: str, numbers: Int[Tensor, " B"], least: int, num_classes: int) -> None:
    if ((numbers < least) | (numbers >= num_classes)).any():
        raise ExplanationError(f"{what} are class numbers from 0 to {num_classes - 1}, got {numbers.tolist()}")


def class_weights(
    scores: Float[Tensor, "B K"], target: Int[Tensor, " B"], against: Int[Tensor, " B"] | None
) -> Float[Tensor, "B K"]:
    """Weigh the logits, so that Σ_k w_k f_k is what is explained: the gradient of `contrast` by the logits.

    w_A = 1; against a class, w_B = −1; against the rest, w_k = −exp f_k / Σ_{j≠A} exp f_j for k ≠ A. There Σ_k w_k f_k
    is f_A less the mean logit of the rest under their own softmax; it exceeds the log-odds by that softmax's entropy
    H(w) (log Σ_{k≠A} exp f_k = Σ_{k≠A} |w_k| f_k + H(w)), which is no sum over logits and cannot be handed down.

    Args:
        scores: Logits.
        target: A.
        against: B, −1 for the rest, None for nobody.
    """
    num_classes = scores.shape[1]
    weights = F.one_hot(target, num_classes).to(scores)
    if against is None:
        return weights
    rest = scores.detach().masked_fill(weights.bool(), -torch.inf).softmax(dim=1)
    one = F.one_hot(against.clamp(min=0), num_classes).to(scores)
    return weights - torch.where((against == REST)[:, None], rest, one)


def contrast(
    scores: Float[Tensor, "B K"], target: Int[Tensor, " B"], against: Int[Tensor, " B"] | None
) -> Float[Tensor, " B"]:
    """Compute what is explained as a function of the logits: f_A, f_A − f_B, or the log-odds of A.

    Args:
        scores: Logits.
        target: A.
        against: B, −1 for the rest, None for nobody.
    """
    own = scores.gather(1, target[:, None]).squeeze(1)
    if against is None:
        return own
    other = scores.gather(1, against.clamp(min=0)[:, None]).squeeze(1)
    is_target = F.one_hot(target, scores.shape[1]).bool()
    rest = scores.masked_fill(is_target, -torch.inf).logsumexp(dim=1)
    return own - torch.where(against == REST, rest, other)


def select_target(
    spec: str, scores: Float[Tensor, "B K"], *, label: Int[Tensor, " B"] | None, class_names: Sequence[str]
) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"] | None]:
    """Read which class of each clip is to be explained, and against which.

    Args:
        spec: `predicted`, `true`, a class name; or two of them, `A-vs-B`, where B may also be `rest`.
        scores: Logits.
        label: The true classes, where they are known.
        class_names: The classes in the order of their numbers; the three words come first.

    Returns:
        The target, and the class against it: −1 for the rest, None for nobody.

    Raises:
        ExplanationError: a class that is unknown, the true class where none is known, or a class against itself.
    """
    first, *others = _divide(spec, class_names)
    target = _read(first, scores, label, class_names)
    if not others:
        return target, None
    against = torch.full_like(target, REST) if others[0] == REST_WORD else _read(others[0], scores, label, class_names)
    Goal(target, against).check(scores.shape[1])
    return target, against


def _divide(spec: str, class_names: Sequence[str]) -> list[str]:
    """Divide A-vs-B; a class's own name may hold `-vs-`."""
    known = {PREDICTED, TRUE, REST_WORD, *class_names}
    words = spec.split(VERSUS)
    if spec in known or len(words) == 1:
        return [spec]
    halves = [[VERSUS.join(words[:cut]), VERSUS.join(words[cut:])] for cut in range(1, len(words))]
    return next((pair for pair in halves if set(pair) <= known), halves[0])


def _read(
    name: str, scores: Float[Tensor, "B K"], label: Int[Tensor, " B"] | None, class_names: Sequence[str]
) -> Int[Tensor, " B"]:
    if name == PREDICTED:
        return scores.argmax(dim=1)
    if name == TRUE:
        if label is None:
            raise ExplanationError(f"target 'true': the true class is not known here; try {PREDICTED!r} or a class")
        return label.to(scores.device)
    if name not in class_names:
        near = nearest(name, [*class_names, PREDICTED, TRUE])
        raise ExplanationError(
            f"target {name!r} is no class; nearest: {', '.join(near or class_names)} "
            f"(or {PREDICTED}, {TRUE}, A-vs-B, A-vs-{REST_WORD})"
        )
    return torch.full((len(scores),), list(class_names).index(name), device=scores.device)
