"""Rows from the trace of a run."""

from __future__ import annotations

from typing import Any

from subsampled_newton import Result

__all__ = ["trace_rows"]

NAMES = {
    "iteration": "iteration",
    "seconds": "seconds",
    "passes": "passes",
    "props": "props",
    "value": "loss",
    "gradient_norm": "gradient_norm",
    "step_size": "step",
    "inner_iterations": "inner",
    "hessian_rows": "hessian_rows",
}
"""Fields of `Trace` and columns of the results."""


def trace_rows(result: Result) -> list[dict[str, Any]]:
    """One row per iteration, the start included.

    Columns: iteration, seconds, passes, props, loss, gradient_norm, step (of the line
    search, or the radius, or sigma), inner, hessian_rows, and the status of the run.
    """
    columns = result.trace.as_dict()
    names = list(NAMES.values())
    values = zip(*(columns[field].tolist() for field in NAMES), strict=True)
    status = result.status.name
    return [dict(zip(names, row, strict=True)) | {"status": status} for row in values]
