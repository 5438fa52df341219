"""Fits with packages that may end the process; each runs in one of its own.

Nothing is imported before it is called. Data come as the package likes them best: that
conversion is not timed.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from bench.problems import Objective
from bench.rows import machine
from bench.sweep import Outcome

TINY = 1e-14
"""Tolerance that the number of iterations comes before."""


@contextlib.contextmanager
def _timed(threads: int | None) -> Iterator[SimpleNamespace]:
    """Measure what is inside; warnings of unfinished fits are expected."""
    clock = SimpleNamespace()
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        yield clock
        clock.seconds = time.perf_counter() - start


def _outcome(seconds: float, w: Any, steps: Any, budget: float) -> Outcome:
    """With fewer steps than allowed it ended of itself; None: it does not say."""
    stopped = steps is not None and int(np.max(steps)) < int(budget)
    w = np.array(w, dtype=np.float64).ravel()
    return Outcome(seconds, w, stopped, "STALLED" if stopped else "MAX_ITER")


def _cores(threads: int | None) -> int:
    return threads or int(machine(None)["cores"])


@functools.lru_cache(maxsize=2)
def _as_csr(objective: Objective) -> Any:
    return sp.csr_matrix(objective.X)


@functools.lru_cache(maxsize=2)
def _as_csc(objective: Objective) -> Any:
    return sp.csc_matrix(objective.X) if sp.issparse(objective.X) else objective.X


def intelex_lbfgs(
    objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """L-BFGS of scikit-learn-intelex."""
    from sklearnex.linear_model import LogisticRegression

    model = LogisticRegression(
        C=objective.C,
        fit_intercept=False,
        tol=TINY,
        max_iter=int(budget),
        n_jobs=_cores(threads),
    )
    with _timed(threads) as clock:
        model.fit(objective.X, objective.y)
    return _outcome(clock.seconds, model.coef_, model.n_iter_, budget)


def intelex_least_squares(
    objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Normal equations of scikit-learn-intelex."""
    from sklearnex.linear_model import LinearRegression

    model = LinearRegression(fit_intercept=False, n_jobs=_cores(threads))
    with _timed(threads) as clock:
        model.fit(objective.X, objective.y)
    return _outcome(clock.seconds, model.coef_, 0, 1)


def snapml(
    dual: bool, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Coordinate descent in the dual, or Newton in the primal."""
    from snapml import LogisticRegression

    model = LogisticRegression(
        max_iter=int(budget),
        tol=1e-16,
        regularizer=1.0 / objective.C,
        dual=dual,
        n_jobs=_cores(threads),
        fit_intercept=False,
        normalize=False,
        random_state=seed,
    )
    with _timed(threads) as clock:
        model.fit(objective.X, objective.y)
    return _outcome(clock.seconds, model.coef_, model.n_iter_, budget)


def glum(
    solver: str, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Newton (irls-ls) or L-BFGS."""
    from glum import GeneralizedLinearRegressor

    model = GeneralizedLinearRegressor(
        family="binomial",
        alpha=objective.alpha,
        l1_ratio=0,
        solver=solver,
        fit_intercept=False,
        max_iter=int(budget),
        gradient_tol=1e-13,
    )
    X, y = _as_csc(objective), (objective.y > 0.0).astype(np.float64)
    with _timed(threads) as clock:
        model.fit(X, y)
    return _outcome(clock.seconds, model.coef_, model.n_iter_, budget)


def liblinear(
    code: int, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Trust-region Newton in the primal (0), coordinate descent in the dual (7)."""
    from liblinear.liblinearutil import problem, train

    X, y = _as_csr(objective), objective.y
    with _timed(threads) as clock:
        options = f"-s {code} -q -c {objective.C:.17g} -e {budget:.17g}"
        model = train(problem(y, X), options)
    w = np.zeros(objective.d)  # trailing columns of zeros are not in the model
    found = np.array(model.get_decfun()[0])
    w[: len(found)] = found if model.get_labels()[0] > 0 else -found
    return Outcome(clock.seconds, w, False, "CONVERGED")


def cyanure(
    solver: str, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Accelerated SVRG and its variance-reduced relatives."""
    from cyanure.estimators import Classifier

    several = len(np.unique(objective.y)) > 2
    model = Classifier(
        loss="multiclass-logistic" if several else "logistic",
        penalty="l2",
        lambda_1=objective.alpha,
        fit_intercept=False,
        tol=1e-16,
        max_iter=int(budget),
        solver=solver,
        n_threads=_cores(threads),
        duality_gap_interval=10**6,
        random_state=seed,
        safe=False,
        verbose=False,
    )
    with _timed(threads) as clock:
        model.fit(objective.X, objective.y)
    w = np.asarray(model.coef_)
    return _outcome(clock.seconds, w.T if several else w, None, budget)


def skglm(
    objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """L-BFGS of SciPy on compiled sums."""
    from skglm import GeneralizedLinearEstimator
    from skglm.datafits import Logistic
    from skglm.penalties import L2
    from skglm.solvers import LBFGS

    solver = LBFGS(max_iter=int(budget), tol=TINY)
    # It asks for both, and its constructor sets neither.
    solver.fit_intercept = solver.warm_start = False
    model = GeneralizedLinearEstimator(Logistic(), L2(objective.alpha), solver)
    X = _as_csc(objective)
    with _timed(threads) as clock:
        model.fit(X, objective.y)
    return _outcome(clock.seconds, model.coef_, None, budget)
