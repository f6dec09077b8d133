"""Evidence that is taken away, on networks whose change is known."""

import torch
from torch import Tensor, nn

from vidact.attribution.registry import build_explainer
from vidact.audit.asking import CLEAN, Candidate
from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.relevance.confused import CONTROL, INSIDE, OUTSIDE, TakeAway, confused_pairs, evidence, without
from vidact.runs.clips.chosen import seeded_generator


class Linear(nn.Module):
    """f_1 − f_0 is a known weight times each voxel."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4 * 16 * 16, 2, bias=False)

    def forward(self, video: Tensor) -> Tensor:
        scores: Tensor = self.layer(video.flatten(1))
        return scores


def _clip() -> Clips:
    video = torch.rand(1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 4, 16, 16, dtype=torch.bool)
    mask[..., 8:] = True
    return with_plate(video, mask, dilation=0)


def test_pairs_are_those_that_are_confused_most() -> None:
    said = [(0, 1, "a"), (0, 1, "b"), (0, 1, "c"), (2, 1, "a"), (2, 1, "a"), (2, 1, "a"), (1, 1, "d"), (1, 2, "d")]
    records = [
        {"label": label, "answers": {CLEAN: [(predicted, 0.0)]}, "source": source} for label, predicted, source in said
    ]
    assert confused_pairs(records) == [(0, 1)], "three clips of one source are one case"


def test_what_is_taken_away_is_the_strongest_and_nothing_else_changes() -> None:
    clip = _clip()
    relevance = torch.zeros(4, 16, 16)
    relevance[1, :2, :2], relevance[2, 4:6, 10:12] = 1.0, 2.0
    found = evidence(clip, relevance, generator=torch.Generator().manual_seed(0))
    assert found[OUTSIDE][1, :2, :2].all()
    assert not found[OUTSIDE][..., 8:].any()
    assert found[INSIDE][2, 4:6, 10:12].all()
    assert not found[INSIDE][..., :8].any()
    for part, in_actor in ((OUTSIDE, False), (INSIDE, True)):
        control = found[f"{part}, {CONTROL}"]
        assert not (control & found[part]).any()
        assert control.sum() == found[part].sum() == round(0.05 * 4 * 64) * 4
        assert not control[..., slice(0, 8) if in_actor else slice(8, 16)].any()
    changed = without(clip, found[OUTSIDE])
    assert torch.equal(changed[0, 0][~found[OUTSIDE]], clip.video[0, 0][~found[OUTSIDE]])
    assert clip.plate is not None
    assert torch.equal(changed[0, 0, 1, :2, :2], clip.plate[0, 0, :2, :2])


def test_the_change_is_that_of_the_scores() -> None:
    torch.manual_seed(0)
    network, clip = Linear(), _clip()
    take = TakeAway({"x": 1}, seed=0)
    with build_explainer("gradient_x_input", network) as explain, torch.no_grad():
        found = take(clip, Candidate("x", 0, "s"), network=network, explain=explain)["confused"]
        assert take(clip, Candidate("y", 0, "s"), network=network, explain=explain) == {}
        weight = (network.layer.weight[1] - network.layer.weight[0]).reshape(4, 16, 16)
        masks = evidence(clip, (weight * clip.video[0, 0]).clamp_min(0), generator=seeded_generator(0, "x"))
        for name, mask in masks.items():
            expected = float((weight * (without(clip, mask) - clip.video)[0, 0]).sum())
            assert abs(found["changes"][name] - expected) < 1e-5, name
