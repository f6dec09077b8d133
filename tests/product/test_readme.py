"""README and the docs keep their promises: their size, their links, and the commands that they show."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import pytest

from vidact.cli.functions import run_function
from vidact.cli.main import VERBS, main
from vidact.cli.recipes import configs_folder

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not {"generated", "_build"} & set(page.parts)]
LIGHTNINGS = ("fit", "validate", "test", "predict")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _commands(page: Path) -> Iterator[list[str]]:
    """Give the words after `python -m vidact` of each command in a block of bash."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        lines = re.sub(r"('[^']*')", lambda quoted: " ".join(quoted[1].split()), block).replace("\\\n", " ")
        for line in lines.splitlines():
            _, is_command, words = line.partition("python -m vidact ")
            if is_command and "$" not in words and not line.lstrip().startswith(("#", "srun", "torchrun")):
                yield shlex.split(words, comments=True)


COMMANDS = {" ".join(words): words for page in PAGES for words in _commands(page)}
OTHERS = [name for name, words in COMMANDS.items() if words[0] not in LIGHTNINGS and not words[0].startswith("-")]
TRAININGS = [name for name, words in COMMANDS.items() if words[0] == "fit" and "CLASS" not in words]


def test_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1100


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link and "generated/" not in link]
    assert [file for file in files if file and not (page.parent / file).exists()] == []


def test_pictures_are_light() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    assert sizes["still.png"] <= 300_000
    assert sum(sizes.values()) <= 400_000


def test_the_pages_show_commands() -> None:
    assert len(OTHERS) > 20
    assert len(TRAININGS) > 8


class _Parsed(Exception):
    """Ends a verb once its options are understood."""


@pytest.mark.parametrize("command", OTHERS)
def test_a_command_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = COMMANDS[command]
    length = 2 if words[0] == "data" else 1
    parse: Callable[..., Any] = jsonargparse.ArgumentParser.parse_args

    def parse_only(*args: Any, **options: Any) -> None:
        parse(*args, **options)
        raise _Parsed

    monkeypatch.setattr(jsonargparse.ArgumentParser, "parse_args", parse_only)
    with pytest.raises(_Parsed):
        run_function(VERBS[" ".join(words[:length])], words[0], words[length:])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", TRAININGS)
def test_a_training_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All settings are checked before they are printed; no clip is read."""
    (tmp_path / "my_net.py").write_text("from vidact.models.stacked import StackedFramesCNN as Net\nTwoStreams = Net\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    words = [word for word in COMMANDS[command] if word not in {"--ckpt_path", "last", "--print_config"}]
    with pytest.raises(SystemExit) as end:
        main([*words, "--print_config"])
    assert end.value.code in (0, None), capsys.readouterr().err


def test_the_recipes_it_names_are_there() -> None:
    named = set(re.findall(r"--config (\w+)[\s`]", " ".join(page.read_text(encoding="utf-8") for page in PAGES)))
    assert named - {"RECIPE"} <= {path.stem for path in configs_folder().glob("*.yaml")}
    assert {"hmdb51", "hmdb51_slim"} <= named
