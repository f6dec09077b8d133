"""How many clips one core renders, beside how many it encodes."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidact.data.synthetic.clips import PRESETS, render_clip
from vidact.data.synthetic.files import _ENCODER_OPTIONS
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.data.video.reading import write_video

NUM_CLIPS = 40
LEAST_PER_SECOND = 100


def _per_second(work: Callable[[int], Any]) -> float:
    work(0)
    start = time.process_time()  # of this process alone, whatever else the machine does
    for number in range(NUM_CLIPS):
        work(number)
    return NUM_CLIPS / (time.process_time() - start)


@pytest.mark.parametrize("num_frames", [16, 64])
def test_a_core_renders_a_hundred_clips_a_second(
    num_frames: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"| {num_frames} frames of 64×64 | rendered, clips per second | encoded |", "| --- | --: | --: |"]
    rates = {}
    for name, preset in PRESETS.items():
        settings = replace(preset, num_frames=num_frames)

        def render(number: int, settings: Any = settings) -> Any:
            return render_clip(CLASS_NAMES[number % len(CLASS_NAMES)], source=number, settings=settings)

        video = render(0).video
        rates[name] = _per_second(render)
        encoded = _per_second(lambda _, v=video: write_video(tmp_path / "a.avi", v, fps=30, options=_ENCODER_OPTIONS))
        lines.append(f"| {name} | {rates[name]:.0f} | {encoded:.0f} |")
    with capsys.disabled():
        print("\n\n" + "\n".join(lines) + "\n")
    assert min(rates.values()) >= LEAST_PER_SECOND, rates
