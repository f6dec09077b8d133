"""Write the reference pages of the command line and of the settings from the code, before Sphinx reads its sources.

Sphinx loads this as an extension (see conf.py). The pages lie in docs/reference/generated, which git ignores.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import docstring_parser
import jsonargparse
from draw_packages import draw
from torch import nn

import vidact.models
from vidact import api
from vidact.attribution.lrp.composites import COMPOSITES, GRADIENT_FORM
from vidact.attribution.lrp.recipes import LAYERS, RULES
from vidact.attribution.registry import METHODS, build_explainer
from vidact.cli.functions import run_function
from vidact.cli.help import TRAINER_HELP, TRAINER_VERBS
from vidact.cli.main import VERBS
from vidact.core.explanation import Account, Explanation
from vidact.data.datamodule import VideoDataModule
from vidact.data.loading.augmentation import AugmentationSettings
from vidact.training.callbacks.audit import AuditCallback
from vidact.training.callbacks.averaging import MeanWeights
from vidact.training.callbacks.faithfulness.callback import FaithfulnessCallback
from vidact.training.callbacks.relevance.callback import RelevanceCallback
from vidact.training.classifier import ActionClassifier
from vidact.training.schedules import WarmupCosine

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Filled in by the command line from the data, or by Lightning and torch.
GIVEN = {"self", "optimizer", "class_names", "num_classes", "num_frames", "channels", "size"}

# Page: its title, and what is on it, as the prefix of its options and the class that has them.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "data": ("Data", {"data": VideoDataModule, "data.augmentation": AugmentationSettings}),
    "training": (
        "Training",
        {"model": ActionClassifier, "model.lr_scheduler": WarmupCosine, "trainer.callbacks": MeanWeights},
    ),
    "watching": (
        "Explaining while training",
        {"relevance": RelevanceCallback, "faithfulness": FaithfulnessCallback, "audit": AuditCallback},
    ),
}


class _Parser(Exception):
    """Carries a verb's parser out of the function that builds it."""


def setup(app: "Sphinx") -> dict[str, bool]:
    """Let Sphinx write the pages first."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    return {"parallel_read_safe": True}


def write_pages(docs: Path) -> None:
    """Write all generated pages, and the drawing of the packages."""
    folder = docs / "reference" / "generated"
    folder.mkdir(exist_ok=True)
    pages = {"command-line": "\n".join(command_line())}
    for name, (title, parts) in SETTINGS.items():
        pages[name] = "\n".join([f"# {title}", "", *_settings_page(parts)])
    pages["networks"] = "\n".join(networks())
    pages["methods"] = "\n".join(methods())
    pages["python"] = "\n".join(python())
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # Sphinx reads again what has changed
            path.write_text(text, encoding="utf-8")
    draw(folder / "packages.svg")


def command_line() -> Iterator[str]:
    """Describe every verb: the trainer's by its help text, the others by their parsers."""
    yield "# Command line\n"
    yield "`python -m vidact VERB …`, or `vidact VERB …` once it is installed. `--help` after a verb prints the same.\n"
    yield f"## {', '.join(TRAINER_VERBS)}\n"
    yield "Lightning's own verbs. Their settings are on the pages [data](data.md), [training](training.md), "
    yield "[explaining while training](watching.md) and [networks](networks.md); `--trainer.*` are those of "
    yield "Lightning's `Trainer`.\n"
    yield from _trainer_options(TRAINER_HELP.format(verb="fit", purpose=TRAINER_VERBS["fit"]))
    for name, function in VERBS.items():
        yield from _verb(name, _parser_of(function, name))


def _trainer_options(text: str) -> Iterator[str]:
    """Give the options of a help text: two spaces, the option, spaces, and its meaning in one line or more."""
    for option, meaning in re.findall(r"^  (--\S+(?: [A-Z]+)?)  +(.*(?:\n {10,}.*)*)", text, flags=re.MULTILINE):
        yield f"`{option}`\n: {_cell(meaning)}\n"


def _parser_of(function: Callable[..., int], name: str) -> jsonargparse.ArgumentParser:
    def give(parser: jsonargparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _Parser(parser)

    with mock.patch.object(jsonargparse.ArgumentParser, "parse_args", give):
        try:
            run_function(function, name, [])
        except _Parser as found:
            parser: jsonargparse.ArgumentParser = found.args[0]
    return parser


def _verb(name: str, parser: jsonargparse.ArgumentParser) -> Iterator[str]:
    actions = [
        action for action in parser._actions if action.dest not in {"help", "config"} and action.help != "==SUPPRESS=="
    ]
    words = [
        action.dest.upper() + ("…" if action.nargs == "+" else "") for action in actions if not action.option_strings
    ]
    yield f"## {name}\n"
    yield f"```text\npython -m vidact {' '.join([name, *words])} [options]\n```\n"
    yield _text(parser.description or "") + "\n"
    for action in sorted(actions, key=lambda action: bool(action.option_strings)):
        if not action.option_strings:
            yield f"`{action.dest.upper()}`\n: {_cell(action.help or '')}\n"
        else:
            yield _entry(
                action.option_strings[0], getattr(action, "_typehint", action.type), action.default, action.help
            )


def _entry(name: str, annotation: Any, default: Any, meaning: str | None) -> str:
    """Describe a setting as an item of a definition list, which a narrow screen can show."""
    kind = "" if annotation in (None, inspect.Parameter.empty) else _kind(annotation)
    value = "" if default is inspect.Parameter.empty else f"default {_value(default)}"
    return f"`{name}` {', '.join(filter(None, [kind, value]))}\n: {_cell(meaning or '') or '–'}\n"


def _settings_page(parts: dict[str, Any]) -> Iterator[str]:
    for prefix, kind in parts.items():
        yield f"## `--{prefix}`: {kind.__name__}\n"
        path = f"{kind.__module__}.{kind.__name__}"
        yield from _settings_of(kind, path)


def _settings_of(kind: Callable[..., Any], path: str) -> Iterator[str]:
    """Describe a class and its parameters, by its signature and its docstring."""
    described = docstring_parser.parse(inspect.getdoc(kind) or "", style=docstring_parser.DocstringStyle.GOOGLE)
    meanings = _meanings(kind) if inspect.isclass(kind) else {one.arg_name: one.description for one in described.params}
    yield f"`{path}`\n"
    yield _prose(described) + "\n"
    parameters = [
        item
        for name, item in inspect.signature(kind).parameters.items()
        if name not in GIVEN or kind is VideoDataModule
    ]
    parameters = [item for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)]
    if not parameters:
        return
    for item in parameters:
        yield _entry(item.name, item.annotation, item.default, meanings.get(item.name))


def networks() -> Iterator[str]:
    """Describe every network of vidact.models; a new file there is on the page by itself."""
    yield "# Networks\n"
    yield "`--model.network CLASS`, and its settings as `--model.network.init_args.NAME VALUE`. `num_classes`, "
    yield "`num_frames`, `size` and `channels` come from the data.\n"
    for found in pkgutil.iter_modules(vidact.models.__path__, "vidact.models."):
        own = [kind for kind in vars(importlib.import_module(found.name)).values() if _is_network(kind, found.name)]
        for kind in own:
            if not set(kind.__subclasses__()) & set(own):  # no base of others in its file
                yield f"## {kind.__name__}\n"
                yield from _settings_of(kind, f"{found.name}.{kind.__name__}")


def _is_network(kind: Any, module: str) -> bool:
    is_own = inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__ == module
    return is_own and "num_classes" in inspect.signature(kind).parameters


def methods() -> Iterator[str]:
    """Describe every explanation method, composite, rule and kind of layer."""
    yield "# Methods and rules\n"
    yield "`--relevance.method NAME`, `explain --method NAME`, `evaluate --methods '[NAME, …]'`, and in Python "
    yield "`build_explainer(NAME, network, …)` of `vidact.attribution.registry`, which takes the settings below.\n"
    for name, kind in METHODS.items():
        yield f"## {name}\n"
        described = docstring_parser.parse(inspect.getdoc(kind) or "", style=docstring_parser.DocstringStyle.GOOGLE)
        yield _prose(described) + "\n"
        own = [item for item in inspect.signature(kind).parameters.values() if item.kind is item.KEYWORD_ONLY]
        meanings = _meanings(kind)
        for item in own:
            yield _entry(item.name, item.annotation, item.default, meanings.get(item.name))
    yield "## Composites and rules\n"
    yield "A composite gives each layer its rule ([how to write one](../../how-to/explain.md#rules-per-layer)).\n"
    yield f"Composites\n: {_names([*COMPOSITES, *GRADIENT_FORM])}\n"
    yield f"Rules\n: {_names(RULES)}\n"
    yield f"Layers\n: `first`, `recurrent`, {_names(LAYERS)}, or a class of `torch.nn`\n"


def _meanings(kind: type) -> dict[str, str]:
    """Read what the docstrings of a class and of what it inherits say of each parameter."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        described = docstring_parser.parse(vars(one).get("__doc__") or "", style=docstring_parser.DocstringStyle.GOOGLE)
        found |= {item.arg_name: item.description or "" for item in described.params}
    return found


def python() -> Iterator[str]:
    """Describe what a notebook needs."""
    yield "# Python\n"
    yield "`from vidact import explain, load, show` imports nothing heavy; torch comes when they are used.\n"
    for function in (api.load, api.explain, api.show):
        yield from _function(function, f"vidact.{function.__name__}")
    yield from _class(api.ClipExplanation)
    yield "## Batches of clips\n"
    yield "An explainer is a context manager and a function `(video, target) -> Explanation`.\n"
    yield from _function(build_explainer, f"{build_explainer.__module__}.{build_explainer.__name__}", level=3)
    yield from _class(Explanation, level=3)
    yield from _class(Account, level=3)


def _function(function: Callable[..., Any], path: str, *, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {function.__name__}\n"
    yield from _settings_of(function, path)


def _class(kind: type, *, level: int = 2) -> Iterator[str]:
    """Describe a class by its attributes."""
    described = docstring_parser.parse(inspect.getdoc(kind) or "", style=docstring_parser.DocstringStyle.GOOGLE)
    yield f"{'#' * level} {kind.__name__}\n"
    yield f"`{kind.__module__}.{kind.__name__}`\n"
    yield _prose(described) + "\n"
    types = inspect.get_annotations(kind, eval_str=False)
    for item in described.params:
        yield _entry(item.arg_name, types.get(item.arg_name), inspect.Parameter.empty, item.description)


def _prose(described: docstring_parser.Docstring) -> str:
    return _text("\n\n".join(filter(None, [described.short_description, described.long_description])))


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _kind(annotation: Any) -> str:
    """Spell a type as a user writes it: without modules, and without quotes."""
    if hasattr(annotation, "dim_str"):  # jaxtyping
        return f"{annotation.array_type.__name__} \\[{annotation.dim_str.strip()}]"
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", inspect.formatannotation(annotation).strip("'\""))
    text = re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)
    text = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace("'", "").replace(",", " |"), text)
    return f"{text}".replace("[", "\\[") if text and text != "None" else ""


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f"`{value}`" if value else ""
    if value is None:
        return "none"
    if dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if callable(value):
        return f"`{getattr(value, '__name__', value)}`"
    if isinstance(value, tuple | list):
        return "`[" + ", ".join(str(one) for one in value) + "]`"
    return f"`{value}`"


def _text(text: str) -> str:
    """Make Markdown of plain words: what is in backticks is code already, elsewhere < and * mean themselves."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"([<*_])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def _cell(text: str) -> str:
    return _text(" ".join(text.split()).replace("%%", "%"))
