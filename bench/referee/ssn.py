"""One run of a solver of this package, for benchopt. Copy it to ``solvers/``.

It stands on its own: benchopt loads solver files by their path.
"""

import numpy as np
from benchopt import BaseSolver

from subsampled_newton import LOGISTIC, Columns, LinearModel, as_rows, minimize
from subsampled_newton.estimators import SOLVERS

WARM_UP_ROWS = 5000
"""Kernels are the same for every number of rows."""
NO_LIMIT = 10**9
"""The callback ends the run."""


class Solver(BaseSolver):
    """``sum_i log(1 + exp(-y_i x_i'w)) + (lmbd / 2) ||w||**2``, by name of a solver."""

    name = "subsampled-newton"
    sampling_strategy = "callback"
    requirements = ["pip::subsampled_newton"]  # noqa: RUF012  # benchopt's convention
    references = [  # noqa: RUF012
        "F. Roosta-Khorasani, M. W. Mahoney, Sub-sampled Newton methods, "
        "Math. Program. 174, 2019"
    ]
    parameters = {  # noqa: RUF012
        "solver": [
            "multilevel-newton",
            "newton",
            "subsampled-newton",
            "subsampled-newton-cg",
            "subsampled-newton-leverage",
            "trust-region",
            "lbfgs",
            "nesterov",
            "sag",
            "saga",
            "svrg",
        ]
    }
    test_config = {"solver": "newton"}  # noqa: RUF012

    def skip(self, X, y, lmbd, fit_intercept=False):
        """Refuse what the objective is not."""
        if not np.all(np.abs(y) == 1.0):
            return True, "labels other than -1 and +1"
        if lmbd < 0.0:
            return True, "a negative penalty"
        return False, None

    def set_objective(self, X, y, lmbd, fit_intercept=False):
        """Take the data as they are: no copy, no scaling."""
        self.X, self.y, self.lmbd = X, np.asarray(y, dtype=float), lmbd
        self.fit_intercept = fit_intercept
        self.beta = np.zeros(X.shape[1] + bool(fit_intercept))

    def warm_up(self):
        """Compile, or load, the kernels on some of the rows."""
        few = slice(0, min(len(self.y), WARM_UP_ROWS))
        minimize(self._problem(few), SOLVERS[self.solver], max_iter=5, seed=0)
        self.run_once(2)

    def run(self, cb):
        """Report every iterate; go on until told otherwise, or until rounding."""

        def report(state):
            self.beta = state.point.w
            return not cb()

        minimize(
            self._problem(slice(None)),
            SOLVERS[self.solver],
            tol=0.0,
            max_iter=NO_LIMIT,
            callback=report,
            seed=self.get_seed(use_repetition=True),
        )

    def get_result(self):
        """Coefficients, then the intercept."""
        return {"beta": np.array(self.beta)}

    def _problem(self, part):
        """The mean form: the ridge is ``lmbd / n``, none for the intercept.

        Made anew for every run, so that nothing is known from an earlier one.
        """
        rows, y = as_rows(self.X[part]), self.y[part]
        d = self.X.shape[1]
        l2 = np.full(d, self.lmbd / len(y))
        if self.fit_intercept:
            rows = rows.with_columns(Columns(np.ones(d), np.zeros(d), True))
            l2 = np.append(l2, 0.0)
        return LinearModel(LOGISTIC, rows, y, l2=l2)
