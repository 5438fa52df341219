"""Least squares by sketching: solve, iterate or precondition with a small problem."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.embeddings import (
    Embedding,
    Gaussian,
    RowSample,
    SparseSign,
    SubsampledHadamard,
    identity,
)
from subsampled_newton.leverage import sketched_leverage
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.parameters import check_count, check_one_of
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers import _iterative_sketching
from subsampled_newton.solvers._iterative_sketching import Iteration
from subsampled_newton.solvers._refinement import (
    LeastSquaresState,
    begin,
    check_rtol,
    checked_problem,
    iterate,
    refine,
)
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._sizes import sketch_size
from subsampled_newton.solvers._whitener import factored

__all__ = ["SketchedLeastSquares", "sketch_size"]

Array = NDArray[np.float64]
Kind = Literal["sparse-sign", "count-sketch", "srht", "gaussian", "leverage", "uniform"]
ITERATIONS = ("refined", "basic", "damped", "momentum")
METHODS = ("precondition", "iterative", "solve")
KINDS = ("sparse-sign", "count-sketch", "srht", "gaussian", "leverage", "uniform")


@dataclass(frozen=True)
class SketchedLeastSquares:
    """Least squares with a random embedding S of the rows, for the squared loss.

    Minimizes ``F(w) = (1/2n) sum_i s_i (x_i'w - y_i)**2 + (1/2) sum_j l2_j w_j**2``.
    With A the rows ``sqrt(s_i / n) x_i`` and the ridge rows ``sqrt(l2_j) e_j`` below
    them, which are not sketched, and R the triangular factor of the sketch of A, all
    methods start at the minimizer of the sketched problem:

    - ``"solve"`` ends there. The value is ``1 + O(d / size)`` times the least one, and
      the status says that this is not the minimizer, unless the gradient is small.
    - ``"precondition"``: conjugate gradients on ``A R**-1``, whose iterates are those
      of LSQR at half the reads of the data.
    - ``"iterative"``: iterative sketching with momentum, ``beta = d / size``: the error
      falls by ``sqrt(d / size)`` an iteration without inner products, if the sketch is
      as good as a Gaussian one. As published with another ``iteration``.

    The last two refine until the result has the backward error of Householder QR
    (`_refinement`), whatever the condition number below about 1e13. Dependent columns
    are found in the sketch; the solution is then that of the smallest norm, columns in
    units of their norms. A sketch that has lost a direction, which the gradient shows,
    is drawn anew with twice the rows. An iteration reads the data once.

    Parameters
    ----------
    method : {"precondition", "iterative", "solve"}, default "precondition"
        The first needs no assumption on the sketch to converge.
    embedding : str, default "sparse-sign"
        ``"sparse-sign"``: eight signs a row, safe on every kind of data;
        ``"count-sketch"``: one sign, one addition per entry, but rows that alone carry
        a direction may collide; ``"srht"``: Walsh-Hadamard transform; ``"gaussian"``:
        for experiments; ``"leverage"``: rows by approximate leverage scores;
        ``"uniform"``: rows, fails where few rows matter.
    sketch_size : int, optional
        Rows of the sketch, more than parameters. Default: see `sketch_size`. All rows
        are used when half of them or more would be.
    iteration : {"refined", "basic", "damped", "momentum"}, default "refined"
        Of ``"iterative"``: refinement around it, or the methods of [2]_ themselves,
        which are forward stable only: ``"basic"``, with steps of one, for sketches of
        20 d rows (12 d at least); ``"damped"``; ``"momentum"``. They stop by the rule
        of [2]_ or after 100 iterations.
    rtol : float, default 0
        Refine until the predicted error of w is at most ``rtol`` times w, columns in
        units of their norms. The default asks for the backward error of QR.

    Raises
    ------
    TypeError
        By `minimize`, if the loss is not the squared one.

    Notes
    -----
    Differs from the papers in the refinement, which none but [3]_ has; in a ridge that
    is not sketched; in sketches drawn anew where one has failed; and, for samples of
    rows by leverage scores, in the probabilities ``0.9 p + 0.1 / n``. With another
    ``iteration`` than ``"refined"`` the method is that of [2]_, but for the stop test,
    in which columns have the norm one and the norm of the matrix is Frobenius'.

    References
    ----------
    .. [1] V. Rokhlin, M. Tygert, A fast randomized algorithm for overdetermined linear
       least-squares regression, PNAS 2008: the sketch as a preconditioner; H. Avron, P.
       Maymounkov, S. Toledo, Blendenpik, SIAM J. Sci. Comput. 2010.
    .. [2] E. N. Epperly, Fast and forward stable randomized algorithms for linear
       least-squares problems, SIAM J. Matrix Anal. Appl. 2024, Algorithm 1 and (1.5).
    .. [3] E. N. Epperly, M. Meier, Y. Nakatsukasa, Fast randomized least-squares
       solvers can be just as accurate and stable as classical direct solvers, Comm.
       Pure Appl. Math. 2025: refinement; the start at the sketched solution.
    .. [4] P. Drineas, M. W. Mahoney, S. Muthukrishnan, T. Sarlos, Faster least squares
       approximation, Numer. Math. 2011: sketch and solve.
    """

    method: Literal["precondition", "iterative", "solve"] = "precondition"
    embedding: Kind = "sparse-sign"
    sketch_size: int | None = None
    rtol: float = 0.0
    iteration: Iteration = "refined"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("method", METHODS),
            ("embedding", KINDS),
            ("iteration", ITERATIONS),
        ):
            check_one_of(name, getattr(self, name), allowed)
        check_count("sketch_size", self.sketch_size, 2, optional=True)
        check_rtol(self.rtol)
        if self.iteration != "refined" and self.method != "iterative":
            raise ValueError(
                "iteration must be 'refined' unless method is 'iterative', got "
                f"{self.iteration!r} with method={self.method!r}"
            )

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> LeastSquaresState:
        """State before the first step. A start other than 0 is judged by the sketch."""
        problem = checked_problem(problem, "SketchedLeastSquares")
        n, d = problem.n_samples, problem.n_params
        size = self.sketch_size or sketch_size(self.embedding, n, d)
        if self.sketch_size is None and self.iteration == "basic":
            size = max(size, 20 * d)
        if size <= d < n:
            raise ValueError(
                f"sketch_size must be larger than the {d} parameters, got {size}"
            )
        state = begin(problem, point, size)
        if np.any(point.w) and self.method != "solve":
            return self._sketched(problem, state, rng)
        return state

    def step(
        self, problem: FiniteSum, state: LeastSquaresState, rng: np.random.Generator
    ) -> LeastSquaresState:
        """Sketch and solve in the first step, one inner iteration in the others."""
        assert isinstance(problem, LinearModel)
        if state.finished and self.method == "solve":  # one step is all there is
            return replace(
                state, iteration=state.iteration + 1, outcome=Status.MAX_ITER
            )
        if state.refinement is not None and self.iteration != "refined":
            return _iterative_sketching.advance(problem, state, self.iteration)
        if state.refinement is not None and not state.failed:
            return iterate(problem, state, self.rtol)
        if state.failed and 2 * state.sketch_size >= problem.n_samples:
            return replace(state, outcome=Status.NOT_DESCENT)  # all rows were used
        if state.failed:
            state = replace(state, sketch_size=2 * state.sketch_size, failed=False)
        state = replace(state, iteration=state.iteration + 1)
        return self._sketched(problem, state, rng)

    def _sketched(
        self, problem: LinearModel, state: LeastSquaresState, rng: np.random.Generator
    ) -> LeastSquaresState:
        """Draw a sketch; make its solution the anchor, or the start if it is not 0."""
        scale = np.sqrt(np.asarray(problem.weights) / problem.n_samples)
        noise = problem.rows.columns.noise
        S = self._draw(problem, scale, state.sketch_size, rng)
        F = S.sketch(problem.rows, scale, np.asarray(problem.y))
        whitener, w = factored(F, problem.l2, noise=noise)
        if whitener is None:
            return replace(state, outcome=Status.NON_FINITE)
        if whitener.rank < problem.n_params:
            # Which solution is the smallest must not depend on the draw.
            diagonal = problem.rows.gram_diagonal(scale**2) + problem.l2
            size = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
            whitener, w = factored(F, problem.l2, size, noise)
            assert whitener is not None
        state = replace(state, hessian_rows=len(F))
        if self.method == "solve":
            return replace(
                state, point=problem.at(w), gradient_estimate=None, finished=True
            )
        start = state.point.w if np.any(state.point.w) else w
        if self.iteration != "refined":
            ratio = problem.n_params / len(F)
            return _iterative_sketching.begin(problem, state, start, whitener, ratio)
        return refine(
            problem,
            state,
            start,
            whitener,
            inner="momentum" if self.method == "iterative" else "cg",
            rtol=self.rtol,
            beta=min(0.5, problem.n_params / len(F)),
        )

    def _draw(
        self,
        problem: LinearModel,
        scale: Array,
        size: int,
        rng: np.random.Generator,
    ) -> Embedding:
        n = problem.n_samples
        if 2 * size >= n:
            return identity(n)
        if self.embedding == "gaussian":
            return Gaussian.draw(n, size, rng)
        if self.embedding == "srht":
            return SubsampledHadamard.draw(n, size, rng)
        if self.embedding == "uniform":
            return RowSample.draw(n, size, rng)
        if self.embedding == "leverage":
            scores = sketched_leverage(problem.rows, problem.l2, rng, scale=scale)
            return RowSample.draw(n, size, rng, scores)
        n_signs = 8 if self.embedding == "sparse-sign" else 1
        return SparseSign.draw(n, size, rng, n_signs)
