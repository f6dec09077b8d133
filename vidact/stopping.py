"""What a verb that a signal has ended comes to; it imports nothing, so that the command line can start with it."""

INTERRUPTED, TERMINATED = 130, 143  # what shells say of a program that Ctrl-C or SIGTERM ended


class Stopped(Exception):
    """A signal has ended a verb: what to say, and the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
