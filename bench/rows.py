"""The rows of a benchmark, and the machine they come from."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import subsampled_newton

__all__ = ["LEVELS", "Emit", "Row", "machine", "versions"]

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
