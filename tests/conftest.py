"""What several tests share. Tensor shapes in annotations are checked while the tests run."""

import os

from hypothesis import settings
from jaxtyping import install_import_hook
from shared_fixtures import _own_cache as _own_cache
from shared_fixtures import _own_wandb_process as _own_wandb_process
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
