"""Where the moving region of a single frame comes from."""

from typing import Any

import pytest
import torch

from vidact.audit.actors import reading
from vidact.data.datasets.index import Clip
from vidact.data.loading.windows import Window
from vidact.runs.clips.chosen import ChosenClips
from vidact.runs.run import Run


def test_what_moves_in_a_single_frame_is_seen_in_the_frames_around_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def read(run: Any, window: Window) -> torch.Tensor:
        """A bright square that moves to the right, 4 pixels a frame."""
        asked.append(window.frame_numbers)
        video = torch.zeros(1, len(window.frame_numbers), 40, 40)
        for place, number in enumerate(window.frame_numbers):
            video[0, place, 10:20, 4 * number : 4 * number + 8] = 1
        return video

    monkeypatch.setattr(reading, "read_pixels", read)
    clip = Clip(tmp_path / "run" / "a.avi", "run", 0, "a", None)
    window = Window(clip, 0, (4,), (0.0,), 6)
    chosen = ChosenClips(tmp_path, (window,), None, (), ())
    run = object.__new__(Run)  # nothing of it is read
    found = reading.ClipReader(run, chosen, actor="moving").read(clip.clip_id)
    assert asked == [(4,), (2, 4, 5)]
    assert found.video.shape == (1, 1, 1, 40, 40)
    assert found.mask is not None
    assert found.mask[0, 0, 12:18, 16:24].float().mean() > 0.5
    assert not found.mask[0, 0, 30:].any()
