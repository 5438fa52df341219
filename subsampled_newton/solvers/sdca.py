"""Stochastic dual coordinate ascent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class SDCAState(State):
    """State of `SDCA`."""

    dual: Array | None = None
    """Dual variables ``a_i``: minus the derivatives of the losses, at the solution."""
    gap: float = math.inf
    """Duality gap ``F(w) - D(a) >= F(w) - min F``."""
    samples: Samples | None = None

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

    It needs the logistic or the squared loss, and a ridge on every parameter: with an
    intercept, give its column a small one, or take `SAG`, which needs none.

    Notes
    -----
    From ``w0 = 0`` it begins at ``a = 0``, from another start at the derivatives there
    if their dual value is better.

    References
    ----------
    .. [1] S. Shalev-Shwartz, T. Zhang, Stochastic dual coordinate ascent methods for
       regularized loss minimization, JMLR 14, 2013, procedure SDCA-Perm.
    .. [2] H.-F. Yu, F.-L. Huang, C.-J. Lin, Dual coordinate descent methods for
       logistic regression and maximum entropy models, Mach. Learn. 85, 2011: the steps
       of the logistic loss.
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
        if not np.all(model.l2 > 0.0):
            j = int(np.argmin(model.l2))
            raise TypeError(
                f"SDCA needs l2 > 0 on every parameter, an intercept included, got 0 "
                f"for parameter {j}: give it a small ridge, or use SAG or SVRG"
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
        inverse = 1.0 / (samples.n * problem.l2)
        if state.dual is None:
            dual, w = _start(problem, loss, state.point)
        else:
            dual, w = state.dual.copy(), state.point.w.copy()
        w = w.reshape(1, -1)

        kernel, order = samples.dual_ascent(loss), samples.shuffled(rng)
        for start in range(0, len(order), samples.chunk):
            part = order[start : start + samples.chunk]
            kernel(samples.x, samples.columns, inverse, samples.table, part, w, dual)
        samples.count(len(order))
        point = problem.at(w[0])
        assert isinstance(point, LinearPoint)
        gap = epochs.dual_gap(loss.gap)(point.z, dual, problem.y, problem.weights)
        return SDCAState(
            point,
            iteration=state.iteration + 1,
            inner_iterations=len(order),
            dual=dual,
            gap=float(gap) / problem.n_samples,
            samples=samples,
        )


def _dual(problem: LinearModel) -> DualLoss | None:
    return dual_loss(problem.loss)


def _dual_samples(problem: LinearModel) -> Samples:
    """The samples, with ``sum_j x_ij**2 / (n l2_j)`` for their squared norms."""
    rows = problem.rows
    columns = rows.columns
    n_raw = len(columns.scale)
    scaled = replace(columns, scale=columns.scale / np.sqrt(problem.l2[:n_raw]))
    norms = rows.with_columns(scaled).row_norms()
    if columns.intercept:
        norms = norms + (1.0 / problem.l2[-1] - 1.0)
    samples = samples_of(problem, norms)
    samples.table[:, epochs.NORM] /= samples.n
    return samples


def _start(problem: LinearModel, loss: DualLoss, point: Point) -> tuple[Array, Array]:
    """First dual variables and their ``w(a)``."""
    nothing = np.zeros(problem.n_samples), np.zeros(problem.n_params)
    if not np.any(point.w):
        return nothing
    assert isinstance(point, LinearPoint)
    rows, n, s = problem.rows, problem.n_samples, problem.weights
    dual = -rows.pointwise(problem.loss.d1, point.z, problem.y, np.ones(n))
    w = rows.rmatvec(s * dual) / (n * problem.l2)
    value = float(np.mean(rows.pointwise(loss.value_at_dual, dual, problem.y, s)))
    value -= 0.5 * float(problem.l2 @ w**2)
    return (dual, w) if value > 0.0 else nothing  # D(0) = 0 for both losses
