"""The estimators as a user of scikit-learn meets them."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.sparse as sp
import sklearn.linear_model
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from subsampled_newton import (
    LOGISTIC,
    SIGMOID_SQUARED,
    DualStartNewton,
    Growing,
    HeavyBall,
    LinearModel,
    LogisticRegression,
    MultilevelNewton,
    Ridge,
    SampledStart,
    SigmoidLeastSquaresClassifier,
    Spectral,
    SubsampledNewton,
    TrustRegion,
    separation,
)
from subsampled_newton.estimators import SOLVERS, _base, _warmup

OLD_SKLEARN = sklearn.__version__.startswith("1.6.")


# The array API check needs an environment variable and skips itself without it.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        LogisticRegression(),
        LogisticRegression(solver="newton-cg"),
        SigmoidLeastSquaresClassifier(),
        Ridge(),
        Ridge(solver="newton-cg"),
    ]
)
def test_sklearn_conventions(estimator, check):
    binary = isinstance(estimator, LogisticRegression)
    if binary and OLD_SKLEARN and "sample_weight_equivalence" in str(check):
        pytest.skip(
            "scikit-learn 1.6 shuffles the rows of one of the two fits and then names "
            "the classes by the first row: it compares different problems"
        )
    check(estimator)


def objective(X, y, weights, alpha, coef, intercept):
    """Mean logistic loss with weights, and ridge; y in {-1, 1}."""
    m = y * (X @ coef + intercept)
    loss = np.log1p(np.exp(-np.abs(m))) - np.minimum(m, 0.0)
    return np.average(loss, weights=weights) + alpha / 2 * coef @ coef


@pytest.fixture
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return X, y


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_same_minimizer_as_scikit_learn(cancer, C, fit_intercept):
    X, y = cancer
    X = StandardScaler().fit_transform(X)  # scikit-learn needs it, we do not
    ours = LogisticRegression(C=C, fit_intercept=fit_intercept).fit(X, y)
    theirs = sklearn.linear_model.LogisticRegression(
        C=C,
        fit_intercept=fit_intercept,
        tol=1e-12,
        max_iter=10_000,
        solver="newton-cholesky",
    ).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)
    np.testing.assert_allclose(
        ours.predict_proba(X), theirs.predict_proba(X), atol=1e-7
    )


def test_unscaled_and_offset_columns_need_no_help(cancer):
    X, y = cancer
    rng = np.random.default_rng(0)
    scale, offset = 10.0 ** rng.uniform(-6, 6, 30), 10.0 ** rng.uniform(1, 4, 30)
    plain = LogisticRegression(C=np.inf, alpha=0.0, max_iter=50)
    small = X[:, :3]  # not separable
    reference = clone(plain).fit(small, y)
    harder = clone(plain).fit((small - offset[:3]) * scale[:3], y)
    assert harder.result_.status.name == "CONVERGED"
    assert abs(harder.result_.value - reference.result_.value) < 1e-12
    np.testing.assert_allclose(harder.coef_ * scale[:3], reference.coef_, rtol=1e-5)


def reached(estimator, name, X, y):
    """Fit by the solver of a name as far as it is meant to go."""
    options = {"solver": name, "random_state": 0, "max_iter": 20_000, "C": 1e-2}
    if name == "sgd":
        options |= {"tol": 0.02, "max_iter": 500}
    if name == "heavy-ball":  # the intercept has no ridge: not strongly convex
        options["solver"] = HeavyBall(momentum=0.5)
    return clone(estimator).set_params(**options).fit(X, y)


@pytest.mark.parametrize("name", ["auto", *SOLVERS])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_every_solver_by_name_finds_the_same_minimum(name, n_classes):
    X, y = make_classification(
        3000, 8, n_informative=6, n_classes=n_classes, flip_y=0.2, random_state=0
    )
    if name in ("sdca", "dual-start-newton") and n_classes > 2:
        with pytest.raises(TypeError, match="SDCA needs the logistic or the squared"):
            reached(LogisticRegression(), name, X, y)
        return
    model = reached(LogisticRegression(), name, X, y)
    assert model.result_.status.name == "CONVERGED"
    reference = clone(model).set_params(solver="newton", tol=1e-8).fit(X, y)
    gap = model.result_.value - reference.result_.value
    assert abs(gap) < (1e-2 if name == "sgd" else 1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_sigmoid_least_squares_by_every_solver(name):
    X, y = make_classification(2000, 5, flip_y=0.2, random_state=0)
    if name in ("multilevel-newton", "dual-start-newton", "sdca"):
        with pytest.raises(TypeError, match="needs"):
            reached(SigmoidLeastSquaresClassifier(), name, X, y)
        return
    model = reached(SigmoidLeastSquaresClassifier(), name, X, y)
    assert model.result_.status.name == "CONVERGED"
    reference = clone(model).set_params(solver="trust-region", tol=1e-8).fit(X, y)
    gap = model.result_.value - reference.result_.value
    assert abs(gap) < (1e-2 if name == "sgd" else 1e-12)


def test_heavy_ball_names_what_its_default_needs():
    X, y = make_classification(300, 5, flip_y=0.2, random_state=0)
    with pytest.raises(ValueError, match="strongly convex"):
        LogisticRegression(solver="heavy-ball").fit(X, y)


def test_auto_samples_when_rows_are_many():
    X, y = make_classification(30_000, 10, flip_y=0.2, random_state=0)
    model = LogisticRegression(random_state=0).fit(X, y)
    assert 0 < model.history_["hessian_rows"][1] <= 0.11 * len(X)


def test_a_solver_object_is_used():
    X, y = make_classification(1000, 5, flip_y=0.2, random_state=0)
    model = LogisticRegression(solver=SubsampledNewton(Spectral(123))).fit(X, y)
    assert model.history_["hessian_rows"][1] == 123


@pytest.mark.parametrize("estimator", [LogisticRegression(), Ridge()])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_weights_remove_and_repeat_rows(estimator, fit_intercept):
    X, y = make_classification(300, 6, flip_y=0.2, random_state=0)
    times = np.random.default_rng(0).integers(0, 4, 300)
    model = clone(estimator).set_params(fit_intercept=fit_intercept)
    weighted = clone(model).fit(X, y, sample_weight=times)
    repeated = clone(model).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-8)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, atol=1e-9)


@pytest.mark.parametrize("estimator", [LogisticRegression(), Ridge()])
def test_containers_agree(estimator, tmp_path):
    rng = np.random.default_rng(0)
    X = np.round(rng.standard_normal((400, 7)), 3) * (rng.random((400, 7)) < 0.4)
    y = (X[:, 0] + rng.standard_normal(400) > 0).astype(int)
    np.save(tmp_path / "X.npy", X)
    long = sp.csr_array(X)
    long.indices, long.indptr = long.indices.astype("i8"), long.indptr.astype("i8")
    reference = clone(estimator).fit(X, y)
    for other in (
        np.asfortranarray(X),
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        X[:, ::-1].copy()[:, ::-1],  # negative strides
        sp.csr_array(X),
        sp.csc_matrix(X),
        long,
        pd.DataFrame(X),
        X.tolist(),
    ):
        model = clone(estimator).fit(other, y)
        np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-7, atol=1e-10)


def test_float32_data_are_used_in_place(cancer):
    X, y = cancer
    X32 = X.astype(np.float32)
    single = LogisticRegression().fit(X32, y)
    double = LogisticRegression().fit(X32.astype(np.float64), y)
    assert single.coef_.dtype == np.float64  # rounding them might undo the fit
    np.testing.assert_allclose(single.coef_, double.coef_, rtol=1e-4, atol=1e-7)


def test_alpha_is_the_mean_form_of_C(cancer):
    X, y = cancer
    weights = np.random.default_rng(0).random(len(y))
    by_c = LogisticRegression(C=0.5).fit(X, y, weights)
    by_alpha = LogisticRegression(alpha=1 / (0.5 * weights.sum())).fit(X, y, weights)
    np.testing.assert_allclose(by_alpha.coef_, by_c.coef_, rtol=1e-10)


def test_class_weight_is_a_sample_weight():
    X, y = make_classification(500, 4, weights=[0.9], flip_y=0.2, random_state=0)
    balanced = LogisticRegression(class_weight="balanced").fit(X, y)
    counts = np.bincount(y)
    weights = (len(y) / (2 * counts))[y]
    by_hand = LogisticRegression().fit(X, y, weights)
    np.testing.assert_allclose(balanced.coef_, by_hand.coef_, rtol=1e-8)
    given = LogisticRegression(class_weight={0: 1.0, 1: 5.0}).fit(X, y)
    theirs = sklearn.linear_model.LogisticRegression(
        class_weight={0: 1.0, 1: 5.0}, tol=1e-10, max_iter=1000
    ).fit(X, y)
    np.testing.assert_allclose(given.coef_, theirs.coef_, rtol=1e-4, atol=1e-6)


def test_warm_start_starts_at_the_solution(cancer):
    X, y = cancer
    model = LogisticRegression(C=10.0, warm_start=True).fit(X, y)
    assert model.n_iter_[0] > 3
    assert model.fit(X, y).n_iter_[0] <= 1
    X, y = load_diabetes(return_X_y=True)
    ridge = Ridge(alpha=0.1, warm_start=True).fit(X, y)
    assert ridge.fit(X, y).n_iter_ == 0


def test_ridge_is_scikit_learns():
    X, y = load_diabetes(return_X_y=True)
    weights = np.random.default_rng(0).random(len(y))
    for alpha in (0.0, 1e-3, 10.0):
        for fit_intercept in (True, False):
            ours = Ridge(alpha, fit_intercept=fit_intercept).fit(X, y, weights)
            theirs = sklearn.linear_model.Ridge(
                alpha, fit_intercept=fit_intercept, solver="cholesky"
            ).fit(X, y, weights)
            np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-7)
            np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-7)


def test_least_squares_with_dependent_columns_reaches_the_minimum():
    X, y = load_diabetes(return_X_y=True)
    X = np.hstack([X, X[:, :2], np.ones((len(X), 1)), np.zeros((len(X), 1))])
    model = Ridge(alpha=0.0).fit(X, y)
    reference = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y)[0]
    residual = np.c_[X, np.ones(len(X))] @ reference - y
    assert model.result_.converged
    assert np.sum((model.predict(X) - y) ** 2) <= np.sum(residual**2) * (1 + 1e-10)


def test_ridge_forecasts_are_right_for_targets_of_any_size():
    X, y = load_diabetes(return_X_y=True)
    for factor in (1e-150, 1e-8, 1e8, 1e150):
        model = Ridge(alpha=0.1).fit(X, factor * y)
        assert model.score(X, factor * y) > 0.51


# Separable data.


def separable(n=60, d=3, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, d))
    return X, (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)


def test_separable_data_without_a_penalty_are_named():
    X, y = separable()
    with pytest.warns(ConvergenceWarning, match="SEPARABLE.*no finite minimizer"):
        model = LogisticRegression(C=np.inf).fit(X, y)
    assert model.result_.status.name == "SEPARABLE"
    assert not model.result_.converged


def test_complete_separation_needs_no_linear_program(monkeypatch):
    monkeypatch.setattr(separation, "SMALL_PROGRAM", 0)
    with pytest.warns(ConvergenceWarning, match="SEPARABLE"):
        LogisticRegression(C=np.inf).fit(*separable())


def test_quasi_complete_separation_is_named():
    # One category is always positive; the rest overlaps.
    rng = np.random.default_rng(0)
    X = np.zeros((100, 2))
    X[:20, 0] = 1.0
    X[:, 1] = rng.standard_normal(100)
    y = np.r_[np.ones(20, int), rng.integers(0, 2, 80)]
    with pytest.warns(ConvergenceWarning, match="SEPARABLE"):
        LogisticRegression(C=np.inf).fit(X, y)


def test_separation_is_named_also_by_a_fit_that_got_nowhere():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.arange(100) < 20, rng.standard_normal(100)])
    y = np.r_[np.ones(20, int), rng.integers(0, 2, 80)]
    model = LogisticRegression(C=np.inf, solver="gradient-descent", max_iter=2)
    with pytest.warns(ConvergenceWarning, match="SEPARABLE"):
        model.fit(X, y)
    X[:3, 0] = 0.0
    y[:3] = 0
    X[97:, 0] = 1.0
    y[97:] = 0
    with pytest.warns(ConvergenceWarning, match="MAX_ITER"):
        model.fit(X, y)


def test_separation_is_not_claimed_elsewhere():
    X, y = separable()
    LogisticRegression(C=1e6).fit(X, y)  # a penalty: no warning
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((80, 3)) * [1.0, 1e3, 1e-3]
        y = rng.random(80) < 1 / (1 + np.exp(-6 * X[:, 0]))
        model = LogisticRegression(C=np.inf, max_iter=50)
        overlap = np.max(X[~y, 0]) > np.min(X[y, 0])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        if model.result_.status.name == "SEPARABLE":
            # A certificate: some direction has no row on the wrong side.
            signs = np.where(y, 1.0, -1.0)
            assert np.min(signs * model.decision_function(X)) >= -1e-9 or not overlap
        else:
            assert not caught


# What a fitted object tells.


def test_history_and_result_describe_the_fit(cancer):
    model = LogisticRegression().fit(*cancer)
    assert len(model.history_["value"]) == model.n_iter_[0] + 1
    assert np.all(np.diff(model.history_["value"]) <= 1e-12)
    assert model.result_.gradient_norm <= model.tol
    assert model.result_.message.endswith(".")


def test_too_few_iterations_warn_with_advice(cancer):
    with pytest.warns(ConvergenceWarning, match="MAX_ITER.*Raise max_iter"):
        LogisticRegression(max_iter=1).fit(*cancer)


def test_tol_bounds_the_full_gradient_of_every_solver():
    X, y = make_classification(3000, 8, flip_y=0.2, random_state=0)
    for solver in (
        "newton",
        "subsampled-newton-cg",
        SubsampledNewton(0.3, gradient_sample=0.1),
    ):
        for tol in (1e-3, 1e-9):
            model = LogisticRegression(solver=solver, tol=tol, random_state=0).fit(X, y)
            assert model.result_.gradient_norm <= tol


@pytest.mark.parametrize("estimator", [LogisticRegression(), Ridge()])
def test_pickle_clone_and_pipelines(estimator, cancer):
    X, y = cancer
    model = clone(estimator).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(X), model.predict(X))
    assert make_pipeline(StandardScaler(), clone(estimator)).fit(X, y).score(X, y) > 0.7
    assert np.all(cross_val_score(estimator, X, y, cv=3) > 0.6)


def test_grid_search(cancer):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 10.0]}, cv=3).fit(*cancer)
    assert search.best_score_ > 0.9


def test_feature_names_and_string_labels():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    labels = np.where(y == 1, "benign", "malign")
    model = LogisticRegression().fit(X, labels)
    assert list(model.feature_names_in_) == list(X.columns)
    assert set(model.predict(X)) == {"benign", "malign"}


def test_same_bits_for_every_number_of_threads():
    X, y = make_classification(60_000, 10, flip_y=0.2, random_state=0)
    models = [
        LogisticRegression(random_state=0, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2, 4, 8)
    ]
    assert all(np.array_equal(m.coef_, models[0].coef_) for m in models)


def test_many_sparse_columns_are_solved_without_a_matrix_of_them():
    rng = np.random.default_rng(0)
    X = sp.random(300, 20_000, density=0.002, format="csr", random_state=0)
    y = rng.integers(0, 2, 300)
    model = LogisticRegression(C=1.0).fit(X, y)  # 3.2 GB if it were formed
    theirs = sklearn.linear_model.LogisticRegression(C=1.0, tol=1e-10, max_iter=5000)
    theirs.fit(X, y)
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-5)


# Bad input.


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"C": 0.0}, "'C' parameter of LogisticRegression must be .* Got 0.0"),
        ({"alpha": -1.0}, "'alpha' parameter of LogisticRegression .* Got -1.0"),
        (
            {"solver": "magic"},
            "'solver' parameter of LogisticRegression .* Got 'magic'",
        ),
        ({"tol": "a"}, "'tol' parameter of LogisticRegression .* Got 'a'"),
        ({"max_iter": 0}, "'max_iter' parameter of LogisticRegression .* Got 0"),
        ({"class_weight": "even"}, "'class_weight' parameter .* Got 'even'"),
        ({"n_jobs": 0}, "n_jobs must be None or an integer other than 0, got 0"),
    ],
)
def test_bad_parameters_are_named(cancer, parameters, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**parameters).fit(*cancer)


@pytest.mark.parametrize("estimator", [LogisticRegression(), Ridge()])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y, s: (np.where(X > 20, np.nan, X), y, s), "Input X contains NaN"),
        (lambda X, y, s: (np.where(X > 20, np.inf, X), y, s), "Input X contains infin"),
        (
            lambda X, y, s: (sp.csr_array(np.where(X > 20, np.nan, X)), y, s),
            "X contains NaN",
        ),
        (lambda X, y, s: (X[:-1], y, s), "inconsistent numbers of samples"),
        (
            lambda X, y, s: (X, y, -s),
            "Negative values in data passed to `sample_weight`",
        ),
        (lambda X, y, s: (X, y, 0 * s), "all zero|non-zero"),
        (lambda X, y, s: (X, y, s[:-1]), "sample_weight.shape == "),
        (
            lambda X, y, s: (X, y, np.where(s > 0, np.nan, s)),
            "sample_weight contains NaN",
        ),
        (lambda X, y, s: (X.astype(complex), y, s), "Complex data not supported"),
        (lambda X, y, s: (X[:0], y[:0], s[:0]), "0 sample"),
        (lambda X, y, s: (X, np.where(y > 0, np.nan, y), s), "y contains NaN"),
    ],
)
def test_bad_data_are_named(cancer, estimator, change, message):
    X, y = cancer
    X, y, weights = change(X, y.astype(float), np.ones(len(y)))
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(X, y, sample_weight=weights)


def test_strings_in_the_data_are_refused(cancer):
    X, y = cancer
    X = X.astype(object)
    X[3, 4] = "unknown"
    with pytest.raises(ValueError, match="could not convert string to float"):
        LogisticRegression().fit(X, y)


def test_one_class_is_refused(cancer):
    X, y = cancer
    with pytest.raises(
        ValueError, match=r"two classes .*got one class: array\(\[1\]\)"
    ):
        LogisticRegression().fit(X, np.ones(len(X), int))
    with pytest.raises(ValueError, match="two classes"):
        LogisticRegression().fit(X, y, sample_weight=(y == 1).astype(float))


# Several classes.


def four_classes(n=1500, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.6)
    scores = 1.5 * X @ rng.standard_normal((d, 4)) + rng.gumbel(size=(n, 4))
    return X, scores.argmax(axis=1), rng


@pytest.mark.parametrize("make", [np.array, np.asfortranarray, sp.csr_array])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_multinomial_is_scikit_learns(make, fit_intercept):
    X, y, rng = four_classes()
    weights = rng.random(len(y))
    theirs = sklearn.linear_model.LogisticRegression(
        C=0.3, fit_intercept=fit_intercept, tol=1e-10, max_iter=10_000
    ).fit(X, y, weights)
    ours = LogisticRegression(C=0.3, fit_intercept=fit_intercept).fit(
        make(X), y, weights
    )
    assert ours.coef_.shape == (4, 6)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    shift = theirs.intercept_ - theirs.intercept_.mean()
    np.testing.assert_allclose(ours.intercept_, shift, atol=1e-5)
    np.testing.assert_allclose(
        ours.predict_proba(make(X)), theirs.predict_proba(X), atol=1e-5
    )
    np.testing.assert_array_equal(ours.predict(X), ours.decision_function(X).argmax(1))
    np.testing.assert_allclose(
        np.exp(ours.predict_log_proba(X)), ours.predict_proba(X), rtol=1e-12
    )


def test_multinomial_fit_does_not_depend_on_units_and_offsets():
    X, y, rng = four_classes()
    scale, offset = 10.0 ** rng.uniform(-6, 6, 6), 1e3 * rng.standard_normal(6)
    plain = LogisticRegression(C=np.inf).fit(X, y)
    moved = LogisticRegression(C=np.inf).fit((X + offset) * scale, y)
    assert moved.result_.converged
    np.testing.assert_allclose(moved.coef_ * scale, plain.coef_, rtol=1e-6, atol=1e-8)


def test_labels_of_any_kind():
    X, y, _ = four_classes(300)
    reference = LogisticRegression().fit(X, y)
    for labels in (
        np.array(["d", "b", "c", "a"]),
        np.array([10, 2000, -3, 4]),
        np.array([3, 2, 1, 0], dtype=np.uint8),
        np.array([0.0, 5.0, 2.0, 1.0]),
    ):
        model = LogisticRegression().fit(X, labels[y])
        np.testing.assert_array_equal(model.classes_, np.sort(labels))
        assert np.mean(model.predict(X) == labels[reference.predict(X)]) == 1.0
        order = np.argsort(labels)
        np.testing.assert_allclose(model.coef_, reference.coef_[order], atol=1e-7)


def test_multinomial_weights_remove_and_repeat_rows_and_warm_start():
    X, y, rng = four_classes(400)
    times = rng.integers(0, 4, 400)
    weighted = LogisticRegression(warm_start=True).fit(X, y, times)
    repeated = LogisticRegression().fit(
        np.repeat(X, times, axis=0), np.repeat(y, times)
    )
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-7, atol=1e-10)
    assert weighted.fit(X, y, times).n_iter_[0] <= 1


def test_separable_classes_are_named_and_only_those():
    X, y, rng = four_classes(200)
    centers = 10.0 * np.eye(6)[:4]
    with pytest.warns(ConvergenceWarning, match="SEPARABLE"):
        LogisticRegression(C=np.inf).fit(X / 10 + centers[y], y)
    # One class is on its own side of a column; the others overlap.
    quasi = X.copy()
    quasi[:, 0] = np.where(y == 3, rng.integers(0, 2, 200), 0.0)
    with pytest.warns(ConvergenceWarning, match="SEPARABLE"):
        LogisticRegression(C=np.inf).fit(quasi, y)
    assert LogisticRegression(C=np.inf).fit(X, y).result_.status.name == "CONVERGED"


def test_a_sparse_index_out_of_range_is_refused_not_read():
    X = sp.csr_array(np.eye(4))
    X.indices[2] = 1000
    with pytest.raises(ValueError, match=r"indices|index"):
        LogisticRegression().fit(X, [0, 1, 0, 1])


def test_huge_finite_values_are_fitted_not_called_infinite():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 2))
    y = X[:, 0] + rng.standard_normal(200) > 0
    model = LogisticRegression(C=np.inf).fit(X * 1e250, y)
    reference = LogisticRegression(C=np.inf).fit(X, y)
    assert abs(model.result_.value - reference.result_.value) < 1e-12


@pytest.mark.parametrize("make", [np.array, np.asfortranarray, sp.csr_array])
@pytest.mark.parametrize("value", [0.1, -3.3e9, 1e12 / 3, 1e300])
def test_a_constant_column_is_none_beside_an_intercept(make, value):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    y = np.digitize(X[:, 0] + rng.standard_normal(200), [-0.5, 0.5])
    Z = X.copy()
    Z[:, 1] = value
    for C in (1e4, np.inf):
        for t in (y, y > 0):
            model = LogisticRegression(C=C).fit(make(Z), t)
            without = LogisticRegression(C=C).fit(X[:, [0, 2]], t)
            assert model.result_.converged
            assert not np.any(model.coef_[:, 1])
            np.testing.assert_allclose(
                model.coef_[:, [0, 2]], without.coef_, rtol=1e-6, atol=1e-7
            )


@pytest.mark.parametrize("offset", [1e7, 1e9])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_sparse_columns_far_from_zero_are_fitted_as_dense_ones(offset, n_classes):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    y = np.argmax(X[:, :n_classes] + rng.gumbel(size=(400, n_classes)), axis=1)
    Z = X.copy()
    Z[:, 1] += offset
    reference = LogisticRegression(C=1.0).fit(Z - [0.0, offset, 0.0], y)
    model = LogisticRegression(C=1.0).fit(sp.csr_array(Z), y)
    assert model.result_.converged
    # Predictions are rounded to eps times the offset.
    assert abs(model.result_.value - reference.result_.value) < 4e-16 * offset
    single = LogisticRegression(C=1.0, solver="saga", max_iter=3, random_state=0)
    with pytest.warns(ConvergenceWarning):  # reads single rows, which stay sparse
        single.fit(sp.csr_array(Z), y)


# Least squares of a sigmoid.


def test_sigmoid_least_squares_reaches_scipys_minimum():
    X, y = make_classification(800, 5, flip_y=0.1, random_state=3)
    model = SigmoidLeastSquaresClassifier(alpha=1e-3).fit(X, y)
    assert model.result_.status.name == "CONVERGED"
    assert model.result_.certificate.ok

    def value(v):
        s = 1.0 / (1.0 + np.exp(-X @ v[:5] - v[5]))
        return np.mean((s - y) ** 2) + 0.5e-3 * v[:5] @ v[:5]

    best = scipy.optimize.minimize(value, np.zeros(6), options={"gtol": 1e-8})
    ours = value(np.append(model.coef_[0], model.intercept_[0]))
    assert abs(ours - best.fun) < 1e-10
    assert model.predict_proba(X).shape == (800, 2)


def test_more_starts_are_never_worse():
    X, y = make_classification(300, 4, flip_y=0.4, random_state=1)
    values = [
        SigmoidLeastSquaresClassifier(n_init=n, random_state=0).fit(X, y).result_.value
        for n in (1, 4)
    ]
    assert values[1] <= values[0]


def test_wrong_labels_bend_the_sigmoid_less_than_the_logistic_loss():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 2))
    y = (X[:, 0] > 0).astype(int)
    far = np.argsort(-np.abs(X[:, 0] + 3 * X[:, 1]))[:200]
    y[far] = 1 - y[far]
    truth = (X[:, 0] > 0).astype(int)
    logistic = LogisticRegression(C=10.0).fit(X, y)
    sigmoid = SigmoidLeastSquaresClassifier(C=10.0).fit(X, y)
    assert sigmoid.score(X, truth) > logistic.score(X, truth)


def test_sigmoid_least_squares_is_for_two_classes_and_names_separation():
    X, y, _ = four_classes(200)
    with pytest.raises(ValueError, match=r"Only binary classification .* multiclass"):
        SigmoidLeastSquaresClassifier().fit(X, y)
    with pytest.warns(ConvergenceWarning, match="SEPARABLE"):
        SigmoidLeastSquaresClassifier(C=np.inf).fit(*separable())


def test_warm_up_fits_every_kind_of_data(monkeypatch):
    fitted = []

    class Recorder:
        def fit(self, X, y):
            order = "csr" if sp.issparse(X) else "C" if X.flags.c_contiguous else "F"
            fitted.append((X.dtype.name, order))

    monkeypatch.setattr(_warmup, "LogisticRegression", Recorder)
    monkeypatch.setattr(_warmup, "Ridge", Recorder)
    _warmup.warmup()
    kinds = [(t, k) for t in ("float32", "float64") for k in ("C", "F", "csr")]
    assert sorted(fitted) == sorted(2 * kinds)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_predictions_of_the_rows_of_a_device_are_those_of_the_host(n_classes):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 2)), np.arange(30) % n_classes
    model = LogisticRegression().fit(X, y)
    expected = model.decision_function(X)
    z = model._predictor_on_device(X).reshape(expected.shape)
    np.testing.assert_allclose(z, expected, rtol=1e-12, atol=1e-14)


def test_default_solver_by_size(monkeypatch):
    def chosen(loss, n, l2=0.1):
        y = np.tile([1.0, 0.0 if loss is SIGMOID_SQUARED else -1.0], n // 2)
        return _base._choose(LinearModel(loss, np.ones((n, 1)), y, l2=l2))

    assert chosen(LOGISTIC, 50) == SubsampledNewton(1.0)
    assert chosen(SIGMOID_SQUARED, 1000) == TrustRegion(1.0)
    monkeypatch.setattr(_base, "SMALL", 10)
    assert chosen(LOGISTIC, 50) == MultilevelNewton()
    assert chosen(LOGISTIC, 40) == SubsampledNewton(1.0)
    sampled = SampledStart(TrustRegion(Growing(0.4, 1.5)))
    assert chosen(SIGMOID_SQUARED, 1000) == sampled
    assert chosen(SIGMOID_SQUARED, 700) == TrustRegion(1.0)
    monkeypatch.setattr(_base, "FORMED_MAX_PARAMS", 0)
    assert chosen(LOGISTIC, 50) == DualStartNewton()
    products = SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
    assert chosen(LOGISTIC, 50, l2=0.0) == products
