"""Run a plain function as a verb: its parameters, and the fields of its settings dataclasses, become options."""

import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import jsonargparse

from vidact.cli.parse_errors import reword_parse_error
from vidact.cli.stopping import INTERRUPTED, TERMINATED, Terminated, ended_by_sigterm
from vidact.core.errors import ConfigError

_BY_NAME = inspect.Parameter.POSITIONAL_OR_KEYWORD
STOPPED = "vidact: stopped; run the same command again to continue"


def run_function(function: Callable[..., int], name: str, args: list[str]) -> int:
    """Call a verb's function with its arguments from the command line; gives its exit status."""
    flat = flatten(function)
    parser = build_parser(flat, name)
    try:
        settings = parser.parse_args(_spell(args, flat)).as_dict()
    except jsonargparse.ArgumentError as error:
        raise ConfigError(f"{name}: {_reword(error, flat)}; see python -m vidact {name} --help") from error
    if "" in settings.values():
        raise ConfigError(f"{name}: an empty name was given; expected a path")
    try:
        with ended_by_sigterm():  # Lightning alone would ignore it
            return flat(**settings)
    except (Terminated, KeyboardInterrupt) as stop:
        print(STOPPED, file=sys.stderr)
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def build_parser(function: Callable[..., int], name: str) -> jsonargparse.ArgumentParser:
    """Build the parser of a flat function (see `flatten`); the help comes from its docstring."""
    parser = jsonargparse.ArgumentParser(prog=f"python -m vidact {name}", exit_on_error=False, allow_abbrev=False)
    lists = _positional_lists(function)
    parser.add_function_arguments(function, as_positional=True, as_group=False, skip=set(lists))
    for parameter in lists:
        parser.add_argument(parameter, nargs="+", type=str, help=lists[parameter])
    parser.description = inspect.getdoc(function).split("\n\nArgs:")[0]  # type: ignore[union-attr]
    return parser


def flatten(function: Callable[..., int]) -> Callable[..., int]:
    """Spell out the settings dataclasses of a function: the same function with a parameter for each of their fields.

    The dataclasses are built from what is given, so that their defaults, docstrings and checks stand in one place.
    """
    kinds: dict[str, Any] = {name: kind for name, kind in get_type_hints(function).items() if is_dataclass(kind)}

    def call(**values: Any) -> int:
        for name, kind in kinds.items():
            own = {field.name: values.pop(field.name) for field in fields(kind)}
            own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
            values[name] = kind(**own)
        return function(**values)

    parameters = list(_flat_parameters(function))
    parameters.sort(key=lambda parameter: parameter.default is not parameter.empty)  # those without a default first
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    described = [_described(kind, "Attributes") for kind in kinds.values()]
    # The last section of a verb's docstring is Args, so that descriptions of fields can follow it.
    call.__doc__ = "\n".join([inspect.getdoc(function) or "", *described])
    return call


def _flat_parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints[name]
        if is_dataclass(kind):
            own = get_type_hints(kind)
            for field in fields(kind):
                default = list(field.default) if isinstance(field.default, tuple) else field.default
                yield parameter.replace(
                    name=field.name, default=default, annotation=_as_list(own[field.name]), kind=_BY_NAME
                )
        else:
            yield parameter.replace(annotation=kind, kind=_BY_NAME)


def _as_list(kind: Any) -> Any:
    """Replace tuples of any length by lists, which the parser can append to (--methods+=occlusion)."""
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        return list[get_args(kind)[0]]  # type: ignore[misc]
    members = [_as_list(one) for one in get_args(kind)]
    return members[0] | members[1] if len(members) == 2 and type(None) in members else kind


def _described(kind: Any, section: str) -> str:
    """Cut the descriptions of names out of a docstring, indented as under `Args:`."""
    found = re.search(rf"^{section}:\n((?:    .*\n?)*)", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    return found[1].rstrip("\n") if found else ""


def _positional_lists(function: Callable[..., int]) -> dict[str, str]:
    """Find the parameters that take one or more words of the command line, with their descriptions."""
    described = dict(re.findall(r"^ {4}(\w+): (.*)", inspect.getdoc(function) or "", flags=re.MULTILINE))
    return {
        name: described.get(name, "")
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.annotation == list[str] and parameter.default is parameter.empty
    }


def _reword(error: Exception, function: Callable[..., int]) -> str:
    """Reword the parser's error as one line: what was expected, and what was given."""
    message = " ".join(str(error).split())
    found = re.search(r'Parser key "(\w+)": Does not validate against any of the Union .* Given value: (.*)$', message)
    if found is None:
        return reword_parse_error(error, list(inspect.signature(function).parameters))
    key, value = found.groups()
    return f"--{key}: expected {inspect.signature(function).parameters[key].annotation}, got {value}"


def _spell(args: list[str], function: Callable[..., int]) -> list[str]:
    """Turn `--short-side` into `--short_side`, and a bare `--json` into `--json=true`."""
    spelled = []
    for arg, following in itertools.zip_longest(args, args[1:], fillvalue=""):
        option, sign, value = arg.partition("=")
        if not option.startswith("--"):
            spelled.append(arg)
            continue
        option = "--" + option[2:].replace("-", "_")
        known = inspect.signature(function).parameters.get(option[2:])
        is_switch = known is not None and known.annotation is bool
        bare = is_switch and not sign and following not in {"true", "false"}
        spelled.append(f"{option}=true" if bare else option + sign + value)
    return spelled
