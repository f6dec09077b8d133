"""Say in one line what the parser of settings says in many: which one, what was expected, what was got.

It parses nothing; what it does not recognise stays as the parser has put it.
"""

import inspect
import re
import traceback
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pydoc import locate
from typing import Any

from vidact.core.errors import nearest

_KEY = re.compile(r'Parser key "([\w.]+)": ')
_EXPECTED = re.compile(r"Expected (?:an? )?(?:<class '([\w.]+)'>|typing\.Literal\[([^]]*)\])")
_GOT = re.compile(r".*Given value: ?(.*?)(?:\. Got value: .*)?$|.*?Got value: ?(.*?)(?:\. Got value: .*)?\.?$")
_NO_TENSOR = re.compile(r"Not of type Tensor: .*?Given value:(.*?)(?= - Expected a| Given value type: |$)")
_NESTED = re.compile(r"NestedArg\(key='[^']*', val='?(.*?)'?\)$")
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)': |Got value: Namespace\(class_path='([\w.]+)'")
_NEEDS = re.compile(r"Problem with given class_path '([\w.]+)': the following arguments are required: ([\w, ]*\w)")
_LACKS = re.compile(
    r"callable class: the following arguments are required: ([\w, ]*\w).*Namespace\(class_path='([\w.]+)'"
)
_NO_CLASS = re.compile(r"Expected a dot import path string|Not a valid subclass of|is not iterable")
_SETTINGS = re.compile(r"Subtypes: \[<class '([\w.]+)'>")
_NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_NO_OPTION = re.compile(r"Option '(\w+)' is not accepted")
_NO_SUBCLASS = re.compile(
    r"(?:path|a path but) ([\w.]+) (?=does not corr|either not).*?(?:to a|to be a) subclass of (?:<class ')?(\w+)"
)
_UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)")
_UNKNOWN_IN_FILE = re.compile(r"does not accept option '([\w.]+)'")
_REQUIRED = re.compile(r"the following arguments are required: \w+\.([\w.]+)$")
_NO_GROUP = re.compile(r"Key \"(\w+)\.[\w.]+\" not found in namespace|Parser key \"(\w+)\": Unable to load config")
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true, false", "NoneType": "null", "str": "text"}
_WORDS |= {"list": "a list", "collections.abc.Iterable": "a list", "tuple": "a list", "dict": "a mapping"}


def explain_parse_error(message: str, known: Sequence[str]) -> str:
    """Make one line of a parser's message, with the nearest known name where it does not know one.

    Args:
        message: As jsonargparse has it, on several lines.
        known: The keys of the verb's settings.
    """
    line = " ".join(message.split())
    if unknown := _UNKNOWN.search(line):
        return line + _nearest(unknown[1], known, "; nearest: --{}")
    if unknown := _UNKNOWN_IN_FILE.search(line):
        return f"there is no setting {unknown[1]}" + _nearest(unknown[1], known, "; nearest: --{}")
    if required := _REQUIRED.search(line):
        return f"--{required[1]} is missing; give it, or begin with a recipe that has it (--config demo)"
    if group := _NO_GROUP.search(line):
        name = group[1] or group[2]
        return f"--{name}: expected settings by their names (--{name}.…), or a YAML file of them, got something else"
    keys = _KEY.findall(line)
    if not keys:
        return line
    rest = line[line.rindex(f'Parser key "{keys[-1]}": ') :]
    told = _explain_name(keys[0], line)
    if len(set(keys)) == 1:
        told = told or (_explain_no_class(keys[0], line) if _NO_CLASS.search(line) else None)
        return told or _explain_type(keys[0], rest) or line
    where = _CLASS.search(line)
    is_plain = where is not None and is_dataclass(locate(where[1] or where[2]))
    return told or _explain_type(".".join([keys[0], *([] if is_plain else ["init_args"]), keys[-1]]), rest) or line


def _explain_name(key: str, line: str) -> str | None:
    """Explain a class that is not there, or a setting that it does not have."""
    if found := _NO_ATTRIBUTE.search(line):
        names = [name for name in dir(locate(found[1])) if not name.startswith("_")]
        near = _nearest(found[2], names, "; nearest: {}")
        return f"--{key}: the module {found[1]} has no {found[2]}{near}"
    if found := _NO_MODULE.search(line):
        return f"--{key}: there is no module {found[1]}; it must be here or in PYTHONPATH, or its package installed"
    if found := _NO_SUBCLASS.search(line):
        builds = "; a function that builds one says so: def build(num_classes: int) -> torch.nn.Module"
        return f"--{key}: {found[1]} is no subclass of {found[2]}{builds if found[2] == 'Module' else ''}"
    if found := _NEEDS.search(line):
        return f"--{key}: {found[1]} needs the setting {found[2]}"
    if found := _LACKS.search(line):
        missing = found[1].split(", ")
        return f"--{key}: {found[2]} needs {', '.join(f'--{key}.init_args.{name}' for name in missing)}"
    option, where = _NO_OPTION.search(line), _CLASS.search(line)
    return _explain_option(key, option[1], where[1] or where[2]) if option and where else None


def _explain_option(key: str, option: str, where: str) -> str:
    """Explain a setting that a class does not have; without a class it is one of the class that all have in common."""
    if where == "torch.nn.Module":
        return f"--{key}: expected class_path, that class's settings under init_args, and nothing beside these two"
    kind: Any = locate(where)
    try:
        settings = list(inspect.signature(kind).parameters)
    except (TypeError, ValueError):  # some of C have no signature
        settings = []
    place = key if is_dataclass(kind) else f"{key}.init_args"
    near = _nearest(option, settings, f"; nearest: --{place}.{{}}")
    return f"--{key}: {where} has no setting {option}{near or '; it has ' + ', '.join(settings)}"


def _explain_no_class(key: str, line: str) -> str:
    """Explain what is neither a class nor settings."""
    found, got = _SETTINGS.search(line), _GOT.match(line)
    kind: Any = locate(found[1]) if found else None
    wanted = "a class by its import path (my_module.Net)"
    if is_dataclass(kind):
        wanted = f"null or some of the settings {', '.join(field.name for field in fields(kind))}"
    value = (got[1] or got[2] or "") if got else line.rpartition("path string:")[2] if "path string:" in line else ""
    return f"--{key}: expected {wanted}, got {value.partition(' Subtype')[0].strip() or 'something else'}"


def _explain_type(key: str, line: str) -> str | None:
    """Explain a value of another kind."""
    expected, got = _EXPECTED.findall(line), _GOT.match(line)
    if not expected or got is None:
        return None
    wanted = [_WORDS.get(name, name) if name else literal for name, literal in expected]
    choices = dict.fromkeys(choice.strip(" '") for one in wanted for choice in one.split(","))
    if "a number" in choices:
        choices.pop("a whole number", None)  # it is one
    if list(choices) == ["null"] and (tensor := _NO_TENSOR.search(line)):
        value = tensor[1].strip() or "''"
        return f"--{key}: expected a list of two or more numbers ([1.0, 2.5, 3.0]) or null, got {value}"
    if list(choices) == ["null"]:  # or a class, of which the parser says nothing here
        choices["a class by its import path (my_module.Net)"] = None
    *most, last = choices
    value = _NESTED.sub(r"\1", got[1] or got[2] or "''")
    return f"--{key}: expected {', '.join(most)}{' or ' if most else ''}{last}, got {value}"


def explain_import_error(error: Exception) -> str | None:
    """Say where a module that the settings name fails while it is imported; None if that is not what has failed."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: this module cannot be imported ({error.msg})"
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    if not places:
        return None
    message = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{places[-1].filename}, line {places[-1].lineno}: this module cannot be imported ({message})"


def _nearest(name: str, names: Sequence[str], text: str) -> str:
    near = nearest(name, names, at_most=1)
    return text.format(near[0]) if near else ""
