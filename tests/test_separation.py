"""When a fit proves that no minimizer exists, and when nothing is claimed."""

import numpy as np
import pytest

from subsampled_newton import (
    LOGISTIC,
    SIGMOID_SQUARED,
    LinearModel,
    LogisticRegression,
    separation,
)
from subsampled_newton.separation import separable
from subsampled_newton.softmax_model import SoftmaxModel


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
    assert separable(problem, np.array([1e-9]))
    assert not separable(problem, np.array([0.0]))
    assert not separable(problem, np.array([-1e-9]))
    overlap = signed([[1.0], [-1.0], [-0.1]], [1.0, -1.0, 1.0])
    for w in (1e-9, 1.0, 10.0, 1e3):
        for failed in (False, True):
            assert not separable(overlap, np.array([w]), failed=failed)


def test_a_row_on_the_plane_is_decided_where_another_is_fitted_almost_exactly():
    problem = signed([[1.0], [-1.0], [0.0]], [1.0, -1.0, 1.0])
    assert separable(problem, np.array([10.0]))
    assert not separable(problem, np.array([9.9]))
    assert separable(problem, np.array([0.0]), failed=True)


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
    problem = signed([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [1.0, -1.0, 1.0])
    limits = [("LARGEST_PROGRAM", [10.0, 0.0], False), ("SMALL_PROGRAM", [0, 0], True)]
    for name, w, failed in limits:
        for limit, expected in ((6, True), (5, False)):
            monkeypatch.setattr(separation, name, limit)
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
    assert not separable(problem, np.array([9.9]))
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
        z = problem.predictions(w)[..., used]
        margins = separation._margins(problem, z, problem.y[used])
        np.testing.assert_allclose(
            separation._margin_rows(problem, used) @ w, margins, rtol=1e-12, atol=1e-12
        )


def test_the_own_class_of_every_row_must_lead_all_others():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, 4))
    claims = []
    for _ in range(200):
        y = np.append([0, 1, 2], rng.integers(0, 3, 2))
        problem = SoftmaxModel(X, y)
        w = 1e-3 * rng.standard_normal(problem.n_params)  # too small for a program
        leading = np.argmax(problem.predictions(w), axis=0)
        claims.append(separable(problem, w))
        assert claims[-1] == np.array_equal(leading, y)
    assert 0 < sum(claims) < 200


def test_a_program_decides_for_several_classes():
    # Class 2 alone has the second column; the others overlap in the first.
    X = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    y = np.array([0, 1, 0, 1, 2])
    problem = SoftmaxModel(X, y)
    nowhere = np.zeros(problem.n_params)
    assert separable(problem, nowhere, failed=True)
    assert not separable(problem, nowhere)
    overlap = SoftmaxModel(np.vstack([X, -X[4]]), np.append(y, 2))
    assert not separable(overlap, np.zeros(overlap.n_params), failed=True)
