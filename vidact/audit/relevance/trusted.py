"""Choose the method that explains clips for an audit: the one that `evaluate` found to be right for this run."""

import json
from pathlib import Path

from vidact.audit.settings import AUTO
from vidact.runs.folder import RunFolder

UNTRUSTED = (
    "no method of relevance has earned trust for this run; run `python -m vidact evaluate`, or name one by --method"
)


def choose_method(folder: Path | None, asked: str) -> str | None:
    """Choose a method; None where none is named, and none has earned trust.

    Args:
        folder: The run's; None for a checkpoint on its own.
        asked: auto, or a method by name.
    """
    if asked != AUTO:
        return asked
    if folder is None:
        return None
    try:
        content = json.loads((RunFolder(folder).evaluation / "evaluation.json").read_text(encoding="utf-8"))
        method = content["verdict"]["method"]
    except (OSError, ValueError, KeyError, TypeError):  # not evaluated, or no evaluation that could be trusted
        return None
    return method if isinstance(method, str) else None
