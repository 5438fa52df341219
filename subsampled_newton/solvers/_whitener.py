"""Factors that whiten a least squares problem: from a matrix, a sketch, a Gram matrix.

``W'HW`` is near the identity for the Hessian H. All solvers of least squares go on from
there in the same way, see `_refinement`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from subsampled_newton.factor import reciprocal_condition, upper_factor

__all__ = [
    "DEPENDENT",
    "EPS",
    "Whitener",
    "dependence",
    "factored",
    "largest_noise",
]

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
NOISE = 0.5
"""Spacings of the numbers, in root mean square, up to which a combination of columns is
nothing but rounding. One rounding is 0.15 to 0.29 of them; columns that were computed
in several steps have more, and a longer combination says something about the target."""
LARGEST_NOISE = 0.05
"""A combination longer than this, for columns of norm one, counts in any case: it
cannot make coefficients large."""
DEPENDENT = "are dependent up to the rounding of the data"
MOST_NAMED = 10


@dataclass(frozen=True)
class Whitener:
    """W (d, rank) such that ``W'HW`` is near the identity, from a factor R of H.

    Columns are first divided by their norms, so that the rank and the rounding errors
    do not depend on their units.
    """

    matrix: Array
    size: Array
    """The norms (d,)."""
    condition: float
    """Largest over smallest singular value of R that counts; if triangular, an estimate
    in the 1-norm."""
    triangle: Array | None = None
    """R (d, d) for columns of norm one, unless they are nearly dependent."""
    svd: tuple[Array | None, Array, Array] | None = None
    """Otherwise the decomposition of R: U, s and V', the part that counts."""
    doubtful: Array | None = None
    """Combinations (k, d) of the columns that arithmetic tells from zero, but that the
    rounding of the data as given explains: they have no weight either."""
    doubt: float = 0.0
    """Backward error that these may leave."""

    @classmethod
    def from_gram(
        cls,
        H: Array,
        *,
        truncate: bool = True,
        noise: Array | None = None,
        ridge: Array | None = None,
    ) -> Whitener:
        """Make ``W'HW`` the identity for a Gram matrix.

        Its rounding errors, some eps an entry, hide singular values below about 1e-7
        of the largest: those get no weight. Without ``truncate`` they are an error
        (`numpy.linalg.LinAlgError`) where a Cholesky factor is enough to see them.
        ``noise`` is the rounding of the data in the columns, as in `Columns`,
        ``ridge`` the part of the diagonal that is no data.
        """
        d, size = len(H), _nonzero(np.sqrt(np.diag(H)))
        G, cutoff = H / size / size[:, None], 2.0 * math.sqrt(EPS * math.sqrt(d))
        level = _relative(noise, size)
        ridged = ridge is not None and bool(np.any(ridge))
        try:
            R = scipy.linalg.cholesky(G, check_finite=False)
            rcond = reciprocal_condition(R)
        except np.linalg.LinAlgError:
            rcond = 0.0
        if rcond > 10.0 * max(cutoff, _harmless(level, ridged)):
            return cls._triangular(R, size, rcond)
        if not truncate and rcond < 0.1 * cutoff:
            raise np.linalg.LinAlgError("the Gram matrix is nearly singular")
        values, V = scipy.linalg.eigh(G, check_finite=False)
        s = np.sqrt(np.maximum(values[::-1], 0.0))
        Vt, lengths = V.T[::-1], s
        if ridge is not None and ridged:
            lengths = np.sqrt(np.maximum(s**2 - Vt**2 @ (ridge / size**2), 0.0))
        return cls._truncated(None, s, Vt, size, cutoff, level, lengths)

    @classmethod
    def from_triangle(
        cls,
        R: Array,
        size: Array,
        noise: Array | None = None,
        data: Array | None = None,
    ) -> Whitener:
        """Make ``W'D R'R D W`` the identity for a triangular R, D the norms.

        Dependent columns are recognised by singular values of R below ``2 max(d, 64)
        eps`` times the largest, or below what the ``noise`` of the columns explains, as
        in `Columns`: their combinations get no weight. ``data`` is a matrix in place of
        R without the ridge that R contains.
        """
        d = len(size)
        cutoff = 2 * max(d, 64) * EPS
        level = _relative(noise, size)
        # The estimate is in another norm: no more than a hint.
        rcond = reciprocal_condition(R) if len(R) == d else 0.0
        if rcond > 10.0 * max(cutoff, _harmless(level, data is not None)):
            return cls._triangular(R, size, rcond)
        U, s, Vt = scipy.linalg.svd(R, full_matrices=False, check_finite=False)
        lengths = s if data is None else np.linalg.norm(data @ Vt.T, axis=0)
        return cls._truncated(U, s, Vt, size, cutoff, level, lengths)

    @classmethod
    def _triangular(cls, R: Array, size: Array, rcond: float) -> Whitener:
        inverse = scipy.linalg.lapack.dtrtri(R)[0]
        return cls(inverse / size[:, None], size, 1.0 / rcond, R)

    @classmethod
    def _truncated(
        cls,
        U: Array | None,
        s: Array,
        Vt: Array,
        size: Array,
        cutoff: float,
        level: Array,
        lengths: Array,
    ) -> Whitener:
        """From a decomposition, and the lengths of the combinations without a ridge."""
        # Roundings of columns are independent: their squares add.
        levels = np.minimum(np.linalg.norm(level * Vt, axis=1), LARGEST_NOISE)
        seen, total = s > cutoff * s[0], float(np.linalg.norm(s)) or 1.0
        doubtful = seen & (lengths <= levels) & (lengths > cutoff * s[0])
        if lengths is not s:  # a ridge that keeps rounding from being enlarged
            doubtful &= s**2 < levels
        kept = seen & ~doubtful
        matrix = Vt[kept].T / s[kept] / size[:, None]
        condition = float(s[0] / s[kept][-1]) if np.any(kept) else 1.0
        U = None if U is None else U[:, kept]
        return cls(
            matrix,
            size,
            condition,
            svd=(U, s[kept], Vt[kept]),
            doubtful=Vt[doubtful] if np.any(doubtful) else None,
            doubt=4.0 * float(np.max(levels, where=doubtful, initial=0.0)) / total,
        )

    @property
    def rank(self) -> int:
        """Columns of W."""
        return int(self.matrix.shape[1])

    @cached_property
    def _spectrum(self) -> tuple[Array, Array]:
        """Singular values and right singular vectors (rows) of R."""
        if self.svd is not None:
            return self.svd[1:]
        R = self.triangle
        assert R is not None
        if self.condition > 1e8:
            _, s, Vt = scipy.linalg.svd(R, check_finite=False)
            return s, Vt
        # Three times faster, and exact enough where no square is lost in rounding.
        values, V = scipy.linalg.eigh(R.T @ R, check_finite=False)
        return np.sqrt(np.maximum(values, 0.0)), V.T

    def solve(self, c: Array) -> Array:
        """Minimizer of ``||R D w - c||``, D the norms: that of the smallest ``D w``."""
        if self.triangle is not None:
            # Backward stable, unlike the product with W, an explicit inverse.
            x = scipy.linalg.solve_triangular(self.triangle, c, check_finite=False)
        else:
            assert self.svd is not None
            U, s, Vt = self.svd
            assert U is not None
            x = Vt.T @ ((U.T @ c) / s)
        solution: Array = x / self.size
        return solution

    def whiten(self, gradient: Array) -> Array:
        """``W'g``: its norm is nearly the error of the point in the energy norm."""
        product: Array = self.matrix.T @ gradient
        return product

    def step(self, gradient: Array) -> Array:
        """``-W W'g``, nearly the step to the minimizer."""
        vector: Array = -(self.matrix @ self.whiten(gradient))
        return vector

    def inside(self, w: Array) -> Array:
        """The part of w that has weight: the rest changes no prediction that counts."""
        if self.svd is None:
            return w
        Vt = self.svd[2]
        part: Array = Vt.T @ (Vt @ (w * self.size)) / self.size
        return part

    def norm(self, w: Array) -> float:
        """Norm of w, columns in units of their norms."""
        return float(np.linalg.norm(w * self.size))

    def backward_error(self, gradient: Array, w: Array, value: float) -> float:
        """Smallest relative change of the matrix that makes w exact, nearly [1]_.

        Minimizers of ``||A w - b||`` for a perturbed A; the estimate of Karlson and
        Walden with the singular values of R for those of A.

        References
        ----------
        .. [1] Epperly, Meier, Nakatsukasa, Fast randomized least-squares solvers can be
           just as accurate and stable as classical direct solvers, section 3.2.
        """
        s, Vt = self._spectrum
        g = gradient / self.size
        if not np.any(g):
            return 0.0
        r = self._residual(w, value)
        inside = (Vt @ g) / np.hypot(s * self.norm(w), r)
        total = float(np.linalg.norm(s)) or 1.0
        outside = self.outside(gradient, w, value)
        return math.hypot(float(np.linalg.norm(inside)) / total, outside)

    def outside(self, gradient: Array, w: Array, value: float) -> float:
        """Part of the backward error that lies where W has no weight."""
        if self.rank == len(self.size):
            return 0.0
        s, Vt = self._spectrum
        g = gradient / self.size
        g = g - Vt.T @ (Vt @ g)
        total = float(np.linalg.norm(s)) or 1.0
        error = float(np.linalg.norm(g)) / ((self._residual(w, value) or 1.0) * total)
        return error if error > self.doubt else 0.0

    def _residual(self, w: Array, value: float) -> float:
        """Norm of the residual, not less than its rounding error."""
        rounding = EPS * float(np.linalg.norm(self._spectrum[0])) * self.norm(w)
        return max(math.sqrt(2.0 * max(value, 0.0)), rounding)


def factored(
    F: Array, l2: Array, size: Array | None = None, noise: Array | None = None
) -> tuple[Whitener | None, Array]:
    """Whitener and minimizer of ``||F[:, :d] w - F[:, d]||**2 + sum_j l2_j w_j**2``.

    None in place of the whitener when F is not finite. ``size`` replaces the norms of
    the columns, ridge included; ``noise`` is as in `Columns`.
    """
    d, kept = len(l2), l2 > 0.0
    if not np.all(np.isfinite(F)):
        return None, np.zeros(d)
    ridge = np.zeros((int(np.sum(kept)), d + 1))
    ridge[:, :d] = np.diag(np.sqrt(l2))[kept]
    data, F = F[:, :d], np.vstack([F, ridge])
    if size is None:
        size = _nonzero(np.linalg.norm(F[:, :d], axis=0))
    R = upper_factor(F / np.append(size, 1.0))[:d]
    triangle = np.asfortranarray(R[:, :d])
    plain = data / size if np.any(kept) else None
    whitener = Whitener.from_triangle(triangle, size, noise, plain)
    return whitener, whitener.solve(R[:, d])


def _nonzero(size: Array) -> Array:
    return np.where(size > 0.0, size, 1.0)


def _relative(noise: Array | None, size: Array) -> Array:
    """Lengths below which columns of norm one are nothing but rounding."""
    return np.zeros_like(size) if noise is None else NOISE * noise / size


def _largest(level: Array) -> float:
    return min(float(np.max(level, initial=0.0)), LARGEST_NOISE)


def _harmless(level: Array, ridged: bool) -> float:
    """Singular value above which the rounding of the data does no harm.

    What it adds to coefficients are products with it over the squares of these values,
    of which most may be a ridge.
    """
    largest = _largest(level)
    return math.sqrt(largest) if ridged else largest


def largest_noise(noise: Array, size: Array) -> float:
    """Length below which a combination of columns of norm one may be rounding."""
    return _largest(_relative(noise, size))


def dependence(whitener: Whitener, d: int, intercept: bool) -> str:
    """Say which of d columns have combinations that are nothing but rounding."""
    V = whitener.doubtful
    if V is None:
        return ""
    share = np.sum((V**2).reshape(-1, d), axis=0)  # over the classes as well
    columns = np.flatnonzero(share > 0.01 * np.max(share))
    names = [
        "the intercept" if intercept and j == d - 1 else str(j)
        for j in columns[:MOST_NAMED]
    ]
    more = ", ..." if len(columns) > MOST_NAMED else ""
    return (
        f"Columns {', '.join(names)}{more} {DEPENDENT}: {len(V)} of their combinations "
        "got no weight, so that these coefficients are the smallest of those that fit "
        "equally well. Leave out columns, or add a penalty."
    )
