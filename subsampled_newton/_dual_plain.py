"""Dual numbers as plain Python: the rules of `_dual_rules` carried out at once.

For ``NUMBA_DISABLE_JIT=1``, where a debugger steps through a user's function: the same
derivatives, a thousand times slower. What the compiler refuses may work here, because
it is Python.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from subsampled_newton._dual import Number, Parts
from subsampled_newton._dual_rules import BINARY, COMPARISONS, TESTS, UNARY, rules

__all__ = ["MATH", "contract", "seeds", "store", "value_of"]

_REAL = (bool, int, float, np.bool_, np.integer, np.floating)
_RULES = {(function, n): rule for function, n, rule, _ in rules()}

# The same functions, without exceptions.
_UFUNCS: dict[Any, Callable[..., Any]] = {
    math.erf: scipy.special.erf,
    math.erfc: scipy.special.erfc,
    math.gamma: scipy.special.gamma,
    math.lgamma: scipy.special.gammaln,
}
for _functions in (*UNARY, *BINARY, *TESTS):
    for _ufunc in [f for f in _functions if isinstance(f, np.ufunc)][:1]:
        _UFUNCS |= dict.fromkeys(_functions, _ufunc)

_COMPARE = {symbol: function for function, symbol in COMPARISONS.items()}
_COMPARE["!="] = operator.ne
_COMPARE_UFUNCS = {
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
}


def _value(function, *numbers):
    """As compiled code: what overflows is inf, what is undefined nan, no exception."""
    try:
        return function(*numbers)
    except (OverflowError, ValueError):
        if function not in _UFUNCS:
            raise
        return _UFUNCS[function](*numbers)


class _AtOnce:
    """The instructions that `Number` and the rules ask for, on NumPy's numbers."""

    fadd, fsub, fmul, fdiv = np.add, np.subtract, np.multiply, np.divide
    fneg, and_, or_ = np.negative, np.logical_and, np.logical_or

    @staticmethod
    def fcmp_ordered(symbol, a, b):
        ordered = (a == a) & (b == b)
        return ordered if symbol == "ord" else ordered & _COMPARE[symbol](a, b)

    @staticmethod
    def fcmp_unordered(symbol, a, b):
        unordered = (a != a) | (b != b)
        return unordered if symbol == "uno" else unordered | _COMPARE[symbol](a, b)

    @staticmethod
    def select(condition, a, b):
        return np.where(condition, a, b)[()]


class Float(Number):
    """A float64, or a vector of them, that is there already."""

    def __init__(self, code) -> None:
        super().__init__(None, _AtOnce, code)

    def new(self, code) -> Float:
        return Float(code)

    def constant(self, other) -> Number:
        return other if isinstance(other, Number) else Float(np.float64(other))

    def zero(self) -> Float:
        return Float(np.zeros_like(self.code))

    def call(self, function, *others):
        codes = (self.code, *(self.constant(other).code for other in others))
        return Float(np.float64(_value(function, *codes)))

    def compute(self, function):
        return Float(function(self.code))

    def splat(self, like) -> Float:
        return self  # NumPy broadcasts it


class PlainDual:
    """A dual number: what a user's function is called with."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or kwargs:
            return NotImplemented
        # NumPy compares a float64 as an array without dimensions.
        numbers = (x[()] if isinstance(x, np.ndarray) else x for x in inputs)
        return _apply(_COMPARE_UFUNCS.get(ufunc, ufunc), *numbers)

    def __array_function__(self, function, types, args, kwargs):
        return NotImplemented if kwargs else _apply(function, *args)

    def __bool__(self) -> bool:
        return bool(_apply(operator.truth, self))


def _apply(function, *arguments):
    """A function of numbers, some of them dual, by its rule."""
    rule = _RULES.get((function, len(arguments)))
    if rule is None or not all(isinstance(x, (PlainDual, *_REAL)) for x in arguments):
        return NotImplemented
    answer = rule(*map(_parts, arguments))
    return PlainDual(answer) if isinstance(answer, Parts) else answer


def _parts(number: Any) -> Parts:
    if isinstance(number, PlainDual):
        return number.parts
    if isinstance(number, _REAL):
        return Parts(Float(np.float64(number)))
    raise TypeError(f"it returns {number!r} where a number is needed")


def _method(function, *, reflected=False):
    def method(self, *others):
        return _apply(function, *((*others, self) if reflected else (self, *others)))

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _function = getattr(operator, _name)
    setattr(PlainDual, f"__{_name}__", _method(_function))
    setattr(PlainDual, f"__r{_name}__", _method(_function, reflected=True))
for _name in ("neg", "pos", "abs", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(PlainDual, f"__{_name}__", _method(getattr(operator, _name)))


def _of_duals_too(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `math` that knows duals."""

    def wrapped(*arguments):
        if not any(isinstance(x, PlainDual) for x in arguments):
            return _value(function, *arguments)
        answer = _apply(function, *arguments)
        if answer is NotImplemented:
            raise TypeError(f"no rule for {function.__name__}")
        return answer

    return wrapped


MATH = {f: _of_duals_too(f) for f in vars(math).values() if callable(f)}
"""What stands for the functions of `math`."""


# What kernels use, as in `_dual`.


def seeds(order, width):
    """Return the function that makes parameters from arrays."""

    def make(values, direction, first):
        if order == 0:
            return values
        params = np.empty(len(values), dtype=object)
        for k, (value, slope) in enumerate(zip(values, direction, strict=True)):
            lanes = Float(np.where(np.arange(width) == k - first, 1.0, 0.0))
            parts = Parts(Float(value), lanes)
            if order == 2:
                parts = parts._replace(slope=Float(slope), cross=lanes.zero())
            params[k] = PlainDual(parts)
        params.flags.writeable = False
        return params

    return make


def value_of(number):
    """Value of a dual or of a number."""
    return _parts(number).value.code


def store(number, J, i, first):
    """Write the derivatives to ``J[i, first:]``, if there is room; return the value."""
    parts = _parts(number)
    if parts.lanes is not None:
        room = J[i, first : first + parts.lanes.code.size]
        room[:] = parts.lanes.code[: room.size]
    return parts.value.code


def contract(number, t, a, total, first):
    """Add ``a`` times the mixed derivatives to ``total``; return their product with t.

    Of the parameters from ``first`` on. Nothing is added for ``a = 0``, whatever they
    are.
    """
    parts = _parts(number)
    if parts.cross is None:
        return 0.0
    along = t[first : first + parts.cross.code.size]
    h = parts.cross.code[: along.size]
    if a != 0.0:
        total[first : first + h.size] += a * h
    return along @ h
