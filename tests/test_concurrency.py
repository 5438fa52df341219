"""Forks, process pools, many threads at once: right answers, and nothing that hangs."""

import concurrent.futures
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref

import interrupts
import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from test_parallel import blas_threads, child_environment, three_blas_threads

from subsampled_newton import (
    SQUARED,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SubsampledNewton,
    _parallel,
    minimize,
)
from subsampled_newton._interrupts import quiet

__all__ = ["three_blas_threads"]  # a fixture

rng = np.random.default_rng(0)
X = rng.standard_normal((9000, 30))
two = X[:, 0] + rng.logistic(size=len(X)) > 0.0
three = np.argmax(X[:, :3] + rng.gumbel(size=(len(X), 3)), axis=1)
real = X @ rng.standard_normal(30) + rng.standard_normal(len(X))
JOBS = [
    (LogisticRegression(solver="newton"), X, two),
    (LogisticRegression(alpha=1e-3), X, three),
    (LogisticRegression(), sp.csr_array(np.where(X > 1.0, X, 0.0)), two),
    (LogisticRegression(solver=SubsampledNewton(0.2), random_state=3), X, two),
    (LogisticRegression(solver="lbfgs"), X.astype(np.float32), two),
    (LogisticRegression(solver="saga", max_iter=300, random_state=1), X, two),
    (Ridge(), X, real),
    (LinearRegression(solver="qr"), X, real),
    (Ridge(solver="sketch", random_state=2), X, real),
]


@pytest.fixture(scope="module")
def alone():
    """Coefficients of the fits one after the other, on one thread."""
    return [clone(m).set_params(n_jobs=1).fit(Z, y).coef_ for m, Z, y in JOBS]


def test_twenty_threads_fit_at_once(alone, three_blas_threads):
    """Different problems, the same classes, different numbers of threads."""
    start = threading.Barrier(20, timeout=60)
    threads_before, filters = _parallel.n_threads(), warnings.filters[:]

    def work(k):
        model, Z, y = JOBS[k % len(JOBS)]
        model = clone(model).set_params(n_jobs=(1, 2, 3, None)[k % 4])
        start.wait()
        first = model.fit(Z, y).coef_
        second = model.fit(Z, y).coef_
        return first, second, _parallel.n_threads()

    pool = concurrent.futures.ThreadPoolExecutor(20)
    futures = [pool.submit(work, k) for k in range(20)]
    try:
        found = [future.result(timeout=120) for future in futures]
    finally:
        pool.shutdown(wait=False)
    for k, (first, second, threads) in enumerate(found):
        np.testing.assert_array_equal(first, alone[k % len(JOBS)])
        np.testing.assert_array_equal(second, alone[k % len(JOBS)])
        assert threads == threads_before
    assert blas_threads() == three_blas_threads
    assert warnings.filters == filters
    assert _parallel.n_threads() == threads_before


def forked(work):
    """Exit code of a child that calls ``work``, which tells whether all is right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of forks with threads
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 3)
        finally:
            os._exit(4)
    for _ in range(1200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "the child hangs"


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fork_after_fit(alone, n_jobs, three_blas_threads):
    models = [clone(m).set_params(n_jobs=n_jobs).fit(Z, y) for m, Z, y in JOBS]

    def work():
        for model, (_, Z, y), coef in zip(models, JOBS, alone, strict=True):
            if not np.array_equal(model.fit(Z, y).coef_, coef):
                return False
        return blas_threads() == three_blas_threads

    assert forked(work) == 0
    for model, (_, Z, y), coef in zip(models, JOBS, alone, strict=True):
        np.testing.assert_array_equal(model.fit(Z, y).coef_, coef)


@needs_fork
def test_fork_while_others_fit(alone, three_blas_threads):
    """The child has the BLAS threads of its own, not the limit of the others."""
    model, Z, y = JOBS[0]
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with _parallel.one_blas_thread():
            inside.set()
            leave.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert inside.wait(30)
    try:
        assert set(blas_threads().values()) == {1}
        assert (
            forked(
                lambda: (
                    blas_threads() == three_blas_threads
                    and np.array_equal(clone(model).fit(Z, y).coef_, alone[0])
                    and blas_threads() == three_blas_threads
                )
            )
            == 0
        )
    finally:
        leave.set()
        other.join(30)
    assert blas_threads() == three_blas_threads


@needs_fork
def test_fork_inside_a_fit(three_blas_threads):
    """The child leaves the limit that it has entered."""

    def child():
        with _parallel.one_blas_thread():
            pass  # the limit of the parent's fit goes on
        return set(blas_threads().values()) == {1}

    with _parallel.one_blas_thread():
        assert forked(child) == 0
    assert blas_threads() == three_blas_threads


def test_blas_setting_is_restored_when_an_interrupt_hits_the_bookkeeping(
    three_blas_threads, monkeypatch
):
    blas = _parallel._blas
    for name in ("enter", "leave", "_set"):
        method, calls = getattr(blas, name), []

        def interrupted(*args, first=name == "leave", method=method, calls=calls):
            calls.append(args)
            if len(calls) == 1 and first:
                raise KeyboardInterrupt
            method(*args)
            if len(calls) == 1:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(blas, name, interrupted)
            with pytest.raises(KeyboardInterrupt), _parallel.one_blas_thread():
                pass
        assert not blas.users
        assert blas_threads() == three_blas_threads


def test_interrupt_inside_numba_comes_as_an_interrupt(monkeypatch):
    def kernel(k):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    with pytest.raises(KeyboardInterrupt):
        _parallel.run(kernel, 1)
    with pytest.raises(SystemError, match="bad call"):
        _parallel.run(lambda k: (_ for _ in ()).throw(SystemError("bad call")), 1)
    solver = SubsampledNewton(1.0)
    monkeypatch.setattr(SubsampledNewton, "step", lambda *args: kernel(0))
    problem = LinearModel(SQUARED, X, real)
    with pytest.raises(KeyboardInterrupt) as caught:
        minimize(problem, solver)
    assert caught.value.result.n_iter == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_of_an_interrupted_run_stays_in_memory(threads, monkeypatch):
    # Nor generators of contexts that would restore settings when they are collected.
    problem = LinearModel(SQUARED, X, real)

    def step(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(SubsampledNewton, "step", step)
    gc.collect()
    gc.disable()
    try:
        with _parallel.use_threads(threads):
            try:
                minimize(problem, SubsampledNewton(1.0))
            except KeyboardInterrupt:
                problem = weakref.ref(problem)
            assert problem() is None
            block = Block()
            try:
                _parallel.run(block, 4)
            except KeyboardInterrupt:
                block = weakref.ref(block)
            assert block() is None or threads > 1  # helpers keep it for a moment
    finally:
        gc.enable()


def test_block_that_is_left_late_changes_nothing():
    before = np.geterr()
    with quiet(over="ignore"):
        inner = quiet(invalid="ignore")
        inner.__enter__()
    assert np.geterr() == before
    del inner  # as when the frames of a traceback are collected
    assert np.geterr() == before


class Block:
    def __call__(self, k):
        raise KeyboardInterrupt


def test_settings_of_numpy_are_restored_when_an_interrupt_comes_in_between():
    before, set_errors = np.geterr(), np.seterr
    for moment in (1, 2):
        calls = []

        def interrupted(moment=moment, calls=calls, **kinds):
            calls.append(kinds)
            if len(calls) == moment == 2:
                raise KeyboardInterrupt
            set_errors(**kinds)
            if len(calls) == moment:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np, "seterr", interrupted)
            with pytest.raises(KeyboardInterrupt), quiet(all="ignore"):
                pass
        assert np.geterr() == before


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_cross_validation_in_joblib(backend):
    model, Z, y = LogisticRegression(n_jobs=2), X[:3000, :5], two[:3000]
    expected = cross_val_score(model, Z, y, cv=4)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(model, Z, y, cv=4), expected)
        grid = {"C": [1e-3, 1.0], "solver": ["newton", "lbfgs"]}
        search = GridSearchCV(model, grid, cv=2).fit(Z, y)
    serial = GridSearchCV(model, grid, cv=2, n_jobs=1).fit(Z, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(
        search.best_estimator_.coef_, serial.best_estimator_.coef_
    )


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
def test_interrupts_at_random_moments_of_every_family():
    # In a process of its own: a signal may hit what a test runner has installed.
    done = subprocess.run(
        [sys.executable, interrupts.__file__, "9"],
        capture_output=True,
        text=True,
        timeout=240,
        env=child_environment(),
    )
    assert done.returncode == 0, done.stderr
    total = int(done.stdout.splitlines()[-1].split()[0])
    assert total >= 60, done.stdout  # of 108: some fits end before


def test_interrupted_least_squares_keeps_the_iterate_or_nothing(monkeypatch):
    def interrupting(k):
        run, calls = _parallel.run, []

        def faulty(block, n_blocks):
            calls.append(n_blocks)
            if len(calls) == k:
                raise KeyboardInterrupt
            return run(block, n_blocks)

        return faulty

    kept = 0
    for y in (real, np.column_stack([real, two])):
        for k in range(1, 40):
            model = Ridge(solver="cholesky").fit(X[:, ::-1], y)  # other data
            with monkeypatch.context() as patch:
                patch.setattr(_parallel, "run", interrupting(k))
                try:
                    model.fit(X, y)
                    break
                except KeyboardInterrupt:
                    pass
            if hasattr(model, "coef_"):
                kept += 1
                loss = np.mean((y - model.predict(X)) ** 2)
                assert loss <= np.mean((y - y.mean(axis=0)) ** 2) * (1 + 1e-12)
                assert model.history_["value"].size == model.result_.n_iter + 1
        assert k > 3
    assert kept >= 2
