"""Choose what is noted of each clip besides answers, in the first round and in the second."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from vidact.attribution.base import Explainer
from vidact.audit.asking import Candidate
from vidact.audit.factors.clips import Clips
from vidact.audit.jobs import Describe


@dataclass(frozen=True)
class Together:
    """Several descriptions of a clip as one.

    Attributes:
        parts: Each notes values of its own.
    """

    parts: tuple[Describe, ...]

    def __call__(
        self, clip: Clips, candidate: Candidate, *, network: nn.Module, explain: Explainer | None
    ) -> dict[str, Any]:
        """Compute all of them."""
        found: dict[str, Any] = {}
        for part in self.parts:
            found |= part(clip, candidate, network=network, explain=explain)
        return found


def together(parts: Sequence[Describe]) -> Describe | None:
    """Put descriptions together; None where there are none."""
    return Together(tuple(parts)) if parts else None
