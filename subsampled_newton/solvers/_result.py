"""What a run returns: status, result, trace, checkpoint."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subsampled_newton import _archive
from subsampled_newton.certificate import Certificate

__all__ = ["Checkpoint", "Result", "Start", "Status", "Trace"]


class Status(enum.Enum):
    """Why a run ended. The value is the sentence for people.

    What to do about it depends on solver and problem: `Result.message` says it.
    """

    CONVERGED = "The norm of the full gradient is at most tol."
    PRECISION = (
        "The solver can go no further, and a bound or Newton's decrement shows that "
        "nothing that float64 can see is left to gain, although the gradient norm is "
        "above tol. Ask for a larger tol."
    )
    STALLED = (
        "The steps no longer change the parameters or the objective, although more is "
        "left to gain."
    )
    MAX_ITER = "The limit of iterations was reached first."
    MAX_TIME = "The limit of seconds was reached first."
    MAX_PASSES = "The limit of passes was reached first."
    LINE_SEARCH_FAILED = "No step along the direction decreases the objective enough."
    SMALL_STEP = (
        "The steps have become too small to change the parameters, yet none decreases "
        "the objective as its model predicts."
    )
    NOT_DESCENT = (
        "The computed direction does not point downhill: the Hessian is not positive "
        "definite, or not symmetric."
    )
    NON_FINITE = "The objective or its gradient is not a finite number."
    SEPARABLE = (
        "The classes are linearly separable and nothing limits the coefficients: no "
        "finite minimizer exists. Add a penalty (l2, smaller C, larger alpha)."
    )
    RANK_DEFICIENT = (
        "The data do not determine the parameters: some combination of them has no "
        "effect on the residuals at the last iterate. Remove or fix a parameter, add a "
        "ridge (l2, alpha), or start elsewhere."
    )
    FLAT = (
        "The norm of the gradient is at most tol, but the objective is so flat in some "
        "direction that more than a millionth of the possible decrease may be left. "
        "Lower tol, scale the columns, add a penalty, leave out nearly dependent "
        "columns, or use solver='auto'."
    )
    INTERRUPTED = "The run was interrupted. Its checkpoint goes on where it was."
    CALLBACK_STOP = "The callback asked to stop."

    @property
    def converged(self) -> bool:
        """Whether little is left to gain: the gradient, a bound or a decrement says so.

        For an objective that is not convex: near this point, a local minimum at best.
        """
        return self in (Status.CONVERGED, Status.PRECISION)

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        """Take names as well: what is stored must not depend on the sentences."""
        return cls.__members__.get(value) if isinstance(value, str) else None

    def __reduce__(self) -> tuple[type[Status], tuple[str]]:
        return type(self), (self.name,)

    def __reduce_ex__(self, protocol: object) -> tuple[type[Status], tuple[str]]:
        return self.__reduce__()


@dataclass(frozen=True)
class Trace:
    """One entry per iteration, the starting point included.

    ``value`` and ``gradient_norm`` are nan where a solver did not compute them and no
    full trace was asked for. ``props`` counts propagations as the papers do, ``passes``
    rows read over n. ``seconds`` leave out compilation, callback and trace.
    """

    iteration: NDArray[np.int64]
    seconds: NDArray[np.float64]
    passes: NDArray[np.float64]
    props: NDArray[np.int64]
    value: NDArray[np.float64]
    gradient_norm: NDArray[np.float64]
    step_size: NDArray[np.float64]
    inner_iterations: NDArray[np.int64]
    hessian_rows: NDArray[np.int64]

    @classmethod
    def from_records(cls, records: list[tuple[Any, ...]]) -> Trace:
        """Turn a list of rows into columns."""
        columns = zip(*records, strict=True)
        return cls(*(np.array(c) for c in columns))

    def as_dict(self) -> dict[str, NDArray[Any]]:
        """Columns by name, for a data frame."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to go on. See ``minimize(resume=...)``."""

    w: NDArray[np.float64]
    state: Any
    """The solver's state without its point: a function of ``w`` alone."""
    rng_state: dict[str, Any]
    records: list[tuple[Any, ...]]
    seconds: float
    rows_read: int
    props: int
    gradient: NDArray[np.float64]
    """At ``w``, if the run has ended by itself; else nan."""
    problem: str
    """What it is a point of, in words; `minimize` resumes no other one."""
    solver: str
    """Name of the class whose state it holds."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint to one file without code, for `load`.

        Whatever happens, the file holds all of it or what it held before. A run that is
        to survive the end of its process: let ``max_time`` or a callback end it now and
        then, save, and go on with ``resume``, which changes no bit.

        Parameters
        ----------
        path : path
            Used as it is; an existing file is replaced.

        Raises
        ------
        TypeError
            If the state of the solver, one of your own, cannot be stored, or whatever
            else `load` would refuse. An existing file is as it was, then.
        OSError
            If the file cannot be written.
        """
        _archive.write(path, self)


@dataclass(frozen=True)
class Start:
    """How the run from one of several starts ended."""

    status: Status
    value: float
    gradient_norm: float
    n_iter: int


@dataclass(frozen=True)
class Result:
    """Outcome of `minimize`.

    Attributes
    ----------
    w : ndarray of shape (n_params,)
        Last iterate.
    value : float
        F(w).
    gradient : ndarray of shape (n_params,)
        Full gradient at ``w``, in float64; nan after Ctrl-C.
    gradient_norm : float
        Euclidean norm of the full gradient at ``w``, in float64. For a
        `NonlinearModel`, which may have parameters of any unit, the cosine of the angle
        between the residuals and the tangent plane, from 0 to 1.
    suboptimality_bound : float
        Guaranteed bound of ``F(w) - min F``, up to rounding: from the ridge and, for
        parameters without one, as the intercept, from a dual point
        (`LinearModel.suboptimality_bound`). inf where nothing is known: for losses that
        are not convex, without a penalty, or far from the minimum.
    status : Status
        Why the run ended; ``status.value`` says it in words.
    solver : Solver
        What ran, with its parameters: the choice of ``solver="auto"``.
    n_iter : int
        Steps taken.
    passes : float
        Rows read over the number of samples. Like ``props`` and ``seconds`` with all
        that follows the last iterate, which its trace does not have: what is left to
        gain, the certificate, the bound, the look for a separating plane.
    props : int
        Propagations as the papers count them.
    seconds : float
        Without compilation, callback and trace.
    trace : Trace
        One entry per iteration.
    checkpoint : Checkpoint or None
        To go on from here. None in the ``result_`` of a linear estimator, which would
        carry a number for every row.
    certificate : Certificate or None
        Second-order conditions on the full data, from solvers for non-convex problems:
        a converged run has left every saddle point that it could detect.
    memory_bytes : int
        Peak of the memory used beside the data, by the formula of `memory_needed`.
    device_bytes : int
        Peak of the memory used on a GPU, by the formula of `device_memory_needed`.
    note : str
        What the solver did otherwise than asked, as conjugate gradients in place of a
        matrix that does not fit in memory; part of ``message``.
    advice : str
        What to do about the status, for this solver and problem; part of ``message``.
    starts : tuple of Start
        Status, value, gradient norm and iterations of every run of `multistart`, of
        which this is the best; empty for a single run.
    """

    w: NDArray[np.float64]
    value: float
    gradient: NDArray[np.float64]
    gradient_norm: float
    suboptimality_bound: float
    status: Status
    solver: Any
    n_iter: int
    passes: float
    props: int
    seconds: float
    trace: Trace
    checkpoint: Checkpoint | None
    certificate: Certificate | None = None
    memory_bytes: int = 0
    device_bytes: int = 0
    note: str = ""
    advice: str = ""
    starts: tuple[Start, ...] = ()

    def ending(self, status: Status) -> Result:
        """Return the same run with another reason for its end."""
        return replace(self, status=status, advice="")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result, its checkpoint included, to one file for `load`.

        Parameters, errors and promises as in `Checkpoint.save`; a solver of your own
        cannot be stored, but ``result.checkpoint`` often can.
        """
        _archive.write(path, self)

    def detached(self) -> Result:
        """Without the checkpoint, which may hold a number for every row."""
        return replace(self, checkpoint=None)

    def __repr__(self) -> str:
        """The figures without the arrays."""
        return (
            f"Result({self.status.name}: {self.message}; "
            f"solver={type(self.solver).__name__}, value={self.value:.10g}, "
            f"gradient_norm={self.gradient_norm:.3g}, "
            f"suboptimality_bound={self.suboptimality_bound:.3g}, "
            f"n_iter={self.n_iter}, passes={self.passes:.1f}, props={self.props}, "
            f"seconds={self.seconds:.3g}, w of shape {self.w.shape})"
        )

    @property
    def converged(self) -> bool:
        """Whether the run ended at a minimizer."""
        return self.status.converged

    @property
    def message(self) -> str:
        """The status in words, what to do about it, and the note if there is one."""
        return " ".join(filter(None, (self.status.value, self.advice, self.note)))
