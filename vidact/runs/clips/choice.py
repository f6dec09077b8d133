"""Which clips of a run `evaluate` and `audit` measure; imports no torch, so that their help answers at once."""

from dataclasses import dataclass
from pathlib import Path

from vidact.core.errors import ConfigError


@dataclass(frozen=True)
class Choice:
    """Which clips a run is measured on.

    Attributes:
        part: The clips that are measured: validation or test; of another data set all clips are.
        root: Another data set, such as one with masks; clips that the run can know are skipped.
        masks_folder: Where the masks are; null for where the run had them, or in or beside the data set.
        num_clips: How many clips at most, equally many of each class, drawn by the seed; null for all.
    """

    part: str = "validation"
    root: str | None = None
    masks_folder: str | None = None
    num_clips: int | None = None

    def __post_init__(self) -> None:
        from vidact.runs.accuracy.parts import STAGES

        if self.part not in STAGES:
            raise ConfigError(f"--part is one of {', '.join(STAGES)}, got {self.part!r}")
        if self.num_clips is not None and self.num_clips < 1:
            raise ConfigError(f"--num_clips is at least 1, or null for all, got {self.num_clips}")
        if self.masks_folder is not None and not Path(self.masks_folder).is_dir():
            raise ConfigError(f"--masks_folder {self.masks_folder}: no such folder")
