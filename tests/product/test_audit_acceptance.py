"""`audit` finds guilty networks and leaves innocent ones alone: four that are trained here, whose reliance is known."""

import sys
from pathlib import Path

import pytest

from vidact.cli.main import main

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:  # type: ignore[type-arg]
    """Networks, what the audit says, and what is known."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import audit_acceptance as acceptance
    finally:
        sys.path.remove(str(BENCHMARKS))
    in_process_of_its_own = acceptance._vidact

    def run_here(*args: str, cwd: Path | None = None) -> None:
        """All but training can run in this process, which has imported everything."""
        if args[0] == "fit":
            in_process_of_its_own(*args, cwd=cwd)
        else:
            assert main(list(args)) == 0

    acceptance._vidact = run_here
    folder = tmp_path_factory.mktemp("acceptance")
    guilty = [acceptance.Network(kind, "0.95", 0, folder) for kind in ("patch", "band")]
    innocent = [acceptance.Network("patch", dose, 0, folder, differences=True) for dose in ("0.125", "0.95")]
    acceptance.train(guilty, epochs=6, sources=60, size=32)
    acceptance.train(innocent, epochs=10, sources=150, size=32)  # what moves is harder to learn than a sign
    found = []
    for one in (*guilty, *innocent):
        run = next(one.home.glob("version_*"))
        options = ("--num_clips", "80", "--donors", "4", "--sections", "[background, cells]", "--accelerator", "cpu")
        acceptance._vidact("audit", str(run), "--out", str(folder / f"audit_{one.name}"), *options)
        truth = acceptance.reliance(acceptance.open_run(str(run)), one.data)
        found.append((one, one.audit(), truth))
    return found


def test_guilty_networks_are_found_and_the_sign_is_where_it_is(table: list[tuple]) -> None:  # type: ignore[type-arg]
    guilty = [(one, audit) for one, audit, truth in table if truth["reliance"] > 0.9]
    assert [one.kind for one, _ in guilty] == ["patch", "band"], "both networks have learned the sign"
    for one, audit in guilty:
        assert audit["sections"]["background"]["verdict"] == "leans", one.name
        assert audit["sections"]["background"]["lean"]["mean"] > 0.9, one.name
    assert guilty[0][1]["sections"]["cells"]["main"] == "0,0"


def test_networks_that_cannot_see_the_sign_are_left_alone(table: list[tuple]) -> None:  # type: ignore[type-arg]
    innocent = [(one, audit, truth) for one, audit, truth in table if one.differences]
    assert len(innocent) == 2
    for one, audit, truth in innocent:
        assert truth["gap"] == 0, "a sign that stands still is in no difference of frames"
        assert truth["own"] > 0.25, f"{one.name} has learned something else, of eight classes"
        assert {own["verdict"] for own in audit["sections"].values()} <= {"cannot say", "does not lean"}, one.name
