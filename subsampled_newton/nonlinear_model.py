"""Least squares of a user's function of several parameters and several predictors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subsampled_newton import _memory, _parallel
from subsampled_newton._interrupts import quiet
from subsampled_newton._jit import check_arguments
from subsampled_newton._user_function import (
    compare_derivatives,
    compare_values,
    run,
    snapshot,
)
from subsampled_newton.kernels import nonlinear as kernels
from subsampled_newton.linear_model import mean_one
from subsampled_newton.parameters import check_count, check_function, real_array, shown
from subsampled_newton.picked import used_rows
from subsampled_newton.problem import (
    Curvature,
    FiniteSum,
    Point,
    Trial,
    as_vector,
    read_only,
)
from subsampled_newton.sampling import Sample, full

__all__ = ["NonlinearModel", "NonlinearPoint"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

EPS = float(np.finfo(np.float64).eps)
ROW_COST = 64
"""Numbers that are read in the time of one evaluation of a model, for the blocks."""
COMPARED = 5
"""Rows on which compiled code is compared with plain Python."""
STACK = 512
"""Rows of a stack: 2.5 times as fast as 10 000 at 10 columns."""
UNDETERMINED = 1e-13
"""Singular values below this fraction of the largest, of the Jacobian with columns of
length one, are rounding: a combination of the parameters has no effect."""
TINY = float(np.finfo(np.float64).tiny)
"""Sums of squares below this have lost digits."""
STATIONARY = 1e-6
"""A point where F stands still has converged only below this cosine."""


class NonlinearModel(FiniteSum):
    """``F(w) = (1/2n) sum_i s_i (f(p, x_i) - y_i)**2 + (1/2) sum_j l2_j w_j**2``.

    ``p = scale * w`` are the parameters of the function. Note the factor 1/2, which
    the squared losses of a linear predictor with a link do not have.

    Derivatives are exact: the function is compiled on dual numbers. The gradient, the
    Jacobian and Gauss-Newton matrices need first derivatives; ``hess_vec`` needs
    second ones, which are compiled when they are first asked for.

    Parameters
    ----------
    function : callable, (params, x_i) -> float
        A plain Python function, compiled with all plain functions that it calls, and
        with globals, closures and arrays as they are when the problem is made. The
        first point compares it with plain Python, and its derivatives with differences,
        on five rows.
        ``params`` is a sequence (``p[i]``, ``a, b = p``, ``len(p)``, ``p[1:]``, loops,
        ``p @ x``), ``x_i`` a row of X as an array of float64.
    X : ndarray of shape (n_samples, n_predictors)
        Used in place; other types than float64 are converted block by block.
    y : array-like of shape (n_samples,), optional
        Targets. Without them the function is the residual.
    n_params : int
        Number of parameters. Each further 8 cost one more evaluation of the function
        for a Jacobian.
    l2 : float or array-like of shape (n_params,), default 0
        Ridge weights of w, >= 0.
    sample_weight : array-like of shape (n_samples,), optional
        Weights >= 0, scaled to mean one: weight k repeats a row, and one of weight 0 is
        left out, as in `LinearModel`.
    jacobian : callable, optional
        Derivatives of the function in the parameters, plain Python:
        ``(params, x_i) -> tuple``, or ``(params, x_i, out)`` which fills ``out``. For
        functions that cannot be compiled on dual numbers; second derivatives are then
        differences of it.
    scale : array-like of shape (n_params,), optional
        Sizes > 0 of the parameters, so that solvers which are not invariant to units
        see columns of comparable size. Default: ones.

    Raises
    ------
    ValueError, TypeError, IndexError
        If an argument has a wrong type, shape or value, or the function cannot be
        compiled, or reads beyond the end of its arguments. At the first point: if plain
        Python gives another value, or differences another derivative.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        X: ArrayLike,
        y: ArrayLike | None,
        n_params: int,
        *,
        l2: ArrayLike = 0.0,
        sample_weight: ArrayLike | None = None,
        jacobian: Callable[..., Any] | None = None,
        scale: ArrayLike | None = None,
    ) -> None:
        check_function("function", function, "params, x_i")
        if jacobian is not None:
            check_function("jacobian", jacobian, "params, x_i")
        check_count("n_params", n_params)
        self.X = _predictors(X)
        self.y = _targets(y, len(self.X))
        self.weights = mean_one(sample_weight, len(self.X))
        kept = used_rows(self.weights)
        if kept is not None:  # smaller than the Jacobian
            self.X, self.y = self.X[kept], self.y[kept]
            self.weights = mean_one(np.asarray(sample_weight)[kept], len(kept))
        super().__init__(len(self.X), n_params, l2)
        self.scale = _sizes(scale, self.n_params)
        self.function, self.jacobian = function, jacobian
        check_arguments("function", function, {2: "(params, x_i)"})
        # What the function refers to, as it is now: kernels may be compiled later.
        self._still = snapshot(function)
        if jacobian is None:
            self._kernel = kernels.evaluate(self._still, self.n_params)
        else:
            takes = {2: "(params, x_i)", 3: "(params, x_i, out)"}
            check_arguments("jacobian", jacobian, takes)
            self._kernel = kernels.evaluate_with(self._still, jacobian)
        self._compared = False
        self.evaluate(np.ones(self.n_params), slice(0, 0))

    def evaluate(self, w: Array, rows: slice = slice(None)) -> tuple[Array, Array]:
        """Predictions and their Jacobian in w, at a range of rows.

        Parameters
        ----------
        w : ndarray of shape (n_params,)
            Where.
        rows : slice, default all
            Range of rows.

        Returns
        -------
        tuple of ndarray
            Of shapes (n_rows,) and (n_rows, n_params).
        """
        X = _block(self.X, rows)
        f, J = np.empty(len(X)), np.zeros((len(X), self.n_params))
        run(self._kernel, X, self.scale * w, f, J)
        return f, J * self.scale

    def second(self, w: Array, direction: Array, a: Array) -> tuple[Array, Array]:
        """Second derivatives of the predictions along a direction t.

        Returns ``t' h_i`` for all rows and ``sum_i a_i h_i``, where ``h_i`` is the
        Hessian of the prediction for row i, times t.
        """
        if self.jacobian is not None:
            return self._second_by_differences(w, direction, a)
        kernel = kernels.second(self._still, self.n_params)
        w, t = self.scale * w, self.scale * direction
        along = np.zeros(self.n_samples)
        edges = self.blocks()

        def block(k: int) -> Array:
            total = np.zeros(self.n_params)
            rows = slice(edges[k], edges[k + 1])
            run(kernel, _block(self.X, rows), w, t, a[rows], along[rows], total)
            return total

        self.work.rows_read += self.n_samples
        return along, self.scale * _parallel.sum_parts(block, len(edges) - 1)

    def _second_by_differences(
        self, w: Array, direction: Array, a: Array
    ) -> tuple[Array, Array]:
        """Central differences of the user's Jacobian, steps relative to each w_j."""
        moved = (direction != 0.0) & (w != 0.0)
        ratio = np.abs(w[moved] / direction[moved])
        h = EPS ** (1.0 / 3.0) * float(ratio.min(initial=math.inf))
        h = h if math.isfinite(h) else EPS ** (1.0 / 3.0)
        up = self.evaluate(w + h * direction)[1]
        products = (up - self.evaluate(w - h * direction)[1]) / (2.0 * h)
        self.work.rows_read += 2 * self.n_samples
        used = a != 0.0
        return products @ direction, products[used].T @ a[used]

    def compare(self, w: Array, derivatives: bool) -> None:
        """Compare some rows with plain Python, and derivatives with differences.

        Compiled integers have 64 bits, the surroundings of a compiled helper may be
        old, and a search inside the function loses derivatives: nothing else tells.

        Raises
        ------
        ValueError
            That names the row and both numbers.
        """
        rows = _spread(self.weights)
        X, p = _block(self.X[rows], slice(None)), self.scale * w
        f, J = np.empty(len(X)), np.zeros((len(X), self.n_params))
        run(self._kernel, X, p, f, J)
        p.flags.writeable = False
        places = [f"row {i}" for i in rows]
        self._compared = (
            compare_values(self.function, [(p, x) for x in X], f, places) > 0
        )
        if not derivatives:
            return

        def values(at: Array) -> Array:
            moved = np.empty(len(X))
            run(self._kernel, X, at, moved, np.empty((len(X), 0)))
            return moved

        wrong = compare_derivatives(values, p, f, J)
        if wrong is not None:
            row, k, difference = wrong
            name, advice = "jacobian", ""
            if self.jacobian is None:
                name = "the derivative"
                advice = (
                    ". Searches (bisection), rounding and tables of numbers lose "
                    "derivatives: end a search with a step of Newton, or pass jacobian"
                )
            raise ValueError(
                f"{name} is {J[row, k]:.8g} for parameter {k} at {places[row]}, but "
                f"differences of the function give {difference:.8g}{advice}"
            )

    def blocks(self) -> list[int]:
        """Ranges of rows that are worth a thread; they depend on the shape alone."""
        cost = ROW_COST * math.ceil(self.n_params / 8)
        return _parallel.bounds(self.n_samples, cost * self.n_samples)

    def at(self, w: ArrayLike) -> NonlinearPoint:
        return NonlinearPoint(self, as_vector(w, self.n_params))

    def refuse_bad_data(self) -> None:
        bad = np.argwhere(~np.isfinite(self.X))
        if len(bad):
            i, j = bad[0]
            raise ValueError(
                f"X must be finite, got {self.X[i, j]} in row {i}, column {j}"
            )

    def restrict(self, rows: Indices, weights: Array | None = None) -> NonlinearModel:
        """Return the objective over some of the samples, with the same ridge.

        ``weights`` of mean one multiply the sample weights, as in `LinearModel`.
        """
        part = object.__new__(NonlinearModel)
        part.__dict__.update(self.__dict__)  # shares the count of work
        part.n_samples = len(rows)
        part.X, part.y = self.X[rows], self.y[rows]
        part.weights = self.weights[rows]
        if weights is not None:
            part.weights = part.weights * weights
        return part

    def value(self, w: Array, rows: Indices | None = None) -> float:
        part = self if rows is None else self.restrict(rows)
        self.work.props += part.n_samples
        error = part.predict(w) - part.y
        return 0.5 * float(np.mean(part.weights * error**2))

    def gradient(self, w: Array, rows: Indices | None = None) -> Array:
        part = self if rows is None else self.restrict(rows)
        self.work.props += 2 * part.n_samples
        f, J = part.evaluate(w)
        gradient: Array = J.T @ (part.weights * (f - part.y)) / part.n_samples
        return gradient

    def hess_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        part = self if rows is None else self.restrict(rows)
        self.work.props += 2 * part.n_samples
        with part.work.uncounted():
            return NonlinearHessian(part.at(w), None, "hessian").matvec(v) - part.l2 * v

    def gauss_newton_vec(self, w: Array, rows: Indices | None, v: Array) -> Array:
        part = self if rows is None else self.restrict(rows)
        self.work.props += 2 * part.n_samples
        J = part.evaluate(w)[1]
        product: Array = J.T @ (part.weights * (J @ v)) / part.n_samples
        return product

    def predict(self, w: Array) -> Array:
        """Predictions for all rows."""
        if not self._compared:
            self.compare(w, derivatives=False)
        edges = self.blocks()

        f = np.empty(self.n_samples)

        def block(k: int) -> None:
            rows = slice(edges[k], edges[k + 1])
            X = _block(self.X, rows)
            run(self._kernel, X, self.scale * w, f[rows], np.empty((len(X), 0)))

        _parallel.run(block, len(edges) - 1)
        return f

    def gradient_norm(self, point: Point) -> float:
        """Cosine of the angle between the residuals and the tangent plane.

        The largest over all directions of the parameters, not only over the columns of
        the Jacobian: a run that goes off to infinity has vanishing columns, whose
        angles say nothing. It has no unit, whatever the units of parameters, targets
        and weights. 0 if the projection is at the rounding level of the predictions,
        which is where an exact fit ends; 1 if the Jacobian does not determine the
        parameters. Relative to the standard errors, the next step of Gauss and Newton
        is at most ``sqrt(n - p)`` times this [1]_.

        References
        ----------
        .. [1] Bates, Watts, A relative offset orthogonality convergence criterion for
           nonlinear least squares, Technometrics 23 (1981).
        """
        assert isinstance(point, NonlinearPoint)
        _ = point.gradient  # counted: this is one, in other units
        return point.cosine


class _Evaluated(NamedTuple):
    """Residuals and their derivatives, times the roots of the weights."""

    residual: Array
    jacobian: Array
    size: float
    """Norm of predictions and targets together: what the residuals are rounded to."""


class _Factor(NamedTuple):
    """QR factorisation of the Jacobian, ridge rows included."""

    R: Array
    projection: Array
    """``Q' r``: the residuals in the tangent plane."""


class NonlinearPoint:
    """A point of a nonlinear model. Every number is a function of ``w`` alone."""

    def __init__(self, problem: NonlinearModel, w: Array) -> None:
        self.problem = problem
        self.w = read_only(w)

    @property
    def point(self) -> NonlinearPoint:
        """Itself: a point is a trial of which everything is known."""
        return self

    @cached_property
    def _evaluated(self) -> _Evaluated:
        p = self.problem
        if not p._compared:
            p.compare(self.w, derivatives=True)
        n, edges = p.n_samples, p.blocks()
        _memory.require(
            16.0 * n * (p.n_params + 4),
            f"the Jacobian of {n:,} rows and {p.n_params:,} parameters",
            "take fewer rows, or write the problem as a FiniteSum",
        )
        root = np.sqrt(p.weights)
        residual, J = np.empty(n), np.empty((n, p.n_params))
        sizes = np.empty(n)

        def block(k: int) -> None:
            part = slice(edges[k], edges[k + 1])
            s, y = root[part], p.y[part]
            f, rows = p.evaluate(self.w, part)
            with quiet(all="ignore"):  # trials far out
                residual[part] = s * (f - y)
                J[part] = s[:, None] * rows
                sizes[part] = s * (np.abs(f) + np.abs(y))
            gone = s == 0.0  # whatever the function does there
            residual[part][gone], J[part][gone], sizes[part][gone] = 0.0, 0.0, 0.0

        _parallel.run(block, len(edges) - 1)
        p.work.rows_read += n
        return _Evaluated(residual, J, _norm(sizes))

    @property
    def residual(self) -> Array:
        """``sqrt(s_i) (f(p, x_i) - y_i)``."""
        return self._evaluated.residual

    @property
    def jacobian(self) -> Array:
        """Derivatives of `residual` in w."""
        return self._evaluated.jacobian

    @cached_property
    def value(self) -> float:
        """F(w)."""
        return 0.5 * self.residual_norm_squared / self.problem.n_samples

    @cached_property
    def residual_norm_squared(self) -> float:
        """Sum of squares of the residuals, those of the ridge included."""
        return _square(self.residual) + _square(self._ridge * self.w)

    @property
    def _ridge(self) -> Array:
        ridge: Array = np.sqrt(self.problem.n_samples * self.problem.l2)
        return ridge

    @cached_property
    def factor(self) -> _Factor:
        """Householder factors of blocks of rows, then of their factors."""
        p, d = self.problem, self.problem.n_params
        edges = p.blocks()

        def block(k: int) -> Array:
            part = slice(edges[k], edges[k + 1])
            return _triangle(
                np.column_stack([self.jacobian[part], self.residual[part]])
            )

        parts = _parallel.run(block, len(edges) - 1)
        if np.any(p.l2):
            parts.append(np.column_stack([np.diag(self._ridge), self._ridge * self.w]))
        if len(parts) > 1:
            parts = [_triangle(np.vstack(parts))]
        R = np.zeros((d + 1, d + 1))
        R[: len(parts[0])] = parts[0]
        return _Factor(R[:d, :d], R[:d, d])

    @cached_property
    def column_norms(self) -> Array:
        """Lengths of the columns of the Jacobian."""
        R = self.factor.R
        norms: Array = np.linalg.norm(R, axis=0)
        for j in np.flatnonzero(~((norms > 1e-150) & (norms < 1e150))):
            norms[j] = _norm(R[:, j])
        return norms

    @cached_property
    def reciprocal_condition(self) -> float:
        """That of the Jacobian with columns of length one; 0 if a column vanishes."""
        if not np.all((self.column_norms > 0.0) & (self.column_norms < np.inf)):
            return 0.0
        s = np.linalg.svd(self.factor.R / self.column_norms, compute_uv=False)
        return float(s[-1] / s[0])

    @property
    def undetermined(self) -> bool:
        """Whether some combination of the parameters has no effect on the residuals."""
        return self.reciprocal_condition <= UNDETERMINED

    @cached_property
    def rounding(self) -> float:
        """Level of rounding of the residuals: of predictions and of parameters."""
        by_parameter = _norm(self.column_norms * self.w)
        return EPS * math.hypot(self._evaluated.size, by_parameter)

    @cached_property
    def cosine(self) -> float:
        """What `NonlinearModel.gradient_norm` says of this point."""
        projection, rounding = _norm(self.factor.projection), self.rounding
        if not math.isfinite(projection + rounding + self.value):
            return math.nan
        if self.undetermined:
            return 1.0
        if projection <= rounding:
            return 0.0
        squares = self.residual_norm_squared
        # Where squares leave float64, they tell nothing.
        return min(1.0, projection / math.sqrt(squares)) if squares > TINY else math.nan

    @cached_property
    def gradient(self) -> Array:
        """Gradient of F at w."""
        self.problem.work.props += 2 * self.problem.n_samples
        gradient: Array = self.factor.R.T @ self.factor.projection
        return read_only(gradient / self.problem.n_samples)

    def decrease(self, other: NonlinearPoint) -> float:
        """``F(w) - F(other)``, from differences of the terms: no cancellation."""
        p, (a, b) = self.problem, (self.residual, other.residual)
        with quiet(all="ignore"):
            data = float(np.sum((a - b) * (a + b))) / p.n_samples
            ridge = float(p.l2 @ ((self.w - other.w) * (self.w + other.w)))
            return 0.5 * (data + ridge)

    def curvature(self) -> Array:
        """Hessian of half the sum of squares, by central differences of the Jacobian.

        The second derivatives of dual numbers would have to be compiled first, which
        takes longer than most fits.
        """
        p, r = self.problem, self.residual
        size, step = self.column_norms, EPS ** (1.0 / 3.0)
        # Steps that change predictions, and parameters, by the same small part.
        with quiet(all="ignore"):
            h = step * self._evaluated.size / size
        known = np.abs(self.w) > 0.0
        h = np.where(known, np.minimum(h, step * np.abs(self.w)), h)
        S = np.zeros((p.n_params, p.n_params))
        used = np.flatnonzero(r)
        pull = (np.sqrt(p.weights) * r)[used]
        moved = np.flatnonzero((h > 0.0) & (h < np.inf))
        for j in moved:
            up, down = self.w.copy(), self.w.copy()
            up[j] += h[j]
            down[j] -= h[j]
            change = p.evaluate(up)[1] - p.evaluate(down)[1]
            S[j] = change[used].T @ pull / (up[j] - down[j])
        p.work.rows_read += 2 * p.n_samples * len(moved)
        H: Array = self.factor.R.T @ self.factor.R + 0.5 * (S + S.T)
        return H

    def second_along(self, direction: Array) -> Array:
        """Second derivatives of `residual` along a direction."""
        p = self.problem
        along, _ = p.second(self.w, direction, np.zeros(p.n_samples))
        return np.where(p.weights > 0.0, np.sqrt(p.weights) * along, 0.0)

    def hessian(
        self, sample: Sample, curvature: Curvature = "hessian"
    ) -> NonlinearHessian:
        """Hessian of F at w, the mean estimated from a sample."""
        return NonlinearHessian(self, sample, curvature)

    def along(self, direction: Array) -> NonlinearLine:
        """F along a direction."""
        return NonlinearLine(self, direction)


class NonlinearHessian:
    """``J'J / n`` on a sample, plus the curvature of the model, plus the ridge."""

    def __init__(
        self, point: NonlinearPoint, sample: Sample | None, curvature: Curvature
    ) -> None:
        sample = full(point.problem.n_samples) if sample is None else sample
        p, keep = point.problem, sample.rows
        self.point, self.exact = point, curvature == "hessian"
        self.part = p if keep is None else p.restrict(keep)
        self.J = point.jacobian if keep is None else point.jacobian[keep]
        residual = point.residual if keep is None else point.residual[keep]
        self.weights = np.broadcast_to(sample.weights, len(residual))
        self.complete = keep is None
        self.pull = self.weights * np.sqrt(self.part.weights) * residual
        self._formed: Array | None = None

    def prepare(self, n_products: int) -> None:
        """Form the matrix if that is cheaper than the expected products."""
        if n_products >= len(self.part.l2) or not self.exact:
            self._form()

    def matvec(self, v: Array) -> Array:
        """Product with a vector."""
        self.part.work.props += 2 * self.part.n_samples
        if self._formed is not None:
            formed: Array = self._formed @ v
            return formed
        product: Array = self.J.T @ (self.weights * (self.J @ v)) + self.part.l2 * v
        return product + self._curvature(v) if self.exact else product

    def diagonal(self) -> Array:
        """Diagonal of the Gauss-Newton matrix, as a preconditioner: positive."""
        diagonal = self.weights @ self.J**2 + self.part.l2
        return np.where(diagonal > 0.0, diagonal, 1.0)

    def dense(self) -> Array:
        """The matrix. Counted as its d products."""
        self.part.work.props += 2 * self.part.n_samples * len(self.part.l2)
        return self._form()

    def _curvature(self, v: Array) -> Array:
        return self.part.second(self.point.w, v, self.pull)[1]

    def _form(self) -> Array:
        if self._formed is None:
            if self.complete:
                R = self.point.factor.R
                H = R.T @ R / self.part.n_samples
            else:
                rows = np.sqrt(self.weights)[:, None] * self.J
                H = rows.T @ rows + np.diag(self.part.l2)
            if self.exact:
                S = np.column_stack([self._curvature(e) for e in np.eye(len(H))])
                H += 0.5 * (S + S.T)
            self._formed = H
        return self._formed


class NonlinearLine:
    """F along a direction. Each trial is evaluated with its Jacobian: most are taken.

    A Jacobian costs about twice a prediction up to 8 parameters, and a second pass for
    it would cost the prediction again.
    """

    def __init__(self, start: NonlinearPoint, direction: Array) -> None:
        self.start, self.direction = start, direction

    def __call__(self, t: float) -> NonlinearPoint:
        p = self.start.problem
        p.work.props += p.n_samples
        return self.start if t == 0.0 else p.at(self.start.w + t * self.direction)

    def slope(self, trial: Trial) -> float:
        """Derivative of F along the direction at a trial of this line."""
        return float(trial.point.gradient @ self.direction)

    def curvature(self) -> float:
        """Second derivative of F along the direction at the start."""
        hessian = NonlinearHessian(self.start, None, "hessian")
        with self.start.problem.work.uncounted():
            product = hessian.matvec(self.direction)
        return float(self.direction @ product)


def _triangle(A: Array) -> Array:
    """R of a QR factorisation: of short stacks of rows first, which stay in a cache."""
    rows, d = max(STACK, 8 * A.shape[1]), A.shape[1]
    n_stacks = len(A) // rows
    if n_stacks > 1:
        whole = n_stacks * rows
        R = np.asarray(np.linalg.qr(A[:whole].reshape(n_stacks, rows, d), mode="r"))
        return _triangle(np.vstack([R.reshape(-1, d), A[whole:]]))
    return np.asarray(np.linalg.qr(A, mode="r"))


def _square(x: Array) -> float:
    """Sum of squares, in the same order for every number of threads."""
    with quiet(all="ignore"):
        return float(np.sum(x * x))


def _norm(x: Array) -> float:
    """Euclidean norm, also where the squares overflow or underflow."""
    norm = math.sqrt(_square(x))
    if 1e-150 < norm < 1e150 or math.isnan(norm):
        return norm
    unit = float(np.abs(x).max(initial=0.0))
    if not 0.0 < unit < math.inf:
        return unit
    return unit * math.sqrt(_square(x / unit))


def _block(X: NDArray[Any], rows: slice) -> Array:
    """Rows as the kernels want them: float64, C order, read only."""
    block = np.ascontiguousarray(X[rows], dtype=np.float64).view()
    block.flags.writeable = False
    return block


def _spread(weights: Array) -> Indices:
    """Some rows with a weight, the first and the last among them."""
    active = (
        np.flatnonzero(weights) if weights.min() == 0.0 else np.arange(len(weights))
    )
    chosen = np.linspace(0, len(active) - 1, min(COMPARED, len(active)))
    return np.asarray(active[chosen.astype(np.intp)])


def _predictors(X: ArrayLike) -> NDArray[Any]:
    array: NDArray[Any] = real_array("X", X)
    if array.ndim != 2 or 0 in array.shape:
        came = f"shape {array.shape}" if array.shape else shown(X)
        raise ValueError(f"X must have rows and columns, got {came}")
    return array  # `_block` converts what is read


def _targets(y: ArrayLike | None, n: int) -> Array:
    if y is None:
        return np.zeros(n)
    array = real_array("y", y, (n,))
    targets: Array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.all(np.isfinite(targets)):
        i = int(np.argmin(np.isfinite(targets)))
        raise ValueError(f"y must be finite, got {targets[i]} at index {i}")
    return targets


def _sizes(scale: ArrayLike | None, d: int) -> Array:
    if scale is None:
        return np.ones(d)
    what = f"hold {d} finite numbers > 0"
    sizes: Array = real_array("scale", scale, what=what).astype(np.float64)
    if sizes.shape != (d,) or not np.all((sizes > 0.0) & np.isfinite(sizes)):
        raise ValueError(f"scale must {what}, got {shown(scale)}")
    return sizes
