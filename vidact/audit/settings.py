"""Settings of `audit`: what is exchanged, and how often; imports no torch, so that its help answers at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vidact.core.errors import ConfigError, nearest
from vidact.runs.clips.choice import Choice

TIME, BACKGROUND, DARKNESS, CUTS, BORDER, CELLS = "time", "background", "darkness", "cuts", "border", "cells"
CAMERA, SCALE, SPEED = "camera", "scale", "speed"
REGIONS, TAGS, CONFUSED, CLUSTERS = "regions", "tags", "confused", "clusters"
OBJECTS = "objects"  # asked where --objects names some
CONCEPTS = "concepts"
DESCRIBED = (TAGS, CONFUSED, CLUSTERS, CONCEPTS)  # these describe, and end in no verdict
DEFAULT = (TIME, BACKGROUND, DARKNESS, CUTS, BORDER, CELLS, REGIONS, TAGS, CONFUSED, CLUSTERS)
SECTIONS = (*DEFAULT, CAMERA, SCALE, SPEED, OBJECTS, CONCEPTS)
OVER_TIME = (TIME, CUTS, CAMERA, SPEED)  # these need more than a frame
AUTO, MOVING, NONE = "auto", "moving", "none"
TORCHVISION, POSE = "torchvision", "pose:"


@dataclass(frozen=True)
class AuditSettings:
    """What is exchanged in a run's clips.

    Attributes:
        sections: What is asked: time, background, darkness, cuts, border, cells, regions, tags, confused, clusters; on
            request also camera, scale, speed, concepts; objects, where --objects names some.
        actor: Where the actor is: auto (masks of the data set, else what moves), moving, none, torchvision (Mask R-CNN,
            whose weights are downloaded), pose:PLACE (MediaPipe's networks; the wheel mediapipe-0.10.21-*.whl or a
            folder with them), or a folder of masks, as --masks_folder.
        objects: Folders with the masks of objects, as {punching_bag: bags/}; each object is exchanged, too. A clip
            without a mask has no such object.
        donors: How many other clips lend each part, of the same class and of another one.
        margin: The share of right answers that may hang on a part before the network is said to lean on it.
        batch_size: Clips that go through the network at once.
        seed: Of all that is drawn at random, together with a clip's id.
        layer: Whose channels are the concepts, as network.stages.3; null for the last one with maps or tokens.
        method: What explains clips for regions, confused, clusters and concepts: auto (what `evaluate` says can be
            trusted), or a method by name, as lrp:epsilon_plus.
    """

    sections: tuple[str, ...] = DEFAULT
    actor: str = AUTO
    objects: dict[str, str] | None = None
    donors: int = 8
    margin: float = 0.1
    batch_size: int = 32
    seed: int = 0
    layer: str | None = None
    method: str = AUTO

    def __post_init__(self) -> None:
        for name in self.sections:
            if name not in SECTIONS:
                near = nearest(name, SECTIONS, at_most=1)
                hint = f"nearest: {near[0]}; " if near else ""
                raise ConfigError(f"--sections: {name!r} is unknown; {hint}there are {', '.join(SECTIONS)}")
        if len(set(self.sections)) < len(self.sections):
            raise ConfigError(f"--sections expects each section once, got {list(self.sections)}")
        _check_actor(self.actor)
        _check_objects(self.objects or {})
        if OBJECTS in self.sections and not self.objects:
            raise ConfigError("--sections: objects need masks; name them as --objects '{ball: FOLDER}'")
        for name, least in (("donors", 2), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.margin < 1:
            raise ConfigError(f"--margin is a share of the right answers between 0 and 1, got {self.margin}")


def _check_actor(actor: str) -> None:
    if actor in (AUTO, MOVING, NONE, TORCHVISION):
        return
    if actor.startswith(POSE):
        if not Path(actor.removeprefix(POSE)).exists() or actor == POSE:
            raise ConfigError(
                f"--actor {actor}: no such file; expected pose:PLACE of mediapipe-0.10.21-*.whl, which `pip download "
                "mediapipe==0.10.21 --no-deps` brings, or of a folder with its networks"
            )
    elif not actor or not Path(actor).is_dir():
        raise ConfigError(
            f"--actor is auto, moving, none, torchvision, pose:WHEEL or a folder of masks, got {actor!r}, which is no "
            "folder"
        )


def _check_objects(objects: Mapping[str, str]) -> None:
    for name, folder in objects.items():
        if not name.isidentifier():
            raise ConfigError(f"--objects: a name is one of letters, digits and _, got {name!r}")
        if not Path(folder).is_dir():
            raise ConfigError(f"--objects {name}: {folder} is no folder; expected masks as --masks_folder has them")


def with_masks_of_actor(settings: AuditSettings, choice: Choice) -> tuple[AuditSettings, Choice]:
    """Turn `--actor FOLDER` into `--masks_folder FOLDER`, which means the same; other settings stay.

    Raises:
        ConfigError: both name a folder.
    """
    if settings.actor in (AUTO, MOVING, NONE, TORCHVISION) or settings.actor.startswith(POSE):
        return settings, choice
    if choice.masks_folder is not None:
        raise ConfigError(
            f"--actor {settings.actor} and --masks_folder {choice.masks_folder} both name a folder of masks; give one"
        )
    return replace(settings, actor=AUTO), replace(choice, masks_folder=settings.actor)
