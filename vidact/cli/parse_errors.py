"""Say in one line what jsonargparse says in a page: which setting is wrong, what was expected, what was given.

jsonargparse lists every type that it tried; its innermost error, from which all others come, says what was wrong.
"""

import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any

from vidact.core.errors import causes, nearest

_KEY = re.compile(r'Parser key "([\w.]+)": ')
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)': |Got value: Namespace\(class_path='([\w.]+)'")
_UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'")
_NO_OPTION = re.compile(r"Option '(\w+)' is not accepted")
_NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_EXPECTED = re.compile(
    r"Expected (?:an? )?(?:<class '([\w.]+)'>|typing\.Literal\[([^]]*)\]|(dot import path) string)|Not of type (Tensor)"
)
_REST = r": ?(.*?) ?(?:\. ?Got value: .*|- Expected an? <.*|\.? ?Given value.*)?$"
_GIVEN, _GOT = re.compile(f"Given value{_REST}"), re.compile(f"(?:Got value|path string){_REST}")
_NESTED = re.compile(r"NestedArg\(key='[^']*', val='?(.*?)'?\)$")
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true, false", "NoneType": "null", "str": "text"}
_WORDS |= {"list": "a list", "collections.abc.Iterable": "a list", "tuple": "a list", "dict": "a mapping"}
_WORDS |= {"dot import path": "a class (my_module.Net) or its settings by their names"}
_WORDS |= {"Tensor": "a list of two or more numbers"}


def reword_parse_error(error: Exception, known: Sequence[str]) -> str:
    """Make one line of a parser's error, with the nearest known name where a name is unknown.

    Args:
        error: As jsonargparse has raised it.
        known: The keys of the verb's settings.
    """
    page = _one_line(error)
    if unknown := _UNKNOWN.search(page):
        told = page if unknown[1] else f"there is no setting {unknown[2]}"
        return told + _nearest(unknown[1] or unknown[2], known, before="--")
    keys = list(dict.fromkeys(_KEY.findall(page)))
    if not keys:
        return page
    *_, innermost = causes(error)
    problem, found = _KEY.sub("", _one_line(innermost)), _CLASS.search(page)
    kind = _imported(found[1] or found[2]) if found else None
    if problem == "Option 'class_path' is not accepted":
        return f"--{keys[0]}: expected class_path, its settings under init_args, and nothing beside these two"
    if _EXPECTED.match(problem) or f"Not of type Tensor: {problem}" in page:
        inside = "" if len(keys) == 1 else f".{keys[-1]}" if is_dataclass(kind) else f".init_args.{keys[-1]}"
        rest = page[page.rindex(f'Parser key "{keys[-1]}": ') :]
        return f"--{keys[0]}{inside}: {_expected_and_got(rest)}"
    if option := _NO_OPTION.search(problem):
        before = f"--{keys[0]}." if is_dataclass(kind) else f"--{keys[0]}.init_args."
        parameters = _parameters(kind)
        problem += _nearest(option[1], parameters, before=before) or f"; there are {', '.join(parameters)}"
    elif attribute := _NO_ATTRIBUTE.search(problem):
        problem += _nearest(
            attribute[2], [name for name in dir(sys.modules.get(attribute[1])) if not name.startswith("_")]
        )
    elif problem.endswith("subclass of Module"):
        problem += "; a function that builds one says so: def build(num_classes: int) -> torch.nn.Module"
    elif problem.startswith("No module named"):
        problem += "; it must be in this folder or in PYTHONPATH, or its package installed"
    where = f"{found[1] or found[2]}: " if found else ""
    return f"--{keys[0]}: {where}" + re.sub(r"<class '([\w.]+)'>", r"\1", problem)


def _expected_and_got(text: str) -> str:
    """Say which types a setting takes, and what it was given."""
    names = [next(filter(None, found)) for found in _EXPECTED.findall(text)]
    choices = [choice.strip(" '") for name in names for choice in _WORDS.get(name, name).split(",")]
    *most, last = dict.fromkeys(choices)
    found = _GIVEN.search(text) or _GOT.search(text)
    got = _NESTED.sub(r"\1", found[1] if found else "") or "''"
    return f"expected {', '.join(most)}{' or ' if most else ''}{last}, got {got}"


def reword_import_error(error: Exception) -> str | None:
    """Say where a module that the settings name fails while it is imported; None if that is not what has failed."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: this module cannot be imported ({error.msg})"
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    if not places:
        return None
    message = f"{type(error).__name__}: {_one_line(error)}"
    return f"{places[-1].filename}, line {places[-1].lineno}: this module cannot be imported ({message})"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _imported(class_path: str) -> Any:
    """Give a class if its module has been imported; explaining an error must not import what was refused."""
    home, _, name = class_path.rpartition(".")
    return getattr(sys.modules.get(home), name, None)


def _parameters(kind: Any) -> list[str]:
    try:
        return list(inspect.signature(kind).parameters)
    except (TypeError, ValueError):  # classes written in C may have no signature
        return []


def _nearest(name: str, names: Iterable[str], *, before: str = "") -> str:
    near = nearest(name, names, at_most=1)
    return f"; nearest: {before}{near[0]}" if near else ""
