"""What a run ends as: converged where little is left to gain, and only there."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import statuses
from problems import labels
from sklearn.exceptions import ConvergenceWarning

from subsampled_newton import (
    LBFGS,
    LOGISTIC,
    SAG,
    SAGA,
    SIGMOID_SQUARED,
    SQUARED,
    SVRG,
    CubicRegularization,
    FiniteSum,
    GradientDescent,
    LevenbergMarquardt,
    LinearModel,
    MultilevelNewton,
    Nesterov,
    NonlinearLeastSquares,
    NonlinearModel,
    SigmoidLeastSquaresClassifier,
    SoftmaxModel,
    Status,
    SubsampledNewton,
    TrustRegion,
    load,
    minimize,
    multistart,
)
from subsampled_newton.solvers import _driver


def test_no_random_run_is_called_converged_with_much_left_to_gain():
    counts = statuses.run(4 * len(statuses.NAMES), seed=1)
    assert counts["CONVERGED"] > 40
    assert counts["PRECISION"] > 5
    assert counts["STALLED"] > 2


def test_the_comparison_finds_a_wrong_verdict(monkeypatch):
    def nothing_moved(problem, point, status, **rest):
        return Status.PRECISION if status is Status.STALLED else status

    monkeypatch.setattr(_driver, "verdict", nothing_moved)
    with pytest.raises(AssertionError, match="of what may be left"):
        statuses.run(4 * len(statuses.NAMES), seed=1)


def badly_scaled():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2))
    y = np.where(X[:, 0] + rng.standard_normal(300) > 0.0, 1.0, -1.0)
    X[:, 1] *= 1e9
    return LinearModel(LOGISTIC, X, y, l2=1e-3)


STEPS = [
    GradientDescent(),
    GradientDescent(1e-40),
    Nesterov(),
    SAG(),
    SVRG(),
    SAGA(),
    SAG(step_size=1e-40),
]


@pytest.mark.parametrize("solver", STEPS, ids=repr)
def test_steps_that_change_nothing_are_no_convergence(solver):
    result = minimize(badly_scaled(), solver, (3.0, 1e-9), seed=0, max_iter=500)
    assert result.value > 0.48  # the least value is 0.45997
    assert result.status is Status.STALLED
    assert not result.converged
    assert "step" in result.message


@pytest.mark.parametrize("solver", [SubsampledNewton(1.0), LBFGS(), TrustRegion(1.0)])
def test_second_order_methods_solve_what_first_order_methods_leave(solver):
    result = minimize(badly_scaled(), solver, (3.0, 1e-9), max_iter=500)
    assert result.converged
    assert result.value == pytest.approx(0.459966006174914, rel=1e-12)


@pytest.mark.parametrize("solver", [SubsampledNewton(1.0), GradientDescent(), LBFGS()])
def test_small_gradient_on_tiny_columns_is_flat(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 4))
    whole = LinearModel(LOGISTIC, X, labels(X, rng))
    tiny = LinearModel(LOGISTIC, 1e-9 * X, whole.y)
    result = minimize(tiny, solver)
    assert result.gradient_norm <= 1e-8
    assert result.status is Status.FLAT
    assert not result.converged
    assert "scale the columns" in result.message
    lower = minimize(tiny, solver, tol=1e-15, max_iter=500)
    assert lower.converged
    assert lower.value == pytest.approx(minimize(whole, solver).value, rel=1e-9)
    # A tolerance that asks for no more than a small gradient.
    assert minimize(whole, solver, tol=1e-2).status is Status.CONVERGED


def test_small_gradient_where_most_rows_are_saturated_is_flat():
    case = statuses.random_case(68, 9)
    problem = statuses.build(case.kind, case.X * case.sizes, case.y, l2=case.l2)
    result = minimize(problem, case.solver, case.w0)
    assert result.gradient_norm <= case.tol
    assert result.value > 1.0 > problem.value_at_zero()
    assert result.status is Status.FLAT


def separable_problems():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    score = X[:, 0] + 0.5 * X[:, 1]
    classes = np.digitize(score, [-0.5, 0.5])
    return {
        "logistic": LinearModel(LOGISTIC, X, np.sign(score)),
        "softmax": SoftmaxModel(np.column_stack([X, np.ones(400)]), classes),
    }


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
@pytest.mark.parametrize(
    "solver",
    [
        SubsampledNewton(1.0),
        SubsampledNewton(),
        MultilevelNewton(),
        TrustRegion(1.0),
        LBFGS(),
        GradientDescent(),
        SAGA(),
    ],
    ids=lambda s: type(s).__name__,
)
def test_separable_classes_are_named_whatever_the_solver(solver, kind):
    problem = separable_problems()[kind]
    result = minimize(problem, solver, seed=0, max_iter=300)
    assert result.status is Status.SEPARABLE
    assert "Add a penalty" in result.message
    assert result.advice == ""


def test_classes_that_overlap_or_are_penalised_are_not_separable():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    overlap = minimize(LinearModel(LOGISTIC, X, labels(X, rng)), LBFGS())
    assert overlap.status is Status.CONVERGED
    ridge = LinearModel(LOGISTIC, X, np.sign(X[:, 0]), l2=1e-4)
    assert minimize(ridge, SubsampledNewton(1.0)).status is Status.CONVERGED
    # A run that was asked to stop says so.
    problem = LinearModel(LOGISTIC, X, np.sign(X[:, 0]))
    stopped = minimize(problem, LBFGS(), callback=lambda state: state.iteration == 5)
    assert stopped.status is Status.CALLBACK_STOP


@pytest.mark.parametrize(
    "solver",
    [TrustRegion(1.0, radius=1e-25), CubicRegularization(1.0, sigma=1e60)],
    ids=["radius", "sigma"],
)
def test_limit_that_no_step_is_seen_with_is_left(solver):
    result = minimize(badly_scaled(), solver, (3.0, 1e-9), max_iter=500)
    assert result.converged
    assert result.value == pytest.approx(0.459966006174914, rel=1e-12)


class Quadratic(FiniteSum):
    """``w'Aw / 2 - b'w`` with products by another matrix."""

    def __init__(self, A, b, product=None, convex=False):
        super().__init__(10, len(b))
        self.A, self.b, self.convex = A, b, convex
        self.by = A if product is None else product

    def value(self, w, rows=None):
        return float(0.5 * w @ self.A @ w - self.b @ w)

    def gradient(self, w, rows=None):
        return self.A @ w - self.b

    def hess_vec(self, w, rows, v):
        return self.by @ v


def positive_definite(rng, d=10):
    M = rng.standard_normal((d, d))
    return M @ M.T + np.eye(d)


def test_products_that_are_not_symmetric_are_refused():
    refused = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        A, K = positive_definite(rng), rng.standard_normal((10, 10))
        wrong = Quadratic(A, rng.standard_normal(10), A + 3.0 * (K - K.T))
        solver = SubsampledNewton(1.0, linear_solver="cg", theta1=1e-6)
        status = minimize(wrong, solver, max_iter=1).status
        refused += status is Status.NOT_DESCENT
    assert refused >= 97


@pytest.mark.parametrize("linear_solver", ["cholesky", "cg"])
def test_condition_on_the_direction_allows_for_rounding(linear_solver):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        U = np.linalg.qr(rng.standard_normal((20, 20)))[0]
        A = (U * np.logspace(0, -14, 20)) @ U.T
        problem = Quadratic(0.5 * (A + A.T), A @ rng.standard_normal(20), convex=True)
        solver = SubsampledNewton(1.0, linear_solver=linear_solver)
        result = minimize(problem, solver, tol=1e-13, max_iter=50)
        assert result.status is not Status.NOT_DESCENT


def test_step_that_ends_before_theta1_is_noted():
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    A = (U * np.logspace(0, -8, 60)) @ U.T
    problem = Quadratic(A, A @ rng.standard_normal(60), convex=True)
    few = SubsampledNewton(1.0, linear_solver="cg", theta1=1e-6, max_inner=5)
    result = minimize(problem, few, max_iter=3)
    assert "did not hold in 3 steps" in result.note
    assert "raise max_inner=5" in result.message
    easy = Quadratic(np.diag([1.0, 2.0]), np.ones(2), convex=True)
    assert minimize(easy, few).note == ""


@pytest.mark.parametrize("linear_solver", ["cholesky", "cg"])
def test_negative_curvature_that_newton_leaves_out_is_noted(linear_solver):
    problem = Quadratic(np.diag([1.0, -1.0, 2.0]), np.array([1.0, 1e-3, 1.0]))
    solver = SubsampledNewton(1.0, linear_solver=linear_solver)
    result = minimize(problem, solver, max_iter=3)
    assert "negative curvature" in result.note
    assert "TrustRegion" in result.message


def sigmoid(l2=1e-3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 4))
    y = (X[:, 0] + rng.standard_normal(500) > 0.0).astype(float)
    return LinearModel(SIGMOID_SQUARED, X, y, l2=l2)


@pytest.mark.parametrize("solver", [TrustRegion(1.0), CubicRegularization(1.0)])
@pytest.mark.parametrize("tol", [1e-8, 0.0])
def test_converged_runs_on_non_convex_objectives_are_certified(solver, tol):
    result = minimize(sigmoid(), solver, tol=tol, max_iter=500)
    assert result.converged
    assert result.status is (Status.CONVERGED if tol else Status.PRECISION)
    assert result.certificate.ok
    assert "local minimum, others may be lower" in result.note


@pytest.mark.parametrize(
    ("solver", "why"),
    [(LBFGS(), "it gives no certificate"), (TrustRegion(eps_h=None), "eps_h=None")],
    ids=["lbfgs", "eps_h"],
)
def test_runs_without_a_certificate_say_why(solver, why):
    result = minimize(sigmoid(), solver, seed=0)
    assert result.converged
    assert result.certificate is None
    assert "at best" in result.note
    assert why in result.note


@pytest.mark.parametrize(
    ("solver", "rows", "why"),
    [
        (LevenbergMarquardt(), 10, "more than two million rows"),
        (LevenbergMarquardt(0.5), 1 << 21, "on samples it gives no certificate"),
    ],
    ids=["large", "samples"],
)
def test_curve_fits_without_a_certificate_say_why(monkeypatch, solver, rows, why):
    monkeypatch.setattr("subsampled_newton.solvers.levenberg_marquardt.CHECKED", rows)
    x = np.linspace(0.0, 3.0, 30)[:, None]
    curve = NonlinearLeastSquares(growth, start=[1.0, 0.5], solver=solver)
    curve.fit(x, 2.0 * np.exp(-x[:, 0]))
    result = curve.result_
    assert result.converged
    assert result.certificate is None
    assert why in result.note


def test_linear_models_have_no_certificate_of_levenberg_and_marquardt():
    result = minimize(sigmoid(), LevenbergMarquardt(), seed=0)
    assert result.converged
    assert "those of a NonlinearModel" in result.note


class TwoWells(FiniteSum):
    """``(w**2 - 1)**2 / 4 + w / 10``: minima near 1 and, lower, near -1."""

    def __init__(self):
        super().__init__(30, 1)

    def value(self, w, rows=None):
        return float((w[0] ** 2 - 1.0) ** 2 / 4.0 + 0.1 * w[0])

    def gradient(self, w, rows=None):
        return w**3 - w + 0.1

    def hess_vec(self, w, rows, v):
        return (3.0 * w**2 - 1.0) * v


def test_several_starts_find_the_lower_minimum_and_report_the_worse_ones():
    problem, solver = TwoWells(), TrustRegion(1.0, radius=0.1)
    single = minimize(problem, solver, [1.0])
    assert single.converged
    assert single.value > 0.09
    best = multistart(problem, solver, 6, w0=[1.0], scale=1.5, seed=0)
    assert best.converged
    assert best.value < -0.09
    assert len(best.starts) == 6
    assert best.starts[0].value == single.value
    assert best.starts[0].status is Status.CONVERGED
    worse = sum(start.value > 0.0 for start in best.starts)
    assert worse >= 2
    assert f"{worse} ended higher, up to 0.0" in best.message
    assert best.passes > single.passes
    assert multistart(problem, solver, 6, w0=[1.0], scale=1.5, seed=0).w == best.w
    alone = multistart(problem, solver, 1, w0=[1.0])
    assert alone.starts == ()
    assert alone.value == single.value


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_starts": 0}, ValueError, "n_starts must be an integer >= 1, got 0"),
        ({"n_starts": 2.5}, ValueError, "n_starts must be an integer >= 1, got 2.5"),
        ({"scale": 0.0}, ValueError, "scale must be a finite number > 0, got 0.0"),
        ({"resume": None}, TypeError, "multistart takes none"),
    ],
)
def test_bad_arguments_of_multistart_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        multistart(TwoWells(), TrustRegion(1.0), **arguments)


def test_several_starts_of_the_classifier_are_reported(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 2))
    y = X[:, 0] + rng.standard_normal(100) > 0.0
    model = SigmoidLeastSquaresClassifier(n_init=3, random_state=0).fit(X, y)
    assert len(model.result_.starts) == 3
    assert model.result_.value == min(s.value for s in model.result_.starts)
    model.save(tmp_path / "m")
    assert load(tmp_path / "m").result_.starts == model.result_.starts


class Wrong(Quadratic):
    """The gradient points the wrong way."""

    def gradient(self, w, rows=None):
        return 1.0 - self.A @ w


@pytest.mark.parametrize(
    ("solver", "words", "other"),
    [
        (SubsampledNewton(1.0), "use TrustRegion or LBFGS", "larger Hessian sample"),
        (SubsampledNewton(0.5), "larger Hessian sample", "scale the columns"),
        (TrustRegion(1.0), "check_derivatives", "larger Hessian sample"),
        (LBFGS(), "check_derivatives", "larger Hessian sample"),
    ],
    ids=["newton", "sampled newton", "trust region", "lbfgs"],
)
def test_advice_fits_the_solver(solver, words, other):
    problem = Wrong(np.eye(2), np.zeros(2), convex=True)
    result = minimize(problem, solver, [3.0, 4.0], seed=0, max_iter=500)
    assert result.status in (Status.LINE_SEARCH_FAILED, Status.SMALL_STEP)
    assert words in result.message
    assert other not in result.message


def test_advice_on_limits_and_on_steps_of_ones_own():
    problem = badly_scaled()
    few = minimize(problem, LBFGS(), max_iter=2)
    assert "Raise max_iter: 2 iterations are few." in few.message
    assert "tol" not in few.message
    many = minimize(problem, GradientDescent(), max_iter=50)
    assert "Raise max_iter, or tol" in many.message
    far = minimize(problem, GradientDescent(1e10), max_iter=500)
    assert far.status is Status.NON_FINITE
    assert "smaller step_size than 1e+10" in far.message
    short = minimize(problem, GradientDescent(1e-40), [1.0, 1e-9])
    assert "larger step_size than 1e-40" in short.message
    own = minimize(problem, GradientDescent(1e-20), max_iter=50)
    assert own.status is Status.MAX_ITER
    assert "another step_size than 1e-20" in own.message


def test_advice_on_curves_is_not_that_of_linear_models():
    x = np.linspace(0.0, 3.0, 30)[:, None]
    curve = NonlinearModel(growth, x, 2.0 * np.exp(-x[:, 0]), 2)
    result = minimize(curve, GradientDescent(1e-300), [1.0, 1.0])
    assert not result.converged
    for solver, w0 in ((LBFGS(), [1.0, 1e4]), (TrustRegion(1.0), [1e200, -1e3])):
        result = minimize(curve, solver, w0)
        for words in ("columns", "Hessian sample", "l2"):
            assert words not in result.message


def test_warning_and_message_of_a_curve_fit_are_the_same():
    x = np.linspace(-2.0, 3.0, 30)[:, None]
    curve = NonlinearLeastSquares(logarithm, start=[1.0, 1.0])
    with pytest.warns(ConvergenceWarning) as caught:
        curve.fit(x, np.ones(30))
    assert curve.result_.status is Status.NON_FINITE
    assert "Start where the function" in curve.result_.message
    assert curve.result_.message in str(caught[0].message)


def logarithm(p, x):
    return p[0] * math.log(p[1] + x[0])


def growth(p, x):
    return p[0] * math.exp(-p[1] * x[0])


@pytest.mark.parametrize("make", [TrustRegion, CubicRegularization])
def test_perturbed_start_finds_curvature_orthogonal_to_the_gradient(make):
    lost = {0.0: 0, 0.01: 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = np.sort(rng.standard_normal(30))
        values[0] = -abs(values[0]) - rng.random()
        U = np.linalg.qr(rng.standard_normal((30, 30)))[0]
        b = rng.standard_normal(30)
        b -= U[:, 0] * (U[:, 0] @ b)
        problem = Quadratic((U * values) @ U.T, b)
        size = {"radius": 30.0} if make is TrustRegion else {"sigma": 0.01}
        exact = minimize(problem, make(1.0, **size), max_iter=1)
        for noise in lost:
            solver = make(1.0, subproblem="lanczos", perturbation=noise, **size)
            result = minimize(problem, solver, max_iter=1, seed=seed)
            lost[noise] += result.value > 0.95 * exact.value  # both below 0
    assert lost[0.0] > 30
    assert lost[0.01] <= 4


def test_bad_perturbations_are_named():
    with pytest.raises(
        ValueError, match="perturbation must be a finite number >= 0, got -1"
    ):
        TrustRegion(perturbation=-1)


@pytest.mark.parametrize("directions", [1, 100])
def test_a_small_gradient_that_hides_an_error_is_flat_for_many_columns(directions):
    d = 520
    differences = sp.eye_array(d) - sp.eye_array(d, k=-1)
    X = sp.csr_array(differences @ differences)
    y = X @ np.ones(d)
    problem = LinearModel(SQUARED, X, y)
    curvature, vectors = np.linalg.eigh((X.T @ X).toarray() / d)
    gradient = np.full(directions, 1e-9 / math.sqrt(directions))
    far = 1.0 + vectors[:, :directions] @ (gradient / curvature[:directions])
    assert problem.value(far) > 1e-6 * problem.value_at_zero()
    result = minimize(problem, LBFGS(), far)
    assert result.status is Status.FLAT
    assert not result.converged
    # Products of the check are counted.
    assert result.passes > result.trace.passes[-1]
    near = minimize(problem, LBFGS(), np.ones(d))
    assert near.status is Status.CONVERGED


@pytest.mark.parametrize("rows", [300, 4000])
def test_well_solved_problems_of_many_columns_are_not_flat(rows):
    rng = np.random.default_rng(0)
    X = sp.random(rows, 800, 0.05, format="csr", random_state=0)
    y = rng.standard_normal(rows)
    result = minimize(LinearModel(SQUARED, X, y), LBFGS(), max_iter=2000)
    assert result.status is Status.CONVERGED
