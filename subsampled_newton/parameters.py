"""Checks of arguments: an error names the argument, what came and what is allowed."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "check_count",
    "check_flag",
    "check_function",
    "check_number",
    "check_one_of",
    "is_number",
    "real_array",
    "shown",
]

Array = NDArray[np.float64]
BOUNDS = {
    ">= 0": lambda v: v >= 0.0,
    "> 0": lambda v: v > 0.0,
    "> 1": lambda v: v > 1.0,
    "in (0, 1)": lambda v: 0.0 < v < 1.0,
    "in (0, 1]": lambda v: 0.0 < v <= 1.0,
    "in [0, 1)": lambda v: 0.0 <= v < 1.0,
    "in [0, 1]": lambda v: 0.0 <= v <= 1.0,
}
"""What a number may be, as messages say it."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel, _short.maxlist, _short.maxtuple, _short.maxdict = 2, 6, 6, 4


def shown(value: Any) -> str:
    """Return what came, in at most some 80 characters: arrays by type and shape."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and shape != ():
        return f"{type(value).__name__} of shape {shape} and dtype {dtype}"
    if shape is not None and shape != ():
        return f"{type(value).__name__} of shape {shape}"
    text = _short.repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def is_number(value: object) -> bool:
    """Whether value is a real number: no truth value, and not too long for a float."""
    if isinstance(value, bool | np.bool_) or not isinstance(
        value, int | float | np.integer | np.floating
    ):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def check_number(
    name: str, value: Any, bounds: str, *, finite: bool = True, optional: bool = False
) -> None:
    """Raise unless value is a number within one of the `BOUNDS`."""
    if optional and value is None:
        return
    if (
        not is_number(value)
        or not BOUNDS[bounds](value)
        or (finite and math.isinf(value))
    ):
        kind = "a finite number" if finite and bounds[0] == ">" else "a number"
        either = "None or " if optional else ""
        raise ValueError(f"{name} must be {either}{kind} {bounds}, got {shown(value)}")


def check_count(name: str, value: Any, low: int = 1, *, optional: bool = False) -> None:
    """Raise unless value is an integer that is large enough."""
    if optional and value is None:
        return
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, int | np.integer)
        or not low <= value < 2**63
    ):
        either = "None or " if optional else ""
        raise ValueError(
            f"{name} must be {either}an integer >= {low}, got {shown(value)}"
        )


def check_one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise unless value is one of a few."""
    names = tuple(allowed)
    # Arrays compare entry by entry.
    if not (value is None or isinstance(value, str | bool)) or value not in names:
        raise ValueError(f"{name} must be one of {names}, got {shown(value)}")


def check_flag(name: str, value: Any) -> None:
    """Raise unless value is a truth value."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")


def check_function(name: str, value: Any, arguments: str) -> None:
    """Raise unless value can be called."""
    if not callable(value):
        raise TypeError(
            f"{name} must be a function of ({arguments}), got {shown(value)}"
        )


def real_array(
    name: str,
    value: Any,
    shape: tuple[int, ...] | None = None,
    what: str = "hold real numbers",
) -> Any:
    """Return value as an array of real numbers, without a copy where it is one."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must {what}, got {shown(value)}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array
