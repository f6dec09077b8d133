from dataclasses import replace
from typing import Any

import pytest
import torch

from vidact.audit.asking import AGAIN, CLEAN, OTHER, OWN, SAME
from vidact.audit.results.findings import Measured, measure
from vidact.audit.results.resampling import Estimate, Resamples
from vidact.audit.results.verdict import (
    CANNOT_SAY,
    DOES_NOT_LEAN,
    LEANS,
    Verdict,
    decide,
    sentence,
    sources_for_absence,
)
from vidact.audit.sections import EXCHANGES

CLASSES, DONORS = 4, 8


def _records(
    reliance: float, *, num_sources: int = 45, artefact: float = 0.0, per_source: int = 4
) -> list[dict[str, Any]]:
    """Answers of a network that goes by the background alone with some probability, and else by the actor."""
    generator = torch.Generator().manual_seed(0)
    label_of = {f"c{number}": number % CLASSES for number in range(per_source * num_sources)}
    source_of = {name: f"s{int(name[1:]) // per_source}" for name in label_of}
    names, records = list(label_of), []

    def draw(share: float) -> bool:
        return bool(torch.rand((), generator=generator) < share)

    for name, label in label_of.items():
        by_background = draw(reliance)

        def answer(background: int, *, by_background: bool = by_background, label: int = label) -> tuple[int, float]:
            return (background if by_background else label), -0.1

        donors: dict[str, list[str]] = {}
        for arm in (SAME, OTHER, AGAIN):
            fit = [
                one for one in names if source_of[one] != source_of[name] and (label_of[one] == label) == (arm != OTHER)
            ]
            donors[arm] = [fit[place] for place in torch.randint(len(fit), (DONORS,), generator=generator).tolist()]
        answers = {
            f"background|background|{arm}": [answer(label_of[one]) for one in own] for arm, own in donors.items()
        }
        pasted = (label + 1) % CLASSES if draw(artefact) else label
        answers |= {CLEAN: [(label, -0.1)], f"background|background|{OWN}": [(pasted, -0.1)]}
        answers["background|background|alone"] = [(label, -0.1)]
        records.append(
            {
                "clip": name,
                "label": label,
                "source": source_of[name],
                "donors": {"background": donors},
                "answers": answers,
            }
        )
    return records


def _of_one_class(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let all clips be of the class that a network always says."""
    for record in records:
        answers = {name: [(0, own) for _, own in given] for name, given in record["answers"].items()}
        record |= {"label": 0, "answers": answers}
    return records


def _decide(records: list[dict[str, Any]], **changes: Any) -> tuple[Measured, Verdict]:
    resamples = Resamples(
        [record["source"] for record in records], generator=torch.Generator().manual_seed(1), num_resamples=2000
    )
    found = measure(
        "background",
        records,
        exchange=EXCHANGES["background"],
        resamples=resamples,
        num_findings=1,
        num_classes=CLASSES,
    )
    assert found is not None
    settings = {"clean": Estimate(1.0, 1.0, 1.0, 1.0, 1.0), "margin": 0.1, "num_findings": 1}
    return found, decide(found, **{**settings, "coverage": 1.0, **changes})


@pytest.mark.parametrize(
    ("reliance", "expected"), [(0.0, DOES_NOT_LEAN), (0.02, DOES_NOT_LEAN), (0.3, LEANS), (1.0, LEANS)]
)
def test_lean_and_steer_are_the_share_of_answers_that_go_by_the_part(reliance: float, expected: str) -> None:
    found, verdict = _decide(_records(reliance))
    part = found.parts["background"]
    assert part.steer is not None
    for estimate in (part.lean, part.steer):
        assert estimate.mean == pytest.approx(reliance, abs=0.08)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= reliance <= estimate.high or reliance in (0.0, 0.02, 1.0)
    assert verdict.verdict == expected, verdict.reason


def test_between_margin_and_interval_nothing_is_said_but_how_many_sources_would_do() -> None:
    _, verdict = _decide(_records(0.13, num_sources=30))
    assert verdict.verdict == CANNOT_SAY
    assert "the interval holds the margin" in verdict.reason
    assert verdict.works


@pytest.mark.parametrize(
    ("records", "changes", "reason"),
    [
        (_records(0.0, num_sources=5), {}, "its clips come from 5 sources, and 7 are needed"),
        (_records(0.0), {"coverage": 0.5}, "only 50.0 % of the frames have an actor"),
        (_of_one_class(_records(0.0)), {}, "the network is not above chance: 100.0 % right, chance is 100.0 %"),
        (_records(0.0, artefact=0.4), {}, "pasting a clip's own part back costs"),
    ],
    ids=["few sources", "no actor", "chance", "artefact"],
)
def test_an_instrument_that_fails_says_so(records: list[dict[str, Any]], changes: dict[str, Any], reason: str) -> None:
    _, verdict = _decide(records, **changes)
    assert (verdict.verdict, verdict.works) == (CANNOT_SAY, False)
    assert reason in verdict.reason


def test_donors_of_the_same_class_that_differ_show_a_broken_instrument() -> None:
    records = _records(0.0)
    for record in records:
        again = record["answers"][f"background|background|{AGAIN}"]
        record["answers"][f"background|background|{AGAIN}"] = [((label + 1) % CLASSES, own) for label, own in again]
    _, verdict = _decide(records)
    assert (verdict.verdict, verdict.works) == (CANNOT_SAY, False)
    assert "two draws of donors of the same class differ by 1.000" in verdict.reason


def test_few_sources_that_show_nothing_exclude_nothing() -> None:
    """Of 20 equal sources the bootstrap has no spread, and one source in eight may still be another."""
    assert sources_for_absence(0.1) == 29
    assert 0.9**28 > 0.05 > 0.9**29
    _, verdict = _decide(_records(0.0, num_sources=20))
    assert verdict.verdict == CANNOT_SAY
    assert "20 sources cannot exclude a lean of 0.1; 29 can" in verdict.reason


def test_a_clip_without_donors_is_nobodys_evidence() -> None:
    records = _records(0.5)
    for record in records:
        record["donors"] = {"background": {SAME: [], OTHER: record["donors"]["background"][OTHER], AGAIN: []}}
    resamples = Resamples([record["source"] for record in records], generator=torch.Generator())
    assert (
        measure(
            "background",
            records,
            exchange=EXCHANGES["background"],
            resamples=resamples,
            num_findings=1,
            num_classes=CLASSES,
        )
        is None
    )
    verdict = decide(None, clean=Estimate(1.0), margin=0.1, num_findings=1, coverage=None)
    assert "no clip has donors" in verdict.reason


def test_the_sentence_names_each_finding_once() -> None:
    said = [
        ("the background", Verdict(LEANS, "x")),
        ("a cell of the frame", Verdict(DOES_NOT_LEAN, "y")),
        ("the border of the frame", Verdict(CANNOT_SAY, "z")),
    ]
    told = sentence("run", said, margin=0.1)
    assert told == (
        "run: leans on the background (x); does not lean on a cell of the frame; nothing can be said of the border of "
        "the frame (margin: 10.0 % of its right answers)"
    )
    assert replace(said[0][1], reason="").works


def test_damage_by_pasting_is_no_lean() -> None:
    """A network that says class 0 wherever the background is another's, and of each background alone."""
    records = _records(0.0)
    generator = torch.Generator().manual_seed(2)
    for record in records:
        for arm in (SAME, OTHER, AGAIN):
            given = record["answers"][f"background|background|{arm}"]
            fails = torch.rand(len(given), generator=generator) < 0.3
            changed = [(0 if fail else label, own) for fail, (label, own) in zip(fails, given, strict=True)]
            record["answers"][f"background|background|{arm}"] = changed
        if int(record["clip"][1:]) % 3 == 0:
            record["answers"]["background|background|alone"] = [(0, -0.1)]
    found, verdict = _decide(records)
    steer = found.parts["background"].steer
    assert steer is not None
    assert steer.low is not None
    assert steer.high is not None
    assert steer.low <= 0 <= steer.high
    assert verdict.verdict == DOES_NOT_LEAN, verdict.reason


def test_what_few_sources_cannot_exclude_is_in_the_interval() -> None:
    """A gate on the upper end must fail where the verdict says nothing: 1 − 0.05^(1/19) is 0.146."""
    for num_sources, expected in ((19, 0.14587), (45, 0.06440)):
        found, verdict = _decide(_records(0.0, num_sources=num_sources))
        lean = found.parts["background"].lean
        assert (lean.mean, lean.low) == (0.0, 0.0)
        assert lean.high == pytest.approx(expected, abs=1e-4)
        assert verdict.verdict == (CANNOT_SAY if num_sources < 29 else DOES_NOT_LEAN)


def test_shares_stay_between_0_and_1() -> None:
    found, _ = _decide(_records(0.5, num_sources=6))
    part = found.parts["background"]
    for one in (part.same, part.other):
        assert one.low is not None
        assert one.high is not None
        assert 0 <= one.low <= one.high <= 1
    assert part.lean.high is not None
    assert part.lean.high <= 1
