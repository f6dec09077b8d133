"""Say in one line what the parser of settings says in many: which one, what was expected, what was got.

It parses nothing; what it does not recognise stays as the parser has put it.
"""

import difflib
import inspect
import re
from collections.abc import Sequence
from pydoc import locate

_KEY = re.compile(r'Parser key "([\w.]+)": ')
_EXPECTED = re.compile(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[([^]]*)\])")
_GOT = re.compile(r".*Given value: (.*?)(?:\. Got value: .*)?$|.*?Got value: (.*?)(?:\. Got value: .*)?\.?$")
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)': ")
_NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_NO_OPTION = re.compile(r"Option '(\w+)' is not accepted")
_NO_SUBCLASS = re.compile(r"Import path ([\w.]+) does not correspond to a subclass of (\w+)")
_UNKNOWN = re.compile(r"(?:unrecognized arguments: --|does not accept option ')([\w.]+)")
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true, false", "NoneType": "null", "str": "text"}
_WORDS |= {"list": "a list", "tuple": "a list", "dict": "a mapping"}


def explain_parse_error(message: str, known: Sequence[str]) -> str:
    """Make one line of a parser's message, with the nearest known name where it does not know one.

    Args:
        message: As jsonargparse has it, on several lines.
        known: The keys of the verb's settings.
    """
    line = " ".join(message.split())
    if unknown := _UNKNOWN.search(line):
        return line + _nearest(unknown[1], known, "; nearest: --{}")
    keys = _KEY.findall(line)
    if not keys:
        return line
    key = keys[0] if len(keys) == 1 else f"{keys[0]}.init_args.{keys[-1]}"
    rest = line[line.rindex(f'Parser key "{keys[-1]}": ') :]
    return _explain_name(keys[0], line) or _explain_type(key, rest) or line


def _explain_name(key: str, line: str) -> str | None:
    """Explain a class that is not there, or a setting that it does not have."""
    if found := _NO_ATTRIBUTE.search(line):
        names = [name for name in dir(locate(found[1])) if not name.startswith("_")]
        near = _nearest(found[2], names, "; nearest: {}")
        return f"--{key}: the module {found[1]} has no {found[2]}{near}"
    if found := _NO_MODULE.search(line):
        return f"--{key}: there is no module {found[1]}; its folder must be in PYTHONPATH, or its package installed"
    if found := _NO_SUBCLASS.search(line):
        return f"--{key}: {found[1]} is no subclass of {found[2]}"
    option, where = _NO_OPTION.search(line), _CLASS.search(line)
    if option is None or where is None:
        return None
    try:
        settings = list(inspect.signature(locate(where[1])).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # some of C have no signature
        settings = []
    near = _nearest(option[1], settings, "; nearest: --" + key + ".init_args.{}")
    return f"--{key}: {where[1]} has no setting {option[1]}{near or '; it has ' + ', '.join(settings)}"


def _explain_type(key: str, line: str) -> str | None:
    """Explain a value of another kind."""
    expected, got = _EXPECTED.findall(line), _GOT.match(line)
    if not expected or got is None:
        return None
    wanted = [_WORDS.get(name, name) if name else literal for name, literal in expected]
    choices = dict.fromkeys(choice.strip(" '") for one in wanted for choice in one.split(","))
    *most, last = choices
    return f"--{key}: expected {', '.join(most)}{' or ' if most else ''}{last}, got {got[1] or got[2]}"


def _nearest(name: str, names: Sequence[str], text: str) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return text.format(near[0]) if near else ""
