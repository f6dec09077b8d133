"""Check, before clips are decoded, that a loss from the config can be trained with."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.modules.loss import _WeightedLoss

from vidact.core.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]


def check_loss(loss: Loss, num_classes: int, *, takes_probabilities: bool) -> None:
    """Check that a loss gives one number for labels and, if clips are mixed, for probabilities.

    Args:
        loss: From logits [B, K] and labels [B] to a number.
        num_classes: K.
        takes_probabilities: Whether it will get probabilities [B, K] in place of labels, as for mixed clips.

    Raises:
        ConfigError: it does not, with the reason.
    """
    name = type(loss).__name__
    weight = loss.weight if isinstance(loss, _WeightedLoss) else None
    if weight is not None and weight.shape != (num_classes,):
        raise ConfigError(
            f"--model.loss.init_args.weight: expected {num_classes} numbers, one for each class in the order of their "
            f"numbers, got {weight.tolist()}"
        )
    if told := _why_no_loss(loss, torch.zeros(num_classes + 1, dtype=torch.long), num_classes=num_classes):
        raise ConfigError(
            f"--model.loss is given logits [B, K] and labels [B] and is to make one number of them; {name} does "
            f"not ({told}); try torch.nn.CrossEntropyLoss"
        )
    if not takes_probabilities:
        return
    if told := _why_no_loss(loss, torch.full((num_classes + 1, num_classes), 1 / num_classes), num_classes=num_classes):
        raise ConfigError(
            f"with --model.mixup_alpha or cutmix_alpha, --model.loss gets probabilities [B, K]; "
            f"{name} does not take them ({told}); set both to 0, or use torch.nn.CrossEntropyLoss"
        )


def _why_no_loss(loss: Loss, target: Tensor, *, num_classes: int) -> str | None:
    """Explain why a loss gives no number with a gradient; None if it does."""
    logits = torch.zeros(len(target), num_classes, requires_grad=True)
    try:
        with warnings.catch_warnings(action="ignore"):  # of shapes that do not fit, before the error
            found = loss(logits, target)
        if found.shape:
            return f"it gives {tuple(found.shape)}"
        torch.autograd.grad(found, logits)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        return str(error).partition("\n")[0]
    return None
