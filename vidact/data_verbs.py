"""What each verb of `python -m vidact data` does: plain functions that print, and return an exit status.

It holds no arithmetic. Heavy imports happen when a verb runs, so that its help answers at once.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path


def synthesize(
    out: str,
    num_sources: int | None = None,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    seed: int | None = None,
) -> int:
    """Render the synthetic set: eight motion-only classes as video files in HMDB51's layout.

    Args:
        out: The folder to make.
        num_sources: Scenes, each with a clip of every class.
        num_frames: Frames per clip.
        size: Height and width in pixels, even, as '[64, 64]'.
        seed: Equal seeds give equal clips.
    """
    from vidact.data import synthetic
    from vidact.data.progress import progress_bar

    settings = {"num_sources": num_sources, "num_frames": num_frames, "size": size, "seed": seed}
    chosen = replace(synthetic.DEMO, **{name: value for name, value in settings.items() if value is not None})
    with progress_bar("rendering") as progress:
        synthetic.synthesize(Path(out), settings=chosen, progress=progress)
    print(f"{out}: ready; python -m vidact fit --data.root {out}")
    return 0


VERBS: dict[str, Callable[..., int]] = {"synthesize": synthesize}
