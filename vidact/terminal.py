"""Write for people: nothing that a file is named controls a terminal or a spreadsheet; it knows no vidact.

A file's name may hold escape sequences that move the cursor, new lines that forge a message, marks that turn the
direction of reading, and a cell of a CSV file may be a formula.
"""

import re
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


def printable_json(text: str) -> str:
    """Write the control characters in JSON so that it stays the same JSON; its own line breaks stay."""
    return _CONTROL.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def plain_cell(value: Any) -> Any:
    """Make a cell of a CSV file one that no spreadsheet takes for a formula: a text like one gets a `'` before it.

    Numbers stay, those that are written as text (`-0.5`) too.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def read_cell(text: str) -> str:
    """Undo `plain_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) and not _is_number(text[1:]) else text


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Make all cells of a row such ones."""
    return {plain_cell(name): plain_cell(value) for name, value in row.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
