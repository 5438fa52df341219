"""The loop around the steps of every solver: clock, stop tests, trace, callback."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subsampled_newton import _memory, _parallel
from subsampled_newton._interrupts import as_interrupt, quiet
from subsampled_newton._jit import compile_seconds
from subsampled_newton.certificate import Certificate
from subsampled_newton.columns import Work
from subsampled_newton.linear_model import LinearModel, LinearPoint
from subsampled_newton.losses import LOGISTIC, SIGMOID_SQUARED
from subsampled_newton.parameters import (
    check_count,
    check_flag,
    check_function,
    check_number,
    generator,
    shown,
)
from subsampled_newton.problem import (
    FiniteSum,
    Point,
    as_vector,
    check_problem,
    read_only,
)
from subsampled_newton.separation import examined
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._advice import advice, local_minimum
from subsampled_newton.solvers._memory import device_memory_needed, require
from subsampled_newton.solvers._result import Checkpoint, Result, Status, Trace
from subsampled_newton.solvers._verdict import STUCK, verdict

__all__ = ["Solver", "State", "check_solver", "minimize", "named_separable", "run"]

logger = logging.getLogger("subsampled_newton")


@dataclass(frozen=True)
class State:
    """The state of a solver at one iterate. Solvers keep their own in a subclass.

    A callback is given a copy whose arrays are read-only, so that it cannot alter the
    run.

    Attributes
    ----------
    point : Point
        The iterate: ``point.w``, ``point.value`` and ``point.gradient`` are parameters,
        F and its gradient there, ``point.hessian(sample)`` and ``point.along(p)`` the
        Hessian on a sample of the rows and F along a direction. They are computed when
        they are asked for, and kept. In a callback they are neither counted nor timed.
    iteration, step_size, inner_iterations, hessian_rows
        As in `Trace`.
    """

    point: Point
    iteration: int = 0
    step_size: float = math.nan
    inner_iterations: int = 0
    hessian_rows: int = 0
    gradient_estimate: float | None = None
    """Norm of a sampled gradient; None when the solver uses the full one."""
    value_estimate: float = math.nan
    """F at the point, if the solver knows it beside a sampled gradient."""
    outcome: Status | None = None
    """Set by a step that cannot go on."""
    note: str = ""
    """What the solver did otherwise than asked, for the message of the result."""

    @property
    def proved(self) -> bool:
        """Whether the solver itself knows that little is left to gain."""
        return self.outcome is Status.CONVERGED

    def detached(self) -> Self:
        """Without what is a function of ``w``, for a checkpoint."""
        return replace(self, point=None)  # type: ignore[arg-type]  # restored by resume


class Solver(Protocol):
    """A frozen record of parameters with two functions."""

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> State: ...
    def step(
        self, problem: FiniteSum, state: Any, rng: np.random.Generator
    ) -> State: ...


@runtime_checkable
class SecondOrder(Protocol):
    """A solver that does not stop at saddle points."""

    def certify(
        self, problem: FiniteSum, state: Any, rng: np.random.Generator
    ) -> Certificate | None: ...
    def escape(self, state: Any, certificate: Certificate) -> State: ...


def minimize(
    problem: FiniteSum,
    solver: Solver,
    w0: ArrayLike | Point | None = None,
    *,
    tol: float = 1e-8,
    max_iter: int = 200,
    max_passes: float = math.inf,
    max_time: float = math.inf,
    callback: Callable[[State], bool | None] | None = None,
    full_trace: bool = False,
    progress: bool = False,
    seed: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
    resume: Result | Checkpoint | None = None,
) -> Result:
    """Minimize a finite sum.

    Parameters
    ----------
    problem : FiniteSum
        The objective.
    solver : Solver
        An algorithm with its parameters, for example ``SubsampledNewton()``.
    w0 : array-like of shape (n_params,), optional
        Start. Default 0.
    tol : float, default 1e-8
        Stop when the size of the full gradient is at most this: its Euclidean norm,
        unless the problem says otherwise (`FiniteSum.gradient_norm`). Solvers that
        sample their gradient are stopped only when a full gradient confirms it.
    max_iter : int, default 200
        Largest number of steps. Second-order methods need 5 to 30.
    max_passes, max_time : float, default inf
        Largest number of reads of the data, and of seconds.
    callback : callable, State -> bool or None, optional
        Called at the start and after every step; True stops the run. Its `State` is a
        copy with read-only arrays: what it reads or evaluates is neither counted nor
        timed and changes nothing in the run.
    full_trace : bool, default False
        Evaluate value and gradient for the trace where the solver does not. These
        evaluations are neither counted nor timed.
    progress : bool, default False
        Show a progress bar (needs tqdm).
    seed : int or numpy.random.Generator, optional
        Source of all randomness. Results are the same for a seed, whatever the number
        of threads.
    n_jobs : int, optional
        Threads. Default: ``SUBSAMPLED_NEWTON_NUM_THREADS``, otherwise all that
        joblib, threadpoolctl (OpenMP), ``OMP_NUM_THREADS``, ``NUMBA_NUM_THREADS``,
        affinity and control group allow.
    resume : Result or Checkpoint, optional
        Go on where another run of the same problem and solver ended, in this process or
        another (`Checkpoint.save`, `load`). The result is that of the uninterrupted
        run, bit for bit. Other shapes, losses and ridges are refused, and other data by
        the value and the gradient at the checkpoint, where the run had them.

    Returns
    -------
    Result

    Raises
    ------
    ValueError, TypeError
        If an argument is not allowed, or the data of the problem are not finite.
        Numerical trouble is a status, not an exception.
    MemoryError
        If the solver needs more than is available, by the formula of `memory_needed`:
        before anything is allocated.
    KeyboardInterrupt
        As it comes. Its attribute ``result`` then holds the last iterate, and a
        checkpoint to go on from.

    Examples
    --------
    >>> import numpy as np
    >>> from subsampled_newton import LOGISTIC, LinearModel, SubsampledNewton, minimize
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 3))
    >>> y = np.where(X[:, 0] + rng.standard_normal(500) > 0, 1.0, -1.0)
    >>> problem = LinearModel(LOGISTIC, X, y, l2=1e-3)
    >>> result = minimize(problem, SubsampledNewton(), seed=0)
    >>> result.status.name
    'CONVERGED'
    """
    result = run(
        problem,
        solver,
        w0,
        tol=tol,
        max_iter=max_iter,
        max_passes=max_passes,
        max_time=max_time,
        callback=callback,
        full_trace=full_trace,
        progress=progress,
        seed=seed,
        n_jobs=n_jobs,
        resume=resume,
    )
    with _parallel.use_threads(n_jobs), quiet(over="ignore", invalid="ignore"):
        return named_separable(problem, result)


def run(
    problem: FiniteSum,
    solver: Solver,
    w0: ArrayLike | Point | None = None,
    *,
    tol: float = 1e-8,
    max_iter: int = 200,
    max_passes: float = math.inf,
    max_time: float = math.inf,
    callback: Callable[[State], bool | None] | None = None,
    full_trace: bool = False,
    progress: bool = False,
    seed: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
    resume: Result | Checkpoint | None = None,
) -> Result:
    """`minimize` without a look at whether the classes are separable."""
    check_problem("problem", problem)
    check_solver("solver", solver)
    for name, limit in (
        ("tol", tol),
        ("max_passes", max_passes),
        ("max_time", max_time),
    ):
        check_number(name, limit, ">= 0", finite=False)
    check_count("max_iter", max_iter, 0)
    if callback is not None:
        check_function("callback", callback, "state")
    check_flag("full_trace", full_trace)
    check_flag("progress", progress)
    resume = _checkpoint(resume)
    if resume is not None and w0 is not None:
        raise ValueError("w0 must be None when resume is given")
    with _parallel.use_threads(n_jobs):
        needed = require(problem, solver)
    with quiet():  # NumPy ignores overflows as it makes a seed
        rng = generator("seed", seed)
    if resume is not None:
        _check_same("solver", resume.solver, type(solver).__name__)
        _check_same("problem", resume.problem, _in_words(problem))
        rng.bit_generator.state = resume.rng_state
        start = problem.at(resume.w)
    else:
        start = _start(problem, w0)
    if not np.all(np.isfinite(start.w)):
        bad = start.w[~np.isfinite(start.w)][0]
        raise ValueError(f"w0 must be finite, got {bad}")

    work = problem.work
    with (
        _parallel.use_threads(n_jobs),
        _parallel.one_blas_thread(),
        _memory.granted(needed.vectors),
        quiet(over="ignore", invalid="ignore"),  # trials far out: a refusal
        _bar(progress) as bar,
    ):
        seconds, clock = 0.0, _now()
        certificate = None
        beside = [0.0, 0, 0]
        bound = None
        records: list[tuple[Any, ...]] = []
        if resume is None:
            rows_before, props_before = work.rows_read, work.props - 1
            state = solver.init(problem, start, rng)
        else:
            rows_before = work.rows_read - resume.rows_read
            props_before = work.props - resume.props
            state = replace(resume.state, point=start, outcome=None)
            with work.uncounted():  # the interrupted run has paid for this evaluation
                _known(problem, state, tol)
                if math.isfinite(state.value_estimate):
                    _ = state.point.value
                _check_data(problem, state, resume)
            seconds = resume.seconds
            records = resume.records[:-1]

        memory = sum(needed)
        kept = None
        try:
            while True:
                value, norm = _known(problem, state, tol)
                status = _end(state, value, norm, tol)
                seconds += max(0.0, _now() - clock)
                rows_read = work.rows_read - rows_before - int(beside[1])
                passes = rows_read / problem.n_samples
                props = work.props - props_before - int(beside[2])
                status = status or _limit(
                    state, passes, seconds, max_iter, max_passes, max_time
                )
                if norm is None and (full_trace or status is not None):
                    # Another point: the solver must not find this one evaluated.
                    shown = problem.at(state.point.w)
                    with work.uncounted():
                        value, norm = shown.value, problem.gradient_norm(shown)
                norm = math.nan if norm is None else norm
                records.append(
                    (
                        state.iteration,
                        seconds,
                        passes,
                        props,
                        value,
                        norm,
                        state.step_size,
                        state.inner_iterations,
                        state.hessian_rows,
                    )
                )
                cost = (seconds, rows_read, props)
                kept = (len(records), state, dict(rng.bit_generator.state), cost)
                logger.debug(
                    "iteration %d: value %.12g, |g| %.3g", state.iteration, value, norm
                )
                bar(state.iteration, value, norm)
                if callback is not None:
                    with work.uncounted():
                        stop = callback(_copy(state))
                    if stop and status is None:
                        status = Status.CALLBACK_STOP
                clock = _now()
                if status in STUCK or (status is Status.CONVERGED and not state.proved):
                    with _beside(work, beside):
                        bound = problem.suboptimality_bound(state.point)
                        status = verdict(
                            problem,
                            state.point,
                            status,
                            tol=tol,
                            start=records[0][4],
                            bound=bound,
                        )
                clock = _now()
                if (
                    status is not None
                    and status.converged
                    and isinstance(solver, SecondOrder)
                ):
                    cost_of = [0.0, 0, 0]
                    with _beside(work, cost_of):
                        certificate = solver.certify(problem, state, rng)
                    if certificate is not None and not certificate.ok:
                        state, bound = replace(state, outcome=None), None
                        status, state = None, solver.escape(state, certificate)
                    else:
                        beside = [a + b for a, b in zip(beside, cost_of, strict=True)]
                if status is not None:
                    break
                state = solver.step(problem, state, rng)
        except (KeyboardInterrupt, SystemError) as caught:
            error = as_interrupt(caught)
            try:
                if kept is not None and isinstance(error, KeyboardInterrupt):
                    # The last iterate goes with it.
                    rest = kept[1:]
                    last = _result(problem, solver, memory, records[: kept[0]], *rest)
                    error.result = last  # type: ignore[attr-defined]
                if error is caught:
                    raise
                raise error from caught
            finally:
                del error  # a cycle with its traceback would keep all arrays alive

        if status is Status.NON_FINITE:
            problem.refuse_bad_data()
        with _beside(work, beside):
            if bound is None:
                bound = problem.suboptimality_bound(state.point)
            value, gradient = state.point.value, state.point.gradient.copy()
            norm = problem.gradient_norm(state.point)
            note = state.note
            if status.converged:
                left = local_minimum(problem, state.point, solver, certificate)
                note = f"{note} {left}".strip()

    rng_state = dict(rng.bit_generator.state)
    cost = (seconds, rows_read, props)
    result = _result(problem, solver, memory, records, state, rng_state, cost, gradient)
    return replace(
        result,
        value=value,
        gradient_norm=norm,
        suboptimality_bound=bound,
        status=status,
        certificate=certificate,
        advice=advice(status, problem, solver, state),
        note=note,
        seconds=seconds + beside[0],
        passes=result.passes + beside[1] / problem.n_samples,
        props=props + int(beside[2]),
    )


def _result(
    problem: FiniteSum,
    solver: Solver,
    memory: int,
    records: list[tuple[Any, ...]],
    state: State,
    rng_state: dict[str, Any],
    cost: tuple[float, int, int],
    gradient: NDArray[np.float64] | None = None,
) -> Result:
    """Result of a run that was interrupted after its last record."""
    _, _, passes, _, value, norm, *_ = records[-1]
    w = state.point.w.copy()
    if gradient is None:
        gradient = np.full_like(w, math.nan)
    return Result(
        w=w,
        value=value,
        gradient=gradient,
        gradient_norm=norm,
        suboptimality_bound=math.inf,
        status=Status.INTERRUPTED,
        solver=solver,
        memory_bytes=memory,
        device_bytes=device_memory_needed(problem, solver),
        note=state.note,
        n_iter=state.iteration,
        passes=passes,
        props=cost[2],
        seconds=cost[0],
        trace=Trace.from_records(records),
        checkpoint=Checkpoint(
            w.copy(),
            state.detached(),
            rng_state,
            records,
            *cost,
            gradient=gradient.copy(),
            problem=_in_words(problem),
            solver=type(solver).__name__,
        ),
    )


def _start(problem: FiniteSum, w0: Any) -> Point:
    """Point at ``w0``, or ``w0`` itself if it is one of this problem."""
    if isinstance(w0, LinearPoint) and w0.problem is problem:
        return w0  # evaluated before: that need not be done again
    d = problem.n_params
    return problem.at(np.zeros(d) if w0 is None else as_vector(w0, d, "w0"))


@contextmanager
def _beside(work: Work, total: list[float]) -> Iterator[None]:
    """Add the cost of work to a total that a resumed run must not find."""
    clock, rows_read, props = _now(), work.rows_read, work.props
    yield
    total[0] += max(0.0, _now() - clock)
    total[1] += work.rows_read - rows_read
    total[2] += work.props - props


def named_separable(problem: FiniteSum, result: Result) -> Result:
    """Say that the classes are separable, where that leaves no minimizer.

    Without a penalty only, which would have one.
    """
    if np.any(problem.l2) or not _of_classes(problem):
        return result
    if result.status is Status.CALLBACK_STOP:
        return result
    assert isinstance(problem, LinearModel)
    work, beside = problem.work, [0.0, 0, 0]
    if not np.all(np.isfinite(result.w)):
        return result
    try:
        with _beside(work, beside):
            failed, most = not result.converged, result.props
            found = examined(problem, result.w, failed=failed, most=most)
    except KeyboardInterrupt as error:
        error.result = result  # type: ignore[attr-defined]
        raise
    return replace(
        result.ending(Status.SEPARABLE) if found.separable else result,
        memory_bytes=max(result.memory_bytes, found.memory_bytes),
        seconds=result.seconds + beside[0],
        passes=result.passes + beside[1] / problem.n_samples,
        props=result.props + int(beside[2]),
    )


def _of_classes(problem: FiniteSum) -> bool:
    """Whether the targets are classes, which may be separable."""
    if isinstance(problem, SoftmaxModel):
        return True
    if not isinstance(problem, LinearModel):
        return False
    if problem.loss is LOGISTIC:
        return True
    y = np.asarray(problem.y)
    return problem.loss is SIGMOID_SQUARED and bool(np.all((y == 0.0) | (y == 1.0)))


def _in_words(problem: FiniteSum) -> str:
    """What distinguishes problems without a read of the data."""
    loss = getattr(getattr(problem, "loss", None), "name", None)
    return (
        f"{type(problem).__name__} of {problem.n_samples} samples and "
        f"{problem.n_params} parameters, ridge weights of sum {problem.l2.sum():.6g}"
        + (f", loss {loss}" if loss is not None else "")
    )


def _check_same(name: str, before: str, now: str) -> None:
    if before != now:
        raise ValueError(f"resume needs the same {name} as before, {before}, got {now}")


def _check_data(problem: FiniteSum, state: State, resume: Checkpoint) -> None:
    """Compare value and gradient with those that the last run has seen.

    Up to what another machine may round, in units of what they were at the start.
    """
    # Another point, where the solver must not find its own evaluated.
    sampled = state.gradient_estimate is not None
    shown = problem.at(resume.w) if sampled else state.point
    first, last = resume.records[0], resume.records[-1]
    for name, before, now, unit in (
        ("F", last[4], shown.value, first[4]),
        ("the gradient", resume.gradient, shown.gradient, first[5]),
    ):
        difference = np.linalg.norm(np.subtract(now, before))
        allowed = 1e-6 * np.linalg.norm(before) + 1e-9 * np.nan_to_num(np.abs(unit))
        known = np.all(np.isfinite(before))  # not where the last run was cut off
        if known and not difference <= allowed:
            raise ValueError(
                f"resume needs the data of the run before, but {name} at the "
                f"checkpoint differs by {difference:.3g} from what it was"
            )


def _copy(value: Any, depth: int = 4) -> Any:
    """The state for a callback: arrays read-only, the point with a memory of its own.

    A point keeps what it is asked for. The solver must not find that its point was
    evaluated by somebody else; what it has evaluated itself, the copy knows as well.
    """
    if isinstance(value, np.ndarray):
        return read_only(value)
    if depth == 0:
        return value
    if isinstance(value, tuple):
        parts = [_copy(part, depth - 1) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if not (is_dataclass(value) or hasattr(value, "along")):  # a state or a point
        return value
    same = copy.copy(value)
    for name, part in getattr(value, "__dict__", {}).items():
        same.__dict__[name] = _copy(part, depth - 1)
    return same


def _now() -> float:
    """Clock that stands still while kernels are compiled or loaded."""
    return time.perf_counter() - compile_seconds()


def _known(problem: FiniteSum, state: State, tol: float) -> tuple[float, float | None]:
    """Value and gradient norm at the point; no norm unless the solver computes it.

    A sampled gradient below ``tol`` is confirmed by the full one, which counts.
    """
    if state.gradient_estimate is not None and state.gradient_estimate > tol:
        return state.value_estimate, None
    return state.point.value, problem.gradient_norm(state.point)


def _end(state: State, value: float, norm: float | None, tol: float) -> Status | None:
    """Why the run ends here. A small gradient goes before a solver that is stuck."""
    test = _test(value, norm, tol)
    if state.outcome in STUCK and test is Status.CONVERGED:
        return test
    return state.outcome or test


def _test(value: float, norm: float | None, tol: float) -> Status | None:
    if norm is None:
        return None
    if not (math.isfinite(value) and math.isfinite(norm)):
        return Status.NON_FINITE
    return Status.CONVERGED if norm <= tol else None


def _limit(
    state: State,
    passes: float,
    seconds: float,
    max_iter: int,
    max_passes: float,
    max_time: float,
) -> Status | None:
    if state.iteration >= max_iter:
        return Status.MAX_ITER
    if passes >= max_passes:
        return Status.MAX_PASSES
    return Status.MAX_TIME if seconds >= max_time else None


def _checkpoint(resume: Any) -> Checkpoint | None:
    if isinstance(resume, Result):
        if resume.checkpoint is None:
            raise ValueError(
                "resume needs a result with a checkpoint, which those of estimators "
                "do not keep: let minimize make it"
            )
        return resume.checkpoint
    if resume is None or isinstance(resume, Checkpoint):
        return resume
    raise TypeError(
        f"resume must be None, a Result or a Checkpoint, got {shown(resume)}"
    )


def check_solver(name: str, value: Any) -> None:
    """Raise unless value is a solver; say where names of solvers go."""
    if isinstance(value, type) or not (
        hasattr(value, "init") and hasattr(value, "step")
    ):
        raise TypeError(
            f"{name} must be a solver with its parameters, as SubsampledNewton() or "
            "LBFGS(); names of solvers are for the estimators, as "
            f"LogisticRegression(solver='lbfgs'); got {shown(value)}"
        )


@contextmanager
def _bar(progress: bool) -> Iterator[Callable[[int, float, float], None]]:
    if not progress:
        yield lambda iteration, value, norm: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install tqdm") from None
    with tqdm(unit="it", desc="minimize") as bar:

        def update(iteration: int, value: float, norm: float) -> None:
            bar.set_postfix_str(f"F = {value:.10g}, |g| = {norm:.2e}", refresh=False)
            bar.update(iteration - bar.n)

        yield update
