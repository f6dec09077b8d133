import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vidact.core.errors import EnvironmentProblem
from vidact.data.checks import children
from vidact.data.checks.children import Reply, ask_children, choose_num_processes

# The words of `core` come with torch, whose import takes seconds and is not what is tested here.
PRELUDE = """
import contextlib, ctypes, os, signal, sys, time, types
sys.modules["vidact.core.errors"] = types.SimpleNamespace(EnvironmentProblem=Exception)
from vidact.data.checks import children
"""
# A child that does as it is told.
CHILD = (
    PRELUDE
    + """
children.ORPHAN_GRACE_SECONDS = 0.2

def answer(question):
    match question["do"]:
        case "spin":  # in C, and with Python's lock held, as decord does
            ctypes.PyDLL(None).sleep(1000)
        case "abort":
            print("terminate called", file=sys.stderr, flush=True)
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ValueError("no such luck")
        case "print":
            print("decoders print")
            os.write(1, b"and write\\n")
        case "alloc":
            bytearray(1 << 45)
    return {"said": question["number"], "child": os.getpid()}

children.serve(answer)
"""
)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    return [sys.executable, str(script)]


Ask = Callable[..., list[Reply]]


@pytest.fixture
def ask(command: list[str]) -> Ask:
    def ask(*deeds: str, limit: float = 60.0, num_processes: int = 1) -> list[Reply]:
        questions = [{"do": deed, "number": number} for number, deed in enumerate(deeds)]
        replies = ask_children(questions, command=command, time_limit_seconds=limit, num_processes=num_processes)
        return sorted(replies, key=lambda reply: reply.question["number"])

    return ask


def test_each_question_is_answered_once(ask: Ask) -> None:
    replies = ask(*["answer"] * 50, num_processes=3)
    assert [reply.answer and reply.answer["said"] for reply in replies] == list(range(50))
    assert len({reply.answer["child"] for reply in replies if reply.answer}) <= 3


def test_what_a_decoder_prints_does_not_disturb(ask: Ask) -> None:
    assert all(reply.answer for reply in ask("print", "answer", "print", "answer"))


@pytest.mark.parametrize(
    ("deed", "death"),
    [
        ("abort", "SIGABRT: terminate called"),
        ("kill", "SIGKILL"),
        ("raise", "exit status 1: ValueError: no such luck"),
        ("alloc", "exit status 1: MemoryError"),
    ],
)
def test_a_child_that_dies_is_replaced_and_reported(ask: Ask, deed: str, death: str) -> None:
    before, dead, after = ask("answer", deed, "answer")
    assert before.answer is not None
    assert after.answer is not None
    assert before.answer["child"] != after.answer["child"]
    assert (dead.answer, dead.timed_out, dead.death) == (None, False, death)


def test_a_child_that_hangs_is_killed_at_the_limit(ask: Ask) -> None:
    hung, after = ask("spin", "answer", limit=0.5)
    assert (hung.answer, hung.timed_out) == (None, True)
    assert after.answer is not None


def test_without_questions_no_child_starts() -> None:
    assert list(ask_children([], command=["/no/such/program"], time_limit_seconds=1.0, num_processes=4)) == []


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (["/no/such/program"], "`/no/such/program` does not start"),
        ([sys.executable, "-c", "import no_such_module"], "No module named 'no_such_module'"),
        ([sys.executable, "-c", "pass"], r"does not start \(exit status 0\)"),
    ],
)
def test_a_child_that_cannot_start_is_a_problem_of_the_machine(program: list[str], message: str) -> None:
    with pytest.raises(EnvironmentProblem, match=message):
        list(ask_children([{"number": 0}] * 3, command=program, time_limit_seconds=60.0, num_processes=2))


def test_a_child_that_gives_no_sign_of_life_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "START_LIMIT_SECONDS", 0.3)
    with pytest.raises(EnvironmentProblem, match="no sign of life in 0 s"):
        list(ask_children([{}], command=["sleep", "1000"], time_limit_seconds=60.0, num_processes=1))


def _wait_until_gone(pid: int) -> None:
    for _ in range(600):
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        if status.rpartition(")")[2].split()[0] == "Z":  # dead, and nobody's to reap
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} lives on")


def test_leaving_early_leaves_no_child(command: list[str]) -> None:
    questions = [{"do": "answer", "number": 0}, *({"do": "spin", "number": number} for number in (1, 2))]
    replies = ask_children(questions, command=command, time_limit_seconds=600.0, num_processes=1)
    first = next(replies)
    replies.close()
    assert first.answer is not None
    _wait_until_gone(first.answer["child"])


PARENT = (
    PRELUDE
    + """
questions = [{"do": "answer", "number": 0}, {"do": sys.argv[2], "number": 1}]
command, limit = [sys.executable, sys.argv[1]], float(sys.argv[3])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
replies = children.ask_children(questions, command=command, time_limit_seconds=limit, num_processes=1)
with contextlib.closing(replies):
    for reply in replies:
        print(reply.answer["child"], flush=True)
        if sys.argv[2] == "answer":
            time.sleep(1000)
"""
)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("deed", "sent"), [("spin", signal.SIGINT), ("spin", signal.SIGKILL), ("answer", signal.SIGKILL)]
)
def test_no_child_survives_its_parent(command: list[str], deed: str, sent: signal.Signals) -> None:
    """Interrupted, the parent ends its child; killed, it cannot, and the child ends at its own alarm."""
    limit = "1" if sent == signal.SIGKILL else "1000"
    arguments = [sys.executable, "-c", PARENT, command[1], deed, limit]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, sent)
        parent.wait(60)
        _wait_until_gone(child)


def test_few_questions_get_few_children() -> None:
    assert choose_num_processes(1) == choose_num_processes(children.QUESTIONS_PER_CHILD) == 1
    counts = [choose_num_processes(number) for number in range(1, 3000, 7)]
    assert counts == sorted(counts)
    assert counts[-1] <= min(os.cpu_count() or 1, children.MAX_CHILDREN)
