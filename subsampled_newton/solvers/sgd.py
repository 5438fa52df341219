"""Stochastic gradient descent, with schedules and averages."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.linear_model import LinearModel
from subsampled_newton.parameters import check_count, check_number, check_one_of
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._samples import (
    Samples,
    check_problem,
    curvature_bound,
    samples_of,
)

__all__ = ["SGD", "SGDState"]

Array = NDArray[np.float64]
SCHEDULES = ("constant", "inverse", "strongly-convex", "sqrt")
AVERAGES = (None, "polyak", "suffix", "ema")


@dataclass(frozen=True)
class SGDState(State):
    """State of `SGD`. Its point is the average, if there is one."""

    iterate: Array | None = None
    average: Array | None = None
    """Of the iterates, or of those since the last epoch that is a power of two."""
    older: Array | None = None
    """Average of the iterates between the two last powers of two, for the suffix."""
    n_steps: int = 0
    """Steps so far: k."""
    first_step: float = math.nan
    """The first step size."""
    samples: Samples | None = None

    def detached(self) -> Self:
        """Without what can be computed again."""
        return replace(super().detached(), samples=None)


@dataclass(frozen=True)
class SGD:
    """Mini-batch stochastic gradient descent with Robbins-Monro schedules.

    ``w_{k+1} = w_k - a_k (1/b sum_{i in B} grad f_i(w_k) + l2 w_k)``. A step of this
    solver is an epoch of ``n // batch_size`` such steps, followed by a full evaluation
    for trace and stop test. It is not a descent method: the objective may rise. Without
    averages and with a constant step it stalls where the noise of the gradients
    balances its progress; for an exact minimizer take `SAG` or `SVRG`.

    Parameters
    ----------
    batch_size : int, default 1
        b, the rows of a mini-batch.
    step_size : float, optional
        a_0. Default ``1 / (2 max_i (L_i + l2))``, which needs a loss of bounded
        curvature.
    schedule : {"inverse", "constant", "strongly-convex", "sqrt"}, default "inverse"
        ``a_k = a_0 / (1 + k / k0)``, ``a_0``, ``1 / (mu (k + k0))``,
        ``a_0 / sqrt(1 + k / k0)``. ``"inverse"`` and ``"strongly-convex"`` satisfy the
        conditions of Robbins and Monro, ``sum a_k = inf`` and ``sum a_k**2 < inf``.
    k0 : float, optional
        Default: the steps of one epoch; for ``"strongly-convex"`` ``1 / (mu a_0)``, so
        that the first step is ``a_0``.
    mu : float, optional
        Strong convexity for ``"strongly-convex"``. Default: the smallest ridge weight.
    averaging : {"suffix", "polyak", "ema"} or None, default "suffix"
        What the result is: the average of about the last half of the iterates, between
        1/2 and 3/4 of them; of all after the start [2]_; the exponential average
        ``ema_decay * average + (1 - ema_decay) * w``; or the last iterate. Only the
        first two need no choice to be optimal: with steps long enough their error is
        that of the best unbiased estimate, ``tr(H^-1 S) / (2 k)``.
    ema_decay : float in (0, 1), optional
        Default ``1 - b / n``: the memory of one epoch.
    sampling : {"replacement", "shuffled"}, default "replacement"
        Independent draws, as in the theory, or a random order of all rows per epoch,
        without the rows that are left when the batches are full.

    Notes
    -----
    Differs from the papers in the suffix of the average, between a half and three
    quarters of the iterates, so that no iterate need be kept, and in the default step,
    from a bound of the curvature.

    References
    ----------
    .. [1] H. Robbins, S. Monro, A stochastic approximation method, Ann. Math. Statist.
       22, 1951.
    .. [2] B. T. Polyak, A. B. Juditsky, Acceleration of stochastic approximation by
       averaging, SIAM J. Control Optim. 30, 1992.
    .. [3] A. Rakhlin, O. Shamir, K. Sridharan, Making gradient descent optimal for
       strongly convex stochastic optimization, ICML 2012: averages of the last half.
    """

    batch_size: int = 1
    step_size: float | None = None
    schedule: Literal["inverse", "constant", "strongly-convex", "sqrt"] = "inverse"
    k0: float | None = None
    mu: float | None = None
    averaging: Literal["suffix", "polyak", "ema"] | None = "suffix"
    ema_decay: float | None = None
    sampling: Literal["replacement", "shuffled"] = "replacement"

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        for name, allowed in (
            ("schedule", SCHEDULES),
            ("averaging", AVERAGES),
            ("sampling", ("replacement", "shuffled")),
        ):
            check_one_of(name, getattr(self, name), allowed)
        for name in ("step_size", "k0", "mu"):
            check_number(name, getattr(self, name), "> 0", optional=True)
        check_number("ema_decay", self.ema_decay, "in (0, 1)", optional=True)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> SGDState:
        """State before the first step."""
        model = check_problem(problem, "SGD")
        if self.step_size is None:
            curvature_bound(model, "SGD", "a number for step_size")
        if self.schedule == "strongly-convex" and not self._mu(model) > 0.0:
            raise ValueError(
                "schedule='strongly-convex' needs mu > 0 where no ridge on every "
                f"parameter gives it, got mu={self.mu!r}"
            )
        active = int(np.count_nonzero(model.weights))
        if self.batch_size > active:
            raise ValueError(
                f"batch_size must be at most the {active} rows that have a weight, "
                f"got {self.batch_size}"
            )
        return SGDState(point)

    def step(
        self, problem: FiniteSum, state: SGDState, rng: np.random.Generator
    ) -> SGDState:
        """One epoch."""
        assert isinstance(problem, LinearModel)
        samples, first = state.samples, state.first_step
        if samples is None and state.iteration == 0:
            samples = samples_of(problem)
            first = self.step_size or self._default_step(problem, samples)
        elif samples is None:
            with problem.work.uncounted():  # the interrupted run has paid for it
                samples = samples_of(problem)
        w = samples.parameters(
            state.point.w if state.iterate is None else state.iterate
        )
        average, older = state.average, state.older
        if average is None:
            average = state.point.w
        elif (
            self.averaging == "suffix" and state.iteration & (state.iteration - 1) == 0
        ):
            older = average
        average = samples.parameters(average)

        length = samples.n // self.batch_size
        k = state.n_steps + np.arange(length, dtype=np.float64)
        steps = self._steps(problem, first, k, length)
        gains = self._gains(samples.n, state, k)
        self._run(samples, rng, steps, gains, w, average)
        result = w
        if self.averaging is not None:
            result = average
            if self.averaging == "suffix" and older is not None:
                result = self._suffix(state.iteration + 1, older, average)
        return SGDState(
            problem.at(result.ravel()),
            iteration=state.iteration + 1,
            step_size=float(steps[-1]),
            inner_iterations=length,
            iterate=w.ravel(),
            average=average.ravel(),
            older=older,
            n_steps=state.n_steps + length,
            first_step=first,
            samples=samples,
        )

    def _run(
        self,
        samples: Samples,
        rng: np.random.Generator,
        steps: Array,
        gains: Array,
        w: Array,
        average: Array,
    ) -> None:
        """Take the steps in place."""
        b, ridge = self.batch_size, samples.ridge
        kernel = samples.gradient_steps(self.averaging is not None)
        chunk = max(1, samples.chunk // b)
        shuffled = samples.shuffled(rng) if self.sampling == "shuffled" else None
        for start in range(0, len(steps), chunk):
            stop = min(start + chunk, len(steps))
            if shuffled is None:
                order = samples.draw(rng, b * (stop - start))
            else:
                order = shuffled[b * start : b * stop]
            kernel(
                samples.x,
                samples.columns,
                ridge,
                samples.table,
                order,
                b,
                steps[start:stop],
                gains[start:stop],
                w,
                average,
            )
        samples.count(b * len(steps))

    def _mu(self, problem: FiniteSum) -> float:
        return problem.strong_convexity if self.mu is None else float(self.mu)

    def _default_step(self, problem: LinearModel, samples: Samples) -> float:
        bound = float(problem.loss.curvature_bound)
        largest = bound * float(samples.sizes.max()) + float(problem.l2.max())
        return 0.5 / max(largest, 1e-300)

    def _steps(self, problem: FiniteSum, first: float, k: Array, length: int) -> Array:
        """Step sizes of the steps ``k``."""
        if self.schedule == "constant":
            return np.full(len(k), first)
        if self.schedule == "strongly-convex":
            mu = self._mu(problem)
            k0 = self.k0 or 1.0 / (mu * first)
            strongly: Array = 1.0 / (mu * (k + k0))
            return strongly
        decay: Array = 1.0 + k / (self.k0 or length)
        if self.schedule == "sqrt":
            decay = np.sqrt(decay)
        steps: Array = first / decay
        return steps

    def _gains(self, n: int, state: SGDState, k: Array) -> Array:
        """``gain`` of ``average += gain * (w - average)`` after the steps ``k``."""
        if self.averaging is None:
            return np.zeros(len(k))
        if self.averaging == "ema":
            decay = self.ema_decay or 1.0 - self.batch_size / n
            return np.full(len(k), 1.0 - decay)
        begin = 0
        if self.averaging == "suffix" and state.iteration > 0:
            begin = len(k) * (1 << (state.iteration.bit_length() - 1))
        gains: Array = 1.0 / (k - begin + 1.0)
        return gains

    def _suffix(self, n_epochs: int, older: Array, average: Array) -> Array:
        """Average over the epochs from half of the last power of two below on."""
        begin = 1 << ((n_epochs - 1).bit_length() - 1)
        n_older, n_recent = begin - begin // 2, n_epochs - begin
        total = n_older * older.reshape(average.shape) + n_recent * average
        mean: Array = np.asarray(total / (n_older + n_recent))
        return mean
