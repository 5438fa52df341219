"""Steps of a quadratic model ``g's + s'Hs / 2`` by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from subsampled_newton.subproblems._ball import check_positive, distance_to_sphere
from subsampled_newton.subproblems._step import Step

__all__ = ["conjugate_gradient", "steihaug"]

Array = NDArray[np.float64]
LEAST = 1e-12
"""Relative residual below which rounding decides."""


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    gradient: Array,
    *,
    rtol: float,
    max_iter: int,
    diagonal: Array | None = None,
    forcing: float | None = None,
) -> Step:
    """Minimize the model by conjugate gradients from zero.

    Stops when ``||H s + gradient|| <= rtol ||gradient||``, after ``max_iter`` products,
    or at a direction without positive curvature; in the last case the step so far is
    returned, or the gradient direction when there is none yet.

    Every iterate satisfies ``gradient's = -s'Hs`` in exact arithmetic, hence the angle
    condition of sub-sampled Newton methods for every theta_2 > 0.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H.
    gradient : ndarray of shape (d,)
        Not modified.
    rtol : float
        Relative residual theta_1.
    max_iter : int
        Largest number of products.
    diagonal : ndarray of shape (d,), optional
        Positive preconditioner M, usually the diagonal of H.
    forcing : float, optional
        c: the tolerance is ``rtol min(1, c / sqrt(kappa))`` instead, at least 1e-12,
        for residual and gradient in the norm of ``M**-1``. The error of the step in the
        norm of H is then at most ``c rtol`` of the step. kappa is the condition number
        of ``M**-1 H`` as far as the space of the iterates knows it, the ratio of the
        extreme eigenvalues of its Lanczos matrix [2]_, which costs no product.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithm 7.1.
    .. [2] Golub and Van Loan, Matrix Computations, 4th ed., section 11.3.
    """
    s = np.zeros_like(gradient)
    residual = -gradient
    bound = rtol * float(np.linalg.norm(gradient))
    z = residual if diagonal is None else residual / diagonal
    direction = z.copy()
    rho = float(residual @ z)
    decrease = 0.0
    first, condition = rho, 1.0
    steps: list[float] = []
    ratios: list[float] = []
    # In place: a new vector of a megabyte costs more than what is computed for it.
    work = np.empty_like(s)

    def solved() -> bool:
        nonlocal condition
        if forcing is None:
            return bool(np.linalg.norm(residual) <= bound)

        def small() -> bool:
            level = max(LEAST, rtol * min(1.0, forcing / math.sqrt(condition)))
            return rho <= level * level * first

        # The estimate of the condition number never falls.
        if not steps or not small():
            return first == 0.0
        condition = max(condition, _condition(steps, ratios))
        return small()

    for k in range(max_iter):
        if solved():
            return Step(s, decrease, k, "converged")
        product = matvec(direction)
        curvature = float(direction @ product)
        if not curvature > 0.0:
            if k == 0:
                s, decrease = direction, rho - 0.5 * curvature
            return Step(s, decrease, k + 1, "negative_curvature")
        step_size = rho / curvature
        s += np.multiply(direction, step_size, out=work)
        residual -= np.multiply(product, step_size, out=work)
        decrease += 0.5 * step_size * rho
        if diagonal is not None:
            np.divide(residual, diagonal, out=z)
        rho, previous = float(residual @ z), rho
        direction *= rho / previous
        direction += z
        steps.append(step_size)
        ratios.append(rho / previous)
    if solved():
        return Step(s, decrease, max_iter, "converged")
    return Step(s, decrease, max_iter, "max_iter", rest=_rest(steps, ratios, rho))


def _rest(steps: list[float], ratios: list[float], rho: float) -> float:
    """Decrease that a residual of norm ``rho**(1/2)`` may hide, for the curvature seen.

    The least eigenvalue of the Lanczos matrix is not below that of the model.
    """
    if not steps or not np.all(np.isfinite([*steps, *ratios])):
        return math.inf
    diagonal, beside = _lanczos(steps, ratios)
    least = scipy.linalg.eigvalsh_tridiagonal(
        diagonal, beside, select="i", select_range=(0, 0)
    )[0]
    rounding = float(np.finfo(np.float64).eps) * float(np.max(diagonal))
    return 0.5 * rho / max(float(least), rounding)


def _lanczos(steps: list[float], ratios: list[float]) -> tuple[Array, Array]:
    """Diagonal of the Lanczos matrix, and what is beside it."""
    a, b = np.array(steps), np.array(ratios[:-1])
    diagonal = 1.0 / a
    diagonal[1:] += b / a[:-1]
    return diagonal, np.sqrt(b) / a[:-1]


def _condition(steps: list[float], ratios: list[float]) -> float:
    """Ratio of the extreme eigenvalues of the Lanczos matrix of conjugate gradients."""
    values = scipy.linalg.eigvalsh_tridiagonal(*_lanczos(steps, ratios))
    return float(values[-1] / values[0]) if values[0] > 0.0 else 1.0 / LEAST


def steihaug(
    matvec: Callable[[Array], Array],
    gradient: Array,
    *,
    radius: float,
    rtol: float,
    max_iter: int,
) -> Step:
    """Minimize the model inside a ball by conjugate gradients from zero.

    Stops when ``||H s + gradient|| <= rtol ||gradient||``, after ``max_iter`` products,
    or on the sphere: where the next iterate would leave the ball, or along a direction
    without positive curvature. The iterates grow and the model falls at every product;
    the first is the Cauchy point.

    For convex models the decrease is at least half of the best one [2]_. The step lies
    in the Krylov space of the gradient: at ``gradient = 0`` it is zero even where H has
    negative curvature, see `lanczos_trust_region`. No preconditioner is offered, for
    it would change the shape of the ball; scale the variables instead.

    Parameters
    ----------
    matvec : callable, (d,) -> (d,)
        Product with the symmetric matrix H, which may be indefinite.
    gradient : ndarray of shape (d,)
        Not modified.
    radius : float, > 0
        Of the ball.
    rtol : float
        Relative residual. The study of sub-sampled trust regions used 1e-9.
    max_iter : int
        Largest number of products. The study used 250.

    Returns
    -------
    Step
        Status "converged" inside the ball, "boundary", "negative_curvature" (on the
        sphere too), "max_iter", or "inconsistent": a product was not finite, the step
        is the last one before it. ``multiplier`` is zero inside, on the sphere the nu
        that minimizes ``||(H + nu I) s + gradient||``.

    Raises
    ------
    ValueError
        If ``radius`` is not positive and finite.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithm 7.2.
    .. [2] Yuan, On the truncated conjugate gradient method, Math. Program. 87 (2000),
       Theorem 2.
    """
    check_positive("radius", radius)
    s = np.zeros_like(gradient)
    residual = -gradient
    bound = rtol * float(np.linalg.norm(gradient))
    direction = residual
    rho = float(residual @ residual)
    decrease = 0.0
    for k in range(max_iter):
        if np.linalg.norm(residual) <= bound:
            return Step(s, decrease, k, "converged")
        product = matvec(direction)
        curvature = float(direction @ product)
        if not math.isfinite(curvature):
            return Step(s, decrease, k + 1, "inconsistent")
        if curvature > 0.0:
            step_size = rho / curvature
            trial = s + step_size * direction
        if not (curvature > 0.0 and np.linalg.norm(trial) < radius):
            step_size = distance_to_sphere(s, direction, radius)
            s = s + step_size * direction
            # direction'residual = ||residual||^2 in conjugate gradients.
            decrease += step_size * (rho - 0.5 * step_size * curvature)
            force = residual - step_size * product
            nu = max(0.0, float(s / radius @ force) / float(radius))
            if curvature > 0.0:
                return Step(s, decrease, k + 1, "boundary", nu)
            return Step(s, decrease, k + 1, "negative_curvature", nu)
        s = trial
        residual = residual - step_size * product
        decrease += 0.5 * step_size * rho
        rho, previous = float(residual @ residual), rho
        direction = residual + (rho / previous) * direction
    converged = np.linalg.norm(residual) <= bound
    return Step(s, decrease, max_iter, "converged" if converged else "max_iter")
