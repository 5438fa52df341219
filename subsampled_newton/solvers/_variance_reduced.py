"""What SAG, SAGA and SVRG share: what they remember, their step sizes, their epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.kernels import epochs
from subsampled_newton.linear_model import LinearModel, LinearPoint
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._samples import (
    Samples,
    check_problem,
    curvature_bound,
    samples_of,
)

__all__ = [
    "EpochState",
    "Memory",
    "check_model",
    "check_rule",
    "outcome",
    "prepare",
    "run_epoch",
]

Array = NDArray[np.float64]
RULES = ("line-search", "1/L")
TINY = 1e-300
"""Stands in for a smoothness constant of 0."""


@dataclass(frozen=True)
class Memory:
    """What an epoch hands on to the next one. Arrays as in `kernels.epochs`."""

    table: Array
    """Derivatives ``a_i`` of the losses, then estimates of the constants L_i."""
    sums: Array
    """``sum_i a_i x_i``, one row per output."""
    seen: NDArray[np.bool_]
    control: Array
    probabilities: Array | None = None
    """n times the probabilities of the samples; None if they are uniform."""

    def copy(self) -> Memory:
        """Return a memory that an epoch may change."""
        return replace(
            self,
            table=self.table.copy(),
            sums=self.sums.copy(),
            seen=self.seen.copy(),
            control=self.control.copy(),
        )

    def fill(self, samples: Samples, point: Point) -> None:
        """Take all derivatives at one point. They are known: no row is read."""
        assert isinstance(point, LinearPoint)
        samples.slopes(point.z, self.table)
        mean = point.gradient - samples.problem.l2 * point.w
        self.sums[:] = samples.n * samples.parameters(mean)

    @property
    def step_size(self) -> float:
        """The last one."""
        return float(self.control[epochs.STEP_SIZE])


@dataclass(frozen=True)
class EpochState(State):
    """State of a method whose step is an epoch over a table of derivatives."""

    memory: Memory | None = None
    samples: Samples | None = None

    def detached(self) -> Self:
        """Without what can be computed again."""
        return replace(super().detached(), samples=None)


def check_rule(
    step_size: str | float,
    fraction: float,
    sampling: str,
    rules: tuple[str, ...] = RULES,
) -> None:
    """Raise unless the parameters of the step size and of the sampling are allowed."""
    number = isinstance(step_size, int | float) and not isinstance(step_size, bool)
    if step_size not in rules and not (number and 0.0 < float(step_size) < math.inf):
        raise ValueError(
            f"step_size must be one of {rules} or a number > 0, got {step_size!r}"
        )
    if not (isinstance(fraction, int | float) and 0.0 < fraction < math.inf):
        raise ValueError(f"fraction must be a number > 0, got {fraction!r}")
    if sampling not in ("lipschitz", "uniform"):
        raise ValueError(
            f"sampling must be one of ('lipschitz', 'uniform'), got {sampling!r}"
        )


def check_model(problem: FiniteSum, solver: str, step_size: str | float) -> None:
    """Raise unless epochs can read the problem and the rule knows its constants."""
    model = check_problem(problem, solver)
    if step_size == "1/L":
        curvature_bound(model, solver, "step_size='line-search'")


def prepare(
    problem: FiniteSum,
    state: EpochState,
    *,
    step_size: str | float,
    fraction: float,
    sampling: str,
) -> tuple[Samples, Memory]:
    """Return the samples and a memory to change, with the next step size in it.

    That is a number or ``fraction / (max_i L_i / (n p_i) + max_j l2_j)``. The constants
    L_i are bounds, or estimates that the line search in the epochs adapts.
    """
    assert isinstance(problem, LinearModel)
    samples, k = state.samples, state.iteration
    if samples is None and k == 0:
        samples = samples_of(problem)
    elif samples is None:
        with problem.work.uncounted():  # the interrupted run has paid for it
            samples = samples_of(problem)
    if state.memory is None:
        memory = _first_memory(problem, state.point, samples)
    else:
        memory = state.memory.copy()
        if samples.alias is None:
            samples = samples.with_probabilities(memory.probabilities)

    ridge = max(float(problem.l2.max()), TINY)
    L = samples.of_active(memory.table[:, -1])
    searching = isinstance(step_size, str) and step_size != "1/L"
    # Estimates change most at the beginning, and the table for the draws costs a tenth
    # of an epoch.
    if sampling == "lipschitz" and (k == 0 or (searching and k & (k - 1) == 0)):
        # Half of the draws uniform: a sample waits for 2 n steps on average, at most,
        # and counts at most twice.
        p = 0.5 + 0.5 * (L + ridge) / np.mean(L + ridge)
        samples = samples.with_probabilities(p)
        memory = replace(memory, probabilities=p)
    largest = float(np.max(L * samples.of_active(samples.table[:, epochs.IMPORTANCE])))
    control = memory.control
    control[epochs.RIDGE] = ridge
    control[epochs.MEAN_MASS] = max(float(np.mean(L)), TINY)
    control[epochs.LARGEST] = largest
    control[epochs.FRACTION] = fraction if searching else 0.0
    control[epochs.STEP_SIZE] = (
        fraction / (largest + ridge) if isinstance(step_size, str) else step_size
    )
    return samples, memory


def _first_memory(problem: LinearModel, point: Point, samples: Samples) -> Memory:
    """An empty table, with ``L_i`` from a bound or from the curvature at the start."""
    table = np.zeros((problem.n_samples, samples.n_outputs + 1))
    bound = float(problem.loss.curvature_bound)
    if math.isfinite(bound):
        table[:, -1] = bound * samples.sizes
    else:
        assert isinstance(point, LinearPoint)
        curvatures = problem.curvature_sizes(point.z) * (samples.n / problem.n_samples)
        # A flat piece of a loss says nothing of what comes after it.
        known = curvatures > 0.0
        curvatures[~known] = np.mean(curvatures[known]) if np.any(known) else 1.0
        table[:, -1] = curvatures * samples.table[:, epochs.NORM]
    control = np.zeros(epochs.N_CONTROL)
    control[epochs.N_SAMPLES] = samples.n
    sums = np.zeros((samples.n_outputs, problem.rows.n_params))
    return Memory(table, sums, np.zeros(problem.n_samples, dtype=bool), control)


def run_epoch(
    method: str,
    samples: Samples,
    memory: Memory,
    w: Array,
    rng: np.random.Generator,
    n_steps: int,
    total: Array | None = None,
) -> None:
    """Take inner steps; change ``w``, the memory and the sum of the iterates."""
    kernel, ridge, chunk = (
        samples.variance_reduced(method),
        samples.ridge,
        samples.chunk,
    )
    for start in range(0, n_steps, chunk):
        kernel(
            samples.x,
            samples.columns,
            ridge,
            samples.table,
            samples.draw(rng, min(chunk, n_steps - start)),
            memory.control,
            w,
            memory.sums,
            memory.table,
            memory.seen,
            np.empty((0, 0)) if total is None else total,
        )
    samples.count(n_steps)


def table_gradient_norm(
    problem: FiniteSum, sums: Array, share: float, w: Array
) -> float:
    """Norm of ``d / n + l2 w``; nan if it is not finite: then the driver looks."""
    norm = float(np.linalg.norm(share * sums.ravel() + problem.l2 * w))
    return norm if math.isfinite(norm) else math.nan


def outcome(w: Array, previous: Array, memory: Memory) -> Status | None:
    """Why an epoch is the last one, if it is."""
    if np.all(np.isfinite(w)) and math.isinf(memory.control[epochs.LARGEST]):
        return Status.LINE_SEARCH_FAILED
    return Status.STALLED if np.array_equal(w, previous) else None
