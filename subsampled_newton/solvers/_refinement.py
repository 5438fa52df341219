"""Refinement of least squares solutions with a factor that whitens the matrix.

The scheme of [1]_: at an *anchor* the gradient is computed from the residual, once; an
inner iteration solves for the correction with that gradient fixed; where it ends is the
next anchor. Two or three anchors give the backward error of Householder QR at condition
numbers up to 1e12. With a new gradient in every iteration instead, the rounding errors
of each would leak through ``W'HW != I`` into all directions, and the limit would be
1e-12 in place of 1e-17.

The inner iterations run in the coordinates of w. One costs one read of the data.

References
----------
.. [1] E. N. Epperly, M. Meier, Y. Nakatsukasa, Fast randomized least-squares solvers
   can be just as accurate and stable as classical direct solvers, Comm. Pure Appl.
   Math. 2025, Algorithm 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.linear_model import LinearHessian, LinearModel
from subsampled_newton.losses import SQUARED
from subsampled_newton.parameters import check_number
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._whitener import EPS, Whitener, dependence

__all__ = [
    "LeastSquaresState",
    "Refinement",
    "begin",
    "check_rtol",
    "checked_problem",
    "iterate",
    "refine",
]

Array = NDArray[np.float64]
Inner = Literal["direct", "cg", "momentum"]
MAX_INNER = 100
"""Inner iterations after which the gradient is computed anew in any case."""
LOST = 100 * EPS
"""Backward error outside the range of W that is no rounding error."""


@dataclass(frozen=True)
class Refinement:
    """An anchor and the inner iterations since."""

    whitener: Whitener
    inner: Inner
    """``"direct"``: one step ``-W W'g``, for a W that is believed exact."""
    beta: float
    """Of the momentum: d over the rows of the sketch."""
    anchor: Array
    anchor_gradient: Array
    anchor_value: float
    shift: Array
    """From the anchor to w. Apart, so that w is rounded once."""
    gradient: Array
    """At w, by recursion."""
    memory: Array
    """Search direction (cg) or the shift before (momentum)."""
    progress: float
    """``||W'g||`` at w; squared, it is the rho of conjugate gradients."""
    start: float
    """``||W'g||`` at the anchor."""
    backward_error: float = math.inf
    """At the anchor, where it was needed."""
    stalled: bool = False
    """Whether it was not halved since the anchor before."""
    tight: bool = False
    """Whether ``rtol`` no longer counts: the driver asked for more, or it is too
    small for the condition number."""

    @property
    def w(self) -> Array:
        return self.anchor + self.shift


@dataclass(frozen=True)
class LeastSquaresState(State):
    """State of the solvers of least squares."""

    refinement: Refinement | None = None
    finished: bool = False
    """Nothing is left to gain."""
    failed: bool = False
    """The factor is useless: it lost a direction, or the iteration diverges."""
    sketch_size: int = 0
    """Rows of the sketch; doubled when it has failed."""

    @property
    def proved(self) -> bool:
        """Whether the factor says so: its step is small, or the error is rounding."""
        known = self.refinement is not None and not self.failed
        return known and self.gradient_estimate is None


def checked_problem(problem: FiniteSum, name: str) -> LinearModel:
    """Return the problem if it is one of least squares."""
    if isinstance(problem, LinearModel) and problem.loss is SQUARED:
        return problem
    what = type(problem).__name__
    if isinstance(problem, LinearModel):
        what += f" with the {problem.loss.name} loss"
    raise TypeError(f"{name} needs a LinearModel with the squared loss, got {what}")


def check_rtol(rtol: float) -> None:
    """Refuse what is not a tolerance."""
    check_number("rtol", rtol, "in [0, 1)")


def begin(problem: LinearModel, point: Point, sketch_size: int) -> LeastSquaresState:
    """State before the first step: nothing is computed that the solver does not use.

    The gradient norm alone does not tell the distance from the solution: at a condition
    number of 1e8 it is 1e-16 with not one digit right. An infinite estimate keeps the
    driver from its test until the solver is content.
    """
    at_zero = not np.any(point.w)
    return LeastSquaresState(
        point,
        gradient_estimate=math.inf,
        value_estimate=problem.value_at_zero() if at_zero else math.nan,
        sketch_size=sketch_size,
    )


def refine(
    problem: LinearModel,
    state: LeastSquaresState,
    w: Array,
    whitener: Whitener,
    *,
    inner: Inner,
    rtol: float,
    beta: float = 0.0,
) -> LeastSquaresState:
    """Make w the first anchor, without what the factor gives no weight."""
    w = whitener.inside(w)
    columns = problem.rows.columns
    note = dependence(whitener, columns.n_params, columns.intercept)
    state = replace(state, note=note)
    zero = np.zeros_like(w)
    refinement = Refinement(
        whitener, inner, beta, w, zero, math.nan, zero, zero, zero, math.inf, math.inf
    )
    return _anchored(problem, state, refinement, w, rtol)


def iterate(
    problem: LinearModel, state: LeastSquaresState, rtol: float
) -> LeastSquaresState:
    """One inner iteration, and a new anchor when they have done what they can."""
    run = state.refinement
    assert run is not None
    state = replace(state, iteration=state.iteration + 1)
    if state.finished:  # but the driver is not content: its gradient is rounding
        return replace(state, outcome=Status.STALLED)
    if state.gradient_estimate is None:
        run = replace(run, tight=True)
    if run.inner == "direct":
        w = run.anchor + run.whitener.step(run.gradient)
        return _anchored(problem, replace(state, step_size=1.0), run, w, rtol)
    advance, before = (_cg if run.inner == "cg" else _momentum), run.progress
    run, value, step_size = advance(problem, run, state.value_estimate)
    state = replace(
        state,
        value_estimate=value,
        step_size=step_size,
        inner_iterations=state.inner_iterations + 1,
    )
    if not run.progress <= 100.0 * run.start:
        return replace(state, point=problem.at(run.anchor), failed=True)
    if _exhausted(run, before, value, rtol) or state.inner_iterations >= MAX_INNER:
        return _anchored(problem, state, run, run.w, rtol)
    point = problem.at(run.w)
    return replace(state, point=point, refinement=run, gradient_estimate=math.inf)


def _anchored(
    problem: LinearModel,
    state: LeastSquaresState,
    run: Refinement,
    w: Array,
    rtol: float,
) -> LeastSquaresState:
    """Compute the gradient at w, and judge how exact w is.

    The solver is content when the step that the factor predicts is at most ``rtol``
    times w, columns in units of their norms, or when the backward error is that of
    rounding, or is no longer halved from anchor to anchor.
    """
    whitener, inner = run.whitener, run.inner
    point = problem.at(w)
    g, value = point.gradient, point.value
    step, norm = whitener.step(g), float(np.linalg.norm(whitener.whiten(g)))
    first = not math.isfinite(run.start)
    near = whitener.norm(step) <= rtol * whitener.norm(w)
    # What recursion promised and the new gradient denies is below its rounding.
    tight = run.tight or (not near and not first and _near(run, w, rtol))
    near = near and not tight
    outside = whitener.outside(g, w, value)
    error, stalled, finished = math.inf, False, False
    slow = norm > 0.1 * run.start
    if not near and (inner != "direct" or slow or (first and np.any(w))):
        error = whitener.backward_error(g, w, value)
        stalled = error > 0.5 * run.backward_error
        # Twice: one of several refinements may show no progress at condition 1e10.
        done = stalled and run.stalled and inner != "direct"
        finished = done or error <= EPS
        if slow and inner == "direct":
            inner = "cg"
    failed = outside > LOST and (near or outside > 0.5 * error)
    tested = not failed and (near or finished or not math.isfinite(norm + value))
    zero = np.zeros_like(w)
    run = replace(
        run,
        inner=inner,
        anchor=w,
        anchor_gradient=g,
        anchor_value=value,
        shift=zero,
        gradient=g,
        memory=step if inner == "cg" else zero,
        progress=norm,
        start=norm,
        backward_error=error,
        stalled=stalled,
        tight=tight,
    )
    return replace(
        state,
        point=point,
        gradient_estimate=None if tested else math.inf,
        value_estimate=value,
        inner_iterations=0,
        refinement=run,
        finished=finished,
        failed=failed,
    )


def _cg(
    problem: LinearModel, run: Refinement, value: float
) -> tuple[Refinement, float, float]:
    """One iteration of conjugate gradients on ``W'HW``, in the coordinates of w.

    The iterates are those of LSQR on ``A W``; a product with H costs one read of the
    data where LSQR makes two.
    """
    p = run.memory
    product = _hessian(problem).matvec(p)
    rho, curvature = run.progress**2, float(p @ product)
    if not curvature > 0.0:  # the anchor is exact, or nothing here is finite
        progress = 0.0 if rho == 0.0 else math.inf
        return replace(run, progress=progress), value, 0.0
    a = rho / curvature
    gradient = run.gradient + a * product
    norm = float(np.linalg.norm(run.whitener.whiten(gradient)))
    memory = run.whitener.step(gradient) + (norm**2 / rho) * p
    shift = run.shift + a * p
    run = replace(run, shift=shift, gradient=gradient, memory=memory, progress=norm)
    return run, value - 0.5 * a * rho, a


def _momentum(
    problem: LinearModel, run: Refinement, value: float
) -> tuple[Refinement, float, float]:
    """One iteration of the heavy ball method with the steps for Gaussian sketches.

    The error falls by ``sqrt(d / s)`` an iteration, s the rows of the sketch, without
    an inner product.
    """
    a = (1.0 - run.beta) ** 2
    momentum = run.beta * (run.shift - run.memory)
    shift = run.shift + a * run.whitener.step(run.gradient) + momentum
    gradient = run.anchor_gradient + _hessian(problem).matvec(shift)
    norm = float(np.linalg.norm(run.whitener.whiten(gradient)))
    value = run.anchor_value + 0.5 * float(shift @ (run.anchor_gradient + gradient))
    run = replace(run, shift=shift, gradient=gradient, memory=run.shift, progress=norm)
    return run, value, a


def _exhausted(run: Refinement, before: float, value: float, rtol: float) -> bool:
    """Whether a new gradient is due. ``before`` is the progress an iteration ago."""
    whitener, w = run.whitener, run.w
    # Products with W'HW have a relative error of about this. Conjugate gradients
    # pretend to go on below it, momentum stays there.
    level = EPS * whitener.condition * run.start
    stuck = run.inner == "momentum" and before < run.progress <= 100.0 * level
    if run.progress <= 0.1 * level or stuck:
        return True
    if not run.tight and _near(run, w, 0.5 * rtol):
        return True
    error = whitener.backward_error(run.gradient, w, value)
    return error <= EPS / 8 or whitener.outside(run.gradient, w, value) > 0.5 * error


def _near(run: Refinement, w: Array, rtol: float) -> bool:
    """Whether the step that the factor predicts at w is small."""
    step = run.whitener.step(run.gradient)
    return run.whitener.norm(step) <= rtol * run.whitener.norm(w)


def _hessian(problem: LinearModel) -> LinearHessian:
    weights = problem.weights / problem.n_samples
    return LinearHessian(problem.rows, weights, problem.l2, problem.work)
