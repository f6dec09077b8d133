"""Where actors come from: what moves around a single frame, and masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidact.audit.actors import reading
from vidact.audit.actors.moving import choose_kind
from vidact.audit.sections import ACTOR
from vidact.data.datasets.index import Clip
from vidact.data.loading.masks import MaskFolder
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


def test_a_clip_whose_actor_fills_the_frame_counts_as_one_without(tmp_path: Path) -> None:
    """Where no background is left, exchanging it changes nothing, whatever the network leans on."""
    (tmp_path / "masks" / "run").mkdir(parents=True)
    windows = []
    for name, rows in (("all", 8), ("most", 5), ("half", 4), ("none", 0)):
        mask = np.zeros((6, 8, 8), bool)
        mask[:, :rows] = True
        np.savez(tmp_path / "masks" / "run" / f"{name}.npz", actor=mask)
        windows.append(
            Window(Clip(tmp_path / "run" / f"{name}.avi", "run", 0, name, None), 0, (0, 2, 4), (0.0,) * 3, 6)
        )
    chosen = ChosenClips(tmp_path, tuple(windows), MaskFolder(tmp_path / "masks"), (), ())
    run = object.__new__(Run)
    object.__setattr__(run, "config", {"data": {"size": 8}})
    reader = reading.ClipReader(run, chosen, actor=reading.find_actor(chosen, "auto"))
    assert [ACTOR in reader.traits(window, {ACTOR}) for window in windows] == [False, False, True, True]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ({"strict": 20, "always": 20, "actor": 3}, "always"),  # a few odd files do not decide for all
        ({"strict": 20, "always": 20, "actor": 12}, "actor"),
        ({"person": 4, "ball": 4}, "person"),
        ({}, None),
    ],
)
def test_the_kind_of_mask_is_one_that_most_clips_have(kinds: dict[str, int], expected: str | None) -> None:
    assert choose_kind(kinds) == expected
