"""Dual numbers: every rule against mpmath, in compiled code."""

import functools
import math
import os
import subprocess
import sys
from types import ModuleType

import mpmath
import numpy as np
import pytest
from numba.core.errors import TypingError

from subsampled_newton import _dual_plain, _user_function
from subsampled_newton._dual_rules import register_rules
from subsampled_newton._jit import compiled
from subsampled_newton._user_function import prepare, run
from subsampled_newton.kernels import nonlinear as kernels
from subsampled_newton.kernels.nonlinear import contract, seeds, store

mpmath.mp.dps = 40
ONE_ROW = np.ones((1, 1))
ONE_ROW.flags.writeable = False


def derivatives(function, w, x=1.0):
    """Value, gradient and Hessian at one row of one predictor."""
    w, X = np.array(w, dtype=np.float64), np.array([[x]], dtype=np.float64)
    X.flags.writeable = False
    d = len(w)
    J, H = np.zeros((1, d)), np.zeros((d, d))
    for row, e in zip(H, np.eye(d), strict=True):
        value = np.zeros(1)
        run(both_orders(prepare(function), d), X, w, e, value, J, row)
    return value[0], J[0], H


@functools.cache
def both_orders(function, d):
    """Value, gradient and a product with the Hessian from one compilation."""
    register_rules()
    width = 1 << (d - 1).bit_length()
    seed = seeds(2, width)

    @compiled()
    def kernel(X, w, t, value, J, total, lanes=width):
        number = function(seed(w, t, 0), X[0])
        value[0] = store(number, J, 0, 0)
        contract(number, t, 1.0, total, 0)

    return kernel


def gradient(function, w, x=1.0):
    """Gradient from the kernel that fits use."""
    w, X = np.array(w, dtype=np.float64), np.array([[x]], dtype=np.float64)
    X.flags.writeable = False
    J = np.zeros((1, len(w)))
    run(kernels.evaluate(function, len(w)), X, w, np.empty(1), J)
    return J[0]


def branches(expressions, **names):
    """One function that is the expression number ``int(x[0])``: one compilation."""
    lines = ["def model(p, x):", "    a, b = p", "    u = a * b", "    k = int(x[0])"]
    for k, expression in enumerate(expressions):
        lines += [f"    if k == {k}:", f"        return {expression}"]
    scope = {"math": math, "np": np, **names}
    exec("\n".join([*lines, "    return a"]), scope)
    return scope["model"]


def close(computed, exact, n_ulp=8.0):
    """Equal to some units of rounding, relative; infinities and nan alike."""
    exact = float(exact)
    if not math.isfinite(exact):
        return computed == exact or (math.isnan(exact) and math.isnan(computed))
    return abs(computed - exact) <= n_ulp * 2.3e-16 * abs(exact) + 1e-30


# Functions of one number u = a b, so that both derivatives of the chain rule matter:
# f_a = f' b, f_aa = f'' b**2, f_ab = f' + f'' u.

UNARY = {
    "math.exp(u)": mpmath.exp,
    "np.exp(u)": mpmath.exp,
    "np.exp2(u)": lambda x: mpmath.mpf(2) ** x,
    "math.expm1(u)": mpmath.expm1,
    "math.log(u)": mpmath.log,
    "math.log1p(u)": mpmath.log1p,
    "np.log2(u)": lambda x: mpmath.log(x) / mpmath.log(2),
    "math.log10(u)": mpmath.log10,
    "math.sqrt(u)": mpmath.sqrt,
    "np.cbrt(u)": mpmath.cbrt,
    "math.sin(u)": mpmath.sin,
    "np.cos(u)": mpmath.cos,
    "math.tan(u)": mpmath.tan,
    "np.arcsin(u)": mpmath.asin,
    "math.acos(u)": mpmath.acos,
    "np.arctan(u)": mpmath.atan,
    "math.sinh(u)": mpmath.sinh,
    "np.cosh(u)": mpmath.cosh,
    "math.tanh(u)": mpmath.tanh,
    "np.arcsinh(u)": mpmath.asinh,
    "math.acosh(u)": mpmath.acosh,
    "math.atanh(u)": mpmath.atanh,
    "math.erf(u)": mpmath.erf,
    "math.erfc(u)": mpmath.erfc,
    "math.gamma(u)": mpmath.gamma,
    "math.lgamma(u)": lambda x: mpmath.log(abs(mpmath.gamma(x))),
    "np.square(u)": lambda x: x * x,
    "np.reciprocal(u)": lambda x: 1 / x,
    "np.degrees(u)": mpmath.degrees,
    "math.radians(u)": mpmath.radians,
    "abs(u)": abs,
    "math.fabs(u)": abs,
    "-u": lambda x: -x,
    "+np.negative(u)": lambda x: -x,
    "u**3": lambda x: x**3,
    "u**-2": lambda x: x**-2,
    "3 / u": lambda x: 3 / x,
    "2.0**u": lambda x: mpmath.mpf(2) ** x,
    "5 % u": lambda x: (
        5 - x * mpmath.floor(5 / x.real if hasattr(x, "real") else 5 / x)
    ),
}
POINTS = {
    "math.acosh(u)": (1.25, 3.5),
    "math.atanh(u)": (-0.75, 0.3),
    "np.arcsin(u)": (-0.6, 0.9),
    "math.acos(u)": (-0.6, 0.9),
    "math.tanh(u)": (0.25, 25.0),
    "math.erfc(u)": (-1.0, 5.0),
    "np.arctan(u)": (-0.5, 1e6),
    "math.log1p(u)": (-0.5, 1e-9),
    "np.exp(u)": (-40.0, 3.0),
    "math.lgamma(u)": (-1.25, 3.5),
    "math.gamma(u)": (-1.25, 12.5),
}
POSITIVE = ("log(", "log2", "log10", "sqrt", "cbrt", "%")
model_of_one = branches(UNARY)


@pytest.mark.parametrize("text", UNARY)
def test_function_of_one_number(text):
    exact = UNARY[text]
    positive = any(part in text for part in POSITIVE)
    for u in POINTS.get(text, (0.3, 2.25) if positive else (-1.25, 0.7)):
        a, b = u / 0.5, 0.5
        f, g, H = derivatives(model_of_one, [a, b], list(UNARY).index(text))
        f0, f1, f2 = (mpmath.diff(exact, mpmath.mpf(u), n) for n in range(3))
        assert close(f, f0)
        assert close(g[0], f1 * b, 32)
        assert close(g[1], f1 * a, 32)
        assert close(H[0, 0], f2 * b**2, 64)
        assert abs(H[0, 1] - float(f1 + f2 * u)) <= 1e-14 * float(abs(f1) + abs(f2 * u))


# Functions of two numbers: of (a, b), of (a, constant) and of (constant, b).

BINARY = {
    "{} + {}": lambda a, b: a + b,
    "{} - {}": lambda a, b: a - b,
    "{} * {}": lambda a, b: a * b,
    "{} / {}": lambda a, b: a / b,
    "{} ** {}": lambda a, b: a**b,
    "np.power({}, {})": lambda a, b: a**b,
    "math.pow({}, {})": lambda a, b: a**b,
    "math.hypot({}, {})": mpmath.hypot,
    "np.arctan2({}, {})": mpmath.atan2,
    "np.logaddexp({}, {})": lambda a, b: mpmath.log(mpmath.exp(a) + mpmath.exp(b)),
    "{} % {}": lambda a, b: a - 2 * b,
}
BOTH = [
    text.format(*pair) for text in BINARY for pair in ("ab", ("a", 0.6), (1.7, "b"))
]
model_of_two = branches(BOTH)


@pytest.mark.parametrize("text", BINARY)
def test_function_of_two_numbers(text):
    a, b = 1.7, 0.6
    for which in range(3):
        row = 3 * list(BINARY).index(text) + which
        f, g, H = derivatives(model_of_two, [a, b], row)
        assert close(f, BINARY[text](mpmath.mpf(a), mpmath.mpf(b)))
        left, right = which != 2, which != 1
        for (i, j), computed, present in (
            ((1, 0), g[0], left),
            ((0, 1), g[1], right),
            ((2, 0), H[0, 0], left),
            ((1, 1), H[0, 1], left and right),
            ((0, 2), H[1, 1], right),
        ):
            point = (mpmath.mpf(a), mpmath.mpf(b))
            true = float(mpmath.diff(BINARY[text], point, (i, j))) if present else 0.0
            assert abs(computed - true) <= 2e-15 * max(1.0, abs(true)), (which, i, j)
        np.testing.assert_array_equal(H, H.T)


def test_powers_with_a_base_that_is_not_positive():
    def cube(p, x):
        return p[0] ** 3 + p[1] ** 2 + p[0] ** -2

    f, g, H = derivatives(cube, [-2.0, 0.0])
    assert f == -7.75
    np.testing.assert_allclose(g, [12.25, 0.0], rtol=1e-15)  # 3 p0**2 - 2 p0**-3
    np.testing.assert_allclose(H, [[-11.625, 0.0], [0.0, 2.0]], rtol=1e-15)


def test_exponents_known_only_when_running():
    def powers(p, x):
        total = 0.0
        for n in range(5):
            total += p[0] ** n + p[1] ** (0.5 * n)
        return total

    _, g, H = derivatives(powers, [-1.5, 2.25])
    z, s = -1.5, 1.5
    np.testing.assert_allclose(
        g, [1 + 2 * z + 3 * z**2 + 4 * z**3, 0.5 / s + 1 + 1.5 * s + 2 * s**2], 1e-15
    )
    second = [2 + 6 * z + 12 * z**2, -0.25 / s**3 + 0.75 / s + 2]
    np.testing.assert_allclose(np.diag(H), second, rtol=1e-15)


LIMITS = {
    "math.sqrt(a) + b": ([0.0, 1.0], [math.inf, 1.0]),
    "1.0 / (1.0 + math.exp(u))": ([80.0, 10.0], [0.0, 0.0]),
    "math.exp(-math.exp(a)) + b": ([800.0, 1.0], [0.0, 1.0]),
    "a * 0.0**b": ([3.0, 2.0], [0.0, 0.0]),
    "abs(a) + math.hypot(a, a) + b": ([0.0, 1.0], [0.0, 1.0]),
    "a**0 + b**1": ([0.0, 0.0], [0.0, 1.0]),
    "a ** (b * 0.0 + 3.0)": ([-2.0, 1.0], [12.0, 0.0]),
    "a ** float(x[0] - 3.0) + b": ([-2.0, 1.0], [32.0 * -1.0, 1.0]),
    "abs(a + math.nan) + b": ([1.0, 1.0], [0.0, 1.0]),
}
limits = branches(LIMITS)


@pytest.mark.parametrize("text", LIMITS)
def test_limits(text):
    w, expected = LIMITS[text]
    k = list(LIMITS).index(text)
    np.testing.assert_array_equal(gradient(limits, w, k), expected)


def test_steps_have_no_derivative_and_choices_that_of_what_they_choose():
    def model(p, x):
        a, b = p[0], p[1]
        return (
            math.floor(a) + np.ceil(b) + np.sign(a) + a // b + np.rint(a)
            + 10 * max(a, b) + 100 * min(a, b, 5) + 1000 * np.maximum(a, 0.5)
            + 1e4 * np.minimum(b, 3.0) + 1e5 * np.where(a > b, a, b)
            + 1e6 * np.clip(a, 0.0, 1.0)
        )  # fmt: skip

    f, g, H = derivatives(model, [2.5, 1.25])
    assert f == 2 + 2 + 1 + 2 + 2 + 25 + 125 + 2500 + 12500 + 250000 + 1e6
    np.testing.assert_array_equal(g, [10 + 1000 + 1e5, 100 + 1e4])
    np.testing.assert_array_equal(H, np.zeros((2, 2)))


def test_comparisons_go_by_the_value():
    def model(p, x):
        a, b = p
        total = 0.0
        if a < b:
            total += 1
        if a <= 2:
            total += 2
        if 3.5 - a > 1:
            total += 4
        if b >= a:
            total += 8
        if a == 2:
            total += 16
        if a != b:
            total += 32
        if not b:
            total += 1000
        else:
            total += 64
        if a:
            total += 128
        if math.isnan(a) or np.isinf(b) or not np.isfinite(a):
            total += 256
        return total + a * b

    f, g, _ = derivatives(model, [2.0, 3.0])
    assert f == 255.0 + 6.0
    np.testing.assert_array_equal(g, [3.0, 2.0])


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_comparisons_with_data_on_the_left(sign):
    text = f"math.sqrt(a) if x[0] - 1.0 {sign} b else a + 0.0"
    scope = {"math": math}
    exec(f"def model(p, x):\n    a, b = p\n    return {text}", scope)
    for x in (1.0, 2.0, 3.0):
        slope = 0.25 if eval(f"{x - 1.0} {sign} 1.0") else 1.0
        assert gradient(scope["model"], [4.0, 1.0], x)[0] == slope


def half(z):
    return 0.5 * z


def horner(params, t):
    total = 0.0
    for k in range(len(params) - 1, -1, -1):
        total = total * t + params[k]
    return half(total)


def everything_a_function_may_do(params, x):
    """Loops, slices, unpacking, helpers, conditions, local functions and tuples."""
    a, b = params[0], params[-1]
    total = 0  # an integer that becomes a dual
    for value in params:
        total += value
    pair = (a * b, total)
    if x[0] > 100.0:
        return 0.0
    while total > 1e6:
        total /= 2
    terms = [pair[i] for i in range(2)]
    return terms[0] + terms[1] + horner(params[1:3], 2.0) + sum(params) + params[:2] @ x


def test_a_plain_function_compiles_as_it_stands():
    X = np.array([[3.0, 5.0]])
    X.flags.writeable = False
    w = np.array([1.0, 2.0, 4.0])
    f, J = np.empty(1), np.empty((1, 3))
    run(kernels.evaluate(everything_a_function_may_do, 3), X, w, f, J)
    assert f[0] == 4.0 + 7.0 + 0.5 * (2 + 4 * 2) + 7.0 + 13.0
    np.testing.assert_array_equal(J[0], [4 + 1 + 1 + 3, 1 + 0.5 + 1 + 5, 1 + 1 + 1 + 1])


users = ModuleType("users")
exec("import math\nRATE = 2.0\ndef rate(z): return RATE * math.exp(z)", vars(users))
sine = math.sin


def test_helpers_are_reached_wherever_they_are():
    def local(z):
        return math.sqrt(z)

    def model(p, x):
        return users.rate(p[0]) + sine(p[1]) + local(p[2])

    g = gradient(model, [1.0, 2.0, 4.0])
    exact = [2.0 * math.exp(1.0), math.cos(2.0), 0.25]
    np.testing.assert_allclose(g, exact, rtol=1e-15)


def test_functions_of_the_data_have_limits_and_no_exceptions():
    def model(p, x):
        return p[0] / (1.0 + math.exp(x[0])) + p[1] * math.log(x[0] - 800.0) + p[2]

    np.testing.assert_array_equal(
        gradient(model, [1.0] * 3, 800.0), [0.0, -np.inf, 1.0]
    )


@pytest.mark.parametrize("d", [8, 9, 100])
def test_any_number_of_parameters(d):
    def model(p, x):
        total = p[0]
        for k in range(1, len(p)):
            total = total + p[k] * p[k - 1] * x[0]
        return total

    w = np.random.default_rng(d).standard_normal(d)
    f, J = np.empty(1), np.empty((1, d))
    run(kernels.evaluate(model, d), ONE_ROW, w, f, J)
    t = np.random.default_rng(0).standard_normal(d)
    product, along = np.zeros(d), np.zeros(1)
    run(kernels.second(model, d), ONE_ROW, w, t, np.ones(1), along, product)
    A = np.eye(d, k=1) + np.eye(d, k=-1)
    np.testing.assert_allclose(J[0], A @ w + np.eye(d)[0], rtol=1e-15)
    np.testing.assert_allclose(product, A @ t, rtol=1e-15)
    np.testing.assert_allclose(along, t @ A @ t, rtol=1e-13)


@pytest.mark.parametrize("index", ["2", "-3", "len(p)"])
def test_index_outside_is_an_error_and_not_memory(index):
    scope = {}
    exec(f"def model(p, x):\n    return p[{index}]", scope)
    with pytest.raises(IndexError, match=r"index .*out of"):
        derivatives(scope["model"], [1.0, 2.0])


def returns_nothing(p, x):
    if x[0] > 0.0:
        return p[0]


def keeps_in_an_array(p, x):
    out = np.zeros(1)
    out[0] = p[0]
    return out[0]


def unpacks_the_rest(p, x):
    first, *_ = p
    return first


def writes_into_the_data(p, x):
    x[0] = 3.0
    return p[0]


@pytest.mark.usefixtures("jit")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda p, x: p * 2.0, r"no rule for mul\(params"),
        (
            lambda p, x: np.interp(p[0], x, x),
            r"no rule for interp\(number, array, array",
        ),
        (lambda p, x: float(p[0]), r"no rule for float\(number\)"),
        (lambda p, x: p.mean, "Unknown attribute 'mean' of type params"),
        (lambda p, x: "text", "it returns .* where a number is needed"),
        (lambda p, x: p[0] * 1j, r"no rule for mul\(number, complex128\)"),
        (unpacks_the_rest, "UNPACK_EX"),
        (lambda p, x: undefined(p[0]), "'undefined' is not defined"),  # noqa: F821
        (lambda p: p[0], "too many positional arguments"),
        (returns_nothing, r"it returns OptionalType\(number\)"),
        (keeps_in_an_array, r"no rule for setitem\(array.*line \d+ of test_dual.py"),
        (writes_into_the_data, r"no rule for setitem\(array"),
        (functools.partial(max, 1), "a plain Python function can be compiled, got"),
        (print, "a plain Python function can be compiled, got <built-in"),
    ],
)
def test_what_cannot_be_compiled_is_named(model, message):
    with pytest.raises(TypeError, match=message):
        derivatives(model, [1.0, 2.0])


@pytest.mark.usefixtures("jit")
def test_the_message_says_what_is_allowed():
    with pytest.raises(TypeError, match="Allowed are numbers, tuples, indices like"):
        derivatives(lambda p, x: p * 2.0, [1.0])


def test_constants_and_branches_without_parameters_have_derivative_zero():
    f, g, H = derivatives(lambda p, x: x[0], [1.0, 2.0])
    assert f == 1.0
    assert not g.any()
    assert not H.any()


def test_numbers_of_order_zero_are_plain():
    seed = seeds(0, 1)
    function = prepare(half_of_first)

    @compiled()
    def kernel(w, out):
        out[0] = function(seed(w, w, 0), w)

    out = np.empty(1)
    kernel(np.array([3.0]), out)
    assert out[0] == 1.5


def half_of_first(p, x):
    return half(p[0])


SCRIPT = """
import numpy as np
from numba.core import event

class Count(event.Listener):
    n = 0
    def on_start(self, event): self.n += 1
    def on_end(self, event): pass

count = Count()
event.register("numba:compile", count)
from subsampled_newton.nonlinear_model import NonlinearModel

def model(p, x):
    return p[0] * np.exp(p[1] - 3.0)

m = NonlinearModel(model, np.ones((4, 1)), None, 2)
point = m.at([2.0, 3.0])
print(count.n, point.gradient[0], m.hess_vec(point.w, None, np.ones(2))[0])
"""


@pytest.mark.usefixtures("jit")
def test_second_process_loads_the_kernels_from_disk(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    environment.pop("SUBSAMPLED_NEWTON_CACHE", None)
    first, second = (
        subprocess.run(
            [sys.executable, file],
            env={**environment, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    )
    assert int(first[0]) > 0
    assert int(second[0]) == 0
    assert first[1:] == second[1:] == ["2.0", "5.0"]


def of_library(function):
    def model(p, x):
        return function(p[len(p) - 1])

    return model


def test_kernels_on_disk_are_told_apart_by_library_functions_and_sizes():
    for function, slope in ((math.sin, math.cos(1.0)), (np.square, 2.0)):
        assert gradient(of_library(function), [1.0])[0] == slope
    g = gradient(of_library(np.square), [1.0, 2.0])
    np.testing.assert_array_equal(g, [0.0, 4.0])


@pytest.mark.parametrize(("t", "a", "added"), [(3.0, 2.0, 12.0), (math.inf, 0.0, 0.0)])
def test_contract_adds(t, a, added):
    seed = seeds(2, 1)
    function = prepare(square_of_first)

    @compiled()
    def kernel(X, w, t, a, total, out):
        out[0] = contract(function(seed(w, t, 0), X[0]), t, a, total, 0)

    total, out = np.ones(1), np.zeros(1)
    kernel(ONE_ROW, np.array([5.0]), np.array([t]), a, total, out)
    assert total[0] == 1.0 + added
    assert out[0] == t * 2.0 * t


def square_of_first(p, x):
    return p[0] * p[0]


# Plain Python, for NUMBA_DISABLE_JIT=1: the tests above, and these.


def plain(monkeypatch, function, w, x):
    """Value, gradient and a product of the Hessian with ones."""
    monkeypatch.setattr(_user_function, "DISABLED", True)
    w, t = np.array(w, dtype=np.float64), np.ones(len(w))
    number = prepare(function)(_dual_plain.seeds(2, len(w))(w, t, 0), x)
    J, product = np.zeros((1, len(w))), np.zeros(len(w))
    _dual_plain.contract(number, t, 1.0, product, 0)
    return _dual_plain.store(number, J, 0, 0), J[0], product


@pytest.mark.usefixtures("jit")
def test_plain_python_and_compiled_code_agree(monkeypatch):
    w = [1.5, -2.0, 0.25]

    def model(p, x):
        return horner(p, x[0]) * math.exp(p[0] * p[1]) / abs(p[2] - x[0]) ** p[2]

    f, J, H = derivatives(model, w, 0.3)
    computed = plain(monkeypatch, model, w, [0.3])
    for ours, theirs in zip(computed, (f, J, H.sum(axis=1)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize(
    "model",
    [
        lambda p, x: p * 2.0,
        lambda p, x: np.interp(p[0], x, x),
        lambda p, x: np.add(p[0], 1.0, dtype=float),
        lambda p, x: np.clip(p[0], 0.0, 1.0, dtype=float),
        lambda p, x: float(p[0]),
        lambda p, x: p.mean,
        lambda p, x: "text",
        lambda p, x: p[0] * 1j,
        lambda p, x: math.comb(p[0], 2),
        lambda p, x: math.comb(2, x),
        returns_nothing,
        keeps_in_an_array,
        lambda p: p[0],
    ],
)
def test_plain_python_refuses_what_has_no_derivative(monkeypatch, model):
    with pytest.raises(TypeError):
        plain(monkeypatch, model, [1.0, 2.0], np.zeros(1))


def test_plain_python_keeps_the_exceptions_of_math_without_a_limit(monkeypatch):
    with pytest.raises(ValueError, match="factorial"):
        plain(monkeypatch, lambda p, x: p[0] * math.factorial(-1), [1.0], np.ones(1))


# What stands between a user's function and Numba, without compiling.


def scaled(z):
    return 2.0 * z


def over_helpers(p, x):
    return scaled(p[0]) + users.rate(x[0])


def test_all_plain_functions_that_are_reached_may_be_inlined(monkeypatch):
    monkeypatch.setattr(_user_function, "DISABLED", False)
    ours = prepare(over_helpers)
    inner = [ours.__globals__["scaled"], ours.__globals__["users"].rate]
    options = [function.jit_options for function in (ours, *inner)]
    assert all("numpy" in o and "'boundscheck', True" in o for o in options)
    assert prepare(over_helpers) is ours
    assert prepare(ours) is ours
    assert ours([1.5], [2.0]) == over_helpers([1.5], [2.0])
    assert not hasattr(over_helpers, "jit_options")  # the user's is as it was


MESSAGES = {
    "Failed in nopython mode\nUndecided type Dual(1, 4) of array(float64, 1d, C)": (
        "Undecided type number of array"
    ),
    "No implementation\n>>> mul(Params(float64), float64)": (
        "no rule for mul(params, float64)"
    ),
    "TypingError: it returns none where a number is needed": (
        "it returns none where a number is needed"
    ),
    'Name is not defined\nFile "a/script.py", line 7:': (
        "Name is not defined (line 7 of script.py)"
    ),
}


@pytest.mark.parametrize("text", MESSAGES)
def test_messages_of_the_compiler_are_told_in_the_users_words(text):
    def kernel():
        raise TypingError(text)

    with pytest.raises(TypeError) as caught:
        run(kernel)
    start = f"the function cannot be compiled: {MESSAGES[text]}. Allowed are numbers"
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize(
    ("text", "told"), [("", "must unpack as many parameters"), ("other", "other")]
)
def test_wrong_number_of_parameters_is_named(text, told):
    def kernel():
        raise ValueError(text)

    with pytest.raises(ValueError, match=told):
        run(kernel)
