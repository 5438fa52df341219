"""Models of one linear predictor: the loss of ``x_i'w`` at every row, plus a ridge."""

from __future__ import annotations

import contextlib
import copy
import math
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subsampled_newton._memory import NotEnoughMemory
from subsampled_newton._user_function import compare_values, told
from subsampled_newton.columns import Work
from subsampled_newton.data import Rows, as_rows
from subsampled_newton.kernels import pointwise
from subsampled_newton.leverage import sketched_leverage
from subsampled_newton.losses import TARGETS, PointwiseLoss
from subsampled_newton.parameters import real_array, shown
from subsampled_newton.picked import pick, used_rows
from subsampled_newton.problem import (
    Curvature,
    FiniteSum,
    Point,
    Trial,
    as_vector,
    read_only,
)
from subsampled_newton.sampling import Sample

__all__ = ["LinearModel", "dual_rows"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
FORMED_MAX_PARAMS = 3000
"""A Hessian is never formed above this: 72 MB, and a Cholesky factorisation of 1 s."""
FREE_MAX_PARAMS = 50
"""Columns without a ridge with which a dual point is looked for: intercepts."""
FREE_MAX_SYSTEM = 1000
"""Their parameters, those of all classes: equations that are solved."""
FEW_ELEMENTS = 1 << 16
"""Numbers that are copied without a thought."""
MAX_CORRECTIONS = 30
EPS = float(np.finfo(np.float64).eps)
FORMED_SPEED = 16
"""A matrix is formed when more than d / 16 products are expected: BLAS forms it about
that many times faster, per operation, than fused products run."""


def dual_rows(n: int, p: int, n_free: int, columns: int) -> int:
    """Rows that are copied to look for a dual point; 0 where none is looked for.

    ``n_free`` of the p parameters, ``columns`` for each prediction, have no ridge.
    """
    if not 0 < n_free <= min(FREE_MAX_SYSTEM, p - 1):
        return 0
    if n_free * columns > FREE_MAX_PARAMS * p:
        return 0
    few = min(512, FEW_ELEMENTS // p)
    return min(n, max(1, few, min(4096, n // 16)))


class LinearModel(FiniteSum):
    """``F(w) = (1/n) sum_i s_i loss(x_i'w, y_i) + (1/2) sum_j l2_j w_j**2``.

    Parameters
    ----------
    loss : PointwiseLoss
        See `subsampled_newton.losses`.
    X : array-like, sparse matrix or Rows of shape (n_samples, n_params)
        Used in place; see `as_rows`.
    y : array-like of shape (n_samples,)
        Targets that the loss allows.
    l2 : float or array-like of shape (n_params,), default 0
        Ridge weights, >= 0. An intercept is a column with weight 0.
    sample_weight : array-like of shape (n_samples,), optional
        Weights >= 0, scaled to mean one: weight k repeats a row, and one of weight 0 is
        left out, whatever it holds. ``n_samples`` counts the others, and so do `y`,
        predictions and the indices of `restrict`.

    Raises
    ------
    ValueError, TypeError
        If an argument has a wrong type, shape or value.
    """

    outputs: tuple[int, ...] = ()
    """Predictions per row, as the leading axis of their array."""

    def __init__(
        self,
        loss: PointwiseLoss,
        X: Any,
        y: ArrayLike,
        *,
        l2: ArrayLike = 0.0,
        sample_weight: ArrayLike | None = None,
    ) -> None:
        if not isinstance(loss, PointwiseLoss):
            raise TypeError(f"loss must be a PointwiseLoss, got {shown(loss)}")
        rows, y, weights = with_weight(as_rows(X), y, sample_weight)
        super().__init__(rows.n_rows, rows.n_params, l2)
        self.loss = loss.as_it_is()
        self.rows = rows
        self.work = rows.work
        targets = _targets(y, rows.n_rows, loss)
        if self.loss is not loss:  # the functions are a user's
            _compare(loss, self.loss, targets)
        self.y = rows.place(targets)
        self.weights = rows.place(weights)
        self.convex = loss.convex

    def at(self, w: ArrayLike) -> LinearPoint:
        return LinearPoint(self, as_vector(w, self.n_params))

    def refuse_bad_data(self) -> None:
        self.rows.on_host().refuse_non_finite()

    def restrict(self, rows: Indices, weights: Array | None = None) -> Self:
        """Return the objective over some of the samples, with the same ridge.

        ``weights`` of mean one multiply the sample weights: those of a non-uniform
        sample make the mean over it an estimate of the mean over all rows.
        """
        part = copy.copy(self)
        part.n_samples = len(rows)
        part.rows = self.rows.take(rows)
        part.y, part.weights = self.y[rows], self.weights[rows]
        if weights is not None:
            part.weights = part.weights * weights
        return part

    def value(self, w: Array, rows: Indices | None = None) -> float:
        part = self if rows is None else self.restrict(rows)
        self.work.props += part.n_samples
        z = part.predictions(w)
        return part.mean_along(z, z, 0.0)

    def gradient(self, w: Array, rows: Indices | None = None) -> Array:
        part = self if rows is None else self.restrict(rows)
        self.work.props += 2 * part.n_samples
        return part.evaluate(w)[2]

    def hess_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        return self._product(w, rows, v, "hessian")

    def gauss_newton_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        return self._product(w, rows, v, "gauss-newton")

    def _product(
        self, w: Array, rows: Indices | None, v: Array, curvature: Curvature
    ) -> Array:
        part = self if rows is None else self.restrict(rows)
        self.work.props += 2 * part.n_samples
        hessian = part.hessian_at(part.predictions(w), 1.0 / part.n_samples, curvature)
        return hessian.product(v)

    # What a model with several predictors per row does in its own way.

    def coefficients(self, w: Array) -> Array:
        """Coefficients of the columns, one row per predictor."""
        return w[None, :]

    def parameters(self, W: Array) -> Array:
        """Inverse of `coefficients`."""
        w: Array = W[0]
        return w

    def predictions(self, w: Array) -> Array:
        """Predictions ``X w``."""
        return self.rows.matvec(w)

    def evaluate(self, w: Array) -> tuple[Array, float, Array]:
        """Predictions, mean loss and its gradient, with one read of the rows."""
        return self.rows.evaluate(self.loss, self.y, self.weights, w)

    def mean_along(self, z: Array, u: Array, t: float) -> float:
        """Mean loss at the predictions ``z + t u``, without reading the rows."""
        return self.rows.mean_along(self.loss.value, z, u, t, self.y, self.weights)

    def slope_change(self, z: Array, u: Array, t: float) -> float:
        """Derivative of `mean_along` in ``t``, minus that at 0."""
        change = self.rows.pointwise(self.loss.d1, z + t * u, self.y, self.weights)
        change -= self.rows.pointwise(self.loss.d1, z, self.y, self.weights)
        return float(change @ u) / self.n_samples

    def curvature_sizes(self, z: Array) -> Array:
        """``s_i |d2_i|`` for all rows."""
        return np.abs(self.rows.pointwise(self.loss.d2, z, self.y, self.weights))

    def curvature_along(self, z: Array, u: Array) -> float:
        """Second derivative of the mean loss where predictions move by ``u``."""
        d2 = self.rows.pointwise(self.loss.d2, z, self.y, self.weights)
        return float(d2 @ (u * u)) / self.n_samples

    def hessian_at(
        self, z: Array, factor: Array | float, curvature: Curvature
    ) -> LinearHessian:
        """Hessian at predictions: the sum of those of the rows times ``factor``."""
        exact = curvature == "hessian"
        d2 = self.loss.d2 if exact else self.loss.gauss_newton
        if d2 is None:
            raise TypeError(
                "curvature='gauss-newton' needs a loss with a gauss_newton weight, "
                f"got the {self.loss.name} loss"
            )
        h = self.rows.pointwise(d2, z, self.y, self.weights)
        h *= factor
        return LinearHessian(self.rows, h, self.l2, self.work)

    def row_scores(self, kind: str, point: Point, rng: np.random.Generator) -> Array:
        """Importance of the rows at a point.

        Parameters
        ----------
        kind : {"row-norms", "leverage"}
            ``|d2_i| ||x_i||**2``, or approximate ridge leverage scores of the rows
            ``sqrt(|d2_i|) x_i``; those of their blocks where a row has several
            predictors.
        point : LinearPoint
            Where the curvature is taken.
        rng : numpy.random.Generator
            For the sketch.
        """
        assert isinstance(point, LinearPoint)
        if kind == "leverage":
            return self._leverage(point.z, rng)
        # On the host, wherever the rows are: one number per row and draw.
        h = np.asarray(self.curvature_sizes(point.z))
        return h * np.asarray(self.rows.row_norms())

    def _leverage(self, z: Array, rng: np.random.Generator) -> Array:
        """Approximate leverage scores of the rows ``sqrt(|d2_i|) x_i``."""
        scale = np.sqrt(np.asarray(self.curvature_sizes(z)) / self.n_samples)
        return sketched_leverage(self.rows, self.l2, rng, scale=scale)

    @property
    def bound_rows(self) -> int:
        """Rows that `suboptimality_bound` copies; 0 where it needs none."""
        if not self.convex:
            return 0
        n_free = int(np.sum(self.l2 == 0.0))
        return dual_rows(self.n_samples, self.n_params, n_free, self.rows.n_params)

    def suboptimality_bound(self, point: Point) -> float:
        """Guaranteed bound of ``F(w) - min F`` at a point, up to rounding errors of g.

        With a ridge on every parameter ``sum_j g_j**2 / (2 l2_j)``. Parameters U
        without one, as an intercept, have ``g_U = 0`` at every point of the dual. One
        that has is near by: the derivatives of some rows are those at predictions that
        a change t of ``w_U`` moves. With the gradient g~ that results the gap to it is
        at most ``sum_j g~_j**2 / (2 l2_j) - g_U't``: the losses of these rows are
        convex, so that theirs is at most t times the change of ``g_U``. Costs less than
        a read of the rows.

        Never above ``F(w)`` less the least value of the loss, where that is known; inf
        without a penalty, or for a loss that is not convex.
        """
        if not (self.convex and np.any(self.l2 > 0.0)):
            return math.inf
        if self.bound_rows == 0:
            bound = super().suboptimality_bound(point)
        else:
            bound = self._dual_bound(point)
        return float(np.fmin(bound, point.value - self.loss.least))

    def _dual_bound(self, point: Point) -> float:
        """The bound from a dual point near by."""
        size, n = self.bound_rows, self.n_samples
        penalised = self.l2 > 0.0
        free = np.flatnonzero(~penalised)
        # Evenly spaced: some rows of every kind, and no random numbers.
        part = self.restrict(np.arange(size) * n // size)
        w, gradient, share = point.w, point.gradient, size / n
        z, _, before = part.evaluate(w)
        length = np.sqrt(part.rows.gram_diagonal(part.weights / size))
        # Rounding of a prediction goes into its derivative, with what cancels in it.
        spread = np.abs(np.asarray(z)) + self.cancelling(w)
        spread = spread if z.ndim == 1 else spread.max(axis=0)
        slope = part.slope_size(z) + float(np.mean(part.curvature_sizes(z) * spread))
        rounding = 4.0 * EPS * length[free % len(length)] * slope
        close = np.maximum(rounding, 1e-9 * np.max(np.abs(gradient[free])))
        moved: Array = gradient
        own = part.unit_predictions(free % len(length))
        base = t = step = np.zeros(len(free))
        best = math.inf
        for _ in range(MAX_CORRECTIONS):  # Newton's method for g~_U = 0
            left = moved[free]
            norm = float(np.linalg.norm(left))
            if not norm < best:
                step = 0.5 * step
            else:
                base, best = t, norm
                H = part.curvature_of(z, share / size, own, free)
                try:
                    step = np.asarray(np.linalg.solve(H, -left))
                except np.linalg.LinAlgError:
                    break
                if np.all(np.abs(left) <= close):
                    squares = moved[penalised] ** 2 / self.l2[penalised]
                    # What is left counts as well: there may be little curvature.
                    rest = abs(float(gradient[free] @ t)) + abs(float(left @ step))
                    return 0.5 * float(np.sum(squares)) + rest
            t = base + step
            there = w.copy()
            there[free] += t
            z, _, after = part.evaluate(there)
            moved = gradient + share * (after - before)
        return math.inf

    def unit_predictions(self, columns: Indices) -> Array:
        """Predictions where one coefficient is one, for each distinct column."""
        distinct = np.unique(columns)
        out = np.empty((len(distinct), self.n_samples))
        for k, j in enumerate(distinct):
            unit = np.zeros(self.rows.n_params)
            unit[j] = 1.0
            out[k] = np.asarray(self.rows.matvec(unit))
        return out

    def curvature_of(
        self, z: Array, factor: float, own: Array, parameters: Indices
    ) -> Array:
        """Hessian without the ridge in some parameters.

        ``own`` are the `unit_predictions` of their columns.
        """
        d2 = self.rows.pointwise(self.loss.d2, z, self.y, self.weights)
        H: Array = (own * (factor * np.asarray(d2))) @ own.T
        return H

    def cancelling(self, w: Array) -> float:
        """Size of the numbers that cancel in predictions where columns are shifted."""
        columns = self.rows.columns
        W = np.abs(self.coefficients(w)[:, : len(columns.scale)])
        return float(np.max(W @ np.abs(columns.scale * columns.shift)))

    def slope_size(self, z: Array) -> float:
        """Root mean square of the derivatives of the losses at predictions."""
        d1 = self.rows.pointwise(self.loss.d1, z, self.y, self.weights)
        return math.sqrt(float(np.mean(d1 * d1)))

    def value_at_zero(self) -> float:
        """F(0), without reading the rows."""
        zero = np.zeros((*self.outputs, self.n_samples))
        return self.mean_along(zero, zero, 0.0)

    def sample_condition(self) -> float:
        """Largest eigenvalue of a Hessian of one sample over the strong convexity.

        The condition number of the sampling lemma, not that of F. inf where the loss
        has no curvature bound or F is not strongly convex.
        """
        mu = self.strong_convexity
        if mu == 0.0 or math.isinf(self.loss.curvature_bound):
            return math.inf
        largest = float(np.max(self.weights * self.rows.row_norms()))
        return (self.loss.curvature_bound * largest + float(self.l2.max())) / mu


class LinearPoint:
    """A point of a linear model. Every number is a function of ``w`` alone."""

    def __init__(self, problem: LinearModel, w: Array) -> None:
        self.problem = problem
        self.w = read_only(w)
        self._gradient_counted = False

    @property
    def point(self) -> LinearPoint:
        """Itself: a point is a trial of which everything is known."""
        return self

    @cached_property
    def _evaluated(self) -> tuple[Array, float, Array]:
        p = self.problem
        z, value, gradient = p.evaluate(self.w)
        ridge = 0.5 * float(p.l2 @ self.w**2)
        return z, value + ridge, read_only(gradient + p.l2 * self.w)

    @property
    def z(self) -> Array:
        """Predictions ``X w``."""
        return self._evaluated[0]

    @property
    def value(self) -> float:
        """F(w)."""
        return self._evaluated[1]

    @property
    def gradient(self) -> Array:
        """Gradient of F at w."""
        if not self._gradient_counted:
            self._gradient_counted = True
            self.problem.work.props += 2 * self.problem.n_samples
        return self._evaluated[2]

    def hessian(
        self, sample: Sample, curvature: Curvature = "hessian"
    ) -> LinearHessian:
        """Hessian of F at w, the mean estimated from a sample."""
        p, keep = self.problem, sample.rows
        if keep is None:
            return p.hessian_at(self.z, sample.weights, curvature)
        part = p.restrict(keep)
        return part.hessian_at(self.z[..., keep], sample.weights, curvature)

    def hessian_on(self, part: LinearModel, keep: Indices | None) -> LinearHessian:
        """Hessian of ``part``, a restriction to the rows ``keep`` gathered before.

        The predictions are taken from this point: the rows are not read for them.
        """
        z = self.z if keep is None else self.z[..., keep]
        return part.hessian_at(z, 1.0 / part.n_samples, "hessian")

    def along(self, direction: Array) -> LinearLine:
        """F along a direction."""
        return LinearLine(self, direction)


class LinearHessian:
    """``X' diag(h) X + diag(l2)`` on the rows of a sample."""

    def __init__(self, rows: Rows, h: Array, l2: Array, work: Work) -> None:
        self.rows, self.h, self.l2, self.work = rows, h, l2, work
        self._formed: Array | None = None

    def prepare(self, n_products: int) -> None:
        """Form the matrix if that is cheaper than the expected products."""
        d = len(self.l2)
        if d <= FORMED_MAX_PARAMS and FORMED_SPEED * n_products > d:
            with contextlib.suppress(NotEnoughMemory):  # products are the same
                self._form()

    def matvec(self, v: Array) -> Array:
        """Product with a vector."""
        self.work.props += 2 * self.rows.n_rows
        if self._formed is not None:
            product: Array = self._formed @ v
            return product
        return self.product(v) + self.l2 * v

    def product(self, v: Array) -> Array:
        """Product without the ridge."""
        return self.rows.hess_vec(self.h, v)

    def diagonal(self) -> Array:
        """Diagonal of the matrix, as a preconditioner: positive."""
        diagonal = self.rows.gram_diagonal(self.h) + self.l2
        return np.where(diagonal > 0.0, diagonal, 1.0)

    def dense(self) -> Array:
        """The matrix. Counted as its d products."""
        self.work.props += 2 * self.rows.n_rows * len(self.l2)
        return self._form()

    def _form(self) -> Array:
        if self._formed is None:
            self._formed = self.rows.gram(self.h)
            self._formed[np.diag_indices(len(self.l2))] += self.l2
        return self._formed


class LinearLine:
    """F along a direction.

    The first trial is evaluated with its gradient, in one read of the rows: a solver
    expects it to be accepted, and then the step has cost one pass. When it is refused,
    the difference of the predictions gives ``X @ direction`` for nothing, and further
    trials cost O(n).
    """

    def __init__(self, start: LinearPoint, direction: Array) -> None:
        self.start, self.direction = start, direction
        self._first: tuple[LinearPoint, float] | None = None

    def __call__(self, t: float) -> Trial:
        p = self.start.problem
        p.work.props += p.n_samples
        if t == 0.0:
            return self.start
        w = self.start.w + t * self.direction
        if self._first is None:
            trial = p.at(w)
            _ = trial.z  # evaluates it
            self._first = trial, t
            return trial
        value = p.mean_along(self.start.z, self._u, t)
        return _ValueTrial(p, w, value + 0.5 * float(p.l2 @ w**2), t)

    def slope(self, trial: Trial) -> float:
        """Derivative of F along the direction at a trial of this line: O(n)."""
        if not isinstance(trial, _ValueTrial):
            return float(trial.point.gradient @ self.direction)
        p, t = self.start.problem, trial.t
        # The change of the slope, not the slope: that is a sum of terms which cancel
        # near the solution, and the rounding of u would outweigh it.
        ridge = t * float(p.l2 @ self.direction**2)
        change = p.slope_change(self.start.z, self._u, t) + ridge
        return float(self.start.gradient @ self.direction) + change

    def curvature(self) -> float:
        """Second derivative of F along the direction, from the first trial: O(n)."""
        p = self.start.problem
        ridge = float(p.l2 @ self.direction**2)
        return p.curvature_along(self.start.z, self._u) + ridge

    @cached_property
    def _u(self) -> Array:
        """``X @ direction``: from the first trial, if there is one."""
        if self._first is None:
            return self.start.problem.predictions(self.direction)
        trial, t = self._first
        u: Array = (trial.z - self.start.z) / t
        return u


class _ValueTrial:
    """A trial of which only the value is known."""

    def __init__(self, problem: LinearModel, w: Array, value: float, t: float) -> None:
        self.problem, self.w, self.value, self.t = problem, w, value, t

    @cached_property
    def point(self) -> LinearPoint:
        """The point, evaluated afresh: rounding of the line does not accumulate."""
        return self.problem.at(self.w)


def _compare(loss: PointwiseLoss, still: PointwiseLoss, y: Any) -> None:
    """Compare the functions of a user's loss with plain Python at a few rows.

    Raises
    ------
    TypeError, IndexError
        If they cannot be compiled, or read beyond the end of an array.
    ValueError
        With both numbers, where they differ.
    """
    names = ("value", "d1", "d2", "gauss_newton")
    known = [name for name in names if getattr(loss, name) is not None]
    z = np.array([-3.0, -0.7, 0.0, 0.6, 2.0])
    rows = np.linspace(0, len(y) - 1, len(z)).astype(np.intp)
    at = y[rows] if isinstance(y, np.ndarray) else np.ones(len(z))
    out = np.empty((len(known), len(z)))
    for name, values in zip(known, out, strict=True):
        kernel = pointwise.weighted(getattr(still, name))
        with told(f"{name} of the {loss.name} loss"):
            kernel(z, at, np.ones(len(z)), 0, len(z), values)
    places = [f"z = {a:g}, y = {b:g}" for a, b in zip(z, at, strict=True)]
    arguments = list(zip(z.tolist(), at.tolist(), strict=True))
    for name, values in zip(known, out, strict=True):
        compare_values(getattr(loss, name), arguments, values, places)


def _targets(y: ArrayLike, n: int, loss: PointwiseLoss) -> Array:
    array = real_array("y", y, (n,))
    targets = np.ascontiguousarray(array, dtype=np.float64)
    size = np.abs(targets)
    low, high = {
        "real": (-np.inf, np.inf),
        "sign": (-1.0, 1.0),
        "unit": (0.0, 1.0),
        "interval": (-1.0, 1.0),
        "nonnegative": (0.0, np.inf),
    }[loss.targets]
    allowed = (targets >= low) & (targets <= high) & (size < np.inf)
    if loss.targets == "sign":
        allowed &= size == 1.0
    if not np.all(allowed):
        i = int(np.argmin(allowed))
        raise ValueError(
            f"y must hold {TARGETS[loss.targets]} for the {loss.name} loss, "
            f"got {targets[i]} at index {i}"
        )
    return targets


def with_weight(
    rows: Rows, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Rows, ArrayLike, Array]:
    """Rows and targets that have a weight, and their weights of mean one."""
    weights = mean_one(sample_weight, rows.n_rows)
    kept = used_rows(weights)
    if kept is None or np.shape(y) != (rows.n_rows,):  # a shape that will be refused
        return rows, y, weights
    weights = mean_one(np.asarray(sample_weight)[kept], len(kept))
    return pick(rows, kept), np.asarray(y)[kept], weights


def mean_one(sample_weight: ArrayLike | None, n: int) -> Array:
    if sample_weight is None:
        return np.ones(n)
    array = real_array("sample_weight", sample_weight, (n,), "hold numbers")
    weights: Array = array.astype(np.float64)
    bad = ~((weights >= 0.0) & (weights < np.inf))
    if np.any(bad):
        i = int(np.argmax(bad))
        raise ValueError(
            f"sample_weight must be finite and >= 0, got {weights[i]} at index {i}"
        )
    largest = weights.max()
    if largest == 0.0:
        raise ValueError("sample_weight must not be all zero, got only zeros")
    weights /= largest  # the sum of huge weights would overflow
    weights *= n / weights.sum()
    return weights
