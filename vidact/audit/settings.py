"""Settings of `audit`: what is exchanged, and how often; imports no torch, so that its help answers at once."""

from dataclasses import dataclass

from vidact.core.errors import ConfigError, nearest

TIME, BACKGROUND, CELLS, BORDER = "time", "background", "cells", "border"
SECTIONS = (TIME, BACKGROUND, CELLS, BORDER)
AUTO, MOVING, NONE = "auto", "moving", "none"


@dataclass(frozen=True)
class AuditSettings:
    """What is exchanged in a run's clips.

    Attributes:
        sections: What is asked: time, background, cells, border.
        actor: Where the actor is: auto (masks of the data set, else what moves), a folder of masks (as
            --masks_folder), moving, none.
        donors: How many other clips lend each part, of the same class and of another one.
        margin: The share of right answers that may hang on a part before the network is said to lean on it.
        batch_size: Clips that go through the network at once.
        seed: Of all that is drawn at random, together with a clip's id.
    """

    sections: tuple[str, ...] = SECTIONS
    actor: str = AUTO
    donors: int = 8
    margin: float = 0.1
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.sections:
            if name not in SECTIONS:
                near = nearest(name, SECTIONS, at_most=1)
                hint = f"nearest: {near[0]}; " if near else ""
                raise ConfigError(f"--sections: {name!r} is unknown; {hint}there are {', '.join(SECTIONS)}")
        if not self.sections or len(set(self.sections)) < len(self.sections):
            raise ConfigError(
                f"--sections expects one or more of {', '.join(SECTIONS)}, each once; got {list(self.sections)}"
            )
        if self.actor not in (AUTO, MOVING, NONE):
            raise ConfigError(
                f"--actor is auto, moving or none, got {self.actor!r}; a folder of masks is --masks_folder"
            )
        for name, least in (("donors", 2), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.margin < 1:
            raise ConfigError(f"--margin is a share of the right answers between 0 and 1, got {self.margin}")
