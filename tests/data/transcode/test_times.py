from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from vidact.data.transcode.times import FINE_TICKS, Clock

THIRTY = Fraction(30)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.sampled_from([".avi", ".mp4"]))
def test_frames_keep_their_times_and_their_order(gaps: list[int], ending: str) -> None:
    """Times on the places of 30 frames a second: exact in AVI too, where two frames follow each other at once."""
    places = [0]
    for gap in (*gaps, 1):
        places.append(places[-1] + gap)
    stamps = [place / 30 for place in places]
    clock = Clock.of(stamps, rate=THIRTY, ending=ending)
    ticks, after = [], -1
    for number in range(len(stamps)):
        ticks.append(after := clock.tick(number, after=after))
    assert all(
        abs(tick / clock.ticks - place / THIRTY) < Fraction(1, 10_000)
        for tick, place in zip(ticks, places, strict=True)
    )


def test_even_frames_are_numbered() -> None:
    """Also where a container knows no times."""
    for stamps in ([number / 30 for number in range(9)], [None] * 9, [0.0, 0.1, 0.05, *[None] * 6]):
        clock = Clock.of(stamps, rate=THIRTY, ending=".mp4")
        assert clock == Clock(THIRTY, THIRTY)
        assert [clock.tick(number, after=number - 1) for number in range(9)] == list(range(9))


def test_a_header_that_is_wrong_is_not_believed() -> None:
    clock = Clock.of([number / 60 for number in range(9)], rate=THIRTY, ending=".mp4")
    assert (clock.ticks, clock.tick(6, after=0)) == (FINE_TICKS, 6000)
    assert Clock.of([number / 60 for number in range(9)], rate=THIRTY, ending=".avi").rate == 60


def test_frames_that_avi_has_no_room_for_come_one_after_the_other() -> None:
    clock = Clock.of([0.0, 0.001, 0.002, 1.0], rate=THIRTY, ending=".avi")
    assert clock.rate == 240
    assert [clock.tick(number, after=number - 1) for number in range(4)] == [0, 1, 2, 240]
