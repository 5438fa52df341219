"""Stochastic variance reduced gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.kernels import epochs
from subsampled_newton.parameters import check_count, check_one_of
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._variance_reduced import (
    EpochState,
    check_model,
    check_rule,
    outcome,
    prepare,
    run_epoch,
)

__all__ = ["SVRG", "SVRGState"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SVRGState(EpochState):
    """State of `SVRG`."""

    last: tuple[Array, Array] | None = None
    """The last snapshot and the gradient there, for the Barzilai-Borwein step."""


@dataclass(frozen=True)
class SVRG:
    """Stochastic variance reduced gradient: steps corrected by a snapshot's gradient.

    A step of this solver begins at a snapshot v with the gradient there, which the loop
    has evaluated, and takes m inner steps from ``w = v`` on, for a sample i drawn with
    probability ``p_i``::

        w -= step_size * (s_i (loss'(x_i'w) - loss'(x_i'v)) x_i / (n p_i)
                          + grad F(v) - l2 * v + l2 * w)

    The predictions at the snapshot are kept: an inner step reads one row once.

    Parameters
    ----------
    snapshot : {"last", "average", "random"}, default "last"
        The next snapshot: the last iterate (option I of [1]_), the average of the
        iterates, or one of the iterates before the last, all with the same probability
        (option II, for which the theory is). The steps after a random one are not made.
    length : int or "loopless", optional
        m. Default ``2 n``, as in [1]_. ``"loopless"`` takes a new snapshot after every
        step with probability 1/n [2]_.
    step_size : {"line-search", "1/L", "barzilai-borwein"} or float
        Default ``"line-search"``; it and ``"1/L"`` are as in `SAG`.
        ``"barzilai-borwein"`` is ``s's / (m s'y)`` with the last changes s of the
        snapshot and y of its gradient [3]_, after a first stage with the line search;
        m is n with ``length="loopless"``, the mean number of steps.
    fraction : float, default 1/3
        ``step_size = fraction / max_i (L_i / (n p_i) + l2)``: 1/4 is where the rate of
        [1]_ begins to hold. [2]_ has 1/6.
    sampling : {"lipschitz", "uniform"}, default "lipschitz"
        As in `SAG`.

    Notes
    -----
    Differs from the papers in the default step size, which a line search finds; in the
    draws, half of which are in proportion to the constants ``L_i`` unless ``sampling``
    is ``"uniform"``; in the Barzilai-Borwein step, which is at most ``fraction / L``,
    beyond which inner steps diverge, and keeps its last s and y after a stage without
    a step; and in the loopless snapshot, which is the iterate after the step where [2]_
    takes the one before it.

    References
    ----------
    .. [1] R. Johnson, T. Zhang, Accelerating stochastic gradient descent using
       predictive variance reduction, NIPS 2013, figure 1 and Theorem 1.
    .. [2] D. Kovalev, S. Horvath, P. Richtarik, Don't jump through hoops and remove
       those loops: SVRG and Katyusha are better without the outer loop, ALT 2020,
       Algorithm 1.
    .. [3] C. Tan, S. Ma, Y.-H. Dai, Y. Qian, Barzilai-Borwein step size for stochastic
       gradient descent, NIPS 2016, Algorithm 1.
    """

    snapshot: Literal["last", "average", "random"] = "last"
    length: int | Literal["loopless"] | None = None
    step_size: Literal["line-search", "1/L", "barzilai-borwein"] | float = "line-search"
    fraction: float = 1.0 / 3.0
    sampling: Literal["lipschitz", "uniform"] = "lipschitz"

    def __post_init__(self) -> None:
        rules = ("line-search", "1/L", "barzilai-borwein")
        check_rule(self.step_size, self.fraction, self.sampling, rules)
        check_one_of("snapshot", self.snapshot, ("last", "average", "random"))
        if isinstance(self.length, str) and self.length == "loopless":
            if self.snapshot != "last":
                raise ValueError(
                    "snapshot must be 'last' with length='loopless', "
                    f"got {self.snapshot!r}"
                )
        else:
            check_count("length", self.length, optional=True, rule="loopless")
            if self.snapshot == "random" and self.length == 1:
                raise ValueError(
                    "length must be >= 2 with snapshot='random', which never is the "
                    "last iterate: no stage would make a step, got 1"
                )

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> SVRGState:
        """State before the first step."""
        check_model(problem, "SVRG", self.step_size)
        return SVRGState(point)

    def step(
        self, problem: FiniteSum, state: SVRGState, rng: np.random.Generator
    ) -> SVRGState:
        """One stage: a snapshot and the inner steps from there."""
        point, rule = state.point, self.step_size
        if rule == "barzilai-borwein" and state.last is None:
            rule = "line-search"
        samples, memory = prepare(
            problem,
            state,
            step_size=rule,
            fraction=self.fraction,
            sampling=self.sampling,
        )
        memory.fill(samples, point)
        if self.length == "loopless":
            m, length = samples.n, int(rng.geometric(1.0 / samples.n))
        else:
            m = length = self.length or 2 * samples.n
        if self.snapshot == "random":
            length = int(rng.integers(m))
        if rule == "barzilai-borwein":
            assert state.last is not None
            s, y = point.w - state.last[0], point.gradient - state.last[1]
            memory.control[epochs.FRACTION] = 0.0
            if s @ y > 0.0:
                step = float(s @ s / (s @ y)) / m
                memory.control[epochs.STEP_SIZE] = min(step, memory.step_size)

        w = samples.parameters(point.w)
        if self.snapshot == "average":
            total = np.zeros_like(w)
            run_epoch("svrg-average", samples, memory, w, rng, length, total)
            w = total / length
        else:
            run_epoch("svrg", samples, memory, w, rng, length)
        new = problem.at(w.ravel()) if length > 0 else point
        return replace(
            state,
            point=new,
            iteration=state.iteration + 1,
            step_size=memory.step_size,
            inner_iterations=length,
            outcome=outcome(new.w, point.w, memory) if length > 0 else None,
            memory=memory,
            samples=samples,
            last=(point.w, point.gradient) if length > 0 else state.last,
        )
