"""Augment training batches on the device where they are: crop, mirror, brightness, contrast, a shift in time.

Parameters are drawn once per clip, so all frames of a clip change alike and its motion is preserved. They are drawn on
the CPU: equal generators give equal clips on every device.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vidact.core.clips import ClipBatch
from vidact.core.errors import ConfigError

_NUM_RANDOM = 8  # random numbers per clip, whatever is switched on


@dataclass(frozen=True)
class AugmentationSettings:
    """Ranges of the augmentations, each as (smallest, largest).

    Mirroring changes the class where a class is a direction (the synthetic set's `left` and `right`, `clockwise`
    and `counter_clockwise`): set `flip_probability` to 0 there.

    Attributes:
        crop_scale: Share of the frame's area that is cropped and resized to the output size; (1, 1) for all.
        crop_aspect: Aspect (width by height) of the crop over that of the frame; the drawn area has precedence, so a
            large area allows little change of aspect.
        flip_probability: Share of clips that are mirrored horizontally.
        brightness: Pixels are multiplied by at most 1 ± this; 0 for none.
        contrast: Distances from the clip's mean are multiplied by at most 1 ± this; 0 for none.
        temporal_jitter: Largest shift of the window in time, in frames of the window to either side; 0 for none.
    """

    crop_scale: tuple[float, float] = (0.6, 1.0)
    crop_aspect: tuple[float, float] = (0.8, 1.25)
    flip_probability: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    temporal_jitter: int = 2

    def __post_init__(self) -> None:
        least, most = self.crop_scale
        if not 0 < least <= most <= 1:
            raise ConfigError(
                f"augmentation: crop_scale must be two shares, 0 < least <= most <= 1, got {self.crop_scale}"
            )
        least, most = self.crop_aspect
        if not 0 < least <= most < math.inf:
            raise ConfigError(
                f"augmentation: crop_aspect must be two ratios, 0 < least <= most, got {self.crop_aspect}"
            )
        for name in ("flip_probability", "brightness", "contrast"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augmentation: {name} must be from 0 to 1, got {getattr(self, name)}")
        if self.temporal_jitter < 0:
            raise ConfigError(f"augmentation: temporal_jitter must be at least 0 frames, got {self.temporal_jitter}")

    def decoded_frames(self, num_frames: int) -> int:
        """Compute how many frames a window needs so that `num_frames` are left after the shift in time."""
        return num_frames + 2 * self.temporal_jitter


@dataclass(frozen=True)
class Parameters:
    """The drawn parameters of each clip of a batch, on the CPU.

    Attributes:
        first_frame: First of the frames that are kept, from 0.
        top: Top of the crop, as a share of the frame's height.
        left: Left edge of the crop, as a share of the frame's width.
        height: Height of the crop, as a share of the frame's.
        width: Width of the crop, as a share of the frame's.
        flip: Whether the clip is mirrored horizontally.
        brightness: Factor of the pixels.
        contrast: Factor of their distance from the clip's mean.
    """

    first_frame: Int[Tensor, " B"]
    top: Float[Tensor, " B"]
    left: Float[Tensor, " B"]
    height: Float[Tensor, " B"]
    width: Float[Tensor, " B"]
    flip: Bool[Tensor, " B"]
    brightness: Float[Tensor, " B"]
    contrast: Float[Tensor, " B"]


def augment(
    batch: ClipBatch,
    *,
    settings: AugmentationSettings,
    generator: torch.Generator,
    size: tuple[int, int] | None = None,
) -> ClipBatch:
    """Augment every clip of a batch at random, all its frames alike, and its mask with it.

    Args:
        batch: A batch of `settings.decoded_frames(T)` frames, on any device.
        settings: Ranges.
        generator: Random generator on the CPU; it advances by the same amount per clip whatever the settings.
        size: Height and width of the output in pixels; those of the batch if None.

    Returns:
        A batch with T frames; `frame_numbers` and `times_seconds` are those of the kept frames.

    Raises:
        ConfigError: the batch has too few frames for the shift in time.
    """
    num_frames = batch.video.shape[2] - 2 * settings.temporal_jitter
    if num_frames < 1:
        raise ConfigError(
            f"augmentation: temporal_jitter {settings.temporal_jitter} needs windows of at least "
            f"{settings.decoded_frames(1)} decoded frames, got {batch.video.shape[2]}"
        )
    parameters = draw_parameters(len(batch), settings=settings, generator=generator)
    last = _last_first_frame(batch.frame_numbers.cpu(), num_frames=num_frames)
    parameters = replace(parameters, first_frame=torch.minimum(parameters.first_frame, last))
    return transform(batch, parameters, num_frames=num_frames, size=size)


def _last_first_frame(frame_numbers: Int[Tensor, "B T"], *, num_frames: int) -> Int[Tensor, " B"]:
    """Compute the latest start that does not repeat the last frame more often than necessary."""
    distinct = 1 + (frame_numbers.diff(dim=1) > 0).sum(dim=1)
    return (distinct - num_frames).clamp(min=0)


def draw_parameters(num_clips: int, *, settings: AugmentationSettings, generator: torch.Generator) -> Parameters:
    """Draw the parameters of each clip, uniformly within the settings; the aspect uniformly in its logarithm.

    An aspect that does not fit into the frame at the drawn area is replaced by the nearest one that does.
    """
    chance = torch.rand(num_clips, _NUM_RANDOM, generator=generator, dtype=torch.float64).unbind(dim=1)
    scale = _between(chance[0], *settings.crop_scale)
    log_aspect = _between(chance[1], *map(math.log, settings.crop_aspect)).clamp(scale.log(), -scale.log())
    height = (scale.log() - log_aspect).div(2).exp().clamp(max=1)
    width = (scale.log() + log_aspect).div(2).exp().clamp(max=1)
    return Parameters(
        first_frame=(chance[2] * (2 * settings.temporal_jitter + 1)).long(),
        top=chance[3] * (1 - height),
        left=chance[4] * (1 - width),
        height=height,
        width=width,
        flip=chance[5] < settings.flip_probability,
        brightness=_between(chance[6], 1 - settings.brightness, 1 + settings.brightness),
        contrast=_between(chance[7], 1 - settings.contrast, 1 + settings.contrast),
    )


def _between(chance: Float[Tensor, " B"], least: float, most: float) -> Float[Tensor, " B"]:
    return least + (most - least) * chance


def transform(
    batch: ClipBatch, parameters: Parameters, *, num_frames: int, size: tuple[int, int] | None = None
) -> ClipBatch:
    """Apply drawn parameters: select `num_frames` frames, crop and mirror, then change brightness and contrast."""
    batch = _select_frames(batch, parameters.first_frame, num_frames=num_frames)
    device = batch.video.device
    source = (batch.video.shape[3], batch.video.shape[4])
    height, width = size or source
    grid = _sampling_grid(parameters, size=(height, width), source=source).to(device)
    factors = torch.stack([parameters.brightness, parameters.contrast], dim=1).float().to(device)
    video = batch.video.new_empty(*batch.video.shape[:3], height, width)
    mask = None if batch.mask is None else batch.mask.new_empty(*batch.mask.shape[:2], height, width)
    # One clip at a time fits into a CPU's cache, which is twice as fast; a GPU takes all at once.
    step = 1 if device.type == "cpu" else max(len(batch), 1)
    for start in range(0, len(batch), step):
        rows = slice(start, start + step)
        video[rows] = _transform_pixels(batch.video[rows], grid[rows], factors[rows])
        if mask is not None and batch.mask is not None:
            mask[rows] = _sample(batch.mask[rows].float(), grid[rows]) >= 0.5
    return replace(batch, video=video, mask=mask)


def _select_frames(batch: ClipBatch, first_frame: Int[Tensor, " B"], *, num_frames: int) -> ClipBatch:
    """Select consecutive frames of each clip, in all tensors with a frame axis."""
    columns = (first_frame[:, None] + torch.arange(num_frames)).to(batch.video.device)  # [B, T]
    rows = torch.arange(len(batch), device=columns.device)[:, None]
    return replace(
        batch,
        video=batch.video.transpose(1, 2)[rows, columns].transpose(1, 2).contiguous(),
        frame_numbers=batch.frame_numbers[rows, columns],
        times_seconds=batch.times_seconds[rows, columns],
        mask=None if batch.mask is None else batch.mask[rows, columns],
    )


def _sampling_grid(
    parameters: Parameters, *, size: tuple[int, int], source: tuple[int, int]
) -> Float[Tensor, "B H W 2"]:
    """Compute the source position of each output pixel: x and y, −1 and 1 at the frame's edges.

    Positions beyond the centres of the outermost pixels are clamped to them, because there is nothing to blend with.
    """
    height, width = size
    y = _places(parameters.top, parameters.height, num_pixels=height, of=source[0])  # [B, H]
    x = _places(parameters.left, parameters.width, num_pixels=width, of=source[1])  # [B, W]
    x = torch.where(parameters.flip[:, None], x.flip(1), x)
    shape = (len(x), height, width)
    return torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1).float()


def _places(
    start: Float[Tensor, " B"], length: Float[Tensor, " B"], *, num_pixels: int, of: int
) -> Float[Tensor, "B P"]:
    centres = (torch.arange(num_pixels, dtype=torch.float64) + 0.5) / num_pixels
    outermost = 1 - 1 / of
    return (2 * (start[:, None] + length[:, None] * centres) - 1).clamp(-outermost, outermost)


def _transform_pixels(
    video: UInt8[Tensor, "B C T I J"], grid: Float[Tensor, "B H W 2"], factors: Float[Tensor, "B 2"]
) -> UInt8[Tensor, "B C T H W"]:
    brightness, contrast = factors[:, :, None, None, None, None].unbind(dim=1)  # [B, 1, 1, 1, 1]
    images = _sample(video.float().flatten(1, 2), grid)
    pixels = images.reshape(*video.shape[:3], *images.shape[-2:]) * brightness
    mean = pixels.mean(dim=(1, 2, 3, 4), keepdim=True)
    return (contrast * pixels + (1 - contrast) * mean).round().clamp(0, 255).to(torch.uint8)


def _sample(images: Float[Tensor, "B N I J"], grid: Float[Tensor, "B H W 2"]) -> Float[Tensor, "B N H W"]:
    """Sample all images of a clip at the same positions, bilinearly."""
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
