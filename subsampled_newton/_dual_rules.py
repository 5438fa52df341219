"""Derivatives of the functions that a model may use, as rules for dual numbers.

Each rule gives value, first and second derivatives in terms of numbers to come; what a
kernel does not use is never computed. Formulas are chosen so that no derivative loses
digits where the value keeps them.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
# mypy: disable-error-code="arg-type,import-untyped"

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from subsampled_newton._dual import (
    Parts,
    chain,
    chain2,
    plus,
    register,
    times,
)
from subsampled_newton._jit import inlinable

__all__ = ["BINARY", "COMPARISONS", "TESTS", "UNARY", "register_rules", "rules"]


# Functions of one variable: value and two derivatives.


def _sqrt(x):
    f = x.call(math.sqrt)
    return f, 0.5 / f, -0.25 / (f * x)


def _cbrt(x):
    f = x.call(np.cbrt)
    return f, 1 / (3 * f * f), -2 / (9 * f * f * x)


def _exp(x):
    f = x.call(math.exp)
    return f, f, f


def _exp2(x):
    f, c = x.constant(2.0).call(math.pow, x), math.log(2.0)
    return f, c * f, c * c * f


def _expm1(x):
    e = x.call(math.exp)
    return x.call(math.expm1), e, e


def _log(x):
    return x.call(math.log), 1 / x, -1 / (x * x)


def _log1p(x):
    u = 1 + x
    return x.call(math.log1p), 1 / u, -1 / (u * u)


def _log2(x):
    c = 1.0 / math.log(2.0)
    return x.call(np.log2), c / x, -c / (x * x)


def _log10(x):
    c = 1.0 / math.log(10.0)
    return x.call(math.log10), c / x, -c / (x * x)


def _sin(x):
    f = x.call(math.sin)
    return f, x.call(math.cos), -f


def _cos(x):
    f = x.call(math.cos)
    return f, -x.call(math.sin), -f


def _tan(x):
    f = x.call(math.tan)
    f1 = 1 + f * f
    return f, f1, 2 * f * f1


def _asin(x):
    u = (1 - x) * (1 + x)
    f1 = 1 / u.call(math.sqrt)
    return x.call(math.asin), f1, x * f1 / u


def _acos(x):
    _, f1, f2 = _asin(x)
    return x.call(math.acos), -f1, -f2


def _atan(x):
    f1 = 1 / (1 + x * x)
    return x.call(math.atan), f1, -2 * x * f1 * f1


def _sinh(x):
    f = x.call(math.sinh)
    return f, x.call(math.cosh), f


def _cosh(x):
    f = x.call(math.cosh)
    return f, x.call(math.sinh), f


def _tanh(x):
    f, c = x.call(math.tanh), x.call(math.cosh)
    f1 = 1 / c / c  # 1 - f**2 loses its digits where f is near one
    return f, f1, -2 * f * f1


def _asinh(x):
    f1 = 1 / x.constant(1.0).call(math.hypot, x)
    return x.call(math.asinh), f1, -(x * f1) * f1 * f1


def _acosh(x):
    u = (x - 1) * (x + 1)
    f1 = 1 / u.call(math.sqrt)
    return x.call(math.acosh), f1, -x * f1 / u


def _atanh(x):
    f1 = 1 / ((1 - x) * (1 + x))
    return x.call(math.atanh), f1, 2 * x * f1 * f1


def _erf(x):
    f1 = (-(x * x)).call(math.exp) * (2.0 / math.sqrt(math.pi))
    return x.call(math.erf), f1, -2 * x * f1


def _erfc(x):
    _, f1, f2 = _erf(x)
    return x.call(math.erfc), -f1, -f2


def _lgamma(x):
    return x.call(math.lgamma), x.compute(_digamma), x.compute(_trigamma)


def _gamma(x):
    f, psi = x.call(math.gamma), x.compute(_digamma)
    return f, f * psi, f * (psi * psi + x.compute(_trigamma))


def _digamma(x):
    """Logarithmic derivative of gamma: reflection, recurrence, asymptotic series."""
    if x <= 0.0:
        if x == math.floor(x):
            return math.nan
        return _digamma_positive(1.0 - x) - math.pi / math.tan(math.pi * x)
    return _digamma_positive(x)


@inlinable()
def _digamma_positive(x):
    total = 0.0
    while x < 10.0:
        total -= 1.0 / x
        x += 1.0
    u = 1.0 / (x * x)
    series = 1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u * (1 / 132 - u * (
        691 / 32760 - u * (1 / 12))))))  # Bernoulli numbers over 2 k  # fmt: skip
    return total + math.log(x) - 0.5 / x - u * series


def _trigamma(x):
    """Second logarithmic derivative of gamma."""
    if x <= 0.0:
        if x == math.floor(x):
            return math.nan
        s = math.pi / math.sin(math.pi * x)
        return s * s - _trigamma_positive(1.0 - x)
    return _trigamma_positive(x)


@inlinable()
def _trigamma_positive(x):
    total = 0.0
    while x < 10.0:
        total += 1.0 / (x * x)
        x += 1.0
    u = 1.0 / (x * x)
    series = 1 / 6 - u * (1 / 30 - u * (1 / 42 - u * (1 / 30 - u * (5 / 66 - u * (
        691 / 2730 - u * (7 / 6))))))  # Bernoulli numbers  # fmt: skip
    return total + 1.0 / x + 0.5 * u + u / x * series


def _abs(x):
    sign = x.constant(1.0).where(x.compare(">", 0.0), -1.0)
    return x.call(math.fabs), sign.where(x.compare("!=", 0.0), 0.0), None


def _flat(function):
    """Of steps: both derivatives are zero."""
    return lambda x: (x.call(function), None, None)


UNARY: dict[tuple[Any, ...], Callable[..., Any]] = {
    (abs, operator.abs, math.fabs, np.fabs, np.absolute): _abs,
    (np.square,): lambda x: (x * x, 2 * x, x.constant(2.0)),
    (np.reciprocal,): lambda x: (1 / x, -1 / (x * x), 2 / (x * x * x)),
    (math.sqrt, np.sqrt): _sqrt,
    (np.cbrt, getattr(math, "cbrt", np.cbrt)): _cbrt,
    (math.exp, np.exp): _exp,
    (np.exp2, getattr(math, "exp2", np.exp2)): _exp2,
    (math.expm1, np.expm1): _expm1,
    (math.log, np.log): _log,
    (math.log1p, np.log1p): _log1p,
    (math.log2, np.log2): _log2,
    (math.log10, np.log10): _log10,
    (math.sin, np.sin): _sin,
    (math.cos, np.cos): _cos,
    (math.tan, np.tan): _tan,
    (math.asin, np.arcsin): _asin,
    (math.acos, np.arccos): _acos,
    (math.atan, np.arctan): _atan,
    (math.sinh, np.sinh): _sinh,
    (math.cosh, np.cosh): _cosh,
    (math.tanh, np.tanh): _tanh,
    (math.asinh, np.arcsinh): _asinh,
    (math.acosh, np.arccosh): _acosh,
    (math.atanh, np.arctanh): _atanh,
    (math.erf,): _erf,
    (math.erfc,): _erfc,
    (math.gamma,): _gamma,
    (math.lgamma,): _lgamma,
    (math.degrees, np.degrees, np.rad2deg): lambda x: (
        x * (180.0 / math.pi),
        x.constant(180.0 / math.pi),
        None,
    ),
    (math.radians, np.radians, np.deg2rad): lambda x: (
        x * (math.pi / 180.0),
        x.constant(math.pi / 180.0),
        None,
    ),
    (np.sign,): _flat(np.sign),
    (math.floor, np.floor): _flat(np.floor),
    (math.ceil, np.ceil): _flat(np.ceil),
    (math.trunc, np.trunc): _flat(np.trunc),
    (np.rint,): _flat(np.rint),
}


# Functions of two variables, one of which may be a constant.


def _add(a, b):
    return Parts(a.value + b.value, *map(plus, a[1:], b[1:]))


def _negated(x):
    return Parts(*(None if part is None else -part for part in x))


def _subtract(a, b):
    return _add(a, _negated(b))


def _multiply(a, b):
    one = a.value.constant(1.0)
    return chain2(a, b, a.value * b.value, b.value, a.value, None, one, None)


def _divide(a, b):
    """Quotient q: q' = (a' - q b') / b, each part divided once."""
    q, inverse = a.value / b.value, 1 / b.value
    minus = -q

    def quotient(part, other):
        return times(inverse, plus(part, times(minus, other)))

    lanes, slope = quotient(a.lanes, b.lanes), quotient(a.slope, b.slope)
    cross = plus(a.cross, times(minus, b.cross))
    for s, d in ((slope, b.lanes), (b.slope, lanes)):
        if s is not None:
            cross = plus(cross, times(-s, d))
    return Parts(q, lanes, slope, times(inverse, cross))


def _power(a, b):
    """``a**b``: each part by powers of ``a`` only, so that ``a <= 0`` is allowed."""
    x, n = a.value, b.value
    f = x.call(math.pow, n)
    fa = faa = fb = fab = fbb = None
    if a.lanes is not None:
        less = n.constant(0.0).where(n.compare("==", 0.0), n * x.call(math.pow, n - 1))
        fa = less
        linear = x.builder.or_(n.compare("==", 0.0), n.compare("==", 1.0))
        faa = n.constant(0.0).where(linear, n * (n - 1) * x.call(math.pow, n - 2))
    if b.lanes is not None:
        log = x.call(math.log)
        zero = f.compare("==", 0.0)  # times log(0): the limit is 0
        fb = f.constant(0.0).where(zero, f * log)
        fbb = f.constant(0.0).where(zero, f * log * log)
        if a.lanes is not None:
            lower = x.call(math.pow, n - 1)
            fab = f.constant(0.0).where(lower.compare("==", 0.0), lower * (1 + n * log))
    return chain2(a, b, f, fa, fb, faa, fab, fbb)


def _hypot(a, b):
    f = a.value.call(math.hypot, b.value)
    zero = f.compare("==", 0.0)

    def ratio(x):
        return x.constant(0.0).where(zero, x / f)

    x, y = ratio(a.value), ratio(b.value)
    return chain2(a, b, f, x, y, ratio(y * y), ratio(-x * y), ratio(x * x))


def _atan2(a, b):
    """Angle of the point (b, a)."""
    y, x = a.value, b.value
    size = y.call(math.hypot, x)
    s, c = y / size, x / size  # no overflow of squares
    mixed = (s * s - c * c) / size / size
    second = 2 * s * c / size / size
    f = y.call(math.atan2, x)
    return chain2(a, b, f, c / size, -s / size, -second, mixed, second)


def _logaddexp(a, b):
    x, y = a.value, b.value
    p, q = 1 / (1 + (y - x).call(math.exp)), 1 / (1 + (x - y).call(math.exp))
    pq = p * q
    return chain2(a, b, x.call(np.logaddexp, y), p, q, pq, -pq, pq)


def _floor_divide(a, b):
    return Parts((a.value / b.value).call(np.floor))


def _remainder(a, b):
    count = (a.value / b.value).call(np.floor)
    f = a.value.call(operator.mod, b.value)
    return chain2(a, b, f, f.constant(1.0), -count, None, None, None)


def _choose(condition, a, b):
    """``a`` where the condition holds, otherwise ``b``."""
    builder = a.value.builder

    def pick(p, q):
        if p is None and q is None:
            return None
        like = q if p is None else p
        codes = [(like.zero() if part is None else part).code for part in (p, q)]
        return like.new(builder.select(condition, *codes))

    return Parts(*map(pick, a, b))


def _nan_or(symbol):
    """The larger or smaller one, the first of equals; nan if one is nan."""

    def choose(a, b):
        nan = a.value.builder.fcmp_unordered("uno", a.value.code, a.value.code)
        first = a.value.compare(symbol, b.value)
        return _choose(a.value.builder.or_(nan, first), a, b)

    return choose


def _first_or(symbol):
    """As Python: the second one only if it is truly larger or smaller."""
    return lambda a, b: _choose(b.value.compare(symbol, a.value), b, a)


BINARY: dict[tuple[Any, ...], Callable[..., Any]] = {
    (operator.add, operator.iadd, np.add): _add,
    (operator.sub, operator.isub, np.subtract): _subtract,
    (operator.mul, operator.imul, np.multiply): _multiply,
    (operator.truediv, operator.itruediv, np.divide): _divide,
    (operator.pow, operator.ipow, pow, math.pow, np.power, np.float_power): _power,
    (operator.floordiv, operator.ifloordiv, np.floor_divide): _floor_divide,
    (operator.mod, operator.imod, np.remainder): _remainder,
    (math.hypot, np.hypot): _hypot,
    (math.atan2, np.arctan2): _atan2,
    (np.logaddexp,): _logaddexp,
    (np.maximum,): _nan_or(">="),
    (np.minimum,): _nan_or("<="),
    (max,): _first_or(">"),
    (min,): _first_or("<"),
}

TESTS = ((math.isnan, np.isnan), (math.isinf, np.isinf), (math.isfinite, np.isfinite))

COMPARISONS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
}


def rules():
    """Every rule: function, number of arguments, code, type if not that of a dual."""
    for functions, rule in UNARY.items():
        for function in functions:
            yield function, 1, lambda x, r=rule: chain(x, *r(x.value)), None
    for functions, rule in BINARY.items():
        for function in functions:
            yield function, 2, rule, None
    for function in (operator.neg, np.negative):
        yield function, 1, _negated, None
    for function in (operator.pos, np.positive):
        yield function, 1, lambda x: x, None
    for function in (max, min):
        rule = BINARY[function,]
        yield function, 3, lambda a, b, c, r=rule: r(r(a, b), c), None
    yield np.clip, 3, lambda x, a, b: _nan_or("<=")(_nan_or(">=")(x, a), b), None
    yield np.where, 3, _where, None
    yield operator.ne, 2, _differs, types.boolean
    for function in (bool, operator.truth):
        yield function, 1, _differs, types.boolean
    yield operator.not_, 1, lambda x: x.value.compare("==", 0.0), types.boolean
    for function, symbol in COMPARISONS.items():
        yield function, 2, _comparison(symbol), types.boolean
    for functions in TESTS:
        for function in functions:
            yield function, 1, _test(functions[0]), types.boolean


@functools.cache
def register_rules() -> None:
    """Tell Numba all rules, once."""
    for rule in rules():
        register(*rule)


def _where(condition, a, b):
    return _choose(condition.value.compare("!=", 0.0), a, b)


def _comparison(symbol):
    return lambda a, b: a.value.compare(symbol, b.value)


def _differs(a, b=None):
    """Not equal; nan differs from everything."""
    other = a.value.constant(0.0 if b is None else b.value)
    return a.value.builder.fcmp_unordered("!=", a.value.code, other.code)


def _test(function):
    return lambda x: x.value.call(function).code
