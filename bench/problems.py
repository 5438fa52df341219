"""The objective: data, a NumPy evaluation of it, and its smallest value."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from datasets import load
from subsampled_newton import LOGISTIC, LinearModel, SubsampledNewton, minimize

__all__ = ["DATA_SETS", "Objective", "Reference", "find_reference", "load_objective"]

Array = NDArray[np.float64]
DATA_SETS = ("covtype.binary", "covtype.synthetic", "ijcnn1", "a9a", "w8a", "mushrooms")
"""Sets with two classes. The first is the default."""
CONTINUOUS = {"covtype.binary": 10, "covtype.synthetic": 10}
"""Leading columns to standardise: raw, they differ by factors of a thousand."""


@dataclass(frozen=True, eq=False)
class Objective:
    """``F(w) = mean log(1 + exp(-y_i x_i'w)) + (alpha / 2) ||w||**2``, no intercept.

    Evaluated with NumPy alone, so that no solver is judged by its own kernels.
    """

    name: str
    X: Any
    y: Array
    alpha: float
    n_full: int
    """Rows of the whole set: more than ``n`` when a part is used."""

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.X.shape[0])

    @property
    def d(self) -> int:
        """Number of columns."""
        return int(self.X.shape[1])

    @property
    def C(self) -> float:
        """``alpha`` as scikit-learn wants it."""
        return 1.0 / (self.alpha * self.n)

    def evaluate(self, w: Array) -> tuple[float, float]:
        """Value and gradient norm at ``w``.

        With one BLAS thread: others would still spin when the next fit starts.
        """
        with threadpool_limits(1, user_api="blas"):
            return self._evaluate(w)

    def _evaluate(self, w: Array) -> tuple[float, float]:
        margins = self.y * (self.X @ w)
        decay = np.exp(-np.abs(margins))
        losses = np.log1p(decay) + np.maximum(-margins, 0.0)
        slopes = np.where(margins > 0.0, decay, 1.0) / (1.0 + decay)
        gradient = -(self.X.T @ (self.y * slopes)) / self.n + self.alpha * w
        value = float(losses.mean()) + 0.5 * self.alpha * float(w @ w)
        return value, float(np.linalg.norm(gradient))


@dataclass(frozen=True)
class Reference:
    """The smallest known value, and where it comes from."""

    value: float
    at_zero: float
    runs: tuple[dict[str, Any], ...]

    def suboptimality(self, value: float) -> float:
        """``(F - F*) / (F(0) - F*)``, not below 0; inf for what is no number."""
        if not math.isfinite(value):
            return math.inf
        return max(0.0, (value - self.value) / (self.at_zero - self.value))


def load_objective(
    name: str, alpha: float | None, *, max_rows: int | None = None, seed: int = 0
) -> Objective:
    """Load a set, standardise its continuous columns and keep some rows if asked to.

    Parameters
    ----------
    name : str
        One of `DATA_SETS`.
    alpha : float, optional
        Ridge weight. Default 1/n.
    max_rows : int, optional
        Keep this many rows, drawn without replacement.
    seed : int, default 0
        Of the draw.
    """
    X: Any
    y: Any
    X, y = load(name)
    n_full = X.shape[0]
    if max_rows is not None and max_rows < n_full:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(n_full, max_rows, replace=False))
        X, y = X[rows], y[rows]
    head = CONTINUOUS.get(name, 0)
    if head:
        X[:, :head] -= X[:, :head].mean(axis=0)
        X[:, :head] /= X[:, :head].std(axis=0)
    return Objective(name, X, y, alpha or 1.0 / X.shape[0], n_full)


def find_reference(objective: Objective) -> Reference:
    """Minimize far beyond the levels with two independent codes; keep the better value.

    Both runs stop when rounding does not let them go on, which is not an error here.
    """
    exact = 1e-13

    def ours() -> Array:
        problem = LinearModel(LOGISTIC, objective.X, objective.y, l2=objective.alpha)
        return minimize(problem, SubsampledNewton(1.0), tol=exact, max_iter=100).w

    def rival() -> Array:
        model = LogisticRegression(
            C=objective.C,
            fit_intercept=False,
            solver="newton-cholesky",
            tol=exact,
            max_iter=100,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tol=exact is below rounding
            coef: Array = model.fit(objective.X, objective.y).coef_.ravel()
        return coef

    runs: list[dict[str, Any]] = []
    for name, solve in (("ours newton", ours), ("sklearn newton-cholesky", rival)):
        start = time.perf_counter()
        w = solve()
        seconds = time.perf_counter() - start
        value, norm = objective.evaluate(w)
        runs.append(
            {
                "solver": name,
                "tol": exact,
                "value": value,
                "gradient_norm": norm,
                "seconds": seconds,
            }
        )
    best = min(float(run["value"]) for run in runs)
    return Reference(best, objective.evaluate(np.zeros(objective.d))[0], tuple(runs))
