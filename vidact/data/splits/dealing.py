"""Divide groups of clips into equal parts, so that each part has every class; folds are made with it.

`schemes` makes folds and validation parts with it. All random draws are SHA-256 of the seed and a group's name, and all
sums are of integers: the result depends on neither the machine, nor versions of libraries, nor the order of the groups.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import product

Groups = Mapping[str, Mapping[str, int]]

_ATTEMPTS = 10
_STEPS = 200
_RANDOM_STEP = 3
_SCALE = 10**12


def deal(groups: Groups, *, num_parts: int, least_parts: int, seed: int) -> list[set[str]]:
    """Assign every group to one part.

    One group after the other, rare classes and large groups first, is assigned to the part that has the least of its
    classes (relative to each class's size). If a part then lacks a class, groups are moved; if that does not help,
    another order is tried, and finally fewer parts.

    Args:
        groups: From a group's name to its number of members of each class.
        num_parts: Wanted number of parts.
        least_parts: Smallest acceptable number of parts.
        seed: Seed of the order.

    Returns:
        The groups of each part. If no try put every class into every part, the try with the fewest gaps.
    """
    tries: list[tuple[int, int, int, dict[str, int]]] = []
    for parts, attempt in product(range(num_parts, least_parts - 1, -1), range(_ATTEMPTS)):
        key = (seed, parts, attempt)
        dealt = _deal_once(groups, num_parts=parts, key=key)
        num_gaps, dealt = _close_gaps(dealt, groups, num_parts=parts, key=key)
        tries.append((num_gaps, len(tries), parts, dealt))
        if not num_gaps:
            break
    *_, parts, dealt = min(tries)
    return [{group for group in groups if dealt[group] == part} for part in range(parts)]


def _deal_once(groups: Groups, *, num_parts: int, key: tuple[int, ...]) -> dict[str, int]:
    totals: Counter[str] = Counter()  # from class to its members
    spread: Counter[str] = Counter()  # from class to the groups that have it
    for classes in groups.values():
        totals.update(classes)
        spread.update(classes.keys())
    weights = {name: _SCALE // total**2 for name, total in totals.items()}

    def order(group: str) -> tuple[int, int, int]:
        size = sum(groups[group].values())
        # Sizes up to a power of two: groups of about the same size come in random order, so that seeds matter.
        return min(spread[name] for name in groups[group]), -size.bit_length(), _draw(*key, group)

    dealt = {}
    counts: list[Counter[str]] = [Counter() for _ in range(num_parts)]
    for group in sorted(groups, key=order):
        loads = [
            (_overlap(groups[group], count, weights), count.total(), _draw(*key, group, part))
            for part, count in enumerate(counts)
        ]
        dealt[group] = loads.index(min(loads))
        counts[dealt[group]].update(groups[group])
    return dealt


def _overlap(classes: Mapping[str, int], present: Mapping[str, int], weights: Mapping[str, int]) -> int:
    """Compute half of the increase of the sum of squared shares if a group of these classes joins a part."""
    return sum(count * present[name] * weights[name] for name, count in classes.items())


def _close_gaps(
    dealt: Mapping[str, int], groups: Groups, *, num_parts: int, key: tuple[int, ...]
) -> tuple[int, dict[str, int]]:
    """Move groups until every part has every class, or for a fixed number of steps.

    A random walk like WalkSAT (Selman, Kautz and Cohen 1994): draw a gap (a class that a part lacks), and move one of
    the class's groups there, mostly the one that opens the fewest gaps elsewhere, sometimes any.

    Returns:
        The smallest number of gaps, and the assignment that has it.
    """
    dealt = dict(dealt)
    owners = defaultdict(list)
    present: list[Counter[str]] = [Counter() for _ in range(num_parts)]
    for group, part in dealt.items():
        present[part].update(groups[group].keys())
        for name in groups[group]:
            owners[name].append(group)
    best = len(_list_gaps(present, owners)), dict(dealt)
    for step in range(_STEPS):
        if not best[0]:
            break
        gaps = _list_gaps(present, owners)
        target, name = gaps[_draw(*key, step) % len(gaps)]
        scores = [
            (
                _new_gaps(groups[group], present[dealt[group]], present[target]) if step % _RANDOM_STEP else 0,
                _draw(*key, step, group),
                group,
            )
            for group in owners[name]
        ]
        group = min(scores)[2]
        present[dealt[group]].subtract(groups[group].keys())
        present[target].update(groups[group].keys())
        dealt[group] = target
        num_gaps = len(_list_gaps(present, owners))
        if num_gaps < best[0]:
            best = num_gaps, dict(dealt)
    return best


def _new_gaps(names: Iterable[str], source: Mapping[str, int], target: Mapping[str, int]) -> int:
    """Count the gaps that a move opens, minus those that it closes."""
    return sum((source[name] == 1) - (not target[name]) for name in names)


def _list_gaps(present: list[Counter[str]], names: Iterable[str]) -> list[tuple[int, str]]:
    return [(number, name) for name in sorted(names) for number, part in enumerate(present) if not part[name]]


def _draw(*key: object) -> int:
    """Draw an integer below 2^64, always the same for the same key."""
    text = "\0".join(map(str, key)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
