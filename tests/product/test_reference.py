"""The reference pages that `make docs` makes of the code have every verb and setting, each with its meaning."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from vidact.attribution.registry import METHODS
from vidact.cli.main import VERBS
from vidact.data.datamodule import VideoDataModule


@pytest.fixture(scope="module")
def pages() -> Iterator[ModuleType]:
    folder = str(Path(__file__).parents[2] / "docs" / "_extensions")
    sys.path.insert(0, folder)
    import generated_pages

    yield generated_pages
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def texts(pages: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "reference").mkdir()
    pages.write_pages(folder)
    written = (folder / "reference" / "generated").glob("*.md")
    return {path.stem: path.read_text(encoding="utf-8") for path in written}


def test_every_verb_has_its_options(texts: dict[str, str]) -> None:
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", texts["command-line"], flags=re.MULTILINE))
    assert set(VERBS) <= set(sections)
    for name in VERBS:
        assert "python -m vidact" in sections[name]
        assert sections[name].count("\n: ") >= 2, name
    assert "`--threshold`" in sections["explain"]
    assert "`--num_steps`" in sections["evaluate"]


def test_every_setting_of_the_data_is_there(texts: dict[str, str]) -> None:
    names = inspect.signature(VideoDataModule).parameters
    assert [name for name in names if f"`{name}`" not in texts["data"]] == []


def test_every_network_and_method_is_there(texts: dict[str, str]) -> None:
    assert [name for name in METHODS if f"## {name}\n" not in texts["methods"]] == []
    assert {"SlimResNet3D", "SlowFusion"} <= set(re.findall(r"^## (\w+)$", texts["networks"], flags=re.MULTILINE))


def test_every_option_and_setting_says_what_it_means(texts: dict[str, str]) -> None:
    silent = [name for text in texts.values() for name in re.findall(r"^`(.+?)`.*\n: –$", text, flags=re.MULTILINE)]
    assert silent == []


def test_the_drawing_has_every_package_and_no_arrow_goes_up(pages: ModuleType, tmp_path: Path) -> None:
    """`draw` raises where one does."""
    pages.draw(tmp_path / "packages.svg")
    assert (tmp_path / "packages.svg").stat().st_size > 10_000
