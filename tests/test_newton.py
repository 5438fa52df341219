"""Sub-sampled Newton, the loop and its statuses; the contract is in test_solvers."""

import math
from functools import partial

import numpy as np
import pytest
from problems import labels, logistic, minimizer, one_hot

from subsampled_newton import (
    LOGISTIC,
    CubicRegularization,
    FiniteSum,
    Growing,
    InverseStep,
    Lemma,
    LinearModel,
    PointwiseLoss,
    Spectral,
    Status,
    SubsampledNewton,
    TrustRegion,
    minimize,
)
from subsampled_newton.linear_model import LinearLine
from subsampled_newton.sampling import chernoff_sample_size, uniform_sample_size
from subsampled_newton.solvers._descent import descend
from subsampled_newton.solvers._sizes import Evidence, Fixed
from subsampled_newton.subproblems._step import Step


def test_full_sample_takes_the_steps_of_newtons_method():
    problem = logistic(n=300, d=4)
    steps = []
    minimize(problem, SubsampledNewton(1.0), callback=lambda s: steps.append(s.point.w))
    X = np.column_stack([problem.rows.matvec(e) for e in np.eye(4)])
    w = np.zeros(4)
    for computed in steps:
        np.testing.assert_allclose(computed, w, rtol=1e-10, atol=1e-12)
        p = 1 / (1 + np.exp(-X @ w))
        g = X.T @ (p - (problem.y > 0)) / 300 + problem.l2 * w
        H = (X.T * (p * (1 - p))) @ X / 300 + np.diag(problem.l2)
        w = w - np.linalg.solve(H, g)


def test_fraction_one_and_all_rows_are_the_same_method_bit_for_bit():
    problem = logistic()
    by_fraction = minimize(problem, SubsampledNewton(1.0), seed=0)
    by_count = minimize(problem, SubsampledNewton(10**9), seed=1)
    assert np.array_equal(by_fraction.w, by_count.w)


def test_speculative_trial_makes_an_iteration_cost_one_pass_and_the_sample():
    result = minimize(logistic(n=4000), SubsampledNewton(0.1), seed=0)
    assert np.all(result.trace.step_size[1:] == 1.0)
    # One pass, 10 % of the rows gathered and read once more for the Hessian.
    np.testing.assert_allclose(np.diff(result.trace.passes), 1.2, rtol=1e-12)


def test_props_are_counted_as_in_the_papers():
    problem = logistic(n=1000, d=3)
    solver = SubsampledNewton(0.1, linear_solver="cg", theta1=0.5)
    trace = minimize(problem, solver, seed=0).trace
    assert np.all(trace.step_size[1:] == 1.0)
    products = trace.inner_iterations[1:] + 1  # one checks the direction
    per_step = 2 * 100 * products + 1000 + 2 * 1000
    np.testing.assert_array_equal(trace.props, 1 + 2000 + np.cumsum([0, *per_step]))


def test_suboptimality_bound_holds():
    problem = logistic()
    best = problem.at(minimizer(problem)).value
    for max_iter in range(5):
        result = minimize(problem, SubsampledNewton(1.0), max_iter=max_iter)
        assert 0.0 <= result.value - best + 1e-15 <= result.suboptimality_bound + 1e-15


def test_suboptimality_is_unknown_without_strong_convexity():
    assert math.isinf(
        minimize(logistic(l2=0.0), SubsampledNewton(1.0)).suboptimality_bound
    )


def test_spectral_rule_grows_a_hopeless_sample():
    result = minimize(logistic(), SubsampledNewton(Spectral(2)), seed=0)
    assert result.converged
    assert result.trace.hessian_rows[1] == 2
    assert result.trace.hessian_rows[-1] > 50


def test_growing_rule_grows_to_all_rows():
    sizes = minimize(logistic(), SubsampledNewton(Growing(100, 2.0)), seed=0).trace
    assert list(sizes.hessian_rows[1:5]) == [100, 200, 400, 800]


def test_lemma_warns_when_it_asks_for_more_rows_than_there_are():
    with pytest.warns(RuntimeWarning, match="more than the 2000 rows"):
        result = minimize(logistic(), SubsampledNewton(Lemma()))
    assert result.trace.hessian_rows[-1] == 2000


@pytest.mark.parametrize(
    ("bound", "rule"),
    [("published", uniform_sample_size), ("chernoff", chernoff_sample_size)],
)
def test_lemma_takes_the_rows_of_its_bound(bound, rule):
    problem = LinearModel(LOGISTIC, np.ones((500, 1)), np.ones(500), l2=1.0)
    size = Lemma(eps=0.9, delta=0.5, bound=bound).first(problem)
    condition = problem.sample_condition()
    assert size == rule(condition, 1, eps=0.9, delta=0.5, n=500)
    assert 1 < size < 500


def test_sampled_gradient_is_confirmed_by_a_full_one():
    # All rows equal: the sampled gradient is exact, long before it is full.
    X = np.tile([[1.0, 2.0]], (1000, 1))
    problem = LinearModel(LOGISTIC, X, np.ones(1000), l2=1e-2)
    solver = SubsampledNewton(1.0, gradient_sample=0.1, gradient_rate=0.99)
    result = minimize(problem, solver, tol=1e-6, seed=0)
    assert result.status is Status.CONVERGED
    assert result.n_iter < 20  # far from all rows, at 2 % more a step
    assert np.linalg.norm(problem.at(result.w).gradient) <= 1e-6


@pytest.mark.parametrize(
    ("sampling", "expected"), [("row-norms", [0, 1, 2, 3, 4]), ("leverage", [0, 3])]
)
def test_scores_are_refreshed_when_they_are_due(monkeypatch, sampling, expected):
    drawn = []
    problem = logistic(n=4000)
    scores = problem.row_scores

    def counted(kind, point, rng):
        drawn.append(len(steps) - 1)
        return scores(kind, point, rng)

    steps = []
    monkeypatch.setattr(problem, "row_scores", counted)
    solver = SubsampledNewton(0.05, sampling=sampling, score_refresh=3)
    minimize(problem, solver, tol=0.0, max_iter=5, seed=0, callback=steps.append)
    assert drawn == expected


@pytest.mark.parametrize(
    ("ratio", "step_size", "decrement", "grows"),
    [
        (1.0, 1.0, 0.1, False),
        (1.4, 1.0, 0.1, False),
        (1.6, 1.0, 0.1, True),  # the sample overrates the curvature
        (0.4, 1.0, 0.1, True),  # or underrates it
        (1.0, 0.5, 0.1, True),  # a shortened step
        (1.0, 1.0, 0.3, True),  # a decrease that hardly fell
    ],
)
def test_spectral_rule_grows_for_a_reason(ratio, step_size, decrement, grows):
    size = Spectral().next(100, Evidence(2000, ratio, step_size, decrement, 1.0))
    assert size == (200 if grows else 100)


def test_spectral_rule_without_evidence():
    """A step that a limit has shortened says nothing about the rate."""
    limited = Evidence(2000, 1.0, None, 0.9, 1.0)
    assert Spectral().next(100, limited) == 100
    assert Spectral().next(100, limited._replace(ratio=1.6)) == 200
    first = Evidence(2000, 1.0, 1.0, 0.9, None)
    assert Spectral().next(100, first) == 100
    with pytest.raises(TypeError, match="Spectral needs a method that knows"):
        Spectral().next(100, Evidence(2000))


def steps_by_two(rng, n):
    """Rows alike: a sample of any size knows the curvature."""
    X = rng.choice([-1.0, 1.0], (n, 5))
    return LinearModel(LOGISTIC, X, labels(X, rng), l2=1e-3)


RULES = {
    "fixed": Fixed(2000),
    "lemma": Lemma(eps=0.9),
    "growing": Growing(2000, 1.5),
    "spectral": Spectral(2000),
    "inverse step": InverseStep(2000),
}
RULED = {
    "newton": SubsampledNewton,
    "newton-cg": partial(SubsampledNewton, linear_solver="cg"),
    "trust-region": TrustRegion,
    "trust-region lanczos": partial(TrustRegion, subproblem="lanczos"),
    "trust-region steihaug": partial(TrustRegion, subproblem="steihaug"),
    "trust-region more-sorensen": partial(TrustRegion, subproblem="more-sorensen"),
    "cubic": CubicRegularization,
    "cubic lanczos": partial(CubicRegularization, subproblem="lanczos"),
    "inexact trust-region": partial(TrustRegion, gradient_sample=0.5),
}


@pytest.mark.filterwarnings("ignore:the published bound asks for more")
@pytest.mark.parametrize("solver", RULED.values(), ids=RULED)
@pytest.mark.parametrize("rule", RULES)
def test_every_size_rule_in_every_solver_that_takes_one(rng, rule, solver):
    problem = steps_by_two(rng, 20_000)
    if rule == "inverse step" and not hasattr(solver(), "subproblem"):
        with pytest.raises(TypeError, match="InverseStep needs a trust-region"):
            minimize(problem, solver(RULES[rule]), seed=0)
        return
    result = minimize(problem, solver(RULES[rule]), seed=0, max_iter=60)
    assert result.status is Status.CONVERGED
    sizes = result.trace.hessian_rows[1:]
    if rule in ("fixed", "spectral"):
        assert np.all(sizes == 2000)
    if rule == "lemma":
        assert np.all(sizes == 20_000)
    if rule == "growing":
        expected = [2000, 3000, 4500, 6750, 20_000]
        assert list(dict.fromkeys(sizes)) == expected[: len(set(sizes))]
        assert len(set(sizes)) > 2
    if rule == "inverse step":
        assert sizes[0] == 2000
        assert sizes.max() == 20_000


@pytest.mark.parametrize("solver", RULED.values(), ids=RULED)
def test_spectral_rule_grows_in_every_solver_where_rows_are_unlike(rng, solver):
    problem = logistic(one_hot, n=20_000, d=40, l2=1e-5)
    result = minimize(problem, solver(Spectral(50)), seed=0, max_iter=100)
    assert result.status is Status.CONVERGED
    assert result.trace.hessian_rows.max() >= 400


@pytest.mark.parametrize("solver", [SubsampledNewton, TrustRegion, CubicRegularization])
def test_spectral_rule_survives_a_line_without_curvature(solver, monkeypatch):
    """As the squared hinge has where all margins are large."""
    monkeypatch.setattr(LinearLine, "curvature", lambda self: 0.0)
    result = minimize(logistic(), solver(Spectral(0.1)), seed=0)
    assert result.status is Status.CONVERGED
    assert result.trace.hessian_rows.max() == 2000


def test_direction_that_does_not_fit_its_model_is_refused():
    problem = logistic()
    point = problem.at(np.ones(8))
    steepest = Step(
        -point.gradient, 0.5 * point.gradient @ point.gradient, 1, "converged"
    )
    assert descend(point, steepest).outcome is None
    wrong = steepest._replace(model_decrease=0.01 * steepest.model_decrease)
    assert descend(point, wrong).outcome is Status.NOT_DESCENT


# Statuses: each is made to happen.


def test_status_max_iter():
    result = minimize(logistic(), SubsampledNewton(0.2), max_iter=2, seed=0)
    assert (result.status, result.n_iter) == (Status.MAX_ITER, 2)


def test_status_max_passes():
    result = minimize(logistic(), SubsampledNewton(0.2), max_passes=2.0, seed=0)
    assert result.status is Status.MAX_PASSES
    assert 2.0 <= result.passes < 3.5


def test_status_max_time():
    result = minimize(logistic(), SubsampledNewton(0.2), max_time=0.0)
    assert (result.status, result.n_iter) == (Status.MAX_TIME, 0)


def test_status_precision_when_the_tolerance_is_below_rounding():
    problem = logistic()
    result = minimize(problem, SubsampledNewton(1.0), tol=0.0)
    assert result.status is Status.PRECISION
    assert result.converged
    assert result.gradient_norm < 1e-14


def test_precision_is_not_claimed_where_the_sample_has_no_curvature():
    """The column that samples miss holds a gradient of 4e-4: that is not converged."""
    rng = np.random.default_rng(0)
    X = np.zeros((2000, 2))
    X[:, 0] = rng.standard_normal(2000)
    X[:4, 1] = 1.0
    y = np.where(X[:, 0] + rng.logistic(size=2000) > 0, 1.0, -1.0)
    y[:4] = [1.0, 1.0, 1.0, -1.0]
    first = minimizer(LinearModel(LOGISTIC, X[:, :1], y))[0]
    problem = LinearModel(LOGISTIC, X, y)
    result = minimize(problem, SubsampledNewton(20), [first, 0.0], max_iter=30, seed=0)
    assert result.gradient_norm > 1e-4
    assert result.status is Status.LINE_SEARCH_FAILED


def test_status_not_descent_on_a_concave_loss():
    loss = PointwiseLoss("concave", *CONCAVE, d2_range=(-2.0, -2.0))
    problem = LinearModel(loss, np.eye(3), np.ones(3))
    assert minimize(problem, SubsampledNewton(1.0)).status is Status.NOT_DESCENT


def _minus_square(z, y):
    return -((z - y) ** 2)


def _minus_square_1(z, y):
    return -2.0 * (z - y)


def _minus_square_2(z, y):
    return -2.0


CONCAVE = (_minus_square, _minus_square_1, _minus_square_2)


def test_status_line_search_failed_on_a_wrong_gradient():
    class Wrong(FiniteSum):
        def value(self, w, rows=None):
            return float(w @ w)

        def gradient(self, w, rows=None):
            return -2.0 * w + 1.0

        def hess_vec(self, w, rows, v):
            return 2.0 * v

    result = minimize(Wrong(5, 2), SubsampledNewton(1.0), [1.0, 1.0])
    assert result.status is Status.LINE_SEARCH_FAILED


def test_status_non_finite():
    problem = LinearModel(LOGISTIC, np.full((3, 1), 1e300), [1.0, -1.0, 1.0], l2=1.0)
    result = minimize(problem, SubsampledNewton(1.0), [1e300])
    assert result.status is Status.NON_FINITE


def test_every_status_has_a_sentence_with_advice():
    for status in Status:
        assert status.value.endswith(".")
        assert len(status.value) > 20


def test_result_has_the_gradient():
    problem = logistic()
    result = minimize(problem, SubsampledNewton(1.0), max_iter=2)
    gradient = problem.at(result.w).gradient
    np.testing.assert_allclose(result.gradient, gradient, rtol=1e-12, atol=1e-16)
    assert result.gradient_norm == np.linalg.norm(result.gradient)


def test_result_is_shown_in_a_few_lines():
    result = minimize(logistic(), SubsampledNewton(1.0))
    shown = repr(result)
    assert shown.startswith("Result(CONVERGED: The norm of the full gradient")
    assert f"solver=SubsampledNewton, value={result.value:.10g}, " in shown
    assert result.solver == SubsampledNewton(1.0)
    assert f"w of shape {result.w.shape}" in shown
    assert len(shown) < 350
    assert "array" not in shown


# The loop.


def test_callback_sees_every_iteration_and_cannot_change_the_state():
    seen = []

    def callback(state):
        seen.append(state.iteration)
        with pytest.raises(AttributeError):
            state.iteration = 0

    result = minimize(logistic(), SubsampledNewton(0.2), callback=callback, seed=0)
    assert seen == list(range(result.n_iter + 1))


def test_full_trace_is_neither_counted_nor_changes_the_run():
    solver = SubsampledNewton(0.2, gradient_sample=0.1)
    plain = minimize(logistic(), solver, seed=0)
    full = minimize(logistic(), solver, seed=0, full_trace=True)
    assert np.isnan(plain.trace.value[2])
    assert np.all(np.isfinite(full.trace.value))
    assert np.array_equal(plain.w, full.w)
    assert plain.passes == full.passes
    assert plain.props == full.props


def test_progress_bar_is_shown_when_asked(capsys):
    minimize(logistic(), SubsampledNewton(0.2), progress=True, seed=0)
    assert "|g|" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tol": -1.0}, "tol must be a number >= 0, got -1.0"),
        ({"tol": "small"}, "tol must be a number >= 0, got 'small'"),
        ({"tol": math.nan}, "tol must be a number >= 0, got nan"),
        ({"max_iter": 1.5}, "max_iter must be an integer >= 0, got 1.5"),
        ({"max_passes": -1}, "max_passes must be a number >= 0, got -1"),
        ({"w0": [1.0, 2.0]}, r"w0 must have shape \(8,\), got \(2,\)"),
        ({"w0": np.full(8, np.nan)}, "w0 must be finite"),
        ({"n_jobs": 0}, "n_jobs must be None or an integer other than 0, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        minimize(logistic(), SubsampledNewton(), **kwargs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hessian_sample": 0.0}, "hessian_sample must be a fraction .*got 0.0"),
        ({"hessian_sample": 1.5}, "hessian_sample must be a fraction .*got 1.5"),
        ({"hessian_sample": 0}, "hessian_sample must be a fraction .*got 0"),
        ({"sampling": "random"}, "sampling must be one of .*got 'random'"),
        ({"linear_solver": "lu"}, "linear_solver must be one of .*got 'lu'"),
        ({"preconditioner": "ssor"}, "preconditioner must be one of .*got 'ssor'"),
        ({"theta1": 1.0}, r"theta1 must be a number in \(0, 1\) or None, got 1.0"),
        ({"c1": 0.0}, r"c1 must be a number in \(0, 1\), got 0.0"),
        ({"max_inner": 0}, "max_inner must be an integer >= 1, got 0"),
        ({"gradient_sample": 2.0}, r"gradient_sample must be a number in \(0, 1\)"),
    ],
)
def test_bad_solver_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SubsampledNewton(**arguments)


def test_hessian_sample_of_a_wrong_type_is_named():
    with pytest.raises(TypeError, match="hessian_sample must be a fraction"):
        SubsampledNewton("half")


def test_rules_refuse_bad_parameters():
    with pytest.raises(
        ValueError, match=r"factor must be a finite number > 1, got 1\.0"
    ):
        Growing(0.1, 1.0)
    with pytest.raises(ValueError, match=r"eps must be a number in \(0, 1\), got 2.0"):
        Spectral(eps=2.0)
    with pytest.raises(
        ValueError, match=r"delta must be a number in \(0, 1\), got 0.0"
    ):
        Lemma(delta=0.0)


def test_progress_bar_follows_a_small_run(capsys):
    X = np.array([[1.0], [2.0], [-1.0]])
    problem = LinearModel(LOGISTIC, X, np.array([1.0, -1.0, 1.0]), l2=0.1)
    result = minimize(problem, SubsampledNewton(1.0), progress=True)
    shown = capsys.readouterr().err
    assert f"{result.n_iter}it" in shown
    assert f"F = {result.value:.10g}" in shown


def test_interrupt_of_a_small_run_carries_its_last_iterate():
    X = np.array([[1.0], [2.0], [-1.0]])
    problem = LinearModel(LOGISTIC, X, np.array([1.0, -1.0, 1.0]), l2=0.1)

    def interrupt(state):
        if state.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        minimize(problem, SubsampledNewton(1.0), tol=0.0, callback=interrupt)
    last = caught.value.result
    two = minimize(problem, SubsampledNewton(1.0), tol=0.0, max_iter=2)
    assert last.status is Status.INTERRUPTED
    assert last.n_iter == 2
    np.testing.assert_array_equal(last.w, two.w)
