"""What one run of some work costs: time, and the memory that it holds at once."""

import statistics
import time
from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds_of(work: Callable[[], object]) -> float:
    """Measure how long one run takes."""
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_megabytes(explain: Callable[[], Tensor]) -> float:
    """Measure the most that one run holds at once, beyond network and clips."""
    if DEVICE.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        explain()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        explain()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return float(max(held)) / 1e6


def median_ratio(seconds: list[float], others: list[float]) -> float:
    """Compare rounds that ran side by side."""
    return statistics.median(one / other for one, other in zip(seconds, others, strict=True))
