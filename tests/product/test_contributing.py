"""CONTRIBUTING says where things are: the files, the names in them, and who may import whom."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _file(path: str) -> Path:
    return ROOT / path if (ROOT / path).exists() else ROOT / "vidact" / path


def test_the_files_that_it_names_are_there() -> None:
    named = {path for path in re.findall(r"`([\w./]+/[\w./]*)`", TEXT) if not path.startswith("docs/_build")}
    assert len(named) > 30
    assert [path for path in sorted(named) if not _file(path).exists()] == []


def test_the_names_that_it_names_are_in_those_files() -> None:
    pairs = re.findall(r"`(\w+)`\s+(?:in|of)\s+`([\w./]+\.py)`", TEXT)
    assert len(pairs) >= 10
    missing = [(name, path) for name, path in pairs if not re.search(rf"\b{name}\b", _file(path).read_text())]
    assert missing == []


def test_its_table_of_imports_is_that_of_the_linter() -> None:
    rows = re.findall(r"^\| \d \| `(\w+)(?:\.py)?` \| .* \| (.*) \|$", TEXT, flags=re.MULTILINE)
    packages = {name for name, _ in rows}
    told = {name: set(re.findall(r"\w+", others)) for name, others in rows}
    told["cli"] = packages - {"cli", "api", "core", "__main__"}
    told["api"] = told["report"] | {"report"}
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter")
    for package in packages - {"core", "cli", "api", "__main__"}:
        importers = linter[f"importlinter:contract:{package}"]["allowed_importers"].split()
        assert {f"vidact.{name}" for name in packages if package in told[name]} == set(importers), package
