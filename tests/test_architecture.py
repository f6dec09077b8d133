"""The sizes of folders, files and functions, and which files may import a foreign library; see .importlinter, too."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "vidact"
FILES = sorted(PACKAGE.rglob("*.py"))

# Libraries that another could take the place of: each is reached through a few files.
OWNERS = {
    "decord": {"data/video/reading.py"},
    "av": {
        *("data/video/reading.py", "data/video/display.py", "data/checks/file_inspection.py"),
        *("data/transcode/encoding.py", "drawing/video/file.py", "drawing/video/sound.py"),
    },
    "wandb": {"runs/loggers/wandb.py", "runs/loggers/media.py"},
    "httpx": {"data/download/transfer.py", "data/download/mirrors.py"},
    "rarfile": {"data/download/archives.py"},
    "transformers": {"models/huggingface.py", "models/weights.py"},
}


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _libraries(path: Path) -> Iterator[tuple[int, str]]:
    """Give the line and the library of every import, at the head of a file or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, (node.module or "").split(".")[0]


def test_libraries_are_imported_where_they_belong() -> None:
    found: dict[str, set[str]] = {library: set() for library in OWNERS}
    for path in FILES:
        for _, library in _libraries(path):
            if library in OWNERS:
                found[library].add(_name(path))
    assert found == OWNERS


def test_imports_inside_functions_are_found(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from vidact.data import video\n    import decord.logging\n")
    assert [library for _, library in _libraries(path)] == ["vidact", "decord"]


def _length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_neither_long_nor_tiny() -> None:
    modules = {path: _length(path) for path in FILES if path.name != "__init__.py"}
    assert not [f"{_name(path)}: {length} lines" for path, length in modules.items() if not 15 <= length <= 300]


def test_packages_say_what_they_are_for() -> None:
    packages = [path for path in FILES if path.name == "__init__.py"]
    assert not [_name(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not [_name(path) for path in packages if _length(path) > 40]


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Give each function and its lines of code, the signature included and the docstring left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            document = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or 0) - node.lineno + 1 - (len(document.splitlines()) if document else 0)
            yield f"{_name(path)}:{node.lineno} {node.name}", length


def test_functions_are_short() -> None:
    found = [(name, length) for path in FILES for name, length in _functions(path)]
    assert len(found) > len(FILES)
    assert not [f"{name}: {length} lines" for name, length in found if length > 50]


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    found = {}
    for folder in {path.parent for path in FILES}:
        found[folder] = len([path for path in folder.iterdir() if path.name not in {"__init__.py", "__pycache__"}])
    assert not {_name(path): n for path, n in found.items() if n > (16 if path == PACKAGE else 12)}
