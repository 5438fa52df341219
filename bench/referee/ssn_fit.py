"""Whole fits of our estimator, for benchopt. Copy it to ``solvers/``."""

import warnings

import numpy as np
from benchopt import BaseSolver
from sklearn.exceptions import ConvergenceWarning

from subsampled_newton import LogisticRegression

FIRST, FACTOR = 1e-1, 1e-2
"""Tolerances of the curve. A second-order method is exact after a few of them; with
benchopt's own, finer ones, equal results in a row would look like the end."""


class Solver(BaseSolver):
    """`LogisticRegression` as users call it: validation and scaling are in the time."""

    name = "subsampled-newton-fit"
    sampling_strategy = "tolerance"
    requirements = ["pip::subsampled_newton"]  # noqa: RUF012  # benchopt's convention

    def skip(self, X, y, lmbd, fit_intercept=False):
        """Refuse what the estimator cannot say by C."""
        if lmbd <= 0.0:
            return True, "needs a penalty"
        return False, None

    def set_objective(self, X, y, lmbd, fit_intercept=False):
        """Keep the data."""
        self.X, self.y, self.lmbd, self.fit_intercept = X, y, lmbd, fit_intercept

    def warm_up(self):
        """Compile, or load, the kernels."""
        self.run_once(1e-6)

    def get_next(self, tolerance):
        """Tolerance of the next fit."""
        return min(FIRST, FACTOR * tolerance)

    def run(self, tolerance):
        """Fit from scratch. The objective is a sum: C is ``1 / lmbd``."""
        self.model = LogisticRegression(
            C=1.0 / self.lmbd,
            fit_intercept=bool(self.fit_intercept),
            tol=min(FIRST, float(tolerance)),
            random_state=self.get_seed(use_repetition=True) % 2**31,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # below rounding
            self.model.fit(self.X, self.y)

    def get_result(self):
        """Coefficients, then the intercept."""
        beta = self.model.coef_.ravel()
        if self.fit_intercept:
            beta = np.append(beta, self.model.intercept_)
        return {"beta": beta}
