"""The parser of a run's settings.

It knows none of them.
"""

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from vidact.networks import explain_building


class Parser(LightningArgumentParser):
    """Lightning's parser, which also fills in what it links to where a function builds the network."""

    def add_function_arguments(self, *args: Any, linked_targets: set[str] | None = None, **kwargs: Any) -> list[str]:
        """Add a function's arguments; whoever links to some of them takes those away from what is required."""
        return super().add_function_arguments(*args, **kwargs)

    def instantiate_classes(self, cfg: Any, **kwargs: Any) -> Any:
        """Build all parts.

        Raises:
            NetworkError: the network's own constructor has raised.
        """
        try:
            return super().instantiate_classes(cfg, **kwargs)
        except Exception as error:
            settings = cfg.get(cfg.get("subcommand") or "", cfg)
            name = settings.get("model.network.class_path")
            if name is None or (told := explain_building(error, name)) is None:
                raise
            raise told from error
