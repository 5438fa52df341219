"""Exact steps of quadratic and cubic models from one eigendecomposition."""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import dnrm2

from subsampled_newton._interrupts import quiet
from subsampled_newton.subproblems._ball import check_positive
from subsampled_newton.subproblems._secular import (
    EPS,
    Shifted,
    largest_modulus,
    power_of_two,
)
from subsampled_newton.subproblems._step import Step

__all__ = ["Spectrum", "secular_cubic", "secular_trust_region"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigendecomposition of a symmetric matrix; serves every radius and sigma.

    After a rejected step only the secular equation is solved again, O(d) for each of
    its few Newton steps, and O(d^2) for the change of basis.

    Parameters
    ----------
    H : ndarray of shape (d, d)
        Symmetric, of any inertia. Only its lower half is read. A matrix that is not
        finite gives steps of nan with status "inconsistent".

    Attributes
    ----------
    values : ndarray of shape (d,)
        Eigenvalues, ascending.
    vectors : ndarray of shape (d, d)
        Eigenvectors in columns.
    """

    H: InitVar[Array]
    values: Array = field(init=False)
    vectors: Array = field(init=False)

    def __post_init__(self, H: Array) -> None:
        if np.isfinite(np.tril(H)).all():
            # The fastest driver for all eigenvectors.
            values, vectors = scipy.linalg.eigh(
                H, lower=True, driver="evd", check_finite=False
            )
        else:
            values, vectors = np.full(len(H), np.nan), np.full(H.shape, np.nan)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "vectors", vectors)

    def trust_region(self, gradient: Array, radius: float) -> Step:
        """Minimize ``g's + s'Hs / 2`` over the ball ``||s|| <= radius`` globally.

        Parameters
        ----------
        gradient : ndarray of shape (d,)
            Not modified.
        radius : float, > 0
            Of the ball.

        Returns
        -------
        Step
            As of `secular_trust_region`, in the coordinates of H.
        """
        step = secular_trust_region(self.values, gradient @ self.vectors, radius)
        return step._replace(vector=self.vectors @ step.vector)

    def cubic(self, gradient: Array, sigma: float) -> Step:
        """Minimize ``g's + s'Hs / 2 + sigma ||s||^3 / 3`` globally.

        Parameters
        ----------
        gradient : ndarray of shape (d,)
            Not modified.
        sigma : float, >= 0
            Zero only where H is positive definite.

        Returns
        -------
        Step
            As of `secular_cubic`, in the coordinates of H.
        """
        step = secular_cubic(self.values, gradient @ self.vectors, sigma)
        return step._replace(vector=self.vectors @ step.vector)


@quiet(all="ignore")
def secular_trust_region(values: Array, gradient: Array, radius: float) -> Step:
    """Minimize a quadratic model over a ball, in the basis of its eigenvectors.

    Finds the ``nu >= max(0, -values[0])`` with ``||s(nu)|| = radius``, where ``s(nu) =
    -gradient / (values + nu)``, or nu = 0 when that step is inside. In the hard case,
    no gradient along the bottom eigenvectors and ``s(-values[0])`` inside, the bottom
    eigenvector leads to the sphere.

    Eigenvalues above ``-d eps max|values|`` are not called negative; where they vanish
    to that precision, and with them the gradient, the step of smallest norm is taken.

    Parameters
    ----------
    values : ndarray of shape (d,)
        Eigenvalues of the Hessian, ascending.
    gradient : ndarray of shape (d,)
        In the basis of the eigenvectors.
    radius : float, > 0
        Of the ball.

    Returns
    -------
    Step
        ``vector`` in the basis of the eigenvectors; ``multiplier`` nu; status
        "converged" inside the ball, "boundary" on the sphere, "inconsistent" (and nan)
        when the model is not finite; ``inner_iterations`` counts secular iterations.

    References
    ----------
    .. [1] Moré, Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4
       (1983), (3.5).
    .. [2] Conn, Gould, Toint, Trust-Region Methods (2000), Theorem 7.2.1, Section 7.3.
    """
    check_positive("radius", radius)
    radius = float(radius)
    # In units of the radius and of the larger of Hessian and gradient.
    scaled = gradient / radius
    unit = float(np.maximum(largest_modulus(values), dnrm2(scaled)))
    if not math.isfinite(unit):
        return _failed(gradient)
    unit = power_of_two(unit)
    model = Shifted.of(values / unit, scaled / unit)
    t, x, iterations = model.solve(level=1.0, slope=0.0)
    norm = float(dnrm2(t))
    boundary = model.base + x > 0.0
    if model.base > 0.0 and x == 0.0:
        t[0] = math.sqrt(max(0.0, (1.0 - norm) * (1.0 + norm)))
        norm = 1.0
    nu = model.base + x
    # -g's - s'Hs/2 = (-g's + nu ||s||^2) / 2, since (H + nu I) s = -g.
    decrease = 0.5 * (float(model.gradient @ -t) + nu * norm * norm)
    return Step(
        radius * t,
        unit * radius * decrease * radius,
        iterations,
        "boundary" if boundary else "converged",
        unit * nu,
    )


@quiet(all="ignore")
def secular_cubic(values: Array, gradient: Array, sigma: float) -> Step:
    """Minimize a cubic model globally, in the basis of the eigenvectors.

    Finds the ``nu = sigma ||s(nu)||`` with ``nu >= max(0, -values[0])`` and ``s(nu) =
    -gradient / (values + nu)``; the hard case is that of a ball of radius nu / sigma.

    Parameters
    ----------
    values : ndarray of shape (d,)
        Eigenvalues of the Hessian, ascending.
    gradient : ndarray of shape (d,)
        In the basis of the eigenvectors.
    sigma : float, >= 0
        Weight of ``||s||^3 / 3``. Zero only where all eigenvalues are positive.

    Returns
    -------
    Step
        As of `secular_trust_region`; status "converged", ``multiplier`` nu, and the
        decrease of the model with its cubic term.

    Raises
    ------
    ValueError
        If sigma is negative or not finite, or zero where the model has no minimizer.

    References
    ----------
    .. [1] Cartis, Gould, Toint, Adaptive cubic regularisation methods for
       unconstrained optimization I, Math. Program. 127 (2011), Theorem 3.1,
       Section 6.1.
    """
    if sigma != 0.0:
        check_positive("sigma", sigma)
    sigma = float(sigma)
    # Units in which sigma = 1 and neither Hessian nor gradient exceeds one.
    norm = float(dnrm2(gradient))
    unit = float(np.maximum(largest_modulus(values), np.sqrt(sigma) * np.sqrt(norm)))
    if not math.isfinite(unit):
        return _failed(gradient)
    unit = power_of_two(unit)
    definite = values[0] > len(values) * EPS * values[-1]
    if definite and norm / unit * (sigma / unit) < 1e-290:
        # The cubic term is far below the rounding of the quadratic one.
        s = -gradient / values
        nu = float(sigma * dnrm2(s))
        return Step(s, 0.5 * float(-gradient @ s), 0, "converged", nu)
    if sigma == 0.0:
        raise ValueError(
            "sigma must be > 0 where the Hessian is not positive definite, got 0.0"
        )
    model = Shifted.of(values / unit, gradient / unit * (sigma / unit))
    t, x, iterations = model.solve(level=model.base, slope=1.0)
    norm = float(dnrm2(t))
    if model.base > 0.0 and x == 0.0:
        t[0] = math.sqrt(max(0.0, (model.base - norm) * (model.base + norm)))
        norm = model.base
    # As in a ball, less the cubic term nu ||s||^2 / 3.
    decrease = 0.5 * float(model.gradient @ -t) + norm**3 / 6.0
    length = unit / sigma
    return Step(
        length * t,
        unit * length * decrease * length,
        iterations,
        "converged",
        unit * norm,
    )


def _failed(gradient: Array) -> Step:
    return Step(np.full_like(gradient, np.nan), math.nan, 0, "inconsistent", math.nan)
