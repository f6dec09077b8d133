"""Windows of made clips whose frame numbers can be read back from their pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidact.data.checks.measuring import VideoInfo
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
