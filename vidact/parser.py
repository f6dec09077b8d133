"""The parser of a run's settings.

It knows none of them.
"""

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser


class Parser(LightningArgumentParser):
    """Lightning's parser, which also fills in what it links to where a function builds the network."""

    def add_function_arguments(self, *args: Any, linked_targets: set[str] | None = None, **kwargs: Any) -> list[str]:
        """Add a function's arguments; whoever links to some of them takes those away from what is required."""
        return super().add_function_arguments(*args, **kwargs)
