"""A user's plain function: made callable from kernels, and what Numba says about it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterator
from pkgutil import get_data
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np
from numba.core.errors import NumbaError, UnsupportedBytecodeError
from numpy.typing import NDArray

from subsampled_newton._dual_plain import MATH
from subsampled_newton._interrupts import quiet
from subsampled_newton._jit import DISABLED, frozen

__all__ = [
    "compare_derivatives",
    "compare_values",
    "prepare",
    "run",
    "snapshot",
    "told",
]

EPS = float(np.finfo(np.float64).eps)
AGREE = 1e-6
"""Largest relative difference of compiled code and plain Python that is rounding."""
STEPS = (1e-3, 1e-5, 1e-7)
"""Steps of differences, relative to each parameter."""

Array = NDArray[np.float64]
_REAL = (bool, int, float, np.bool_, np.integer, np.floating)
_FOREIGN = ("numpy", "numba", "scipy", "math", "builtins")
_STAMP = hashlib.sha256(
    b"".join(
        get_data("subsampled_newton", name) or b""
        for name in ("_dual.py", "_dual_rules.py")
    )
).hexdigest()
_ALLOWED = (
    "Allowed are numbers, tuples, indices like params[i] and x[j], loops, conditions, "
    "functions of math or numpy of one or two numbers, and plain functions."
)
_LONGEST = 110
"""Characters of what Numba says; the rest is in the exception behind ours."""
_NESTED = "Rejected as the implementation raised a specific error:"


def snapshot(function: Any) -> Any:
    """Copy of a plain Python function, and of all that it reaches, as they are now.

    What it refers to may change later, and is another copy then. The functions that it
    calls need no decorator.

    Raises
    ------
    TypeError
        If it is not a plain function: a method, a partial, an object.
    """
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType):
        raise TypeError(f"a plain Python function can be compiled, got {function!r}")
    # The name of a kernel on disk follows Python functions. It does not see the rules
    # that differentiate them.
    return frozen(function, _STAMP)


def prepare(function: Any) -> Any:
    """Return the snapshot of a function as kernels call it.

    With ``NUMBA_DISABLE_JIT=1`` it runs on dual numbers of plain Python.
    """
    still = snapshot(function)
    return _on_dual_numbers(still) if DISABLED else still


@functools.cache
def _on_dual_numbers(function: Any) -> Any:
    return _copy(function, {})


def _copy(function: Any, done: dict[Any, Any]) -> Any:
    """The function, and all that it calls, with a `math` that knows dual numbers."""
    if function not in done:
        names = _names(function.__code__)
        cells = tuple(CellType() for _ in function.__closure__ or ())
        scope = dict(function.__globals__)
        copy = done[function] = FunctionType(
            function.__code__, scope, None, function.__defaults__, cells
        )
        for name in names:
            if name in scope:
                scope[name] = _on_duals(scope[name], names, done)
        for cell, of_user in zip(cells, function.__closure__ or (), strict=True):
            cell.cell_contents = _on_duals(of_user.cell_contents, names, done)
        return copy
    return done[function]


def _on_duals(value: Any, names: list[str], done: dict[Any, Any]) -> Any:
    value = getattr(value, "py_func", value)
    if isinstance(value, BuiltinFunctionType):
        return MATH.get(value, value)
    if isinstance(value, FunctionType) and not _foreign(value.__module__):
        return _copy(value, done)
    of_user = isinstance(value, ModuleType) and not _foreign(value.__name__)
    if of_user or value is math:
        inside = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return SimpleNamespace(
            **{name: _on_duals(part, names, done) for name, part in inside.items()}
        )
    return value


def _foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FOREIGN


def _names(code: CodeType) -> list[str]:
    """Names that a code object refers to, nested functions included."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return [*code.co_names, *(name for names in inner for name in names)]


def run(kernel: Callable[..., None], *args: Any) -> None:
    """Call a kernel around a user's function; what cannot be compiled is a TypeError.

    Raises
    ------
    TypeError
        That says what Numba did not accept, and what is allowed.
    ValueError
        If the function unpacks more or fewer parameters than there are.
    IndexError
        If it reads beyond the end of parameters, row or arrays.
    """
    try:
        with quiet(all="ignore"):  # where it runs as plain Python
            kernel(*args)
    except (NumbaError, UnsupportedBytecodeError) as error:
        raise TypeError(
            f"the function cannot be compiled: {_reason(str(error))}. {_ALLOWED}"
        ) from error
    except IndexError as error:
        columns = getattr(args[0], "shape", (0, 0))[-1] if args else 0
        raise IndexError(
            f"{error}: the function, called with (params, x_i), reads beyond the end "
            f"of the parameters, of a row of X ({columns} columns), or of an array"
        ) from error
    except ValueError as error:
        if str(error):
            raise
        raise ValueError(
            "the function must unpack as many parameters as there are (n_params, "
            "start), and of x as many numbers as X has columns"
        ) from error


def compare_values(
    function: Any, arguments: list[tuple[Any, ...]], compiled: Array, places: list[str]
) -> int:
    """Compare compiled code with plain Python; return how many values could be.

    Raises
    ------
    ValueError
        With both numbers, where they differ by more than rounding.
    """
    plain, compared = getattr(function, "py_func", function), 0
    largest = float(np.max(np.abs(compiled), initial=0.0, where=np.isfinite(compiled)))
    results: list[Any] = []
    with quiet(all="ignore"):
        for args in arguments:
            try:
                results.append(plain(*args))
            except Exception:  # an overflow, the root of a negative number
                results.append(None)
    for expected, value, place in zip(results, compiled, places, strict=True):
        if not isinstance(expected, _REAL) or not math.isfinite(expected):
            continue
        compared += 1
        size = max(abs(float(expected)), abs(value), 1e-6 * largest)
        if not abs(value - expected) <= AGREE * size:
            raise ValueError(
                f"{plain.__name__[:40]} is {value:.8g} compiled but {expected:.8g} in "
                f"Python at {place}. Compiled integers have 64 bits (write 10.0 for "
                "10); random numbers, and helpers of Numba's njit whose surroundings "
                "have changed, differ as well"
            )
    return compared


def compare_derivatives(
    values: Callable[[Array], Array], p: Array, f: Array, J: Array
) -> tuple[int, int, float] | None:
    """Compare derivatives J of values f, at parameters p, with central differences.

    Differences are judged by themselves first: one-sided ones agree, and so do those of
    several steps, except where there is a kink, a jump or only rounding.

    Returns
    -------
    tuple of int, int, float or None
        Row, parameter and difference of the first derivative that is wrong.
    """
    with quiet(all="ignore"):
        for k in range(len(p)):
            size = abs(float(p[k])) or 1.0
            up, down = _moved(p, k, STEPS[1] * size)
            first = (values(up) - values(down)) / (up[k] - down[k])
            if np.all(np.abs(J[:, k] - first) <= 1e-4 * np.abs(first)):
                continue
            best = _difference(values, p, f, k, size)
            gap = np.abs(J[:, k] - best[0])
            allowed = np.maximum(
                10.0 * best[1], 1e-3 * np.maximum(np.abs(J[:, k]), np.abs(best[0]))
            )
            seen = gap * size > 1e-9 * np.abs(f)
            wrong = np.flatnonzero((gap > allowed) & seen & np.isfinite(gap))
            if len(wrong):
                return int(wrong[0]), k, float(best[0][wrong[0]])
    return None


def _moved(p: Array, k: int, step: float) -> tuple[Array, Array]:
    up, down = p.copy(), p.copy()
    up[k] += step
    down[k] -= step
    return up, down


def _difference(
    values: Callable[[Array], Array], p: Array, f: Array, k: int, size: float
) -> tuple[Array, Array]:
    """Most certain central difference in one parameter, and what it may be off by."""
    central, spread = [], []
    for step in STEPS:
        up, down = _moved(p, k, step * size)
        f_up, f_down = values(up), values(down)
        forward, backward = (f_up - f) / (up[k] - p[k]), (f - f_down) / (p[k] - down[k])
        rounding = 8.0 * EPS * (np.abs(f_up) + np.abs(f_down)) / (step * size)
        central.append((f_up - f_down) / (up[k] - down[k]))
        spread.append(np.abs(forward - backward) + rounding)
    D, S = np.array(central), np.array(spread)
    jumps = np.abs(np.diff(D, axis=0))
    S[:-1] += jumps
    S[1:] += jumps
    S[~np.isfinite(S)] = np.inf
    chosen, columns = np.argmin(S, axis=0), np.arange(len(f))
    return D[chosen, columns], S[chosen, columns]


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Tell what a kernel around a user's function raises in our words first.

    Raises
    ------
    TypeError
        For what Numba does not compile: where it is, and what is allowed.
    IndexError
        For an array that is read beyond its end.
    """
    try:
        with quiet(all="ignore"):  # where it runs as plain Python
            yield
    except (NumbaError, UnsupportedBytecodeError) as error:
        raise TypeError(
            f"{what} cannot be compiled: {_reason(str(error))}. {_ALLOWED}"
        ) from error
    except IndexError as error:
        raise IndexError(f"{error}: {what} reads beyond the end of an array") from error


def _reason(text: str) -> str:
    """What Numba says about the user's code, without what it says about ours."""
    returned = re.search(r"TypingError: (it returns .* where a number is needed)", text)
    if returned:
        return _plain(returned.group(1))[:_LONGEST]
    outer, *inner = text.split(_NESTED)
    while inner and "'inlinable." in outer[outer.rfind("in function '") :]:
        outer = inner.pop(0)
    lines = [line.strip() for line in outer.splitlines() if line.strip()]
    lines = [line for line in lines if "Failed in nopython mode" not in line] or [text]
    reason = lines[0]
    if len(lines) > 1 and lines[1].startswith(">>> "):
        reason = f"no rule for {lines[1].removeprefix('>>> ')}"
    place = re.search(r'File "(?!.*kernels).*?([^/\\"]*)", (line \d+):', outer)
    where = f" ({place.group(2)} of {place.group(1)})" if place else ""
    reason, where = _plain(reason), where[: _LONGEST // 2]
    most = _LONGEST - len(where)
    if len(reason) > most:  # what matters is at either end
        half = (most - 3) // 2
        reason = f"{reason[:half]}...{reason[-half:]}"
    return reason + where


def _plain(text: str) -> str:
    """Numba's names of types as the user knows them."""
    text = re.sub(r"Params\((Dual\(\d, \d\)|float64)\)", "params", text)
    text = re.sub(r"Dual\(\d, \d\)", "number", text)
    text = re.sub(r"(readonly )?array\(float64, 1d, C\)", "array", text)
    return text.replace("<iv=None>", "")
