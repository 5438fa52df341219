"""Steps of quadratic and cubic models, and the smallest eigenvalue, by Lanczos."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.subproblems._ball import check_positive
from subsampled_newton.subproblems._krylov import Krylov, minimize_in_krylov_space
from subsampled_newton.subproblems._step import Step
from subsampled_newton.subproblems.spectral import (
    secular_cubic,
    secular_trust_region,
)

__all__ = [
    "SmallestEigenvalue",
    "krylov_cubic",
    "lanczos_cubic",
    "lanczos_trust_region",
    "smallest_eigenvalue",
]

Array = NDArray[np.float64]


def lanczos_trust_region(
    matvec: Callable[[Array], Array],
    gradient: Array,
    *,
    radius: float,
    rtol: float,
    max_iter: int,
    rng: np.random.Generator,
    start: Array | None = None,
) -> Step:
    """Minimize ``g's + s'Hs / 2`` over ``||s|| <= radius`` in a growing Krylov space.

    One product with H an iteration, the model in the space solved exactly (GLTR). Stops
    when ``||(H + nu I) s + g|| <= rtol max(||g||, nu ||s||)``. For convex models that
    is ``rtol ||g||``; near a saddle point, where g is small, it asks for the bottom
    eigenvector to ``rtol``.

    The Krylov space of g may miss the bottom eigenvectors (the hard case). When it is
    exhausted, or empty because g = 0, the search goes on from a random vector until
    its smallest Ritz value is known to ``rtol``. A space that suffices for the
    tolerance is not exhausted, though: pass ``start`` to search further.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H, of any inertia.
    gradient : ndarray of shape (d,)
        Not modified.
    radius : float, > 0
        Of the ball.
    rtol : float
        Relative residual.
    max_iter : int
        Largest number of products; d are enough.
    rng : numpy.random.Generator
        Draws the random vectors; not used otherwise.
    start : ndarray of shape (d,), optional
        First vector of the Krylov space, the gradient by default. The published codes
        start from g plus noise to find negative curvature orthogonal to g; the model
        keeps its own gradient.

    Returns
    -------
    Step
        ``inner_iterations`` products; ``multiplier`` nu; status "converged" inside the
        ball, "boundary" on the sphere: the minimizer in the Krylov space, which is that
        of the model unless the space of g misses the bottom eigenvectors (then only
        ``start`` makes sure); "max_iter", or "inconsistent": a product was not
        finite, the step is the last one before it.

    Raises
    ------
    ValueError
        If ``radius`` is not positive and finite.

    References
    ----------
    .. [1] Gould, Lucidi, Roma, Toint, Solving the trust-region subproblem using the
       Lanczos method, SIAM J. Optim. 9 (1999), Algorithm 5.1. Differs: the tolerance,
       the restarts, and full re-orthogonalisation.
    """
    check_positive("radius", radius)

    def solve(values: Array, projected: Array) -> Step:
        return secular_trust_region(values, projected, radius)

    def bound(norm_gradient: float, norm_s: float, nu: float) -> float:
        return rtol * max(norm_gradient, nu * norm_s)

    return minimize_in_krylov_space(
        matvec, gradient, solve, bound, rtol, max_iter, rng, start
    )


def lanczos_cubic(
    matvec: Callable[[Array], Array],
    gradient: Array,
    *,
    sigma: float,
    rtol: float,
    max_iter: int,
    rng: np.random.Generator,
    start: Array | None = None,
) -> Step:
    """Minimize ``g's + s'Hs / 2 + sigma ||s||^3 / 3`` in a growing Krylov space.

    As `lanczos_trust_region`, with ``nu = sigma ||s||``. Stops by the rule TC.s of
    [1]_, ``||(H + nu I) s + g|| <= rtol min(1, ||s||) ||g||``; where g = 0 with
    ``nu ||s||`` in its place.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H, of any inertia.
    gradient : ndarray of shape (d,)
        Not modified.
    sigma : float, > 0
        Weight of ``||s||^3 / 3``.
    rtol : float
        The theta of the rule; 0.01 to 0.1 are usual.
    max_iter : int
        Largest number of products; d are enough.
    rng : numpy.random.Generator
        Draws the random vectors; not used otherwise.
    start : ndarray of shape (d,), optional
        As in `lanczos_trust_region`.

    Returns
    -------
    Step
        As of `lanczos_trust_region`, never "boundary".

    Raises
    ------
    ValueError
        If ``sigma`` is not positive and finite.

    References
    ----------
    .. [1] Cartis, Gould, Toint, Adaptive cubic regularisation methods for
       unconstrained optimization I, Math. Program. 127 (2011), Sections 3.2 and 6.2,
       (3.28).
    """
    check_positive("sigma", sigma)

    def solve(values: Array, projected: Array) -> Step:
        return secular_cubic(values, projected, sigma)

    def bound(norm_gradient: float, norm_s: float, nu: float) -> float:
        return rtol * min(1.0, norm_s) * (norm_gradient or nu * norm_s)

    return minimize_in_krylov_space(
        matvec, gradient, solve, bound, rtol, max_iter, rng, start
    )


def krylov_cubic(
    matvec: Callable[[Array], Array],
    gradient: Array,
    *,
    sigma: float,
    n_products: int,
    rng: np.random.Generator,
) -> Step:
    """Minimize the model of `lanczos_cubic` in a Krylov space of a given dimension.

    The rule of the published codes [1]_: no tolerance, ``min(d, n_products)`` products,
    and a space that starts from the gradient plus a standard normal vector. The model
    in it is minimized exactly; [1]_ has a quasi-Newton routine.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H, of any inertia.
    gradient : ndarray of shape (d,)
        Not modified.
    sigma : float, > 0
        Weight of ``||s||^3 / 3``.
    n_products : int
        Dimension of the space.
    rng : numpy.random.Generator
        Draws the noise of the start.

    Returns
    -------
    Step
        As of `lanczos_cubic`; status "max_iter" unless the space is the whole one.

    References
    ----------
    .. [1] Yao, Xu, Roosta, Mahoney, Inexact nonconvex Newton-type methods, INFORMS J.
       Optim. 2021, released code. That of the empirical study (SDM 2020) divides the
       noise by ``sqrt(d)``.
    """
    check_positive("sigma", sigma)
    d = len(gradient)
    size = min(d, n_products)
    basis = Krylov(matvec, gradient + rng.standard_normal(d), size, rng)
    while basis.size < size:
        if not basis.extend():
            return Step(np.zeros(d), 0.0, basis.size + 1, "inconsistent")
    values, vectors = basis.ritz()
    small = secular_cubic(values, (basis.vectors @ gradient) @ vectors, sigma)
    vector = (vectors @ small.vector) @ basis.vectors
    status = small.status if size == d else "max_iter"
    return small._replace(vector=vector, inner_iterations=size, status=status)


class SmallestEigenvalue(NamedTuple):
    """What Lanczos' method knows of the bottom of a spectrum."""

    value: float
    """The curvature along ``direction``: an upper bound of the eigenvalue."""
    direction: Array
    """Of norm one."""
    n_products: int


def smallest_eigenvalue(
    matvec: Callable[[Array], Array],
    n_params: int,
    *,
    tol: float,
    delta: float,
    rng: np.random.Generator,
    norm_bound: float | None = None,
) -> SmallestEigenvalue:
    """Look for negative curvature by Lanczos' method from a random start.

    With probability at least ``1 - delta``, ``value <= -tol / 2`` if the smallest
    eigenvalue is below ``-tol``; in other words, ``value > -tol / 2`` certifies that
    ``H >= -tol I``. Exact, up to rounding, when ``n_params`` products were made, or
    fewer because the Krylov space was exhausted.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H.
    n_params : int
        The dimension d.
    tol : float, > 0
        Size of the eigenvalue that must not be missed, often called eps_H.
    delta : float in (0, 1)
        Probability of missing it.
    rng : numpy.random.Generator
        Draws the start.
    norm_bound : float, optional
        A bound of ``||H||``, for the number of products ``min(d, 1 + ceil(ln(2.75 d /
        delta^2) sqrt(||H|| / tol) / 2))``. By default the largest Ritz value so far,
        which falls short of ``||H||`` at first but is known long before the last
        product.

    Returns
    -------
    SmallestEigenvalue
        nan with direction nan when a product is not finite.

    Raises
    ------
    ValueError
        If ``tol`` is not positive or ``delta`` not between 0 and 1.

    References
    ----------
    .. [1] Royer, O'Neill, Wright, A Newton-CG algorithm with complexity guarantees for
       smooth unconstrained optimization, Math. Program. 180 (2020), Lemma 9.
    """
    check_positive("tol", tol)
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
    factor = 0.5 * math.log(2.75 * n_params) - math.log(delta)
    basis = Krylov(matvec, rng.standard_normal(n_params), n_params, rng)
    needed = 1.0
    while basis.size < needed and not basis.invariant:
        if not basis.extend():
            nan = np.full(n_params, np.nan)
            return SmallestEigenvalue(math.nan, nan, basis.size + 1)
        norm = basis.norm if norm_bound is None else norm_bound
        needed = min(n_params, 1.0 + factor * math.sqrt(norm / tol))
    values, vectors = basis.ritz()
    direction = vectors[:, 0] @ basis.vectors[: basis.size]
    return SmallestEigenvalue(
        float(values[0]), direction / np.linalg.norm(direction), basis.size
    )
