"""Solvers and estimators with the rows on a GPU: what they find on the CPU."""

import threading
import warnings
import weakref

import numpy as np
import pytest
import scipy.sparse as sp
import solver_list
from where import require_device

require_device()

from numba import cuda  # noqa: E402

from subsampled_newton import (  # noqa: E402
    LOGISTIC,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SigmoidLeastSquaresClassifier,
    SoftmaxModel,
    SubsampledNewton,
    as_rows,
    device_memory_needed,
    memory_needed,
    minimize,
)
from subsampled_newton.backends import _cuda_device, _cuda_store  # noqa: E402
from subsampled_newton.backends import cuda as backend  # noqa: E402
from subsampled_newton.backends._cuda_tiles import SIMULATED  # noqa: E402
from subsampled_newton.estimators import _base  # noqa: E402
from subsampled_newton.solvers._result import Status  # noqa: E402

ROWWISE = ("sag", "saga", "svrg", "sdca", "sgd", "dual")
"""Beginnings of the names of solvers that read single rows."""
N, D = 32, 3


def problems(kind):
    """The same problem on the CPU and on the device."""
    X, y = solver_list.data(kind, n=N, d=D)
    return (
        solver_list.build(kind, X, y),
        solver_list.build(kind, as_rows(X, device="cuda"), y),
    )


class TestSolvers:
    @pytest.mark.parametrize("name", solver_list.SOLVERS)
    def test_every_solver_takes_the_steps_that_it_takes_on_the_cpu(self, name):
        entry = solver_list.SOLVERS[name]
        host, device = problems(entry.kinds[0])
        if name.startswith(ROWWISE):
            with pytest.raises(
                TypeError, match=r"needs them in the memory of the host"
            ):
                minimize(device, entry.solver, seed=0)
            return
        expected, got = (
            minimize(problem, entry.solver, tol=entry.tol, max_iter=2, seed=0)
            for problem in (host, device)
        )
        np.testing.assert_allclose(got.w, expected.w, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(got.value, expected.value, rtol=1e-10)
        assert (got.n_iter, got.status) == (expected.n_iter, expected.status)
        assert got.passes == expected.passes

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("newton", "softmax"),
            ("trust-region lanczos", "sigmoid"),
            ("lbfgs armijo", "poisson"),
        ],
    )
    def test_other_losses(self, name, kind):
        entry = solver_list.SOLVERS[name]
        expected, got = (
            minimize(problem, entry.solver, tol=1e-8, max_iter=3, seed=0)
            for problem in problems(kind)
        )
        np.testing.assert_allclose(got.w, expected.w, rtol=1e-10, atol=1e-10)

    def test_weighted_samples_of_classes(self):
        expected, got = (
            minimize(
                problem,
                SubsampledNewton(0.5, sampling="leverage", linear_solver="cg"),
                max_iter=1,
                seed=1,
            )
            for problem in problems("softmax")
        )
        np.testing.assert_allclose(got.w, expected.w, rtol=1e-10, atol=1e-10)

    def test_vectors_of_the_rows_stay_on_the_device(self, monkeypatch):
        _, device = problems("logistic")
        copied = []
        original = type(device.y).__array__

        def counted(self, *arguments, **options):
            copied.append(self.shape)
            return original(self, *arguments, **options)

        monkeypatch.setattr(type(device.y), "__array__", counted)
        result = minimize(device, SubsampledNewton(0.5), seed=0)
        assert result.converged
        assert copied == []

    def test_targets_and_weights_of_a_sample_follow_its_rows(self):
        X, y = solver_list.data("logistic", n=N, d=D)
        weights = np.arange(1.0, N + 1.0)
        rows = as_rows(X, device="cuda")
        problem = LinearModel(LOGISTIC, rows, y, sample_weight=weights)
        keep, importance = np.array([5, 1, 30]), np.array([0.5, 2.0, 0.5])
        w = np.array([0.3, -1.0, 2.0])
        margin = y[keep] * (X[keep] @ w)
        factors = weights[keep] / weights.mean() * importance
        expected = np.mean(factors * np.logaddexp(0.0, -margin))
        got = problem.restrict(keep, importance).value(w)
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def peak_on_the_device(problem, solver, monkeypatch):
    """Most bytes of arrays on the device at a time, beside those of before."""
    live = most = 0
    original = cuda.device_array

    def counted(shape, dtype=np.float64):
        nonlocal live, most
        array = original(shape, dtype)
        live += array.nbytes
        most = max(most, live)
        weakref.finalize(array._ary, released, array.nbytes)
        return array

    def released(nbytes):
        nonlocal live
        live -= nbytes

    with monkeypatch.context() as patch:
        patch.setattr(cuda, "device_array", counted)
        patch.setattr(_cuda_device, "KEPT", 0)
        patch.setattr(_cuda_device, "_local", threading.local())
        result = minimize(problem, solver, max_iter=2, seed=0)
    return most, result


@pytest.mark.skipif(not SIMULATED, reason="counts the arrays of the simulator")
class TestMemory:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("newton", "logistic"),
            ("lbfgs", "logistic"),
            ("uniform", "softmax"),
            ("leverage", "logistic"),
        ],
    )
    def test_peak_is_that_of_the_formula(self, name, kind, monkeypatch):
        X, y = solver_list.data(kind, n=90, d=2)
        solver = solver_list.SOLVERS[name].solver
        rows = as_rows(X, device="cuda")
        assert rows.device_bytes == X.nbytes
        problem = solver_list.build(kind, rows, y)
        measured = X.nbytes + 2 * 8 * 90  # the targets and the weights
        most, result = peak_on_the_device(problem, solver, monkeypatch)
        measured += most
        formula = device_memory_needed(problem, solver)
        assert result.device_bytes == formula
        assert formula / 3 <= measured <= formula

    def test_host_and_device_are_counted_apart(self, rng):
        X, y = solver_list.data("logistic", n=400, d=3)
        host = solver_list.build("logistic", X, y)
        device = solver_list.build("logistic", as_rows(X, device="cuda"), y)
        solver = SubsampledNewton(1.0)
        assert device_memory_needed(host, solver) == 0
        apart = memory_needed(host, solver) - memory_needed(device, solver)
        assert apart == 8 * 400 * 4  # predictions and the like

    def test_rows_that_are_streamed_take_two_buffers(self, rng, monkeypatch):
        monkeypatch.setattr(_cuda_store, "free_memory", lambda *needed: 8 * 500)
        X = sp.csr_array(rng.standard_normal((400, 3)))
        rows = as_rows(X, device="cuda")
        assert rows.device_bytes == 2 * 500
        assert rows.row_bytes == 3 * (8 + 4)


def binary(rng, n=N, dtype=np.float64):
    X = rng.standard_normal((n, D)).astype(dtype) * np.array([1, 30, 1], dtype)
    X += np.array([0, 500, 0], dtype)
    margin = X[:, 0] - X[:, 1] / 30 + 500 / 30 + rng.logistic(size=n)
    return X, np.where(margin > 0, "yes", "no")


class TestEstimators:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
    def test_logistic_regression(self, dtype, sparse, rng):
        X, y = binary(rng, dtype=dtype)
        X = sp.csr_array(X) if sparse else X
        weight = rng.random(N)
        expected = LogisticRegression().fit(X, y, weight)
        got = LogisticRegression(device="cuda").fit(X, y, weight)
        tol = 1e-10 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(got.coef_, expected.coef_, rtol=tol)
        np.testing.assert_allclose(got.intercept_, expected.intercept_, rtol=tol)
        assert isinstance(got.coef_, np.ndarray)
        assert got.result_.status is Status.CONVERGED
        np.testing.assert_array_equal(got.predict(X), expected.predict(X))

    def test_classes(self, rng):
        X, _ = binary(rng)
        y = rng.integers(3, size=N)
        expected = LogisticRegression(C=0.1).fit(X, y)
        got = LogisticRegression(C=0.1, device="cuda").fit(X, y)
        np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            got.predict_proba(cuda.to_device(X)), expected.predict_proba(X), rtol=1e-9
        )

    def test_nonlinear_least_squares_of_a_sigmoid(self, rng):
        X, y = binary(rng)
        expected = SigmoidLeastSquaresClassifier().fit(X, y)
        got = SigmoidLeastSquaresClassifier(device="cuda").fit(X, y)
        np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-8)
        assert got.result_.certificate.ok

    @pytest.mark.parametrize("solver", ["auto", "qr", "sketch"])
    def test_ridge_and_targets(self, solver, rng):
        X, _ = binary(rng)
        y = X @ rng.standard_normal((D, 2)) + rng.standard_normal((N, 2))
        expected = Ridge(solver=solver, random_state=0).fit(X, y)
        got = Ridge(solver=solver, random_state=0, device="cuda").fit(X, y)
        np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(
            got.predict(cuda.to_device(X)), expected.predict(X), rtol=1e-8
        )

    def test_arrays_on_the_device_in_and_numpy_out(self, rng):
        X, _ = binary(rng)
        y = (rng.random(N) < 0.5).astype(float)
        weight = rng.random(N)
        on_device = [cuda.to_device(a) for a in (X, y, weight)]
        expected = LogisticRegression().fit(X, y, weight)
        got = LogisticRegression().fit(*on_device)
        assert got.n_features_in_ == D
        np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-9)
        for method in ("decision_function", "predict", "predict_proba"):
            answer = getattr(got, method)(on_device[0])
            assert isinstance(answer, np.ndarray)
            np.testing.assert_allclose(answer, getattr(expected, method)(X), rtol=1e-9)
        one = Ridge().fit(X, X @ np.ones(D))
        prediction = one.predict(on_device[0])
        assert prediction.shape == (N,)
        np.testing.assert_allclose(prediction, one.predict(X), rtol=1e-9)
        # Which wants rows of the host.
        free = LinearRegression().fit(X, X @ np.ones(D) + y)
        np.testing.assert_allclose(
            free.std_errors(on_device[0], X @ np.ones(D) + y),
            free.std_errors(X, X @ np.ones(D) + y),
        )

    def test_rows_on_the_device_are_not_copied(self, rng, monkeypatch):
        X, y = binary(rng)
        expected = LogisticRegression().fit(X, y).coef_
        X = cuda.to_device(X)
        for name in ("_placed", "_to_host", "_contiguous"):
            original = getattr(backend, name)

            def refused(array, *rest, original=original):
                assert array.shape[0] < N
                return original(array, *rest)

            monkeypatch.setattr(backend, name, refused)
        np.testing.assert_allclose(LogisticRegression().fit(X, y).coef_, expected)

    def test_separable_classes_are_named(self, rng):
        X = rng.standard_normal((12, 2))
        model = LogisticRegression(C=np.inf, device="cuda", max_iter=30)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, X[:, 0] > 0)
        assert model.result_.status is Status.SEPARABLE
        assert any("SEPARABLE" in str(w.message) for w in caught)


class TestBadInput:
    def test_not_finite_on_the_device(self, rng):
        X, y = binary(rng)
        X[7, 1] = np.nan
        with pytest.raises(ValueError, match="X contains NaN"):
            LogisticRegression(device="cuda").fit(X, y)
        with pytest.raises(ValueError, match="X contains NaN"):
            LogisticRegression().fit(cuda.to_device(X), y)

    def test_not_finite_in_a_prediction(self, rng):
        X, y = binary(rng)
        model = LogisticRegression().fit(X, y)
        X[7, 1] = np.inf
        with pytest.raises(ValueError, match="X contains infinity"):
            model.predict(cuda.to_device(X))

    def test_other_shapes_are_refused_by_name(self, rng):
        X, y = binary(rng)
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
            LogisticRegression().fit(cuda.to_device(X), y[1:])
        model = LogisticRegression().fit(X, y)
        with pytest.raises(ValueError, match=r"X has 2 features, but .* 3 features"):
            model.predict(cuda.to_device(np.ascontiguousarray(X[:, :2])))
        with pytest.raises(TypeError, match="float32 or float64"):
            LogisticRegression().fit(cuda.to_device(X.astype(np.int32)), y)

    def test_a_solver_by_rows_is_refused_with_another(self, rng):
        X, y = binary(rng)
        with pytest.raises(TypeError, match=r"use device='cpu', or a solver"):
            LogisticRegression(solver="saga", device="cuda").fit(X, y)

    def test_softmax_targets_and_weights_are_checked_on_the_host(self, rng):
        rows = as_rows(binary(rng)[0], device="cuda")
        with pytest.raises(ValueError, match="y must hold -1 or"):
            LinearModel(LOGISTIC, rows, np.zeros(N))
        with pytest.raises(ValueError, match="sample_weight must not be all zero"):
            SoftmaxModel(rows, np.arange(N) % 3, sample_weight=np.zeros(N))


def test_the_default_solver_does_not_sample_on_a_device(rng):
    X = rng.standard_normal((_base.SMALL + 1, 1))
    y = np.sign(rng.standard_normal(len(X)))
    chosen = {
        type(rows).__name__: type(
            _base._choose(LinearModel(LOGISTIC, rows, y))
        ).__name__
        for rows in (as_rows(X), as_rows(X, device="cuda"))
    }
    assert chosen == {"DenseRows": "MultilevelNewton", "CudaRows": "SubsampledNewton"}
