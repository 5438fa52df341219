"""Objectives ``F(w) = (1/n) sum_i f_i(w) + (1/2) sum_j l2_j w_j**2`` and their points.

A problem hands out a point, ``problem.at(w)``. Value, gradient and Hessian hang on it;
they are computed when asked for and kept, so there is no order of calls to respect.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subsampled_newton import _memory
from subsampled_newton.columns import Work
from subsampled_newton.losses import PointwiseLoss
from subsampled_newton.parameters import (
    check_count,
    check_number,
    is_number,
    real_array,
    shown,
)
from subsampled_newton.sampling import Sample

__all__ = [
    "Curvature",
    "FiniteSum",
    "Hessian",
    "Line",
    "Point",
    "Trial",
    "check_derivatives",
]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Curvature = Literal["hessian", "gauss-newton"]
"""The Hessian itself, or its positive semi-definite part without the curvature of the
model: ``J'J`` of nonlinear least squares, the weight of a loss that stands in for
``d2``. The two agree for a convex loss of a linear predictor."""


class Hessian(Protocol):
    """The Hessian, or an estimate of it, at a point."""

    def matvec(self, v: Array) -> Array: ...
    def dense(self) -> Array: ...
    def diagonal(self) -> Array | None: ...
    def prepare(self, n_products: int) -> None: ...


class Point(Protocol):
    """What is known at ``w``. Lazy, kept, never changed."""

    @property
    def w(self) -> Array: ...
    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Array: ...
    def hessian(self, sample: Sample, curvature: Curvature = "hessian") -> Hessian: ...
    def along(self, direction: Array) -> Line: ...


class Trial(Protocol):
    """A candidate of a line search."""

    @property
    def value(self) -> float: ...
    @property
    def point(self) -> Point: ...


class Line(Protocol):
    """The objective along a direction."""

    def __call__(self, t: float) -> Trial: ...
    def slope(self, trial: Trial) -> float: ...
    def curvature(self) -> float: ...


class FiniteSum(ABC):
    """A mean of ``n_samples`` functions plus a ridge.

    For an objective of your own derive from this class and write `value`, `gradient`
    and `hess_vec`, the means over some samples without the ridge.

    Parameters
    ----------
    n_samples, n_params : int
        Number of functions and of parameters.
    l2 : float or array-like of shape (n_params,), default 0
        Ridge weights.
    """

    convex: bool = False

    def __init__(self, n_samples: int, n_params: int, l2: ArrayLike = 0.0) -> None:
        check_count("n_samples", n_samples)
        check_count("n_params", n_params)
        self.n_samples = int(n_samples)
        self.n_params = int(n_params)
        self.l2 = as_ridge(l2, self.n_params)
        self.work = Work()

    @abstractmethod
    def value(self, w: Array, rows: Indices | None = None) -> float:
        """Mean of ``f_i(w)`` over the given samples (None: all)."""

    @abstractmethod
    def gradient(self, w: Array, rows: Indices | None = None) -> Array:
        """Mean of the gradients of ``f_i`` at ``w``."""

    @abstractmethod
    def hess_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        """Mean of the Hessians of ``f_i`` at ``w``, applied to ``v``."""

    def gauss_newton_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        """As `hess_vec` with Gauss-Newton matrices, for problems that have them."""
        raise TypeError(
            f"curvature='gauss-newton' needs a problem with gauss_newton_vec, "
            f"got {type(self).__name__}"
        )

    def at(self, w: ArrayLike) -> Point:
        """Return the point at ``w``. Nothing is computed yet."""
        return GenericPoint(self, as_vector(w, self.n_params))

    def restrict(self, rows: Indices) -> FiniteSum:
        """Return the objective over some of the samples, with the same ridge."""
        return _Restricted(self, rows)

    @property
    def strong_convexity(self) -> float:
        """Smallest eigenvalue that every Hessian is known to have; 0 if unknown."""
        return float(self.l2.min()) if self.convex else 0.0

    def gradient_norm(self, point: Point) -> float:
        """Size of the gradient for the stop test: its Euclidean norm.

        A problem whose parameters have units overrides it with a measure without any.
        """
        return float(np.linalg.norm(point.gradient))

    def suboptimality_bound(self, point: Point) -> float:
        """Guaranteed bound of ``F(w) - min F`` at a point, up to rounding errors of g.

        ``sum_j g_j**2 / (2 l2_j)``, which is ``||g||**2 / (2 mu)`` for equal weights;
        inf where F is not known to be strongly convex.
        """
        if self.strong_convexity == 0.0:
            return math.inf
        return 0.5 * float(np.sum(point.gradient**2 / self.l2))

    def refuse_bad_data(self) -> None:  # noqa: B027  # nothing is known here
        """Raise ValueError if the data are to blame for an F that is not finite.

        `minimize` asks when a run ends for that reason, so that no fit pays for it.
        """

    def row_scores(self, kind: str, point: Point, rng: np.random.Generator) -> Array:
        """Importance of the samples, for non-uniform sampling."""
        raise TypeError(
            f"sampling={kind!r} needs a LinearModel, got {type(self).__name__}"
        )


class GenericPoint:
    """A point of a problem that gives means over samples."""

    def __init__(self, problem: FiniteSum, w: Array) -> None:
        self.problem = problem
        self.w: Array = read_only(w)

    @property
    def point(self) -> GenericPoint:
        """Itself: a point is a trial of which everything is known."""
        return self

    @cached_property
    def value(self) -> float:
        """F(w)."""
        self.problem.work.rows_read += self.problem.n_samples
        ridge = 0.5 * float(self.problem.l2 @ self.w**2)
        return _number("value", self.problem.value(self.w, None)) + ridge

    @cached_property
    def gradient(self) -> Array:
        """Gradient of F at w."""
        work, n = self.problem.work, self.problem.n_samples
        work.rows_read += n
        work.props += 2 * n
        mean = _vector("gradient", self.problem.gradient(self.w, None), self.w)
        return read_only(mean + self.problem.l2 * self.w)

    def hessian(
        self, sample: Sample, curvature: Curvature = "hessian"
    ) -> GenericHessian:
        """Hessian of F at w, the mean estimated from a sample."""
        if not isinstance(sample.weights, float):
            raise TypeError("weighted samples need a LinearModel")
        return GenericHessian(self.problem, self.w, sample, curvature)

    def along(self, direction: Array) -> GenericLine:
        """F along a direction."""
        return GenericLine(self, direction)


class GenericHessian:
    """Products with the mean Hessian of some samples."""

    def __init__(
        self, problem: FiniteSum, w: Array, sample: Sample, curvature: Curvature
    ) -> None:
        self.problem, self.w, self.sample = problem, w, sample
        exact = curvature == "hessian"
        self.product = problem.hess_vec if exact else problem.gauss_newton_vec

    def prepare(self, n_products: int) -> None:
        """Do nothing: only products are known."""

    def matvec(self, v: Array) -> Array:
        """Product with a vector."""
        self.problem.work.rows_read += self.sample.n_rows
        self.problem.work.props += 2 * self.sample.n_rows
        rows = None if self.sample.rows is None else read_only(self.sample.rows)
        product = self.product(self.w, rows, read_only(v))
        return _vector("hess_vec", product, v) + self.problem.l2 * v

    def diagonal(self) -> None:
        """Not known."""

    def dense(self) -> Array:
        """The matrix, by d products."""
        d = self.problem.n_params
        _memory.require(
            32.0 * d * d,
            f"a matrix of {d:,} x {d:,} parameters",
            "take a solver that forms none, as 'newton-cg' or 'lbfgs'",
        )
        identity = np.eye(d)
        return np.column_stack([self.matvec(column) for column in identity])


class GenericLine:
    """F along a direction, by fresh evaluations."""

    def __init__(self, start: GenericPoint, direction: Array) -> None:
        self.start, self.direction = start, direction

    def __call__(self, t: float) -> GenericPoint:
        problem = self.start.problem
        problem.work.props += problem.n_samples
        return GenericPoint(problem, self.start.w + t * self.direction)

    def slope(self, trial: Trial) -> float:
        """Derivative of F along the direction at a trial of this line."""
        return float(trial.point.gradient @ self.direction)

    def curvature(self) -> float:
        """Second derivative of F along the direction at the start."""
        problem, p = self.start.problem, self.direction
        problem.work.rows_read += problem.n_samples
        problem.work.props += 2 * problem.n_samples
        product = problem.hess_vec(self.start.w, None, read_only(p))
        return float(p @ (_vector("hess_vec", product, p) + problem.l2 * p))


class _Restricted(FiniteSum):
    """Some samples of a generic problem."""

    def __init__(self, parent: FiniteSum, rows: Indices) -> None:
        super().__init__(len(rows), parent.n_params, parent.l2)
        self.parent, self.rows, self.work = parent, read_only(rows), parent.work
        self.convex = parent.convex

    def _pick(self, rows: Indices | None) -> Indices:
        return self.rows if rows is None else read_only(self.rows[rows])

    def value(self, w: Array, rows: Indices | None = None) -> float:
        return self.parent.value(w, self._pick(rows))

    def gradient(self, w: Array, rows: Indices | None = None) -> Array:
        return self.parent.gradient(w, self._pick(rows))

    def hess_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        return self.parent.hess_vec(w, self._pick(rows), v)

    def gauss_newton_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        return self.parent.gauss_newton_vec(w, self._pick(rows), v)


def check_derivatives(
    problem: FiniteSum | PointwiseLoss,
    w: ArrayLike,
    *,
    y: float = 1.0,
    rtol: float = 1e-5,
) -> None:
    """Compare derivatives with central differences and raise where they disagree.

    Parameters
    ----------
    problem : FiniteSum or PointwiseLoss
        What to check.
    w : array-like
        A point (n_params,) of the problem, or predictions z at which to check a loss.
    y : float, default 1
        Target, for a loss.
    rtol : float, default 1e-5
        Allowed difference relative to the size of the derivative.

    Raises
    ------
    ValueError
        Naming the derivative that is wrong, with both numbers.
    """
    check_number("rtol", rtol, "> 0")
    if not is_number(y) or not math.isfinite(y):
        raise ValueError(f"y must be a finite number, got {shown(y)}")
    if isinstance(problem, PointwiseLoss):
        loss = problem
        for z in np.atleast_1d(real_array("w", w)):
            z, h = float(z), 1e-5 * max(1.0, abs(float(z)))
            for name, f, df in (
                ("d1", loss.value, loss.d1),
                ("d2", loss.d1, loss.d2),
            ):
                numeric = (f(z + h, y) - f(z - h, y)) / (2.0 * h)
                _compare(f"{name} at z = {z:g}", df(z, y), numeric, rtol)
        return
    if not isinstance(problem, FiniteSum):
        raise TypeError(
            f"problem must be a FiniteSum or a PointwiseLoss, got {shown(problem)}"
        )
    w = finite_vector(w, problem.n_params)
    rng = np.random.default_rng(0)
    for _ in range(3):
        p = rng.standard_normal(problem.n_params)
        p /= np.linalg.norm(p)
        h = 1e-5 * max(1.0, float(np.linalg.norm(w)))
        up, down = problem.at(w + h * p), problem.at(w - h * p)
        numeric = (up.value - down.value) / (2.0 * h)
        _compare("gradient", float(problem.at(w).gradient @ p), numeric, rtol)
        product = _vector("hess_vec", problem.hess_vec(w, None, read_only(p)), p)
        product = product + problem.l2 * p
        difference = (up.gradient - down.gradient) / (2.0 * h)
        error = float(np.linalg.norm(product - difference))
        if not error <= rtol * max(1.0, float(np.linalg.norm(difference))):
            raise ValueError(
                "hess_vec disagrees with differences of the gradient: "
                f"norm of the difference {error:.3g}"
            )


def _compare(name: str, exact: float, numeric: float, rtol: float) -> None:
    if not abs(exact - numeric) <= rtol * max(1.0, abs(numeric)):
        raise ValueError(
            f"{name} is {exact:.8g}, but central differences give {numeric:.8g}"
        )


def as_ridge(l2: ArrayLike, size: int) -> Array:
    """Return ridge weights as a vector of the given length."""
    what = f"be a number or an array of shape ({size},)"
    weights = real_array("l2", l2, what=what)
    if weights.shape not in ((), (size,)) or weights.dtype.kind == "b":
        raise ValueError(f"l2 must {what}, got {shown(l2)}")
    allowed = (weights >= 0.0) & (weights < np.inf)
    if not np.all(allowed):
        first = weights.ravel()[np.argmin(allowed)]
        raise ValueError(f"l2 must be finite and >= 0, got {first}")
    ridge: Array = np.broadcast_to(weights.astype(np.float64), (size,))
    return ridge


def check_problem(name: str, value: Any) -> None:
    """Raise unless value is an objective."""
    if not isinstance(value, FiniteSum):
        raise TypeError(
            f"{name} must be a FiniteSum, as LinearModel(LOGISTIC, X, y) or one of "
            f"your own, got {shown(value)}"
        )


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written to; the array itself stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view


def _number(name: str, value: Any) -> float:
    """What a user's method returned, if it is a number."""
    number = value[()] if isinstance(value, np.ndarray) and not value.ndim else value
    if not is_number(number):
        raise TypeError(f"{name} must return a number, got {shown(value)}")
    return float(number)


def _vector(name: str, value: Any, like: Array) -> Array:
    """What a user's method returned, if it is a vector of the parameters."""
    array = np.asarray(value)
    if array.shape != like.shape or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must return an array of shape {like.shape}, got {shown(value)}"
        )
    return array


def finite_vector(w: ArrayLike, n_params: int, name: str = "w") -> Array:
    """Return ``w`` as `as_vector` does, if it is finite."""
    vector = as_vector(w, n_params, name)
    if not np.all(np.isfinite(vector)):
        bad = vector[~np.isfinite(vector)][0]
        raise ValueError(f"{name} must be finite, got {bad}")
    return vector


def as_vector(w: ArrayLike, n_params: int, name: str = "w") -> Array:
    """Return ``w`` as a float64 vector of the right length."""
    vector = real_array(name, w, (n_params,))
    # A copy that cannot be written to: points never change.
    return read_only(vector.astype(np.float64))
