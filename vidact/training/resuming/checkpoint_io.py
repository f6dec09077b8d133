"""Write checkpoints atomically and with a checksum, and refuse damaged ones; Lightning uses it as its plugin."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from vidact.core.errors import EnvironmentProblem
from vidact.core.files import write_whole
from vidact.runs.checkpoints import check_sums, seal
from vidact.runs.folder import LAST


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin, made safe for full disks and processes that are killed.

    A checkpoint is written under a hidden name, flushed to the disk, and then renamed. What a killed process has left
    under the hidden name is overwritten by the next save of the same checkpoint.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            EnvironmentProblem: it cannot be written.
        """
        if storage_options is not None:
            raise TypeError(f"{type(self).__name__} takes no storage options, got {storage_options!r}")
        target = Path(path)
        buffer = io.BytesIO()  # if torch wrote the file itself, its error would not say why
        torch.save(checkpoint, buffer)
        seal(buffer)
        try:
            write_whole(target, buffer.getbuffer())
        except OSError as error:
            kept = "the previous checkpoint there is whole" if target.is_file() else "no checkpoint is there"
            last = target.with_name(LAST)
            then = f"resume with --ckpt_path {last}" if last.is_file() else "start again"
            raise EnvironmentProblem(
                f"{target} cannot be written ({error.strerror}); {kept}; make room or mend its rights, then {then}"
            ) from error

    @override
    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint whose checksum is right; no code in it is run, unless `weights_only` is false.

        Raises:
            CheckpointError: damaged; names the last good checkpoint beside it.
        """
        check_sums(Path(path))
        return super().load_checkpoint(Path(path), map_location, weights_only)
