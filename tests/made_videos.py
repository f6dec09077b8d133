"""Videos that are made frame by frame, of any length, without a file."""

from collections.abc import Iterator

import numpy as np

from vidact.data.streaming import Frame


class MadeVideo:
    """Seeded noise that changes from frame to frame; no frame is kept."""

    name = "made"

    def __init__(self, num_frames: int, size: tuple[int, int] = (20, 24)) -> None:
        self.num_frames, self.size = num_frames, size

    @property
    def times_seconds(self) -> tuple[float, ...]:
        return tuple(number / 25 for number in range(self.num_frames))

    def frames(self) -> Iterator[Frame]:
        for number in range(self.num_frames):
            picture = np.random.default_rng(number).integers(0, 256, (*self.size, 3), dtype=np.uint8)
            yield Frame(number, number / 25, picture)
