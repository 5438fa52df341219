"""Stochastic dual coordinate ascent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.kernels import epochs
from subsampled_newton.linear_model import LinearModel, LinearPoint
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.sample_losses import DualLoss, dual_loss
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._samples import Samples, check_problem, samples_of

__all__ = ["SDCA", "SDCAState"]

Array = NDArray[np.float64]
PROXIMAL = 0.004
"""Ridge that holds a free intercept, in units of the largest curvature of the loss.
Where rows are few, below ``16 / n``, single ones would throw it about."""


@dataclass(frozen=True)
class SDCAState(State):
    """State of `SDCA`."""

    dual: Array | None = None
    """Dual variables ``a_i``: minus the derivatives of the losses, at the solution."""
    samples: Samples | None = None

    @cached_property
    def gap(self) -> float:
        """Duality gap ``F(w) - D(a) >= F(w) - min F``.

        inf before the first step, in a checkpoint, and with a free intercept.
        """
        point = self.point
        if self.dual is None or not isinstance(point, LinearPoint):
            return math.inf
        problem = point.problem
        loss = dual_loss(problem.loss)
        if loss is None or problem.l2[-1] == 0.0:
            return math.inf
        kernel = epochs.dual_gap(loss.gap)
        total = kernel(point.z, self.dual, problem.y, problem.weights)
        return float(total) / problem.n_samples

    def detached(self) -> Self:
        """Without what can be computed again."""
        return replace(super().detached(), samples=None)


@dataclass(frozen=True)
class SDCA:
    """Stochastic dual coordinate ascent: exact steps along one dual variable at a time.

    Maximizes ``D(a) = -(1/n) sum_i s_i conj_i(-a_i) - (1/2) sum_j l2_j w_j(a)**2`` with
    ``w_j(a) = sum_i s_i a_i x_ij / (n l2_j)``, which is at most min F. There is no step
    size. ``state.gap`` bounds the error of the objective: it is the mean of terms that
    are not negative and lose no digits near the solution. A step of this solver visits
    all rows in random order.

    It needs the logistic or the squared loss, and a ridge on every parameter but the
    intercept.

    Notes
    -----
    From ``w0 = 0`` it begins at ``a = 0``, from another start at the derivatives there
    if their dual value is better.

    An intercept b without a ridge gets one that moves along, ``rho (b - b_k)**2 / 2``
    around the intercept of the last step: the proximal point method [3]_, one visit of
    all rows for each of its steps. With rho at 1/250 of the largest curvature of the
    loss it takes hardly more visits than without an intercept.

    Differs from the papers in the intercept and in the ridge weights, which may differ.
    Otherwise as in the paper: SDCA-Perm, whose last iterate is the result, not an
    average.

    References
    ----------
    .. [1] S. Shalev-Shwartz, T. Zhang, Stochastic dual coordinate ascent methods for
       regularized loss minimization, JMLR 14, 2013, procedure SDCA-Perm.
    .. [2] H.-F. Yu, F.-L. Huang, C.-J. Lin, Dual coordinate descent methods for
       logistic regression and maximum entropy models, Mach. Learn. 85, 2011: the steps
       of the logistic loss.
    .. [3] R. T. Rockafellar, Monotone operators and the proximal point algorithm, SIAM
       J. Control Optim. 14, 1976.
    """

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> SDCAState:
        """State before the first step."""
        model = check_problem(problem, "SDCA")
        if _dual(model) is None:
            raise TypeError(
                "SDCA needs the logistic or the squared loss, whose conjugates it "
                f"knows, got the {model.loss.name} loss: use SAG or SVRG"
            )
        if not np.all(_ridge(model) > 0.0):
            j = int(np.argmin(_ridge(model)))
            raise TypeError(
                "SDCA needs l2 > 0 on every parameter but the intercept, got 0 for "
                f"parameter {j}: use SAG or SVRG"
            )
        return SDCAState(point)

    def step(
        self, problem: FiniteSum, state: SDCAState, rng: np.random.Generator
    ) -> SDCAState:
        """One visit of all rows."""
        assert isinstance(problem, LinearModel)
        loss = _dual(problem)
        assert loss is not None
        samples = state.samples
        if samples is None and state.iteration == 0:
            samples = _dual_samples(problem)
        elif samples is None:
            with problem.work.uncounted():  # the interrupted run has paid for it
                samples = _dual_samples(problem)
        l2 = _ridge(problem)
        if state.dual is None:
            dual, w = _start(problem, loss, l2, state.point)
        else:
            dual, w = state.dual.copy(), state.point.w.copy()
        if problem.l2[-1] == 0.0:
            # The intercept for these dual variables and the new centre.
            w[-1] += (problem.weights @ dual) / (problem.n_samples * l2[-1])
        w = samples.dual_ascent(loss, l2, samples.shuffled(rng), w, dual)
        return SDCAState(
            problem.at(w),
            iteration=state.iteration + 1,
            inner_iterations=samples.n,
            dual=dual,
            samples=samples,
        )


def _dual(problem: LinearModel) -> DualLoss | None:
    return dual_loss(problem.loss)


def _ridge(problem: LinearModel) -> Array:
    """Ridge weights, with one of the proximal term for an intercept that has none."""
    l2 = problem.l2.copy()
    if problem.rows.columns.intercept and l2[-1] == 0.0:
        ridge = max(PROXIMAL, 16.0 / problem.n_samples)
        l2[-1] = ridge * problem.loss.curvature_bound
    return l2


def _dual_samples(problem: LinearModel) -> Samples:
    """The samples, with ``sum_j x_ij**2 / (n l2_j)`` for their squared norms."""
    rows, l2 = problem.rows, _ridge(problem)
    columns = rows.columns
    n_raw = len(columns.scale)
    scaled = replace(columns, scale=columns.scale / np.sqrt(l2[:n_raw]))
    norms = rows.with_columns(scaled).row_norms()
    if columns.intercept:
        norms = norms + (1.0 / l2[-1] - 1.0)
    samples = samples_of(problem, norms)
    samples.table[:, epochs.NORM] /= samples.n
    return samples


def _start(
    problem: LinearModel, loss: DualLoss, l2: Array, point: Point
) -> tuple[Array, Array]:
    """First dual variables and their ``w(a)``, before a free intercept moves."""
    dual, w = np.zeros(problem.n_samples), np.zeros(problem.n_params)
    if not np.any(point.w):
        return dual, w
    assert isinstance(point, LinearPoint)
    rows, n, s = problem.rows, problem.n_samples, problem.weights
    a = -rows.pointwise(problem.loss.d1, point.z, problem.y, np.ones(n))
    start = rows.rmatvec(s * a) / (n * l2)
    value = float(np.mean(rows.pointwise(loss.value_at_dual, a, problem.y, s)))
    value -= 0.5 * float(l2 @ start**2)
    if problem.l2[-1] == 0.0:  # a free intercept: the proximal term has a centre
        value -= l2[-1] * start[-1] * point.w[-1]
        start[-1] = w[-1] = point.w[-1]
    return (a, start) if value > 0.0 else (dual, w)  # D(0) = 0 for both losses
