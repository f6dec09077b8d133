"""Write for people: nothing that a file is named controls a terminal or a spreadsheet; it knows no vidact.

A file's name may hold escape sequences that move the cursor, new lines that forge a message, marks that turn the
direction of reading, and a cell of a CSV file may be a formula.
"""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

# C0, DEL, C1; separators of lines and paragraphs; embeddings, overrides and isolates of the direction of reading.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def printable(text: object) -> str:
    r"""Write control characters as Python does (`\x1b`, `\n`); everything else stays as it is."""
    return _CONTROL.sub(lambda found: _NAMED.get(found[0]) or _escape(found[0]), str(text))


def _escape(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


def printable_lines(lines: Iterable[object]) -> str:
    """Join lines, each of which stays one."""
    return "\n".join(map(printable, lines))


def guard_warnings() -> None:
    """Let warnings, too, whoever gives them, be shown without control characters but line breaks."""
    shown = warnings.formatwarning
    if getattr(shown, "is_guarded", False):
        return

    def guarded(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return shown(printable_lines(str(message).split("\n")), category, filename, lineno, line)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    warnings.formatwarning = guarded


class _Lasting(io.TextIOWrapper):
    """A stream for people that outlives its reader, such as `head`: what comes after that goes nowhere.

    `problem` is what the system says where that is not the reader's own wish (a full disk).
    """

    problem: OSError | None = None

    def write(self, text: str, /) -> int:
        """Write a text."""
        try:
            return super().write(text)
        except OSError as error:
            self._lose_reader(error)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            super().flush()
        except OSError as error:
            self._lose_reader(error)

    def _lose_reader(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            self.problem = error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        with contextlib.suppress(OSError, ValueError):
            super().flush()  # what it still holds


def survive_closed_pipes() -> None:
    """Let the work of this process go on when nobody reads what it prints any more (`vidact … | head`)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:  # closed from the beginning, or already another one
            continue
        encoding, errors, line_buffering = stream.encoding, stream.errors, stream.line_buffering
        write_through = stream.write_through
        lasting = _Lasting(
            stream.detach(), encoding, errors, line_buffering=line_buffering, write_through=write_through
        )
        setattr(sys, name, lasting)
        setattr(sys, f"__{name}__", lasting)


def output_problem() -> str:
    """Say why something of what this process printed could not be written; empty if all was, or nobody wants it."""
    if isinstance(sys.stdout, _Lasting):
        sys.stdout.flush()
        if sys.stdout.problem is not None:
            return f"what was to be printed cannot be written ({sys.stdout.problem.strerror})"
    return ""


def printable_json(text: str) -> str:
    """Write the control characters in JSON so that it stays the same JSON; its own line breaks stay."""
    return _CONTROL.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def escape_cell(value: Any) -> Any:
    """Make a cell of a CSV file one that no spreadsheet takes for a formula: a text like one gets a `'` before it.

    Numbers stay, those that are written as text (`-0.5`) too.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def unescape_cell(text: str) -> str:
    """Undo `escape_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) and not _is_number(text[1:]) else text


def escape_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Make all cells of a row such ones."""
    return {escape_cell(name): escape_cell(value) for name, value in row.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
