"""Run a plain function as a verb: its parameters become options."""

import inspect
import itertools
import re
import sys
from collections.abc import Callable

import jsonargparse

from vidact.cli.parse_errors import explain_parse_error
from vidact.cli.stopping import INTERRUPTED, TERMINATED, Terminated, ended_by_sigterm
from vidact.core.errors import ConfigError

STOPPED = "vidact: stopped; the same command goes on where it ended"


def run_function(function: Callable[..., int], name: str, args: list[str]) -> int:
    """Call a verb's function with its arguments from the command line; the help comes from its docstring."""
    parser = jsonargparse.ArgumentParser(prog=f"python -m vidact {name}", exit_on_error=False, allow_abbrev=False)
    lists = _positional_lists(function)
    parser.add_function_arguments(function, as_positional=True, as_group=False, skip=set(lists))
    for parameter in lists:
        parser.add_argument(parameter, nargs="+", type=str, help=lists[parameter])
    parser.description = inspect.getdoc(function).split("\n\nArgs:")[0]  # type: ignore[union-attr]
    try:
        settings = parser.parse_args(_spell(args, function)).as_dict()
    except jsonargparse.ArgumentError as error:
        raise ConfigError(f"{name}: {_told(error, function)}; see python -m vidact {name} --help") from error
    if "" in settings.values():
        raise ConfigError(f"{name}: an empty name was given; expected a path")
    try:
        with ended_by_sigterm():  # Lightning alone would go on
            return function(**settings)
    except (Terminated, KeyboardInterrupt) as stop:
        print(STOPPED, file=sys.stderr)
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def _positional_lists(function: Callable[..., int]) -> dict[str, str]:
    """Name the parameters that take one word or more of the command line, with what the docstring says of them."""
    described = dict(re.findall(r"^ {4}(\w+): (.*)", inspect.getdoc(function) or "", flags=re.MULTILINE))
    return {
        name: described.get(name, "")
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.annotation == list[str] and parameter.default is parameter.empty
    }


def _told(error: Exception, function: Callable[..., int]) -> str:
    """Say in one line what was expected and what was given."""
    message = " ".join(str(error).split())
    found = re.search(r'Parser key "(\w+)": Does not validate against any of the Union .* Given value: (.*)$', message)
    if found is None:
        return explain_parse_error(error, list(inspect.signature(function).parameters))
    key, value = found.groups()
    return f"--{key}: expected {inspect.signature(function).parameters[key].annotation}, got {value}"


def _spell(args: list[str], function: Callable[..., int]) -> list[str]:
    """Let `--short-side` be `--short_side`, and a bare `--json` mean `--json=true`."""
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
