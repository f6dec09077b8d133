"""Set up a clip's views, with and without a sign that has to be rendered, and film them: pixels, masks and truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int8, UInt8

from vidact.data.synthetic.confounders import NEUTRAL_RADIUS, Confounder, actor_radius, drift_velocity
from vidact.data.synthetic.motions import Motion
from vidact.data.synthetic.scenes import Disc, Scene, paint, resize_disc


@dataclass(frozen=True)
class View:
    """What is before the camera."""

    scene: Scene
    discs: list[Disc]


@dataclass(frozen=True)
class Take:
    """All that was drawn for a clip: one or two views, the motion, the camera's velocity and the cut."""

    views: tuple[View, ...]
    motion: Motion
    velocity: Float[np.ndarray, "2"]
    cut: int | None


def film(take: Take) -> tuple[UInt8[np.ndarray, "T H W 3"], Int8[np.ndarray, "T H W"]]:
    """Paint the views, and join them at the cut.

    Returns:
        The video in RGB, and the number of the disc seen at each pixel, −1 for the background.
    """
    shift = np.rint(take.velocity * np.arange(take.motion.steps.shape[1])[:, None]).astype(int)
    (video, seen), *second = (paint(view.scene, view.discs, shift=shift) for view in take.views)
    if take.cut is not None:
        other = slice(None, take.cut) if take.cut <= take.motion.start else slice(take.cut, None)
        video[other], seen[other] = (part[other] for part in second[0])
    return video, seen


def stage_sign(take: Take, kind: Confounder, *, code: int, size: tuple[int, int]) -> tuple[Take, Take]:
    """Set up a clip without and with a sign that has to be rendered; for other signs, twice the same."""
    if kind == "drift":
        return take, replace(take, velocity=drift_velocity(code, size=size))
    if kind == "size":
        side, actor = min(size), take.motion.actor
        plain = [_resize(view, range(len(view.discs)), NEUTRAL_RADIUS * side) for view in take.views]
        signed = [_resize(view, [actor], actor_radius(code) * side) for view in plain]
        return replace(take, views=tuple(plain)), replace(take, views=tuple(signed))
    return take, take


def _resize(view: View, numbers: Sequence[int], radius_pixels: float) -> View:
    discs = [
        resize_disc(disc, radius_pixels=radius_pixels) if number in numbers else disc
        for number, disc in enumerate(view.discs)
    ]
    return replace(view, discs=discs)


def make_masks(seen: Int8[np.ndarray, "T H W"], motion: Motion) -> dict[str, Bool[np.ndarray, "T H W"]]:
    """Find the acting disc during the action, what it covers there or a frame earlier or later, it always, all discs.

    Args:
        seen: The number of the disc seen at each pixel.
        motion: Says which disc acts, and when.
    """
    always = seen == motion.actor
    action = slice(motion.start, motion.start + motion.length)
    strict, swept = np.zeros_like(always), np.zeros_like(always)
    strict[action] = always[action]
    swept[action] = strict[action]
    swept[action][1:] |= strict[action][:-1]
    swept[action][:-1] |= strict[action][1:]
    found = {"strict": strict, "swept": swept, "always": always, "all_objects": seen >= 0}
    return found | {"confounder": np.zeros_like(always)}


def describe_truth(class_name: str, take: Take) -> dict[str, Any]:
    """Write all that was drawn for a clip as plain values."""
    motion = take.motion
    return {
        "class": class_name,
        "action_start": motion.start,
        "action_frames": motion.length,
        "actor": motion.actor,
        "discs": [
            {
                "axis": axis,
                "radius_pixels": disc.radius_pixels,
                "step_pixels": disc.step_pixels,
                "steps": steps.tolist(),
                "centre_pixels": disc.centre.tolist(),
            }
            for axis, disc, steps in zip(motion.axes, take.views[0].discs, motion.steps, strict=True)
        ],
        "camera_velocity_pixels": take.velocity.tolist(),
        "cut_frame": take.cut,
        "confounder": None,
    }
