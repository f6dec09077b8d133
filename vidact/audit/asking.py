"""Ask a network about a clip and its exchanged versions, in batches over all questions."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidact.audit.factors.clips import Clips
from vidact.audit.factors.places import Alone
from vidact.audit.sections import ACTOR, Exchange, Probe
from vidact.audit.settings import SECTIONS
from vidact.core.errors import ExplanationError
from vidact.runs.clips.chosen import draw_key, seeded_generator

SAME, OTHER, AGAIN = "same", "other", "again"  # donors of the clip's class, of another one, of its class once more
OWN, ALONE, CLEAN = "own", "alone", "clean"
NUM_RANDOM = 2  # donors of each arm for the network with random weights

Question = tuple[str, Tensor]  # a name, and the clips that are shown [N, C, T, H, W], of any number
Answer = tuple[int, float]  # the predicted class, log p of the clip's own class


@dataclass(frozen=True)
class Candidate:
    """A clip as a donor.

    Attributes:
        clip_id: Its name.
        label: Its class.
        source: The video that it was cut from.
        traits: What it has of what a factor may need: an actor whose place is known, a cut.
    """

    clip_id: str
    label: int
    source: str
    traits: frozenset[str] = frozenset({ACTOR})

    def has(self, needs: Sequence[str]) -> bool:
        """Say whether it has all that is needed."""
        return self.traits.issuperset(needs)


def draw_donors(
    clip: Candidate, others: Sequence[Candidate], *, count: int, words: Sequence[object]
) -> dict[str, list[str]]:
    """Draw donors of other sources: of the clip's class, of another one, and of its class once more.

    The two draws of the same class share no donor. They depend on the words, the clip and the candidates alone, not on
    batches or on the order of clips.

    Args:
        clip: Who gets something.
        others: All clips.
        count: How many donors each arm has; where there are fewer, some lend more than once.
        words: Seed and section.

    Returns:
        Their names, by arm; none where there is no donor.
    """
    draw = random.Random(draw_key(0, *map(str, words), clip.clip_id))
    fit = {wants_same: _shuffled(clip, others, draw, wants_same=wants_same) for wants_same in (True, False)}
    half = (len(fit[True]) + 1) // 2
    pools = {SAME: fit[True][:half], OTHER: fit[False], AGAIN: fit[True][half:]}
    return {arm: [pool[number % len(pool)] for number in range(count)] if pool else [] for arm, pool in pools.items()}


def _shuffled(clip: Candidate, others: Sequence[Candidate], draw: random.Random, *, wants_same: bool) -> list[str]:
    fit = sorted(
        other.clip_id for other in others if (other.label == clip.label) == wants_same and other.source != clip.source
    )
    draw.shuffle(fit)
    return fit


def answers(
    network: nn.Module, questions: Iterable[Question], *, label: int, batch_size: int
) -> dict[str, list[Answer]]:
    """Ask a network all questions about a clip, `batch_size` clips at a time.

    Args:
        network: In eval mode.
        questions: Names, each with the clips that are shown.
        label: The clip's class.
        batch_size: Clips at once.
    """
    found: dict[str, list[Answer]] = {}
    for names, videos in _batches(questions, batch_size):
        scores = network(videos).double().log_softmax(dim=1)
        for name, is_finite in zip(names, scores.isfinite().all(dim=1).tolist(), strict=True):
            if not is_finite:
                finding = name.partition("|")[0]
                of = "of the clip as it is" if name == CLEAN else f"with {finding} exchanged ({name})"
                hint = f"; leave {section} out" if (section := finding.partition(".")[0]) in SECTIONS else ""
                raise ExplanationError(f"the network's scores {of} are not finite{hint}")
        pairs = zip(names, scores.argmax(dim=1).tolist(), scores[:, label].tolist(), strict=True)
        for name, predicted, log_probability in pairs:
            found.setdefault(name, []).append((predicted, log_probability))
    return found


def _batches(questions: Iterable[Question], batch_size: int) -> Iterator[tuple[list[str], Tensor]]:
    names: list[str] = []
    waiting: list[Tensor] = []
    for name, videos in questions:
        names += [name] * len(videos)
        waiting.append(videos)
        if len(names) >= batch_size:
            together = torch.cat(waiting)
            for first in range(0, len(names) - batch_size + 1, batch_size):
                yield names[first : first + batch_size], together[first : first + batch_size].contiguous()
            rest = len(names) % batch_size
            names, waiting = names[len(names) - rest :], [together[len(together) - rest :]]
    if names:
        yield names, torch.cat(waiting).contiguous()


@dataclass(frozen=True)
class Plan:
    """Whom a clip's parts come from, by finding, part and arm.

    Attributes:
        clip: The clip.
        donors: Names of donors: `donors["background"]["same"]`; parts of one finding share them.
    """

    clip: Candidate
    donors: Mapping[str, Mapping[str, Sequence[str]]]


def plan(
    clip: Candidate, others: Sequence[Candidate], *, exchanges: Mapping[str, Exchange], donors: int, seed: int
) -> Plan:
    """Draw the donors of a clip for all findings; clips that lack what a finding needs neither get nor lend."""
    drawn: dict[str, Mapping[str, Sequence[str]]] = {}
    for name, exchange in exchanges.items():
        fit = [other for other in others if other.has(exchange.needs)] if clip.has(exchange.needs) else []
        count = exchange.num_donors(donors)
        drawn[name] = draw_donors(clip, fit, count=count, words=(seed, name)) if fit else {}
    return Plan(clip, drawn)


def ask_clip(
    network: nn.Module,
    random_network: nn.Module | None,
    clip: Clips,
    planned: Plan,
    *,
    read: Callable[[str], Clips],
    exchanges: Mapping[str, Exchange],
    probes: Mapping[str, Probe],
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Ask a network about one clip.

    Args:
        network: In eval mode, on the clip's device.
        random_network: The same with random weights; None to leave this control out.
        clip: The clip, B = 1.
        planned: Its donors.
        read: Reads a donor, B = 1.
        exchanges: What is exchanged, by finding.
        probes: What is asked without a donor, by finding.
        batch_size: Clips at once.
        seed: Of what probes draw.

    Returns:
        Plain values: answers by finding, part and arm.
    """
    label = planned.clip.label

    def ask(one: nn.Module, questions: Iterable[Question]) -> dict[str, list[Answer]]:
        return answers(one, questions, label=label, batch_size=batch_size)

    told: list[Question] = [(CLEAN, clip.video)]
    for name, probe in probes.items():
        generator = seeded_generator(seed, planned.clip.clip_id)
        told += [(f"{name}|{way}", videos) for way, videos in probe(clip, generator).items()]
    asked = (_questions(clip, planned, *one, read) for one in exchanges.items())
    found: dict[str, Any] = {"answers": ask(network, _chain(told, *asked))}
    if random_network is not None and exchanges:
        judged = [one for one in exchanges.items() if one[1].is_judged]
        asked = (_questions(clip, planned, *one, read, arms=(SAME, OTHER), most=NUM_RANDOM) for one in judged)
        found["random"] = ask(random_network, _chain(*asked))
    return found


def _chain(*parts: Iterable[Question]) -> Iterator[Question]:
    for part in parts:
        yield from part


def _questions(
    clip: Clips,
    planned: Plan,
    name: str,
    exchange: Exchange,
    read: Callable[[str], Clips],
    *,
    arms: Sequence[str] = (SAME, OTHER, AGAIN, OWN, ALONE),
    most: int | None = None,
) -> Iterator[Question]:
    """Show a clip with each part exchanged; names are finding, part and arm."""
    if not planned.donors[name]:
        return
    arms = arms if exchange.is_judged else (SAME, OTHER)  # what is not judged needs no controls
    donors = {
        arm: Clips.join([read(one) for one in own[:most]])
        for arm, own in planned.donors[name].items()
        if own and arm in arms
    }
    for part, factor in exchange.parts.items():
        for arm, lent in donors.items():
            yield f"{name}|{part}|{arm}", factor.exchange(clip[[0] * len(lent)], lent)
        if OWN in arms and ACTOR in exchange.needs:  # to give a clip its own cell or frames changes nothing
            yield f"{name}|{part}|{OWN}", factor.exchange(clip, clip)
        if ALONE in arms and isinstance(factor, Alone):
            yield f"{name}|{part}|{ALONE}", factor.alone(clip)
