"""Checks of arguments: an error names the argument, what came and what is allowed."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "check_count",
    "check_flag",
    "check_function",
    "check_number",
    "check_one_of",
    "check_range",
    "check_text",
    "generator",
    "is_array",
    "is_number",
    "real_array",
    "shown",
]

Array = NDArray[np.float64]
BOUNDS: dict[str, Callable[[Any], bool]] = {
    ">= 0": lambda v: v >= 0.0,
    "> 0": lambda v: v > 0.0,
    "> 1": lambda v: v > 1.0,
    "in (0, 1)": lambda v: 0.0 < v < 1.0,
    "in (0.0, 1.0]": lambda v: isinstance(v, float) and 0.0 < v <= 1.0,
    "in [0, 1)": lambda v: 0.0 <= v < 1.0,
    "in [0, 1]": lambda v: 0.0 <= v <= 1.0,
}
"""What a number may be, as messages say it."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel, _short.maxlist, _short.maxtuple, _short.maxdict = 2, 6, 6, 4


def shown(value: Any) -> str:
    """Return what came, in at most some 80 characters: arrays by type and shape."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if is_array(value):
        return f"{type(value).__name__} of shape {value.shape} and dtype {value.dtype}"
    try:
        text = _short.repr(value)
    except Exception:  # an integer too long to print, a broken __repr__
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def is_array(value: object) -> bool:
    """Whether value is an array or a matrix of any library."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and value.shape != ()


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
    name: str,
    value: Any,
    bounds: str,
    *,
    finite: bool = True,
    optional: bool = False,
    rules: tuple[str, ...] = (),
) -> None:
    """Raise unless value is a number within one of the `BOUNDS`, or None, or a rule."""
    if (optional and value is None) or (isinstance(value, str) and value in rules):
        return
    if (
        not is_number(value)
        or not BOUNDS[bounds](value)
        or (finite and math.isinf(value))
    ):
        kind = "a finite number" if finite and bounds[0] == ">" else "a number"
        either = f"one of {rules} or " if rules else ""
        none = " or None" if optional else ""
        raise ValueError(
            f"{name} must be {either}{kind} {bounds}{none}, got {shown(value)}"
        )


def check_count(
    name: str, value: Any, low: int = 1, *, optional: bool = False, rule: str = ""
) -> None:
    """Raise unless value is an integer that is large enough, or None, or the rule."""
    if (optional and value is None) or (
        rule and isinstance(value, str) and value == rule
    ):
        return
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, int | np.integer)
        or not low <= value < 2**63
    ):
        either = f"{rule!r}, " if rule else ""
        either += "None or " if optional else ""
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


def check_range(name: str, value: Any) -> None:
    """Raise unless value is a pair of numbers, the lower one first."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    if not pair or not all(map(is_number, value)) or not value[0] <= value[1]:
        raise ValueError(
            f"{name} must be (low, high) with numbers low <= high, got {shown(value)}"
        )


def check_text(name: str, value: Any) -> None:
    """Raise unless value is a text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {shown(value)}")


def check_function(name: str, value: Any, arguments: str) -> None:
    """Raise unless value can be called."""
    if not callable(value):
        raise TypeError(
            f"{name} must be a function of ({arguments}), got {shown(value)}"
        )


def generator(name: str, seed: Any) -> np.random.Generator:
    """Return a generator of random numbers for a seed."""
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise TypeError(
            f"{name} must be None, an integer >= 0 or a numpy.random.Generator, "
            f"got {shown(seed)}"
        )
    return np.random.default_rng(seed)


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
        raise ValueError(f"{name} must {what}, got rows of several lengths") from None
    if array.dtype.kind not in "fiub":
        came = f"dtype {array.dtype}" if array.shape else shown(value)
        raise TypeError(f"{name} must {what}, got {came}")
    if shape is not None and array.shape != shape:
        came = str(array.shape) if array.shape else shown(value)
        raise ValueError(f"{name} must have shape {shape}, got {came}")
    return array
