"""Cheap steps of a cubic model ``g's + s'Hs / 2 + sigma ||s||^3 / 3``."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.subproblems._ball import check_positive
from subsampled_newton.subproblems._step import Step

__all__ = ["cauchy_point", "cubic_gradient_descent"]

Array = NDArray[np.float64]
N_POWER = 3
"""Power iterations for a norm: enough for the factor of ten that is asked for."""


def cauchy_point(
    matvec: Callable[[Array], Array], gradient: Array, *, sigma: float
) -> Step:
    """Minimize the cubic model along the negative gradient: one product.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H.
    gradient : ndarray of shape (d,)
        Not modified. Zero gives the zero step without a product.
    sigma : float, > 0
        Weight of ``||s||^3 / 3``.

    Returns
    -------
    Step
        ``multiplier`` is ``sigma ||s||``. Status "converged", or "inconsistent" with
        the zero step when the product is not finite.

    References
    ----------
    .. [1] Conn, Gould, Toint, Trust-Region Methods (2000), Section 6.3.2; in the cubic
       form Cartis, Gould, Toint, Math. Program. 127 (2011), (2.1).
    """
    check_positive("sigma", sigma)
    sigma = float(sigma)
    norm = float(np.linalg.norm(gradient))
    if norm == 0.0:
        return Step(np.zeros_like(gradient), 0.0, 0, "converged")
    unit = -gradient / norm
    curvature = float(unit @ matvec(unit))
    if not math.isfinite(curvature):
        return Step(np.zeros_like(gradient), 0.0, 1, "inconsistent")
    # The positive root of sigma r^2 + curvature r = norm, without cancellation.
    root = math.hypot(curvature, 2.0 * math.sqrt(sigma) * math.sqrt(norm))
    if curvature > 0.0:
        length = 2.0 * norm / (curvature + root)
    else:
        length = (root - curvature) / (2.0 * sigma)
    # norm r - curvature r^2 / 2 - sigma r^3 / 3, at that root.
    decrease = length * (norm / 2.0 + sigma * length * length / 6.0)
    return Step(length * unit, decrease, 1, "converged", sigma * length)


def cubic_gradient_descent(
    matvec: Callable[[Array], Array],
    gradient: Array,
    *,
    sigma: float,
    smoothness: float | None = None,
    n_iter: int = 10,
    rng: np.random.Generator | None = None,
    perturbation: float = 1e-3,
) -> Step:
    """Decrease the cubic model by a few gradient steps of length 1 / (20 smoothness).

    A large gradient, ``||g|| >= smoothness^2 / sigma``, takes the `cauchy_point`.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H.
    gradient : ndarray of shape (d,)
        Not modified.
    sigma : float, > 0
        Weight of ``||s||^3 / 3``.
    smoothness : float, > 0, optional
        About ``||H||``: the step is stable up to ten times that. By default from three
        power iterations, one product each, whose start is random where ``rng`` is
        given and the gradient otherwise. The released code fixes 0.1, with sigma = 1.
    n_iter : int, default 10
        Gradient steps, one product each, as in the released code.
    rng : numpy.random.Generator, optional
        With it a random vector is added to the gradient that is descended (not to the
        model): the analysis [1]_, [2]_ needs that where the gradient is almost
        orthogonal to the bottom eigenvector, or zero.
    perturbation : float, default 1e-3
        Length of the random vector in units of ``smoothness^2 / sigma``, the gradient
        where the Cauchy point takes over. Small, for it biases the step.

    Returns
    -------
    Step
        The last iterate with status "max_iter", and ``multiplier`` ``sigma ||s||``. The
        zero step if that iterate (of the perturbed model) does not decrease the model.
        Status "inconsistent" with the zero step when a product is not finite.

    References
    ----------
    .. [1] Carmon, Duchi, Gradient descent finds the cubic-regularized nonconvex Newton
       step, SIAM J. Optim. 29 (2019).
    .. [2] Tripuraneni et al., Stochastic cubic regularization for fast nonconvex
       optimization, NeurIPS 2018, Algorithm 3.
    """
    check_positive("sigma", sigma)
    sigma = float(sigma)
    noise = None if rng is None else rng.standard_normal(len(gradient))
    n_products = 0
    if smoothness is None:
        start = gradient if noise is None else noise
        smoothness, n_products = _norm(matvec, start)
    else:
        check_positive("smoothness", smoothness)
    threshold = smoothness / sigma * smoothness
    # "Not below": also where the norm is zero or nan.
    if not np.linalg.norm(gradient) < threshold:
        step = cauchy_point(matvec, gradient, sigma=sigma)
        n_products += step.inner_iterations
        return step._replace(inner_iterations=n_products)
    descended = gradient
    if noise is not None:
        noise *= perturbation * threshold / np.linalg.norm(noise)
        descended = gradient + noise
    s = product = np.zeros_like(gradient)
    norm = decrease = 0.0
    for _ in range(n_iter):
        slope = descended + product + sigma * norm * s
        s = s - slope / (20.0 * smoothness)
        product = matvec(s)
        n_products += 1
        norm = float(np.linalg.norm(s))
        decrease = -float(gradient @ s + 0.5 * (s @ product))
        decrease -= sigma * norm * norm * norm / 3.0
        if not math.isfinite(decrease):
            return Step(np.zeros_like(gradient), 0.0, n_products, "inconsistent")
    if decrease <= 0.0:
        return Step(np.zeros_like(gradient), 0.0, n_products, "max_iter")
    return Step(s, decrease, n_products, "max_iter", sigma * norm)


def _norm(matvec: Callable[[Array], Array], start: Array) -> tuple[float, int]:
    """Estimate the norm of a matrix from below; return it and the products made."""
    v, norm, n_products = start, float(np.linalg.norm(start)), 0
    while norm > 0.0 and n_products < N_POWER:
        v = matvec(v / norm)
        norm = float(np.linalg.norm(v))
        n_products += 1
    return norm, n_products
