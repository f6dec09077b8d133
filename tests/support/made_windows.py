"""Windows of made clips whose frame numbers can be read back from their pixels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidact.core.clips import ClipBatch
from vidact.data.checks.file_inspection import VideoInfo
from vidact.data.datasets.index import Clip
from vidact.data.loading.windows import Window, list_windows

WriteClip = Callable[..., Path]


def make_windows(folder: Path, write_clip: WriteClip) -> list[Window]:
    """Four clips of 20 to 23 frames with B-frames, two windows each."""
    clips, infos = [], {}
    for number in range(4):
        path = folder / "wave" / f"clip {number}.avi"
        write_clip(path, 20 + number, options={"bf": "2", "qmin": "2", "qmax": "2"})
        clips.append(Clip(path, "wave", number % 2, path.stem, None))
        infos[path] = VideoInfo(**measures(20 + number))
    return list_windows(clips, infos, num_frames=4, stride=3, num_windows=2)


def measures(num_frames: int) -> dict[str, Any]:
    """Fill in a measure whose other fields play no part here."""
    known = {"num_frames": num_frames, "header_frames": num_frames, "width": 64, "height": 48, "fps": 30.0}
    known["times_seconds"] = ()
    return {name: known.get(name, "") for name in VideoInfo.__dataclass_fields__}


def made_batch(pixels: np.ndarray, label: Sequence[int], clip: Sequence[int], window: Sequence[int]) -> ClipBatch:
    """Put a row of numbers of each window into its pixels, which a network of the test reads as scores."""
    count = len(label)
    video = torch.zeros(count, 1, 1, 1, pixels.shape[1], dtype=torch.uint8)
    video[:, 0, 0, 0] = torch.from_numpy(pixels.astype(np.uint8))
    return ClipBatch(
        video=video,
        label=torch.tensor(label, dtype=torch.int64),
        clip_id=tuple(f"c/{number}" for number in clip),
        clip_index=torch.tensor(clip, dtype=torch.int64),
        window_index=torch.tensor(window, dtype=torch.int64),
        frame_numbers=torch.zeros(count, 1, dtype=torch.int64),
        times_seconds=torch.zeros(count, 1),
    )
