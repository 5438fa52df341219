"""Formulas of the losses: value and derivatives of one sample.

A loss is three plain functions of the linear predictor ``z`` and the target ``y``:
``value``, ``d1`` and ``d2``, its derivatives in ``z``. Nothing else in the package
knows a formula. Kernels inline the functions; when several are used in one loop the
compiler evaluates what they share, such as the exponential, once.

The forms never overflow and never subtract from 1 what is close to 1: in the tail of a
sigmoid that loses all digits and makes the curvature exactly 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from subsampled_newton._elementary import exp, log1p
from subsampled_newton._jit import check_arguments, frozen, inlinable
from subsampled_newton.parameters import (
    check_count,
    check_function,
    check_number,
    check_one_of,
    check_range,
    check_text,
    is_number,
    shown,
)

__all__ = [
    "LOGISTIC",
    "POISSON",
    "SIGMOID_SQUARED",
    "SQUARED",
    "SQUARED_HINGE",
    "TANH_SQUARED",
    "PointwiseLoss",
    "huber",
    "link_squared",
    "pseudo_huber",
    "tukey",
]

Scalar = Callable[[float, float], float]
TARGETS = {
    "real": "finite numbers",
    "sign": "-1 or +1",
    "unit": "numbers in [0, 1]",
    "interval": "numbers in [-1, 1]",
    "nonnegative": "numbers >= 0",
}


@dataclass(frozen=True, eq=False)
class PointwiseLoss:
    """A loss of one linear predictor: three plain functions and what is known of them.

    Parameters
    ----------
    name : str
        For messages.
    value, d1, d2 : callable, (float, float) -> float
        Loss and its derivatives in the first argument, at ``(z, y)``. Plain Python that
        Numba can compile, as are the functions that they call. Globals, closures and
        arrays are taken as they are when a problem is made, which compares compiled
        code with plain Python.
    d2_range : tuple of float, default (-inf, inf)
        Bounds of ``d2``. A lower bound >= 0 declares the loss convex.
    gauss_newton : callable, optional
        A weight >= 0 that stands in for ``d2`` where it may be negative (the IRLS
        weight of a robust loss, twice the squared slope of the link in nonlinear least
        squares). Default ``d2`` itself, which needs a convex loss.
    targets : {"real", "sign", "unit", "interval", "nonnegative"}, default "real"
        What ``y`` may be; checked when a problem is made.
    formula : str, default ""
        The loss as ``help`` shows it.
    least : float, default -inf
        A number that no value of the loss is below, for bounds of what is left to gain.

    Examples
    --------
    >>> def value(z, y): return (z - y) ** 4
    >>> def d1(z, y): return 4 * (z - y) ** 3
    >>> def d2(z, y): return 12 * (z - y) ** 2
    >>> quartic = PointwiseLoss("quartic", value, d1, d2, d2_range=(0.0, math.inf))
    >>> quartic.convex
    True
    """

    name: str
    value: Scalar
    d1: Scalar
    d2: Scalar
    d2_range: tuple[float, float] = (-math.inf, math.inf)
    gauss_newton: Scalar | None = None
    targets: str = "real"
    formula: str = ""
    least: float = -math.inf

    def __post_init__(self) -> None:
        for field in ("value", "d1", "d2", "gauss_newton"):
            function = getattr(self, field)
            if function is None and field == "gauss_newton":
                continue
            check_arguments(field, function, {2: "(z, y)"})
            try:
                object.__setattr__(self, field, inlinable()(function))
            except TypeError:
                raise TypeError(
                    f"{field} must be a function of (z, y) in plain Python, "
                    f"got {function!r}"
                ) from None
        check_text("name", self.name)
        check_range("d2_range", self.d2_range)
        if not is_number(self.least) or not self.least < math.inf:
            raise ValueError(
                f"least must be a number below inf, or -inf, got {shown(self.least)}"
            )
        check_one_of("targets", self.targets, sorted(TARGETS))
        check_text("formula", self.formula)
        if self.formula:  # what help() shows
            text = f"The {self.name} loss: {self.formula}."
            object.__setattr__(self, "__doc__", text)
        if self.gauss_newton is None and self.convex:
            object.__setattr__(self, "gauss_newton", self.d2)

    def as_it_is(self) -> PointwiseLoss:
        """The loss with all that its functions refer to as it is now, for kernels.

        Itself where nothing can change; otherwise the same copy until something does.
        """
        names = ("value", "d1", "d2", "gauss_newton")
        functions = {name: getattr(self, name) for name in names}
        functions = {name: f for name, f in functions.items() if f is not None}
        if self in _SOURCES or all(map(_fixed, functions.values())):
            return self
        still = {name: frozen(f) for name, f in functions.items()}
        copies = _COPIES.setdefault(self, {})
        key = tuple(still.values())
        if key not in copies:
            copies[key] = replace(self, **still)
            _SOURCES[copies[key]] = self
        return copies[key]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Functions are stored by name: those of the loss that it is a copy of."""
        if self in _SOURCES:
            return _itself, (_SOURCES[self],)
        return super().__reduce_ex__(protocol)

    @property
    def convex(self) -> bool:
        """Whether ``d2`` is nowhere negative."""
        return self.d2_range[0] >= 0.0

    @property
    def curvature_bound(self) -> float:
        """Smallest known bound of ``|d2|``; inf if there is none."""
        return max(abs(self.d2_range[0]), abs(self.d2_range[1]))


_COPIES: dict[PointwiseLoss, dict[tuple[Any, ...], PointwiseLoss]] = {}
_SOURCES: dict[PointwiseLoss, PointwiseLoss] = {}
"""Losses of a user's functions that kernels were compiled for, and where they are from.

Never emptied: kernels are kept as well."""


def _itself(loss: PointwiseLoss) -> PointwiseLoss:
    return loss


def _fixed(value: Any) -> bool:
    """Whether a function of this package refers to nothing of a user's."""
    cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    ours = getattr(value, "__module__", "").partition(".")[0] == "subsampled_newton"
    return isinstance(value, int | float) or (ours and all(map(_fixed, cells)))


# Logistic, y = -1 or +1, margin m = y z: log(1 + exp(-m)).


def _logistic_value(z, y):
    m = y * z
    return log1p(exp(-abs(m))) + (0.0 if m > 0.0 else -m)


def _logistic_d1(z, y):
    m = y * z
    e = exp(-abs(m))
    q = 1.0 / (1.0 + e)
    return -y * (e * q if m > 0.0 else q)


def _logistic_d2(z, y):
    e = exp(-abs(y * z))
    q = 1.0 / (1.0 + e)
    return e * q * q


LOGISTIC = PointwiseLoss(
    "logistic",
    _logistic_value,
    _logistic_d1,
    _logistic_d2,
    (0.0, 0.25),
    targets="sign",
    formula="log(1 + exp(-y z)), y = -1 or +1",
    least=0.0,
)
"""log(1 + exp(-y z)), y = -1 or +1."""


# Squared: (z - y)**2 / 2.


def _squared_value(z, y):
    return 0.5 * (z - y) * (z - y)


def _squared_d1(z, y):
    return z - y


def _squared_d2(z, y):
    return 1.0


SQUARED = PointwiseLoss(
    "squared",
    _squared_value,
    _squared_d1,
    _squared_d2,
    (1.0, 1.0),
    formula="(z - y)**2 / 2",
    least=0.0,
)
"""(z - y)**2 / 2."""


# Squared hinge, y = -1 or +1: max(0, 1 - y z)**2 / 2. Compared so that nan stays nan.


def _hinge_value(z, y):
    r = 1.0 - y * z
    return 0.0 if r <= 0.0 else 0.5 * r * r


def _hinge_d1(z, y):
    r = 1.0 - y * z
    return 0.0 if r <= 0.0 else -y * r


def _hinge_d2(z, y):
    return 0.0 if 1.0 - y * z <= 0.0 else 1.0


SQUARED_HINGE = PointwiseLoss(
    "squared hinge", _hinge_value, _hinge_d1, _hinge_d2, (0.0, 1.0), targets="sign"
)
"""max(0, 1 - y z)**2 / 2, y = -1 or +1: linear support vector machines. The second
derivative jumps where ``y z = 1``."""


# Nonlinear least squares: (h(z) - y)**2 without a factor 1/2, as in the experiments of
# Xu, Roosta and Mahoney. s and c = 1 - s come from one exponential, and s - y is taken
# as (1 - y) - c above one half, so that saturated samples keep their gradient.


@inlinable()
def _sigmoid_parts(z, y):
    """Return h, 1 - h and h - y for the logistic sigmoid h."""
    e = exp(-abs(z))
    q = 1.0 / (1.0 + e)
    s = q if z > 0.0 else e * q
    c = e * q if z > 0.0 else q
    return s, c, ((1.0 - y) - c if y > 0.5 else s - y)


def _sigmoid_value(z, y):
    _, _, r = _sigmoid_parts(z, y)
    return r * r


def _sigmoid_d1(z, y):
    s, c, r = _sigmoid_parts(z, y)
    return 2.0 * r * s * c


def _sigmoid_d2(z, y):
    s, c, r = _sigmoid_parts(z, y)
    return 2.0 * s * c * (s * c + r * (c - s))


def _sigmoid_gauss_newton(z, y):
    s, c, _ = _sigmoid_parts(z, y)
    return 2.0 * (s * c) * (s * c)


SIGMOID_SQUARED = PointwiseLoss(
    "sigmoid squared",
    _sigmoid_value,
    _sigmoid_d1,
    _sigmoid_d2,
    (-0.12021, 0.15411),
    _sigmoid_gauss_newton,
    targets="unit",
    formula="(sigmoid(z) - y)**2, y in [0, 1]; not convex",
    least=0.0,
)
"""(sigmoid(z) - y)**2, y in [0, 1]; not convex."""


@inlinable()
def _tanh_parts(z, y):
    """Return h, the slope 1 - h**2 and h - y for h = tanh."""
    e = exp(-abs(2.0 * z))
    q = 1.0 / (1.0 + e)
    s = q if z > 0.0 else e * q
    c = e * q if z > 0.0 else q
    r = (1.0 - y) - 2.0 * c if y > 0.0 else 2.0 * s - (1.0 + y)
    return s - c, 4.0 * s * c, r


def _tanh_value(z, y):
    _, _, r = _tanh_parts(z, y)
    return r * r


def _tanh_d1(z, y):
    _, slope, r = _tanh_parts(z, y)
    return 2.0 * r * slope


def _tanh_d2(z, y):
    h, slope, r = _tanh_parts(z, y)
    return 2.0 * slope * (slope - 2.0 * h * r)


def _tanh_gauss_newton(z, y):
    _, slope, _ = _tanh_parts(z, y)
    return 2.0 * slope * slope


TANH_SQUARED = PointwiseLoss(
    "tanh squared",
    _tanh_value,
    _tanh_d1,
    _tanh_d2,
    (-1.9234, 2.4650),
    _tanh_gauss_newton,
    targets="interval",
    formula="(tanh(z) - y)**2, y in [-1, 1]; not convex",
    least=0.0,
)
"""(tanh(z) - y)**2, y in [-1, 1]; not convex."""


def link_squared(
    name: str,
    h: Callable[[float], float],
    h1: Callable[[float], float],
    h2: Callable[[float], float],
    d2_range: tuple[float, float] = (-math.inf, math.inf),
) -> PointwiseLoss:
    """Return the nonlinear least-squares loss ``(h(z) - y)**2`` of a user's link.

    Parameters
    ----------
    name : str
        For messages.
    h, h1, h2 : callable, float -> float
        The link and its first two derivatives.
    d2_range : tuple of float, default (-inf, inf)
        Bounds of the second derivative of the loss, if known.
    """
    for argument, function in (("h", h), ("h1", h1), ("h2", h2)):
        check_function(argument, function, "z")
    h, h1, h2 = (inlinable()(f) for f in (h, h1, h2))

    def value(z, y):
        return (h(z) - y) * (h(z) - y)

    def d1(z, y):
        return 2.0 * (h(z) - y) * h1(z)

    def d2(z, y):
        return 2.0 * (h1(z) * h1(z) + (h(z) - y) * h2(z))

    def gauss_newton(z, y):
        return 2.0 * h1(z) * h1(z)

    return PointwiseLoss(
        name,
        value,
        d1,
        d2,
        d2_range,
        gauss_newton,
        formula="(h(z) - y)**2 for a link h",
        least=0.0,
    )


# Robust losses of the residual r = z - y. Their Gauss-Newton weight is the IRLS weight
# d1 / r, which majorises the loss.


def huber(delta: float = 1.345) -> PointwiseLoss:
    """Return the Huber loss: r**2 / 2, linear beyond ``delta``.

    The default gives 95 % efficiency on Gaussian residuals of scale one.
    """
    check_number("delta", delta, "> 0")
    return _huber(float(delta))


@functools.cache
def _huber(delta: float) -> PointwiseLoss:
    def value(z, y):
        a = abs(z - y)
        return 0.5 * a * a if a <= delta else delta * (a - 0.5 * delta)

    def d1(z, y):
        return min(max(z - y, -delta), delta)

    def d2(z, y):
        return 1.0 if abs(z - y) <= delta else 0.0

    def weight(z, y):
        a = abs(z - y)
        return 1.0 if a <= delta else delta / a

    return PointwiseLoss(
        f"huber({delta:g})",
        value,
        d1,
        d2,
        (0.0, 1.0),
        weight,
        formula="r**2 / 2 for |r| <= delta, delta (|r| - delta / 2) beyond; r = z - y",
        least=0.0,
    )


def pseudo_huber(delta: float = 1.345) -> PointwiseLoss:
    """Return delta**2 (sqrt(1 + (r / delta)**2) - 1), a smooth Huber loss."""
    check_number("delta", delta, "> 0")
    return _pseudo_huber(float(delta))


@functools.cache
def _pseudo_huber(delta: float) -> PointwiseLoss:
    def value(z, y):
        u = (z - y) / delta
        # sqrt(1 + u^2) - 1 without the cancellation at small u
        return delta * delta * (u / (math.sqrt(1.0 + u * u) + 1.0)) * u

    def d1(z, y):
        u = (z - y) / delta
        return (z - y) / math.sqrt(1.0 + u * u)

    def d2(z, y):
        u = (z - y) / delta
        return 1.0 / ((1.0 + u * u) * math.sqrt(1.0 + u * u))

    def weight(z, y):
        u = (z - y) / delta
        return 1.0 / math.sqrt(1.0 + u * u)

    return PointwiseLoss(
        f"pseudo-huber({delta:g})",
        value,
        d1,
        d2,
        (0.0, 1.0),
        weight,
        formula="delta**2 (sqrt(1 + (r / delta)**2) - 1), r = z - y",
        least=0.0,
    )


def tukey(c: float = 4.685) -> PointwiseLoss:
    """Return Tukey's biweight, constant beyond ``c``; not convex.

    The default gives 95 % efficiency on Gaussian residuals of scale one.
    """
    check_number("c", c, "> 0")
    return _tukey(float(c))


@functools.cache
def _tukey(c: float) -> PointwiseLoss:
    def value(z, y):
        u = min(abs(z - y) / c, 1.0)
        v = u * u
        # (1 - (1 - v)^3) / 6 expanded: no cancellation at small v
        return c * c * v * (3.0 - v * (3.0 - v)) / 6.0

    def d1(z, y):
        u = min(abs(z - y) / c, 1.0)
        return (z - y) * (1.0 - u * u) * (1.0 - u * u)

    def d2(z, y):
        u = min(abs(z - y) / c, 1.0)
        return (1.0 - u * u) * (1.0 - 5.0 * u * u)

    def weight(z, y):
        u = min(abs(z - y) / c, 1.0)
        return (1.0 - u * u) * (1.0 - u * u)

    return PointwiseLoss(
        f"tukey({c:g})",
        value,
        d1,
        d2,
        (-0.8, 1.0),
        weight,
        formula="c**2 (1 - (1 - min(|r| / c, 1)**2)**3) / 6, r = z - y; not convex",
        least=0.0,
    )


# Poisson with the log link: exp(z) - y z, y >= 0. No bound of the curvature. The
# exponential overflows to inf above 709, which a line search takes as a rejected trial.


def _poisson_value(z, y):
    return exp(z) - y * z


def _poisson_d1(z, y):
    return exp(z) - y


def _poisson_d2(z, y):
    return exp(z)


POISSON = PointwiseLoss(
    "poisson",
    _poisson_value,
    _poisson_d1,
    _poisson_d2,
    (0.0, math.inf),
    targets="nonnegative",
    formula="exp(z) - y z, y >= 0",
)
"""exp(z) - y z, y >= 0."""


# Softmax of K classes, y = 0, ..., K - 1: log sum_k exp(z_k) - z_y. Blocks of rows,
# class by class. Sums leave out the largest term, which is 1: what is added to 1, or
# subtracted from it, would be lost for a row that is almost certain.


@inlinable()
def softmax_normalise(z, p, top, others, first):
    """Fill probabilities, largest prediction and its class, and the sum of the others.

    ``others`` is ``sum exp(z_k - top)`` without the class ``first``.
    """
    n_classes, n = z.shape
    for i in range(n):
        top[i], first[i], others[i] = z[0, i], 0.0, 0.0
    for k in range(1, n_classes):
        for i in range(n):
            above = z[k, i] > top[i]
            top[i] = z[k, i] if above else top[i]
            first[i] = k if above else first[i]
    for k in range(n_classes):
        for i in range(n):
            e = exp(z[k, i] - top[i])
            p[k, i] = e
            others[i] += 0.0 if first[i] == k else e
    for k in range(n_classes):
        for i in range(n):
            p[k, i] /= 1.0 + others[i]


@inlinable()
def softmax_value(z, y, top, others, f):
    """Fill the losses from what `softmax_normalise` found."""
    n_classes, n = z.shape
    for i in range(n):
        f[i] = math.log1p(others[i])
    for k in range(n_classes):
        for i in range(n):
            f[i] += top[i] - z[k, i] if y[i] == k else 0.0


@dataclass(frozen=True)
class SoftmaxLoss:
    """The multinomial logistic loss ``log sum_k exp(z_k) - z_y`` of K predictions.

    Parameters
    ----------
    n_classes : int, >= 2
        K. Targets are 0, ..., K - 1.
    """

    n_classes: int
    convex: ClassVar[bool] = True
    curvature_bound: ClassVar[float] = 0.5
    """Two classes that share the mass: the largest eigenvalue of diag(p) - p p'."""
    least: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_count("n_classes", self.n_classes, 2)

    @property
    def name(self) -> str:
        """For messages."""
        return f"softmax({self.n_classes})"

    @property
    def residual(self) -> Any:
        """Plain function that fills the derivative in the K - 1 coordinates.

        ``residual(z, y, out)`` takes the coordinates of the predictions in the basis of
        `softmax_model`, one row at a time.
        """
        return _softmax_residual(self.n_classes)


@functools.cache
def _softmax_residual(n_classes: int) -> Any:
    root = math.sqrt(n_classes)
    share = 1.0 / (n_classes + root)

    @inlinable()
    def residual(z, y, out):
        m = n_classes - 1
        coordinates = 0.0
        for j in range(m):
            coordinates += z[j]
        last = -coordinates / root
        top = last
        for j in range(m):
            top = max(top, z[j] - share * coordinates)
        normaliser = exp(last - top)
        for j in range(m):
            out[j] = exp(z[j] - share * coordinates - top)
            normaliser += out[j]
        r_last = exp(last - top) / normaliser - (1.0 if y == m else 0.0)
        correction = r_last / (root + 1.0)
        for j in range(m):
            out[j] = out[j] / normaliser - (1.0 if y == j else 0.0) - correction

    return residual
