"""What a callback and a user's own functions can do to a run: nothing."""

import dataclasses

import numpy as np
import pytest
from solver_list import SOLVERS, Custom, build, data

from subsampled_newton import (
    SAGA,
    SubsampledNewton,
    TrustRegion,
    check_derivatives,
    minimize,
)

every_pair = pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, e in SOLVERS.items() for kind in e.kinds]
)


def arrays(value, depth=5):
    """Every array that hangs on a state."""
    if isinstance(value, np.ndarray):
        yield value
    elif depth and isinstance(value, tuple):
        for part in value:
            yield from arrays(part, depth - 1)
    elif depth and (dataclasses.is_dataclass(value) or hasattr(value, "along")):
        for part in vars(value).values():
            yield from arrays(part, depth - 1)


def tamper(state):
    """Read all that a point tells and write into every array of the state."""
    point = state.point
    of_the_run = list(arrays(state))  # before more is evaluated, which is its own
    assert np.isfinite(point.value)
    assert point.gradient.shape == point.w.shape
    for array in (*of_the_run, point.w, point.gradient):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 7


def kind_of_run(solver, problem, **kwargs):
    w0 = np.full(problem.n_params, 0.3)
    return minimize(problem, solver, w0, seed=1, max_iter=5, tol=0.0, **kwargs)


@every_pair
def test_a_callback_that_reads_and_writes_changes_nothing(name, kind):
    solver = SOLVERS[name].solver
    problem = build(kind, *data(kind, n=150, d=4))
    plain = kind_of_run(solver, problem)
    watched = kind_of_run(solver, problem, callback=tamper)
    np.testing.assert_array_equal(plain.w, watched.w)
    assert (plain.status, plain.value) == (watched.status, watched.value)
    for name, column in plain.trace.as_dict().items():
        if name != "seconds":
            np.testing.assert_array_equal(column, watched.trace.as_dict()[name])


def test_reading_in_a_callback_leaves_what_max_passes_allows():
    problem = build("logistic", *data("logistic", n=200, d=4))
    limits = {"seed": 0, "tol": 0.0, "max_passes": 12.0}
    plain = minimize(problem, SAGA(), **limits)
    read = minimize(problem, SAGA(), **limits, callback=lambda s: s.point.value < 0.0)
    assert read.n_iter == plain.n_iter
    assert read.passes == plain.passes


def test_a_point_is_evaluated_by_the_solver_as_if_nobody_had_looked():
    """A state that a callback keeps and reads later is its own."""
    problem, kept = build("custom", *data("custom", n=80, d=3), l2=0.1), []
    solver = SubsampledNewton(0.5, gradient_sample=0.3)
    plain = minimize(problem, solver, seed=0)

    def callback(state):
        kept.append(state)
        return kept[0].point.value < 0.0

    watched = minimize(problem, solver, seed=0, callback=callback)
    np.testing.assert_array_equal(plain.w, watched.w)
    assert plain.passes == watched.passes
    assert kept[-1].point.value == pytest.approx(plain.value)


class Writer(Custom):
    """Tries to write into what it is given, and keeps what it returns."""

    def __init__(self, *args):
        super().__init__(*args)
        self.calls, self.kept = set(), np.empty(self.n_params)

    def _spoil(self, name, *given):
        for array in given:
            if array is not None:
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 1
        self.calls.add(name)

    def value(self, w, rows=None):
        self._spoil("value", w, rows)
        return super().value(w, rows)

    def gradient(self, w, rows=None):
        self._spoil("gradient", w, rows)
        self.kept[:] = super().gradient(w, rows)  # the same array in every call
        return self.kept

    def hess_vec(self, w, rows, v):
        self._spoil("hess_vec", w, rows, v)
        return super().hess_vec(w, rows, v)


@pytest.mark.parametrize(
    "solver",
    [
        SubsampledNewton(1.0, linear_solver="cg"),
        SubsampledNewton(0.5, gradient_sample=0.5),
        TrustRegion(0.5),
    ],
    ids=["newton-cg", "sampled gradient", "trust-region"],
)
def test_a_problem_of_ones_own_cannot_write_into_the_run(solver):
    X, y = data("custom", n=60, d=3)
    problem = Writer(X, y, 0.1)
    result = minimize(problem, solver, seed=0)
    assert problem.calls == {"value", "gradient", "hess_vec"}
    assert problem.kept.flags.writeable
    np.testing.assert_array_equal(
        result.w, minimize(Custom(X, y, 0.1), solver, seed=0).w
    )


class Returns(Custom):
    """Returns something else than an objective does."""

    def __init__(self, name, value):
        super().__init__(*data("custom", n=20, d=3), 0.1)
        setattr(self, name, lambda *args: value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("value", np.zeros(3), r"value.* must return a number, got .*\(3,\)"),
        ("value", "low", "value.* must return a number, got 'low'"),
        ("value", None, "value.* must return a number, got None"),
        ("gradient", 1.0, r"gradient.* must return .*\(3,\), got 1.0"),
        ("gradient", np.zeros((3, 1)), r"gradient.* must .*\(3,\), got .*\(3, 1\)"),
        ("gradient", np.zeros(3, complex), r"gradient.* must .*complex"),
        ("hess_vec", np.zeros(4), r"hess_vec.* must return .*\(3,\), got .*\(4,\)"),
        ("hess_vec", None, r"hess_vec.* must return .*\(3,\), got None"),
    ],
)
def test_a_wrong_return_is_named(name, value, told):
    problem = Returns(name, value)
    with pytest.raises((TypeError, ValueError), match=told):
        minimize(problem, SubsampledNewton(1.0, linear_solver="cg"))
    with pytest.raises((TypeError, ValueError), match=told):
        check_derivatives(problem, np.zeros(3))
