"""Refuse invalid settings of the data module before any clip is read."""

from collections.abc import Mapping
from typing import Any

from vidact.core.errors import ConfigError

POSITIVE = ("num_frames", "num_windows", "test_windows", "batch_size", "stride")
MAX_FPS = 1000


def check_settings(data: Mapping[str, Any]) -> None:
    """Check the settings of a data module.

    Args:
        data: From attribute name to value.

    Raises:
        ConfigError: the first invalid setting, with what was expected.
    """
    for name, smallest in (dict.fromkeys(POSITIVE, 1) | {"num_workers": 0}).items():
        if isinstance(value := data[name], int) and value < smallest:
            raise ConfigError(f"--data.{name} must be at least {smallest}, got {value}")
    size, crop_from, augmentation = data["size"], data["crop_from"], data["augmentation"]
    if min(size) < 1:
        raise ConfigError(f"--data.size must be at least 1 pixel, got {size}")
    if crop_from != size and augmentation is None:
        raise ConfigError("--data.crop_from needs --data.augmentation, which crops the larger frames")
    if crop_from[0] < size[0] or crop_from[1] < size[1]:
        raise ConfigError(f"--data.crop_from {crop_from} is smaller than --data.size {size}")
    if data["frame_order"] != "natural" and augmentation and augmentation.temporal_jitter:
        raise ConfigError(f"--data.frame_order {data['frame_order']} allows no temporal_jitter; set it to 0")
    if (fps := data["fps"]) is not None and not 0 < fps <= MAX_FPS:
        raise ConfigError(f"--data.fps must be more than 0 and at most {MAX_FPS}, got {fps:g}")
    if data["cache_gigabytes"] < 0:
        raise ConfigError(f"--data.cache_gigabytes must be at least 0, got {data['cache_gigabytes']}")
