"""Train networks that recognise human actions in video, and see what they look at.

    from vidact import load, explain
    explain(load("runs/version_0"), "clip.mp4")

Importing this package imports nothing heavy: what these two need comes when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidact.notebook import explain as explain
    from vidact.notebook import load as load
    from vidact.notebook import show as show

__version__ = "0.1.0"

_NOTEBOOK = ("load", "explain", "show")


def __getattr__(name: str) -> Any:
    if name not in _NOTEBOOK:
        raise AttributeError(f"module 'vidact' has no attribute {name!r}")
    from vidact import notebook

    return getattr(notebook, name)
