"""What a solver needs in memory, as a formula."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

from subsampled_newton import _memory, _parallel
from subsampled_newton._smoothness import GRAM_MAX_PARAMS
from subsampled_newton.data import Rows
from subsampled_newton.linear_model import FORMED_MAX_PARAMS, LinearModel, dual_rows
from subsampled_newton.nonlinear_model import NonlinearModel
from subsampled_newton.parameters import shown
from subsampled_newton.problem import FiniteSum, check_problem
from subsampled_newton.solvers._sizes import row_count, sketch_size

__all__ = [
    "Needs",
    "Sizes",
    "affordable",
    "device_memory_needed",
    "held",
    "memory_needed",
    "needs",
    "require",
]

ROWS = {
    "SubsampledNewton": (2, 4),
    "MultilevelNewton": (4, 3),
    "FactoredNewton": (2, 4),
    "TrustRegion": (2, 4),
    "CubicRegularization": (2, 4),
    "LevenbergMarquardt": (2, 4),
    "LBFGS": (2, 7),
    "GradientDescent": (2, 5),
    "Nesterov": (2, 3),
    "HeavyBall": (2, 3),
    "SAG": (20, 4),
    "SAGA": (20, 4),
    "SVRG": (22, 4),
    "SDCA": (12, 2),
    "DualStartNewton": (12, 2),
    "SGD": (11, 3),
    "DirectLeastSquares": (6, 0),
    "WhitenedLeastSquares": (6, 0),
    "SketchedLeastSquares": (14, 0),
    "SampledStart": (0, 0),
}
"""a and b: vectors of n numbers, and of n for each output. Other solvers: (4, 7).
`SampledStart` needs what the solver that it starts needs."""
REMEDY = "take a solver that needs less, as 'newton-cg' or 'nesterov', or fewer rows"
SINGLE_ROWS = ("SAG", "SAGA", "SVRG", "SDCA", "DualStartNewton", "SGD")
LEVERAGE = 12
"""Vectors of n numbers for a sketch of the scores."""
EXACT_MAX_PARAMS = 200
"""As in `solvers._ratio`."""
MATRICES = 6
"""With the factor and the parts of the threads."""
LANCZOS = 24
"""Vectors of ARPACK for one eigenvalue."""
VECTORS = 24
"""Parameters, gradients, directions, and what a search keeps of them."""
ON_DEVICE = 4
"""Vectors of n numbers on a device: targets, weights, and two between operations."""
PARTS = 64_000_000
"""Bytes on a device for the parts of a sum over the rows."""


class Sizes(NamedTuple):
    """What the formula knows of a problem."""

    n: int
    p: int
    outputs: int = 1
    """Predictions per row."""
    columns: int | None = None
    """Parameters of one prediction; None where the problem is no `LinearModel`."""
    row_bytes: int = 0
    buffers: int = 0
    """Bytes of the buffers through which a thread reads the rows."""
    single_rows: int = 0
    """Bytes of a copy for solvers that read single rows."""
    gathered: int = 0
    """Bytes of the rows that have a weight, or of a piece of them, where others have
    none."""
    bound_rows: int = 0
    on_device: bool = False
    curve: bool = False
    """Whether it is a `NonlinearModel`."""

    @classmethod
    def of(cls, problem: FiniteSum) -> Sizes:
        """Sizes of a problem."""
        n, p = problem.n_samples, problem.n_params
        if not isinstance(problem, LinearModel):
            curve = isinstance(problem, NonlinearModel)
            return cls(n, p, row_bytes=8 * p, curve=curve)
        sizes = cls.of_rows(problem.rows, _outputs(problem))
        return sizes._replace(p=p, bound_rows=problem.bound_rows)

    @classmethod
    def of_rows(
        cls, rows: Rows, outputs: int = 1, more: int = 0, *, bound: bool = False
    ) -> Sizes:
        """Sizes of a model of rows with ``more`` columns, before it is made.

        ``bound`` tells whether the others have a ridge, which makes a bound possible.
        """
        columns, models = rows.n_params + more, max(1, outputs - 1)
        p = models * columns
        return cls(
            rows.n_rows,
            p,
            outputs,
            columns,
            rows.row_bytes,
            rows.buffer_bytes,
            rows.single_rows_bytes,
            rows.gathered_bytes,
            dual_rows(rows.n_rows, p, models * more, columns) if bound else 0,
            on_device=rows.device_bytes > 0,
        )


class Needs(NamedTuple):
    """Bytes of the formula, by who asks for them."""

    vectors: int
    """Vectors, and copies of rows: nobody else asks for these."""
    asked: int
    """Matrices and sketches, which ask again when they are made."""
    spared: int
    """Matrices that the solver does without where they do not fit."""


def memory_needed(problem: FiniteSum, solver: object) -> int:
    """Peak of the memory that `minimize` takes beside the data, in bytes: a formula.

    Of the host: what rows on a GPU take there is told by `device_memory_needed`.

    For n rows, p parameters, K outputs (the classes of `SoftmaxModel`, otherwise 1) and
    T threads::

        8 n (a + b K) + 8 p (24 + T + m) + 8 p**2 max(6, T + 4) + f |X|

    The numbers a and b depend on the solver: (2, 4) for methods of Newton's kind, (2,
    7) for L-BFGS, (2, 3) to (2, 5) for gradient methods, (20, 4) for SAG and SAGA, (22,
    4) for SVRG. The sum of y and the weights is in a. m is twice the pairs of L-BFGS,
    or the products that trust-region and cubic methods may take above 200 parameters.
    The matrices are there for solvers that form one: Newton's method with
    ``"cholesky"``, `MultilevelNewton`, Levenberg-Marquardt, direct and sketched least
    squares; up to 3000 parameters also conjugate gradients, trust-region and cubic
    methods; up to 2000 columns fixed steps, whose constants are eigenvalues, above 24
    vectors of p more. f is the part of the rows that is copied: that of a start, and
    the Hessian sample or, with an intercept and if those are more, n / 16 rows and at
    most 4096 (of small data 65536 numbers) for ``suboptimality_bound``. Sketches have
    their own rows, QR factorisations a block of 8 p rows for each thread.
    With rows on a GPU, b is 0. Where some rows have weight 0, the others are gathered:
    up to 32 MB in a copy, more in pieces of 32 MB; solvers that read single rows (SAG,
    SAGA, SVRG, SDCA, SGD) copy all of them. Rows that are neither float64 nor float32
    in C or Fortran order are read through a buffer of half a megabyte, or 2048 p bytes,
    in each thread; solvers that read single rows copy those that are float16 or have
    swapped bytes, to their size, float16 to twice it.

    The function of a `FiniteSum` of your own is not counted.

    Parameters
    ----------
    problem : FiniteSum
        The objective.
    solver : Solver
        What is to minimize it.

    Examples
    --------
    >>> import numpy as np
    >>> from subsampled_newton import LBFGS, LOGISTIC, LinearModel, memory_needed
    >>> y = np.tile([-1.0, 1.0], 50_000)
    >>> problem = LinearModel(LOGISTIC, y[:, None], y)
    >>> memory_needed(problem, LBFGS()) < 8_000_000
    True
    """
    _check(problem, solver)
    return sum(needs(Sizes.of(problem), solver))


def needs(sizes: Sizes, solver: object) -> Needs:
    """Return the parts of the formula, without a problem."""
    n, p = sizes.n, sizes.p
    threads = _parallel.n_threads()
    kind = _kind(solver)
    if sizes.curve:
        # Two points, each with its Jacobian, and stacks of rows for QR.
        return Needs(8 * n * 10, 8 * (n * (4 * p + 2) + MATRICES * p * p), 0)
    if kind == "SampledStart":
        inner = needs(sizes, _parameter(solver, "solver"))
        rows = _start_rows(sizes, solver)
        part = sizes._replace(n=rows, bound_rows=min(rows, sizes.bound_rows))
        start = needs(part, _parameter(solver, "start"))
        return Needs(
            inner.vectors + rows * _row_bytes(sizes),
            inner.asked + start.vectors + start.asked,
            max(inner.spared, start.spared),
        )
    a, b = _vectors(solver)
    numbers = n * (a if sizes.on_device else a + b * sizes.outputs)
    pairs = _parameter(solver, "memory", 0)
    pairs = pairs if isinstance(pairs, int) else 0
    numbers += p * (VECTORS + threads + 2 * pairs)
    if kind in ("TrustRegion", "CubicRegularization") and p > EXACT_MAX_PARAMS:
        # The basis of Lanczos' method.
        numbers += p * min(p, _parameter(solver, "max_inner", p))
    vectors = 8 * numbers + _sample_bytes(sizes, solver) + threads * sizes.buffers
    vectors += sizes.gathered
    if kind in SINGLE_ROWS:
        vectors += sizes.single_rows
    asked = spared = 0
    if _parameter(solver, "sampling") == "leverage":
        asked += (threads + 4) * _score_rows(n, p, sizes.outputs) * p
    matrix = p * p * max(MATRICES, threads + 4)
    if _must_form(solver, p):
        asked += matrix
    elif _may_form(solver, p):
        spared += matrix
    if sizes.columns is not None and _steps_by_eigenvalues(solver):
        d = sizes.columns
        small = d <= GRAM_MAX_PARAMS
        asked += d * (d * max(MATRICES, threads + 4) if small else LANCZOS)
    if kind == "SketchedLeastSquares":
        size = _parameter(solver, "sketch_size")
        size = size or sketch_size(_parameter(solver, "embedding"), n, p)
        asked += (threads + 4) * min(size, n) * (p + 1)
    if kind == "FactoredNewton" or _parameter(solver, "method") in ("auto", "qr"):
        asked += 4 * threads * min(max(512, 8 * p), n) * (p + 1)
    return Needs(vectors, 8 * asked, 8 * spared)


def held(problem: FiniteSum) -> int:
    """Bytes of the formula that the problem has taken already: targets and weights."""
    if isinstance(problem, LinearModel) and not _on_device(problem):
        return int(problem.y.nbytes + problem.weights.nbytes)
    return 0


def require(problem: FiniteSum, solver: object) -> Needs:
    """Raise `NotEnoughMemory` where `minimize` needs more than is available."""
    parts = needs(Sizes.of(problem), solver)
    _memory.require(
        parts.vectors + parts.asked,
        f"{_kind(solver)} on {problem.n_samples:,} rows and {problem.n_params:,} "
        "parameters",
        REMEDY,
        held(problem),
    )
    return parts


def affordable(problem: FiniteSum, solver: object) -> bool:
    """Whether `require` would let the solver run."""
    parts = needs(Sizes.of(problem), solver)
    return _memory.affords(parts.vectors + parts.asked, held(problem))


def device_memory_needed(problem: FiniteSum, solver: object) -> int:
    """Peak of the memory that `minimize` takes on a GPU, in bytes: a formula.

    With the names of `memory_needed`, for a matrix X there::

        |X| + 8 n (4 + b K) + f |X| + max(8 q, min(8 n max(2, q / 32), 64 MB))

    with the copy by columns if X is sparse and has many; rows that do not fit count two
    buffers instead of ``|X|``. The last term are parts of the q sums over the rows:
    ``q = (p / K)**2`` where a matrix is formed, otherwise p. 0 for rows on the host.

    Parameters
    ----------
    problem : FiniteSum
        The objective.
    solver : Solver
        What is to minimize it.
    """
    _check(problem, solver)
    if not _on_device(problem):
        return 0
    sizes = Sizes.of(problem)
    if _kind(solver) == "SampledStart":
        copy = _start_rows(sizes, solver) * _row_bytes(sizes)
        return copy + device_memory_needed(problem, _parameter(solver, "solver"))
    n, p, outputs = sizes.n, sizes.p, sizes.outputs
    b = _vectors(solver)[1]
    forms = _must_form(solver, p) or _may_form(solver, p)
    sums = (p // outputs) ** 2 if forms else p
    parts = min(8 * n * max(2, sums // 32), PARTS)
    return (
        problem.rows.device_bytes
        + 8 * n * (ON_DEVICE + b * outputs)
        + max(8 * sums, parts)
        + _sample_bytes(sizes, solver)
    )


def _score_rows(n: int, p: int, outputs: int) -> int:
    """Rows of the sketch that leverage scores come from."""
    if outputs == 1:
        size = 4 * p + 512
        return size if 2 * size < n else n
    size = max(4 * p, min(10_000, 20 * p))
    return size if 2 * size < n * (outputs - 1) else n * outputs


def _check(problem: Any, solver: Any) -> None:
    check_problem("problem", problem)
    if isinstance(solver, type) or not hasattr(solver, "step"):
        raise TypeError(
            f"solver must be a solver, as LBFGS() or SubsampledNewton(), got "
            f"{shown(solver)}"
        )


def _on_device(problem: FiniteSum) -> TypeGuard[LinearModel]:
    return isinstance(problem, LinearModel) and problem.rows.device_bytes > 0


def _kind(solver: object) -> str:
    """Name of the class that the formula knows: that of the base of a subclass."""
    names = [base.__name__ for base in type(solver).__mro__]
    return next((name for name in names if name in ROWS), names[0])


def _parameter(solver: object, name: str, default: Any = None) -> Any:
    """A parameter, however the solver keeps it; the default if it has none."""
    return getattr(solver, name, default)


def _vectors(solver: object) -> tuple[int, int]:
    """Vectors of n numbers, and those for each output."""
    a, b = ROWS.get(_kind(solver), (4, 7))
    if _parameter(solver, "sampling") == "leverage":
        a += LEVERAGE
    return a, b


def _outputs(problem: LinearModel) -> int:
    return problem.outputs[0] if problem.outputs else 1


def _sample_bytes(sizes: Sizes, solver: object) -> int:
    """Bytes of the rows that are gathered in a copy, with their vectors."""
    rows = max(_copied(solver, sizes), sizes.bound_rows)
    return rows * _row_bytes(sizes)


def _start_rows(sizes: Sizes, solver: object) -> int:
    """Rows of the sample of a start."""
    fraction = _parameter(solver, "fraction", 1.0)
    return min(sizes.n, int(max(fraction * sizes.n, 20.0 * sizes.p)))


def _row_bytes(sizes: Sizes) -> int:
    return sizes.row_bytes + 8 * (2 + 2 * sizes.outputs)


def _must_form(solver: object, p: int) -> bool:
    """Whether a matrix of p x p is formed, come what may."""
    kind = _kind(solver)
    if kind in ("TrustRegion", "CubicRegularization"):
        exact = _parameter(solver, "subproblem") in ("exact", "more-sorensen")
        return exact or p <= EXACT_MAX_PARAMS
    return kind in (
        "MultilevelNewton",
        "FactoredNewton",
        "LevenbergMarquardt",
        "DirectLeastSquares",
        "WhitenedLeastSquares",
        "SketchedLeastSquares",
    )


def _may_form(solver: object, p: int) -> bool:
    """Whether one is formed if it fits."""
    kind = _kind(solver)
    if kind == "SubsampledNewton" and _parameter(solver, "linear_solver") == "cholesky":
        return True
    return p <= FORMED_MAX_PARAMS and kind in (
        "SubsampledNewton",
        "DualStartNewton",
        "TrustRegion",
        "CubicRegularization",
    )


def _steps_by_eigenvalues(solver: object) -> bool:
    """Whether the steps of a gradient method need the constants of the problem."""
    full = _kind(solver) in ("GradientDescent", "Nesterov", "HeavyBall")
    steps = (None, "auto", "1/L", "2/(L+mu)")
    return full and _parameter(solver, "step_size") in steps


def _copied(solver: object, sizes: Sizes) -> int:
    """Rows that are gathered in a copy."""
    n, p = sizes.n, sizes.p
    if _kind(solver) == "MultilevelNewton":
        rows = max(_parameter(solver, "fraction") * n, 20.0 * p)
        rows *= 1.0 if rows >= n else 1.1  # and the tenth it starts from
        return int(rows) if 2 * rows <= n else n // 10 if 20 * p < n else 0
    sample = _parameter(solver, "hessian_sample", 1.0)
    if isinstance(sample, float | int):
        rows = row_count(sample, n)
        return rows if rows < n else 0
    return n // 2
