"""exp, log1p and softplus against 40 digits, compiled and as plain Python."""

import functools
import math
import platform
import re

import mpmath
import numpy as np
import pytest

from subsampled_newton import LOGISTIC, _elementary
from subsampled_newton._jit import compiled
from subsampled_newton.kernels import fused, pointwise
from subsampled_newton.kernels.rows import ROW_MAJOR

LARGEST = 709.782712893384  # exp of the next number is inf
SMALLEST = -745.1332191019411  # exp of it is 5e-324


@functools.cache
def mapped(f):
    @compiled()
    def map_kernel(x, out):
        for i in range(x.size):
            out[i] = f(x[i])

    return map_kernel


def run_compiled(f, x):
    x = np.asarray(x, dtype=np.float64)
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        mapped(f)(x, out)
    return out


def run_plain(f, x):
    # NumPy numbers overflow with a warning where compiled code is silent.
    with np.errstate(all="ignore"):
        return np.array([f(float(v)) for v in x])


@pytest.fixture(params=[run_compiled, run_plain], ids=["compiled", "plain"])
def run(request):
    return request.param


def max_ulps(function, x, got):
    """Largest distance from the exact value in units of its last place."""
    worst = 0.0
    with mpmath.workdps(40):
        for v, g in zip(x, got, strict=True):
            exact = function(mpmath.mpf(float(v)))
            unit = math.ulp(float(exact))
            worst = max(worst, float(abs(mpmath.mpf(float(g)) - exact) / unit))
    return worst


def exp_points():
    rng = np.random.default_rng(0)
    ties = (np.arange(-1070, 1020, 5) + 0.5) * math.log(2.0)  # |r| is largest there
    return np.concatenate(
        [
            rng.uniform(-708.0, LARGEST, 1500),
            rng.uniform(-1.0, 1.0, 1500),
            np.nextafter(ties, -np.inf),
            ties,
            np.nextafter(ties, np.inf),
            rng.choice([-1.0, 1.0], 300) * 10.0 ** rng.uniform(-320, 0, 300),
        ]
    )


def test_exp_errs_by_about_one_ulp(run):
    x = exp_points()
    x = x[x > -708.0]
    assert max_ulps(mpmath.exp, x, run(_elementary.exp, x)) <= 1.05


def test_subnormal_results_of_exp_err_by_at_most_one_ulp(run):
    x = np.random.default_rng(1).uniform(SMALLEST, -708.3, 1000)
    got = run(_elementary.exp, x)
    assert np.all(got > 0.0)
    assert max_ulps(mpmath.exp, x, got) <= 1.0


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.0, 1.0),
        (-0.0, 1.0),
        (5e-324, 1.0),
        (math.inf, math.inf),
        (-math.inf, 0.0),
        (math.nan, math.nan),
        (LARGEST, 1.797693134862273e308),
        (math.nextafter(LARGEST, math.inf), math.inf),
        (710.0, math.inf),
        (711.0, math.inf),
        (1e308, math.inf),
        (SMALLEST, 5e-324),
        (-745.2, 0.0),
        (-746.0, 0.0),
        (-750.0, 0.0),
        (-751.0, 0.0),
        (-1e308, 0.0),
        (1.0, math.e),
    ],
)
def test_exp_at_special_points(run, x, expected):
    (got,) = run(_elementary.exp, [x])
    np.testing.assert_allclose(got, expected, rtol=3e-16, atol=0.0)


def test_exp_does_not_decrease(run):
    starts = np.concatenate([np.linspace(-744, 709, 100), [0.0, 0.34657359027997264]])
    x = (starts[:, None] + 5 * np.arange(20) * np.spacing(np.abs(starts[:, None]))).T
    got = run(_elementary.exp, x.ravel()).reshape(x.shape)
    assert np.all(np.diff(got, axis=0) >= -np.spacing(got[1:]))
    coarse = run(_elementary.exp, np.linspace(-750, 710, 2000))
    assert np.all(np.diff(coarse) >= 0.0)


def log1p_points():
    rng = np.random.default_rng(2)
    return np.concatenate(
        [
            np.linspace(0.0, 1.0, 1001),
            rng.uniform(0.0, 1.0, 1500),
            10.0 ** rng.uniform(-320, 0, 1500),
            [5e-324, 1e-310, 2.3e-308, np.nextafter(1.0, 0.0)],
        ]
    )


def test_log1p_errs_by_about_one_ulp(run):
    # 1.1 where products are fused with sums, 1.3 where they are not.
    x = log1p_points()
    assert max_ulps(mpmath.log1p, x, run(_elementary.log1p, x)) <= 1.3


def test_log1p_keeps_zero_and_nan(run):
    np.testing.assert_array_equal(
        run(_elementary.log1p, [0.0, 5e-324, math.nan]), [0.0, 5e-324, math.nan]
    )


def test_softplus_is_accurate_in_both_tails(run):
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-740, 740, 500), rng.uniform(-40, 40, 1000)])

    def softplus(v):
        return mpmath.log1p(mpmath.exp(v))

    # Two roundings of 1 ulp each, and one of the sum.
    assert max_ulps(softplus, x, run(_elementary.softplus, x)) <= 3.0


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.0, math.log(2.0)),
        (math.inf, math.inf),
        (-math.inf, 0.0),
        (math.nan, math.nan),
        (1e308, 1e308),
        (-1e308, 0.0),
    ],
)
def test_softplus_at_special_points(run, x, expected):
    (got,) = run(_elementary.softplus, [x])
    np.testing.assert_allclose(got, expected, rtol=3e-16, atol=0.0)


@pytest.fixture
def assembly(jit, monkeypatch):
    """Return the machine code of a kernel that is compiled afresh."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("looks for the names of x86 instructions")
    # Numba does not show code that was loaded from the disk.
    monkeypatch.setenv("SUBSAMPLED_NEWTON_CACHE", "0")

    def compile_and_inspect(factory, factory_arguments, arguments):
        kernel = factory.__wrapped__(*factory_arguments)
        kernel(*arguments)
        (text,) = kernel.inspect_asm().values()
        return text

    return compile_and_inspect


@pytest.mark.parametrize("name", ["value", "d1", "d2"])
def test_loop_over_the_logistic_loss_is_vector_code(assembly, name):
    v = np.ones(64)
    arguments = (v, v, v, 0, 64, np.empty(64))
    text = assembly(pointwise.weighted, (getattr(LOGISTIC, name),), arguments)
    # Every output divides by 1 + e or 2 + e, and nothing else in the kernel divides.
    assert re.search(r"\bv?divpd\b", text)
    assert re.search(r"\bv?(mulpd|fmadd\d+pd)\b", text)


def test_fused_logistic_kernel_is_vector_code(assembly):
    X, v = np.ones((8, 3)), np.ones(8)
    X.flags.writeable = False
    arguments = ((X,), 0, 8, v, v, np.ones(3), 0.0, np.empty(8), np.zeros(5))
    functions = (ROW_MAJOR, LOGISTIC.value, LOGISTIC.d1)
    text = assembly(fused.evaluate, functions, arguments)
    assert re.search(r"\bv?divpd\b", text)
