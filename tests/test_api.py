import html
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vidact
from vidact.core.errors import DataError, ExplanationError


def _first(small_set: Path) -> Path:
    return min(small_set.rglob("*.avi"))


def test_a_few_lines_explain_a_file(small_run: Path, small_set: Path) -> None:
    from vidact import explain, load

    run = load(small_run)
    why = explain(run, _first(small_set))
    assert why.found.target_name in run.class_names
    assert why.relevance.shape == (len(why.found.frame_numbers), 16, 16)
    page = re.search(r'srcdoc="([^"]*)"', why._repr_html_())
    assert page, "an iframe, whose page is one attribute"
    assert _first(small_set).name in html.unescape(page[1])


def test_an_array_is_explained_as_the_file_it_is_from(small_run: Path, small_set: Path) -> None:
    from vidact.data.loading.streaming import VideoFile

    run = vidact.load(small_run)
    pixels = np.stack([frame.picture for frame in VideoFile(_first(small_set)).frames()])
    from_file = vidact.explain(run, str(_first(small_set)), target="up")
    from_array = vidact.explain(run, pixels, target="up")
    assert np.array_equal(from_file.relevance, from_array.relevance)
    assert from_array.found.score == from_file.found.score


def test_an_array_of_another_rate_is_sampled_and_that_is_said(small_run: Path) -> None:
    run = vidact.load(small_run)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    with pytest.warns(UserWarning, match="60 frames a second, sampled: the network was trained on clips of 30 frames"):
        fast = vidact.explain(run, pixels, target="up", fps=60)
    assert fast.found.frame_numbers.tolist() == list(range(0, 60, 2))
    assert fast.found.score == vidact.explain(run, pixels[::2], target="up").found.score


def test_show_writes_the_page_and_opens_it(small_run: Path, small_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = vidact.show(vidact.explain(vidact.load(small_run), _first(small_set)))
    assert opened == [path.as_uri()]
    assert "<html" in path.read_text(encoding="utf-8")
    path.unlink()


def test_mistakes_are_said_in_one_line(small_run: Path, tmp_path: Path) -> None:
    run = vidact.load(small_run)
    with pytest.raises(ExplanationError, match="no class"):
        vidact.explain(run, np.zeros((20, 16, 16, 3), np.uint8), target="nobody")
    with pytest.raises(DataError, match="no such file"):
        vidact.explain(run, tmp_path / "none.avi")
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        vidact.explane  # noqa: B018


def test_the_lines_of_the_readme_run(small_run: Path, small_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(from vidact import .*?)```", text, flags=re.DOTALL)
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    lines = lines.replace('"runs/version_0"', repr(str(small_run))).replace('"clip.mp4"', repr(str(_first(small_set))))
    assert len(lines.split("\n\n")[1].strip().splitlines()) <= 5
    found: dict[str, object] = {}
    exec(lines, found)
    assert hasattr(found["why"], "_repr_html_")


@pytest.mark.slow
def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, vidact; assert 'torch' not in sys.modules; vidact.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
