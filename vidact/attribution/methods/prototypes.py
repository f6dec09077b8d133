"""Class prototypes: clips that are made, not filmed, so that a network gives a class the highest score.

They show what one network takes for a class, and prove nothing: no verdict hangs on them.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.base import Explainer
from vidact.attribution.copies import differentiable
from vidact.attribution.methods.gradients import Gradient, at_least_one
from vidact.core.errors import ConfigError

SPEEDS = {"slow": 10.0, "free": 1.0, "fast": 0.1}  # weight of the change in time, times TIME_WEIGHT
SPACE_WEIGHT, TIME_WEIGHT = 0.1, 0.1  # of total variation, where the score's gradient is 1 on average
PIXELS_A_FRAME = 1.0  # τ: a motion of so many pixels a frame is damped in time as much as in space
GRAY_WEIGHT = 0.1  # of the squared distance from gray, which takes away what the network does not see
LEARNING_RATE, SPREAD = 0.05, 0.01
JITTER_PIXELS, LARGEST_JITTER, ROLL_FRAMES, ZOOM = 4, 0.125, 1, 0.1

Clips = Float[Tensor, "B C T H W"]


@dataclass(frozen=True)
class Prototype:
    """A made clip that a network gives a high score for a class.

    Attributes:
        class_number: The class.
        speed: slow, free or fast: how strongly change from frame to frame was damped.
        video: In [0, 1].
        score: The class's logit for it.
        probability: The class's probability for it.
        best_real: The highest logit of the class that a real clip reaches; None where it was not given.
        transfer: The class's probability by another network; None where there is none. Below 0.5, the picture is about
            this network, not about the class.
    """

    class_number: int
    speed: str
    video: Float[Tensor, "C T H W"]
    score: float
    probability: float
    best_real: float | None = None
    transfer: float | None = None


@dataclass(frozen=True)
class Prototypes:
    """The prototypes of some classes, three per class: slow, free and fast."""

    all: tuple[Prototype, ...]

    def of(self, class_number: int, speed: str = "free") -> Prototype:
        """Give one prototype.

        Args:
            class_number: The class.
            speed: One of `SPEEDS`.

        Raises:
            ConfigError: there is none of this class and speed.
        """
        for one in self.all:
            if (one.class_number, one.speed) == (class_number, speed):
                return one
        there = sorted({one.class_number for one in self.all})
        raise ConfigError(f"no {speed} prototype of class {class_number}; there are {', '.join(SPEEDS)} of {there}")


def make_prototypes(
    network: nn.Module,
    *,
    class_numbers: Sequence[int],
    shape: tuple[int, int, int, int],
    gray: bool,
    steps: int = 256,
    generator: torch.Generator,
    best_real: Mapping[int, float] | None = None,
    other: nn.Module | None = None,
) -> Prototypes:
    """Make clips that a network gives a high score, by activation maximisation.

    Feichtenhofer, Pinz, Wildes and Zisserman, Deep insights into convolutional networks for video recognition, 2020:
    total variation in space and, apart from it, in time; the weight of the latter makes the prototype slow, free or
    fast. Adam works on the clip's Fourier coefficients, divided by |k| + |ω| τ (Olah, Mordvintsev and Schubert, Feature
    visualization, 2017), and sees it moved by up to 4 pixels (an eighth of small pictures), rolled by up to one frame
    and zoomed by up to 10 %. The score's gradient is scaled to a mean size of 1 per voxel, so that the weights mean the
    same for every network. A weak pull to gray takes away what the network does not see: without it, networks of
    differences get large still blobs, which damping alone draws.

    Args:
        network: From [B, C, T, H, W] in [0, 1] to logits [B, K]; stays as it is.
        class_numbers: The classes; a prototype does not depend on which others are asked for.
        shape: C, T, H and W of the network's input; C is 1 or 3.
        gray: Whether all colours are equal.
        steps: Of Adam.
        generator: On the CPU; draws the beginning and the movements.
        best_real: The highest logit of each class that a real clip reaches.
        other: Another network for the same classes, which says how far the prototypes carry over; stays as it is.

    Raises:
        ConfigError: a shape of no clip, or no step.
        ExplanationError: a number that is no class, or a network that gives no gradient.
    """
    at_least_one("steps", steps)
    if len(shape) != 4 or min(shape) < 1 or shape[0] not in (1, 3):
        raise ConfigError(f"a clip's shape is [1 or 3 colours, frames, height, width], got {list(shape)}")
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    seed, size = int(torch.randint(2**31, (), generator=generator)), (1 if gray else shape[0], *shape[1:])
    videos: list[Clips] = []
    with Gradient(network) as explain, differentiable(device):
        for number in class_numbers:
            begin = _Spectrum(size, generator=torch.Generator().manual_seed(seed + number), device=device)
            videos.append(begin.maximise(explain, number, steps=steps, num_colours=shape[0]))
        scores = [explain.scores(video) for video in videos]
    carried = None if other is None else _probabilities(other, videos)
    rows = list(itertools.product(enumerate(class_numbers), enumerate(SPEEDS)))
    return Prototypes(
        tuple(
            Prototype(
                number,
                speed,
                videos[place][row],
                score=float(scores[place][row, number]),
                probability=float(scores[place][row].softmax(dim=0)[number]),
                best_real=None if best_real is None else best_real.get(number),
                transfer=None if carried is None else float(carried[place][row, number]),
            )
            for (place, number), (row, speed) in rows
        )
    )


class _Spectrum:
    """The Fourier coefficients of a class's three prototypes, which begin alike.

    Args:
        shape: C, T, H and W of the clips.
        generator: Draws the beginning and the movements.
        device: Of the clips.
    """

    def __init__(self, shape: tuple[int, int, int, int], *, generator: torch.Generator, device: torch.device) -> None:
        self._size, self._generator = shape[1:], generator
        self._scale = _decay(self._size).to(device)
        drawn = SPREAD * torch.randn(1, shape[0], *self._scale.shape, 2, generator=generator)
        self._parts = drawn.to(device).repeat(len(SPEEDS), 1, 1, 1, 1, 1).requires_grad_()
        self._weights = TIME_WEIGHT * torch.tensor(list(SPEEDS.values()), device=device)

    def maximise(self, explain: Explainer, class_number: int, *, steps: int, num_colours: int) -> Clips:
        """Make the clips of one class."""
        adam = torch.optim.Adam([self._parts], lr=LEARNING_RATE)
        target = torch.full((len(SPEEDS),), class_number, device=self._parts.device)
        for _ in range(steps):
            video = self._clips().expand(-1, num_colours, -1, -1, -1)
            seen = _moved(video, self._generator)
            gradient = explain(seen, target).relevance
            gradient = gradient / gradient.abs().sum(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-30)
            damping = SPACE_WEIGHT * (_change(video, 3) + _change(video, 4)) + self._weights * _change(video, 2)
            damping = damping + GRAY_WEIGHT * (video - 0.5).square().mean(dim=(1, 2, 3, 4))
            loss = damping.sum() - (gradient * seen).sum()
            (self._parts.grad,) = torch.autograd.grad(loss, self._parts)
            adam.step()
        return self._clips().detach().expand(-1, num_colours, -1, -1, -1).clone()

    def _clips(self) -> Clips:
        spectrum = self._scale * torch.view_as_complex(self._parts)
        video: Tensor = torch.fft.irfftn(spectrum, s=self._size, dim=(2, 3, 4), norm="ortho")
        return video.sigmoid()


def _decay(size: tuple[int, ...]) -> Float[Tensor, "T H half"]:
    """Compute 1/(|k| + |ω| τ) in cycles per pixel and per frame; the lowest frequency stands in for 0."""
    frames, height, width = size
    time, down = torch.fft.fftfreq(frames)[:, None, None], torch.fft.fftfreq(height)[:, None]
    across = torch.fft.rfftfreq(width)
    frequency: Tensor = torch.hypot(down, across) + time.abs() * PIXELS_A_FRAME
    return frequency.clamp(min=1 / max(size)).reciprocal()


def _moved(video: Clips, generator: torch.Generator) -> Clips:
    """Zoom, move and roll clips, all alike."""
    zoom, down, across = (2 * torch.rand(3, generator=generator) - 1).tolist()
    frames = int(torch.randint(-ROLL_FRAMES, ROLL_FRAMES + 1, (), generator=generator))
    height, width = video.shape[3:]
    # affine_grid counts in halves of the picture
    moves = [2 * part * min(JITTER_PIXELS / size, LARGEST_JITTER) for part, size in ((across, width), (down, height))]
    scale = 1 + ZOOM * zoom
    matrix = torch.tensor([[scale, 0, moves[0]], [0, scale, moves[1]]], device=video.device).expand(len(video), 2, 3)
    pictures = video.flatten(1, 2)  # [B, C·T, H, W]
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    seen = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return seen.clamp(0, 1).reshape(video.shape).roll(frames, dims=2)


def _change(video: Clips, dim: int) -> Float[Tensor, " B"]:
    """Compute the mean change from one voxel to the next along an axis."""
    if video.shape[dim] == 1:
        return video.new_zeros(len(video))
    return video.diff(dim=dim).abs().mean(dim=(1, 2, 3, 4))


def _probabilities(network: nn.Module, videos: Sequence[Clips]) -> list[Float[Tensor, "B K"]]:
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    with Gradient(network) as explain:
        return [explain.scores(video.to(device)).softmax(dim=1).cpu() for video in videos]
