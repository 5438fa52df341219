"""What a solver needs in memory, as a formula."""

from __future__ import annotations

from typing import Any, TypeGuard

from subsampled_newton import _parallel
from subsampled_newton._smoothness import GRAM_MAX_PARAMS
from subsampled_newton.linear_model import FORMED_MAX_PARAMS, LinearModel
from subsampled_newton.nonlinear_model import NonlinearModel
from subsampled_newton.parameters import shown
from subsampled_newton.picked import PickedRows
from subsampled_newton.problem import FiniteSum, check_problem
from subsampled_newton.solvers._sizes import Fixed, sketch_size

__all__ = ["device_memory_needed", "memory_needed"]

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
}
"""a and b: vectors of n numbers, and of n for each output. Other solvers: (4, 7)."""
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
    SAGA, SVRG, SDCA, SGD) copy all of them.

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
    n, p = problem.n_samples, problem.n_params
    threads = _parallel.n_threads()
    name = type(solver).__name__
    if isinstance(problem, NonlinearModel):
        # Two points, each with its Jacobian, and stacks of rows for QR.
        return 8 * (n * (2 * p + 10 + 2 * (p + 1)) + MATRICES * p * p)
    if name == "SampledStart":
        copy = _start_bytes(problem, solver)
        return copy + memory_needed(problem, vars(solver)["solver"])
    a, b, outputs = _vectors(problem, solver)
    numbers = n * (a if _on_device(problem) else a + b * outputs)
    if vars(solver).get("sampling") == "leverage":
        numbers += (threads + 4) * _score_rows(n, p, outputs) * p
    numbers += p * (VECTORS + threads + 2 * vars(solver).get("memory", 0))
    if _forms(solver, p):
        numbers += p * p * max(MATRICES, threads + 4)
    if name in ("TrustRegion", "CubicRegularization") and p > EXACT_MAX_PARAMS:
        numbers += p * min(p, vars(solver)["max_inner"])  # the basis of Lanczos' method
    if isinstance(problem, LinearModel):
        d = problem.rows.n_params
        if _steps_by_eigenvalues(solver):
            small = d <= GRAM_MAX_PARAMS
            numbers += d * (d * max(MATRICES, threads + 4) if small else LANCZOS)
    size = vars(solver).get("sketch_size")
    if name == "SketchedLeastSquares":
        size = size or sketch_size(vars(solver)["embedding"], n, p)
        numbers += (threads + 4) * min(size, n) * (p + 1)
    if name == "FactoredNewton" or vars(solver).get("method") in ("auto", "qr"):
        numbers += 4 * threads * min(max(512, 8 * p), n) * (p + 1)
    total: int = 8 * numbers + _sample_bytes(problem, solver)
    return total + gathered_bytes(problem, solver)


def gathered_bytes(problem: FiniteSum, solver: object) -> int:
    """Bytes of the rows that have a weight, where others have none.

    A copy of them up to 32 MB, then as much at a time; but solvers that read single
    rows copy all of them.
    """
    if not isinstance(problem, LinearModel):
        return 0
    rows = problem.rows
    single = type(solver).__name__ in ("SAG", "SAGA", "SVRG", "SDCA", "SGD")
    if isinstance(rows, PickedRows) and single:
        return rows.n_rows * rows.row_bytes
    return rows.gathered_bytes


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
    if type(solver).__name__ == "SampledStart":
        copy = _start_bytes(problem, solver)
        return copy + device_memory_needed(problem, vars(solver)["solver"])
    n, p = problem.n_samples, problem.n_params
    _, b, outputs = _vectors(problem, solver)
    sums = (p // outputs) ** 2 if _forms(solver, p) else p
    parts = min(8 * n * max(2, sums // 32), PARTS)
    return (
        problem.rows.device_bytes
        + 8 * n * (ON_DEVICE + b * outputs)
        + max(8 * sums, parts)
        + _sample_bytes(problem, solver)
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


def _vectors(problem: FiniteSum, solver: object) -> tuple[int, int, int]:
    """Vectors of n numbers, those for each output, and the number of outputs."""
    a, b = ROWS.get(type(solver).__name__, (4, 7))
    if vars(solver).get("sampling") == "leverage":
        a += LEVERAGE
    return a, b, _outputs(problem)


def _outputs(problem: FiniteSum) -> int:
    several: tuple[int, ...] = ()
    if isinstance(problem, LinearModel):
        several = problem.outputs
    return several[0] if several else 1


def _sample_bytes(problem: FiniteSum, solver: object) -> int:
    """Bytes of the rows that are gathered in a copy, with their vectors."""
    rows = _copied(solver, problem)
    if isinstance(problem, LinearModel):
        rows = max(rows, problem.bound_rows)
    return rows * _row_bytes(problem)


def _start_bytes(problem: FiniteSum, solver: object) -> int:
    """The same for the sample of a start."""
    n, p = problem.n_samples, problem.n_params
    rows = min(n, int(max(vars(solver)["fraction"] * n, 20.0 * p)))
    return rows * _row_bytes(problem)


def _row_bytes(problem: FiniteSum) -> int:
    stored = 8 * problem.n_params
    if isinstance(problem, LinearModel):
        stored = problem.rows.row_bytes
    return stored + 8 * (2 + 2 * _outputs(problem))


def _forms(solver: object, p: int) -> bool:
    """Whether a matrix of p x p is formed."""
    parameters, name = vars(solver), type(solver).__name__
    if name == "DualStartNewton":
        return p <= FORMED_MAX_PARAMS
    if name == "SubsampledNewton":
        return parameters["linear_solver"] == "cholesky" or p <= FORMED_MAX_PARAMS
    if name in ("TrustRegion", "CubicRegularization"):
        return p <= FORMED_MAX_PARAMS or parameters["subproblem"] in (
            "exact",
            "more-sorensen",
        )
    return name in (
        "MultilevelNewton",
        "FactoredNewton",
        "LevenbergMarquardt",
        "DirectLeastSquares",
        "WhitenedLeastSquares",
        "SketchedLeastSquares",
    )


def _steps_by_eigenvalues(solver: object) -> bool:
    """Whether the steps of a gradient method need the constants of the problem."""
    full = type(solver).__name__ in ("GradientDescent", "Nesterov", "HeavyBall")
    return full and vars(solver)["step_size"] in (None, "auto", "1/L", "2/(L+mu)")


def _copied(solver: object, problem: FiniteSum) -> int:
    """Rows that are gathered in a copy."""
    n, p = problem.n_samples, problem.n_params
    parameters = vars(solver)
    if "fraction" in parameters and type(solver).__name__ == "MultilevelNewton":
        rows = max(parameters["fraction"] * n, 20.0 * p)
        rows *= 1.0 if rows >= n else 1.1  # and the tenth it starts from
        return int(rows) if 2 * rows <= n else n // 10 if 20 * p < n else 0
    sample = parameters.get("hessian_sample", 1.0)
    if isinstance(sample, float | int):
        rows = Fixed(sample).first(problem)
        return rows if rows < n else 0
    return n // 2
