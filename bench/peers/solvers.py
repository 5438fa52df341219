"""Our estimators, and the table of rivals."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench import ours, rivals
from bench.peers import packages, scipy_fits
from bench.problems import Objective
from bench.sweep import Outcome
from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    SigmoidLeastSquaresClassifier,
)

__all__ = ["OURS", "PACKAGES", "RIVALS", "Rival", "installed", "our_fit"]

OURS = "ours"
Fit = Callable[[Objective, float, int, int | None], Outcome]
"""From objective, budget, seed and threads (None: all)."""
MODULES = {
    "scikit-learn": "sklearn",
    "scikit-learn-intelex": "sklearnex",
    "snapml": "snapml",
    "glum": "glum",
    "liblinear-official": "liblinear",
    "cyanure": "cyanure",
    "skglm": "skglm",
    "scipy": "scipy",
}
"""Modules by the names of the packages."""
PACKAGES = tuple(MODULES)
# A Hessian of d x d numbers: above this a fit takes minutes.
FORMED = 2_000
LOGISTIC, MULTINOMIAL = "logistic", "multinomial"
LEAST_SQUARES, NLS = "least squares", "nls"


@dataclass(frozen=True)
class Rival:
    """A solver of another package."""

    package: str
    solver: str
    kinds: tuple[str, ...]
    """Of the problems it is for."""
    fit: Fit
    """A function at the top of a module, or a partial of one: it is sent by name."""
    budget: str = "max_iter"
    """What is searched: "max_iter", "tol" or "none"."""
    max_columns: int | None = None
    threaded: bool = True
    """Whether the number of threads is worth a choice."""
    isolated: bool = False
    """Whether it runs in a process of its own."""

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.package} {self.solver}"


def installed(package: str) -> str | None:
    """Version of a package, None if it is not there."""
    if importlib.util.find_spec(MODULES[package]) is None:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def our_fit(kind: str, objective: Objective, tol: float, seed: int) -> Outcome:
    """Time the whole call of fit of the estimator for a kind of problem."""
    common: dict[str, Any] = {"fit_intercept": False, "tol": tol, "random_state": seed}
    if kind == LEAST_SQUARES:
        return ours.timed(LinearRegression(**common), objective)
    estimator = SigmoidLeastSquaresClassifier if kind == NLS else LogisticRegression
    return ours.timed(estimator(alpha=objective.alpha, **common), objective)


def _scikit_learn(
    solver: str, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    return rivals.fit(solver, objective, budget, seed, threads)


def _of_scikit_learn() -> list[Rival]:
    found = []
    for solver in rivals.RIVALS:
        by_tolerance = solver in rivals.BY_TOLERANCE
        found.append(
            Rival(
                "scikit-learn",
                solver,
                (LOGISTIC,) if by_tolerance else (LOGISTIC, MULTINOMIAL),
                partial(_scikit_learn, solver),
                budget="tol" if by_tolerance else "max_iter",
                max_columns=FORMED if solver == "newton-cholesky" else None,
                threaded=solver in rivals.WITH_BLAS,
            )
        )
    for solver in scipy_fits.SCIKIT_LEARN:
        found.append(
            Rival(
                "scikit-learn",
                solver,
                (LEAST_SQUARES,),
                partial(scipy_fits.scikit_learn, solver),
                budget="max_iter" if solver == "Ridge lsqr" else "none",
            )
        )
    return found


def _of_scipy() -> list[Rival]:
    minimisers = [
        Rival(
            "scipy",
            method,
            (NLS,) if method == "trust-exact" else (LOGISTIC, NLS),
            partial(scipy_fits.minimise, method),
            max_columns=FORMED if method == "trust-exact" else None,
        )
        for method in scipy_fits.METHODS
    ]
    direct = [
        Rival("scipy", name, (LEAST_SQUARES,), partial(scipy_fits.solve, name), "none")
        for name in scipy_fits.DIRECT
    ]
    return minimisers + direct


def _alone(package: str, solver: str, fit: Fit, *kinds: str, **more: Any) -> Rival:
    return Rival(package, solver, kinds or (LOGISTIC,), fit, isolated=True, **more)


RIVALS: tuple[Rival, ...] = (
    *_of_scikit_learn(),
    _alone(
        "scikit-learn-intelex", "lbfgs", packages.intelex_lbfgs, LOGISTIC, MULTINOMIAL
    ),
    _alone(
        "scikit-learn-intelex",
        "LinearRegression",
        packages.intelex_least_squares,
        LEAST_SQUARES,
        budget="none",
    ),
    _alone("snapml", "dual", partial(packages.snapml, True)),
    _alone("snapml", "primal", partial(packages.snapml, False)),
    _alone("glum", "irls-ls", partial(packages.glum, "irls-ls"), max_columns=FORMED),
    _alone("glum", "lbfgs", partial(packages.glum, "lbfgs")),
    *(
        _alone(
            "liblinear-official",
            f"-s {code}",
            partial(packages.liblinear, code),
            budget="tol",
            threaded=False,
        )
        for code in (0, 7)
    ),
    *(
        _alone(
            "cyanure", solver, partial(packages.cyanure, solver), LOGISTIC, MULTINOMIAL
        )
        for solver in ("auto", "svrg")
    ),
    _alone("skglm", "LBFGS", packages.skglm),
    *_of_scipy(),
)
"""All, in the order of the tables."""
