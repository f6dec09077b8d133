"""Decide after which epochs a callback does its work."""


class Schedule:
    """Due after every n-th epoch, at the first validation from then on, and after the last one.

    Args:
        every_n_epochs: 0 for never.
    """

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs
        self.epoch = self.done = -1

    def is_due(self) -> bool:
        """Say whether an n-th epoch has passed since the last time."""
        n = self.every_n_epochs
        return n > 0 and (self.epoch + 1) // n > (self.done + 1) // n

    def is_last_due(self) -> bool:
        """Say, when training has ended, whether its last epoch is still to be done."""
        return self.every_n_epochs > 0 and self.done < self.epoch

    def note_done(self) -> None:
        """Note that the present epoch is done."""
        self.done = self.epoch
