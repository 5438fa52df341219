"""When a fit proves that no minimizer exists, and when nothing is claimed."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

from subsampled_newton import (
    LOGISTIC,
    SIGMOID_SQUARED,
    LinearModel,
    LogisticRegression,
    SubsampledNewton,
    minimize,
    separation,
)
from subsampled_newton.separation import examined
from subsampled_newton.softmax_model import SoftmaxModel


def separable(problem, w, **options):
    return examined(problem, w, **options).separable


def test_weak_effects_are_not_called_separable():
    # No margin is large, and none is far below 0: neither proves anything.
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 2)), rng.integers(0, 2, 2000)
    model = LogisticRegression(C=np.inf).fit(X, y)
    assert np.abs(model.decision_function(X)).max() < 0.5
    assert model.result_.status.name == "CONVERGED"


def signed(X, y, weights=None):
    return LinearModel(LOGISTIC, np.array(X), np.array(y), sample_weight=weights)


def test_all_margins_must_be_positive_to_prove_separation():
    problem = signed([[1.0], [-1.0], [0.1]], [1.0, -1.0, 1.0])
    assert separable(problem, np.array([1e-9]), most=0.0)
    for w in (0.0, -1e-9):
        assert separable(problem, np.array([w]))  # by a linear program
    overlap = signed([[1.0], [-1.0], [-0.1]], [1.0, -1.0, 1.0])
    for w in (1e-9, 1.0, 10.0, 1e3):
        for failed in (False, True):
            assert not separable(overlap, np.array([w]), failed=failed)


@pytest.mark.parametrize("w", [0.0, 1.0, 9.9, 10.0, 30.0, 700.0, 800.0])
def test_a_row_on_the_plane_is_no_overlap(w):
    problem = signed([[1.0], [-1.0], [0.0]], [1.0, -1.0, 1.0])
    assert separable(problem, np.array([w]))
    assert separable(problem, np.array([w]), failed=True)


def test_nothing_is_looked_for_where_no_row_is_fitted_almost_exactly():
    # At a small gradient, which rows on one side would not have.
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 3)), np.sign(rng.standard_normal(200))
    problem = signed(X, y)
    w = minimize(problem, SubsampledNewton(1.0)).w
    before = problem.work.rows_read
    assert not separable(problem, w)
    assert problem.work.rows_read - before == 200


def test_what_a_linear_program_tolerates_is_no_separation():
    # Along the difference of the columns nine rows of ten are up to 2e-8 on the right
    # side, the tenth as much on the wrong one.
    rng = np.random.default_rng(0)
    found = []
    for size in (2e-8, 1e-8, 5e-8):
        x, y = rng.standard_normal(2000), np.tile([1.0, -1.0], 1000)
        side = np.where(np.arange(2000) % 10 < 1, -1.0, 1.0) * rng.random(2000)
        X = np.column_stack([x, x + size * side * y])
        found.append(separable(signed(X, y), np.zeros(2), failed=True))
    X = np.column_stack([x, x + 1e-4 * np.maximum(side, 0.0) * y])
    assert separable(signed(X, y), np.zeros(2), failed=True)
    assert found == [False, False, False]


def test_rows_without_weight_do_not_count_for_separation():
    X, y = [[1.0], [-1.0], [-0.1]], [1.0, -1.0, 1.0]
    problem = signed(X, y, [1.0, 1.0, 0.0])
    assert separable(problem, np.array([1.0]))
    assert separable(problem, np.array([0.0]), failed=True)


def test_programs_larger_than_their_limit_are_not_solved(monkeypatch):
    X, y = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0, 1.0])
    problem = LinearModel(SIGMOID_SQUARED, X, y)
    for w, failed in (([10.0, 0.0], False), ([0.0, 0.0], True)):
        for limit, expected in ((6, True), (5, False)):
            monkeypatch.setattr(separation, "SMALL_PROGRAM", limit)
            found = separable(problem, np.array(w), failed=failed)
            assert found is expected


@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_separation_does_not_depend_on_the_unit_of_the_data(unit):
    # One row of a hundredth is off the plane on which the others overlap.
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.01]])
    y = [1.0, 1.0, -1.0, -1.0, 1.0]
    assert separable(signed(unit * X, y), np.zeros(2), failed=True)
    X = np.random.default_rng(0).standard_normal((30, 3))
    y = np.sign(X[:, 0] + X[:, 1] * X[:, 2])
    assert not separable(signed(unit * X, y), np.zeros(3), failed=True)


def test_labels_of_0_and_1_have_the_signs_of_their_sides():
    X = np.array([[1.0], [2.0], [-1.0]])
    problem = LinearModel(SIGMOID_SQUARED, X, np.array([1.0, 1.0, 0.0]))
    assert separable(problem, np.array([1.0]))
    assert separable(problem, np.array([0.0]), failed=True)
    X[1] = 0.0  # on the plane: a program decides from a margin of 10 on
    problem = LinearModel(SIGMOID_SQUARED, X, np.array([1.0, 1.0, 0.0]))
    assert separable(problem, np.array([10.0]))
    X = np.array([[1.0], [2.0], [-1.0]])
    mixed = LinearModel(SIGMOID_SQUARED, X, np.array([1.0, 0.0, 0.0]))
    for w in (-1.0, 1.0):
        assert not separable(mixed, np.array([w]))
    assert not separable(mixed, np.array([0.0]), failed=True)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_rows_of_the_program_give_the_margins(K):
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((12, 3)), rng.integers(0, K, 12)
    used = np.array([0, 2, 3, 7, 11])
    problems = [
        SoftmaxModel(X, y, n_classes=K),
        signed(X, np.where(y > 0, 1.0, -1.0)),
        LinearModel(SIGMOID_SQUARED, X, (y > 0).astype(float)),
    ]
    for problem in problems:
        w = rng.standard_normal(problem.n_params)
        pairs = separation._Pairs(problem.restrict(used))
        margins = pairs.margins(problem.predictions(w)[..., used])
        np.testing.assert_allclose(
            separation._margin_rows(problem, used) @ w, margins, rtol=1e-12, atol=1e-12
        )


def test_the_own_class_of_every_row_must_lead_all_others():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, 4))
    leads = []
    for _ in range(60):
        y = np.append([0, 1, 2], rng.integers(0, 3, 2))
        problem = SoftmaxModel(X, y)
        w = 1e-3 * rng.standard_normal(problem.n_params)
        z = problem.predictions(w)
        leads.append(np.array_equal(np.argmax(z, axis=0), y))
        assert (separation._Pairs(problem).margins(z).min() > 0.0) == leads[-1]
        assert separable(problem, w) >= leads[-1]
    assert 0 < sum(leads) < 60


def test_a_program_decides_for_several_classes():
    # Class 2 alone has the second column; the others overlap in the first.
    X = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    y = np.array([0, 1, 0, 1, 2])
    problem = SoftmaxModel(X, y)
    nowhere = np.zeros(problem.n_params)
    assert separable(problem, nowhere, failed=True)
    overlap = SoftmaxModel(np.vstack([X, -X[4]]), np.append(y, 2))
    assert not separable(overlap, np.zeros(overlap.n_params), failed=True)


# --- what a fit says, against a linear program of all rows ---------------------------


def random_classes(rng):
    """Small tables of every kind, some of them separable, and their labels."""
    n, d = int(rng.integers(20, 120)), int(rng.integers(1, 6))
    K = int(rng.choice([2, 2, 3]))
    X = rng.integers(-3, 4, (n, d)).astype(float)
    kind = rng.choice(["integers", "categories", "normal", "plane", "dependent"])
    if kind == "normal":
        X = rng.standard_normal((n, d))
    elif kind == "categories":
        levels = np.eye(int(rng.integers(3, 20)))
        X = np.column_stack([levels[rng.integers(0, len(levels), n)], X[:, :2]])
        X = X[:, np.any(X, axis=0)]
    elif kind == "dependent":
        X = np.column_stack([X, X @ rng.integers(-2, 3, (d, 2))])
    signal = X @ rng.standard_normal(X.shape[1]) * rng.choice([0.3, 1.0, 3.0, 10.0])
    y = np.digitize(signal + rng.logistic(size=n), [0.0] if K == 2 else [-1.0, 1.0])
    if kind == "plane":  # rows on it have any label
        side = X @ rng.integers(-2, 3, d)
        y = np.where(side != 0.0, side > 0.0, y % 2)
    return X, y.astype(int)


def separated(X, y):
    """The answer of a linear program, with the margins of all pairs of classes."""
    classes = np.unique(y)
    rows = []
    for x, own in zip(X, y, strict=True):
        for other in classes[classes != own]:
            signs = (classes == own).astype(float) - (classes == other)
            rows.append(np.outer(signs, x).ravel())
    A = np.array(rows)
    found = scipy.optimize.linprog(
        -A.sum(axis=0), A_ub=-A, b_ub=np.zeros(len(A)), bounds=(-1.0, 1.0)
    )
    return -found.fun > 1e-5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("programs", [True, False])
def test_fits_name_separable_data_and_no_others(programs, monkeypatch):
    if not programs:  # as where the data are large
        monkeypatch.setattr(separation, "SMALL_PROGRAM", 0)
    answers = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X, y = random_classes(rng)
        if len(np.unique(y)) < 2:
            continue
        answers.append(separated(np.column_stack([X, np.ones(len(X))]), y))
        data = sp.csr_array(X) if seed % 3 == 0 else X * 10.0 ** rng.integers(-5, 6)
        for solver in ("auto", "lbfgs"):
            model = LogisticRegression(C=np.inf, solver=solver, max_iter=1000)
            status = model.fit(data, y).result_.status.name
            assert (status == "SEPARABLE") == answers[-1], (seed, solver, status)
    assert 10 < sum(answers) < len(answers) - 10


def categories(n, levels, seed=0):
    """Rows of one of many categories each; some of them have one label only."""
    rng = np.random.default_rng(seed)
    column, effect = rng.integers(0, levels, n), rng.standard_normal(levels)
    y = (effect[column] + rng.logistic(size=n) > 0.0).astype(int)
    X = sp.csr_array((np.ones(n), (np.arange(n), column)), (n, levels))
    return X, y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("n", "levels", "solver"),
    [(6000, 900, "lbfgs"), (2000, 300, "auto"), (20_000, 4000, "auto")],
)
def test_categories_of_one_label_are_named_however_many(n, levels, solver):
    X, y = categories(n, levels)
    model = LogisticRegression(C=np.inf, solver=solver, max_iter=2000).fit(X, y)
    assert model.result_.status.name == "SEPARABLE"
    if levels > 300:
        return
    # Without those of one label there is a minimizer.
    total = np.asarray(X.sum(axis=0)).ravel()
    ones = np.asarray(X[y == 1].sum(axis=0)).ravel()
    mixed = np.flatnonzero((ones > 0) & (ones < total))
    keep = np.asarray(X[:, mixed].sum(axis=1)).ravel() > 0
    model.fit(X[:, mixed][keep], y[keep])
    assert model.result_.converged


def test_a_strong_signal_costs_a_few_reads_and_no_program(monkeypatch):
    def no_program(*args, **kwargs):
        raise AssertionError("a minimizer is at hand")

    monkeypatch.setattr(separation.scipy.optimize, "linprog", no_program)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, 30))
    signal = 4.0 * X @ rng.standard_normal(30)
    y = (signal + rng.logistic(size=4000) > 0.0).astype(int)
    model = LogisticRegression(C=np.inf).fit(X, y)
    assert model.result_.converged
    assert np.abs(model.decision_function(X)).max() > 30.0
    problem = signed(X, 2.0 * y - 1.0)
    w = minimize(problem, SubsampledNewton(1.0), tol=1e-10).w
    before = problem.work.rows_read
    assert not separable(problem, w)
    assert problem.work.rows_read - before <= 4 * 4000


def test_a_look_that_may_cost_nothing_claims_nothing():
    X, y = categories(400, 60)
    problem = signed(X.toarray(), 2.0 * y - 1.0)
    run = minimize(problem, SubsampledNewton(1.0, linear_solver="cg"), max_iter=15)
    verdict = separation.examined(problem, run.w, most=run.props)
    assert verdict.separable
    assert verdict.memory_bytes > 0
    before = problem.work.props
    separation.SMALL_PROGRAM, limit = 0, separation.SMALL_PROGRAM
    try:
        assert not separable(problem, run.w, most=0.0)
    finally:
        separation.SMALL_PROGRAM = limit
    assert problem.work.props - before <= 10 * 400
