"""Steps of a quadratic model ``g's + s'Hs / 2`` by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.subproblems._step import Step

__all__ = ["conjugate_gradient"]

Array = NDArray[np.float64]


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
