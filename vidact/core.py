"""The words that all parts share: clips in memory, explanations, and errors for people.

It knows no file format, no network and no method.

Shape legend: B batch, C colour, T time (frames), H height, W width, K classes.
A video in memory is uint8 [B, C, T, H, W] until it is on the device, then float in [0, 1].
Relevance has the shape of the network's input.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vidact.terminal import printable


class VidactError(Exception):
    """A mistake that a person can mend: what was expected, what was got, what to try.

    The command line prints it as one line and ends with `exit_status`. Control characters, as names of files may hold
    them, are written out, so that they reach neither a terminal nor a log.
    """

    exit_status = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(VidactError):
    """A folder, a split file or a clip is not what it should be."""


class ConfigError(VidactError):
    """A setting is unknown, of the wrong type, or disagrees with another."""


class CheckpointError(VidactError):
    """A checkpoint is missing, damaged, or of another network."""


class ExplanationError(VidactError):
    """A clip and a target cannot be explained with this network."""


class NetworkError(ExplanationError):
    """A network can be neither trained nor explained: it is not from clips [B, C, T, H, W] to logits [B, K]."""


class TrainingError(VidactError):
    """Training cannot go on as it is: its loss is no number."""


class EnvironmentProblem(VidactError):
    """The machine lacks something: a library, space, the right to write."""

    exit_status = 3


@dataclass(frozen=True)
class ClipBatch:
    """Windows of clips, ready for a network.

    Attributes:
        video: Pixels, 0 to 255.
        label: Class numbers.
        clip_id: `class/file name without its ending`, one per window.
        clip_index: The clip's number in its part of the split; windows of one clip share it.
        window_index: The window's number in its part of the split.
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown, from the start of the file.
        left_out: One line per clip that could not be read: `id: reason`.
        mask: True on the actor, where the data set has masks and they were asked for.
    """

    video: UInt8[Tensor, "B C T H W"]
    label: Int[Tensor, " B"]
    clip_id: tuple[str, ...]
    clip_index: Int[Tensor, " B"]
    window_index: Int[Tensor, " B"]
    frame_numbers: Int[Tensor, "B T"]
    times_seconds: Float[Tensor, "B T"]
    left_out: tuple[str, ...] = ()
    mask: Bool[Tensor, "B T H W"] | None = None

    def __len__(self) -> int:
        return len(self.label)

    def to(self, *args: Any, **kwargs: Any) -> "ClipBatch":
        """Copy every tensor as `torch.Tensor.to` does; Lightning moves batches with this."""
        return self._map_tensors(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "ClipBatch":
        """Copy every tensor to pinned memory; `torch.utils.data.DataLoader` calls this."""
        return self._map_tensors(Tensor.pin_memory)

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> "ClipBatch":
        values: dict[str, Any] = {
            field.name: function(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **values)


@dataclass(frozen=True)
class Account:
    """Where the score of each clip has gone: voxels + biases + others + stabiliser = score.

    Each part is computed by the formula of the rule that takes it, none as what is left over: that they add up to the
    score shows that the rules are right. (Only `others` of a method that hands no score down holds what is left.)

    Attributes:
        voxels: ΣR over the voxels.
        biases: What constants take, by the name of their layer: biases, the shift of a BatchNorm, numbers that are
            added.
        stabiliser: What the small numbers take that keep rules from dividing by zero.
        others: What else takes a share, by its name in words.
    """

    voxels: Float[Tensor, " B"]
    biases: Mapping[str, Float[Tensor, " B"]]
    stabiliser: Float[Tensor, " B"]
    others: Mapping[str, Float[Tensor, " B"]] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Float[Tensor, " B"]]:
        """Each part under its name in words, as in "95 % on voxels, 5 % on the bias of stem.0"."""
        biases = {f"the bias of {layer}": taken for layer, taken in self.biases.items()}
        return {"voxels": self.voxels, **biases, **self.others, "the stabiliser": self.stabiliser}

    @property
    def total(self) -> Float[Tensor, " B"]:
        """All parts together, in float64."""
        first, *rest = self.parts.values()
        return sum(rest, start=first.double())

    def gap(self, score: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Say how far the account is from closing: |score − total|, as a share of the largest number in it."""
        score = score.double()
        largest = score.abs()
        for taken in self.parts.values():
            largest = largest.maximum(taken.abs())
        difference = (score - self.total).abs()
        return difference / largest.where(largest > 0, difference.new_ones(()))


@dataclass(frozen=True)
class Explanation:
    """Why a network gave a target its score, voxel by voxel.

    Attributes:
        relevance: Signed share of each voxel in the score; positive speaks for the target.
        score: What is explained: the target's logit or, against other classes, a difference of logits.
        target: The class that is spoken for.
        method: Name of the method.
        against: The class that is spoken against, -1 for all others (log-odds); None explains the logit alone.
        account: Where the score has gone; None for methods that hand none down.
    """

    relevance: Float[Tensor, "B C T H W"]
    score: Float[Tensor, " B"]
    target: Int[Tensor, " B"]
    method: str
    against: Int[Tensor, " B"] | None = None
    account: Account | None = None

    @property
    def relevance_sum(self) -> Float[Tensor, " B"]:
        """ΣR over colour, time, height and width, summed in float64."""
        return self.relevance.double().sum(dim=(1, 2, 3, 4))

    @property
    def conservation(self) -> Float[Tensor, " B"]:
        """ΣR / score: the share of the score that is on voxels (meaningless near score 0); `account` has the rest."""
        return self.relevance_sum / self.score.double()


@runtime_checkable
class ClipSource(Protocol):
    """A data module that can name its classes and pick clips to look at."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""

    def example_clips(self, stage: str, clips_per_class: int) -> ClipBatch:
        """Pick the same few clips of each class every time, as one batch; `stage` is 'validate' or 'test'."""


@runtime_checkable
class DividedData(Protocol):
    """A data module that can say how its clips were divided, and how far that can be trusted."""

    @property
    def split_record(self) -> dict[str, Any]:
        """Plain values: the clips of each side under their names, and the report on leaks under `leakage`."""


@runtime_checkable
class Regularised(Protocol):
    """A network whose training adds terms of its own to the loss."""

    def scores_and_penalties(
        self, video: Float[Tensor, "B C T H W"]
    ) -> tuple[Float[Tensor, "B K"], dict[str, Float[Tensor, ""]]]:
        """Score each class, and give the weighted terms by their names."""


@runtime_checkable
class Attentive(Protocol):
    """A network that says itself where and when it attends."""

    def attention_maps(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T H W"]:
        """Give its attention at the resolution of the video: where in each frame, times how much each frame counts."""


def local_rank() -> int:
    """Say which process of this machine this is, 0 for the first or only one; launchers and SLURM name it."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def as_float(video: UInt8[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
    """Turn pixels 0 to 255 into the networks' input, float32 in [0, 1]."""
    return video.float() / 255


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what it came of, each once: an error that is raised again may come of itself."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__
