"""Extremal perturbation: learn which share of the clip has to be kept for the network to recognise the class."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.base import Explainer
from vidact.attribution.methods.gradients import at_least_one, noise
from vidact.attribution.targets import REST, Goal
from vidact.core.errors import ConfigError

AREAS = (0.02, 0.05, 0.1, 0.2)
FRAMES_A_NODE, PIXELS_A_NODE, LEAST_NODES = 2, 8, 8
KERNEL = 0.875  # of the nodes' distance: H/16 for pictures of 112 pixels
SHARPNESS = 20.0  # of the smooth maximum
FIRST_WEIGHT, LAST_WEIGHT = 1.0, 300.0  # of the area
LEARNING_RATE = 0.05
START, SPREAD = 0.5, 0.01  # of the mask before the first step
BLUR = 0.1  # of the picture's height and width

Mask = Float[Tensor, "B T H W"]
Kernel = Float[Tensor, "_ _"]  # voxels and nodes of one axis


class Extremal(Explainer):
    """Learns a smooth mask m of a given area that keeps the class recognisable: R is the mean of m over the areas.

    Fong, Patrick and Vedaldi, Understanding deep networks via extremal perturbations and smooth masks, 2019; for clips,
    smooth in space and time, Li et al., Towards visually explaining video understanding networks, 2021.

    What m does not keep is replaced by the mean of the blurred clip and the clip's mean over time (the blurred clip
    alone where there is one frame). Adam maximises log p − λ mean (sort(m) − r)² − η (TV in space + TV in time), where
    r is 0 up to the asked area and 1 there, and λ grows from 1 to 300. The result is moved to the nearest mask of
    exactly that area. p is the probability of the target; against one class, that of the target among the two.

    R ≥ 0 sums over the colours to the kept share of each voxel. It takes `num_steps` passes forth and back for each
    area: 800 by default.

    Args:
        network: As in `Explainer`.
        areas: Shares of the clip's voxels that a mask keeps, each above 0 and below 1.
        num_steps: Of Adam, for each area.
        smoothness: η.
        seed: Of the mask before the first step, which depends on it and on the clip.
        settings: As in `Explainer`.

    Raises:
        ConfigError: no area, one that is no share, no step, or a negative smoothness.
    """

    method = "extremal"

    def __init__(
        self,
        network: nn.Module,
        *,
        areas: Sequence[float] = AREAS,
        num_steps: int = 200,
        smoothness: float = 0.1,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(network, **settings)
        at_least_one("num_steps", num_steps)
        if not areas or not all(0 < area < 1 for area in areas):
            raise ConfigError(f"areas are shares of the clip, above 0 and below 1, as {list(AREAS)}, got {list(areas)}")
        if smoothness < 0:
            raise ConfigError(f"smoothness is a weight, 0 or more, got {smoothness:g}")
        self._areas, self._num_steps, self._smoothness, self._seed = tuple(areas), num_steps, smoothness, seed

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        with torch.no_grad():
            scores = self._copy(video)
        goal.check(scores.shape[1])
        masks = torch.stack([self._learn(video, goal, area) for area in self._areas])
        return (masks.mean(dim=0)[:, None] / video.shape[1]).expand_as(video), scores

    def _learn(self, video: Float[Tensor, "B C T H W"], goal: Goal, area: float) -> Mask:
        """Learn the mask of one area for each clip; the clips do not touch each other, nor do their steps of Adam."""
        kernels, fill = _kernels(video), _fill(video)
        nodes = [kernel.shape[1] for kernel in kernels]
        drawn = noise(video, seed=self._seed)()[:, 0, : nodes[0], : nodes[1], : nodes[2]]
        grid = (START + SPREAD * drawn).requires_grad_()
        adam = torch.optim.Adam([grid], lr=LEARNING_RATE)
        for step in range(self._num_steps):
            weight = FIRST_WEIGHT * (LAST_WEIGHT / FIRST_WEIGHT) ** (step / max(1, self._num_steps - 1))
            mask = _spread(grid, kernels)
            mixed = torch.lerp(fill, video, mask[:, None])
            gradient, _ = self._backpropagate(mixed, lambda scores: _slope(goal, scores))
            loss = weight * _area_error(mask, area) + self._smoothness * _variation(mask) - (gradient * mixed).sum()
            (grid.grad,) = torch.autograd.grad(loss, grid)
            adam.step()
            with torch.no_grad():
                grid.clamp_(0, 1)
        return nearest_of_area(_spread(grid.detach(), kernels), area)


def nearest_of_area(mask: Mask, area: float) -> Mask:
    """Find the nearest mask in [0, 1] whose mean is the area: the same shift for all voxels, clipped to [0, 1].

    Args:
        mask: In [0, 1].
        area: Above 0, below 1.
    """
    low, high = (torch.full_like(mask[:, :1, :1, :1], end) for end in (-1, 1))
    for _ in range(40):  # halves the interval beyond the precision of float32
        middle = (low + high) / 2
        too_large = (mask + middle).clamp(0, 1).mean(dim=(1, 2, 3), keepdim=True) > area
        low, high = torch.where(too_large, low, middle), torch.where(too_large, middle, high)
    return (mask + (low + high) / 2).clamp(0, 1)


def _slope(goal: Goal, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Differentiate log p by the logits."""
    leaf = scores.detach().requires_grad_()
    against = torch.full_like(goal.target, REST) if goal.against is None else goal.against
    odds = Goal(goal.target, against if scores.shape[1] > 1 else None).value(leaf)
    (slope,) = torch.autograd.grad(F.logsigmoid(odds).sum(), leaf)
    return slope


def _area_error(mask: Mask, area: float) -> Float[Tensor, ""]:
    ordered = mask.flatten(1).sort(dim=1, stable=True).values
    kept = torch.arange(ordered.shape[1], device=mask.device) >= (1 - area) * ordered.shape[1]
    return (ordered - kept.to(mask)).square().mean(dim=1).sum()


def _variation(mask: Mask) -> Float[Tensor, ""]:
    """Sum the mean change from voxel to voxel over space and time."""
    changes = [mask.diff(dim=dim).abs().flatten(1) for dim in (1, 2, 3) if mask.shape[dim] > 1]
    return sum((change.mean(dim=1).sum() for change in changes), mask.new_zeros(()))


def _fill(video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
    down, across = (_blur(size).to(video) for size in video.shape[3:])
    blurred = down @ video @ across.T
    return blurred if video.shape[2] == 1 else (blurred + video.mean(dim=2, keepdim=True)) / 2


def _blur(size: int) -> Float[Tensor, "size size"]:
    weights = _bells(size, size, BLUR * size)
    return weights / weights.sum(dim=1, keepdim=True)


def _kernels(video: Float[Tensor, "B C T H W"]) -> list[Kernel]:
    """Build the Gaussians along time, height and width that a node of the grid spreads to; the highest voxel has 1."""
    built = []
    for size, distance, least in zip(
        video.shape[2:], (FRAMES_A_NODE, PIXELS_A_NODE, PIXELS_A_NODE), (1, LEAST_NODES, LEAST_NODES), strict=True
    ):
        nodes = max(-(-size // distance), min(size, least))
        width = 1.0 if distance == FRAMES_A_NODE else KERNEL * size / nodes
        bells = _bells(size, nodes, width)
        built.append((bells / bells.amax(dim=0)).to(video))
    return built


def _bells(size: int, nodes: int, width: float) -> Float[Tensor, "size nodes"]:
    places = torch.arange(size, dtype=torch.float64)[:, None] + 0.5
    centres = (torch.arange(nodes, dtype=torch.float64) + 0.5) * size / nodes
    return torch.exp(-((places - centres) / width).square() / 2)


def _spread(grid: Float[Tensor, "B t h w"], kernels: Sequence[Kernel]) -> Mask:
    """Take the smooth maximum of the nodes' Gaussians along width, height and time in turn.

    A maximum of products of positive numbers may be taken axis by axis; all nodes at once would need much memory.
    """
    mask = grid
    for dim, kernel in zip((1, 2, 3), kernels, strict=True):
        values = mask.movedim(dim, -1)[..., None, :] * kernel  # [..., voxels, nodes]
        mask = (values * (SHARPNESS * values).softmax(dim=-1)).sum(dim=-1).movedim(-1, dim)
    return mask
