import re
from pathlib import Path

from vidact.cli.recipes import configs_folder

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_leads_to_a_file() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_recipes_it_names_are_there() -> None:
    named = set(re.findall(r"--config (\w+)[\s`]", README))
    assert named <= {path.stem for path in configs_folder().glob("*.yaml")}
    assert {"hmdb51", "hmdb51_report"} <= named
