"""Estimate what a network's answers say: the swap gap of each part, how much of its right answers hang on it, controls.

gap = accuracy with a donor of the clip's class, less accuracy with a donor of another class (as BG-Gap of Xiao et al.
2021, "Noise or signal", for any part of a video). lean = 1 − other / same: the share of right answers that hang on what
the part says of the class. steer = how often the network says of the clip what it says of the donor's part alone, less
how often it says so with the parts of other donors, as a share of what it would be if it went by the part alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vidact.audit.asking import AGAIN, ALONE, CLEAN, OTHER, OWN, SAME
from vidact.audit.results.resampling import Drawn, Estimate, Resamples
from vidact.audit.sections import ORDER, Exchange
from vidact.audit.settings import REGIONS
from vidact.core.intervals import LEVEL

CONTROL_LEVEL = 0.99  # at which two draws of the same kind must not differ
FAMILY = 0.05  # the chance of any false claim

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What exchanging one part showed.

    Attributes:
        lean: Share of right answers that hang on what the part says of the class; its upper end, and that of steer, is
            at least what as many sources cannot exclude.
        steer: How often the network follows the donor's part; None where the part cannot be shown alone.
        gap: Accuracy with donors of the same class, less that with donors of others.
        gap_logp: The same of log p(label).
        same: Accuracy with donors of the same class; of time, of the clips as they are.
        other: Accuracy with donors of other classes; of time, of the reordered clips.
        aa: Difference of two draws of donors of the same class, which is 0 but for chance.
        artefact: Accuracy of the clips as they are, less that with their own part pasted back.
        random: The gap of the network with random weights, which is 0 but for chance.
    """

    lean: Estimate
    steer: Estimate | None
    gap: Estimate
    gap_logp: Estimate | None
    same: Estimate
    other: Estimate
    aa: Estimate | None = None
    artefact: Estimate | None = None
    random: Estimate | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured for one finding.

    Attributes:
        name: Of the finding: `background`, `time.when`.
        parts: By name.
        clips: How many have an answer.
        sources: How many sources they come from.
        donors: Of each arm.
        chance: What guessing would reach on these clips: 1 / K, or the share of the most frequent class.
        present: Share of the clips that have what is exchanged.
        beside: Numbers on which no verdict hangs.
    """

    name: str
    parts: Mapping[str, Part]
    clips: int
    sources: int
    donors: int
    chance: float
    present: float = 1.0
    beside: Mapping[str, Part] = field(default_factory=dict)

    @property
    def main(self) -> str:
        """The part on which most hangs."""
        leans = {name: part.lean for name, part in self.parts.items()}
        return max(leans, key=lambda name: (_or(leans[name].low, -9.0), _or(leans[name].mean, -9.0)))


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def claim_level(*, num_findings: int, num_parts: int) -> float:
    """Compute the level of the interval by which it is claimed that a network leans on something (Bonferroni)."""
    return 1 - FAMILY / (2 * num_findings * num_parts)


def accuracy(records: Sequence[Record], *, resamples: Resamples, level: float) -> Estimate:
    """Estimate the accuracy of the clips as they are."""
    return resamples.estimate(_clean(records, resamples), level=level)


def _clean(records: Sequence[Record], resamples: Resamples) -> Drawn:
    right = [float(record["answers"][CLEAN][0][0] == record["label"]) for record in records]
    return resamples.mean(torch.tensor(right), [record["source"] for record in records])


def measure(
    name: str,
    records: Sequence[Record],
    *,
    exchange: Exchange | None,
    resamples: Resamples,
    num_findings: int,
    num_classes: int,
) -> Measured | None:
    """Estimate one finding from the records of clips; None where no clip has donors.

    Args:
        name: Of the finding.
        exchange: What was exchanged; None for `time.order`.
        records: What `ask_clip` gave, with label, source and donors.
        resamples: Of the clips' sources.
        num_findings: How many are asked, for the level of claims.
        num_classes: K.
    """
    if exchange is None:
        level = claim_level(num_findings=num_findings, num_parts=2)
        found = {way: _order(records, way, resamples, level) for way in ("shuffled", "reversed", "frozen")}
        frozen = {"frozen": found.pop("frozen")}  # no other order, but no motion
        num_sources = len({record["source"] for record in records})
        return Measured(name, found, len(records), num_sources, 0, chance_of(records, num_classes), 1.0, frozen)
    parts = exchange.parts
    used = [
        record for record in records if record["donors"].get(name, {}).get(SAME) and record["donors"][name].get(OTHER)
    ]
    if not used:
        return None
    sources = {record["clip"]: record["source"] for record in records}
    level = claim_level(num_findings=num_findings, num_parts=len(parts))
    found = {
        part: _Exchanged(f"{name}|{part}", name, used, sources, resamples).part(level, len(parts)) for part in parts
    }
    donors = len(used[0]["donors"][name][SAME])
    sources_used = {record["source"] for record in used}
    present = len(used) / len(records) if exchange.needs else 1.0
    return Measured(name, found, len(used), len(sources_used), donors, chance_of(used, num_classes), present)


def chance_of(records: Sequence[Record], num_classes: int) -> float:
    """Compute what guessing reaches on clips: 1 / K, or the share of the most frequent class where that is larger."""
    counts = Counter(record["label"] for record in records)
    return max(1 / num_classes, max(counts.values()) / len(records))


def _order(records: Sequence[Record], way: str, resamples: Resamples, level: float) -> Part:
    """Compare clips as they are with reordered ones."""
    sources, right, log_probability = [], [], []
    for record in records:
        answers = record["answers"][f"{ORDER}|{way}"]
        sources += [record["source"]] * len(answers)
        right += [float(predicted == record["label"]) for predicted, _ in answers]
        log_probability += [own for _, own in answers]
    clean, other = _clean(records, resamples), resamples.mean(torch.tensor(right), sources)
    natural = torch.tensor([record["answers"][CLEAN][0][1] for record in records], dtype=torch.float64)
    own = resamples.mean(natural, [record["source"] for record in records])
    changed = resamples.mean(torch.tensor(log_probability, dtype=torch.float64), sources)

    def estimate(drawn: Drawn) -> Estimate:
        return resamples.estimate(drawn, level=level)

    lean = _excludable(estimate(other.combine(clean, _lean)), len(set(sources)))
    gaps = estimate(clean - other), estimate(own - changed)
    return Part(lean, None, *gaps, _share(estimate(clean)), _share(estimate(other)))


def unseen_share(num_sources: int) -> float:
    """Compute what share of all sources may show something where none of so many does, at a level of 95 %.

    1 − 0.05^(1/n) (Hanley & Lippman-Hand 1983, "If nothing goes wrong, is everything all right?"), which the bootstrap
    of n equal sources does not see.
    """
    share: float = 1 - (1 - LEVEL) ** (1 / num_sources)
    return share


def _excludable(one: Estimate, num_sources: int) -> Estimate:
    """Raise the upper end to what the sources cannot exclude, and lower it to 1."""
    if one.high is None:
        return one
    return replace(one, high=min(1.0, max(one.high, unseen_share(num_sources))))


def _share(one: Estimate) -> Estimate:
    """Keep the ends of an interval between 0 and 1."""
    ends = {name: getattr(one, name) for name in ("low", "high", "wide_low", "wide_high")}
    return replace(one, **{name: end if end is None else min(1.0, max(0.0, end)) for name, end in ends.items()})


def _lean(other: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    return 1 - other / same


class _Exchanged:
    """The pairs of clips and donors of one part."""

    def __init__(
        self, key: str, name: str, records: Sequence[Record], sources: Mapping[str, str], resamples: Resamples
    ) -> None:
        self._key, self._name, self._records, self._resamples = key, name, records, resamples
        self._source = sources
        self._alone = {
            record["clip"]: record["answers"][f"{key}|{ALONE}"][0][0]
            for record in records
            if f"{key}|{ALONE}" in record["answers"]
            and name != REGIONS  # a donor shows its own class's region alone, and lends the clip's
        }

    def _own(self, record: Record) -> int:
        """Give what is said of a clip with its own part pasted back; as it is where that changes nothing."""
        answers = record["answers"]
        predicted: int = answers.get(f"{self._key}|{OWN}", answers[CLEAN])[0][0]
        return predicted

    def _pairs(self, arm: str, of: str = "answers") -> list[tuple[Record, str, Sequence[Any]]]:
        """List a clip's record, its donor and the answer, for each pair that was asked."""
        return [
            (record, donor, answer)
            for record in self._records
            for donor, answer in zip(
                record["donors"][self._name].get(arm, ()),
                record.get(of, {}).get(f"{self._key}|{arm}", ()),
                strict=False,
            )
        ]

    def _mean(self, arm: str, *, of: str = "answers", log_probability: bool = False) -> Drawn:
        pairs = self._pairs(arm, of)
        values = [answer[1] if log_probability else float(answer[0] == record["label"]) for record, _, answer in pairs]
        return self._resamples.mean(
            torch.tensor(values, dtype=torch.float64),
            [record["source"] for record, *_ in pairs],
            ([record["clip"] for record, *_ in pairs], [self._source[donor] for _, donor, _ in pairs]),
        )

    def _steer(self) -> Drawn | None:
        """Compare what is said with a donor's part with what is said with the other donors' parts.

        As a share of what it would be if the network went by the part alone.
        """
        follows, could, sources, clips, donors = [], [], [], [], []
        for record in self._records:
            given = zip(record["donors"][self._name][OTHER], record["answers"][f"{self._key}|{OTHER}"], strict=True)
            said = [(donor, answer[0], self._alone[donor]) for donor, answer in given if donor in self._alone]
            for number, (donor, predicted, alone) in enumerate(said) if len(said) > 1 else ():
                rest = [one for place, one in enumerate(said) if place != number]
                follows.append(float(predicted == alone) - sum(own == alone for _, own, _ in rest) / len(rest))
                could.append(1 - sum(own == alone for *_, own in rest) / len(rest))
                sources.append(record["source"])
                clips.append(record["clip"])
                donors.append(self._source[donor])
        if not follows:
            return None
        drawn = (
            self._resamples.mean(torch.tensor(values, dtype=torch.float64), sources, (clips, donors))
            for values in (follows, could)
        )
        return next(drawn).combine(next(drawn), torch.div)

    def part(self, level: float, num_parts: int) -> Part:
        """Estimate everything."""

        def estimate(drawn: Drawn | None, at: float = level) -> Estimate | None:
            return None if drawn is None else self._resamples.estimate(drawn, level=at)

        same, other = self._mean(SAME), self._mean(OTHER)
        own = [float(self._own(record) == record["label"]) for record in self._records]
        sources = [record["source"] for record in self._records]
        pasted = self._resamples.mean(torch.tensor(own), sources)
        has_random = any(record.get("random") for record in self._records)
        random = self._mean(SAME, of="random") - self._mean(OTHER, of="random") if has_random else None
        control, num_sources = 1 - (1 - CONTROL_LEVEL) / num_parts, len(set(sources))
        found = [estimate(one) for one in (other.combine(same, _lean), same - other, same, other)]
        lean, gap, of_same, of_other = (one for one in found if one is not None)
        steer = estimate(self._steer())
        gap_logp = self._mean(SAME, log_probability=True) - self._mean(OTHER, log_probability=True)
        return Part(
            lean=_excludable(lean, num_sources),
            steer=None if steer is None else _excludable(steer, num_sources),
            gap=gap,
            gap_logp=estimate(gap_logp),
            same=_share(of_same),
            other=_share(of_other),
            aa=estimate(same - self._mean(AGAIN), control) if self._pairs(AGAIN) else None,
            artefact=estimate(_clean(self._records, self._resamples) - pasted),
            random=estimate(random, control),
        )
