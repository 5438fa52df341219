"""Sub-sampled trust-region methods.

Xu, Roosta-Khorasani, Mahoney, Newton-type methods for non-convex optimization under
inexact Hessian information, Algorithm 1; Yao, Xu, Roosta, Mahoney, Inexact non-convex
Newton-type methods, for sampled gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.parameters import check_number
from subsampled_newton.solvers._ratio import (
    EXACT_MAX_PARAMS,
    LocalModel,
    RatioSolver,
)
from subsampled_newton.subproblems._step import Step
from subsampled_newton.subproblems.conjugate_gradient import steihaug
from subsampled_newton.subproblems.lanczos import lanczos_trust_region
from subsampled_newton.subproblems.more_sorensen import more_sorensen

__all__ = ["TrustRegion"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrustRegion(RatioSolver):
    """Sub-sampled trust region: minimizers and saddle points of non-convex sums.

    In each iteration: gradient g (full or sampled), Hessian ``H_S`` of a sample,

    1. s minimizes ``g's + s'H_S s / 2`` over ``||s|| <= radius``;
    2. ``ratio = (F(w) - F(w + s)) / (-g's - s'H_S s / 2)`` with the full F;
    3. below ``good``: reject, halve the radius, try again with the same model (with new
       samples after three rejections, after each one where F is flat to rounding);
       otherwise accept; above ``very_good`` double the radius if the step has reached
       it, else multiply it by 1.2.

    Negative curvature is used, so the method leaves saddle points; a stationary point
    is reported as converged only after the smallest eigenvalue of the full Hessian has
    been looked at (``eps_h``).

    Parameters
    ----------
    hessian_sample : float, int or SizeRule, default 0.05
        As in `SubsampledNewton`; 1.0 for the full Hessian.
    sampling : {"uniform", "row-norms", "leverage"}, default "uniform"
        As in `SubsampledNewton`, drawn with replacement.
    curvature : {"hessian", "gauss-newton"}, default "hessian"
        The Gauss-Newton matrix sees no negative curvature.
    gradient_sample : float in (0, 1), optional
        Fraction of the rows of the first gradient sample. Default: full gradients.
    adaptive_gradient : bool, default True
        Divide the gradient sample by 1.2 when the gradient norm grows by 1.2, multiply
        it when the norm falls by 1.2: from 2/5 of the first size up to all rows.
    very_good, good : float, default 0.8 and 1e-4
        Thresholds of the ratio, as published.
    max_inner : int, default 250
        Largest number of products with the Hessian in a subproblem.
    eps_h : float, optional, default 1e-4
        Negative eigenvalues of the full Hessian below ``-eps_h`` are left; the square
        root of the usual ``tol``, the pairing of the theory. None: stop at any
        stationary point. Convex problems are not asked.
    paper_compat : bool, default False
        The rules of the published code: the radius grows after every accepted step
        whether it was reached or not and is divided after a rejection whatever the
        step; no allowance for rounding in the ratio; gradient samples of at most ten
        times the first; Steihaug's method to a relative residual of 1e-9.
    perturbation : float >= 0, default 0
        Lanczos' method starts from the gradient g plus a random vector of this times
        its norm, as in the published codes: with 0.01 it finds nearly always negative
        curvature that is orthogonal to g, the hard case, at about three times the
        products, with 1 always. From g alone a step may miss it, though the certificate
        at the end does not.
    radius : float, default 10.0
        First radius. It follows the steps from there on, but decides which of several
        minimizers of a non-convex objective is found.
    subproblem : str, default "auto"
        ``"exact"``: one eigendecomposition per point, rejections are free of linear
        algebra; ``"lanczos"``: generalized Lanczos (GLTR); ``"steihaug"``: truncated
        conjugate gradients, the choice of the papers; ``"more-sorensen"``: Cholesky
        factorisations, for some hundred parameters. ``"auto"``: exact up to 200
        parameters, Lanczos above; Steihaug with ``paper_compat``.

    Notes
    -----
    Differs from the papers in the ratio, which allows for rounding near the solution;
    in the radius, which grows only when it was reached and shrinks to half of a
    rejected step; in samples that are drawn anew after three rejections; in
    probabilities ``0.9 p + 0.1 / n`` where sampling is not uniform; and in the
    subproblem, which is solved exactly or to a relative residual of 0.01.
    ``paper_compat`` takes back the first two and the last. With it Steihaug's method
    starts from zero, that of the code of [3]_ from a random point of the ball.

    References
    ----------
    .. [1] P. Xu, F. Roosta, M. W. Mahoney, Newton-type methods for non-convex
       optimization under inexact Hessian information, Math. Program. 2020, Algorithm 1.
    .. [2] P. Xu, F. Roosta, M. W. Mahoney, Second-order optimization for non-convex
       machine learning: an empirical study, SDM 2020.
    .. [3] Z. Yao, P. Xu, F. Roosta, M. W. Mahoney, Inexact nonconvex Newton-type
       methods, INFORMS J. Optim. 2021.
    """

    radius: float = 10.0
    subproblem: Literal["auto", "exact", "lanczos", "steihaug", "more-sorensen"] = (
        "auto"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("radius", self.radius, "> 0")

    @staticmethod
    def subproblems() -> tuple[str, ...]:
        """Names of the solvers of the subproblem."""
        return ("auto", "exact", "lanczos", "steihaug", "more-sorensen")

    def first_size(self) -> float:
        """First radius."""
        return self.radius

    def method(self, n_params: int) -> str:
        """Solver of the subproblem, "auto" decided."""
        if self.subproblem != "auto":
            return self.subproblem
        if self.paper_compat:
            return "steihaug"
        return "exact" if n_params <= EXACT_MAX_PARAMS else "lanczos"

    def minimize_model(
        self, model: LocalModel, size: float, rng: np.random.Generator
    ) -> Step:
        """Minimize the model in the ball."""
        g, H = model.gradient, model.hessian
        name = self.method(len(g))
        if name == "exact":
            return model.spectrum.trust_region(g, size)
        if name == "more-sorensen":
            return more_sorensen(model.matrix, g, radius=size)
        H.prepare(min(self.max_inner, len(g)))
        if name == "steihaug":
            rtol = 1e-9 if self.paper_compat else 0.01
            return steihaug(
                H.matvec, g, radius=size, rtol=rtol, max_iter=self.max_inner
            )
        return lanczos_trust_region(
            H.matvec,
            g,
            radius=size,
            rtol=0.01,
            max_iter=self.max_inner,
            rng=rng,
            start=self.krylov_start(g, rng),
        )

    def along_negative_curvature(
        self, direction: Array, slope: float, curvature: float, size: float
    ) -> Step:
        """Go to the boundary, downhill."""
        t = -math.copysign(size, slope)
        decrease = -(t * slope + 0.5 * t * t * curvature)
        return Step(t * direction, decrease, 1, "boundary")

    def enlarged(self, size: float) -> float:
        """Radius after a step too short to be seen in F."""
        return min(16.0 * size, 1e100)

    def resized(
        self, size: float, ratio: float, step: Step, gradient_norm: float
    ) -> float:
        """Radius after an attempt."""
        norm = float(np.linalg.norm(step.vector))
        if ratio < self.good:
            return (size if self.paper_compat else min(size, norm)) / 2.0
        if norm < 0.9 * size and not self.paper_compat:
            return size
        return size * (2.0 if ratio >= self.very_good else 1.2)
