"""The loop that trust-region and cubic regularization methods share.

A model of F from a gradient and a sampled Hessian is minimized with a limit on the
step; the step is judged by the ratio of the actual to the predicted decrease of F. What
the limit is, and how it is changed, is in the file of each method.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.certificate import Certificate, certify
from subsampled_newton.linesearch import FLAT
from subsampled_newton.parameters import (
    check_count,
    check_flag,
    check_number,
    check_one_of,
)
from subsampled_newton.problem import Curvature, FiniteSum, Hessian, Line, Point
from subsampled_newton.sampling import Sample, full, uniform, with_replacement
from subsampled_newton.solvers._descent import ROUNDING
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._sizes import Evidence, SizeRule, as_size_rule
from subsampled_newton.subproblems._step import Step
from subsampled_newton.subproblems.spectral import Spectrum

__all__ = ["LocalModel", "RatioSolver", "RatioState"]

Array = NDArray[np.float64]
GRADIENT_RULES = (True, False, "inverse-step")
ENLARGED = 1.25
"""Growth of the samples after a rejection, in the published code of the rule
"inverse-step"."""
RESAMPLE = 3
"""Rejections in a row after which another sample is drawn, as in the published code."""
MAX_REJECTIONS = 100
"""In a row, before the run ends: the step is 2**-100 of the first attempt."""
LIMITED = 0.1
"""Share of the decrease above which the limit, not the curvature, has set a step."""
EPS = float(np.finfo(np.float64).eps)
EXACT_MAX_PARAMS = 200
"""Up to here an eigendecomposition costs less than the products it replaces."""


class LocalModel:
    """Gradient and Hessian at a point; kept while steps from it are rejected."""

    def __init__(self, gradient: Array, hessian: Hessian) -> None:
        self.gradient, self.hessian = gradient, hessian

    @cached_property
    def matrix(self) -> Array:
        """The Hessian as a matrix: formed once per point, rejections use it again."""
        return self.hessian.dense()

    @cached_property
    def spectrum(self) -> Spectrum:
        """Its eigendecomposition."""
        return Spectrum(self.matrix)


@dataclass(frozen=True)
class RatioState(State):
    """State between two steps."""

    size: float = math.nan
    """Radius of the trust region, or weight sigma of the cubic term."""
    gradient_rows: int = 0
    """Rows of the next gradient sample; 0 for the full gradient."""
    reference_norm: float = math.nan
    """Gradient norm at the last change of the size of the gradient sample."""
    sample_size: int = 0
    first_step: float = math.nan
    """Norm of the first accepted step, for `InverseStep`."""
    step_norm: float = math.nan
    decrement: float = math.nan
    """Predicted decrease of the first attempt at the point."""
    previous: float | None = None
    """Predicted decrease of the last accepted step; None if it was limited, or its
    gradient sampled."""
    rejections: int = 0
    """Rejected steps in a row."""
    ratio: float = math.nan
    rows: NDArray[np.intp] | None = None
    """Gradient sample in use; None for all rows, or before it is drawn."""
    sample: Sample | None = None
    """Hessian sample in use; None before it is drawn."""
    model: LocalModel | None = None
    escape: Array | None = None
    """Direction of negative curvature that the certificate found."""

    def detached(self) -> Self:
        """Without what the samples and the point determine."""
        return replace(super().detached(), model=None)


@dataclass(frozen=True)
class RatioSolver(ABC):
    """Parameters and the step that the methods share; see `TrustRegion`."""

    hessian_sample: float | int | SizeRule = 0.05
    sampling: Literal["uniform", "row-norms", "leverage"] = "uniform"
    curvature: Curvature = "hessian"
    gradient_sample: float | None = None
    adaptive_gradient: bool | Literal["inverse-step"] = True
    very_good: float = 0.8
    good: float = 1e-4
    max_inner: int = 250
    eps_h: float | None = 1e-4
    paper_compat: bool = False
    perturbation: float = 0.0

    def __post_init__(self) -> None:
        as_size_rule(self.hessian_sample)
        check_one_of("sampling", self.sampling, ("uniform", "row-norms", "leverage"))
        check_one_of("curvature", self.curvature, ("hessian", "gauss-newton"))
        check_one_of("subproblem", vars(self)["subproblem"], self.subproblems())
        check_number(
            "gradient_sample", self.gradient_sample, "in (0, 1)", optional=True
        )
        check_number("very_good", self.very_good, "in (0, 1)")
        check_number("good", self.good, "in (0, 1)")
        if not self.good < self.very_good:
            raise ValueError(
                f"good must be < very_good, got {self.good!r} and {self.very_good!r}"
            )
        check_count("max_inner", self.max_inner)
        check_number("eps_h", self.eps_h, "> 0", optional=True)
        check_one_of("adaptive_gradient", self.adaptive_gradient, GRADIENT_RULES)
        check_flag("paper_compat", self.paper_compat)
        check_number("perturbation", self.perturbation, ">= 0")

    @staticmethod
    @abstractmethod
    def subproblems() -> tuple[str, ...]:
        """Names of the solvers of the subproblem."""

    @abstractmethod
    def method(self, n_params: int) -> str:
        """Solver of the subproblem, "auto" decided."""

    @abstractmethod
    def minimize_model(
        self, model: LocalModel, size: float, rng: np.random.Generator
    ) -> Step:
        """Step of the model with its limit."""

    @abstractmethod
    def along_negative_curvature(
        self, direction: Array, slope: float, curvature: float, size: float
    ) -> Step:
        """Step of the model on a line where it has no minimizer without a limit."""

    @abstractmethod
    def resized(
        self, size: float, ratio: float, step: Step, gradient_norm: float
    ) -> float:
        """Size after an attempt, with the norm of the gradient of the model."""

    @abstractmethod
    def enlarged(self, size: float) -> float:
        """Size after a step too short to be seen in F."""

    def krylov_start(self, gradient: Array, rng: np.random.Generator) -> Array | None:
        """First vector of Lanczos' method; None for the gradient."""
        norm = float(np.linalg.norm(gradient))
        if self.perturbation == 0.0 or not 0.0 < norm < math.inf:
            return None
        noise = rng.standard_normal(len(gradient))
        noise *= self.perturbation * norm / float(np.linalg.norm(noise))
        start: Array = gradient + noise
        return start

    def accepts(self, ratio: float) -> bool:
        """Whether a step of this ratio is taken."""
        return ratio >= self.good

    @abstractmethod
    def first_size(self) -> float:
        """Size of the first attempt."""

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> RatioState:
        """State before the first step."""
        rows = 0
        if self.gradient_sample is not None:
            rows = max(1, math.ceil(self.gradient_sample * problem.n_samples))
        return RatioState(
            point,
            size=self.first_size(),
            gradient_rows=rows if rows < problem.n_samples else 0,
            sample_size=as_size_rule(self.hessian_sample).first(problem),
        )

    def step(
        self, problem: FiniteSum, state: RatioState, rng: np.random.Generator
    ) -> RatioState:
        """One attempt: minimize the model, accept or reject, change the limit."""
        state = self._with_model(problem, state, rng)
        point, model = state.point, state.model
        assert model is not None
        gradient = model.gradient
        if state.escape is not None:
            product = model.hessian.matvec(state.escape)
            step = self.along_negative_curvature(
                state.escape,
                float(gradient @ state.escape),
                float(state.escape @ product),
                state.size,
            )
        else:
            step = self.minimize_model(model, state.size, rng)
        norm = float(np.linalg.norm(step.vector))
        gradient_norm = float(np.linalg.norm(gradient))
        line = point.along(step.vector)
        trial = line(1.0)
        actual, predicted = point.value - trial.value, step.model_decrease

        # Near the solution both decreases are below the rounding of F, and their ratio
        # would be noise. The published codes reject such steps until they give up.
        rounding = 0.0 if self.paper_compat else FLAT * abs(point.value)
        expected, outcome = predicted + rounding, None
        # A sampled gradient may be 0 where the gradient is not: then there is no step.
        ratio = (actual + rounding) / expected if expected > 0.0 else -math.inf
        accepted = math.isfinite(trial.value) and self.accepts(ratio)
        sampled = state.rows is not None
        first = predicted if state.rejections == 0 else state.decrement
        if not predicted > rounding and not self.paper_compat:
            accepted = not sampled and bool(
                abs(actual) <= 2.0 * rounding
                and np.linalg.norm(trial.point.gradient) < gradient_norm
            )
        if not accepted and state.rejections == MAX_REJECTIONS:
            outcome = Status.SMALL_STEP
        again = (state.rejections + 1) % RESAMPLE == 0
        # Whether the limit alone decides how far the step goes, as where it is far too
        # tight or the Hessian vanishes: both sides are then equal.
        limited = step.multiplier * norm * norm > 0.99 * predicted
        unseen = 0.0 < predicted <= rounding and limited and state.rejections == 0
        unseen = unseen and not (accepted or sampled or self.paper_compat)
        if not accepted and not sampled and not unseen:
            if 0.0 < first <= ROUNDING * abs(point.value) and not limited:
                # A step of another sample may still make the gradient smaller.
                again = state.rejections < RESAMPLE and not self.paper_compat
                if not (again and self._samples(problem, state)):
                    outcome = Status.STALLED
            elif norm <= EPS * float(np.linalg.norm(point.w)):
                outcome = Status.SMALL_STEP
        if not accepted:
            ratio = min(ratio, 0.0) if math.isfinite(ratio) else -math.inf
        state = replace(
            state,
            iteration=state.iteration + 1,
            step_size=state.size,
            inner_iterations=step.inner_iterations,
            hessian_rows=state.sample.n_rows if state.sample else 0,
            gradient_estimate=gradient_norm if sampled else None,
            value_estimate=trial.value if accepted else point.value,
            outcome=outcome,
            size=self._next_size(state.size, ratio, step, gradient_norm, unseen),
            ratio=ratio,
            step_norm=norm,
            decrement=first,
        )
        if accepted:
            evidence = self._evidence(problem, state, step, line)
            return self._moved(problem, state, trial.point, evidence)
        if unseen:  # no verdict about the model, only about the limit
            return state
        rejections = state.rejections + 1
        state = replace(state, rejections=rejections)
        if self.adaptive_gradient == "inverse-step" and rejections <= MAX_REJECTIONS:
            return self._enlarged(problem, state)
        if not again or not (sampled or self._samples(problem, state)):
            return state
        rows = state.gradient_rows
        if self.adaptive_gradient and not self.paper_compat:
            rows = 2 * rows  # perhaps it was the gradient
        rows = rows if rows < problem.n_samples else 0
        state = replace(state, rows=None, sample=None, model=None, gradient_rows=rows)
        return replace(state, outcome=None if rejections < MAX_REJECTIONS else outcome)

    def _enlarged(self, problem: FiniteSum, state: RatioState) -> RatioState:
        """State after a rejection that larger samples answer, if there are any."""
        if state.rows is None and not self._samples(problem, state):
            return state
        n = problem.n_samples
        rows = math.ceil(ENLARGED * state.gradient_rows)
        return replace(
            state,
            outcome=None,
            rows=None,
            sample=None,
            model=None,
            gradient_rows=rows if rows < n else 0,
            sample_size=min(n, math.ceil(ENLARGED * state.sample_size)),
        )

    def certify(
        self, problem: FiniteSum, state: RatioState, rng: np.random.Generator
    ) -> Certificate | None:
        """Second-order conditions where the gradient has vanished; None if convex."""
        if problem.convex or self.eps_h is None:
            return None
        return certify(problem, state.point.w, eps_h=self.eps_h, seed=rng)

    def escape(self, state: RatioState, certificate: Certificate) -> RatioState:
        """Go on from a saddle along the direction of negative curvature."""
        return replace(
            state,
            escape=certificate.direction,
            gradient_rows=0,
            rows=None,
            sample=None,
            model=None,
        )

    def _next_size(
        self,
        size: float,
        ratio: float,
        step: Step,
        gradient_norm: float,
        unseen: bool,
    ) -> float:
        if unseen:
            return self.enlarged(size)
        if not np.any(step.vector):
            return size
        return self.resized(size, ratio, step, gradient_norm)

    def model_curvature(self, step: Step, slope: float, size: float) -> float:
        """``s'H_S s`` from the decrease that the model predicts."""
        return -2.0 * (step.model_decrease + slope)

    def _evidence(
        self, problem: FiniteSum, state: RatioState, step: Step, line: Line
    ) -> Evidence:
        """What an accepted step of size ``state.step_size`` shows of its sample."""
        assert state.model is not None
        norm, ratio = state.step_norm, 1.0
        rule = as_size_rule(self.hessian_sample)
        if rule.uses_curvature and self._samples(problem, state):
            slope = float(state.model.gradient @ step.vector)
            of_model = self.model_curvature(step, slope, state.step_size)
            along = line.curvature()
            # None at all where the losses of all rows are flat, as a squared hinge's.
            ratio = of_model / along if along != 0.0 else math.inf
        limited = step.multiplier * norm * norm > LIMITED * step.model_decrease
        # Decreases that sampled gradients predict do not show what the Hessian did.
        limited = limited or state.rows is not None
        first = norm if math.isnan(state.first_step) else state.first_step
        return Evidence(
            problem.n_samples,
            ratio,
            None if limited else 1.0,
            step.model_decrease,
            state.previous,
            first / norm,
        )

    def _moved(
        self,
        problem: FiniteSum,
        state: RatioState,
        point: Point,
        evidence: Evidence,
    ) -> RatioState:
        """State at an accepted point, with the sizes of its samples."""
        size = as_size_rule(self.hessian_sample).next(state.sample_size, evidence)
        first = state.step_norm if math.isnan(state.first_step) else state.first_step
        state = replace(
            state,
            point=point,
            first_step=first,
            previous=evidence.decrement if evidence.step_size else None,
            rejections=0,
            rows=None,
            sample=None,
            model=None,
            escape=None,
        )
        rows, reference = state.gradient_rows, state.reference_norm
        norm = state.gradient_estimate
        if self.adaptive_gradient == "inverse-step" and rows:
            assert self.gradient_sample is not None
            assert evidence.growth is not None
            start = self.gradient_sample * problem.n_samples
            wanted = start * max(1.0, evidence.growth**4)
            rows = math.ceil(wanted) if wanted < problem.n_samples else 0
        elif self.adaptive_gradient and norm is not None and rows:
            # The batch follows the gradient: smaller far away, larger near the end.
            n, start = problem.n_samples, self.gradient_sample or 1.0
            most = min(n, 10.0 * start * n) if self.paper_compat else n
            if math.isnan(reference):
                reference = norm
            elif norm > 1.2 * reference:
                rows = max(1, math.ceil(max(rows / 1.2, 0.4 * start * n)))
                reference = norm
            elif norm < reference / 1.2:
                rows, reference = math.ceil(min(1.2 * rows, most)), norm
            rows = rows if rows < n else 0
        return replace(
            state, sample_size=size, gradient_rows=rows, reference_norm=reference
        )

    def _with_model(
        self, problem: FiniteSum, state: RatioState, rng: np.random.Generator
    ) -> RatioState:
        """State with its model: drawn, or made again after a resume."""
        if state.model is not None:
            return state
        point, n = state.point, problem.n_samples
        if state.sample is not None:
            with problem.work.uncounted():  # the interrupted run has paid for it
                model = self._model(problem, state)
                if self.method(problem.n_params) in ("exact", "more-sorensen"):
                    _ = model.matrix
                elif state.rejections:
                    model.hessian.prepare(min(self.max_inner, problem.n_params))
                return replace(state, model=model)
        rows, size = None, state.sample_size
        if state.gradient_rows:
            rows = uniform(n, state.gradient_rows, rng).rows
        if size >= n or state.escape is not None:
            sample = full(n)
        elif self.sampling == "uniform":
            sample = uniform(n, size, rng)
        else:
            scores = problem.row_scores(self.sampling, point, rng)
            sample = with_replacement(scores, size, rng)
        state = replace(state, rows=rows, sample=sample)
        return replace(state, model=self._model(problem, state))

    def _model(self, problem: FiniteSum, state: RatioState) -> LocalModel:
        point, rows, sample = state.point, state.rows, state.sample
        assert sample is not None
        curvature = "hessian" if state.escape is not None else self.curvature
        if rows is None:
            gradient = point.gradient
        else:
            gradient = problem.restrict(rows).at(point.w).gradient
        return LocalModel(gradient, point.hessian(sample, curvature))

    def _samples(self, problem: FiniteSum, state: RatioState) -> bool:
        return state.sample is not None and state.sample.n_rows < problem.n_samples
