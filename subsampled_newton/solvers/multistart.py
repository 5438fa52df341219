"""Several starts of one solver, for objectives with more than one minimum."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subsampled_newton.linear_model import LinearModel
from subsampled_newton.parameters import check_count, check_number, generator
from subsampled_newton.problem import FiniteSum, as_vector, check_problem
from subsampled_newton.solvers._driver import Solver, check_solver, named_separable, run
from subsampled_newton.solvers._result import Result, Start
from subsampled_newton.solvers._verdict import column_squares
from subsampled_newton.solvers.sampled_start import SampledStart

__all__ = ["best_of", "multistart"]

Array = NDArray[np.float64]
SAME = 1e-6
"""Share of the lowest value up to which another start has found the same."""


def multistart(
    problem: FiniteSum,
    solver: Solver,
    n_starts: int = 10,
    *,
    w0: ArrayLike | None = None,
    scale: float = 1.0,
    seed: int | np.random.Generator | None = None,
    **options: Any,
) -> Result:
    """Minimize from several starts and return the best result.

    The first start is ``w0``, the second one the minimizer that `SampledStart` finds
    from there on a sample of the rows, the others are random. More starts make it less
    likely that a lower minimum is missed; none makes it certain.

    Parameters
    ----------
    problem : FiniteSum
        The objective.
    solver : Solver
        Runs from every start.
    n_starts : int, default 10
        Number of starts.
    w0 : array-like of shape (n_params,), optional
        First start. Default 0.
    scale : float, > 0, default 1.0
        Size of the random starts: standard deviation of the predictions of a
        `LinearModel` whose columns are independent; otherwise of each parameter around
        ``w0``, in units of the larger of 1 and ``|w0_j|``.
    seed : int or numpy.random.Generator, optional
        Source of all randomness.
    **options
        Further arguments of `minimize`, but ``resume``; its limits are those of a run.

    Returns
    -------
    Result
        The lowest of those that converged, or of all where none did. ``starts`` has the
        status and the value of every run, in their order, ``note`` says how many were
        worse; ``passes``, ``props`` and ``seconds`` are those of all runs.

    Examples
    --------
    >>> import numpy as np
    >>> from subsampled_newton import SIGMOID_SQUARED, LinearModel, TrustRegion
    >>> from subsampled_newton import multistart
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 3))
    >>> y = (X[:, 0] + rng.standard_normal(200) > 0).astype(float)
    >>> problem = LinearModel(SIGMOID_SQUARED, X, y, l2=1e-3)
    >>> result = multistart(problem, TrustRegion(1.0), 4, seed=0)
    >>> len(result.starts)
    4
    """
    check_problem("problem", problem)
    check_solver("solver", solver)
    check_count("n_starts", n_starts)
    check_number("scale", scale, "> 0")
    if "resume" in options:
        raise TypeError("resume continues one run: multistart takes none")
    rng = generator("seed", seed)
    d = problem.n_params
    first = np.zeros(d) if w0 is None else as_vector(w0, d, "w0")
    results = [run(problem, solver, first, seed=rng, **options)]
    if n_starts > 1:
        results.append(run(problem, SampledStart(solver), first, seed=rng, **options))
    sizes = scale * _sizes(problem, first)
    center = 0.0 if isinstance(problem, LinearModel) else first
    for _ in range(2, n_starts):
        start = center + sizes * rng.standard_normal(d)
        results.append(run(problem, solver, start, seed=rng, **options))
    return named_separable(problem, best_of(results))


def best_of(results: list[Result]) -> Result:
    """Return the best of several runs of a problem, with all that they cost."""
    best = min(
        results, key=lambda r: (not r.converged, not math.isfinite(r.value), r.value)
    )
    if len(results) == 1:
        return best
    worse = [r for r in results if not r.value <= best.value + SAME * abs(best.value)]
    note = f"The best of {len(results)} starts; {len(worse)} ended higher"
    highest = max((r.value for r in worse), default=math.nan)
    note += f", up to {highest:.6g}." if worse else "."
    return replace(
        best,
        passes=sum(r.passes for r in results),
        props=1 + sum(r.props - 1 for r in results),
        seconds=sum(r.seconds for r in results),
        memory_bytes=max(r.memory_bytes for r in results),
        device_bytes=max(r.device_bytes for r in results),
        note=f"{best.note} {note}".strip(),
        starts=tuple(
            Start(r.status, r.value, r.gradient_norm, r.n_iter) for r in results
        ),
    )


def _sizes(problem: FiniteSum, center: Array) -> Array:
    """Size of a random start in each parameter."""
    if not isinstance(problem, LinearModel):
        return np.maximum(1.0, np.abs(center))
    squares = np.asarray(column_squares(problem))
    squares = np.tile(squares, problem.n_params // len(squares))
    roots = np.sqrt(np.where(squares > 0.0, squares, 1.0) * len(squares))
    sizes: Array = 1.0 / roots
    return sizes
