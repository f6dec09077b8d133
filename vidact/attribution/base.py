"""Base class of all explainers: a private copy of the network, checks, and batches that fit into memory."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch import Tensor, nn

from vidact.attribution.account import join_accounts
from vidact.attribution.copies import compute_out_of_place, differentiable, private_copy, require_own, why_in_place
from vidact.attribution.targets import Against, Goal, set_goal
from vidact.core.errors import ConfigError, ExplanationError
from vidact.core.explanation import Account, Explanation
from vidact.models.layers import Normalisation

Found = TypeVar("Found")
Part = TypeVar("Part")

PIXEL_TOLERANCE = 1e-3


class Explainer(ABC):
    """A context manager and a function `(video, target, *, against) -> Explanation`.

    The given network stays as it is: the explainer works on a deep copy, in eval mode, outside autocast and inference
    mode, and leaves the global random state alone. A clip's explanation does not depend on the other clips of its
    batch (but for the rounding of sums).

    Args:
        network: From [B, C, T, H, W] in [0, 1] to logits [B, K]; stays as it is.
        batch_size: How many clips go through the network at once; None for all. Where they do not fit into
            memory, half as many are tried, and so on.
        dtype: Of the copy and its arithmetic.

    Raises:
        ConfigError: a batch size below 1.
    """

    method: str

    def __init__(
        self, network: nn.Module, *, batch_size: int | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"expected a batch size of at least 1, or None for all clips at once, got {batch_size}")
        self._network, self._batch_size, self._dtype = network, batch_size, dtype
        self._in_place: tuple[str, ...] | None = None  # unknown, before the copy has seen a clip

    def __enter__(self) -> "Explainer":
        self._copy, self._in_place = private_copy(self._network, self._dtype), None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._copy

    @property
    def network(self) -> nn.Module:
        """The copy that is explained; it exists while the context is open."""
        return self._copy

    def prepare(self, video: Float[Tensor, "B C T H W"]) -> None:
        """Make sure that the network can be explained, before anything expensive starts.

        Args:
            video: Example clips; the first is used.

        Raises:
            ExplanationError: it cannot, with this method.
            ConfigError: the method's settings do not suit the network.
        """
        if len(video):
            while _if_it_fits(self._make_ready, video[:1], device=video.device) is None:
                self._smaller(1)

    def _make_ready(self, video: Float[Tensor, "1 C T H W"]) -> bool:
        self._refuse_in_place(self._own(video))
        self._prepare(self._own(video))
        return True

    def _refuse_in_place(self, video: Float[Tensor, "1 C T H W"]) -> None:
        """Let modules compute out of place; refuse a network whose scores would change."""
        if self._in_place is None:
            require_own(self._copy, self._network, video)
            self._in_place = compute_out_of_place(self._copy, video)
        if self._in_place:
            name = self._in_place[0]
            why, remedy = why_in_place(self._copy, name)
            raise ExplanationError(f"{name or type(self._copy).__name__}: {why}; {remedy}")

    def scores(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class of each clip, as the explained copy does."""
        self.prepare(video)

        @torch.no_grad()
        def score(part: slice) -> Tensor:
            scores: Tensor = self._copy(self._own(video[part]))
            return scores

        if not len(video):
            with differentiable(video.device):
                return score(slice(None))
        return torch.cat([found for _, found in self._by_parts(video, score)])

    def __call__(
        self, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"], *, against: Against = None
    ) -> Explanation:
        """Explain the score of each clip's target by its voxels.

        Args:
            video: In [0, 1], on the network's device.
            target: A class number per clip, A.
            against: None explains the logit f_A, a class number per clip the difference f_A − f_B, "rest" (or −1)
                the log-odds of A.

        Returns:
            Its `score` is Σ_k w_k f_k of `targets.class_weights`: f_A, f_A − f_B, or, for the log-odds, f_A less the
            mean logit of the rest under their softmax.

        Raises:
            ExplanationError: the input is not in [0, 1], a target is no class, targets and clips are not equally many,
                or the network cannot be explained so.
        """
        _check_length("targets", target, len(video))
        if isinstance(against, Tensor):
            _check_length("classes to explain against", against, len(video))
        _check_pixels(video)
        goal = set_goal(target, against)
        self.prepare(video)
        relevance, scores = torch.empty_like(video, dtype=self._dtype), torch.empty(len(video), dtype=self._dtype)
        scores = scores.to(video.device)

        def explain(part: slice) -> tuple[Tensor, Tensor, Account | None]:
            own = part_of(goal, part, video.device)
            found, logits = self._explain(self._own(video[part]), own)
            weights = own.weights(logits)
            score = torch.where(weights == 0, 0, weights * logits).sum(dim=1).detach()
            return found.detach(), score, self._account(found.detach(), score)

        accounts = []
        for part, found in self._by_parts(video, explain):
            relevance[part], scores[part], account = found
            accounts += [] if account is None else [account]
        joined = join_accounts(accounts) if accounts else None
        return Explanation(relevance, scores, target, self.method, goal.against, joined)

    def _by_parts(
        self, video: Float[Tensor, "B C T H W"], work: Callable[[slice], Found]
    ) -> Iterator[tuple[slice, Found]]:
        """Do some work part by part; out of memory, try half as many clips."""
        start, size = 0, self._limit(video)
        while start < len(video):
            part = slice(start, min(start + size, len(video)))
            found = _if_it_fits(work, part, device=video.device)
            if found is None:
                size = self._batch_size = self._smaller(part.stop - start)
                continue
            yield part, found
            start = part.stop

    def _smaller(self, size: int) -> int:
        garbage_collection_cuda()
        if size == 1:
            raise ExplanationError(
                f"one clip alone does not fit into memory with {self.method}; try fewer or smaller frames, or the CPU"
            )
        return size // 2

    def _limit(self, video: Float[Tensor, "B C T H W"]) -> int:
        return max(1, len(video) if self._batch_size is None else self._batch_size)

    def _own(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return video.detach().clone().to(self._dtype)

    def _prepare(self, video: Float[Tensor, "1 C T H W"]) -> None:  # noqa: B027  # most methods need nothing
        """Prepare for clips of this shape, once."""

    @abstractmethod
    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        """Compute the relevance and the logits of clips that are processed together."""

    def _account(self, relevance: Float[Tensor, "B C T H W"], score: Float[Tensor, " B"]) -> Account | None:
        """Build the account of the clips explained just now; None for methods that cannot."""
        return None

    def _backpropagate(
        self, video: Float[Tensor, "B C T H W"], start: Callable[[Tensor], Tensor]
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        """Propagate what `start` makes of the logits back to the voxels: the gradient, where no hook changes it."""
        leaf = video.detach().requires_grad_()
        scores = self._copy(leaf.clone())  # a clone, for a network that begins with an in-place layer
        if not scores.requires_grad:
            raise ExplanationError(
                "no gradient goes from the network's scores to the clip; let gradients through: no no_grad, no detach"
            )
        (gradient,) = torch.autograd.grad(scores, leaf, start(scores.detach()))
        return gradient, scores.detach()


def _if_it_fits(work: Callable[[Part], Found], part: Part, *, device: torch.device) -> Found | None:
    """Do some work; None if it runs out of memory."""
    try:
        with differentiable(device):
            return work(part)
    except RuntimeError as error:
        if not is_oom_error(error):
            raise
    return None


def mean_picture(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "#B #C 1 1 1"]:
    """Choose a neutral pixel value for a network: the mean that it subtracts, else each clip's own mean."""
    mean = subtracted_mean(network)
    return video.mean(dim=(2, 3, 4), keepdim=True) if mean is None else mean.to(video)


def subtracted_mean(network: nn.Module) -> Float[Tensor, "1 C 1 1 1"] | None:
    """Find the mean that a network subtracts from its pixels; None if it subtracts none."""
    return next((module.mean for module in network.modules() if isinstance(module, Normalisation)), None)


def _check_pixels(video: Float[Tensor, "B C T H W"]) -> None:
    """Check that pixels are finite floats in [0, 1], with a little tolerance for rounding."""
    if not video.is_floating_point():
        raise ExplanationError(f"expected pixels in [0, 1] as floating point, got {video.dtype}; divide by 255")
    if not torch.isfinite(video).all():
        raise ExplanationError("the input holds values that are not finite; expected pixels in [0, 1]")
    if len(video) and (video.amin() < -PIXEL_TOLERANCE or video.amax() > 1 + PIXEL_TOLERANCE):
        low, high = float(video.amin()), float(video.amax())
        raise ExplanationError(f"expected pixels in [0, 1], got values from {low:.4g} to {high:.4g}; divide by 255?")


def _check_length(what: str, numbers: Tensor, num_clips: int) -> None:
    if not isinstance(numbers, Tensor):
        raise ExplanationError(f"expected {what} as a tensor of {num_clips} class numbers, got {numbers!r}")
    if numbers.shape != (num_clips,):
        raise ExplanationError(f"expected {what} for {num_clips} clips, one each, got shape {list(numbers.shape)}")


def part_of(goal: Goal, part: slice, device: torch.device) -> Goal:
    """Give the goal of some of the clips."""
    against = None if goal.against is None else goal.against[part].to(device)
    return Goal(goal.target[part].to(device), against)
