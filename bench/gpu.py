"""``python -m bench gpu``: the CUDA backend against the limits of the device.

Kernels against copies in device memory and matrix products in the same run, then whole
fits against our own on the CPU and against PyTorch's L-BFGS on the same device and
objective, where PyTorch is installed. Targets on a data-centre GPU: the fused pass at
70 % of the copy bandwidth or more from 32 columns on; covtype to a gradient of 1e-10
ten times faster than our CPU, the transfer included, and five times faster than
PyTorch's L-BFGS to 1e-6. Without a device nothing is measured: it says why, and
returns 1.
"""

from __future__ import annotations

import functools
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np

from bench.arguments import Parser, count
from bench.problems import load_objective
from bench.rows import machine
from datasets.covtype import load_covtype
from subsampled_newton import LOGISTIC, LogisticRegression, as_rows

__all__ = ["main"]

COPY = "copy in device memory"
FUSED = "value and gradient, fused"
PRODUCT = "matrix product of cuBLAS"
DEVICE = "cuda"
"""Where PyTorch computes."""
FUSED_TARGET, CPU_TARGET, TORCH_TARGET = 0.7, 10.0, 5.0


SHAPES = ((581_012, 54), (2_000_000, 32), (1_000_000, 200))
"""Rows and columns that the kernels are measured on."""


def unavailable() -> str:
    """Why nothing can be measured here; empty where a GPU is."""
    try:
        from subsampled_newton.backends import _cuda_device, _cuda_tiles

        _cuda_device.check_device()
    except (ImportError, RuntimeError) as error:
        return str(error)
    simulated = "NUMBA_ENABLE_CUDASIM is set: the simulator is no device"
    return simulated if _cuda_tiles.SIMULATED else ""


def seconds_of(operation: Callable[[], Any], repeats: int) -> float:
    """Median seconds until the device has finished; the first call compiles."""
    from numba import cuda

    times = []
    for repeat in range(repeats + 1):
        cuda.synchronize()
        start = time.perf_counter()
        operation()
        cuda.synchronize()
        if repeat:
            times.append(time.perf_counter() - start)
    return median(times)


def kernels(n: int, d: int, dtype: Any, repeats: int) -> dict[str, tuple[float, float]]:
    """Seconds of each operation, and the bytes that it has to move at least."""
    from numba import cuda

    from subsampled_newton.backends._cuda_device import DeviceArray

    rng = np.random.default_rng(0)
    X = cuda.to_device(rng.standard_normal((n, d), dtype=np.dtype(dtype)))
    other = cuda.device_array_like(X)
    rows = as_rows(X)
    w = rng.standard_normal(d) / np.sqrt(d)
    y = DeviceArray.of(np.sign(rng.standard_normal(n)))
    ones = DeviceArray.of(np.ones(n))
    part = np.sort(rng.choice(n, max(1, n // 20), replace=False))
    size, vector = float(X.size * X.dtype.itemsize), 8.0 * n
    operations: dict[str, tuple[Callable[[], Any], float]] = {
        COPY: (lambda: other.copy_to_device(X), 2 * size),
        "predictions X w": (lambda: rows.matvec(w), size + vector),
        FUSED: (lambda: rows.evaluate(LOGISTIC, y, ones, w), size + 3 * vector),
        "Hessian times vector": (lambda: rows.hess_vec(ones, w), size + 2 * vector),
        "Gram matrix": (lambda: rows.gram(ones), size + vector),
        "sample of 5 %": (lambda: rows.take(part), 0.1 * size),
    }
    return {
        name: (seconds_of(operation, repeats), moved)
        for name, (operation, moved) in operations.items()
    }


N_DEVICES: dict[str, Callable[[Any], int]] = {
    "torch": lambda torch: torch.cuda.device_count(),
    "cupy": lambda cupy: cupy.cuda.runtime.getDeviceCount(),
}


def library(name: str) -> tuple[Any, str]:
    """A package that computes on the device, or None and why not."""
    try:
        package = importlib.import_module(name)
        if N_DEVICES[name](package):
            return package, ""
        return None, f"{name} sees no device"
    except ImportError:
        return None, f"{name} is not installed"
    except Exception as error:  # an installation for another driver, for example
        return None, f"{name}: {error}"


def product_flops(cupy: Any, repeats: int, size: int = 4096) -> float:
    """Operations per second of cuBLAS in float64."""
    A = cupy.ones((size, size))
    return 2.0 * size**3 / seconds_of(lambda: A @ A, repeats)


def losses_of(xp: Any, Z: Any, y: Any) -> Any:
    """Losses of predictions: logistic for targets -1 and 1, else softmax by classes."""
    if Z.shape[1] == 1:
        margin = y * Z[:, 0]
        return xp.logaddexp(-margin, xp.zeros_like(margin))
    top = Z.max(1)[0] if xp.__name__ == "torch" else Z.max(1)
    spread = xp.log(xp.exp(Z - top[:, None]).sum(1))
    return spread + top - Z[xp.arange(len(y), **_where(xp)), y]


def _where(xp: Any) -> dict[str, str]:
    return {"device": DEVICE} if xp.__name__ == "torch" else {}


def torch_lbfgs(X: Any, y: Any, alpha: float, level: float) -> float | None:
    """Seconds of PyTorch's L-BFGS until the value is at most ``level``, if ever.

    The copy to the device is part of it, as it is of our fits.
    """
    import torch

    seconds: float | None = None
    for _ in range(2):  # the first run loads libraries
        start = time.perf_counter()
        A, b = (torch.as_tensor(array, device=DEVICE) for array in (X, y))
        K = 1 if b.dtype.is_floating_point else int(b.max()) + 1
        W = torch.zeros((A.shape[1], K), dtype=A.dtype, device=DEVICE)
        W.requires_grad_()
        solver = torch.optim.LBFGS(
            [W],
            max_iter=3000,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure(A: Any = A, b: Any = b, W: Any = W, solver: Any = solver) -> Any:
            solver.zero_grad()
            value = losses_of(torch, A @ W, b).mean() + 0.5 * alpha * (W * W).sum()
            if float(value) <= level:  # at the first point that is good enough
                raise _Reached
            value.backward()
            return value

        seconds = None
        try:
            solver.step(closure)
        except _Reached:
            seconds = time.perf_counter() - start
    return seconds


class _Reached(Exception):
    """The level is reached; out of the middle of an iteration."""


def newton(xp: Any, X: Any, y: Any, alpha: float, level: float) -> float | None:
    """Seconds of Newton's method as one writes it with CuPy; two classes.

    ``xp`` is CuPy, or NumPy in tests.
    """
    seconds: float | None = None
    for _ in range(2):
        start = time.perf_counter()
        A, b = xp.asarray(X), xp.asarray(y)
        n, d = A.shape
        w = xp.zeros(d, dtype=A.dtype)
        seconds = None
        for _ in range(50):
            margin = b * (A @ w)
            value = float(losses_of(xp, (A @ w)[:, None], b).mean())
            if value + 0.5 * alpha * float(w @ w) <= level:
                seconds = time.perf_counter() - start
                break
            p = 1.0 / (1.0 + xp.exp(margin))
            H = (A * (p * (1.0 - p))[:, None]).T @ A / n + alpha * xp.eye(d)
            gradient = alpha * w - A.T @ (b * p) / n
            w = w - xp.linalg.solve(H, gradient).astype(A.dtype)
    return seconds


def objective(X: Any, y: Any, W: Any, alpha: float) -> float:
    """Value at coefficients (n_columns, n_predictors), in float64."""
    losses = losses_of(np, X @ W.astype(np.float64), y)
    return float(losses.mean()) + 0.5 * alpha * float(np.sum(W * W))


def data_sets(quick: bool) -> Iterator[tuple[str, Any, Any]]:
    """Name, rows and targets: -1 and 1, or integers for classes."""
    rng = np.random.default_rng(1)
    n = 20_000 if quick else 10_000_000
    covtype = load_objective("covtype.binary", None, max_rows=n if quick else None)
    yield "covtype", covtype.X, covtype.y
    X = rng.standard_normal((n, 100), dtype=np.float32)
    margin = X[:, :5].sum(axis=1) + rng.logistic(size=n)
    yield f"{n} x 100, float32", X, np.where(margin > 0.0, 1.0, -1.0)
    raw, classes = load_covtype()
    rows = np.sort(rng.permutation(len(raw))[:n])
    deviation = raw.std(axis=0)
    scaled = raw[rows] / np.where(deviation > 0.0, deviation, 1.0)
    yield "covtype, 7 classes", scaled, classes[rows].astype(np.int64) - 1


def compare(name: str, X: Any, y: Any, repeats: int) -> None:
    """Print the seconds of whole fits of one data set."""
    alpha = 1.0 / len(X)
    models = {
        device: LogisticRegression(
            alpha=alpha, tol=1e-10, fit_intercept=False, device=device
        )
        for device in ("cuda", "cpu")
    }
    seconds = {
        device: seconds_of(lambda m=model: m.fit(X, y), repeats)
        for device, model in models.items()
    }
    coef = models["cuda"].coef_.T
    F = objective(X, y, coef, alpha)
    level = F + 1e-6 * (objective(X, y, np.zeros_like(coef), alpha) - F)
    ratio = seconds["cpu"] / seconds["cuda"]
    print(f"\n{name}: whole fit to a gradient of 1e-10, transfer included")
    print(f"  GPU {seconds['cuda']:10.3f} s")
    print(
        f"  CPU {seconds['cpu']:10.3f} s  {ratio:6.1f} times (target >= {CPU_TARGET})"
    )
    for package, rival in (("torch", "L-BFGS to 1e-6"), ("cupy", "Newton to 1e-6")):
        if package == "cupy" and coef.shape[1] > 1:
            continue
        label = f"  {package}, {rival}"
        found, why_not = library(package)
        if found is None:
            print(f"{label}: not measured ({why_not})")
            continue
        b = y.astype(X.dtype) if y.dtype.kind == "f" else y
        run = torch_lbfgs if package == "torch" else functools.partial(newton, found)
        taken = run(X, b, alpha, level)
        told = (
            "never"
            if taken is None
            else f"{taken:.3f} s, {taken / seconds['cuda']:.1f} times"
        )
        target = f" (target >= {TORCH_TARGET})" if package == "torch" else ""
        print(f"{label}: {told}{target}")


def report_kernels(n: int, d: int, dtype: Any, repeats: int) -> None:
    """Print the kernels against the copy."""
    measured = kernels(n, d, dtype, repeats)
    copied, moved = measured[COPY]
    bandwidth = moved / copied
    print(f"\n{n} x {d}, {np.dtype(dtype)}; a copy moves {bandwidth / 1e9:.0f} GB/s")
    for name, (seconds, size) in measured.items():
        share = size / seconds / bandwidth
        told = f" (target >= {FUSED_TARGET})" if name == FUSED and d >= 32 else ""
        print(f"  {name:28}{1e3 * seconds:10.3f} ms  {share:5.2f} of the copy{told}")


def device_name() -> str:
    """Name of the device that is measured."""
    from numba import cuda

    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else str(name)


def main(argv: list[str]) -> int:
    """Read the options and print the measurements, or why there are none: then 1."""
    parser = Parser(
        prog="python -m bench gpu",
        description=__doc__.partition("\n\n")[0],
        epilog=__doc__.partition("\n\n")[2],
    )
    parser.add_argument("--repeats", type=count, default=5, help="default 5")
    parser.add_argument("--quick", action="store_true", help="20000 rows, no targets")
    options = parser.parse_args(argv)
    reason = unavailable()
    if reason:
        print(f"python -m bench gpu: not measured, {reason}", file=sys.stderr)
        return 1
    print(f"{device_name()}; {machine(None)['cpu']}")
    cupy, told = library("cupy")
    if cupy is None:
        told = f"not measured ({told})"
    else:
        told = f"{product_flops(cupy, options.repeats):.3g}/s"
    print(f"{PRODUCT}, float64: {told}")
    for n, d in SHAPES:
        for dtype in (np.float64, np.float32):
            rows = min(n, 20_000) if options.quick else n
            report_kernels(rows, d, dtype, options.repeats)
    for data_set in data_sets(options.quick):
        compare(*data_set, min(options.repeats, 3))
    return 0
