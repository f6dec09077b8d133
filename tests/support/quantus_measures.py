"""Quantus' measures of maps, as an independent check of ours; without Quantus the test is skipped."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


def import_quantus() -> Any:
    with warnings.catch_warnings():  # its own dependencies warn at import
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus", reason="pip install --no-deps quantus==0.6.0")


def quantus_score(name: str, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
    """Measure maps [B, T, H, W]; it wants colours, and volumes of which they are the first dimension."""
    metric = getattr(import_quantus(), name)(abs=False, normalise=False, disable_warnings=True)
    maps = relevance[:, None].double().numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*segmentation.*")
        found = metric(
            model=None,
            x_batch=np.zeros_like(maps),
            y_batch=np.zeros(len(maps), dtype=int),
            a_batch=maps.copy(),  # Sparseness adds to it
            s_batch=None if mask is None else mask[:, None].numpy(),
            channel_first=True,
        )
    return torch.tensor(np.array(found, dtype=np.float64))
