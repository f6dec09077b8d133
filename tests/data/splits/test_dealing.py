from collections import Counter
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from vidact.data.splits.dealing import Groups, deal


@st.composite
def small_groups(draw: st.DrawFn) -> Groups:
    """Few groups that share few classes: often just possible, often just not."""
    names = [f"c{number}" for number in range(draw(st.integers(1, 5)))]
    members = st.dictionaries(st.sampled_from(names), st.integers(1, 4), min_size=1, max_size=3)
    return {f"g{number}": draw(members) for number in range(draw(st.integers(3, 7)))}


def _covers(groups: Groups, parts: list[set[str]]) -> bool:
    names = set().union(*groups.values())
    return all(any(name in groups[group] for group in part) for part in parts for name in names)


def _can_be_covered(groups: Groups, num_parts: int) -> bool:
    """Try every way there is."""
    for ways in product(range(num_parts), repeat=len(groups)):
        parts = [{g for g, way in zip(groups, ways, strict=True) if way == number} for number in range(num_parts)]
        if _covers(groups, parts):
            return True
    return False


@settings(deadline=None, max_examples=40)
@given(small_groups(), st.integers(2, 3), st.integers(0, 3))
def test_every_class_is_in_every_part_whenever_any_way_of_dealing_does_that(
    groups: Groups, num_parts: int, seed: int
) -> None:
    parts = deal(groups, num_parts=num_parts, least_parts=num_parts, seed=seed)
    assert Counter(group for part in parts for group in part) == Counter(groups.keys())
    assert len(parts) == num_parts
    assert _covers(groups, parts) == _can_be_covered(groups, num_parts)


def test_fewer_parts_are_made_where_classes_share_their_groups() -> None:
    pairs = {"1": "ab", "2": "ac", "3": "bc", "4": "a", "5": "b", "6": "c"}
    groups = {group: dict.fromkeys(names, 1) for group, names in pairs.items()}
    assert not _can_be_covered(groups, 4)
    assert len(deal(groups, num_parts=4, least_parts=3, seed=0)) == 3


def test_where_nothing_serves_the_gaps_are_few() -> None:
    groups = {"1": {"a": 1, "b": 1}, "2": {"a": 1}, "3": {"b": 1}}
    parts = deal(groups, num_parts=3, least_parts=3, seed=0)
    gaps = sum(not any(name in groups[group] for group in part) for part in parts for name in "ab")
    assert gaps == 2


def test_each_class_is_spread_evenly() -> None:
    groups = {f"{name}{number}": {name: 1 + number % 7} for name in "abc" for number in range(60)}
    parts = deal(groups, num_parts=5, least_parts=5, seed=0)
    for name in "abc":
        sizes = [sum(groups[group].get(name, 0) for group in part) for part in parts]
        assert max(sizes) - min(sizes) <= 4, sizes


def test_the_order_of_the_groups_changes_nothing_and_the_seed_does() -> None:
    groups = {f"g{number}": {"ab"[number % 2]: 1 + number % 5} for number in range(40)}
    turned = dict(reversed(groups.items()))
    assert deal(groups, num_parts=4, least_parts=3, seed=1) == deal(turned, num_parts=4, least_parts=3, seed=1)
    assert deal(groups, num_parts=4, least_parts=3, seed=1) != deal(groups, num_parts=4, least_parts=3, seed=2)
