"""A user's plain function: made callable from kernels, and what Numba says about it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
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

from numba.core.errors import NumbaError, UnsupportedBytecodeError

from subsampled_newton._dual_plain import MATH
from subsampled_newton._interrupts import quiet
from subsampled_newton._jit import DISABLED, inlinable

__all__ = ["prepare", "run"]

_FOREIGN = ("numpy", "numba", "scipy", "math", "builtins")
_STAMP = hashlib.sha256(
    b"".join(
        get_data("subsampled_newton", name) or b""
        for name in ("_dual.py", "_dual_rules.py")
    )
).hexdigest()
_ALLOWED = (
    "Allowed are numbers, tuples, indices like params[i] and x[j], loops, conditions, "
    "functions of math or numpy that take one or two numbers, and plain Python "
    "functions of the same kind."
)
_NESTED = "Rejected as the implementation raised a specific error:"


def prepare(function: Any) -> Any:
    """Make a plain Python function callable from kernels, with all that it calls.

    The functions that it calls need no decorator either. Returns the plain function of
    one that Numba compiled, and with ``NUMBA_DISABLE_JIT=1`` a copy that runs on dual
    numbers.

    Raises
    ------
    TypeError
        If it is not a plain function: a method, a partial, an object.
    """
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType):
        raise TypeError(f"a plain Python function can be compiled, got {function!r}")
    if DISABLED:
        return _copy(function, {})
    _prepare(function, set())
    return function


def _prepare(function: Any, seen: set[Any]) -> None:
    if function in seen or _foreign(function.__module__):
        return
    seen.add(function)
    names = _names(function.__code__)
    reached = [function.__globals__.get(name) for name in names]
    reached += [cell.cell_contents for cell in function.__closure__ or ()]
    for module in [m for m in reached if isinstance(m, ModuleType)]:
        if not _foreign(module.__name__):
            reached += [getattr(module, name, None) for name in names]
    if not hasattr(function, "jit_options"):
        # As in the kernels: a division by zero is inf, not an exception.
        inlinable(error_model="numpy")(function)
    # The name of a kernel on disk follows Python functions. It does not see the rules
    # that differentiate them, nor a library function under a name of the user's.
    stamp = repr((_STAMP, [_library_name(other) for other in reached]))
    if stamp not in function.jit_options:
        function.jit_options += stamp
    for other in reached:
        if isinstance(other, FunctionType):
            _prepare(other, seen)


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


def _library_name(value: Any) -> str:
    """Name of a function of a library, the same in every process."""
    if isinstance(value, FunctionType) or not callable(value):
        return ""
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', '')}"


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
    """
    try:
        with quiet(all="ignore"):  # where it runs as plain Python
            kernel(*args)
    except (NumbaError, UnsupportedBytecodeError) as error:
        raise TypeError(
            f"the function cannot be compiled: {_reason(str(error))}. {_ALLOWED}"
        ) from error
    except ValueError as error:
        if str(error):
            raise
        raise ValueError(
            "the function must unpack as many parameters as there are (n_params, "
            "start), and of x as many numbers as X has columns"
        ) from error


def _reason(text: str) -> str:
    """What Numba says about the user's code, without what it says about ours."""
    returned = re.search(r"TypingError: (it returns .* where a number is needed)", text)
    if returned:
        return _plain(returned.group(1))
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
    return _plain(reason) + where


def _plain(text: str) -> str:
    """Numba's names of types as the user knows them."""
    text = re.sub(r"Params\((Dual\(\d, \d\)|float64)\)", "params", text)
    text = re.sub(r"Dual\(\d, \d\)", "number", text)
    text = re.sub(r"(readonly )?array\(float64, 1d, C\)", "array", text)
    return text.replace("<iv=None>", "")
