"""Objectives ``F(w) = (1/n) sum_i f_i(w) + (1/2) sum_j l2_j w_j**2`` and their points.

A problem hands out a point, ``problem.at(w)``. Value, gradient and Hessian hang on it;
they are computed when asked for and kept, so there is no order of calls to respect.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subsampled_newton import _memory
from subsampled_newton.columns import Work
from subsampled_newton.losses import PointwiseLoss
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
        for name, count in (("n_samples", n_samples), ("n_params", n_params)):
            if not isinstance(count, int | np.integer) or count < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {count!r}")
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

    def row_scores(self, kind: str, point: Point, rng: np.random.Generator) -> Array:
        """Importance of the samples, for non-uniform sampling."""
        raise TypeError(
            f"sampling={kind!r} needs a LinearModel, got {type(self).__name__}"
        )


class GenericPoint:
    """A point of a problem that gives means over samples."""

    def __init__(self, problem: FiniteSum, w: Array) -> None:
        self.problem = problem
        self.w: Array = w

    @property
    def point(self) -> GenericPoint:
        """Itself: a point is a trial of which everything is known."""
        return self

    @cached_property
    def value(self) -> float:
        """F(w)."""
        self.problem.work.rows_read += self.problem.n_samples
        ridge = 0.5 * float(self.problem.l2 @ self.w**2)
        return float(self.problem.value(self.w, None)) + ridge

    @cached_property
    def gradient(self) -> Array:
        """Gradient of F at w."""
        work, n = self.problem.work, self.problem.n_samples
        work.rows_read += n
        work.props += 2 * n
        return self.problem.gradient(self.w, None) + self.problem.l2 * self.w

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
        return self.product(self.w, self.sample.rows, v) + self.problem.l2 * v

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
        product = problem.hess_vec(self.start.w, None, p) + problem.l2 * p
        return float(p @ product)


class _Restricted(FiniteSum):
    """Some samples of a generic problem."""

    def __init__(self, parent: FiniteSum, rows: Indices) -> None:
        super().__init__(len(rows), parent.n_params, parent.l2)
        self.parent, self.rows, self.work = parent, rows, parent.work
        self.convex = parent.convex

    def _pick(self, rows: Indices | None) -> Indices:
        return self.rows if rows is None else self.rows[rows]

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
    if isinstance(problem, PointwiseLoss):
        loss = problem
        for z in np.atleast_1d(np.asarray(w, dtype=np.float64)):
            z, h = float(z), 1e-5 * max(1.0, abs(float(z)))
            for name, f, df in (
                ("d1", loss.value, loss.d1),
                ("d2", loss.d1, loss.d2),
            ):
                numeric = (f(z + h, y) - f(z - h, y)) / (2.0 * h)
                _compare(f"{name} at z = {z:g}", df(z, y), numeric, rtol)
        return
    w = as_vector(w, problem.n_params)
    rng = np.random.default_rng(0)
    for _ in range(3):
        p = rng.standard_normal(problem.n_params)
        p /= np.linalg.norm(p)
        h = 1e-5 * max(1.0, float(np.linalg.norm(w)))
        up, down = problem.at(w + h * p), problem.at(w - h * p)
        numeric = (up.value - down.value) / (2.0 * h)
        _compare("gradient", float(problem.at(w).gradient @ p), numeric, rtol)
        product = problem.hess_vec(w, None, p) + problem.l2 * p
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
    weights = np.asarray(l2)
    if weights.dtype.kind not in "fiu" or weights.shape not in ((), (size,)):
        raise ValueError(
            f"l2 must be a number or an array of shape ({size},), got {l2!r}"
        )
    if not np.all((weights >= 0.0) & (weights < np.inf)):
        raise ValueError(f"l2 must be finite and >= 0, got {l2!r}")
    ridge: Array = np.broadcast_to(weights.astype(np.float64), (size,))
    return ridge


def as_vector(w: ArrayLike, n_params: int) -> Array:
    """Return ``w`` as a float64 vector of the right length."""
    vector = np.array(w, dtype=np.float64)  # a copy: points never change
    if vector.shape != (n_params,):
        raise ValueError(f"w must have shape ({n_params},), got {vector.shape}")
    return vector
