import pytest
import torch

from vidact.runs.accuracy.predictions import Predictions


def test_a_clips_probabilities_are_the_mean_over_its_windows_however_many_it_has() -> None:
    """Clip 4 has three windows, clip 7 one, clip 9 two; by hand."""
    clip_index = torch.tensor([9, 4, 4, 7, 4, 9])
    scores = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([2, 0, 0, 1, 0, 2])
    found, labels = Predictions(scores, label, clip_index).per_clip()
    softmax = scores.softmax(dim=1)
    expected = [(softmax[1] + softmax[2] + softmax[4]) / 3, softmax[3], (softmax[0] + softmax[5]) / 2]
    torch.testing.assert_close(found, torch.stack(expected))
    assert found.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert labels.tolist() == [0, 1, 2]
