"""Fills: what replaces the removed units of a clip (blur, temporal mean, freeze, noise, …).

A fill is prepared once for some clips and serves every order and step. Fills that depend on the clips alone are
computed then; only `freeze` depends on which units are removed.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidact.core.errors import ConfigError, nearest
from vidact.evaluation.measures.units import Units, check_clip
from vidact.evaluation.names import FRAMES, FRAMES_ONLY

BLUR_SHARE = 0.1  # σ as a share of the frame's shorter side: the side of a tube in frames of 100 pixels
LEAST_SIGMA_PIXELS = 1.0


# Maps which voxels are removed, [N, B, T, H, W] in N versions of the B clips it was built from, to a value for every
# voxel, [N or 1, B, C, T, H, W], of which only those at removed voxels are used.
Fill = Callable[[Bool[Tensor, "N B T H W"]], Float[Tensor, "#N B C T H W"]]
FillIn = Callable[[Tensor, Units, Tensor | None, torch.Generator | None], Fill]


def build_fill(
    name: str,
    video: Float[Tensor, "B C T H W"],
    *,
    units: Units,
    mean: Float[Tensor, "*picture"] | None = None,
    generator: torch.Generator | None = None,
) -> Fill:
    """Prepare what replaces units of some clips.

    Args:
        name: `noise`: uniform in [0, 1], the same for every clip, so that none depends on its batch. `blur`: each frame
            under a Gaussian, σ a tenth of its shorter side; weights beyond the edge go to the rest. `dataset_mean`:
            `mean`. `temporal_mean`: each pixel's mean over the unit's frames, which removes motion and keeps
            appearance. `spatial_blur`: in each frame the mean of the unit's pixels, the strongest blur that mixes in
            nothing from outside; it removes appearance. For frames only: `freeze`, the nearest frame that is kept, the
            earlier of two, and the mean frame where none is; `mean_frame`, the mean of the clip's frames.
        video: The clips, in [0, 1].
        units: How the clips are divided.
        mean: The data set's mean, for `dataset_mean`: one value, one per colour [C, 1, 1, 1], or anything else that
            broadcasts with [C, T, H, W].
        generator: For `noise`.

    Raises:
        ConfigError: an unknown name, a fill-in that does not change such units or is for frames only, or a missing
            mean or generator.
    """
    if name not in FILL_INS:
        near = nearest(name, FILL_INS, at_most=1) or list(FILL_INS)
        raise ConfigError(f"unknown fill-in {name!r}; nearest: {', '.join(near)}; known: {', '.join(FILL_INS)}")
    check_clip(units, video)
    if name in FRAMES_ONLY and units.name != FRAMES:
        raise ConfigError(f"fill-in {name!r} is for whole frames, got {units.name}")
    return FILL_INS[name](video, units, mean, generator)


def fill_ins_for(units: Units) -> tuple[str, ...]:
    """Name the fill-ins that change such units."""
    idle = {
        "temporal_mean": _is_idle(_groups(units, _pixel_numbers(units))),
        "spatial_blur": _is_idle(_groups(units, _frame_numbers(units))),
    }
    return tuple(
        name for name in FILL_INS if not idle.get(name, False) and (name not in FRAMES_ONLY or units.name == FRAMES)
    )


def blur_frames(video: Float[Tensor, "B C T H W"], *, sigma: float) -> Float[Tensor, "B C T H W"]:
    """Blur each frame with a Gaussian of σ pixels; at the edges the weights are renormalised to sum to 1."""
    rows, places = (_gaussian(side, sigma).to(video) for side in video.shape[-2:])
    return rows @ video @ places.T


def _gaussian(side: int, sigma: float) -> Float[Tensor, "side side"]:
    place = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def _fixed(replacement: Float[Tensor, "B C T H W"]) -> Fill:
    """Build a fill that is the same for every version of the clips."""
    return lambda removed: replacement[None]


def _noise(video: Tensor, units: Units, mean: Tensor | None, generator: torch.Generator | None) -> Fill:
    if generator is None:
        raise ConfigError("fill-in 'noise' needs a generator")
    noise = torch.rand(video.shape[1:], generator=generator, device=generator.device)
    return _fixed(noise.to(video).expand_as(video))


def _blur(video: Tensor, units: Units, mean: Tensor | None, generator: torch.Generator | None) -> Fill:
    sigma = max(LEAST_SIGMA_PIXELS, BLUR_SHARE * min(video.shape[-2:]))
    return _fixed(blur_frames(video, sigma=sigma))


def _dataset_mean(video: Tensor, units: Units, mean: Tensor | None, generator: torch.Generator | None) -> Fill:
    if mean is None:
        raise ConfigError("fill-in 'dataset_mean' needs the mean")
    try:
        return _fixed(mean.to(video).expand_as(video))
    except RuntimeError:
        expected = tuple(video.shape[1:])
        raise ConfigError(f"the mean must broadcast with [C, T, H, W] = {expected}, got {tuple(mean.shape)}") from None


def _temporal_mean(video: Tensor, units: Units, mean: Tensor | None, generator: torch.Generator | None) -> Fill:
    groups = _groups(units, _pixel_numbers(units))
    if _is_idle(groups):
        raise ConfigError(f"fill-in 'temporal_mean' changes nothing in {units.name} of a single frame")
    return _fixed(_group_means(video, groups))


def _spatial_blur(video: Tensor, units: Units, mean: Tensor | None, generator: torch.Generator | None) -> Fill:
    groups = _groups(units, _frame_numbers(units))
    if _is_idle(groups):
        raise ConfigError(f"fill-in 'spatial_blur' changes nothing in {units.name} of a single pixel")
    return _fixed(_group_means(video, groups))


def _mean_frame(video: Tensor, units: Units, mean: Tensor | None, generator: torch.Generator | None) -> Fill:
    return _fixed(video.mean(dim=2, keepdim=True).expand_as(video))


def _freeze(video: Tensor, units: Units, mean: Tensor | None, generator: torch.Generator | None) -> Fill:
    num_frames = video.shape[2]
    time = torch.arange(num_frames, device=video.device)
    gap = time - time[:, None]  # [T, T]: from a frame to another
    distance = 2 * gap.abs() + (gap > 0)  # of two that are as near, the earlier is nearer
    mean_frame = video.mean(dim=2, keepdim=True)

    def fill(removed: Tensor) -> Tensor:
        gone = removed[..., 0, 0]  # [N, B, T]
        nearest = (distance + gone[:, :, None] * 3 * num_frames).argmin(dim=-1)  # [N, B, T]
        clip = torch.arange(len(video), device=video.device)[:, None]
        frozen = video.transpose(1, 2)[clip, nearest].transpose(2, 3)  # [N, B, C, T, H, W]
        nothing_left = gone.all(dim=-1)[:, :, None, None, None, None]
        return torch.where(nothing_left, mean_frame, frozen)

    return fill


def _pixel_numbers(units: Units) -> Int[Tensor, "T H W"]:
    frames, height, width = units.clip
    return torch.arange(height * width, device=units.number.device).reshape(1, height, width).expand(frames, -1, -1)


def _frame_numbers(units: Units) -> Int[Tensor, "T H W"]:
    frames, height, width = units.clip
    return torch.arange(frames, device=units.number.device)[:, None, None].expand(-1, height, width)


def _groups(units: Units, within: Int[Tensor, "T H W"]) -> Int[Tensor, "T H W"]:
    """Number groups of voxels: voxels of one unit with the same value in `within`."""
    number: Tensor = torch.unique(units.number * math.prod(units.clip) + within, return_inverse=True)[1]
    return number


def _is_idle(groups: Int[Tensor, "T H W"]) -> bool:
    """Say whether every group is a single voxel, so that means change nothing."""
    return int(groups.max()) + 1 == groups.numel()


def _group_means(video: Float[Tensor, "B C T H W"], groups: Int[Tensor, "T H W"]) -> Float[Tensor, "B C T H W"]:
    """Replace each voxel by the mean of its group, each colour by itself; summed in float64."""
    number = groups.flatten().to(video.device)
    size = torch.bincount(number).double()
    values = video.flatten(2).double()  # [B, C, T·H·W]
    index = number.expand_as(values)
    sums = torch.zeros(*values.shape[:2], len(size), dtype=torch.float64, device=video.device)
    means = sums.scatter_add_(-1, index, values) / size
    return means.gather(-1, index).to(video).reshape(video.shape)


FILL_INS: dict[str, FillIn] = {
    "noise": _noise,
    "blur": _blur,
    "dataset_mean": _dataset_mean,
    "temporal_mean": _temporal_mean,
    "spatial_blur": _spatial_blur,
    "freeze": _freeze,
    "mean_frame": _mean_frame,
}
