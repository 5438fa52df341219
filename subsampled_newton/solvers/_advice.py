"""What to do about an end, and what a converged run on a non-convex problem is."""

from __future__ import annotations

import math
from typing import Any

from subsampled_newton.certificate import Certificate
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.nonlinear_model import NonlinearModel
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._result import Status

__all__ = ["advice", "local_minimum"]

LIMITS = {
    Status.MAX_ITER: "max_iter",
    Status.MAX_TIME: "max_time",
    Status.MAX_PASSES: "max_passes",
}
FEW_STEPS = 20
"""Steps after which nothing is known about how many more a method needs."""
CHECK = "Check the derivatives with check_derivatives"


def advice(status: Status, problem: FiniteSum, solver: Any, state: Any) -> str:
    """Return what to do, for this solver on this problem; "" where the status says."""
    curve = isinstance(problem, NonlinearModel)
    step_size = getattr(solver, "step_size", None)
    own_step = isinstance(step_size, int | float)
    if status in LIMITS:
        more = _more(LIMITS[status], solver, state.iteration)
        if own_step:
            more += f" Or try another step_size than {step_size:g}."
        return more
    if status is Status.NON_FINITE:
        if own_step and state.iteration > 0:
            return f"Take a smaller step_size than {step_size:g}, or the default."
        if curve:
            return (
                "Start where the function, its derivatives and the sum of squares are "
                "finite, or bring the targets nearer to 1."
            )
        return "Check the data for overflow, scale the columns, or start nearer to 0."
    if status is Status.STALLED:
        if own_step:
            return f"Take a larger step_size than {step_size:g}, or the default."
        if curve:
            return "Start elsewhere, or fix a parameter."
        other = "SubsampledNewton or TrustRegion" if problem.convex else "TrustRegion"
        if state.hessian_rows > 0:
            other = "LBFGS"
        return f"Scale the columns, start nearer to 0, or use {other}."
    if status is Status.NOT_DESCENT:
        if problem.convex:
            return f"{CHECK}, add a ridge (l2), or use TrustRegion."
        return "Add a ridge (l2), or use a solver for non-convex problems: TrustRegion."
    if status in (Status.LINE_SEARCH_FAILED, Status.SMALL_STEP):
        if own_step:
            return f"Take a smaller step_size than {step_size:g}, or the default."
        if curve:
            return "Start elsewhere, or fix a parameter: it may not be smooth here."
        if 0 < state.hessian_rows < problem.n_samples:
            return f"Use a larger Hessian sample. {CHECK}."
        return (
            f"{CHECK}. If they are right, they change faster than a step can follow: "
            "use TrustRegion or LBFGS."
        )
    return ""


def _more(name: str, solver: Any, iterations: int) -> str:
    if getattr(solver, "method", None) == "solve":
        return "method='solve' makes one step: method='precondition' goes on."
    if iterations < FEW_STEPS:
        return f"Raise {name}: {iterations} iterations are few."
    return f"Raise {name}, or tol if a larger gradient will do."


def local_minimum(
    problem: FiniteSum, point: Point, solver: Any, certificate: Certificate | None
) -> str:
    """Return what convergence means for an objective that is not convex."""
    if problem.convex:
        return ""
    if certificate is not None:
        note = "The objective is not convex: this is a local minimum, others may be"
        note += " lower, and multistart looks for them."
    else:
        why = "it gives no certificate"
        if getattr(solver, "eps_h", math.nan) is None:
            why = "eps_h=None asks for no certificate"
        elif hasattr(solver, "uncertified"):
            why = solver.uncertified(problem)
        note = (
            "The objective is not convex: this is a local minimum at best. Whether it "
            f"is a saddle point {type(solver).__name__} has not checked ({why}): "
            "certify(problem, result.w) does."
        )
    if isinstance(problem, LinearModel) and problem.value_at_zero() < point.value:
        note += f" F(0) = {problem.value_at_zero():.6g} is lower: start there."
    return note
