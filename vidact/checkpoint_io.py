"""Save and load checkpoints so that no moment's failure costs a run: whole or not at all, and checked before use.

It does not know what they hold.
"""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from vidact.checkpoints import read_whole
from vidact.core import EnvironmentProblem


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk, and only then gives it its name.

    Lightning's own writes through TMPDIR: where that is another file system, a process that is killed leaves a cut file
    under the final name, and a folder that cannot be written is no error. Loading verifies the checksums of all
    parts first.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save, or raise and leave what was there.

        Args:
            checkpoint: What `torch.save` can write.
            path: Where to.
            storage_options: None; Lightning's protocol has it.

        Raises:
            EnvironmentProblem: it cannot be written.
        """
        place = Path(path)
        temporary = place.with_name(f".{place.name}-{secrets.token_hex(8)}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(place)
            with temporary.open("xb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
            _flush_folder(place.parent)
        except (OSError, RuntimeError) as error:  # torch.save says RuntimeError for a write that was cut short
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            before = "the one from before is whole" if place.is_file() else "there is none from before"
            raise EnvironmentProblem(f"{place}: the checkpoint cannot be written ({reason}); {before}") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Verify the checksums, then load; no code in it is run.

        Raises:
            CheckpointError: missing or damaged; names the whole ones in its folder.
        """
        found: dict[str, Any] = read_whole(Path(path), map_location=map_location or "cpu")
        return found


def _remove_abandoned(place: Path) -> None:
    """Remove what processes that were killed while they saved have left; one process saves a file at a time."""
    for path in place.parent.glob(f".{place.name}-*"):
        path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make sure that the name is on the disk, where the system can be asked to."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
