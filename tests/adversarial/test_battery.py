"""A share of the battery for every run of the tests, and tests of the battery."""

import warnings

import numpy as np
import pytest
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from subsampled_newton import LogisticRegression
from subsampled_newton.estimators import SOLVERS

from .__main__ import main
from .battery import (
    RIVALS,
    VARIANTS,
    cases,
    fit_outcome,
    in_precision,
    ours,
    run,
    solvers_for,
    theirs,
)
from .kinds import KINDS, Case
from .reference import Objective, minimum

SERIOUS = ("SILENT", "CLAIMED", "CRASH")
SEEDS = range(1000, 1007)
OTHERS = [name for name in SOLVERS if name != "newton"]


@pytest.mark.parametrize("kind", KINDS)
def test_default_solver(kind):
    tally = run([kind], SEEDS, lambda case: [("auto", ours(case))])[kind, "auto"]
    assert tally.fits == len(SEEDS) * len(VARIANTS)
    assert not any(tally.outcomes[bad] for bad in SERIOUS), tally.examples
    # The target is 99 % of all; one fit of a kind may be lost to another BLAS.
    solved = tally.outcomes["solved"] + tally.outcomes["named"]
    assert solved >= tally.fits - 1, tally.examples


@pytest.mark.parametrize("kind", KINDS)
def test_other_solvers_are_not_silent(kind):
    turn = list(KINDS).index(kind)
    for _, seed, case in cases([kind], range(2000, 2008)):
        names = solvers_for(case)[1:]
        dtype, sparse = VARIANTS[(turn + seed) % 4]
        case = in_precision(case, dtype)
        name = names[(5 * turn + seed) % len(names)]
        outcome, _, detail = fit_outcome(case, ours(case, name), minimum(case), sparse)
        assert outcome not in SERIOUS, f"#{seed} {name}: {detail}"


# The reference and the verdicts.


@pytest.mark.parametrize(
    "kind", ["plain", "weights over ten decades", "softmax overlapping unpenalised"]
)
@pytest.mark.parametrize("seed", range(2))
def test_reference_is_the_minimum_that_scipy_finds(kind, seed):
    ((_, _, case),) = cases([kind], [seed])
    f = Objective(case)
    d, K = case.X.shape[1], f.n_outputs
    mean = case.X.mean(axis=0) * case.fit_intercept
    size = np.std(case.X, axis=0) + np.abs(mean) * 1e-12 + 1e-300

    def parts(w):  # of centred columns of equal size
        W = w.reshape(K, d + 1)
        coef = W[:, :d] / size
        return coef, (W[:, d] - coef @ mean) * case.fit_intercept

    def value(w):
        return -float(f.decrease(*parts(w)))

    found = scipy.optimize.minimize(value, np.zeros(K * (d + 1)), tol=1e-10)
    reference = float(minimum(case).decrease)
    assert -found.fun <= reference * (1 + 1e-12)
    assert -found.fun >= reference * (1 - 1e-5)


def test_decrease_keeps_digits_where_little_can_be_gained():
    case = Case(np.array([[1e-7], [-1e-7]]), np.array([1, 0]), fit_intercept=False)
    # log 2 - log(1 + exp(-m)) = m/2 - m**2/8 + ..., m = 1e-7
    exact = 1e-7 / 2 - 1e-14 / 8 - 0.5 / 2
    decrease = Objective(case).decrease([[1.0]], 0.0)
    assert float(decrease) == pytest.approx(exact, rel=1e-14)
    tiny = Case(case.X, case.y, C=1e8, fit_intercept=False)
    gain = float(Objective(tiny).decrease([[1.0]], 0.0)) + 1 / (4e8)
    assert gain == pytest.approx(1e-7 / 2 - 1e-14 / 8, rel=1e-9)


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if "unpenalised" in k and k != "collinear unpenalised"]
)
def test_planted_separation_is_what_a_linear_program_finds(kind):
    for _, _, case in cases([kind], range(4)):
        assert case.separable == _separable(case)


def _separable(case):
    X = case.X / np.maximum(np.abs(case.X).max(axis=0), 1e-300)
    if case.fit_intercept:
        X = np.column_stack([X, np.ones(len(X))])
    K = max(2, int(case.y.max()) + 1)
    rows = [
        np.kron(np.eye(K)[own] - np.eye(K)[k], x)
        for x, own in zip(X, case.y, strict=True)
        for k in range(K)
        if k != own
    ]
    A = np.array(rows)
    program = scipy.optimize.linprog(
        -A.sum(axis=0), A_ub=-A, b_ub=np.zeros(len(A)), bounds=(-1.0, 1.0)
    )
    return bool(-program.fun > 1e-6)


class Broken(LogisticRegression):
    """An estimator that fails in a way of its choice."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.trouble(self)
        return self


def _zeros(model):
    model.coef_, model.intercept_ = 0 * model.coef_, 0 * model.intercept_


def _nan(model):
    model.coef_ = np.nan * model.coef_


def _warned(model):
    _zeros(model)
    warnings.warn("lost", ConvergenceWarning, stacklevel=1)


def _crying(model):
    warnings.warn("lost", ConvergenceWarning, stacklevel=1)


def _near(model):
    model.coef_ = 1.01 * model.coef_


def _raising(model):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (_zeros, "SILENT"),
        (_nan, "SILENT"),
        (_warned, "warned"),
        (_crying, "false warning"),
        (_near, "loose"),
        (_raising, "CRASH"),
        (lambda model: None, "solved"),
    ],
)
def test_verdicts(trouble, outcome):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3))
    case = Case(X, (X[:, 0] + rng.standard_normal(50) > 0).astype(int))
    model = Broken()
    model.trouble = trouble
    assert fit_outcome(case, model, minimum(case))[0] == outcome


def test_separation_is_asked_for_and_must_not_be_claimed():
    ((_, _, case),) = cases(["separable unpenalised"], [0])
    assert fit_outcome(case, ours(case), minimum(case))[0] == "solved"
    honest = Case(case.X, case.y, C=np.inf, fit_intercept=case.fit_intercept)
    assert fit_outcome(honest, ours(case), minimum(case))[0] == "CLAIMED"
    silent = theirs(case, "newton-cg").set_params(tol=1e-12)
    assert fit_outcome(case, silent, minimum(case))[0] in ("solved", "unnamed", "loose")


def test_command_prints_a_table(capsys):
    arguments = ["--fits", "8", "--kinds", "plain", "ridge", "--rivals"]
    assert not main([*arguments, "--solvers", "auto", "lbfgs", "qr"])
    table = capsys.readouterr().out
    for text in ("sklearn newton-cholesky", "lbfgs", "qr", "SILENT", "2 kinds"):
        assert text in table
    assert len(RIVALS) == 6
