"""Save `last.ckpt`, from which training is resumed as if it had never stopped."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vidact.core.errors import CheckpointError
from vidact.runs.folder import LAST, RunFolder
from vidact.training.resuming.finite import first_not_finite


class LastCheckpoint(Callback):
    """Saves `last.ckpt` before the first step, between epochs, at the end, and when SIGTERM ends training.

    Lightning's own callback saves within the end of an epoch, before the rate of a ReduceLROnPlateau has changed, the
    best epoch is saved and the epoch's mean loss is logged. This one saves when all of that is done. It comes first
    among the callbacks, so that no other has begun the next epoch, or ended training, when it saves.
    """

    def __init__(self) -> None:
        self._path: Path | None = None  # known once training has begun
        self._saved_batches = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before the first step, so that a folder that cannot be written shows at once."""
        self._path = RunFolder.of(trainer).last_checkpoint.absolute()
        loop = trainer.fit_loop
        epochs: Any = loop.epoch_progress.current
        if epochs.ready == epochs.processed:
            loop.epoch_loop.restarting = False  # with max_steps, Lightning takes the last epoch for unfinished
        if trainer.ckpt_path is not None and Path(trainer.ckpt_path).absolute() == self._path:
            self._saved_batches = loop.epoch_loop.batch_progress.total.completed
        self._save_between_epochs(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state after the last epoch."""
        self._save_between_epochs(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a ReduceLROnPlateau take its step in a resumed epoch, too: its metric is there."""
        trainer.fit_loop._restarting = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last epoch, or the part of it that a limit of steps or of time has left; as after SIGTERM."""
        if not (_is_cut(trainer) and _gradients_wait(trainer)):
            self._save_between_epochs(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where SIGTERM has stopped training; after any other exception, the state may be that of half a step.

        Accumulated gradients are in no checkpoint: while there are some, the checkpoint before this epoch stays, as it
        does if the last step has made the weights NaN.
        """
        if not isinstance(exception, SIGTERMException) or self._path is None or _gradients_wait(trainer):
            return
        if name := first_not_finite(pl_module):
            rank_zero_warn(f"the weights of {name} are not finite and are not saved: {LAST} stays as it was")
            return
        self._save(trainer)

    def _save_between_epochs(self, trainer: Trainer) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.completed != self._saved_batches:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if getattr(trainer, "fast_dev_run", False) or self._path is None:
            return
        # As `trainer.save_checkpoint`, without its barrier: SIGTERM does not find all processes at the same place.
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        trainer.strategy.save_checkpoint(checkpoint, self._path)
        self._saved_batches = trainer.fit_loop.epoch_loop.batch_progress.total.completed

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Correct the saved state so that Lightning resumes from the right epoch and batch."""
        state = checkpoint["loops"]["fit_loop"]
        epochs = state["epoch_progress"]
        if epochs["current"]["started"] == epochs["current"]["processed"] and _is_cut(trainer):
            for progress in epochs.values():  # Lightning takes it for done
                progress["processed"] = progress["completed"] = progress["started"] - 1
            checkpoint["epoch"] = epochs["current"]["processed"]
        elif epochs["current"]["started"] == epochs["current"]["processed"]:  # between epochs
            for progress in epochs.values():
                progress["ready"] = progress["started"]  # the next one has not begun
            checkpoint["epoch"] = max(epochs["current"]["processed"] - 1, 0)  # the last one that is in the weights
        elif trainer.validating:  # to be done anew, as the predictions so far are in no checkpoint
            for progress in state["epoch_loop.val_loop.batch_progress"].values():
                if isinstance(progress, dict):
                    progress |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        checkpoint["vidact_processes"] = trainer.world_size

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the best epoch's checkpoint again in a folder that has moved.

        Raises:
            CheckpointError: it is from the middle of an epoch that another number of processes shared.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        processes = checkpoint.get("vidact_processes", trainer.world_size)
        if (
            trainer.state.fn == "fit"
            and progress["started"] > progress["processed"]
            and processes != trainer.world_size
        ):
            raise CheckpointError(
                f"the checkpoint is from the middle of an epoch that {processes} processes shared, and "
                f"{trainer.world_size} would see other clips of it; resume with --trainer.devices {processes}"
            )
        path = Path(trainer.ckpt_path or "").absolute()
        if path == RunFolder.of(trainer).last_checkpoint.absolute():
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.state_key in checkpoint.get("callbacks", {}):
                    _move(checkpoint["callbacks"][callback.state_key], str(callback.dirpath))


def _is_cut(trainer: Trainer) -> bool:
    """Say whether this epoch has begun and has batches that it has not seen."""
    loop = trainer.fit_loop.epoch_loop
    return loop.batch_progress.current.completed > 0 and not loop._num_ready_batches_reached()


def _gradients_wait(trainer: Trainer) -> bool:
    """Say whether some batches of this epoch are in no step yet; its last batch makes one with what there is."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    done = progress.current.completed
    whole = progress.is_last_batch and done == progress.current.ready
    return not whole and done % trainer.accumulate_grad_batches != 0


def _move(state: dict[str, Any], folder: str) -> None:
    """Change a ModelCheckpoint's state into one of another folder."""

    def moved(path: str) -> str:
        return str(Path(folder) / Path(path).name) if path else path

    state["dirpath"] = folder
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
