from dataclasses import replace

import numpy as np
import torch

from vidact.core.clips import ClipBatch
from vidact.training.callbacks.relevance.findings import PREDICTED, Finding, title_of

CLIPS = ClipBatch(
    video=torch.zeros(2, 1, 1, 2, 2, dtype=torch.uint8),
    label=torch.tensor([0, 1]),
    clip_id=("hug/a", "run/b"),
    clip_index=torch.arange(2),
    window_index=torch.arange(2),
    frame_numbers=torch.tensor([[3], [4]]),
    times_seconds=torch.zeros(2, 1),
)


def test_a_title_names_the_clip_and_its_datapoint_name_where_it_has_one() -> None:
    finding = Finding(1, PREDICTED, 1, 2.0, 2.0, 2.0, np.zeros((1, 2, 2)), "lrp")
    plain = title_of(CLIPS, finding, class_names=["hug", "run"])
    assert plain == "lrp: true class run, as predicted, logit 2.00 · run/b"
    named = title_of(replace(CLIPS, datapoint=("vcH0001_3", "vcR0002_4")), finding, class_names=["hug", "run"])
    assert named == f"{plain} · vcR0002_4"
