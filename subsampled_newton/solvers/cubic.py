"""Sub-sampled adaptive cubic regularization.

Cartis, Gould, Toint, Adaptive cubic regularisation methods; Kohler and Lucchi,
Sub-sampled cubic regularization for non-convex optimization; Xu, Roosta-Khorasani,
Mahoney, Newton-type methods under inexact Hessian information, Algorithm 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.parameters import check_flag, check_number, check_one_of
from subsampled_newton.solvers._ratio import (
    EXACT_MAX_PARAMS,
    LocalModel,
    RatioSolver,
)
from subsampled_newton.subproblems._step import Step
from subsampled_newton.subproblems.cubic import cauchy_point, cubic_gradient_descent
from subsampled_newton.subproblems.lanczos import krylov_cubic, lanczos_cubic

__all__ = ["CubicRegularization"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CubicRegularization(RatioSolver):
    """Sub-sampled adaptive regularization with cubics: ARC, SCR.

    As `TrustRegion`, with the model ``g's + s'H_S s / 2 + (sigma/3) ||s||**3`` in place
    of the ball. A rejected step doubles sigma, an accepted one divides it by 1.2, a
    very good one by 2, or lowers it to the norm of the gradient (section 7 of [1]_), so
    that the last steps are those of Newton's method.

    Parameters
    ----------
    hessian_sample, sampling, curvature, gradient_sample, very_good, good, max_inner, \
eps_h, perturbation
        As in `TrustRegion`.
    adaptive_gradient : bool or "inverse-step", default True
        True: as in `TrustRegion`. ``"inverse-step"``: the gradient sample is in inverse
        proportion to the fourth power of the step, from the first size up, and after a
        rejection both samples are drawn anew with 1.25 times the rows; with
        `InverseStep` for the Hessian these are the sizes of [2]_.
    paper_compat : bool, default False
        The rules of the published code of [3]_ and [4]_: no allowance for rounding in
        the ratio; sigma not lowered to the norm of the gradient; gradient samples of at
        most ten times the first; Lanczos by default, whose ``min(d, max_inner)``
        products are all made and counted at every attempt, in the Krylov space of the
        gradient plus ``randn(d)``; gradient descent on the model without noise.
    sigma : float, default 10.0
        First weight of the cubic term, as published. It follows the steps from there
        on, but decides which of several minimizers of a non-convex objective is found.
    sigma_min : float, default 1e-6
        Smallest weight, as published.
    adaptive : bool, default True
        False: sigma stays and every step is accepted, the "SCR" that [4]_ compares
        with; no test protects it.
    sigma_rule : {"xu", "kohler-lucchi"}, default "xu"
        ``"kohler-lucchi"``: sigma is doubled after a rejection, halved after a very
        good step, otherwise kept.
    subproblem : str, default "auto"
        ``"exact"``: one eigendecomposition per point; ``"lanczos"``: generalized
        Lanczos; ``"gradient-descent"``: ten steps of gradient descent on the model;
        ``"cauchy"``: the minimizer along the gradient. ``"auto"``: exact up to 200
        parameters, Lanczos above.
    smoothness : float, optional
        Bound of the Hessian that gradient descent on the model takes its steps from;
        0.1 in the published code. Default: an estimate from three products.

    Notes
    -----
    Differs from the papers in the ratio, which allows for rounding near the solution;
    in sigma, lowered to the norm of the gradient after a very good step; in samples
    that are drawn anew after three rejections; in probabilities ``0.9 p + 0.1 / n``
    where sampling is not uniform; and in the subproblem, which is solved exactly or to
    a relative residual of 0.01. ``paper_compat`` takes back the first two and the last.
    With it, the model in the Krylov space is minimized exactly where the published code
    has a quasi-Newton routine.

    The published code of [2]_, which adapts sigma, is ``CubicRegularization(
    InverseStep(0.05), gradient_sample=0.25, adaptive_gradient="inverse-step",
    sigma=1.0, sigma_min=1e-16, sigma_rule="kohler-lucchi", very_good=0.9, good=0.1)``
    but for its draws with replacement and the tolerance of its subproblem.

    References
    ----------
    .. [1] C. Cartis, N. Gould, P. Toint, Adaptive cubic regularisation methods for
       unconstrained optimization, part I, Math. Program. 2011, Algorithm 2.1.
    .. [2] J. Kohler, A. Lucchi, Sub-sampled cubic regularization for non-convex
       optimization, ICML 2017.
    .. [3] P. Xu, F. Roosta, M. W. Mahoney, Newton-type methods for non-convex
       optimization under inexact Hessian information, Math. Program. 2020, Algorithm 2.
    .. [4] Z. Yao, P. Xu, F. Roosta, M. W. Mahoney, Inexact nonconvex Newton-type
       methods, INFORMS J. Optim. 2021.
    """

    sigma: float = 10.0
    sigma_min: float = 1e-6
    adaptive: bool = True
    subproblem: Literal["auto", "exact", "lanczos", "gradient-descent", "cauchy"] = (
        "auto"
    )
    smoothness: float | None = None
    sigma_rule: Literal["xu", "kohler-lucchi"] = "xu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("sigma_rule", self.sigma_rule, ("xu", "kohler-lucchi"))
        check_number("sigma", self.sigma, "> 0")
        check_number("sigma_min", self.sigma_min, "> 0")
        check_flag("adaptive", self.adaptive)
        check_number("smoothness", self.smoothness, "> 0", optional=True)

    @staticmethod
    def subproblems() -> tuple[str, ...]:
        """Names of the solvers of the subproblem."""
        return ("auto", "exact", "lanczos", "gradient-descent", "cauchy")

    def first_size(self) -> float:
        """First sigma."""
        return self.sigma

    def accepts(self, ratio: float) -> bool:
        """Whether a step of this ratio is taken."""
        return super().accepts(ratio) or not self.adaptive

    def method(self, n_params: int) -> str:
        """Solver of the subproblem, "auto" decided."""
        if self.subproblem != "auto":
            return self.subproblem
        small = n_params <= EXACT_MAX_PARAMS and not self.paper_compat
        return "exact" if small else "lanczos"

    def minimize_model(
        self, model: LocalModel, size: float, rng: np.random.Generator
    ) -> Step:
        """Minimize the model with its cubic term."""
        g, H = model.gradient, model.hessian
        name = self.method(len(g))
        if name == "exact":
            return model.spectrum.cubic(g, size)
        if name == "cauchy":
            return cauchy_point(H.matvec, g, sigma=size)
        if name == "gradient-descent":
            step = cubic_gradient_descent(
                H.matvec,
                g,
                sigma=size,
                smoothness=self.smoothness,
                rng=None if self.paper_compat else rng,
            )
            if step.model_decrease > 0.0:
                return step
            # The Hessian is larger than the bound: the iterates have diverged.
            return cauchy_point(H.matvec, g, sigma=size)
        H.prepare(min(self.max_inner, len(g)))
        if self.paper_compat:
            return krylov_cubic(
                H.matvec, g, sigma=size, n_products=self.max_inner, rng=rng
            )
        return lanczos_cubic(
            H.matvec,
            g,
            sigma=size,
            rtol=0.01,
            max_iter=self.max_inner,
            rng=rng,
            start=self.krylov_start(g, rng),
        )

    def model_curvature(self, step: Step, slope: float, size: float) -> float:
        """``s'H_S s``: the decrease of the model holds the cubic term, too."""
        cubic = size / 3.0 * float(np.linalg.norm(step.vector)) ** 3
        return super().model_curvature(step, slope + cubic, size)

    def along_negative_curvature(
        self, direction: Array, slope: float, curvature: float, size: float
    ) -> Step:
        """Minimize the model along the direction."""
        root = math.sqrt(curvature * curvature + 4.0 * size * abs(slope))
        length = (root - curvature) / (2.0 * size)
        t = -math.copysign(length, slope)
        cubic = size / 3.0 * length**3
        decrease = -(t * slope + 0.5 * t * t * curvature + cubic)
        return Step(t * direction, decrease, 1, "converged", size * length)

    def enlarged(self, size: float) -> float:
        """Sigma after a step too short to be seen in F."""
        return max(size / 256.0, self.sigma_min)

    def resized(
        self, size: float, ratio: float, step: Step, gradient_norm: float
    ) -> float:
        """Sigma after an attempt."""
        if not self.adaptive:
            return size
        if ratio < self.good:
            return 2.0 * size
        if self.sigma_rule == "kohler-lucchi":
            return max(self.sigma_min, size / 2.0) if ratio >= self.very_good else size
        smaller = size / (2.0 if ratio >= self.very_good else 1.2)
        if ratio >= self.very_good and not self.paper_compat:
            smaller = min(smaller, gradient_norm)
        return max(self.sigma_min, smaller)
