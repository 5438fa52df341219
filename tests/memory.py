"""Measured peaks of memory beside the formula: ``python -m tests.memory``.

A peak is that of NumPy's arrays, which tracemalloc counts: kernels allocate buffers of
a block only, LAPACK's workspaces are not seen. The resident set of the process, with
``VmHWM`` set back before and free memory given back, is the check for these. The data
are not counted: they are there.
"""

import argparse
import ctypes
import gc
import tracemalloc
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from subsampled_newton import LinearRegression, LogisticRegression, Ridge
from subsampled_newton.estimators._base import SOLVERS

SHAPES = {  # rows, columns, entries of a row if sparse, type, classes
    "tall": (200_000, 50, None, np.float64, 2),
    "float32": (400_000, 50, None, np.float32, 2),
    "wide": (900, 600, None, np.float64, 2),
    "sparse tall": (200_000, 500, 10, np.float64, 2),
    "sparse wide": (5_000, 50_000, 50, np.float64, 2),
    "softmax": (60_000, 40, None, np.float64, 5),
    "uint8": (400_000, 50, None, np.uint8, 2),
    "strided": (200_000, 50, None, np.float64, 2),
}
LEAST_SQUARES = ("cholesky", "qr", "sketch", "iterative-sketch")
NOT_HERE = ("heavy-ball",)  # needs a quadratic
TWO_CLASSES = ("sdca", "dual-start-newton")
FORMING = (  # a matrix of 50,000 x 50,000
    "newton",
    "multilevel-newton",
    "subsampled-newton",
    "subsampled-newton-leverage",
    "gauss-newton",
    "levenberg-marquardt",
    *LEAST_SQUARES,
)


class Measured(NamedTuple):
    """Bytes."""

    traced: int
    resident: int
    formula: int

    @property
    def ratio(self) -> float:
        return self.traced / self.formula


def data_of(shape: str, part: float = 1.0) -> tuple[object, np.ndarray]:
    """X and y of a shape, or of a smaller one with a part of the rows."""
    n, d, entries, dtype, n_classes = SHAPES[shape]
    n, rng = int(part * n), np.random.default_rng(0)
    if entries is None:
        floating = np.dtype(dtype).kind == "f"
        X = rng.standard_normal((n, d), dtype=dtype if floating else np.float64)
        if not floating:
            X = np.clip(64.0 * X + 128.0, 0.0, 255.0).astype(dtype)
        if shape == "strided":
            X = np.repeat(X, 2, axis=1)[:, ::2]
    else:
        indices = rng.integers(d, size=n * entries).astype(np.int32)
        starts = np.arange(0, n * entries + 1, entries, dtype=np.int32)
        X = sp.csr_array((rng.standard_normal(n * entries), indices, starts), (n, d))
        X.sum_duplicates()
    scale = 5.0 if shape != "uint8" else 320.0
    Z = X @ (rng.standard_normal((d, n_classes)) / scale)
    return X, (Z + rng.gumbel(size=Z.shape)).argmax(axis=1)


def model(solver: str, max_iter: int = 10) -> object:
    """An estimator that runs the solver, for few iterations: the peak is early."""
    if solver in LEAST_SQUARES:
        return Ridge(solver=solver)
    if solver == "unpenalised":
        return LinearRegression()
    return LogisticRegression(
        solver=solver, max_iter=max_iter, alpha=1e-4, random_state=0
    )


def measure(
    estimator: object, X: object, y: np.ndarray, *, resident: bool = True
) -> Measured:
    """Peaks of a fit, after another one of a few rows has compiled what it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few iterations
        few = min(len(y), 20 * X.shape[1], 5_000)
        estimator.fit(X[:few], y[:few])
        grown = _resident(lambda: estimator.fit(X, y)) if resident else 0
        gc.collect()
        tracemalloc.start()
        try:
            estimator.fit(X, y)
            traced = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    return Measured(traced, grown, estimator.result_.memory_bytes)


def _resident(call) -> int:
    """What the resident set grows by, at most; 0 where the system does not tell."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free is resident otherwise
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        call()
        return _status("VmHWM") - before
    except (OSError, AttributeError):
        return 0


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.memory", description=__doc__)
    names = ["auto", *SOLVERS, *LEAST_SQUARES]
    parser.add_argument("--solver", nargs="*", default=names, choices=names)
    parser.add_argument("--shape", nargs="*", default=[*SHAPES], choices=[*SHAPES])
    arguments = parser.parse_args()
    print("| shape | solver | formula, MB | measured, MB | ratio | resident, MB |")
    print("|---|---|---|---|---|---|")
    for shape in arguments.shape:
        X, y = data_of(shape)
        for name in arguments.solver:
            if name in TWO_CLASSES and shape == "softmax":
                continue
            if name in NOT_HERE or (shape == "sparse wide" and name in FORMING):
                continue
            found = measure(model(name), X, y)
            megabytes = [f"{1e-6 * value:.1f}" for value in found]
            traced, resident, formula = megabytes
            print(
                f"| {shape} | {name} | {formula} | {traced} | {found.ratio:.2f} "
                f"| {resident} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
