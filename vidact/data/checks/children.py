"""Run tasks in child processes that may hang or crash, with a time and a memory limit for each.

`inspection` uses it, because a damaged video can hang a decoder or end its process. Children are programs of their
own, not `multiprocessing`'s, which would import the user's script again. Parent and child exchange lines of JSON over
the child's standard input and output.

The parent kills a child whose answer takes too long. A child also ends by itself, after the time limit and when the
parent closes the pipe, so that none stays behind a parent that was killed.
"""

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vidact.core.errors import EnvironmentProblem

Message = dict[str, Any]
POLL_SECONDS = 0.5
START_LIMIT_SECONDS = 300.0  # importing torch from a slow disk takes minutes
ORPHAN_GRACE_SECONDS = 5.0
DEATH_LIMIT_SECONDS = 10.0
MEMORY_LIMIT_BYTES = 6 * 2**30
QUESTIONS_PER_CHILD = 32  # starting a child takes about as long as this many clips
MAX_CHILDREN = 32
_STDERR_TAIL_BYTES = 2000
_EXCEPTION = "exit status 1: "  # of Python after an uncaught exception


@dataclass(frozen=True)
class Reply:
    """The outcome of one question.

    Attributes:
        question: The question.
        answer: The child's answer; None where it died.
        timed_out: True where it was killed at the time limit.
        death: How it died: a signal's name or an exit status, and the last line that it printed.
    """

    question: Message
    answer: Message | None
    timed_out: bool = False
    death: str = ""

    @property
    def raised(self) -> str:
        """The exception that ended the child, in one line; empty if it answered, was killed or ran out of memory."""
        return self.death.removeprefix(_EXCEPTION) if _is_exception(self.death) else ""


def serve(answer: Callable[[Message], Message]) -> None:
    """Answer the parent's questions until it closes the pipe; a child program calls this."""
    # Decoders that print must not disturb the protocol: answers get a descriptor of their own, prints go to stderr.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as replies:
        os.dup2(2, 1)
        _limit_memory()
        print(json.dumps({"ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            message = json.loads(line)
            _set_alarm(message["limit_seconds"] + ORPHAN_GRACE_SECONDS)
            reply = answer(message["question"])
            _set_alarm(0)
            print(json.dumps(reply), file=replies, flush=True)


def _is_exception(death: str) -> bool:
    return death.startswith(_EXCEPTION) and not death.startswith(f"{_EXCEPTION}MemoryError")


def _set_alarm(seconds: float) -> None:
    """End this process after a time, even if C code holds Python's lock by then; 0 cancels."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory() -> None:
    """Limit memory, so that a file with a huge claim ends this process, not the machine; write no core file."""
    with contextlib.suppress(ImportError):  # no such limits on Windows
        import resource

        for kind, limit in ((resource.RLIMIT_DATA, MEMORY_LIMIT_BYTES), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(kind)[1]
            allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (allowed, hard))


def choose_num_processes(num_questions: int) -> int:
    """Choose how many children are worth their start-up time, on the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MAX_CHILDREN, -(-num_questions // QUESTIONS_PER_CHILD)))


def ask_children(
    questions: Sequence[Message], *, command: Sequence[str], time_limit_seconds: float, num_processes: int
) -> Generator[Reply, None, None]:
    """Ask each question once, and yield the replies as they arrive.

    A child that dies is replaced. When the iteration ends, for whatever reason, all children are ended.

    Args:
        questions: Plain types.
        command: A program that calls `serve`.
        time_limit_seconds: Limit for one question.
        num_processes: Largest number of children.

    Raises:
        EnvironmentProblem: a child does not start.
    """
    children = _Children(command)
    done: queue.SimpleQueue[Future[Reply]] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(max(1, min(num_processes, len(questions))))
    try:
        for question in questions:
            pool.submit(children.ask, question, time_limit_seconds).add_done_callback(done.put)
        for _ in questions:
            yield _next(done).result()
    finally:
        children.stop()
        pool.shutdown(cancel_futures=True)
        children.close()


def _next(done: "queue.SimpleQueue[Future[Reply]]") -> "Future[Reply]":
    while True:
        with contextlib.suppress(queue.Empty):  # on Windows a wait without timeout blocks Ctrl-C
            return done.get(timeout=POLL_SECONDS)


class _Children:
    """One child for each thread of a pool, replaced when it dies."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._own = threading.local()
        self._all: list[_Child] = []
        self._lock = threading.Lock()
        self._stopping = False

    def ask(self, question: Message, limit_seconds: float) -> Reply:
        child: _Child | None = getattr(self._own, "child", None)
        if child is None or not child.alive:
            child = self._own.child = self._start(child)
        return child.ask(question, limit_seconds)

    def _start(self, old: "_Child | None") -> "_Child":
        if old is not None:
            old.close()
        with self._lock:
            if self._stopping:
                raise EnvironmentProblem("stopped while a process that inspects clips was started")
            child = _Child(self._command)
            self._all.append(child)
        child.wait_until_ready()
        return child

    def stop(self) -> None:
        """Kill all children, so that threads that wait for one return; none is started after this."""
        with self._lock:
            self._stopping = True
            for child in self._all:
                child.kill()

    def close(self) -> None:
        for child in self._all:
            child.close()


class _Child:
    """One child process; only `kill` may be called from other threads."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._expired = False
        self._expiry = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="ascii",
                env=_environment(),
                start_new_session=True,  # Ctrl-C reaches the parent alone
            )
        except OSError as error:
            self._errors.close()
            raise EnvironmentProblem(f"`{shlex.join(command)}` does not start ({error})") from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None and not self._expired

    def wait_until_ready(self) -> None:
        if self._read(START_LIMIT_SECONDS) is None:
            death = f"no sign of life in {START_LIMIT_SECONDS:.0f} s" if self._expired else self._death()
            raise EnvironmentProblem(
                f"the process that inspects clips does not start ({death}); try `{shlex.join(self._command)}`"
            )

    def ask(self, question: Message, limit_seconds: float) -> Reply:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; `_read` finds out
            self._process.stdin.write(json.dumps({"question": question, "limit_seconds": limit_seconds}) + "\n")
            self._process.stdin.flush()
        answer = self._read(limit_seconds)
        if answer is not None:
            return Reply(question, answer)
        death = self._death()
        return Reply(question, None, timed_out=self._expired or death.startswith("SIGALRM"), death=death)

    def _read(self, limit_seconds: float) -> Message | None:
        """Wait for a line; None if the child died or was killed at the limit."""
        assert self._process.stdout is not None
        over = threading.Event()
        timer = threading.Timer(limit_seconds, self._expire, [over])
        timer.daemon = True  # else an interrupted program would wait for it
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            with self._expiry:  # a timer that fires late must not kill the child during the next question
                over.set()
            timer.cancel()
        return json.loads(line) if line.endswith("\n") else None

    def _expire(self, over: threading.Event) -> None:
        with self._expiry:
            if not over.is_set():
                self._expired = True
                self.kill()

    def _death(self) -> str:
        try:  # a child closes its output before it prints its exception
            status = self._process.wait(DEATH_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self._errors.seek(max(self._errors.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES, 0))
        last = self._errors.read().decode(errors="replace").split("\n")
        words = next((line.strip() for line in reversed(last) if line.strip()), "")
        return f"{how}: {words}" if words else how

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # unread questions of a dead child
                    pipe.close()


def _environment() -> dict[str, str]:
    """Make the child find the same modules as the parent, and use one core."""
    paths = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100  # '' is the working folder
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
