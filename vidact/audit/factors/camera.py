"""How the camera moves: the background's translation from frame to frame, found by matching neighbouring frames."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from vidact.audit.factors.clips import Clips, dilate, with_plate

SURE = 0.5  # of the difference that other shifts leave: the best one must leave less
LEAST_DETAIL = 1e-6  # variance: a quarter of a gray level
NEAR = 1 / 16  # of the frame's shorter side: shifts that close to the best one are not other ones
PREFERENCE = 1e-9  # variance for each squared pixel: of shifts that are equally good the smallest is taken
LEAST_OVERLAP = 0.5  # of the most pixels that two frames share
CALM = 0.6  # of the background, which fits the last match best: first only that is matched
SLACKS = (0.0, 0.0, 0.0, 2 / 255)  # of four matches: how much worse than that other parts may fit, to be matched too
SURROUNDINGS = 0.09  # of the frame's shorter side: changes are averaged over such a square
MARGIN = 0.25  # of the frame's shorter side: so much that lies beyond the first frame is kept in the plate


def camera_path(clips: Clips, *, dilation: int = 2) -> Float[Tensor, "B T 2"]:
    """Find how the background moves on the frame: pixels down and to the right since the first frame.

    The shifts of neighbouring frames are added up. Where there are masks, the actor is blended out; others who move,
    without a mask, are recognised by fitting the shift less than the rest; without any mask, and where most of what
    has detail moves, the path can be theirs.
    """
    return _track(clips, dilation)[0]


def is_trackable(clips: Clips, *, dilation: int = 2) -> Bool[Tensor, " B"]:
    """Say whether one shift between frames is clearly the best: not without detail, or with stripes or chance alone.

    It is False for a single frame.
    """
    return _track(clips, dilation)[1]


@dataclass(frozen=True)
class Camera:
    """The camera's motion, as a translation: the clip's stabilised background moves as the donor's does.

    The plate is the median over the frames, moved back by their own path; what no frame shows gets the nearest colour.
    The actor is pasted at its own place. Rotation, zoom and parallax are not followed.

    Attributes:
        dilation: Pixels by which the actor's mask grows, so that its edge goes with it.
    """

    dilation: int = 2

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Move the clip's plate by the donor's path, behind the clip's actor.

        Raises:
            ValueError: there are no masks.
        """
        actor = clips.actor(self.dilation)
        return torch.where(actor, clips.video, self._moved(clips, camera_path(donors, dilation=self.dilation)))

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Move the clip's plate by its own path, without the actor."""
        return self._moved(clips, camera_path(clips, dilation=self.dilation))

    def _moved(self, clips: Clips, path: Float[Tensor, "B T 2"]) -> Float[Tensor, "B C T H W"]:
        margin = round(MARGIN * min(clips.video.shape[3:]))
        plate = self._stabilised(clips, margin)
        still = plate[:, :, None].expand(-1, -1, path.shape[1], -1, -1)
        height, width = clips.video.shape[3:]
        return _shift(still, path)[..., margin : margin + height, margin : margin + width]

    def _stabilised(self, clips: Clips, margin: int) -> Float[Tensor, "B C P Q"]:
        """Compute the plate as the first frame saw it, with a margin around it."""
        seen = _seen(clips, self.dilation)
        around = (margin,) * 4 + (0, 0)
        back = -camera_path(clips, dilation=self.dilation)
        video = _shift(F.pad(clips.video * seen, around), back)
        weight = _shift(F.pad(seen, around), back)
        hidden = weight[:, 0] < 0.5
        plate = with_plate(video / weight.clamp_min(0.5), hidden, dilation=0).plate
        assert plate is not None
        return plate


def _seen(clips: Clips, dilation: int) -> Float[Tensor, "B 1 T H W"]:
    """Give 1 on the background and 0 on the actor."""
    if clips.mask is None:
        return torch.ones_like(clips.video[:, :1])
    return 1 - dilate(clips.mask, dilation)[:, None].to(clips.video)


def _track(clips: Clips, dilation: int) -> tuple[Float[Tensor, "B T 2"], Bool[Tensor, " B"]]:
    """Find the path, and whether it is sure.

    It is where, in the median over pairs of frames, the best shift leaves less than half of the difference that any
    shift leaves that is a few pixels away.
    """
    batch, _, count, height, width = clips.video.shape
    path = clips.video.new_zeros(batch, count, 2)
    reach = max(1, height // 4), max(1, width // 4)
    if count < 2 or min(height, width) < 4:
        return path, torch.zeros(batch, dtype=torch.bool, device=path.device)
    gray, seen = clips.video.mean(dim=1), _seen(clips, dilation)[:, 0]
    step = path[:, 1:]
    for slack in SLACKS:
        calm = _calm(gray, seen, step, slack=slack)
        left_over = _differences(gray, (seen[:, :-1] * calm, seen[:, 1:]), reach)  # [B, T - 1, P, Q]
        best, place = left_over.flatten(2).min(dim=2)
        columns = left_over.shape[3]
        middle = place // columns, place % columns
        steps = [_valley(left_over, middle, axis=axis) - reach[axis] for axis in (0, 1)]
        # Where no pixel is seen in both frames, nothing is known to move.
        step = torch.stack(steps, dim=-1).masked_fill(best.isinf()[..., None], 0).to(path)
    path[:, 1:] = step.cumsum(dim=1)
    away = [
        (torch.arange(size, device=place.device) - at[..., None]).abs() >= max(2, round(NEAR * min(height, width)))
        for size, at in zip(left_over.shape[2:], middle, strict=True)
    ]
    others = left_over.masked_fill(~(away[0][..., None] | away[1][..., None, :]), torch.inf).flatten(2).amin(dim=2)
    return path, (best / others.clamp_min(1e-12)).median(dim=1).values.lt(SURE) & (
        others.median(dim=1).values > LEAST_DETAIL
    )


def _calm(
    gray: Float[Tensor, "B T H W"], seen: Float[Tensor, "B T H W"], step: Float[Tensor, "B pairs 2"], *, slack: float
) -> Bool[Tensor, "B pairs H W"]:
    """Mark the share of each pair's background that, once it has made a step, differs least: the rest may act, too."""
    reach = max(1, round(SURROUNDINGS * min(gray.shape[2:]) / 2))
    change = (_shift(gray[:, None, 1:], -step)[:, 0] - gray[:, :-1]).abs() * seen[:, :-1]
    change = F.avg_pool2d(change, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    is_hidden = (seen[:, :-1] == 0).flatten(2)
    count = (CALM * (~is_hidden).sum(dim=2, keepdim=True)).long().clamp_min(1)
    most = change.flatten(2).masked_fill(is_hidden, torch.inf).sort(dim=2).values.gather(2, count - 1)
    return change <= most[..., None] + slack


def _differences(
    gray: Float[Tensor, "B T H W"],
    weights: tuple[Float[Tensor, "B pairs H W"], Float[Tensor, "B pairs H W"]],
    reach: tuple[int, int],
) -> Float64[Tensor, "B pairs P Q"]:
    """Compute the variance of the difference of neighbouring frames, of pixels with weights, for each whole shift.

    By Fourier transforms, as Padfield (2012) does for masked correlation; frames do not wrap around. A change of
    brightness is no difference.
    """
    size = [side + far for side, far in zip(gray.shape[2:], reach, strict=True)]
    gray = gray.double() - 0.5
    (one, value, square), (next_one, next_value, next_square) = (
        [torch.fft.rfft2(weight * part, s=size) for part in (torch.ones_like(frames), frames, frames**2)]
        for weight, frames in zip(weights, (gray[:, :-1], gray[:, 1:]), strict=True)
    )
    one, value, square = (wave.conj() for wave in (one, value, square))
    weight = _sums(one * next_one, size, reach)
    total = weight.clamp_min(0.5)
    mean = _sums(one * next_value - value * next_one, size, reach) / total
    squares = _sums(one * next_square + square * next_one - 2 * value * next_value, size, reach)
    found = squares / total - mean**2
    least = LEAST_OVERLAP * weight.amax(dim=(2, 3), keepdim=True)
    down, right = (torch.arange(-far, far + 1, device=gray.device) for far in reach)
    found = found.clamp_min(0) + PREFERENCE * (down[:, None] ** 2 + right**2)
    return found.masked_fill(weight < least.clamp_min(1), torch.inf)


def _sums(waves: Tensor, size: list[int], reach: tuple[int, int]) -> Float64[Tensor, "B pairs P Q"]:
    """Transform products of waves back to sums over the frame, for each shift from −reach to reach."""
    found: Tensor = torch.fft.irfft2(waves, s=size).roll(reach, (2, 3))
    return found[..., : 2 * reach[0] + 1, : 2 * reach[1] + 1]


def _valley(
    left_over: Float64[Tensor, "B pairs P Q"], middle: tuple[Tensor, Tensor], *, axis: int
) -> Float64[Tensor, "B pairs"]:
    """Find the lowest place along an axis, by a parabola through the lowest whole one and its neighbours."""
    columns, size = left_over.shape[3], left_over.shape[2 + axis]
    at, stride = middle[axis], columns if axis == 0 else 1
    whole = at.clamp(1, size - 2)
    place = middle[0] * columns + middle[1] + (whole - at) * stride
    low, lowest, high = (
        left_over.flatten(2).gather(2, (place + step * stride)[..., None])[..., 0] for step in (-1, 0, 1)
    )
    bend = low - 2 * lowest + high
    is_inside = (whole == at) & (bend > 1e-12) & bend.isfinite()
    return at + torch.where(is_inside, 0.5 * (low - high) / bend.clamp_min(1e-12), 0.0).clamp(-0.5, 0.5)


def _shift(video: Float[Tensor, "B C T H W"], path: Float[Tensor, "B T 2"]) -> Float[Tensor, "B C T H W"]:
    """Move frames by so many pixels down and to the right, through a bilinear filter; edges are repeated."""
    batch, channels, count, height, width = video.shape
    grid = torch.stack(
        [
            _places(width, path[..., 1]).view(-1, 1, width).expand(-1, height, -1),
            _places(height, path[..., 0]).view(-1, height, 1).expand(-1, -1, width),
        ],
        dim=-1,
    )
    frames = video.transpose(1, 2).reshape(-1, channels, height, width)
    moved = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
    return moved.view(batch, count, channels, height, width).transpose(1, 2)


def _places(size: int, shift: Float[Tensor, "B T"]) -> Float[Tensor, "B T N"]:
    """Compute where pixels come from, as `grid_sample` counts: −1 and 1 are the frame's outer edges."""
    pixels = torch.arange(size, device=shift.device) - shift[..., None]
    return (2 * pixels + 1) / size - 1
