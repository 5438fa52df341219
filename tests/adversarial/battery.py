"""Fits of cases by solvers, and what each fit is worth."""

from __future__ import annotations

import re
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import sklearn.linear_model
from scipy.linalg import LinAlgWarning

from subsampled_newton import LinearRegression, LogisticRegression, Ridge
from subsampled_newton.estimators import LEAST_SQUARES, SOLVERS

from .kinds import KINDS, Case
from .reference import LONG, Objective, Reference, minimum

SOLVED = 1e-6
"""Share of the possible decrease that a solved fit may leave."""
WRONG = 1e-2
"""Share above which a fit without a warning is silently wrong."""
_LIMIT = re.compile("MAX_ITER|max_iter|number of iterations")
VARIANTS = [(dtype, sparse) for dtype in ("f8", "f4") for sparse in (False, True)]

OUTCOMES = {
    "solved": "at most 1e-6 of the possible decrease is left, no warning; or the "
    "separation is named",
    "named": "columns are named that depend on each other up to the rounding of the "
    "data, and the fit is as exact on the data before they were rounded",
    "limit": "as exact, with the warning that max_iter was reached before tol",
    "false warning": "as exact, with another warning",
    "warned": "less exact, with a warning",
    "loose": "up to 1 % is left, no warning",
    "SILENT": "more than 1 % is left, no warning",
    "unnamed": "separation that was not named, as exact or with another warning",
    "CLAIMED": "separation was named where there is none",
    "refused": "the solver says that it is not for this problem",
    "CRASH": "any other exception",
}


@dataclass
class Tally:
    """What became of the fits of one kind by one solver."""

    outcomes: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)

    def __iadd__(self, other):
        self.outcomes += other.outcomes
        self.slowest = max(self.slowest, other.slowest)
        return self

    @property
    def fits(self):
        return sum(self.outcomes.values()) - self.outcomes["refused"]


def cases(kinds, seeds) -> Iterator[tuple[str, int, Case]]:
    """Cases by kind and seed. A kind keeps its cases when others are added."""
    for name in kinds:
        for seed in seeds:
            rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
            yield name, seed, KINDS[name](rng)


def in_precision(case, dtype):
    """The case on data rounded to a dtype: another problem, with its own minimum."""
    return replace(case, X=case.X.astype(dtype))


def ours(case, solver="auto"):
    """Our estimator for a case, with its defaults, not fitted."""
    options = {"solver": solver, "fit_intercept": case.fit_intercept}
    if case.loss != "squares":
        return LogisticRegression(C=case.C, random_state=0, **options)
    if case.penalised:
        return Ridge(1.0 / case.C, random_state=0, **options)
    return LinearRegression(random_state=0, **options)


def theirs(case, solver):
    """scikit-learn's estimator for a case, or None if it has another objective."""
    fit_intercept = case.fit_intercept
    if case.loss == "squares":
        if not case.penalised:
            if solver == "lbfgs":  # once
                return sklearn.linear_model.LinearRegression(
                    fit_intercept=fit_intercept
                )
            return None
        named = {"newton-cholesky": "cholesky", "lbfgs": "auto", "newton-cg": "lsqr"}
        return (
            sklearn.linear_model.Ridge(
                1.0 / case.C,
                fit_intercept=fit_intercept,
                solver=named.get(solver, solver),
                random_state=0,
            )
            if solver != "liblinear"
            else None
        )
    if solver == "liblinear" and (
        fit_intercept or case.loss == "softmax" or not case.penalised
    ):
        return None  # penalises the intercept
    return sklearn.linear_model.LogisticRegression(
        C=case.C, fit_intercept=fit_intercept, solver=solver, random_state=0
    )


RIVALS = ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga", "liblinear")


def solvers_for(case):
    """Names of all solvers of ours that take a case."""
    names = ["auto", *SOLVERS]
    return [*names, *LEAST_SQUARES] if case.loss == "squares" else names


def fit_outcome(
    case: Case,
    estimator: Any,
    reference: Reference,
    sparse: bool = False,
    before: tuple[Case, Reference] | None = None,
) -> tuple[str, float, str]:
    """Outcome, seconds and a line of detail of a fit.

    ``before`` is the case before its data were rounded.
    """
    X = sp.csr_array(case.X) if sparse else case.X
    options = (
        {} if case.sample_weight is None else {"sample_weight": case.sample_weight}
    )
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", FutureWarning)
        try:
            estimator.fit(X, case.y, **options)
        except Exception as error:
            return _raised(error), time.perf_counter() - started, repr(error)
    seconds = time.perf_counter() - started
    objective = Objective(case)
    decrease = objective.decrease(estimator.coef_, estimator.intercept_)
    outcome, *rest = _judge(case, estimator, reference, decrease, caught, seconds)
    if outcome == "warned" and before is not None and _named(estimator, caught, before):
        outcome = "named"
    return (outcome, *rest)


def _named(estimator, caught, before):
    """Whether nothing but the rounding of the data is left out, and is named."""
    exact, reference = before
    if {w.category for w in caught} != {LinAlgWarning}:
        return False
    decrease = Objective(exact).decrease(estimator.coef_, estimator.intercept_)
    return reference.decrease - decrease <= SOLVED * reference.decrease


def _raised(error):
    declined = isinstance(error, TypeError | ValueError) and any(
        word in str(error) for word in ("needs", "strongly convex", "for non-convex")
    )
    return "refused" if declined else "CRASH"


def _judge(case, estimator, reference, decrease, caught, seconds):
    possible = max(reference.decrease, LONG(0))
    left = reference.decrease - decrease
    # Where nothing can be gained, nothing may be lost beyond rounding.
    gap = float(left / possible) if possible > 0 else float(left * 1e12)
    if not np.isfinite(gap):
        gap = np.inf
    result = getattr(estimator, "result_", None)
    status = result.status.name if result is not None else ""
    detail = f"gap {gap:.1e} {status} " + "; ".join(
        str(w.message).splitlines()[0][:60] for w in caught
    )
    warned = bool(caught)
    if status == "SEPARABLE":
        return ("solved" if case.unbounded else "CLAIMED"), seconds, detail
    if case.unbounded and (gap <= SOLVED or warned):
        return "unnamed", seconds, detail
    if gap <= SOLVED:
        if warned and all(_LIMIT.search(str(w.message)) for w in caught):
            return "limit", seconds, detail
        return ("false warning" if warned else "solved"), seconds, detail
    if warned:
        return "warned", seconds, detail
    return ("SILENT" if gap > WRONG else "loose"), seconds, detail


def run(
    kinds,
    seeds,
    solvers: Callable[[Case], list[tuple[str, Any]]],
    variants=VARIANTS,
    progress: Callable[[int], None] = lambda fits: None,
) -> dict[tuple[str, str], Tally]:
    """Fit every case in every variant by every solver.

    ``solvers(case)`` gives names and estimators that are not fitted. Returns tallies by
    kind and name.
    """
    tallies: dict[tuple[str, str], Tally] = {}
    for name, seed, exact in cases(kinds, seeds):
        for dtype in dict.fromkeys(dtype for dtype, _ in variants):
            case = in_precision(exact, dtype)
            reference = minimum(case)
            before = (exact, minimum(exact)) if dtype != "f8" else None
            for sparse in [s for t, s in variants if t == dtype]:
                for solver, estimator in solvers(case):
                    outcome, seconds, detail = fit_outcome(
                        case, estimator, reference, sparse, before
                    )
                    tally = tallies.setdefault((name, solver), Tally())
                    tally.outcomes[outcome] += 1
                    tally.slowest = max(tally.slowest, seconds)
                    if outcome not in ("solved", "named", "refused", "limit"):
                        layout = "csr" if sparse else "dense"
                        tally.examples.append(
                            f"{name} #{seed} {solver} {dtype} {layout}: "
                            f"{outcome}, {detail}"
                        )
                    progress(1)
    return tallies
