"""The shape of the house: who may import whom, and which file owns which foreign library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vidact"

# A part may import itself, and these.
MAY_IMPORT = {
    "__init__": {"notebook"},
    "__main__": {"allocation", "cli", "terminal"},
    "allocation": set(),
    "terminal": set(),
    "core": {"terminal"},
    "stopping": set(),
    "durable": {"core"},
    "folders": {"core", "durable"},
    "run_lock": {"core"},
    "parse_errors": set(),
    "data": {"core", "durable", "folders", "terminal"},
    "models": {"core"},
    "mixing": {"core"},
    "predictions": {"core"},
    "schedules": {"core"},
    "losses": {"core"},
    "parser": {"networks"},
    "training": {"core", "losses", "mixing", "networks", "predictions", "schedules"},
    "networks": {"core", "faults"},
    "attribution": {"core", "models", "networks"},
    "analysis": {"core"},
    "evaluation": {"core"},
    "report": {"core", "durable"},
    "kept_splits": {"core"},
    "callbacks": {
        "terminal",
        "core",
        "durable",
        "kept_splits",
        "training",
        "attribution",
        "analysis",
        "evaluation",
        "report",
    },
    "recipes": {"core"},
    "faults": {"core"},
    "callback_checks": {"core"},
    "trainer_checks": {"core", "faults", "parse_errors"},
    "checkpoints": {"terminal", "core"},
    "checkpoint_io": {"core", "checkpoints", "durable"},
    "kept_config": set(),
    "trust": {"core"},
    "resuming": {"core", "callbacks", "run_lock", "kept_config"},
    "runs": {"core", "checkpoints", "data", "kept_config", "networks", "trust"},
    "measured": {"core", "runs", "data", "predictions", "analysis", "kept_splits"},
    "accuracies": {"terminal", "core", "durable", "runs", "data", "measured", "analysis"},
    "run_end": {"folders", "core", "callbacks", "data", "report", "reporting", "runs", "trust"},
    "run_facts": {"core", "runs", "__init__"},
    "explaining": {"core", "data", "attribution"},
    "explanation_folder": {"core"},
    "explanation_files": {"core", "data", "attribution", "analysis", "report", "explaining", "explanation_folder"},
    "video_jobs": {
        *("core", "folders", "terminal", "runs", "data", "callbacks", "explaining", "explanation_files", "__init__"),
        "explanation_folder",
    },
    "evaluation_pictures": {"evaluation_tables", "report"},
    "evaluation_view": {"core", "evaluation_files", "evaluation_pictures", "evaluation_tables", "report"},
    "evaluation_output": {"callbacks", "evaluation_pictures", "evaluation_tables", "report"},
    "reporting": {
        *("core", "runs", "data", "attribution", "analysis", "report", "measured", "explaining", "run_facts"),
        *("evaluation_view", "kept_splits"),
    },
    "notebook": {"core", "runs", "data", "analysis", "attribution", "report", "explaining", "video_jobs"},
    "run_verbs": {
        "folders",
        "terminal",
        "core",
        "runs",
        "attribution",
        "report",
        "explaining",
        "explanation_files",
        "video_jobs",
        *("reporting", "accuracies", "trust"),
    },
    "evaluation_tables": set(),
    "evaluation_statistics": {"analysis", "evaluation_tables"},
    "evaluation_verdict": {"evaluation_statistics", "evaluation_tables"},
    "evaluation_comparison": {"evaluation_tables"},
    "evaluation_markdown": {"terminal", "evaluation_tables"},
    "evaluation_files": {"folders", "terminal", "core", "durable", "evaluation_markdown", "evaluation_tables"},
    "evaluating": {"core", "attribution", "evaluation", "evaluation_tables"},
    "evaluation_clips": {"core", "runs", "data", "measured", "kept_splits"},
    "evaluation_bench": {"core", "attribution", "evaluation", "evaluating", "evaluation_clips", "evaluation_tables"},
    "evaluation_measures": {"attribution", "evaluation", "evaluation_bench", "evaluation_tables"},
    "evaluation_jobs": {
        *("core", "runs", "data", "callbacks", "evaluating", "evaluation_bench", "evaluation_clips"),
        *("evaluation_files", "evaluation_measures", "evaluation_statistics", "evaluation_tables", "__init__"),
    },
    "evaluation_runs": {
        *("core", "runs", "data", "evaluating", "evaluation_bench", "evaluation_clips", "evaluation_files"),
        *("evaluation_jobs", "evaluation_statistics", "evaluation_tables", "evaluation_verdict", "__init__"),
    },
    "evaluate_verbs": {
        "terminal",
        *("callbacks", "run_verbs", "runs", "video_jobs", "evaluating", "evaluation_clips", "evaluation_comparison"),
        *("evaluation_files", "evaluation_output", "evaluation_runs", "evaluation_tables", "trust"),
    },
    "pipeline": {
        "terminal",
        "core",
        "recipes",
        *("checkpoints", "checkpoint_io"),
        "data",
        "models",
        "training",
        "attribution",
        "analysis",
        "report",
        *(
            "callbacks",
            "checkpoint_io",
            "faults",
            "parse_errors",
            "parser",
            "resuming",
            "run_lock",
            "stopping",
            "callback_checks",
            "trainer_checks",
            "run_end",
            "runs",
            "reporting",
            "trust",
        ),
    },
    "data_verbs": {"folders", "terminal", "core", "data"},
    "network_verbs": {"terminal", "core", "checkpoints", "data", "models", "attribution", "networks"},
    "cli": {
        *("core", "stopping", "parse_errors", "pipeline"),
        *("data_verbs", "network_verbs", "run_verbs", "evaluate_verbs", "__init__"),
    },
}

OWNERS = {
    "decord": {"data/video.py"},
    "av": {
        *("data/video.py", "data/measuring.py", "data/display.py", "data/transcode.py"),
        *("report/video.py", "report/sound.py"),
    },
    "sklearn": {"data/guessing.py"},
    "scipy": {"analysis/intervals.py", "data/jhmdb.py", "evaluation_comparison.py"},
    "rarfile": {"data/archives.py"},
    "httpx": {"data/transfer.py", "data/download.py"},
    "captum": {
        *("attribution/gradcam.py", "attribution/gradients.py", "attribution/occlusion.py"),
        *("evaluation/sensitivity.py",),
    },
    "torchvision": {
        *("attribution/canonizers.py", "models/pretrained.py", "models/weights.py"),
        "mixing.py",
        *("data/decoded.py", "data/masks.py", "data/transcode.py", "data/video.py"),
    },
    "zennit": {
        *("attribution/canonizers.py", "attribution/composites.py", "attribution/meters.py"),
        *("attribution/explainers.py", "attribution/first_layer.py", "attribution/gradients.py"),
        *("attribution/law.py", "attribution/lines.py", "attribution/rules.py", "attribution/standing_in.py"),
        "attribution/formulas.py",
        *("attribution/unrolling.py",),
    },
    "wandb": {"callbacks/loggers.py", "callbacks/pictures.py"},
    "matplotlib": {
        *("report/text.py", "report/images.py", "report/charts.py", "report/contact.py", "report/accuracy.py"),
        *("report/curves.py", "report/comparison.py", "report/strip.py", "report/overlay.py", "report/grid.py"),
        *("report/faithfulness.py", "report/ranks.py", "report/agreement.py", "report/run_pictures.py"),
        "report/raster.py",
        "evaluation_pictures.py",
    },
    "jinja2": {"report/page.py"},
    "markupsafe": {"report/page.py"},
    "PIL": {"report/encoding.py", "report/grid.py", "report/raster.py"},
    "jsonargparse": {"trust.py", "pipeline.py", "cli.py", "runs.py", "networks.py"},
}


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Give the line and the full name of everything that a file imports, at its head or later."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _part(name: str) -> str:
    """From `vidact.data.video.read_frames` to `data`; what the package itself exports belongs to `__init__`."""
    second = name.split(".")[1]
    return second if second in MAY_IMPORT else "__init__"


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_keeps_the_rules(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0].removesuffix(".py")
    assert own in MAY_IMPORT, f"{relative}: a new part; say in this table what it may import"
    for line, name in _imports(path):
        library = name.split(".")[0]
        if library == "vidact":
            assert _part(name) in MAY_IMPORT[own] | {own}, f"{relative}:{line}: {own} may not import {name}"
        elif library in OWNERS:
            assert relative.as_posix() in OWNERS[library], f"{relative}:{line}: {library} is owned by {OWNERS[library]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_is_short_and_so_are_its_functions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 320, f"{path}: over about 300 lines; divide it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            code = [n for n in ast.walk(node) if isinstance(n, ast.stmt)]
            length = max(n.end_lineno or 0 for n in code) - node.lineno
            document = ast.get_docstring(node, clean=False)
            length -= len(document.splitlines()) if document else 0
            assert length <= 50, f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_the_rules_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from vidact.data import video\n    import decord.logging\n")
    assert [name for _, name in _imports(path)] == ["vidact.data.video", "decord.logging"]
    assert _part("vidact.data.video") == "data"
    assert "data" not in MAY_IMPORT["models"]


def test_every_part_and_owner_exists() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert parts == set(MAY_IMPORT)
    for files in OWNERS.values():
        assert all((PACKAGE / file).is_file() for file in files)
