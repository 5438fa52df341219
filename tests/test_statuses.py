"""What a run ends as: converged where little is left to gain, and only there."""

import numpy as np
import pytest
import statuses
from problems import labels

from subsampled_newton import (
    LBFGS,
    LOGISTIC,
    SAG,
    SAGA,
    SVRG,
    CubicRegularization,
    GradientDescent,
    LinearModel,
    MultilevelNewton,
    Nesterov,
    SoftmaxModel,
    Status,
    SubsampledNewton,
    TrustRegion,
    minimize,
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
