"""The report is one file that asks for nothing else, says what it leaves out, and takes no name for markup."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_clip, make_run

from vidact.core.errors import EnvironmentProblem, VidactError
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.drawing.figure import RELEVANCE_COLOURS
from vidact.drawing.grid import HOTSPOT_COLOUR
from vidact.report.contents import (
    Interval,
    Outcome,
    RunView,
)
from vidact.report.findings.contents import EvaluationView, MeasureCell, MeasureColumn, MethodRow, Picture
from vidact.report.page import clip_page, report_page, write_page
from vidact.report.players import fair_order, gather_players, make_player
from vidact.report.summary import beats_all, confusion_cells, verdict

NASTY_CLIP = "<img src=x onerror=alert(1)>.avi"
NASTY_CLASS = '"><script>alert(1)</script>'


class Elements(HTMLParser):
    """Collects what a browser would make of a page: elements with their attributes, and texts by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and data.strip():
            self.texts.append((self.elements[-1][0], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run() -> RunView:
    return make_run(num_clips=8)


@pytest.fixture(scope="module")
def page(run: RunView) -> str:
    return report_page([run])


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    parsed = Elements(page)
    addresses = [
        a[name] for _, a in parsed.elements for name in ("src", "href", "action", "data", "poster") if name in a
    ]
    assert addresses
    assert all(address and address.startswith(("#", "data:image/")) for address in addresses)
    assert not re.search(r"https?:|url\(|@import|<link|<iframe|<object|\bfetch\(|XMLHttpRequest|WebSocket", page)
    assert not re.search(r"""["'(]//""", page)


def test_the_policy_allows_this_script_and_this_style_and_nothing_else(page: str) -> None:
    policy = next(a["content"] for a in Elements(page).all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert "unsafe" not in policy
    assert not any(name == "style" or name.startswith("on") for _, a in Elements(page).elements for name in a)


def test_colours_come_from_the_pictures_alone(page: str) -> None:
    constants = json.loads(re.findall(r'id="constants">(.*?)</script>', page)[0])
    assert constants["relevanceColours"] == list(RELEVANCE_COLOURS)
    assert constants["hotspotColour"] == HOTSPOT_COLOUR
    script = re.findall("<script>(.*?)</script>", page, re.DOTALL)[0]
    assert not re.search(r"#[0-9a-fA-F]{6}\b|innerHTML|insertAdjacentHTML|document\.write|\beval\(", script)


names = st.sampled_from(
    [NASTY_CLIP, NASTY_CLASS, "</script><script>alert(1)</script>", "{{ 7 * 7 }}", "'&quot;", "挥手"]
)
texts = st.one_of(names, st.text(max_size=20))


def named_run(name: str) -> RunView:
    clip = make_clip(name, true_class=name, predicted=name, methods=(name,), num_frames=2, size=16)
    share = Interval(1.0, 0.5, 1.0, 1)
    return replace(
        make_run(name, clips=[clip]),
        class_names=(name,),
        outcomes=(Outcome(name, 0, 0, 0.5),),
        per_class=((name, share),),
        baselines=((name, 0.5),),
        facts=((name, name),),
        split=((name, name),),
        left_out=(name,),
        config=name,
        evaluation=named_evaluation(name),
    )


def named_evaluation(name: str) -> EvaluationView:
    row = MethodRow(name, name or "remark", (MeasureCell(name or "1", name or "0 to 2", is_best=True),))
    column = MeasureColumn(name, name or "detail", name, name or "0")
    picture = Picture(name, name, "<svg/>")
    return EvaluationView(name, True, name, (column,), (row,), (row,), (picture,), (name,))


@cache
def plain_page() -> Elements:
    return Elements(report_page([named_run("plain")]))


@given(texts)
def test_no_name_becomes_markup(name: str) -> None:
    expected = plain_page()
    parsed = Elements(report_page([named_run(name)]))
    kinds = [tag for tag, _ in parsed.elements if tag != "wbr"]
    assert kinds == [tag for tag, _ in expected.elements if tag != "wbr"]
    attributes = [sorted(a) for tag, a in parsed.elements if tag != "wbr"]
    assert attributes == [sorted(a) for tag, a in expected.elements if tag != "wbr"]


def test_a_name_that_no_encoding_can_write_is_shown_by_its_number(tmp_path: Path) -> None:
    html = report_page([named_run("bad\udc80name")])
    write_page(html, tmp_path / "report.html")
    assert "bad\\udc80name" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_clips_that_do_not_fit_are_left_out_and_named(run: RunView, page: str) -> None:
    limit = len(page) * 2 // 3
    html = report_page([run], limit_bytes=limit)
    assert len(html.encode()) <= limit
    shown = {a["data-name"] for a in Elements(html).all("article") if "data-name" in a}
    assert 3 <= len(shown) < 8
    assert f"{8 - len(shown)} of 8 clips have no player, for this page to stay within {limit / 1e6:g} MB" in html
    listed = html.split("their names</summary>")[1].split("</ul>")[0]
    missing = {clip.clip_id for clip in run.clips} - shown
    assert all(f"<li>{name}</li>" in listed for name in missing)
    links = json.loads(re.findall(r'id="links">(.*?)</script>', html)[0])
    assert set(links) == shown
    assert "clips have no player" not in page


def test_a_page_that_fits_without_clips_only_still_comes(run: RunView) -> None:
    bare = report_page([replace(run, clips=())])
    html = report_page([run], limit_bytes=len(bare.encode()) + 3000)
    assert "8 of 8 clips have no player" in html
    with pytest.raises(VidactError, match=r"takes \d+ bytes without any clip, more than limit_bytes = 10000"):
        report_page([run], limit_bytes=10_000)


def test_any_number_of_the_first_clips_is_fair() -> None:
    clips = [
        make_clip(
            f"{name}/{kind}{number}",
            true_class=name,
            predicted=name if kind == "right" else "up",
            methods=(),
            num_frames=1,
            size=16,
        )
        for kind, count in (("right", 6), ("wrong", 2))
        for name in ("left", "right", "down")
        for number in range(count)
    ]
    order = [clips[number].clip_id for number in fair_order(gather_players([make_run(clips=clips)], threshold=0.3))]
    assert sorted(order) == sorted(clip.clip_id for clip in clips)
    assert [name.split("/")[1][:5] for name in order[:6]] == ["right", "wrong"] * 3
    assert sorted({name.split("/")[0] for name in order[:6]}) == ["down", "left", "right"]


@pytest.mark.parametrize("empty", ["accuracy", "clips", "everything"])
def test_a_run_without_figures_or_clips_makes_a_page(run: RunView, empty: str) -> None:
    gaps: dict[str, dict[str, Any]] = {
        "accuracy": {"accuracy": None},
        "clips": {"clips": ()},
        "everything": {
            "accuracy": None,
            **dict.fromkeys(("baselines", "facts", "split", "conservation", "per_class", "outcomes"), ()),
            **dict.fromkeys(("pictures", "clips", "left_out", "class_names"), ()),
        },
    }
    html = report_page([replace(run, **gaps[empty])])
    assert ("Accuracy was not measured" in html) == (empty != "clips")
    assert ("No clip is shown" in html) == (empty != "accuracy")


def test_a_clip_without_explanations_or_class_has_a_player() -> None:
    html = clip_page(make_clip("a.mp4", true_class=None, predicted="left", methods=()))
    assert "nobody knows its class" in html


def test_relevance_that_is_not_finite_is_left_out_and_named() -> None:
    clip = make_clip("left/a", true_class="left", predicted="left")
    broken = replace(clip.explanations[0], relevance=np.full_like(clip.explanations[0].relevance, np.nan))
    html = report_page([make_run(clips=[replace(clip, explanations=(broken, *clip.explanations[1:]))])])
    assert f"{broken.method} of left: 65536 voxels are NaN or infinite" in html
    assert "NaN," not in html


def test_scores_that_are_not_finite_are_no_numbers() -> None:
    clip = make_clip("left/a", true_class="left", predicted="left")
    odd = replace(clip.explanations[0], score=float("inf"), conservation=float("nan"))
    data = make_player([("", replace(clip, explanations=(odd,)))], threshold=0.3).data
    explanation = data["runs"][0]["explanations"][0]
    assert (explanation["score"], explanation["conservation"]) == (None, None)


def test_a_threshold_or_a_list_of_runs_that_makes_no_sense_is_refused(run: RunView) -> None:
    with pytest.raises(VidactError, match="at least one run"):
        report_page([])
    with pytest.raises(VidactError, match="threshold from 0 to 1, got 3"):
        report_page([run], threshold=3.0)


def accuracy(low: float, value: float, high: float) -> Interval:
    return Interval(value, low, high, 120)


@pytest.mark.parametrize(
    ("measured", "ending", "better"),
    [
        (accuracy(0.66, 0.742, 0.81), "better than chance and tags alone.", True),
        (accuracy(0.40, 0.50, 0.60), "better than chance, not shown to be better than tags alone.", False),
        (accuracy(0.15, 0.20, 0.30), "better than chance, worse than tags alone.", False),
        (accuracy(0.05, 0.10, 0.14), "worse than chance and tags alone.", False),
    ],
)
def test_the_verdict_compares_with_what_needs_no_pixel(measured: Interval, ending: str, better: bool) -> None:
    run = replace(make_run(clips=[]), accuracy=measured, chance=1 / 7, baselines=(("tags", 0.429),))
    assert verdict(run).endswith(f"chance 14.3 % and tags alone 42.9 %: this network is {ending}")
    assert beats_all(run) is better


def test_the_verdict_has_the_figures_first() -> None:
    run = replace(make_run(clips=[]), accuracy=accuracy(0.66, 0.742, 0.81), baselines=())
    assert verdict(run).startswith("74.2 % [66.0, 81.0] of 120 validation clips; chance 12.5 %: ")


def test_confusion_counts_every_outcome_once(run: RunView) -> None:
    cells = confusion_cells(run.outcomes, num_classes=8)
    assert sum(cell.count for row in cells for cell in row) == len(run.outcomes)
    for outcome in run.outcomes:
        assert cells[outcome.true][outcome.predicted].count > 0
    assert all((cell.shade > 0) == (cell.count > 0) for row in cells for cell in row)


def evaluated(run: RunView) -> RunView:
    return replace(run, evaluation=named_evaluation("lrp"))


def test_an_evaluation_has_a_section_and_a_way_to_it(run: RunView, page: str) -> None:
    assert 'id="evaluation"' not in page
    assert '<a href="#evaluation">' not in page
    html = report_page([evaluated(run)])
    assert "Is the explanation right?" in html
    assert '<a href="#evaluation">Evaluation</a>' in html
    assert '<p class="verdict good">lrp</p>' in html
    assert '<td class="number best"><span>lrp</span><small>lrp</small></td>' in html
    assert '<abbr title="lrp">lrp</abbr>' in html
    assert "controls, which look at no network" in html
    assert "without any knowledge" in html


def test_of_several_runs_those_that_were_evaluated_are_told(run: RunView) -> None:
    html = report_page([run, replace(evaluated(run), name="other")])
    assert "Are the explanations right?" in html
    assert html.count('<div class="card evaluation">') == 1


def test_an_evaluation_without_a_measure_is_told(run: RunView) -> None:
    empty = EvaluationView("nothing was asked", False, "0 clips", (), (), (), ())
    html = report_page([replace(run, evaluation=empty)])
    assert '<p class="verdict doubt">nothing was asked</p>' in html
    assert "Nothing was measured." in html


def test_two_runs_share_a_player_a_picture_and_a_time_line() -> None:
    clip = make_clip("left/a", true_class="left", predicted="up", num_frames=4)
    other = replace(clip, probabilities=(("left", 0.9), ("up", 0.1)), explanations=clip.explanations[1:2])
    (player,) = gather_players([make_run("a", clips=[clip]), make_run("b", clips=[other])], threshold=0.3)
    assert [panel.is_right for panel in player.panels] == [False, True]
    assert player.verdicts == "wrong right"
    assert len(player.data["pictures"]) == 1
    assert player.targets == ("predicted: up", "true: left", "chosen: left vs right")
    first, second = (run["choices"][0] for run in player.data["runs"])
    assert first == [0, 1, 2]
    assert second == [0, 0, -1]  # its predicted class is the true one; nobody explained the chosen pair


def test_runs_with_other_frames_meet_at_the_nearest_moment() -> None:
    clip = make_clip("left/a", true_class="left", predicted="left", methods=(), num_frames=4)
    times = np.array([0.0, 0.1, 0.2, 0.3])
    slow = replace(clip, times_seconds=times)
    fast = replace(clip, times_seconds=times / 2)
    data = make_player([("slow", slow), ("fast", fast)], threshold=0.3).data
    assert data["times"] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.3])
    assert data["runs"][1]["places"] == [0, 1, 2, 3, 3, 3]
    assert set(data["runs"][0]["places"]) == {0, 1, 2, 3}


def test_frames_that_come_twice_keep_their_places() -> None:
    clip = make_clip("left/a", true_class="left", predicted="left", methods=(), num_frames=4)
    data = make_player([("", replace(clip, times_seconds=np.array([0.0, 0.1, 0.1, 0.0])))], threshold=0.3).data
    assert data["times"] == [0.0, 0.1, 0.1, 0.0]
    assert data["runs"][0]["places"] == [0, 1, 2, 3]


def test_a_page_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page("<p>é</p>", tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_bytes() == "<p>é</p>".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(EnvironmentProblem, match="folder: cannot be written .* choose another place"):
        write_page("", tmp_path / "folder")
    assert list(tmp_path.glob(".folder-*")) == []


def test_a_clip_alone_is_a_page_with_the_same_rules() -> None:
    html = clip_page(make_clip(NASTY_CLIP, true_class="left", predicted=NASTY_CLASS))
    parsed = Elements(html)
    assert [a.get("class") for a in parsed.all("article")] == ["clip card"]
    assert parsed.all("img") == []
    assert "Content-Security-Policy" in html


def test_sixty_clips_stay_in_the_order_in_which_the_run_shows_them() -> None:
    clips = [
        make_clip(f"left/{n}", true_class="left", predicted=CLASS_NAMES[n % 8], methods=(), num_frames=1, size=16)
        for n in range(60)
    ]
    html = report_page([make_run(clips=clips)])
    assert [a["data-name"] for a in Elements(html).all("article") if "data-name" in a] == [c.clip_id for c in clips]
