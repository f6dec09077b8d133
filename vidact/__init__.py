"""Train networks that recognise human actions in video, and see what they look at.

    from vidact import load, explain
    explain(load("runs/version_0"), "clip.mp4")

Importing vidact is fast: torch and the rest are imported when one of its functions is first used.
"""

from typing import TYPE_CHECKING, Any

from vidact.core import __version__ as __version__

if TYPE_CHECKING:
    from vidact.api import adopt as adopt
    from vidact.api import explain as explain
    from vidact.api import load as load
    from vidact.api import show as show

_NOTEBOOK = ("load", "explain", "show", "adopt")


def __getattr__(name: str) -> Any:
    if name not in _NOTEBOOK:
        raise AttributeError(f"module 'vidact' has no attribute {name!r}")
    from vidact import api

    return getattr(api, name)
