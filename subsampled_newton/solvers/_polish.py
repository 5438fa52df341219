"""Newton steps from a factor of the Hessian, for objectives that are nearly flat.

On columns that are dependent up to 1e-8 a Gram matrix has no digit of the flat
directions, and a gradient of 1e-8 may leave a tenth of the possible decrease. The
triangular factor of the weighted rows keeps half of the digits, and the Newton
decrement ``g'H^-1 g / 2`` says what is left to gain in units of the objective.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from subsampled_newton._interrupts import quiet
from subsampled_newton._memory import NotEnoughMemory
from subsampled_newton.embeddings import dense_block
from subsampled_newton.factor import triangular_factor, upper_factor
from subsampled_newton.linear_model import (
    FORMED_MAX_PARAMS,
    LinearModel,
    LinearPoint,
)
from subsampled_newton.losses import SQUARED
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.sampling import full, uniform
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._descent import descend
from subsampled_newton.solvers._driver import State, run
from subsampled_newton.solvers._memory import memory_needed
from subsampled_newton.solvers._result import Result, Status, Trace
from subsampled_newton.solvers._verdict import (
    COARSE,
    STUCK,
    TOLERATED,
    data_noise,
)
from subsampled_newton.solvers._whitener import (
    EPS,
    Whitener,
    dependence,
    largest_noise,
)
from subsampled_newton.subproblems._step import Step

__all__ = [
    "FactoredNewton",
    "PolishState",
    "assured",
    "curvature_factor",
    "softmax_rows",
]

Array = NDArray[np.float64]
CHECK_ROWS = 4096
"""Rows, or 20 for each parameter, that tell how flat the objective is."""
ENDS = (*STUCK, Status.NOT_DESCENT)
"""Ends that are no failure where nothing is left to gain."""
REACH = 0.5
"""Change of a prediction up to which a quadratic model of the loss can be trusted: a
small decrement means nothing for rows where the Newton step goes farther."""
LARGEST_FACTORISATION = 2e10
"""Multiplications up to which a QR factorisation takes seconds."""
DOUBTFUL_STEPS = 50
"""Most steps where columns are dependent up to the rounding of the data."""
LARGEST_COPY = 2e7
"""Numbers in the rows of several classes, which are put side by side."""


@dataclass(frozen=True)
class PolishState(State):
    """State of `FactoredNewton`."""

    decrement: float = math.nan
    """``g'H^-1 g / 2`` at the point before the last step."""
    condition: float = math.nan
    rank: int = 0


@dataclass(frozen=True)
class FactoredNewton:
    """Newton's method with the triangular factor of ``diag(h)**(1/2) X``.

    That of the Hessian, a fraction of the work, where its condition number is moderate.

    Ends when the Newton decrement is at most ``rtol`` times the decrease since w = 0.
    Directions whose columns cancel to rounding are left alone.

    Parameters
    ----------
    rtol : float, default 1e-8
        Share of the possible decrease that may be left.
    """

    rtol: float = 1e-8

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> PolishState:
        """State before the first step."""
        return PolishState(point)

    def step(
        self, problem: FiniteSum, state: PolishState, rng: np.random.Generator
    ) -> PolishState:
        """One damped Newton step, or the end."""
        assert isinstance(problem, LinearModel)
        point = state.point
        assert isinstance(point, LinearPoint)
        whitener = _whitener(problem, point)
        if whitener is None:
            return replace(state, outcome=Status.NON_FINITE)
        if whitener.doubtful is not None and not state.note:
            # Another solver may have gone far where nothing is known.
            columns = problem.rows.columns
            note = dependence(whitener, columns.n_params, columns.intercept)
            return replace(
                state,
                point=problem.at(whitener.inside(point.w)),
                iteration=state.iteration + 1,
                note=note,
            )
        gradient = point.gradient
        decrement = 0.5 * float(np.sum(whitener.whiten(gradient) ** 2))
        state = replace(
            state,
            decrement=decrement,
            condition=whitener.condition,
            rank=whitener.rank,
            hessian_rows=problem.n_samples,
        )
        vector = whitener.step(gradient)
        enough = self.rtol * (problem.value_at_zero() - point.value)
        if decrement <= enough:
            u = problem.predictions(vector)
            if _beyond_the_model(problem, point.z, u) <= enough:
                return replace(state, outcome=Status.CONVERGED)
        step = Step(vector, decrement, 0, "converged")
        descent = descend(point, step)
        return replace(
            state,
            point=descent.point or point,
            iteration=state.iteration + 1,
            step_size=descent.step_size,
            outcome=descent.outcome,
        )


def _whitener(problem: LinearModel, point: LinearPoint) -> Whitener | None:
    """W with ``W'HW = I``: from H, unless it is nearly singular: then from its rows."""
    H = point.hessian(full(problem.n_samples)).dense()
    if np.all(np.isfinite(H)):
        with contextlib.suppress(np.linalg.LinAlgError):
            noise = data_noise(problem, point.z)
            whitener = Whitener.from_gram(
                H, truncate=False, noise=noise, ridge=problem.l2
            )
            if whitener.triangle is not None:
                return whitener
    return curvature_factor(problem, point)


def curvature_factor(
    problem: LinearModel, point: LinearPoint, *, ridge: bool = True
) -> Whitener | None:
    """W with ``W'HW = I`` for the Hessian at a point; None if it is not finite.

    Without the ``ridge``: for the Hessian of the loss alone.
    """
    rows, n = problem.rows, problem.n_samples
    if isinstance(problem, SoftmaxModel):
        R = upper_factor(softmax_rows(problem, point))
    else:
        h = rows.pointwise(problem.loss.d2, point.z, problem.y, problem.weights)
        R = triangular_factor(rows, np.sqrt(np.asarray(h) / n))
    data = R
    if ridge:
        R = np.vstack([R, np.diag(np.sqrt(problem.l2))[problem.l2 > 0.0]])
    if not np.all(np.isfinite(R)):
        return None
    size = np.linalg.norm(R, axis=0)
    size[size == 0.0] = 1.0
    R = upper_factor(R / size)
    noise = data_noise(problem, point.z)
    plain = data / size if ridge and np.any(problem.l2) else None
    return Whitener.from_triangle(np.asfortranarray(R), size, noise, plain)


def softmax_rows(problem: SoftmaxModel, point: LinearPoint) -> Array:
    """Rows whose Gram matrix is the Hessian without the ridge, K for each sample.

    ``diag(p) - pp' = S'S`` with ``S = diag(p)**(1/2) (I - 1p')``.
    """
    A = dense_block(problem.rows, 0, problem.n_samples)
    P = np.asarray(problem.rows.class_probabilities(point.z))
    weights = np.asarray(problem.weights)
    K, n = P.shape
    root = math.sqrt(K)
    B = np.vstack([np.eye(K - 1) - 1.0 / (K + root), np.full(K - 1, -1.0 / root)])
    parts = []
    for k in range(K):
        weight = np.sqrt(weights * P[k] / n)
        directions = weight[:, None] * (B[k] - P.T @ B)
        parts.append(directions[:, :, None] * A[:, None, :])
    return np.vstack(parts).reshape(K * n, -1)


def assured(problem: LinearModel, result: Result, *, tol: float, polish: int) -> Result:
    """Make sure that a small gradient means a small error, or say that it does not.

    The gradient norm bounds what is left to gain by ``||g||**2 / (2 mu)``, mu the
    smallest eigenvalue of the Hessian: enough for all but nearly flat objectives. For
    those the Newton decrement decides. Where it is too large, or the run ended without
    success, `FactoredNewton` goes on for at most ``polish`` steps; whatever they are
    where columns are dependent up to the rounding of the data, which it sets apart.
    """
    n, d = problem.n_samples, problem.n_params
    if not (np.all(np.isfinite(result.w)) and math.isfinite(result.value)):
        return result
    if not (polish or result.converged or result.status in ENDS):
        return result
    if result.converged and tol > COARSE:
        return result
    work = problem.work
    rows_before, props_before = work.rows_read, work.props
    memory = result.memory_bytes

    def counted(result: Result) -> Result:
        passes = result.passes + (work.rows_read - rows_before) / n
        props = result.props + work.props - props_before
        return replace(result, passes=passes, props=props, memory_bytes=memory)

    gain = problem.value_at_zero() - result.value
    left = TOLERATED * gain
    size = n * (d if problem.outputs == () else problem.outputs[0] * d) * d
    if result.converged and result.suboptimality_bound <= left:
        return counted(result)
    if size > LARGEST_FACTORISATION or d > FORMED_MAX_PARAMS:
        return counted(result)
    if problem.outputs and size / d > LARGEST_COPY:
        return counted(result)
    memory = max(memory, memory_needed(problem, FactoredNewton()))
    try:
        if result.converged and _steep(problem, result, 2.0 * left):
            return counted(result)
    except NotEnoughMemory:  # as for a factorisation that takes too long
        return counted(result)
    so_far = counted(result)
    try:
        more = run(
            problem,
            FactoredNewton(0.1 * TOLERATED),
            result.w,
            tol=0.0,
            max_iter=polish or 1,
        )
    except NotEnoughMemory:
        return so_far
    assert more.checkpoint is not None
    state = more.checkpoint.state
    if state.note and not polish:  # what the solver has found is rounding
        polish = DOUBTFUL_STEPS
        more = run(
            problem,
            FactoredNewton(0.1 * TOLERATED),
            result.w,
            tol=0.0,
            max_iter=polish,
        )
    if polish:
        if more.n_iter == 0 and result.converged:
            return counted(result)
        joined = _joined(so_far, more)
        small = joined.gradient_norm <= tol or not joined.converged
        return joined if small else replace(joined, status=Status.PRECISION)
    # nan from a factor that is not finite: nothing is known.
    more_left = max(state.decrement, result.value - more.value)
    if more_left <= 10.0 * left and result.status in ENDS:
        result = result.ending(Status.PRECISION)
    elif result.converged and more_left > 10.0 * left:
        result = result.ending(Status.FLAT)
    return counted(result)


def _steep(problem: LinearModel, result: Result, allowed: float) -> bool:
    """Whether ``g'H^-1 g <= allowed``, for the Hessian of a sample."""
    n, d = problem.n_samples, problem.n_params
    square = result.gradient_norm**2
    sample = uniform(n, max(CHECK_ROWS, 20 * d), np.random.default_rng(0))
    part = problem if sample.rows is None else problem.restrict(sample.rows)
    z = part.predictions(result.w)
    H = part.hessian_at(z, 1.0 / part.n_samples, "hessian").dense()
    if not np.all(np.isfinite(H)):
        return False
    # Columns of norm one: their sizes say nothing about dependence.
    size = np.sqrt(np.diag(H))
    size[size == 0.0] = 1.0
    H /= size
    H /= size[:, None]
    # A Gram matrix knows its eigenvalues to rounding only.
    rounding = d * d * EPS
    farthest = math.sqrt(float(np.max(part.rows.row_norms())))
    mu = farthest * result.gradient_norm / REACH
    mu = max(mu, square / allowed) if allowed > 0.0 else math.inf
    noise = data_noise(part, z)
    doubt = 0.0 if noise is None else largest_noise(noise, size) ** 2
    least = max(mu / float(np.min(size)) ** 2, doubt) + rounding
    if least < 1.0 and _positive_definite(H, least):
        return True
    values, vectors = np.linalg.eigh(H)
    # Dependent columns: no gradient where there is no curvature.
    with quiet(all="ignore"):
        inside = vectors.T @ (result.gradient / size)
        if not inside @ (inside / np.maximum(values, rounding)) <= allowed:
            return False
    # A factor of the rows tells them from columns that nearly are: their gradient is
    # below the rounding of H, and there may be much to gain.
    point = part.at(result.w)
    assert isinstance(point, LinearPoint)
    whitener = curvature_factor(part, point)
    if whitener is None or whitener.doubtful is not None:
        return False
    with quiet(all="ignore"):
        decrement = float(np.sum(whitener.whiten(result.gradient) ** 2))
        u = part.predictions(whitener.step(result.gradient))
        return decrement <= allowed and _beyond_the_model(part, z, u) <= allowed


def _positive_definite(H: Array, shift: float) -> bool:
    """Whether ``H - shift I`` is: a Cholesky factorisation tells 30 times faster."""
    shifted = H.copy()
    shifted[np.diag_indices_from(shifted)] -= shift
    try:
        scipy.linalg.cholesky(shifted.T, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True


def _beyond_the_model(problem: LinearModel, z: Array, u: Array) -> float:
    """Mean loss of the rows that a step takes out of the reach of its model.

    The losses of classes are positive: no more can be gained from these rows.
    """
    far = ~(np.abs(np.asarray(u)) <= REACH)
    if problem.loss is SQUARED or not np.any(far):
        return 0.0
    if isinstance(problem, SoftmaxModel):
        P = np.asarray(problem.rows.class_probabilities(z))
        own = P[np.asarray(problem.y).astype(int), np.arange(problem.n_samples)]
        losses = -np.asarray(problem.weights) * np.log(own)
        far = np.any(far, axis=0)
    else:
        value, weights = problem.loss.value, problem.weights
        losses = np.asarray(problem.rows.pointwise(value, z, problem.y, weights))
    return float(np.sum(losses[far])) / problem.n_samples


def _joined(first: Result, second: Result) -> Result:
    """One result of a run and of another that went on where it ended."""
    assert first.checkpoint is not None
    assert second.checkpoint is not None
    last = first.checkpoint.records[-1]
    before = (last[0], last[1], first.passes, first.props - 1)
    records = [
        (*(a + b for a, b in zip(before, r[:4], strict=True)), *r[4:])
        for r in second.checkpoint.records[1:]
    ]
    # The step that finds nothing to do has a record of the iterate before it.
    records = [*{r[0]: r for r in [*first.checkpoint.records, *records]}.values()]
    return replace(
        second,
        n_iter=first.n_iter + second.n_iter,
        passes=first.passes + second.passes,
        props=first.props + second.props - 1,
        seconds=first.seconds + second.seconds,
        trace=Trace.from_records(records),
        checkpoint=replace(second.checkpoint, records=records),
        memory_bytes=max(first.memory_bytes, second.memory_bytes),
        device_bytes=max(first.device_bytes, second.device_bytes),
        note=f"{first.note} {second.note}".strip(),
    )
