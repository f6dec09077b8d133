"""A process that downloads HMDB51 again and again, and is killed after so many lines of our own code.

Run it as a program: for each line of JSON on its standard input, `[folder, address, classes, number of lines or null]`,
it forks a child that downloads, and says with a line of JSON how that ended: the child's signal, its status, and
the lines it ran. Forking spares each child the imports.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from vidact.data.download import archives, transfer, unpacking
from vidact.data.download import hmdb51 as hmdb51_download
from vidact.data.download import mirrors as download

OURS = {module.__file__ for module in (archives, download, hmdb51_download, transfer, unpacking)}


def run(folder: str, url: str, classes: list[str], last_line: int | None, *, told: int) -> None:
    """Download, and kill this very process at the given line."""
    num_lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal num_lines
        if frame.f_code.co_filename not in OURS:
            return None
        if event == "line":
            num_lines += 1
            if num_lines == last_line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    hmdb51_download.download_hmdb51(
        Path(folder),
        mirrors=hmdb51_download.Mirrors((url,), builtin=False),
        classes=classes,
        patience=transfer.Patience(attempts=3, pause_seconds=0.0, timeout_seconds=20.0),
    )
    sys.settrace(None)
    os.write(told, str(num_lines).encode())


def forget_checksums() -> None:
    """What tests make up has none of the real ones."""
    for name in ("_VIDEOS", "_SPLITS"):
        known = [replace(s, md5=None, sha256=None, num_bytes=None) for s in getattr(hmdb51_download, name)]
        setattr(hmdb51_download, name, tuple(known))


def main() -> None:
    forget_checksums()
    for line in sys.stdin:
        told_to_us, told = os.pipe()
        child = os.fork()
        if not child:
            run(*json.loads(line), told=told)
            os._exit(0)
        os.close(told)
        _, status = os.waitpid(child, 0)
        num_lines = int(os.read(told_to_us, 20) or 0)
        os.close(told_to_us)
        print(json.dumps([os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status), num_lines]), flush=True)


if __name__ == "__main__":
    main()
