"""Render clips of the synthetic data set, with the ground truth: what acts where and when, and what confounds.

Eight motions (`motions`) of textured discs (`scenes`). Single frames have exactly the same distribution in all classes.
So have sets of frames without their order, unless there are walkers or drift (which leave traces of the order): only
motion tells the classes apart. Mirroring a clip changes its class.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from vidact.core.errors import ConfigError
from vidact.data.synthetic.confounders import (
    KINDS,
    LEAST_FRAMES,
    NUM_CODES,
    Confounder,
    action_room,
    check_code,
    draw_backdrop,
    draw_code,
    find_cut,
    plant,
)
from vidact.data.synthetic.motions import CLASS_NAMES, LENGTH_RANGE, MAX_WALKERS, Motion, draw_motion
from vidact.data.synthetic.scenes import draw_discs, draw_scene
from vidact.data.synthetic.takes import Take, View, describe_truth, film, make_masks, stage_sign

FORMAT_VERSION = 4
# Where a network should look, where it may, and where it must not.
MASK_KINDS = ("strict", "swept", "always", "all_objects", "confounder")


@dataclass(frozen=True)
class SyntheticSettings:
    """Content of a synthetic set; equal settings give equal frames.

    Attributes:
        num_sources: Number of scenes; a scene is a background and a family of textures, and occurs in all classes.
        clips_per_class_and_source: Number of clips of each class in each scene.
        num_frames: Frames of each clip.
        size: Height and width in pixels, even.
        fps: Frames per second.
        seed: Seed of everything random.
        action_frames: Smallest and largest number of frames of an action, at most all of the clip.
        decoys: Whether three more discs make the action's steps in random order; without them the set of a clip's
            frames shows the axis of the motion (not its direction).
        walkers: Number of further discs, at most four, with steps as long as the action's, to and fro and never more
            than two in one direction: equal motion energy.
        blobs: Pairs of a dark and a bright blob that lie still in the background.
        drift: Largest camera drift per frame, as a share of the frame's shorter side.
        cut_probability: Share of clips with a cut to another scene, before or after the action; clips that the action
            fills have none.
        confounder: A sign that correlates with the class, one of `confounders.KINDS`, or None. With shot and cut the
            action ends before any sign's cut (with cut, in the first half); with drift and size all clips without the
            sign have a still camera, or discs of one size.
        agreement: How often the sign is that of the clip's class; at 1/8 it carries no information.
    """

    num_sources: int = 160
    clips_per_class_and_source: int = 1
    num_frames: int = 16
    size: tuple[int, int] = (64, 64)
    fps: int = 30
    seed: int = 0
    action_frames: tuple[int, int] = LENGTH_RANGE
    decoys: bool = True
    walkers: int = 0
    blobs: int = 2
    drift: float = 0.0
    cut_probability: float = 0.0
    confounder: Confounder | None = None
    agreement: float = 1.0

    def __post_init__(self) -> None:
        if self.num_sources < 3:
            raise ConfigError(f"three splits need at least 3 sources, got num_sources {self.num_sources}")
        if min(self.size) < 16 or any(side % 2 for side in self.size):
            raise ConfigError(f"height and width must be even and at least 16 pixels, got size {list(self.size)}")
        if min(self.clips_per_class_and_source, self.num_frames, self.fps) < 1 or self.seed < 0:
            raise ConfigError(f"counts must be at least 1 and the seed at least 0, got {self}")
        if not 1 <= self.action_frames[0] <= self.action_frames[1]:
            raise ConfigError(
                f"action_frames must be the smallest and the largest number, from 1, got {self.action_frames}"
            )
        self._check_scene()

    def _check_scene(self) -> None:
        if not 0 <= self.walkers <= MAX_WALKERS or self.blobs < 0:
            raise ConfigError(f"expected 0 to {MAX_WALKERS} walkers and 0 blobs or more, got {self}")
        if not 0 <= self.cut_probability <= 1 or not 0 <= self.drift <= 0.1:
            raise ConfigError(f"expected a cut_probability in [0, 1] and a drift in [0, 0.1], got {self}")
        if not 1 / NUM_CODES <= self.agreement <= 1:
            raise ConfigError(f"agreement must be from {1 / NUM_CODES:g} (chance) to 1, got {self.agreement:g}")
        if self.confounder is not None:
            self._check_confounder(self.confounder)

    def _check_confounder(self, kind: Confounder) -> None:
        if kind not in KINDS:
            raise ConfigError(f"confounder {kind!r}: unknown; there are {', '.join(KINDS)}")
        if self.num_frames < LEAST_FRAMES.get(kind, 1):
            raise ConfigError(
                f"the confounder {kind} needs num_frames {LEAST_FRAMES[kind]} or more, got {self.num_frames}"
            )
        if (kind == "drift" and self.drift) or (kind in ("shot", "cut") and self.cut_probability):
            name = "drift" if kind == "drift" else "cut_probability"
            raise ConfigError(f"the confounder {kind} says the class by itself only where {name} is 0; set it to 0")

    def record(self) -> dict[str, Any]:
        """Convert to plain values, with the version of the rendering."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"format_version": FORMAT_VERSION, **plain}

    def generator(self, *key: int) -> np.random.Generator:
        """Make the random generator of a scene or a clip, independent of earlier draws."""
        # A spawn key gives each scene and clip its own stream: sets of any size share their first clips.
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


DEMO = SyntheticSettings(num_sources=480, action_frames=(8, 16))
PRESETS = {
    "demo": DEMO,
    "motion": SyntheticSettings(num_sources=960, walkers=1, drift=0.006, cut_probability=0.2),
    "clever-hans": replace(DEMO, num_sources=240, confounder="patch", agreement=0.95),
}


@dataclass(frozen=True)
class RenderedClip:
    """A clip and its ground truth.

    Attributes:
        video: RGB.
        masks: For each of `MASK_KINDS`, True on: the acting disc during the action; what it covers in a frame of the
            action or a neighbouring one; the acting disc in all frames; all discs; the confounder. Hidden parts are in
            none, and pixels of the confounder in no other. The confounder is where pixels differ from those without
            it; dark and drift change the discs too but count as all that is no disc, and size is the acting disc
            with what its change bares, which the other masks hold too.
        truth: The class, the action's frames and all drawn parameters, as plain values; positions are in the scene of
            the action, without camera drift.
        without_confounder: The same clip without its confounder, if it has one.
    """

    video: UInt8[np.ndarray, "T H W 3"] = field(repr=False)
    masks: dict[str, Bool[np.ndarray, "T H W"]] = field(repr=False)
    truth: dict[str, Any]
    without_confounder: UInt8[np.ndarray, "T H W 3"] | None = field(repr=False)


def render_clip(
    class_name: str, *, source: int = 0, index: int = 0, settings: SyntheticSettings, code: int | None = None
) -> RenderedClip:
    """Render one clip of a set.

    With `code`, the same clip shows the sign of that class, all else equal: what a network makes of its own class's
    sign and of another's says how much it really leans on it.

    Args:
        class_name: One of `CLASS_NAMES`.
        source: Number of the scene.
        index: Number of the clip among those of this class in this scene.
        settings: Settings of the set; its numbers of sources and clips do not matter.
        code: Number of the confounder's sign, as its class's in `CLASS_NAMES`; None draws it by `settings.agreement`.

    Raises:
        ConfigError: a code that does not exist, or in a set without a confounder.
    """
    label, kind = CLASS_NAMES.index(class_name), settings.confounder
    generator = settings.generator(source, label, index)
    motion = draw_motion(
        class_name,
        generator=generator,
        num_frames=settings.num_frames,
        length_range=settings.action_frames,
        room=action_room(kind, num_frames=settings.num_frames),
        decoys=settings.decoys,
        walkers=settings.walkers,
    )
    velocity = generator.uniform(-settings.drift, settings.drift, 2) * min(settings.size)  # pixels per frame
    cut = _draw_cut(motion, settings, generator)
    views = [_draw_view(settings, settings.generator(source), generator, motion)]
    if cut is not None:
        second = settings.generator(source, label, index, 1)
        views.append(_draw_view(settings, second, second, motion))
    take = Take(tuple(views), motion, velocity, cut)
    if kind is None:
        if code is not None:
            raise ConfigError(f"code {code} needs a set with a confounder; choose one of {', '.join(KINDS)}")
        video, seen = film(take)
        return RenderedClip(video, make_masks(seen, motion), describe_truth(class_name, take), None)
    chance = settings.generator(source, label, index, 2)
    drawn = draw_code(label, agreement=settings.agreement, generator=chance)
    return _render_confounded(class_name, take, settings, drawn if code is None else code, chance)


def _draw_view(
    settings: SyntheticSettings, scenery: np.random.Generator, generator: np.random.Generator, motion: Motion
) -> View:
    scene = draw_scene(scenery, size=settings.size, blobs=settings.blobs)
    return View(scene, draw_discs(motion, generator=generator, size=settings.size))


def _render_confounded(
    class_name: str, take: Take, settings: SyntheticSettings, code: int, chance: np.random.Generator
) -> RenderedClip:
    """Render a clip with a sign and without it."""
    kind = settings.confounder
    assert kind is not None
    check_code(code)
    plain_take, signed_take = stage_sign(take, kind, code=code, size=settings.size)
    plain, seen = film(plain_take)
    if signed_take is plain_take:
        masks = make_masks(seen, take.motion)
        footage = None
        if kind == "cut":  # the other scene says nothing: it does not depend on the code
            backdrop = draw_backdrop(int(chance.integers(NUM_CODES)), size=settings.size)
            footage = np.broadcast_to(backdrop, plain.shape)
        video, sign = plant(plain, kind=kind, code=code, objects=masks["all_objects"], footage=footage)
    else:
        video, seen = film(signed_take)
        masks = make_masks(seen, take.motion)
        sign = ~masks["all_objects"] if kind == "drift" else masks["always"] | (video != plain).any(axis=-1)
    if kind != "size":  # there the sign is the acting disc
        masks = {name: mask & ~sign for name, mask in masks.items()}
    truth = describe_truth(class_name, signed_take) | {"confounder": {"kind": kind, "class": CLASS_NAMES[code]}}
    if kind == "shot" or kind == "cut":
        truth["cut_frame"] = find_cut(kind, code=code, num_frames=settings.num_frames)
    return RenderedClip(video, masks | {"confounder": sign}, truth, plain)


def _draw_cut(motion: Motion, settings: SyntheticSettings, generator: np.random.Generator) -> int | None:
    """Draw the first frame of the second scene, such that the action is not cut; None without a cut."""
    wanted = generator.random() < settings.cut_probability
    before = np.arange(1, motion.start + 1)
    after = np.arange(motion.start + motion.length, settings.num_frames)
    places = np.concatenate([before, after])
    number = int(generator.integers(max(1, len(places))))
    return int(places[number]) if wanted and len(places) else None
