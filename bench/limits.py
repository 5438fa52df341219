"""``python -m bench limits``: passes over dense data against one read of the memory.

The target for 50 columns and more: predictions, value and gradient in at most 1.5 times
the time of a sum over the data by the same threads, and at least 2.5 times faster than
NumPy's two products with the loss between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from bench.arguments import Parser, count
from bench.rows import limited_threads, machine
from bench.sweep import settle
from subsampled_newton import LOGISTIC, as_rows

# The sum has to run as the kernels do, so these are not public names.
from subsampled_newton._jit import compiled
from subsampled_newton._parallel import bounds, run

__all__ = ["main"]

SUM = "sum (read only)"
FUSED = "value and gradient, fused"
NUMPY = "value and gradient, NumPy"


@compiled(fastmath={"reassoc"})
def _sum_kernel(x: Any, lo: int, hi: int) -> float:
    # A slice, because indices that might be negative stop LLVM from vectorising.
    part = x[lo:hi]
    total = 0.0
    for i in range(part.size):
        total += part[i]
    return total


def read_sum(X: Any) -> float:
    """Add all entries: the least that a pass over the data can do."""
    flat = X.reshape(-1)
    edges = [X.shape[1] * k for k in bounds(len(X), X.size)]
    parts = run(lambda k: _sum_kernel(flat, edges[k], edges[k + 1]), len(edges) - 1)
    return float(sum(parts))


def numpy_pass(X: Any, y: Any, w: Any) -> tuple[float, Any]:
    """Value and gradient with two products, in a form that cannot overflow."""
    margins = y * (X @ w)
    decay = np.exp(-np.abs(margins))
    value = float((np.log1p(decay) + np.maximum(-margins, 0.0)).mean())
    slopes = np.where(margins > 0.0, decay, 1.0) / (1.0 + decay)
    return value, X.T @ (y * slopes) / -len(y)


def measure(X: Any, repeats: int) -> dict[str, float]:
    """Median seconds of each operation, taken in turns.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        float64 or float32, C order.
    repeats : int
        Rounds.
    """
    n, d = X.shape
    rng = np.random.default_rng(1)
    y = np.where(rng.random(n) > 0.5, 1.0, -1.0)
    ones, w = np.ones(n), rng.standard_normal(d) / np.sqrt(d)
    own_y, own_w = y.astype(X.dtype), w.astype(X.dtype)
    rows = as_rows(X)
    part = np.sort(rng.choice(n, max(1, n // 20), replace=False))
    few = ones[: len(part)]
    operations: dict[str, Callable[[], Any]] = {
        SUM: lambda: read_sum(X),
        "predictions X w": lambda: rows.matvec(w),
        FUSED: lambda: rows.evaluate(LOGISTIC, y, ones, w),
        NUMPY: lambda: numpy_pass(X, own_y, own_w),
        "Hessian times vector": lambda: rows.hess_vec(ones, w),
        "Hessian of 5 % of the rows": lambda: rows.take(part).gram(few),
        "Hessian of all rows": lambda: rows.gram(ones),
    }
    times: dict[str, list[float]] = {name: [] for name in operations}
    for repeat in range(repeats + 1):
        for name, operation in operations.items():
            settle()
            start = time.perf_counter()
            operation()
            seconds = time.perf_counter() - start
            if repeat:  # the first round compiles and is left out
                times[name].append(seconds)
    return {name: median(values) for name, values in times.items()}


def main(argv: list[str]) -> int:
    """Read the options, print the measurements, return 0."""
    parser = Parser(
        prog="python -m bench limits",
        description=__doc__.partition("\n\n")[0],
        epilog=__doc__.partition("\n\n")[2],
    )
    parser.add_argument("--rows", type=count, default=581_012, help="default 581012")
    parser.add_argument("--columns", type=count, default=54, help="default 54")
    parser.add_argument("--repeats", type=count, default=11, help="default 11")
    parser.add_argument(
        "--threads", type=count, help="of all libraries (default: all cores)"
    )
    options = parser.parse_args(argv)
    with limited_threads(options.threads):
        report(options.rows, options.columns, options.repeats, options.threads)
    return 0


def report(n: int, d: int, repeats: int, threads: int | None) -> None:
    """Measure float64 and float32 and print milliseconds and ratios."""
    computer = machine(threads)
    print(
        f"{computer['cpu']}, {computer['threads']} threads; {n} x {d}, random entries"
    )
    X = np.random.default_rng(0).standard_normal((n, d))
    for dtype in (np.float64, np.float32):
        X = X.astype(dtype, copy=False)
        seconds = measure(X, repeats)
        rate = X.nbytes / seconds[SUM] / 1e9
        print(f"\n{X.dtype}, read at {rate:.1f} GB/s{'':4}milliseconds   times the sum")
        for name, value in seconds.items():
            print(f"  {name:30}{1e3 * value:14.1f}{value / seconds[SUM]:16.2f}")
        print(
            f"  fused / sum {seconds[FUSED] / seconds[SUM]:.2f} (target <= 1.5), "
            f"NumPy / fused {seconds[NUMPY] / seconds[FUSED]:.2f} (target >= 2.5)"
        )
