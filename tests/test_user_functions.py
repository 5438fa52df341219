"""What surrounds a user's function: compiled as it is now, and as Python has it."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pytest

from subsampled_newton import (
    LOGISTIC,
    SQUARED,
    LinearModel,
    NonlinearLeastSquares,
    PointwiseLoss,
    check_derivatives,
    huber,
    link_squared,
)
from subsampled_newton._jit import content, frozen
from subsampled_newton.nonlinear_model import NonlinearModel

X = np.linspace(0.0, 2.0, 12)[:, None]
Y = 3.0 * np.exp(-1.3 * X[:, 0])
TRUE = [3.0, 1.3]
START = [1.0, 1.0]


def changed_global(offset):
    scope = {"math": math, "K": offset, "__name__": "notebook"}
    exec("def f(p, x): return p[0] * math.exp(-p[1] * x[0]) + K", scope)
    return scope["f"], lambda k: scope.update(K=k)


def changed_cell(offset):
    k = offset

    def f(p, x):
        return p[0] * math.exp(-p[1] * x[0]) + k

    def change(value):
        nonlocal k
        k = value

    return f, change


def changed_array(offset):
    a = np.array([7.0, offset])

    def f(p, x):
        return p[0] * math.exp(-p[1] * x[0]) + a[1]

    return f, lambda k: a.__setitem__(1, k)


def changed_array_in_a_tuple(offset):
    a = (1.0, np.array([7.0, offset]))

    def f(p, x):
        return p[0] * math.exp(-p[1] * x[0]) + a[1][1]

    return f, lambda k: a[1].__setitem__(1, k)


def changed_default(offset):
    def f(p, x, k=offset):
        return p[0] * math.exp(-p[1] * x[0]) + k

    return f, lambda k: setattr(f, "__defaults__", (k,))


def changed_helper(offset):
    scope = {"math": math, "__name__": "notebook"}

    def define(k):
        exec(f"def helper(z): return z + {k!r}", scope)

    define(offset)
    exec("def f(p, x): return helper(p[0] * math.exp(-p[1] * x[0]))", scope)
    return scope["f"], define


def changed_module(offset):
    helpers = ModuleType("helpers")
    helpers.k = offset
    exec("def shifted(z): return z + k", vars(helpers))

    def f(p, x):
        return helpers.shifted(p[0] * math.exp(-p[1] * x[0]))

    return f, lambda k: setattr(helpers, "k", k)


WAYS = [
    changed_global,
    changed_cell,
    changed_array,
    changed_array_in_a_tuple,
    changed_default,
    changed_helper,
    changed_module,
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__[8:])


@every_way
def test_fit_takes_the_surroundings_as_they_are(way):
    function, change = way(0.5)
    before = NonlinearLeastSquares(function, START).fit(X, Y)
    change(0.0)
    with pytest.raises(ValueError, match=r"function f, or something .* since fit"):
        before.predict(X)
    after = NonlinearLeastSquares(function, START).fit(X, Y)
    assert before.result_.value > 1e-4
    np.testing.assert_allclose(after.params_, TRUE, rtol=1e-10)
    np.testing.assert_allclose(after.predict(X), Y, rtol=1e-10)
    change(0.5)
    np.testing.assert_allclose(before.predict(X) - 0.5, before.params_[0] * np.exp(
        -before.params_[1] * X[:, 0]
    ), rtol=1e-12)  # fmt: skip


@every_way
def test_a_problem_keeps_the_surroundings_it_was_made_with(way):
    function, change = way(0.0)
    problem = NonlinearModel(function, X, Y, 2)
    w, v = np.array([2.0, 1.0]), np.array([1.0, -1.0])
    before = problem.at(w).value
    change(0.5)
    assert problem.at(w).value == before
    products = problem.hess_vec(w, None, v)  # compiled after the change
    change(0.0)
    same = NonlinearModel(function, X, Y, 2).hess_vec(w, None, v)
    np.testing.assert_array_equal(products, same)


def test_unchanged_functions_are_compiled_once():
    function, change = changed_global(0.0)
    first = frozen(function)
    change(1.0)
    other = frozen(function)
    change(0.0)
    assert frozen(function) is first is not other
    assert frozen(first) is first
    assert content(function) == content(changed_global(0.0)[0])


def test_a_fitted_model_predicts_in_another_life():
    function, _ = changed_global(0.0)
    model = NonlinearLeastSquares(decay, START).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="has changed since fit"):
        model.set_params(function=function).predict(X)


def decay(p, x):
    return p[0] * math.exp(-p[1] * x[0])


TABLE = np.array([0.5, 1.5])


@pytest.mark.parametrize(
    "function",
    [
        lambda p, x: p[0] * math.exp(-p[1] * x[1]),
        lambda p, x: p[0] * x[10**9],
        lambda p, x: p[0] * x[-2] + p[1],
        lambda p, x: p[0] + p[1] * TABLE[int(10.0 * x[0])],
    ],
)
def test_reading_beyond_the_end_is_an_error(function):
    with pytest.raises(IndexError, match="reads beyond the end of the parameters, of"):
        NonlinearLeastSquares(function, START).fit(X, Y)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, p: p[0] * math.exp(-p[1] * x[0]),
        lambda p: p[0],
        lambda x, a, b: a * math.exp(-b * x),
    ],
)
def test_arguments_of_another_order_or_number_are_named(function):
    with pytest.raises(
        TypeError, match=r"function must take \(params, x_i\), got <lam"
    ):
        NonlinearLeastSquares(function, START).fit(X, Y)
    with pytest.raises(TypeError, match=r"jacobian must take \(params, x_i\) or "):
        NonlinearModel(decay, X, Y, 2, jacobian=lambda p: p)


def negative_power(p, x):
    total = 0.0
    for k in range(1, 4):
        total += p[0] * 10 ** (-k) * x[0]
    return total + p[1]


def long_integers(p, x):
    k = int(x[0] * 20)
    return p[0] * x[0] + p[1] * math.log(1 + 3**k * 7**k)


def noisy(p, x):
    return p[0] * x[0] + p[1] + np.random.random()  # noqa: NPY002


@pytest.mark.usefixtures("jit")
@pytest.mark.parametrize("function", [negative_power, long_integers, noisy])
def test_what_python_computes_otherwise_is_refused(function):
    with pytest.raises(ValueError, match=r"is .* compiled but .* in Python at row \d+"):
        NonlinearLeastSquares(function, START).fit(X, Y)
    with pytest.raises(ValueError, match=r"is .* compiled but .* in Python at row \d+"):
        NonlinearModel(function, X, Y, 2).predict(np.ones(2))


@pytest.mark.usefixtures("jit")
def test_helper_of_numba_that_is_out_of_date_is_refused():
    scope = {"math": math, "K": 0.5, "__name__": "notebook"}
    exec("def helper(z): return z + K", scope)
    scope["helper"] = numba.njit(scope["helper"])
    exec("def f(p, x): return helper(p[0] * math.exp(-p[1] * x[0]))", scope)
    NonlinearLeastSquares(scope["f"], START).fit(X, Y)
    scope["K"] = 0.0
    with pytest.raises(ValueError, match=r"helpers of Numba's njit whose surroundings"):
        NonlinearLeastSquares(scope["f"], START).fit(X, Y)


def by_bisection(p, x):
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle * middle > p[0] * x[0] + 0.1:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high) + p[1]


def by_newton(p, x):
    root = 1.0
    for _ in range(60):
        root -= (root * root - p[0] * x[0] - 0.1) / (2.0 * root)
    return root + p[1]


def test_a_search_that_loses_derivatives_is_refused():
    y = np.sqrt(2.0 * X[:, 0] + 0.1) + 1.0
    with pytest.raises(ValueError, match=r"derivative is 0 for parameter 0 at row \d+"):
        NonlinearLeastSquares(by_bisection, START).fit(X, y)
    model = NonlinearLeastSquares(by_newton, START).fit(X, y)
    np.testing.assert_allclose(model.params_, [2.0, 1.0], rtol=1e-10)


@pytest.mark.parametrize(("k", "factor"), [(0, 2.0), (1, -1.0), (1, 1.01), (0, 0.0)])
def test_wrong_jacobian_is_refused(k, factor):
    def jacobian(p, x):
        e = math.exp(-p[1] * x[0])
        J = (e, -p[0] * x[0] * e)
        return (factor * J[0], J[1]) if k == 0 else (J[0], factor * J[1])

    with pytest.raises(ValueError, match=rf"jacobian is .* for parameter {k} at row"):
        NonlinearLeastSquares(decay, START, jacobian=jacobian).fit(X, Y)


FAIR = {
    "kink at the start": lambda p, x: abs(p[0] - 1.0) * x[0] + max(p[1], 1.0),
    "kink next to the start": lambda p, x: abs(p[0] - 1.0 - 1e-6) * x[0] + p[1],
    "jump next to the start": lambda p, x: p[1] * x[0] + (p[0] > 1.0 + 1e-6),
    "steps": lambda p, x: math.floor(p[0] * 10.0) * 0.1 + p[1] * x[0],
    "cancellation": lambda p, x: (1e8 + p[0] * x[0]) - 1e8 + p[1],
    "steep": lambda p, x: math.exp(200.0 * p[0] * (x[0] - 2.0)) + p[1],
    "narrow": lambda p, x: math.atan((p[0] - 1.0) * 1e6) + p[1] * x[0],
    "infinite slope": lambda p, x: math.sqrt(abs(p[0] - 1.0)) + p[1] * x[0],
    "fast oscillation": lambda p, x: math.sin(3e4 * p[0]) + p[1] * x[0],
    "no effect": lambda p, x: p[1] * x[0] + 0.0 * p[0],
    "overflow": lambda p, x: 1.0 / (1.0 + math.exp(800.0 * p[0])) + p[1] * x[0],
}


@pytest.mark.parametrize("what", FAIR)
@pytest.mark.parametrize("start", [[1.0, 1.0], [0.0, 1e-3], [1e-9, -1e6]])
def test_what_has_no_certain_difference_is_not_refused(what, start):
    point = NonlinearModel(FAIR[what], X, Y, 2).at(start)
    assert point.jacobian.shape == (12, 2)


def test_rows_without_weight_are_not_compared():
    weights = np.r_[0.0, np.ones(10), 0.0]
    spoilt = X.copy()
    spoilt[[0, -1]] = 1e9

    def function(p, x):
        return p[0] * x[0] if x[0] < 1e8 else p[0] * 10 ** (-int(x[0] / 1e9))

    NonlinearModel(function, spoilt, Y, 1, sample_weight=weights).at([1.0]).value  # noqa: B018


NEVER_READS = """
import numpy as np
from subsampled_newton import NonlinearLeastSquares
def f(p, x):
    return p[0] * x[10**12]
try:
    NonlinearLeastSquares(f, [1.0]).fit(np.ones((3, 1)), np.ones(3))
except IndexError:
    print("IndexError")
"""


@pytest.mark.usefixtures("jit")
def test_no_index_ends_the_process():
    home = str(Path(__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-c", NEVER_READS],
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == "IndexError"


# Losses of a user's.


def quartic(scope):
    exec(
        "def value(z, y): return K * (z - y) ** 4\n"
        "def d1(z, y): return 4.0 * K * (z - y) ** 3\n"
        "def d2(z, y): return 12.0 * K * (z - y) ** 2",
        scope,
    )
    functions = (scope[name] for name in ("value", "d1", "d2"))
    return PointwiseLoss("quartic", *functions, d2_range=(0.0, math.inf))


def value_of(loss, w=(1.0,)):
    return LinearModel(loss, X, Y).at(w).value


def test_loss_takes_its_surroundings_as_they_are():
    scope = {"K": 1.0, "__name__": "notebook"}
    loss = quartic(scope)
    problem = LinearModel(loss, X, Y)
    expected = np.mean((X[:, 0] - Y) ** 4)
    assert problem.at([1.0]).value == pytest.approx(expected, rel=1e-14)
    assert LinearModel(loss, X, Y).loss is problem.loss  # nothing is compiled again
    scope["K"] = 3.0
    assert value_of(loss) == pytest.approx(3.0 * expected, rel=1e-14)
    gradient = np.mean(12.0 * X[:, 0] * (X[:, 0] - Y) ** 3)
    later = LinearModel(loss, X, Y)
    assert later.at([1.0]).gradient[0] == pytest.approx(gradient, rel=1e-13)
    check_derivatives(later, [0.5])
    # A problem keeps what it was made with.
    assert problem.at([1.0]).value == pytest.approx(expected, rel=1e-14)
    assert problem.at([1.0]).gradient[0] == pytest.approx(gradient / 3.0, rel=1e-13)


def test_link_takes_its_surroundings_as_they_are():
    scope = {"K": 1.0, "__name__": "notebook"}
    exec("def h(z): return K * z\ndef h1(z): return K + 0.0 * z", scope)
    exec("def h2(z): return 0.0", scope)
    loss = link_squared("line", scope["h"], scope["h1"], scope["h2"])
    assert value_of(loss) == pytest.approx(np.mean((X[:, 0] - Y) ** 2), rel=1e-14)
    scope["K"] = 2.0
    assert value_of(loss) == pytest.approx(np.mean((2 * X[:, 0] - Y) ** 2), rel=1e-14)


def test_losses_of_the_package_are_themselves():
    for loss in (LOGISTIC, SQUARED, huber(2.0)):
        assert loss.as_it_is() is loss


def module_value(z, y):
    return (z - y) ** 4


def module_d1(z, y):
    return 4.0 * (z - y) ** 3


def module_d2(z, y):
    return 12.0 * (z - y) ** 2


def test_loss_of_a_problem_pickles_as_that_of_the_user():
    loss = PointwiseLoss("module", module_value, module_d1, module_d2)
    problem = LinearModel(loss, X, Y)
    assert problem.loss is not loss
    again = pickle.loads(pickle.dumps(problem.loss))
    assert again.value is module_value
    assert value_of(again) == problem.at([1.0]).value


@pytest.mark.parametrize("field", ["value", "d1", "d2", "gauss_newton"])
def test_wrong_number_of_arguments_of_a_loss_is_named(field):
    functions = {"value": module_value, "d1": module_d1, "d2": module_d2}
    for wrong, shown in ((lambda z: z, "z"), (lambda z, y, s: z, "z, y, s")):
        with pytest.raises(
            TypeError, match=rf"^{field} must take \(z, y\), got <lambda>\({shown}\)$"
        ):
            PointwiseLoss("wrong", **(functions | {field: wrong}))


@pytest.mark.usefixtures("jit")
@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            lambda z, y: "a" + z,
            TypeError,
            r"^d1 of the bad loss cannot be compiled: no",
        ),
        (lambda z, y: undefined(z), TypeError, "name 'undefined' is not"),  # noqa: F821
        (lambda z, y: TABLE[int(z) + 7], IndexError, "d1 of the bad loss reads beyond"),
        (lambda z, y: z * 10 ** (-int(y > -1.0)), ValueError, "compiled but .* at z ="),
    ],
)
def test_loss_that_is_refused_is_named_in_a_sentence(function, error, message):
    loss = PointwiseLoss("bad", module_value, function, module_d2)
    with pytest.raises(error, match=message) as caught:
        LinearModel(loss, X, Y)
    assert len(str(caught.value)) <= 300
