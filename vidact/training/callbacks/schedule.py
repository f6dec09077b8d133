"""Decide after which epochs of training something is due; it does not know what."""


class Schedule:
    """Every n-th epoch, at the first occasion from then on, and the last epoch.

    Args:
        every_n_epochs: 0 for never.
    """

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs
        self.epoch = self.done = -1

    def is_due(self) -> bool:
        """Tell whether an n-th epoch has come since the last time."""
        n = self.every_n_epochs
        return n > 0 and (self.epoch + 1) // n > (self.done + 1) // n

    def is_last_due(self) -> bool:
        """Tell, when training has ended, whether its last epoch is still to be done."""
        return self.every_n_epochs > 0 and self.done < self.epoch

    def note_done(self) -> None:
        """Note that the present epoch is done."""
        self.done = self.epoch
