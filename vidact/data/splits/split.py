"""Define `Split`, the clips of training, validation and test, and how they were chosen."""

from dataclasses import dataclass
from typing import Literal

from vidact.data.datasets.index import Clip
from vidact.data.splits.kept_out import KeptOut

SplitScheme = Literal["official", "source", "film", "clip", "kfold", "table", "folders"]
NUM_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Disjoint parts of a data set, and how they were made.

    Attributes:
        training: Clips to train on.
        validation: Clips to choose a checkpoint by.
        test: Clips to measure the final network on.
        unused: Clips on no side.
        scheme: One of `SplitScheme`.
        fold: Number of the test fold, from 1.
        num_folds: Number of folds.
        seed: Seed of the draws.
        notes: Anything unusual, one line each.
        kept_out: Clips that may neither train nor validate, because another data set tests on their films.
    """

    training: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]
    unused: tuple[Clip, ...] = ()
    scheme: SplitScheme = "source"
    fold: int = 1
    num_folds: int = NUM_FOLDS
    seed: int = 0
    notes: tuple[str, ...] = ()
    kept_out: KeptOut | None = None

    @property
    def sides(self) -> dict[str, tuple[Clip, ...]]:
        """The three sides by name."""
        return {"training": self.training, "validation": self.validation, "test": self.test}

    @property
    def side_of(self) -> dict[str, str]:
        """From clip id to side, without unused clips."""
        return {clip.clip_id: name for name, side in self.sides.items() for clip in side}

    def lines(self) -> list[str]:
        """Describe the split, one string per line."""
        sizes = ", ".join(f"{len(side)} {name}" for name, side in self.sides.items())
        made = f"split {self.scheme}, fold {self.fold} of {self.num_folds}, seed {self.seed}"
        return [f"{made}: {sizes}, {len(self.unused)} unused clips", *(f"  {note}" for note in self.notes)]
