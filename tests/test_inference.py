"""Standard errors, tests of coefficients and the diagnosis of a fit."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from subsampled_newton import LinearRegression, LogisticRegression

i = np.arange(60)
X = np.column_stack([np.sin(1.3 * i), 100.0 + 10.0 * np.cos(0.7 * i)])
y = (np.sin(5.0 * i) + X[:, 0] > 0.2).astype(int)
t = 2.0 * X[:, 0] - 0.1 * X[:, 1] + np.sin(7.0 * i)
k = np.floor(1.5 + X[:, 0] + 0.99 * np.sin(11.0 * i)).clip(0, 2).astype(int)
s = 1 + i % 3
free = LogisticRegression(C=np.inf)

# Made with statsmodels 0.15.0, A = sm.add_constant(X)[:, [1, 2, 0]]:
#   sm.Logit(y, A).fit(method="newton", tol=1e-14), with cov_type="HC0" for the second,
#   sm.GLM(y, A, sm.families.Binomial(), freq_weights=s).fit(tol=1e-14),
#   sm.OLS(t, A).fit(), with cov_type="HC0" for the second,
#   sm.MNLogit(k, A).fit(method="newton", tol=1e-14), the same with cov_type="HC0":
# params, bse, pvalues. MNLogit gives differences to class 0.
LOGIT = (
    [0.6919348737475511, -0.016036196977291518, 0.6945582784263103],
    [0.4214407236659068, 0.04052757883526289, 4.046572515052608],
    [0.10062482165458375, 0.6923366589299492, 0.8637196703425613],
)
LOGIT_HC0 = (
    LOGIT[0],
    [0.3787193145172835, 0.037493984548725746, 3.7302357434990907],
    [0.0676939390753778, 0.6688691656420911, 0.8522903660945015],
)
LOGIT_WEIGHTED = (
    [0.5686529413181255, 0.008318678290604625, -1.7275141929889481],
    [0.29513614553295064, 0.028536996948454407, 2.860373493501121],
    [0.05401105830680307, 0.7706650937334609, 0.5458788324729211],
)
OLS = (
    [1.9731252201800216, -0.05317778671399571, -4.660831262224391],
    [0.11671158310084094, 0.011533394860610627, 1.1551477802630998],
    [7.135830554325346e-24, 2.3112067529234105e-05, 0.00016454847972084265],
)
OLS_HC0 = (
    OLS[0],
    [0.11327408166170659, 0.00853302937192748, 0.8569382820695732],
    [5.916635969033128e-68, 4.605355107901132e-10, 5.360012803716669e-08],
)
MNLOGIT = (
    [
        [2.2509345859958345, 0.004703145462850703, 0.43738844715394176],
        [4.557653963993503, -0.01413534670480086, 1.4203395526300646],
    ],
    [
        [0.7717793117651285, 0.05133855500079204, 5.168519613754238],
        [1.056073715024847, 0.06575219075060358, 6.587986772933585],
    ],
)
MNLOGIT_HC0 = (
    MNLOGIT[0],
    [
        [0.7061459824702094, 0.052256281970159274, 5.364125944394989],
        [0.9753794591107782, 0.06594786375413687, 6.65316497784887],
    ],
)


def agree(tests, figures, rtol=1e-6):
    estimate, error, p = map(np.asarray, figures)
    np.testing.assert_allclose(tests.estimate, estimate, rtol)
    np.testing.assert_allclose(tests.std_error, error, rtol)
    np.testing.assert_allclose(tests.statistic, estimate / error, rtol)
    np.testing.assert_allclose(tests.p_value, p, 1e3 * rtol)


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(
    ("model", "targets", "weights", "sandwich", "figures"),
    [
        (free, y, None, False, LOGIT),
        (free, y, None, True, LOGIT_HC0),
        (free, y, s, False, LOGIT_WEIGHTED),
        (LinearRegression(), t, None, False, OLS),
        (LinearRegression(), t, None, True, OLS_HC0),
    ],
    ids=["logit", "logit HC0", "logit weighted", "ols", "ols HC0"],
)
def test_figures_of_statsmodels(model, targets, weights, sandwich, figures, layout):
    data = layout(X)
    model = clone(model).fit(data, targets, weights)
    tests = model.wald_tests(data, targets, weights, sandwich=sandwich)
    agree(tests, figures)
    errors = model.std_errors(data, targets, weights, sandwich=sandwich)
    np.testing.assert_array_equal(errors, tests.std_error)
    cov = model.cov_params(data, targets, weights, sandwich=sandwich)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), errors, rtol=1e-12)


@pytest.mark.parametrize(
    ("sandwich", "figures"), [(False, MNLOGIT), (True, MNLOGIT_HC0)]
)
def test_several_classes_as_differences_to_the_first(sandwich, figures):
    model = clone(free).fit(X, k)
    cov = model.cov_params(X, k, sandwich=sandwich)
    assert cov.shape == (9, 9)
    assert model.std_errors(X, k).shape == (3, 3)
    W = np.column_stack([model.coef_, model.intercept_])
    difference = np.kron([[-1, 1, 0], [-1, 0, 1]], np.eye(3))
    errors = np.sqrt(np.diag(difference @ cov @ difference.T)).reshape(2, 3)
    np.testing.assert_allclose(W[1:] - W[0], figures[0], rtol=1e-6)
    np.testing.assert_allclose(errors, figures[1], rtol=1e-6)
    # Coefficients that sum to zero: no variance in their sum.
    common = np.kron(np.ones((1, 3)), np.eye(3))
    np.testing.assert_allclose(common @ cov @ common.T, 0.0, atol=1e-10)


def test_live_comparison():
    sm = pytest.importorskip("statsmodels.api")
    A = sm.add_constant(X)[:, [1, 2, 0]]
    theirs = sm.Logit(y, A).fit(disp=0, method="newton", tol=1e-14)
    model = clone(free).fit(X, y)
    agree(model.wald_tests(X, y), (theirs.params, theirs.bse, theirs.pvalues))


# The same by the formulas.


def by_formula(A, h, d1, weights):
    """Inverse information, and the sandwich around it."""
    inverse = np.linalg.inv(A.T @ ((weights * h)[:, None] * A))
    meat = A.T @ ((weights * d1 * d1)[:, None] * A)
    return inverse, inverse @ meat @ inverse


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_logistic_covariance_is_the_inverse_information(fit_intercept, dtype):
    rng = np.random.default_rng(1)
    Z = rng.standard_normal((300, 4)).astype(dtype)
    labels = np.where(Z[:, 0] + rng.logistic(size=300) > 0, "yes", "no")
    weights = rng.integers(0, 4, 300)
    model = clone(free).set_params(fit_intercept=fit_intercept)
    model.fit(Z, labels, weights)
    p = model.predict_proba(Z)[:, 1]
    A = np.column_stack([Z, np.ones(300)])[:, : 4 + fit_intercept].astype(float)
    d1 = p - (labels == "yes")
    plain, sandwich = by_formula(A, p * (1 - p), d1, weights)
    args = Z, labels, weights
    np.testing.assert_allclose(model.cov_params(*args), plain, rtol=1e-6, atol=1e-10)
    robust = model.cov_params(*args, sandwich=True)
    np.testing.assert_allclose(robust, sandwich, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_covariance_and_t_tests(fit_intercept):
    rng = np.random.default_rng(2)
    Z = rng.standard_normal((50, 3))
    target = Z @ [1.0, 0.0, -2.0] + 3.0 * rng.standard_normal(50) + fit_intercept
    weights = rng.integers(1, 4, 50)
    model = LinearRegression(fit_intercept=fit_intercept).fit(Z, target, weights)
    A = np.column_stack([Z, np.ones(50)])[:, : 3 + fit_intercept]
    r = model.predict(Z) - target
    freedom = weights.sum() - A.shape[1]
    plain, sandwich = by_formula(A, np.ones(50), r, weights)
    args = Z, target, weights
    variance = weights @ (r * r) / freedom
    np.testing.assert_allclose(model.cov_params(*args), variance * plain, 1e-8, 1e-12)
    robust = model.cov_params(*args, sandwich=True)
    np.testing.assert_allclose(robust, sandwich, rtol=1e-8, atol=1e-12)
    tests = model.wald_tests(*args)
    assert tests.freedom == freedom
    p = 2 * scipy.stats.t.sf(np.abs(tests.statistic), freedom)
    np.testing.assert_allclose(tests.p_value, p, rtol=1e-10)
    repeated = np.repeat(Z, weights, axis=0), np.repeat(target, weights)
    same = clone(model).fit(*repeated).std_errors(*repeated)
    np.testing.assert_allclose(same, tests.std_error, rtol=1e-8)


def test_units_and_offsets_of_columns_cost_no_digits():
    model = clone(free).fit(X, y)
    plain = model.std_errors(X, y)
    moved = 1e-6 * X + np.array([0.0, 1.0])
    other = clone(free).fit(moved, y).std_errors(moved, y)
    np.testing.assert_allclose(other[:2], 1e6 * plain[:2], rtol=1e-6)


def test_intervals_cover_the_truth_as_often_as_they_promise():
    rng = np.random.default_rng(3)
    truth, inside = np.array([1.0, -0.5]), 0
    for _ in range(200):
        Z = rng.standard_normal((400, 2))
        labels = rng.random(400) < 1 / (1 + np.exp(-(Z @ truth)))
        tests = clone(free).fit(Z, labels).wald_tests(Z, labels)
        error = np.abs(tests.estimate[:2] - truth) / tests.std_error[:2]
        inside += int(np.sum(error < 1.96))
    assert 0.92 * 400 < inside < 0.98 * 400


# Refusals.


def test_penalised_fits_have_no_standard_errors():
    with pytest.raises(ValueError, match=r"without a penalty.*C must be inf, got 1\.0"):
        LogisticRegression().fit(X, y).std_errors(X, y)
    with pytest.raises(ValueError, match=r"alpha must be 0, got 0\.1"):
        LogisticRegression(alpha=0.1).fit(X, y).wald_tests(X, y)
    same = LogisticRegression(alpha=0.0).fit(X, y).std_errors(X, y)
    np.testing.assert_allclose(same, LOGIT[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "targets"), [(free, y), (free, k), (LinearRegression(), t)]
)
def test_dependent_columns_have_no_standard_errors(model, targets):
    Z = np.column_stack([X, X.sum(axis=1)])
    model = clone(model).fit(Z, targets)
    with pytest.raises(ValueError, match="do not determine the coefficients"):
        model.cov_params(Z, targets)


def test_nearly_dependent_columns_have():
    rng = np.random.default_rng(0)
    Z = np.column_stack([X, X[:, 0] + 1e-6 * rng.standard_normal(60)])
    model = LinearRegression().fit(Z, t)
    A = np.column_stack([Z, np.ones(60)])
    _, R = np.linalg.qr(A)
    inverse = np.linalg.inv(R)
    variance = np.sum((model.predict(Z) - t) ** 2) / 56
    expected = np.sqrt(variance * np.sum(inverse * inverse, axis=1))
    np.testing.assert_allclose(model.std_errors(Z, t), expected, rtol=1e-5)


def test_separable_and_unfinished_fits_have_no_standard_errors():
    labels = (X[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        separated = clone(free).fit(X, labels)
        unfinished = clone(free).set_params(max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="SEPARABLE"):
        separated.std_errors(X, labels)
    with pytest.raises(ValueError, match="MAX_ITER"):
        unfinished.std_errors(X, y)
    with pytest.raises(NotFittedError):
        clone(free).std_errors(X, y)


def test_other_data_than_those_of_the_fit_are_refused():
    model = clone(free).fit(X, y)
    for wrong in (
        (X, 1 - y),
        (X[::2], y[::2]),
        (X + np.array([1.0, 0.0]), y),
        (X, y, s),
    ):
        with pytest.raises(ValueError, match="must be those of the fit"):
            model.std_errors(*wrong)
    with pytest.raises(ValueError, match="y must hold labels of the fit"):
        model.std_errors(X, k)
    with pytest.raises(ValueError, match="features"):
        model.std_errors(X[:, :1], y)
    least = LinearRegression().fit(X, t)
    with pytest.raises(ValueError, match="must be those of the fit"):
        least.std_errors(X, t + X[:, 0])


def test_too_few_rows_and_several_targets_are_refused():
    few = LinearRegression().fit(X[:3], t[:3])
    with pytest.raises(ValueError, match="more rows than coefficients"):
        few.std_errors(X[:3], t[:3])
    both = np.column_stack([t, t])
    with pytest.raises(ValueError, match="single target"):
        LinearRegression().fit(X, both).std_errors(X, both)


# The diagnosis.


@pytest.mark.parametrize("C", [1.0, np.inf])
@pytest.mark.parametrize("targets", [y, k])
@pytest.mark.parametrize("tol", [1e-3, 1e-5])
def test_bound_of_what_is_left_holds_and_is_tight(C, targets, tol):
    model = LogisticRegression(C=C, tol=tol, solver="lbfgs").fit(X, targets)
    exact = LogisticRegression(C=C).fit(X, targets)
    found = model.diagnose(X, targets)
    left = model.result_.value - exact.result_.value
    assert left <= found.suboptimality_bound * (1 + 1e-6) + 1e-15
    assert found.suboptimality_bound <= 1.5 * left + 1e-13
    assert (found.rank, found.n_params) == (3 * (targets.max()), 3 * targets.max())
    assert not found.separable
    assert found.message == model.result_.message
    assert found.gradient_norm == pytest.approx(model.result_.gradient_norm, rel=1e-3)


def test_bound_of_least_squares_is_exact():
    model = LinearRegression(solver="lbfgs", tol=1e-3).fit(X, t)
    best = np.mean((LinearRegression().fit(X, t).predict(X) - t) ** 2) / 2
    left = np.mean((model.predict(X) - t) ** 2) / 2 - best
    assert model.diagnose(X, t).suboptimality_bound == pytest.approx(left, rel=1e-6)


def test_rank_and_condition_are_those_of_the_columns():
    Z = np.column_stack([X, X[:, 0] + 1e-5 * np.cos(3.0 * i), X[:, 1]])
    model = LogisticRegression().fit(Z, y)
    found = model.diagnose(Z, y)
    assert (found.rank, found.n_params) == (4, 5)
    assert 1e4 < found.condition < 1e6
    assert LogisticRegression().fit(X, y).diagnose(X, y).condition < 3.0


def test_separation_is_part_of_the_diagnosis():
    labels = (X[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = clone(free).fit(X, labels)
    found = model.diagnose(X, labels)
    assert found.separable
    assert "Add a penalty" in found.message


def test_inverse_variances_are_weights_of_mean_one():
    """The standard errors of weighted least squares, whose scale does not matter."""
    rng = np.random.default_rng(3)
    A = rng.standard_normal((60, 2))
    variances = rng.uniform(0.1, 4.0, 60)
    target = A @ [1.0, -2.0] + np.sqrt(variances) * rng.standard_normal(60)
    weights = 1.0 / variances
    weights /= weights.mean()
    model = LinearRegression().fit(A, target, sample_weight=weights)
    D = np.column_stack([A, np.ones(60)])
    cov = np.linalg.inv(D.T @ (weights[:, None] * D))
    residual = target - D @ (cov @ (D.T @ (weights * target)))
    variance = weights @ residual**2 / (60 - 3)
    np.testing.assert_allclose(
        model.std_errors(A, target, weights), np.sqrt(variance * np.diag(cov))
    )
