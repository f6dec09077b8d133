from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vidact.audit.asking import AGAIN, ALONE, OTHER, OWN, SAME, Candidate, answers, ask_clip, draw_donors, plan
from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.sections import ACTOR, EXCHANGES, ORDER, PROBES, Exchange, reorderings
from vidact.core.errors import ExplanationError

CANDIDATES = [Candidate(f"clip{number}", number % 3, f"scene{number // 4}") for number in range(40)]


class Brightness(nn.Module):
    """Knows two classes by the first pixel, and works in place."""

    def forward(self, video: Tensor) -> Tensor:
        video.mul_(1)
        pixel = video[:, 0, 0, 0, 0]
        return torch.stack([1 - pixel, pixel], dim=1) * 10


def _only(*names: str) -> dict[str, Exchange]:
    return {name: EXCHANGES[name] for name in names}


@given(st.integers(0, 39), st.integers(1, 30), st.randoms())
def test_donors_are_of_other_sources_and_of_the_class_that_is_wanted(number: int, count: int, random) -> None:  # type: ignore[no-untyped-def]
    clip, shuffled = CANDIDATES[number], CANDIDATES[:]
    random.shuffle(shuffled)
    drawn = draw_donors(clip, shuffled, count=count, words=(0, "background"))
    assert drawn == draw_donors(clip, CANDIDATES, count=count, words=(0, "background"))
    by_name = {one.clip_id: one for one in CANDIDATES}
    for arm, donors in drawn.items():
        assert len(donors) == count
        assert all(by_name[donor].source != clip.source for donor in donors)
        assert all((by_name[donor].label == clip.label) == (arm != OTHER) for donor in donors)
        lent = Counter(donors).values()
        assert max(lent) - min(lent) <= 1, "all lend equally often"
    assert not set(drawn[SAME]) & set(drawn[AGAIN]), "two draws that share donors would be equal without a reason"


def test_a_class_without_another_source_has_no_donors() -> None:
    alone = [Candidate("a", 0, "s"), Candidate("b", 0, "s"), Candidate("c", 1, "t")]
    planned = plan(alone[0], alone, exchanges=_only("background"), donors=2, seed=0)
    assert planned.donors["background"] == {SAME: [], OTHER: ["c", "c"], AGAIN: []}
    assert not draw_donors(alone[2], alone, count=2, words=())[SAME]


def test_clips_without_an_actor_neither_get_nor_lend_a_background() -> None:
    clips = [
        Candidate(f"c{number}", number % 2, f"s{number}", frozenset({ACTOR} if number != 3 else ()))
        for number in range(8)
    ]
    planned = [plan(clip, clips, exchanges=_only("background", "cells"), donors=8, seed=0) for clip in clips]
    assert planned[3].donors["background"] == {}
    assert planned[3].donors["cells"][SAME]
    lent = {donor for one in planned for arm in one.donors["background"].values() for donor in arm}
    assert lent == {f"c{number}" for number in range(8)} - {"c3"}


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(1, 9))
def test_answers_do_not_depend_on_batches(sizes: list[int], batch_size: int) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    questions = [(str(number), torch.rand(size, 1, 2, 3, 3, generator=generator)) for number, size in enumerate(sizes)]
    found = answers(Brightness(), [(name, video.clone()) for name, video in questions], label=1, batch_size=batch_size)
    for name, video in questions:
        pixel = video[:, 0, 0, 0, 0]
        assert [predicted for predicted, _ in found[name]] == (pixel > 0.5).long().tolist()
        expected = (torch.stack([1 - pixel, pixel], dim=1).double() * 10).log_softmax(dim=1)[:, 1]
        torch.testing.assert_close(
            torch.tensor([own for _, own in found[name]]).double(), expected, rtol=1e-5, atol=1e-6
        )


def test_a_clip_is_asked_about_in_all_arms() -> None:
    generator = torch.Generator().manual_seed(0)
    clips = {
        one.clip_id: with_plate(torch.rand(1, 1, 8, 16, 16, generator=generator), torch.rand(1, 8, 16, 16) > 0.9)
        for one in CANDIDATES
    }
    exchanges = _only("background", "time.when", "cells", "border")
    planned = plan(CANDIDATES[0], CANDIDATES, exchanges=exchanges, donors=4, seed=0)
    before = {name: clip.video.clone() for name, clip in clips.items()}
    found = ask_clip(
        Brightness(),
        Brightness(),
        clips["clip0"],
        planned,
        read=clips.__getitem__,
        exchanges=exchanges,
        probes={ORDER: PROBES[ORDER]},
        batch_size=5,
        seed=0,
    )
    asked = found["answers"]
    assert {len(asked[f"background|background|{arm}"]) for arm in (SAME, OTHER, AGAIN)} == {4}
    assert {len(asked[f"background|background|{arm}"]) for arm in (OWN, ALONE)} == {1}
    assert len([name for name in asked if name.startswith("cells|")]) == 16 * 3
    assert len(asked[f"{ORDER}|shuffled"]) == 5
    assert len(found["random"]["border|border|same"]) == 2
    # The first pixel is the border's, the first cell's and the first stretch's, and of nothing else.
    clean = asked["clean"]
    assert asked["cells|0,1|same"] == asked["cells|3,3|other"] == asked["time.when|2/8|same"] == clean
    lent = [clips[donor].video[0, 0, 0, 0, 0] > 0.5 for donor in planned.donors["cells"][OTHER]]
    assert [predicted for predicted, _ in asked["cells|0,0|other"]] == [int(value) for value in lent]
    assert all(torch.equal(clips[name].video, video) for name, video in before.items()), "nothing is written into clips"


def test_frozen_and_shuffled_frames_are_the_clips_own() -> None:
    video = torch.arange(7.0).reshape(1, 7, 1, 1)
    found = reorderings(Clips(video[None]), torch.Generator().manual_seed(0))
    assert all(sorted(order.flatten().tolist()) == list(range(7)) for order in found["shuffled"])
    assert found["reversed"].flatten().tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert [sorted(set(still.flatten().tolist())) for still in found["frozen"]] == [[0], [2], [3], [4], [6]]
    assert Clips(video[None])[[0, 0]].video.shape == (2, 1, 7, 1, 1)


def test_scores_that_are_not_finite_are_told() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    videos = torch.full((3, 1, 2, 2, 2), torch.nan)
    with pytest.raises(ExplanationError, match="with time.when exchanged .* are not finite; leave time out"):
        answers(network, [("time.when|1/8|same", videos)], label=0, batch_size=2)
