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
    networks = [acceptance.Network(kind, dose, 0, folder) for kind in ("patch", "band") for dose in ("0.125", "0.95")]
    acceptance.train(networks, epochs=6, sources=60)
    found = []
    for one in networks:
        run = next(one.home.glob("version_*"))
        options = ("--num_clips", "64", "--donors", "2", "--sections", "[background, cells]", "--accelerator", "cpu")
        acceptance._vidact("audit", str(run), "--out", str(folder / f"audit_{one.name}"), *options)
        truth = acceptance.reliance(acceptance.open_run(str(run)), one.data)
        found.append((one, one.audit, truth))
    return found


def test_guilty_networks_are_found_and_the_sign_is_where_it_is(table: list[tuple]) -> None:  # type: ignore[type-arg]
    guilty = [(one, audit) for one, audit, truth in table if truth["reliance"] > 0.9]
    assert [one.kind for one, _ in guilty] == ["patch", "band"], "both networks have learned the sign"
    for one, audit in guilty:
        assert audit["sections"]["background"]["verdict"] == "leans", one.name
        assert audit["sections"]["background"]["lean"]["mean"] > 0.9, one.name
    assert guilty[0][1]["sections"]["cells"]["main"] == "0,0"


def test_networks_whose_sign_says_nothing_are_left_alone(table: list[tuple]) -> None:  # type: ignore[type-arg]
    for one, audit, truth in table:
        if one.dose == "0.125":
            assert abs(truth["gap"]) < 0.15, one.name
            assert {own["verdict"] for own in audit["sections"].values()} <= {"cannot say", "does not lean"}, one.name
