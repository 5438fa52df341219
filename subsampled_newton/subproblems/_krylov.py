"""Krylov spaces by Lanczos' method, and models minimized in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import dnrm2

from subsampled_newton.subproblems._step import Step

__all__ = ["Krylov", "minimize_in_krylov_space"]

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
EXHAUSTED = 1e-8
"""A space whose coupling to its next vector is below this fraction of the norm."""


class Krylov:
    """Orthonormal rows ``vectors`` with tridiagonal ``vectors H vectors'``.

    Extended by one product at a time, with full re-orthogonalisation: its cost is
    below that of the product, and copies of converged Ritz values never appear.
    """

    def __init__(
        self,
        matvec: Callable[[Array], Array],
        start: Array,
        capacity: int,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.matvec, self.rng = matvec, rng
        self.vectors = np.empty((capacity, len(start)))
        self.diagonal, self.beta = np.empty(capacity), np.empty(capacity)
        """Of the tridiagonal matrix; the last beta couples to ``following``."""
        self.size = 0
        self.following = start / dnrm2(start)
        self.invariant = self.exhausted = False
        """Products with the space stay in it: to rounding, or almost."""
        self.block = 0
        """First vector after the space was last exhausted."""
        self.norm = 0.0
        """Largest row sum of the tridiagonal matrix: not far above ``||H||``."""

    def extend(self) -> bool:
        """Take one vector more; False, and nothing taken, if H gives no numbers."""
        k, d = self.size, len(self.following)
        if self.exhausted:
            self.block = k
        if self.invariant:
            # What is outside has no link to the space. (Where it is almost invariant,
            # the next vector is mostly rounding, and as good as a random one.)
            assert self.rng is not None
            q = self._orthogonal(self.rng.standard_normal(d), k)
            self.following = q / dnrm2(q)
        self.vectors[k] = self.following
        product = self.matvec(self.following)
        self.diagonal[k] = alpha = float(self.following @ product)
        if not math.isfinite(alpha):
            return False
        rest = self._orthogonal(product, k + 1)
        beta = float(dnrm2(rest))
        before = self.beta[k - 1] if k > self.block else 0.0
        self.norm = max(self.norm, float(abs(alpha) + beta + before))
        self.invariant = k + 1 == d or beta <= (10 + d) * EPS * self.norm
        self.exhausted = self.invariant or beta <= EXHAUSTED * self.norm
        self.beta[k] = 0.0 if self.invariant else beta
        if not self.invariant:
            self.following = rest / beta
        self.size = k + 1
        return True

    def ritz(self) -> tuple[Array, Array]:
        """Eigenvalues, ascending, and eigenvectors of the tridiagonal matrix."""
        k = self.size
        values, vectors = scipy.linalg.eigh_tridiagonal(
            self.diagonal[:k], self.beta[: k - 1], check_finite=False
        )
        return values, vectors

    def _orthogonal(self, v: Array, k: int) -> Array:
        """Part of v orthogonal to the first k vectors. Twice is enough."""
        basis = self.vectors[:k]
        for _ in range(2):
            v = v - (basis @ v) @ basis
        return v


def minimize_in_krylov_space(
    matvec: Callable[[Array], Array],
    gradient: Array,
    solve: Callable[[Array, Array], Step],
    bound: Callable[[float, float, float], float],
    rtol: float,
    max_iter: int,
    rng: np.random.Generator,
    start: Array | None,
) -> Step:
    """Minimize a model in a growing space until its residual is below the bound.

    ``solve`` minimizes the model given eigenvalues and the gradient in their basis;
    ``bound`` gets ``||g||``, ``||s||`` and the shift.
    """
    d, norm_gradient = len(gradient), float(dnrm2(gradient))
    # Random vectors, or those of the caller, are there to find the bottom eigenvector.
    search, along = start is not None, start
    outside = gradient if search else np.zeros(d)
    if along is None:
        search = norm_gradient == 0.0
        along = rng.standard_normal(d) if search else gradient
    basis = Krylov(matvec, along, min(max_iter, d), rng)
    projected = np.zeros(len(basis.vectors))
    if start is None and len(projected):
        projected[0] = norm_gradient  # exact, where an inner product would round
    u, step = np.zeros(0), Step(np.zeros(d), 0.0, 0, "max_iter")
    while basis.size < len(projected):
        if not basis.extend():
            step = step._replace(inner_iterations=basis.size + 1, status="inconsistent")
            break
        k = basis.size
        if start is not None:
            projected[k - 1] = outside @ basis.vectors[k - 1]
            outside = outside - projected[k - 1] * basis.vectors[k - 1]
        values, vectors = basis.ritz()
        small = solve(values, projected[:k] @ vectors)
        u = vectors @ small.vector
        beta, nu = float(basis.beta[k - 1]), small.multiplier
        residual = float(dnrm2(beta * u[-1] * basis.following + outside))
        solved = residual <= bound(norm_gradient, float(dnrm2(u)), nu)
        if solved and (search or basis.block > 0):
            # The bottom Ritz pair among the vectors since the restart.
            weights = np.sum(vectors[basis.block :] ** 2, axis=0)
            j = int(np.argmax(weights > 0.5))
            solved = beta * abs(vectors[-1, j]) <= rtol * max(abs(values[j]), nu)
        # An exhausted space has no residual but may miss the bottom eigenvectors.
        missing = basis.exhausted and basis.block == 0 and not search
        if k == d or (solved and not missing):
            step = small._replace(inner_iterations=k)
            break
        step = small._replace(inner_iterations=k, status="max_iter")
    return step._replace(vector=u @ basis.vectors[: len(u)] if len(u) else step.vector)
