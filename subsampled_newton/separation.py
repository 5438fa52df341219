"""Whether classes are linearly separable, so that no minimizer exists.

A margin is by how much the own class of a row leads another one. A direction whose
margins are all >= 0, and one of them > 0, separates the classes: along it the loss
falls for ever. By Stiemke's lemma there is none exactly where positive weights of the
margins' rows cancel, ``A'a = 0``. The derivatives of the loss are such weights, up to
the gradient, and a Newton step s changes them to first order so that they cancel
exactly: by the factor ``1 + u_k - sum_l p_l u_l`` for class k of a row with the changes
u of its predictions. Where these factors are positive a minimizer exists, and one
factor of the Hessian has proved it. They go to 0 on rows that a direction separates:
Newton's method raises their margins by 1 or more in every step, for ever. The other
rows then lie on its plane: it is in their null space, and what it does to all rows is
verified by one read of them.
"""

from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray

from subsampled_newton import _parallel
from subsampled_newton._interrupts import quiet
from subsampled_newton._memory import NotEnoughMemory
from subsampled_newton.embeddings import dense_block
from subsampled_newton.linear_model import (
    FORMED_MAX_PARAMS,
    FORMED_SPEED,
    LinearModel,
    LinearPoint,
)
from subsampled_newton.losses import LOGISTIC
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.subproblems.conjugate_gradient import conjugate_gradient

__all__ = ["Verdict", "examined"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

NEAR = 10.0
"""A margin of the rows that are fitted almost exactly: their share of the gradient is
5e-5 of what it was."""
COARSE = 1e-6
"""Norm of a gradient that is no sign of a minimum."""
SAFE = 0.5
"""By how much of itself the Newton step may lower a weight: 1 is the limit."""
FAR = 25.0
"""Margin from which on a row has no curvature that a sum of all would show."""
ROUNDING = 1e-11
"""Share of its length by which a row may be behind a plane that it lies on. Columns
that are shifted by many times their size lose digits: `OF_SHIFTS` of that."""
OF_SHIFTS = 1e-14
PROGRAM = 1e-7
"""The same for what a linear program has found."""
AHEAD = 1e-6
"""The same for rows that are on the right side."""
DEPENDENT = 1e-12
"""Square of what is left of a column of length one that others explain."""
PRODUCTS = 200
"""Products with a Hessian that is not formed."""
SMALL_PROGRAM = 200_000
"""Numbers in the largest linear program."""
SECONDS = 20.0
"""Limit of the linear program, after which nothing is claimed."""


class Verdict(NamedTuple):
    """What is known, and the peak of the memory that it took beside the data."""

    separable: bool
    memory_bytes: int


def examined(
    problem: LinearModel, w: Array, *, failed: bool = False, most: float = math.inf
) -> Verdict:
    """Look for a direction that separates the classes.

    Parameters
    ----------
    problem : LinearModel
        Of signs, of 0 and 1, or a `SoftmaxModel`, without a ridge.
    w : ndarray of shape (n_params,)
        Where a solver has ended. If all rows are classified correctly there, the
        classes are separable; if none is fitted almost exactly, nothing is claimed
        after one read of the data.
    failed : bool, default False
        Whether the solver has failed: it may be far from fitting any row.
    most : float, default inf
        Propagations that the look may cost, as those of the fit.

    Returns
    -------
    Verdict
        Separable only where a direction has been found and tried on all rows.
    """
    point = problem.at(w)
    pairs = _Pairs(problem)
    with quiet(over="ignore", invalid="ignore"):
        margins = pairs.margins(np.asarray(point.z))
        norm = float(np.linalg.norm(point.gradient))
    if margins.min() > 0.0:
        return Verdict(True, pairs.memory)
    if not (failed or margins.max() >= NEAR or not norm <= COARSE):
        return Verdict(False, pairs.memory)
    look = _Look(problem, point, pairs, most)
    known = None
    if problem.loss is LOGISTIC or isinstance(problem, SoftmaxModel):
        with quiet(all="ignore"):
            known = look.by_newton_step()
    if known is None:
        known = look.by_program()
    return Verdict(known, look.memory)


class _Pairs:
    """Rows in use and, for each of them, the classes that are not its own."""

    def __init__(self, problem: LinearModel) -> None:
        self.problem = problem
        self.used = np.flatnonzero(np.asarray(problem.weights) > 0.0)
        self.y = np.asarray(problem.y)[self.used]
        self.several = isinstance(problem, SoftmaxModel)
        K = problem.outputs[0] if self.several else 1
        self.others = max(1, K - 1)
        if self.several:
            self.own: Mask = np.arange(K)[:, None] == self.y
        self.memory = 8 * problem.n_samples * (4 + 5 * K)

    def margins(self, z: Array) -> Array:
        """By how much the own class is ahead, from predictions of all rows."""
        z = z[..., self.used]
        if not self.several:
            margins: Array = _signs(self.problem, self.y) * z
        else:
            ahead: Array = (z[self.own.T.nonzero()[1], np.arange(len(self.y))] - z).T
            margins = ahead[~self.own.T]
        return margins

    def lags(self, z: Array, u: Array) -> Array:
        """By how much of themselves the weights fall where predictions move by u."""
        if not self.several:
            margins, moves = self.margins(z), self.margins(u)
            lags: Array = moves / (1.0 + np.exp(-margins))
            return lags
        rows = self.problem.rows
        P = np.asarray(rows.class_probabilities(rows.place(z)))
        behind: Array = (np.sum(P * u, axis=0) - u)[:, self.used].T
        lags = behind[~self.own.T]
        return lags

    def of_rows(self, values: Array) -> Array:
        """A number of every row in use, repeated for its pairs."""
        return np.repeat(values, self.others)

    def rows_with(self, pairs: Mask) -> Mask:
        """Rows in use with one of the pairs at least."""
        found: Mask = np.any(pairs.reshape(-1, self.others), axis=1)
        return found

    def gram(self, pairs: Mask) -> Array:
        """Matrix with the null space of the margins of some pairs."""
        problem, rows = self.problem, self.problem.rows
        n = problem.n_samples
        weights = np.zeros(n)
        weights[self.used] = self.rows_with(pairs)
        if not self.several:
            return rows.gram(rows.place(weights))
        # Probabilities of the own class and of those in a pair with it.
        P = np.zeros((len(self.own), n))
        kept = self.own.T.copy()
        kept[~self.own.T] = pairs
        P[:, self.used] = kept.T / np.sum(kept, axis=1)
        G = rows.class_hessian(rows.place(P), rows.place(weights))
        return G.reshape(problem.n_params, problem.n_params)


class _Look:
    """A look for a direction that separates, from where a fit has ended."""

    def __init__(
        self, problem: LinearModel, point: LinearPoint, pairs: _Pairs, most: float
    ) -> None:
        self.problem, self.point, self.pairs = problem, point, pairs
        self.products = int(min(PRODUCTS, most / (2 * problem.n_samples)))
        # Two matrices and their factors, in units of multiplications by a vector.
        n, d, K = problem.n_samples, problem.n_params, pairs.others
        entries = problem.rows._n_elements
        made = entries * (entries / n) * (K * (K + 1) / 2)
        cost = 2.0 * (made + d**3 / 3) / FORMED_SPEED
        self.forms = d <= FORMED_MAX_PARAMS and cost <= entries * K * most / (2 * n)
        self.memory = pairs.memory

    def by_newton_step(self) -> bool | None:
        """Whether a direction separates; None if the Newton step does not tell."""
        problem, pairs, z = self.problem, self.pairs, np.asarray(self.point.z)
        step, rank = self._step()
        if step is None or not np.all(np.isfinite(step)):
            return None
        margins = pairs.margins(z)
        lags = pairs.lags(z, np.asarray(problem.predictions(step)))
        far = ~(lags <= SAFE)
        determined = rank == problem.n_params
        if rank and not np.any(far) and (determined or margins.max() <= FAR):
            return False
        far |= ~(margins <= FAR)
        Z, free = self._null_space(~far)
        if Z is None:
            mask = np.zeros(problem.n_params)
            mask[free] = 1.0
            directions = [step * mask, self.point.w * mask]
        else:
            directions = [Z @ step[free], Z @ self.point.w[free]]
        if any(self._separates(v) for v in directions):
            return True
        if Z is None or not 0 < Z.shape[1] * np.sum(far) <= SMALL_PROGRAM:
            return None
        return self._separates_within(Z, far) or None

    def _step(self) -> tuple[Array | None, int]:
        """Newton step, and directions with curvature; 0 of them if it is not exact."""
        problem, d = self.problem, self.problem.n_params
        gradient = self.point.gradient
        hessian = problem.hessian_at(self.point.z, 1.0 / problem.n_samples, "hessian")
        if self.forms:
            with contextlib.suppress(NotEnoughMemory):
                self._needs(8 * d * d * (4 + _parallel.n_threads()))
                H = hessian.dense()
                if not np.all(np.isfinite(H)):
                    return None, 0
                size, R, order, rank = _pivoted(H)
                step = np.zeros(d)
                scaled = (gradient / size)[order[:rank]]
                lower = scipy.linalg.solve_triangular(R[:, :rank], scaled, trans="T")
                step[order[:rank]] = -scipy.linalg.solve_triangular(R[:, :rank], lower)
                return step / size, rank
        self.forms = False
        # In units of the curvature of each parameter: what separates has little of it.
        size = np.sqrt(hessian.diagonal())
        found = conjugate_gradient(
            lambda v: hessian.matvec(v / size) / size,
            gradient / size,
            rtol=1e-3,
            max_iter=self.products,
        )
        return found.vector / size, d * (found.status == "converged")

    def _null_space(self, near: Mask) -> tuple[Array | None, NDArray[np.intp]]:
        """Directions that move no margin of the near pairs, as columns.

        Column k has the coordinate 1 in the k-th of the free parameters, and 0 in the
        others of them. Without a matrix only parameters are found that the rows do not
        have, such as those of categories.
        """
        problem, d = self.problem, self.problem.n_params
        if not self.forms:
            weights = np.zeros(problem.n_samples)
            weights[self.pairs.used] = self.pairs.rows_with(near)
            rows = problem.rows
            absent = np.asarray(rows.gram_diagonal(rows.place(weights))) == 0.0
            repeated = np.tile(absent, d // rows.n_params)
            return None, np.flatnonzero(repeated)
        size, R, order, rank = _pivoted(self.pairs.gram(near))
        free = order[rank:]
        Z = np.zeros((d, d - rank))
        Z[free, np.arange(d - rank)] = 1.0
        # Of columns of length one, and back to those of the problem.
        inner = scipy.linalg.solve_triangular(R[:, :rank], R[:, rank:])
        Z[order[:rank]] = -inner * size[free] / size[order[:rank], None]
        self._needs(8 * d * (2 * d + 2 * len(free)))
        return Z, free

    def _separates(self, v: Array, rounding: float = ROUNDING) -> bool:
        """Whether all rows are on the right side of a plane or on it, some clearly."""
        length = float(np.linalg.norm(v))
        if not (0.0 < length < math.inf):
            return False
        rows = self.problem.rows
        ahead = self.pairs.margins(np.asarray(self.problem.predictions(v / length)))
        norms = np.sqrt(np.asarray(rows.row_norms())[self.pairs.used])
        norms[norms == 0.0] = 1.0
        share = ahead / self.pairs.of_rows(norms)
        columns = rows.columns
        offset = float(np.linalg.norm(columns.shift * columns.scale))
        rounding = max(rounding, min(OF_SHIFTS * offset, 1e-3 * AHEAD))
        return bool(share.min() >= -rounding and share.max() >= AHEAD)

    def _separates_within(self, Z: Array, far: Mask) -> bool:
        """Whether a combination of directions separates, by a linear program."""
        pairs, problem = self.pairs, self.problem
        keep = pairs.used[pairs.rows_with(far)]
        part = problem.restrict(keep)
        there = _Pairs(part)
        which = far.reshape(-1, pairs.others)[pairs.rows_with(far)].ravel()
        moves = [
            there.margins(np.asarray(part.predictions(column)))[which] for column in Z.T
        ]
        found = self._solution(np.column_stack(moves))
        return found is not None and self._separates(Z @ found, PROGRAM)

    def by_program(self) -> bool:
        """Whether a linear program finds a direction, if it is small (Konis 2007)."""
        if len(self.pairs.used) * self.pairs.others * self.problem.n_params > (
            SMALL_PROGRAM
        ):
            return False
        return self._solution(_margin_rows(self.problem, self.pairs.used)) is not None

    def _solution(self, A: Array) -> Array | None:
        """Maximise ``sum_i a_i'p`` under ``a_i'p >= 0``: p, if that is above 0."""
        self._needs(6 * A.nbytes)
        solution = scipy.optimize.linprog(
            -A.sum(axis=0),
            A_ub=-A,
            b_ub=np.zeros(len(A)),
            bounds=(-1.0, 1.0),
            options={"time_limit": SECONDS},
        )
        if solution.status != 0:
            return None
        # The program keeps its constraints to 1e-7: along a difference of nearly equal
        # columns, rows on both sides of a plane pass for rows on it.
        ahead = A @ solution.x
        behind = -float(np.sum(ahead[ahead < 0.0]))
        enough = ahead.sum() > max(1e-6 * np.abs(A).max(), 100.0 * behind)
        return np.asarray(solution.x) if enough else None

    def _needs(self, n_bytes: int) -> None:
        self.memory = max(self.memory, self.pairs.memory + n_bytes)


def _pivoted(G: Array) -> tuple[Array, Array, NDArray[np.intp], int]:
    """Sizes of the columns, factor of G for columns of size one, order, and rank.

    ``R'R = G[order][:, order]`` for the columns over their sizes; only ``rank`` rows
    of R are returned, the others are zero up to rounding.
    """
    size = np.sqrt(np.diag(G))
    size[~(size > 0.0)] = 1.0
    scaled = G / size
    scaled /= size[:, None]
    tol = max(DEPENDENT, len(G) * np.finfo(np.float64).eps)
    R, pivots, rank, _ = scipy.linalg.lapack.dpstrf(scaled, tol=tol, overwrite_a=True)
    order = np.asarray(pivots, dtype=np.intp) - 1
    return size, np.triu(R)[:rank], order, int(rank)


def _signs(problem: LinearModel, y: Array) -> Array:
    return y if problem.loss.targets == "sign" else 2.0 * y - 1.0


def _margin_rows(problem: LinearModel, used: NDArray[np.intp]) -> Array:
    """Rows A such that ``A @ w`` are the margins of the rows in use."""
    y = np.asarray(problem.y)[used]
    X = dense_block(problem.rows.take(used).on_host(), 0, len(used))
    if not isinstance(problem, SoftmaxModel):
        return X * _signs(problem, y)[:, None]
    # W = B V with B from its columns; the margin of class k is (B_y - B_k) V x.
    K = problem.loss.n_classes
    root = np.sqrt(K)
    B = np.vstack([np.eye(K - 1) - 1.0 / (K + root), np.full(K - 1, -1.0 / root)])
    rows = [
        np.kron(B[int(own)] - B[k], x)
        for x, own in zip(X, y, strict=True)
        for k in range(K)
        if k != own
    ]
    return np.array(rows)
