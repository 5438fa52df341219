"""Exact steps inside a ball by Cholesky factorisations of shifted Hessians."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtrs

from subsampled_newton.subproblems._ball import check_positive, distance_to_sphere
from subsampled_newton.subproblems._krylov import Krylov
from subsampled_newton.subproblems._step import Step

__all__ = ["more_sorensen"]

Array = NDArray[np.float64]
N_INVERSE = 12
"""Solutions with a factor for its bottom eigenvector: far below its own cost."""


def more_sorensen(
    H: Array,
    gradient: Array,
    *,
    radius: float,
    rtol: float = 1e-8,
    max_iter: int = 50,
) -> Step:
    """Minimize ``g's + s'Hs / 2`` over the ball ``||s|| <= radius`` globally.

    Looks for the shift nu >= 0 with ``H + nu I`` positive semi-definite and
    ``||(H + nu I)^-1 g|| = radius``, by Newton's method on ``1 / ||s(nu)||`` inside a
    bracket that failed factorisations and Rayleigh quotients shrink. Each shift is
    factorised anew and its own factor used. In the hard case a vector along which
    ``H + nu I`` almost vanishes leads to the sphere.

    For about 200 < d < 2000: below, `Spectrum` costs less over a few radii; above,
    factorisations cost more than products.

    Parameters
    ----------
    H : ndarray of shape (d, d)
        Symmetric, of any inertia. Not modified.
    gradient : ndarray of shape (d,)
        Not modified.
    radius : float, > 0
        Of the ball.
    rtol : float, default 1e-8
        Relative error of ``||s||`` before it is scaled to the sphere; in the hard case
        of ``(H + nu I) s + g``, relative to the larger of g and nu s. [2]_ uses 0.1,
        but convergence is quadratic: digits cost a factorisation or two.
    max_iter : int, default 50
        Factorisations. Two to six are usual, ten in the hard case.

    Returns
    -------
    Step
        ``multiplier`` nu; ``inner_iterations`` factorisations; status "converged"
        inside the ball, "boundary" on the sphere; "max_iter": a point of the ball that
        may not be the minimizer; "inconsistent" (and nan) for a model that is not
        finite.

    Raises
    ------
    ValueError
        If ``radius`` is not positive and finite.

    References
    ----------
    .. [1] Moré, Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4
       (1983), Algorithm 3.14.
    .. [2] Conn, Gould, Toint, Trust-Region Methods (2000), Algorithm 7.3.4.
    """
    check_positive("radius", radius)
    radius = float(radius)
    # In units of the radius and of the larger of Hessian and gradient.
    unit = float(np.maximum(np.abs(H).max(), np.abs(gradient).max() / radius))
    if not math.isfinite(unit):
        return Step(np.full_like(gradient, np.nan), math.nan, 0, "inconsistent")
    if unit == 0.0:
        return Step(np.zeros_like(gradient), 0.0, 0, "converged")
    scaled, b = np.asfortranarray(H / unit), gradient / radius / unit
    rounding = len(b) * float(np.finfo(np.float64).eps)
    largest = float(np.abs(scaled).max())
    tiny = rounding * largest  # what H is known to
    norm_b = float(np.linalg.norm(b))
    low, high = _bounds(scaled, norm_b)
    nu = 0.0 if low == 0.0 else _between(low, high)
    status: Literal["converged", "boundary", "max_iter"] = "max_iter"
    s, decrease = np.zeros_like(b), 0.0
    n_factors = 0
    for _ in range(max_iter):
        n_factors += 1
        factor, bound = _factorise(scaled, nu, tiny)
        if factor is None:
            low = max(low, bound)
            nu = max(tiny, _between(low, high))
            continue
        w = dtrtrs(factor, -b, lower=1)[0]
        s = dtrtrs(factor, w, lower=1, trans=1)[0]
        norm, slope = float(np.linalg.norm(s)), float(w @ w)
        if norm <= 1.0 and nu <= tiny:
            status, decrease, nu = "converged", 0.5 * slope, 0.0
            break
        if abs(norm - 1.0) <= rtol:
            s = s / norm
            # The model at s / ||s||, from -b's = slope and (H + nu I) s = -b.
            decrease = (norm - 0.5) * slope / norm**2 + 0.5 * nu
            status = "boundary"
            break
        v = dtrtrs(factor, s, lower=1)[0]
        newton = nu + norm * norm / float(v @ v) * (norm - 1.0) if norm > 0.0 else 0.0
        # Where H + nu I is almost singular, nu settles to rounding before ||s|| does.
        settled = abs(newton - nu) <= rounding * (largest + nu)
        if norm > 1.0 and not settled:
            # From this side Newton's method is monotone.
            low = nu
            nu = newton if newton < high else _between(low, high)
            continue
        high = nu
        z, image, rayleigh = _bottom(factor)
        z = z if s @ z >= 0.0 else -z
        tau = distance_to_sphere(s, z, 1.0)
        solved = abs(tau) * image <= rtol * max(norm_b, nu) and rayleigh - nu < -tiny
        if solved or settled:
            s = s + tau * z
            s /= max(1.0, float(np.linalg.norm(s)))
            decrease = 0.5 * (slope - tau * tau * rayleigh + nu)
            status = "boundary"
            break
        # z'Hz bounds the bottom eigenvalue, and is close to it.
        low = max(low, nu - rayleigh)
        nu = newton if low < newton < high else low + 0.01 * (high - low)
        nu = max(tiny, nu)
    else:
        s = s / max(1.0, float(np.linalg.norm(s)))
        decrease = -float(b @ s + 0.5 * (s @ (scaled @ s)))
    decrease = unit * radius * decrease * radius
    return Step(radius * s, decrease, n_factors, status, unit * nu)


def _bounds(H: Array, norm_b: float) -> tuple[float, float]:
    """Bounds of the shift in a ball of radius one, [2] (7.3.8) and after it."""
    diagonal = np.diag(H)
    off = np.abs(H).sum(axis=0) - np.abs(diagonal)
    frobenius = float(np.linalg.norm(H))
    top = min(float((off + diagonal).max()), frobenius)
    bottom = min(float((off - diagonal).max()), frobenius)
    low = max(0.0, -float(diagonal.min()), norm_b - top)
    # A little room: without off-diagonal elements the bounds may coincide.
    return low, max(low, norm_b + bottom) * (1.0 + 1e-6) + 1e-12


def _between(low: float, high: float) -> float:
    """A shift inside the bracket, nearer to its lower end, [2] (7.3.7)."""
    return max(math.sqrt(low * high), low + 0.01 * (high - low))


def _factorise(H: Array, nu: float, tiny: float) -> tuple[Array | None, float]:
    """Return the lower factor of ``H + nu I``, or None and a bound from below on nu.

    A matrix that is singular to rounding counts as indefinite at nu = 0.
    """
    shifted = H.copy(order="F")
    np.einsum("ii->i", shifted)[:] += nu
    factor, info = dpotrf(shifted, lower=1, clean=0, overwrite_a=1)
    if info == 0:
        singular = nu == 0.0 and float(np.diag(factor).min()) ** 2 <= tiny
        return (None if singular else factor), 0.0
    # The failed pivot is x'(H + nu I)x for x = (-solution, 1, 0).
    j = info - 1
    pivot, square = float(H[j, j]) + nu, 1.0
    if j > 0:
        leading = factor[:j, :j]
        half = dtrtrs(leading, H[:j, j], lower=1)[0]
        solution = dtrtrs(leading, half, lower=1, trans=1)[0]
        pivot -= float(half @ half)
        square += float(solution @ solution)
    return None, nu - min(pivot, 0.0) / square


def _bottom(factor: Array) -> tuple[Array, float, float]:
    """Estimate the bottom eigenvector z of ``A = L L'``; return z, ||A z||, z'A z.

    By Lanczos' method on the inverse of A.
    """
    d = len(factor)
    # A fixed vector without structure that an eigenvector could be orthogonal to.
    start = np.cos(np.square(np.arange(1.0, d + 1.0)))
    space = Krylov(lambda v: _solve(factor, v), start, min(N_INVERSE, d))
    while space.size < len(space.vectors) and not space.exhausted:
        space.extend()
    previous = space.ritz()[1][:, -1] @ space.vectors[: space.size]
    y = _solve(factor, previous)
    norm = float(np.linalg.norm(y))
    z = y / norm
    return z, 1.0 / norm, float(z @ previous) / norm


def _solve(factor: Array, v: Array) -> Array:
    """Solve ``L L' x = v``: two triangular solves, faster than LAPACK's potrs."""
    half = dtrtrs(factor, v, lower=1)[0]
    x: Array = dtrtrs(factor, half, lower=1, trans=1)[0]
    return x
