"""What several tests share. Tensor shapes in annotations are checked while the tests run."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook
from shared_fixtures import _own_cache as _own_cache
from shared_fixtures import _own_wandb_process as _own_wandb_process
from shared_fixtures import _usual_priority as _usual_priority
from shared_fixtures import elsewhere as elsewhere
from shared_fixtures import hmdb51 as hmdb51
from shared_fixtures import jhmdb as jhmdb
from shared_fixtures import small_run as small_run
from shared_fixtures import small_set as small_set
from shared_fixtures import write_clip as write_clip

install_import_hook("vidact", "beartype.beartype")

# No test depends on how busy the machine is, nor on chance: HYPOTHESIS_PROFILE=search looks for new examples.
settings.register_profile("vidact", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "vidact"))

os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WANDB_API_KEY", None)
os.environ.pop("WANDB_DIR", None)

# Files whose tests train, evaluate or explain whole runs, or each method in turn. `make test` leaves them out.
SLOW_FILES = {
    "cli/test_main.py",
    "cli/test_memory.py",
    "cli/test_process.py",
    "cli/verbs/test_audit.py",
    "cli/verbs/test_evaluate.py",
    "cli/verbs/test_explain.py",
    "data/checks/test_inspection.py",
    "evaluation/output/test_logging.py",
    "evaluation/test_settings.py",
    "report/test_evaluation_view.py",
    "runs/test_splits.py",
    "runs/test_trust.py",
    "training/callbacks/faithfulness/test_callback.py",
    "training/callbacks/relevance/test_callback.py",
}
QUICK_PRODUCT_FILES = {
    "test_configs.py",
    "test_contributing.py",
    "test_readme.py",
    "test_reference.py",
    "test_smoke.py",
}
REAL_CLIPS = {"hmdb51", "jhmdb"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow: the files above, tests of the whole product, and tests that need real clips."""
    tests = Path(__file__).parent
    gone = [
        name for name in SLOW_FILES | {f"product/{name}" for name in QUICK_PRODUCT_FILES} if not (tests / name).exists()
    ]
    assert not gone, f"tests/conftest.py names files that are not there: {gone}"
    for item in items:
        name = item.path.relative_to(tests).as_posix()
        is_product = name.startswith("product/") and item.path.name not in QUICK_PRODUCT_FILES
        needs_clips = not REAL_CLIPS.isdisjoint(getattr(item, "fixturenames", ()))
        if name in SLOW_FILES or is_product or needs_clips:
            item.add_marker(pytest.mark.slow)
