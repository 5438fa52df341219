"""Direct solvers of least squares: normal equations and Householder QR."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.factor import triangular_factor
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.parameters import check_one_of
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._refinement import (
    LeastSquaresState,
    begin,
    check_rtol,
    checked_problem,
    iterate,
    refine,
)
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._whitener import Whitener, factored

__all__ = ["DirectLeastSquares", "WhitenedLeastSquares"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DirectLeastSquares:
    """Least squares by one factorisation, for the squared loss.

    Minimizes ``F(w) = (1/2n) sum_i s_i (x_i'w - y_i)**2 + (1/2) sum_j l2_j w_j**2``.

    Parameters
    ----------
    method : {"auto", "cholesky", "qr"}, default "auto"
        ``"cholesky"``: normal equations, then refinement with the gradient of the
        residual, one read of the data each; with conjugate gradients where that
        contracts slowly. Fails above a condition number of 1e7, with a status.
        ``"qr"``: Householder QR of blocks of rows and of their factors, two to four
        times the work of the Gram matrix, for every condition number. Sparse rows are
        made dense. ``"auto"``: the first, and the second if the Gram matrix is not
        numerically of full rank: above a condition number of about 1e7.
    rtol : float, default 0
        Refine until the predicted error of w is at most ``rtol`` times w, columns in
        units of their norms. The default asks for the backward error of QR.

    Raises
    ------
    TypeError
        By `minimize`, if the loss is not the squared one.

    Notes
    -----
    As in the papers, with columns of norm one; the refinement with conjugate gradients
    where steps contract slowly is our own.

    References
    ----------
    .. [1] A. Bjorck, Numerical Methods for Least Squares Problems, 1996, sections 2.2
       and 2.9.
    .. [2] J. Demmel, L. Grigori, M. Hoemmen, J. Langou, Communication-optimal parallel
       and sequential QR and LU factorizations, SIAM J. Sci. Comput. 2012.
    """

    method: Literal["auto", "cholesky", "qr"] = "auto"
    rtol: float = 0.0

    def __post_init__(self) -> None:
        check_one_of("method", self.method, ("auto", "cholesky", "qr"))
        check_rtol(self.rtol)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> LeastSquaresState:
        """State before the first step. A start other than 0 is judged by the factor."""
        problem = checked_problem(problem, "DirectLeastSquares")
        state = begin(problem, point, problem.n_samples)
        return self._started(problem, state) if np.any(point.w) else state

    def step(
        self, problem: FiniteSum, state: LeastSquaresState, rng: np.random.Generator
    ) -> LeastSquaresState:
        """Factor and solve in the first step, refine in the others."""
        assert isinstance(problem, LinearModel)
        if state.refinement is None:
            state = self._started(problem, state)
            if state.outcome is not None or state.gradient_estimate is None:
                return replace(state, iteration=1)
        if not state.failed:
            state = iterate(problem, state, self.rtol)
        # The Gram matrix has lost a direction in which the gradient is not zero.
        return replace(state, outcome=Status.NOT_DESCENT) if state.failed else state

    def _started(
        self, problem: LinearModel, state: LeastSquaresState
    ) -> LeastSquaresState:
        """Factor; solve, if the factor is that of QR; make the result the anchor."""
        n, w = problem.n_samples, state.point.w
        noise = problem.rows.columns.noise
        state = replace(state, hessian_rows=n)
        if self.method != "qr":
            gram = problem.rows.gram(problem.weights / n)
            gram[np.diag_indices_from(gram)] += problem.l2
            if not np.all(np.isfinite(gram)):
                return replace(state, outcome=Status.NON_FINITE)
            strict = self.method == "cholesky"
            with contextlib.suppress(np.linalg.LinAlgError):
                whitener = Whitener.from_gram(
                    gram, truncate=strict, noise=noise, ridge=problem.l2
                )
                if strict or whitener.rank == len(gram):
                    return refine(
                        problem, state, w, whitener, inner="direct", rtol=self.rtol
                    )
        scale = np.sqrt(np.asarray(problem.weights) / n)
        F = triangular_factor(problem.rows, scale, np.asarray(problem.y))
        factor, solution = factored(F, problem.l2, noise=noise)
        if factor is None:
            return replace(state, outcome=Status.NON_FINITE)
        if np.any(w):
            return refine(problem, state, w, factor, inner="cg", rtol=self.rtol)
        state = refine(problem, state, solution, factor, inner="cg", rtol=self.rtol)
        return replace(state, gradient_estimate=None, finished=True)


@dataclass(frozen=True)
class WhitenedLeastSquares:
    """Least squares with a factor that another target has paid for.

    The matrix, the weights and the ridge must be the same. Conjugate gradients with
    refinement: some reads of the data, and a step each.

    Parameters
    ----------
    whitener : Whitener
        ``result.checkpoint.state.refinement.whitener`` of another solver of least
        squares.
    rtol : float, default 0
        As in `DirectLeastSquares`.
    """

    whitener: Whitener = field(compare=False)
    rtol: float = 0.0

    def __post_init__(self) -> None:
        check_rtol(self.rtol)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> LeastSquaresState:
        """State before the first step: the start, judged by the factor."""
        problem = checked_problem(problem, "WhitenedLeastSquares")
        state = begin(problem, point, 0)
        return refine(
            problem, state, point.w, self.whitener, inner="cg", rtol=self.rtol
        )

    def step(
        self, problem: FiniteSum, state: LeastSquaresState, rng: np.random.Generator
    ) -> LeastSquaresState:
        """One inner iteration."""
        assert isinstance(problem, LinearModel)
        if not state.failed:
            state = iterate(problem, state, self.rtol)
        return replace(state, outcome=Status.NOT_DESCENT) if state.failed else state
