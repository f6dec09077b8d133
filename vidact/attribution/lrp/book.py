"""Note, clip by clip, how much relevance goes to biases and stabilisers, so that the sum can be checked.

Each rule computes its share by its own formula and notes it here. Nothing is filled up to the score, so that a wrong
rule shows as an account that does not close.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidact.core.explanation import Account

NOTHING = "outputs without any contribution"
SMALL = 1e-5  # of the largest score: smaller stabiliser shares are not looked at more closely


@dataclass(frozen=True)
class Layout:
    """Where the clips of a batch lie in a tensor: along one dimension of size `outer · B · inner`.

    Attributes:
        dim: Which dimension.
        outer: How often the sequence of clips is repeated.
        inner: How many neighbouring places belong to one clip.
    """

    dim: int
    outer: int
    inner: int


ROWS = Layout(0, 1, 1)


class Book:
    """Collects the account of the clips that are being explained; notes nothing while it is closed."""

    def __init__(self) -> None:
        self.layouts: dict[nn.Module, Layout] = {}
        self.is_open = False
        self._names: dict[nn.Module, str] = {}
        self._num_clips, self._scale = 0, 0.0
        self._taken: dict[tuple[str, str], Tensor] = {}

    def open(self, network: nn.Module, num_clips: int) -> None:
        """Begin an account.

        Args:
            network: Gives modules their names.
            num_clips: How many clips are explained at once.
        """
        self._names = {module: name for name, module in network.named_modules()}
        self._num_clips, self._taken, self.is_open = num_clips, {}, True

    def set_score(self, score: Float[Tensor, " B"]) -> None:
        """Set what is propagated, before the backward pass."""
        self._scale = float(score.abs().max()) if len(score) else 0.0

    def close(self, voxels: Float[Tensor, "B C T H W"]) -> Account:
        """Finish the account with the relevance that has reached the voxels."""
        self.is_open = False
        self._names = {}
        total = voxels.double().sum(dim=(1, 2, 3, 4))
        none = torch.zeros_like(total)
        taken = list(reversed(self._taken.items()))  # from the first layer to the last
        biases = {name: value for (kind, name), value in taken if kind == "bias"}
        lost = {f"{NOTHING} in {name}": value for (kind, name), value in taken if kind == "nothing"}
        stabiliser = sum((value for (kind, _), value in taken if kind == "stabiliser"), start=none)
        return Account(total, biases, stabiliser, lost)

    def is_small(self, taken: Float[Tensor, " B"]) -> bool:
        """Say whether a share is too small to be looked at more closely."""
        return bool(taken.abs().max() <= SMALL * self._scale)

    def bias(self, module: nn.Module, taken: Tensor | None) -> None:
        """Note what a module's constants take, element by element."""
        self._note("bias", module, None if taken is None else self.per_clip(module, taken))

    def nothing(self, module: nn.Module, taken: Tensor | None) -> None:
        """Note what is lost at a module whose output neither its inputs nor its bias contribute to."""
        self._note("nothing", module, None if taken is None else self.per_clip(module, taken))

    def stabiliser(self, module: nn.Module, taken: Float[Tensor, " B"]) -> None:
        """Note what a module's stabiliser takes of each clip."""
        self._note("stabiliser", module, taken)

    def _note(self, kind: str, module: nn.Module, taken: Tensor | None) -> None:
        if taken is None or not bool(taken.any()):
            return
        key = kind, self._names.get(module, "")
        self._taken[key] = self._taken[key] + taken if key in self._taken else taken

    def per_clip(self, module: nn.Module, values: Tensor) -> Float[Tensor, " B"]:
        """Add up a tensor in the shape of a module's output, clip by clip."""
        if self._num_clips == 1:
            return values.sum().double()[None]
        layout = self.layouts.get(module, ROWS)
        values = values.movedim(layout.dim, 0)
        return values.reshape(layout.outer, self._num_clips, -1).sum(dim=2).double().sum(dim=0)

    def product(self, module: nn.Module, first: Tensor, second: Tensor) -> Float[Tensor, " B"]:
        """Multiply two tensors in the shape of a module's output, and add up clip by clip."""
        if self._num_clips == 1 and first.is_contiguous() and second.is_contiguous():
            return torch.dot(first.reshape(-1), second.reshape(-1)).double()[None]
        return self.per_clip(module, first * second)


@torch.no_grad()
def find_layouts(network: nn.Module, video: Float[Tensor, "1 C T H W"]) -> dict[nn.Module, Layout] | None:
    """Find where the clips of a batch lie in each module's output, by running it with a second clip that is all NaN.

    Args:
        network: Not in place, in eval mode.
        video: A clip of the shape in question.

    Returns:
        The layouts of modules; None where clips cannot be told apart everywhere.
    """
    found: dict[nn.Module, set[Layout | None]] = {}

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and bool((marks := torch.isnan(output)).any()):
            found.setdefault(module, set()).add(layout_of(marks))

    has_rule = [module for module in network.modules() if "forward" in vars(module)]
    handles = [module.register_forward_hook(note) for module in has_rule]
    try:
        network(torch.cat([video, torch.full_like(video, torch.nan)]))
    except Exception:  # whatever a network that is not ours does when it meets such numbers
        return None
    finally:
        for handle in handles:
            handle.remove()
    layouts = {module: each for module, own in found.items() if len(own) == 1 for each in own if each is not None}
    return layouts if len(layouts) == len(found) else None


def layout_of(is_second: Bool[Tensor, "..."]) -> Layout | None:
    """Find the dimension along which the first and the second clip lie, and in which order."""
    fitting = [
        layout
        for dim in range(is_second.ndim)
        if (layout := _order_of(is_second.movedim(dim, 0).flatten(1).any(dim=1), dim)) is not None
    ]
    return fitting[0] if len(fitting) == 1 else None


def _order_of(marks: Bool[Tensor, " N"], dim: int) -> Layout | None:
    """Read `0 0 1 1 0 0 1 1` as twice two places of the first clip and two of the second."""
    inner = int(marks.long().argmax())
    if inner == 0 or len(marks) % (2 * inner):
        return None
    layout = Layout(dim, len(marks) // (2 * inner), inner)
    one = torch.tensor([False, True], device=marks.device).repeat_interleave(inner).repeat(layout.outer)
    return layout if torch.equal(marks, one) else None
