"""The report in a real browser, from a file, with the network off. No test waits for a time, only for what it sees."""

import html as markup
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_evaluations import make_evaluation
from made_runs import make_clip, make_run
from playwright.sync_api import Browser, Dialog, Locator, Page, expect, sync_playwright

from vidact.report.contents import ClipView, Outcome, RelevanceView, RunView
from vidact.report.findings.evaluation_view import view_evaluation
from vidact.report.page import clip_page, report_page, write_page

NASTY_CLIP = "<img src=x onerror=alert(1)>.avi"
NASTY_CLASS = '"><script>alert(1)</script>'
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

OpenPage = Callable[..., Page]

# A browser that hangs cannot be interrupted by a signal: the thread ends the run and says where.
pytestmark = pytest.mark.timeout(300, method="thread")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = os.environ.get("VIDACT_CHROMIUM") or shutil.which("chromium")
    if executable is None:
        missing = "no chromium: install it, or name one in VIDACT_CHROMIUM"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Open a page from a file, offline; at the end, it must have made no error, no dialog and no request."""
    troubles: list[str] = []
    contexts = []

    def dismiss(dialog: Dialog) -> None:
        troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open_it(html: str, *, width: int = 1280, scheme: str = "light", **options: str) -> Page:
        path = tmp_path / "report.html"
        write_page(html, path)
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", dismiss)
        page.on("request", lambda request: note_request(request.url))
        page.goto(path.as_uri())
        return page

    def note_request(url: str) -> None:
        if not url.startswith(("file:", "data:")):
            troubles.append(f"request: {url[:200]}")

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(scope="module")
def run() -> RunView:
    return make_run(num_clips=6)


@pytest.fixture(scope="module")
def one_run(run: RunView) -> str:
    return report_page([run])


def ready(page: Page, number: int = 0) -> Locator:
    """Bring a clip's player near and wait until it shows something."""
    clip = page.locator("article.clip").nth(number)
    clip.scroll_into_view_if_needed()
    expect(clip).to_have_attribute("data-state", "ready")
    return clip


def wrong_clip(page: Page) -> Locator:
    """A clip that is taken for another class, so that its predicted and its true class can be explained."""
    number = page.locator("article.clip").evaluate_all("all => all.findIndex(a => a.dataset.verdicts === 'wrong')")
    return ready(page, number)


# A copy, so that reading does not make Chromium warn of slow reading of the page's own canvas.
READ_PIXEL = """(canvas, [x, y]) => {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return [...context.getImageData(x, y, 1, 1).data].slice(0, 3);
}"""


def pixel(canvas: Locator, x: float, y: float) -> tuple[int, ...]:
    return tuple(canvas.evaluate(READ_PIXEL, [x, y]))


def picture(canvas: Locator) -> str:
    return str(canvas.evaluate("canvas => canvas.toDataURL()"))


def some_frames_later(page: Page) -> None:
    page.evaluate("""() => {
      let left = 40;
      const next = () => {
        document.documentElement.dataset.framesLeft = left;
        if (left--) requestAnimationFrame(next);
      };
      next();
    }""")
    expect(page.locator("html")).to_have_attribute("data-frames-left", "0")  # gives up, where a promise would not


def test_it_opens_and_plays_nothing_by_itself(open_page: OpenPage, one_run: str) -> None:
    page = open_page(one_run)
    expect(page.locator("h1")).to_have_text("version_0")
    expect(page.locator(".verdict")).to_contain_text("this network is better than chance")
    clip = ready(page)
    some_frames_later(page)
    assert clip.locator(".scrubber").input_value() == "0"
    assert page.locator("[data-playing=yes]").count() == 0


def test_play_advances_every_picture_and_pause_stops(open_page: OpenPage, one_run: str) -> None:
    page = open_page(one_run)
    clip = ready(page)
    canvases = [clip.locator(f"canvas.{name}") for name in ("original", "overlay", "heatmap")]
    before = [picture(canvas) for canvas in canvases]
    clip.locator("[data-choice=speed]").select_option("2")
    clip.get_by_role("button", name="Play").click()
    expect(clip.locator(".now")).to_have_attribute("aria-live", "off")
    expect(clip.locator(".scrubber")).to_have_value(re.compile(r"[3-9]|1\d"))
    clip.get_by_role("button", name="Pause").click()
    stopped = clip.locator(".scrubber").input_value()
    expect(clip.locator(".now")).to_have_attribute("aria-live", "polite")
    some_frames_later(page)
    assert clip.locator(".scrubber").input_value() == stopped
    assert all(old != picture(canvas) for old, canvas in zip(before, canvases, strict=True))


def test_playing_begins_anew_after_the_last_frame_and_one_clip_plays_at_a_time(
    open_page: OpenPage, one_run: str
) -> None:
    page = open_page(one_run)
    first, second = ready(page, 0), ready(page, 1)
    first.locator(".scrubber").fill("15")
    first.locator(".play").click()
    expect(first.locator(".scrubber")).to_have_value("0")
    second.locator(".play").click()
    expect(first.locator(".play")).to_have_text("Play")
    expect(second.locator(".play")).to_have_text("Pause")


def test_scrubbing_shows_frame_number_time_and_the_sums_of_the_frame(
    open_page: OpenPage, run: RunView, one_run: str
) -> None:
    clip = ready(open_page(one_run))
    clip.locator(".scrubber").fill("9")
    expect(clip.locator(".now")).to_have_text("frame 18 · 0.60 s · 10 of 16")
    expect(clip.locator(".scrubber")).to_have_attribute("aria-valuetext", "frame 18 · 0.60 s")
    relevance = run.clips[0].explanations[0].relevance.astype(np.float64)[9]
    shown = clip.locator(".frame-relevance output").inner_text().replace("−", "-")
    assert [float(word) for word in shown.split()] == pytest.approx(
        [relevance.clip(min=0).sum(), relevance.clip(max=0).sum()], rel=0.01
    )


def test_a_click_on_a_bar_goes_to_its_frame(open_page: OpenPage, one_run: str) -> None:
    clip = ready(open_page(one_run))
    for chart, frame in ((".frame-relevance", 11), (".frame-hotspots", 4)):
        plot = clip.locator(f"{chart} svg")
        box = plot.bounding_box()
        assert box is not None
        plot.click(position={"x": box["width"] * (frame + 0.5) / 16, "y": box["height"] / 2})
        expect(clip.locator(".scrubber")).to_have_value(str(frame))
        for svg in clip.locator(".chart svg").all():
            expect(svg).to_have_attribute("aria-valuenow", str(frame))


def test_another_method_changes_relevance_and_bars(open_page: OpenPage, one_run: str) -> None:
    clip = ready(open_page(one_run))
    before = picture(clip.locator(".heatmap"))
    clip.get_by_label("Method").select_option("gradient_x_input")
    expect(clip.locator(".explained")).to_contain_text("gradient_x_input explains")
    assert picture(clip.locator(".heatmap")) != before


def test_one_choice_sets_the_method_of_all_clips(open_page: OpenPage, one_run: str) -> None:
    page = open_page(one_run)
    page.get_by_label("Method of all").select_option("gradient_x_input")
    for number in range(6):
        expect(ready(page, number).locator(".explained")).to_contain_text("gradient_x_input explains")


def test_another_target_is_explained(open_page: OpenPage, one_run: str) -> None:
    clip = wrong_clip(open_page(one_run))
    before = picture(clip.locator(".overlay"))
    options = clip.get_by_label("Explain").locator("option").all_inner_texts()
    assert [option.split(":")[0] for option in options] == ["predicted", "true", "chosen"]
    clip.get_by_label("Explain").select_option(options[1])
    expect(clip.locator(".explained")).to_contain_text(f"explains {options[1].removeprefix('true: ')} (true)")
    assert picture(clip.locator(".overlay")) != before


def test_a_confusion_cell_opens_its_examples_and_they_lead_to_their_players(
    open_page: OpenPage, run: RunView, one_run: str
) -> None:
    page = open_page(one_run)
    wanted = next(clip for clip in reversed(run.clips) if clip.true_class != clip.probabilities[0][0])
    page.get_by_label("Verdict").select_option("right")  # hides it
    cell = page.locator(f'button.cell[aria-label^="true {wanted.true_class}, predicted {wanted.probabilities[0][0]}:"]')
    count = int(cell.inner_text())
    cell.click()
    expect(cell).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".examples li")).to_have_count(count)
    page.locator(".examples").get_by_role("link", name=wanted.clip_id).click()
    clip = page.locator(f'article[data-name="{wanted.clip_id}"]')
    expect(clip).to_be_focused()
    expect(clip).to_be_in_viewport()
    expect(clip).to_have_attribute("data-state", "ready")


def test_everything_is_reached_by_keyboard(open_page: OpenPage, one_run: str) -> None:
    page = open_page(one_run)
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('article.clip')"):
            break
    clip = ready(page)
    expect(clip).to_be_focused()
    steps = {"ArrowRight": "1", "End": "15", "ArrowLeft": "14", "Home": "0"}
    for key, value in steps.items():
        page.keyboard.press(key)
        expect(clip.locator(".scrubber")).to_have_value(value)
    page.keyboard.press(" ")
    expect(clip.locator(".play")).to_have_text("Pause")
    page.keyboard.press(" ")
    expect(clip.locator(".play")).to_have_text("Play")
    page.keyboard.press("m")
    expect(clip.locator(".explained")).to_contain_text("gradient_x_input")
    page.keyboard.press("T")
    expect(clip.locator(".explained")).to_contain_text("chosen")
    for key, number in (("n", 1), ("]", 2), ("[", 1), ("p", 0)):
        page.keyboard.press(key)
        expect(page.locator("article.clip").nth(number)).to_be_focused()


def test_the_parts_of_a_player_are_reached_by_tab_and_obey_the_keys(open_page: OpenPage, one_run: str) -> None:
    page = open_page(one_run)
    clip = ready(page)
    clip.focus()
    visited = []
    for _ in range(7):
        page.keyboard.press("Tab")
        visited.append(
            page.evaluate("document.activeElement.closest('.chart')?.className ?? document.activeElement.className")
        )
    assert visited[:2] == ["play", "scrubber"]
    assert visited[-2:] == ["chart frame-relevance", "chart frame-hotspots"]
    page.keyboard.press("ArrowRight")
    expect(clip.locator(".scrubber")).to_have_value("1")
    clip.locator(".play").focus()
    page.keyboard.press(" ")
    expect(clip.locator(".play")).to_have_text("Pause")


def test_clips_are_filtered_and_sorted(open_page: OpenPage, run: RunView, one_run: str) -> None:
    page = open_page(one_run)
    seen = page.locator("article.clip:visible")
    wrong = sum(clip.true_class != clip.probabilities[0][0] for clip in run.clips)
    page.get_by_label("Verdict").select_option("wrong")
    expect(page.locator("#count")).to_have_text(f"{wrong} of 6 clips")
    expect(seen).to_have_count(wrong)
    page.get_by_label("Verdict").select_option("all")
    page.get_by_label("Sort by").select_option("least sure first")
    confidence = [float(value) for value in seen.evaluate_all("all => all.map(a => a.dataset.confidence)")]
    assert confidence == sorted(confidence)
    name = run.clips[0].true_class
    page.locator("#filter-class").select_option(name)
    expect(seen).to_have_count(sum(clip.true_class == name for clip in run.clips))


def long_names(run: RunView) -> RunView:
    """The same run with names as long as file names are."""
    long = "Aussie_Brunette_Brushing_Long_Hair_II_brush_hair_u_nm_np1_ri_med_3" * 2
    clips = [replace(clip, clip_id=f"{number}/{long}", true_class=long) for number, clip in enumerate(run.clips)]
    return replace(run, name=long, clips=tuple(clips), facts=((long, long),), class_names=(long,) * 8, left_out=(long,))


@pytest.fixture(scope="module")
def evaluated_run(run: RunView) -> RunView:
    methods = ("lrp:epsilon_plus", "grad_cam:a_layer_with_a_long_name." * 4, "gradient")
    view = view_evaluation(make_evaluation(methods=methods, num_clips=12))
    return replace(run, clips=(), evaluation=view)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_an_evaluation_scrolls_in_its_table_and_its_text_can_be_seen(
    open_page: OpenPage, evaluated_run: RunView, width: int, scheme: str
) -> None:
    page = open_page(report_page([evaluated_run]), width=width, scheme=scheme)
    page.locator("nav").get_by_role("link", name="Evaluation").click()
    expect(page.locator("#evaluation-title")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table = page.locator("#evaluation .measures")
    expect(table.locator("tbody").first.locator("tr")).to_have_count(3)
    region = page.locator("#evaluation .scroller").first
    wide = region.evaluate("area => area.scrollWidth > area.clientWidth")
    assert wide == (width == 390)
    if wide:
        region.evaluate("area => area.scrollTo(area.scrollWidth, 0)")
        expect(table.locator("tbody th").first).to_be_in_viewport()  # the names stay
    for picture in page.locator("#evaluation img").all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
        assert picture.evaluate("image => image.clientWidth") >= 600, "its text is large enough to read"
    background = page.locator("#evaluation .picture").first.evaluate("f => getComputedStyle(f).backgroundColor")
    assert background == "rgb(255, 255, 255)", "in the dark, too"
    colours = "cell => [getComputedStyle(cell).color, getComputedStyle(cell.closest('.card')).backgroundColor]"
    ink, paper = (
        int(re.findall(r"\d+", colour)[0]) for colour in table.locator(".best > span").first.evaluate(colours)
    )
    assert abs(ink - paper) > 120


@pytest.mark.parametrize("kind", ["two runs", "long names"])
def test_a_phone_shows_all_without_scrolling_sideways(open_page: OpenPage, run: RunView, kind: str) -> None:
    runs = {"two runs": [run, replace(run, name="other")], "long names": [long_names(run)]}
    page = open_page(report_page(runs[kind]), width=390)
    ready(page)
    page.locator("button.cell").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_dark_and_light_follow_the_system_and_the_button(open_page: OpenPage, one_run: str) -> None:
    page = open_page(one_run, scheme="dark")
    brightness = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/))"
    assert page.evaluate(brightness) < 40
    heatmap = ready(page).locator(".heatmap")
    dark = picture(heatmap)
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(brightness) > 220
    assert picture(heatmap) == dark  # zero stays white
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(brightness) < 40


def test_names_that_look_like_markup_do_no_harm(open_page: OpenPage) -> None:
    clip = make_clip(NASTY_CLIP, true_class=NASTY_CLASS, predicted="left", methods=(NASTY_CLIP, NASTY_CLASS))
    run = make_run(NASTY_CLASS, clips=[clip])
    names = (NASTY_CLASS, *run.class_names[1:])
    left = names.index("left")
    outcomes = (Outcome(NASTY_CLIP, 0, left, 0.9), Outcome(NASTY_CLASS, 0, left, 0.8), Outcome("a", left, left, 1.0))
    per_class = ((NASTY_CLASS, run.per_class[0][1]),)
    run = replace(run, class_names=names, outcomes=outcomes, per_class=per_class, left_out=(NASTY_CLIP,))
    run = replace(run, facts=((NASTY_CLIP, NASTY_CLASS),), config=NASTY_CLASS, baselines=((NASTY_CLASS, 0.1),))
    page = open_page(report_page([run, replace(run, name=NASTY_CLIP)], title=NASTY_CLIP))
    shown = ready(page)
    expect(shown.locator("h3")).to_have_text(NASTY_CLIP)
    expect(shown.locator(".explained").first).to_contain_text(f"{NASTY_CLIP} explains")
    shown.focus()
    page.keyboard.press("m")
    expect(shown.locator(".explained").first).to_contain_text(f"{NASTY_CLASS} explains")
    page.locator("button.cell.wrong").first.click()
    expect(page.locator(".examples h4")).to_have_text(f"{NASTY_CLASS}, taken for left: 2 clips")
    expect(page.locator(".examples").first).to_contain_text(NASTY_CLIP)
    page.locator("#filter-class").select_option(NASTY_CLASS)
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("[...document.scripts].filter(s => s.type !== 'application/json').length") == 1
    assert page.title() == NASTY_CLIP


def one_voxel_clip() -> ClipView:
    """Black frames; in frame 0 one voxel speaks for the target, in frame 1 one against it."""
    relevance = np.zeros((2, 4, 4), dtype=np.float32)
    relevance[0, 1, 2], relevance[1, 0, 0] = 3.0, -3.0
    view = RelevanceView("lrp", "left", "predicted", 0.0, None, relevance, "units of the logit")
    video = np.zeros((1, 2, 32, 32), dtype=np.uint8)
    return ClipView("left/a", "left", (("left", 1.0),), video, np.arange(2), np.arange(2) / 30, (view,))


def test_relevance_is_red_for_blue_against_white_at_zero_and_hotspots_are_magenta(open_page: OpenPage) -> None:
    clip = ready(open_page(clip_page(one_voxel_clip())))
    heatmap, overlay = clip.locator(".heatmap"), clip.locator(".overlay")
    assert pixel(heatmap, 2, 1) == (0x67, 0x00, 0x1F)
    assert pixel(heatmap, 0, 0) == pixel(heatmap, 3, 3) == (255, 255, 255)
    side = overlay.evaluate("canvas => canvas.width") / 4
    filled = np.array(pixel(overlay, 2.5 * side, 1.5 * side))
    assert np.abs(filled - 0.4 * np.array([0xFF, 0x00, 0xC8])).max() <= 4
    assert pixel(overlay, 2 * side, 1.5 * side) == (0xFF, 0x00, 0xC8)
    assert max(pixel(overlay, 0.5 * side, 0.5 * side)) <= 4
    clip.locator(".scrubber").fill("1")
    assert pixel(heatmap, 0, 0) == (0x05, 0x30, 0x61)
    assert pixel(heatmap, 2, 1) == (255, 255, 255)
    assert max(pixel(overlay, 0.5 * side, 0.5 * side)) <= 4  # what speaks against is no hotspot


def test_two_runs_play_side_by_side_in_step(open_page: OpenPage, run: RunView) -> None:
    other_clips = [
        replace(clip, explanations=tuple(replace(e, relevance=-e.relevance) for e in clip.explanations))
        for clip in run.clips
    ]
    page = open_page(report_page([run, replace(run, name="other", clips=tuple(other_clips))]))
    clip = ready(page)
    expect(page.locator(".columns .run")).to_have_count(2)
    left, right = (clip.locator(".panel").nth(number) for number in (0, 1))
    boxes = [panel.bounding_box() for panel in (left, right)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    clip.locator("[data-choice=speed]").select_option("2")
    clip.locator(".play").click()
    expect(clip.locator(".scrubber")).to_have_value(re.compile(r"[4-9]|1\d"))
    clip.locator(".play").click()
    step = clip.locator(".scrubber").input_value()
    for svg in clip.locator(".chart svg").all():
        expect(svg).to_have_attribute("aria-valuenow", step)
    assert picture(left.locator(".original")) == picture(right.locator(".original"))
    assert picture(left.locator(".heatmap")) != picture(right.locator(".heatmap"))


def test_players_far_away_wait_until_they_are_needed(open_page: OpenPage) -> None:
    clips = [make_clip(f"left/{n}", true_class="left", predicted="left", num_frames=2, size=16) for n in range(60)]
    page = open_page(report_page([make_run(clips=clips)]))
    ready(page)
    assert page.locator("article[data-state=ready]").count() < 20
    page.evaluate("location.hash = '#clip-59'")
    expect(page.locator("#clip-59")).to_have_attribute("data-state", "ready")
    expect(page.locator("#clip-59")).to_be_in_viewport()
    assert page.locator("article[data-state=ready]").count() < 40


def test_an_explanation_that_a_run_lacks_is_said_to_be_missing(open_page: OpenPage) -> None:
    clip = make_clip("left/a", true_class="left", predicted="left", num_frames=2)
    other = replace(clip, explanations=clip.explanations[:1])
    page = open_page(report_page([make_run("a", clips=[clip]), make_run("b", clips=[other])]))
    shown = ready(page)
    shown.focus()
    page.keyboard.press("m")
    expect(shown.locator(".explained").nth(1)).to_have_text("This run has no such explanation of this clip.")
    expect(shown.locator(".panel").nth(1).locator(".chart").first).to_be_hidden()


def test_a_clip_in_a_notebook_plays_in_its_frame(open_page: OpenPage) -> None:
    inner = clip_page(make_clip(NASTY_CLIP, true_class="left", predicted="left"))
    page = open_page(f'<!doctype html><iframe width="900" height="700" srcdoc="{markup.escape(inner)}"></iframe>')
    clip = page.frame_locator("iframe").locator("article.clip")
    expect(clip).to_have_attribute("data-state", "ready")
    clip.locator(".play").click()
    expect(clip.locator(".scrubber")).not_to_have_value("0")
    clip.locator(".play").click()


def test_a_report_without_clips_and_figures_is_quiet(open_page: OpenPage, run: RunView) -> None:
    page = open_page(report_page([replace(run, accuracy=None, clips=(), outcomes=(), per_class=(), pictures=())]))
    expect(page.locator(".verdict")).to_contain_text("Accuracy was not measured")
    expect(page.locator("#clips")).to_contain_text("No clip is shown")


def test_on_paper_there_are_no_controls(open_page: OpenPage, one_run: str) -> None:
    page = open_page(one_run, scheme="dark", reduced_motion="reduce")
    clip = ready(page)
    page.emulate_media(media="print")
    expect(clip.locator(".play")).to_be_hidden()
    expect(page.locator("nav")).to_be_hidden()
    expect(clip.locator(".overlay")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
