"""Minimizers of the quadratic model ``g's + s'Hs / 2``, functions of arrays.

They import nothing from the package. Each returns a `Step` with the decrease of the
model, so that no caller computes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

__all__ = ["Step", "bfgs_update", "conjugate_gradient", "newton_step"]

Array = NDArray[np.float64]


class Step(NamedTuple):
    """An approximate minimizer of a model."""

    vector: Array
    model_decrease: float
    inner_iterations: int
    status: Literal[
        "converged", "max_iter", "negative_curvature", "singular", "inconsistent"
    ]


def newton_step(H: Array, gradient: Array) -> Step:
    """Minimize the model exactly by a Cholesky factorisation.

    A singular ``H`` (dependent columns without a ridge) has no inverse; then the step
    is the smallest of its minimizers, in the norm of the diagonal of ``H``, from the
    eigenvalues above rounding, and the status says so. When a tenth of the gradient
    lies where ``H`` has no curvature, the status is "inconsistent": the model has no
    minimizer, and its decrease says nothing about what is left to gain.

    Parameters
    ----------
    H : ndarray of shape (d, d)
        Symmetric, positive semi-definite up to rounding. Only its lower half is read.
    gradient : ndarray of shape (d,)

    References
    ----------
    .. [1] Roosta-Khorasani, Mahoney, Sub-sampled Newton methods I, Algorithm 1.
    """
    # Unit diagonal: the factorisation then fails for dependent columns only, not for
    # columns of different size.
    diagonal = np.diag(H).copy()
    scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    scaled = H * scale * scale[:, None]
    target = -scale * gradient
    try:
        factor = scipy.linalg.cho_factor(scaled, lower=True, check_finite=False)
        pivots = np.diag(factor[0])
        if pivots.min() ** 2 <= len(H) * np.finfo(float).eps:
            raise np.linalg.LinAlgError
        solution = scipy.linalg.cho_solve(factor, target, check_finite=False)
        status: Literal["converged", "singular", "inconsistent"] = "converged"
    except np.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(scaled, lower=True, check_finite=False)
        kept = values > len(H) * np.finfo(float).eps * max(values[-1], 0.0)
        parts = vectors.T @ target
        solution = vectors[:, kept] @ (parts[kept] / values[kept])
        outside = np.linalg.norm(parts[~kept]) > 0.1 * np.linalg.norm(parts)
        status = "inconsistent" if outside else "singular"
    vector = scale * solution
    return Step(vector, -0.5 * float(gradient @ vector), 0, status)


def bfgs_update(H: Array, s: Array, y: Array) -> Array:
    """Return the BFGS update of ``H`` for a step ``s`` and its gradient change ``y``.

    The result maps s to y, and is positive definite if H is. A pair without positive
    curvature is left out.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., (6.19).
    """
    Hs = H @ s
    curvature, model = float(y @ s), float(s @ Hs)
    if not (curvature > 0.0 and model > 0.0):
        return H
    updated: Array = H + np.outer(y, y) / curvature - np.outer(Hs, Hs) / model
    return updated


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    gradient: Array,
    *,
    rtol: float,
    max_iter: int,
    diagonal: Array | None = None,
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
        Positive preconditioner, usually the diagonal of H.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithm 7.1.
    """
    s = np.zeros_like(gradient)
    residual = -gradient
    bound = rtol * float(np.linalg.norm(gradient))
    z = residual if diagonal is None else residual / diagonal
    direction = z
    rho = float(residual @ z)
    decrease = 0.0
    for k in range(max_iter):
        if np.linalg.norm(residual) <= bound:
            return Step(s, decrease, k, "converged")
        product = matvec(direction)
        curvature = float(direction @ product)
        if not curvature > 0.0:
            if k == 0:
                s, decrease = direction, rho - 0.5 * curvature
            return Step(s, decrease, k + 1, "negative_curvature")
        step_size = rho / curvature
        s = s + step_size * direction
        residual = residual - step_size * product
        decrease += 0.5 * step_size * rho
        z = residual if diagonal is None else residual / diagonal
        rho, previous = float(residual @ z), rho
        direction = z + (rho / previous) * direction
    converged = np.linalg.norm(residual) <= bound
    return Step(s, decrease, max_iter, "converged" if converged else "max_iter")
