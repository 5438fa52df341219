"""Second-order optimality: is a stationary point a minimizer or a saddle?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from subsampled_newton.parameters import check_number, generator
from subsampled_newton.problem import FiniteSum, check_problem, finite_vector
from subsampled_newton.sampling import full
from subsampled_newton.subproblems.lanczos import smallest_eigenvalue

__all__ = ["Certificate", "certify"]

Array = NDArray[np.float64]
EXACT_MAX_PARAMS = 1000
"""Up to here all eigenvalues of the Hessian take less than a second."""


@dataclass(frozen=True)
class Certificate:
    """Whether ``||grad F|| <= eps_g`` and ``lambda_min(Hess F) >= -eps_h``.

    On all rows, never on a sample of them.

    Attributes
    ----------
    ok : bool
        Both hold, the second with probability ``confidence``.
    gradient_norm, smallest_eigenvalue : float
        As found. The eigenvalue of Lanczos' method is an upper bound.
    eps_g, eps_h : float
        What was asked for.
    direction : ndarray of shape (n_params,)
        Of norm one; its curvature is ``smallest_eigenvalue``.
    confidence : float
        Probability that no eigenvalue below ``-eps_h`` was missed: 1 where all
        eigenvalues were computed.
    n_products : int
        Products with the full Hessian.
    """

    ok: bool
    gradient_norm: float
    smallest_eigenvalue: float
    eps_g: float
    eps_h: float
    direction: Array
    confidence: float
    n_products: int


def certify(
    problem: FiniteSum,
    w: ArrayLike,
    *,
    eps_g: float = math.inf,
    eps_h: float = 1e-4,
    delta: float = 0.01,
    seed: int | np.random.Generator | None = None,
) -> Certificate:
    """Check the second-order conditions at w on the full data.

    Up to 1000 parameters by all eigenvalues of the Hessian, above by Lanczos' method
    from a random start, with the number of steps after which an eigenvalue below
    ``-eps_h`` is missed with probability ``delta`` at most [1]_.

    Parameters
    ----------
    problem : FiniteSum
    w : array-like of shape (n_params,)
    eps_g : float, default inf
        Bound of the gradient norm; by default only the Hessian is judged.
    eps_h : float, > 0, default 1e-4
        Size of a negative eigenvalue that is tolerated.
    delta : float in (0, 1), default 0.01
        Probability of failure.
    seed : int or numpy.random.Generator, optional
        Of the random start.

    References
    ----------
    .. [1] C. Royer, M. O'Neill, S. Wright, A Newton-CG algorithm with complexity
       guarantees for smooth unconstrained optimization, Math. Program. 2020, Lemma 9.
    """
    check_problem("problem", problem)
    check_number("eps_h", eps_h, "> 0")
    check_number("delta", delta, "in (0, 1)")
    check_number("eps_g", eps_g, ">= 0", finite=False)
    rng = generator("seed", seed)
    point = problem.at(finite_vector(w, problem.n_params))
    norm = float(np.linalg.norm(point.gradient))
    hessian = point.hessian(full(problem.n_samples))
    if problem.n_params <= EXACT_MAX_PARAMS:
        values, vectors = scipy.linalg.eigh(hessian.dense(), subset_by_index=[0, 0])
        smallest, direction = float(values[0]), vectors[:, 0]
        confidence, n_products, bound = 1.0, problem.n_params, -eps_h
    else:
        found = smallest_eigenvalue(
            hessian.matvec,
            problem.n_params,
            tol=eps_h,
            delta=delta,
            rng=rng,
        )
        smallest, direction, n_products = found
        confidence = 1.0 if n_products >= problem.n_params else 1.0 - delta
        # Lanczos' value lies above the eigenvalue: half of eps_h is its allowance.
        bound = -0.5 * eps_h
    return Certificate(
        bool(norm <= eps_g and smallest >= bound),
        norm,
        smallest,
        eps_g,
        eps_h,
        direction,
        confidence,
        n_products,
    )
