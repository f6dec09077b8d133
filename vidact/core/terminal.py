"""Escape untrusted names in terminal output, JSON and CSV cells, and survive closed pipes.

A file's name may hold escape sequences that move the cursor, line breaks that forge a message, and marks that reverse
the direction of reading; a CSV cell that begins like a formula is run by spreadsheets.
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
# Also after apostrophes, so that escaping can be undone; spreadsheets accept full-width signs as well.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def printable(text: object) -> str:
    r"""Escape control characters as Python does (`\x1b`, `\n`), and nothing else."""
    return _CONTROL.sub(lambda found: _NAMED.get(found[0]) or _escape(found[0]), str(text))


def _escape(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


def printable_lines(lines: Iterable[object]) -> str:
    """Join lines, with the line breaks inside of each escaped."""
    return "\n".join(map(printable, lines))


def guard_warnings() -> None:
    """Escape control characters in all warnings, other libraries' too, but keep their line breaks."""
    shown = warnings.formatwarning
    if getattr(shown, "is_guarded", False):
        return

    def guarded(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return shown(printable_lines(str(message).split("\n")), category, filename, lineno, line)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    warnings.formatwarning = guarded


class _PipeSafeStream(io.TextIOWrapper):
    """A text stream that drops its output once its reader, such as `head`, has closed the pipe.

    `problem` is the system's error where something else went wrong (a full disk).
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
        """Flush the buffer."""
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
            super().flush()  # empties the buffer into devnull, else closing would raise


def survive_closed_pipes() -> None:
    """Let this process continue when the reader of its output has gone (`vidact … | head`)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:  # closed from the start, or replaced already
            continue
        encoding, errors, line_buffering = stream.encoding, stream.errors, stream.line_buffering
        write_through = stream.write_through
        safe = _PipeSafeStream(
            stream.detach(), encoding, errors, line_buffering=line_buffering, write_through=write_through
        )
        setattr(sys, name, safe)
        setattr(sys, f"__{name}__", safe)


def output_problem() -> str:
    """Return why some output could not be written; empty if all was written or the reader closed the pipe."""
    if isinstance(sys.stdout, _PipeSafeStream):
        sys.stdout.flush()
        if sys.stdout.problem is not None:
            return f"the output cannot be written ({sys.stdout.problem.strerror})"
    return ""


def printable_json(text: str) -> str:
    """Escape control characters in JSON text, which keeps its meaning; line breaks between items stay."""
    return _CONTROL.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def escape_cell(value: Any) -> Any:
    """Prefix a text that a spreadsheet would run as a formula with `'`; numbers, also as text (`-0.5`), stay."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def unescape_cell(text: str) -> str:
    """Undo `escape_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) and not _is_number(text[1:]) else text


def escape_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Apply `escape_cell` to all names and values of a row."""
    return {escape_cell(name): escape_cell(value) for name, value in row.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
