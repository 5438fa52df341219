"""The rows of a benchmark, and the machine they come from."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

import subsampled_newton

__all__ = ["LEVELS", "Emit", "Row", "limited_threads", "machine", "versions"]

LEVELS = (1e-3, 1e-6, 1e-10)
"""Relative suboptimalities whose times are reported."""


@dataclass(frozen=True)
class Row:
    """One point of a curve."""

    solver: str
    kind: str
    """"trace": an iteration of one run. "fit": a whole fit with some budget."""
    seed: int
    budget: float
    """Iteration of a trace; max_iter or tol of a fit."""
    seconds: float
    value: float
    suboptimality: float
    gradient_norm: float | None
    status: str
    passes: float | None = None
    """Rows read over n; unknown for rivals."""
    props: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


_VARIABLE = "SUBSAMPLED_NEWTON_NUM_THREADS"

Emit = Callable[[Row], None]


def versions() -> dict[str, str]:
    """Versions of what took part."""
    found = {"python": platform.python_version()}
    for name in ("numpy", "scipy", "numba", "scikit-learn"):
        found[name] = version(name)
    return found | {"subsampled_newton": subsampled_newton.__version__}


def machine(threads: int | None) -> dict[str, Any]:
    """Processor, cores and threads."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "cpu": cpu,
        "cores": cores,
        "threads": threads or cores,
        "system": f"{platform.system()} {platform.machine()}",
    }


@contextlib.contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Limit our threads, BLAS and OpenMP inside the ``with`` block; None: no limit."""
    if count is None:
        yield
        return
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
