"""Whatever fails, and whenever: a clean exception, and an object that can be used."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError

from subsampled_newton import (
    LOGISTIC,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    MultilevelNewton,
    Ridge,
    SubsampledNewton,
    _parallel,
    minimize,
)
from subsampled_newton._interrupts import as_interrupt

PACKAGE = Path(__file__).resolve().parents[1] / "subsampled_newton"
X, y = make_classification(300, 5, flip_y=0.2, random_state=0)
MODELS = {
    "logistic": LogisticRegression(),
    "sampled": LogisticRegression(solver=SubsampledNewton(0.2), random_state=0),
    "multilevel": LogisticRegression(solver=MultilevelNewton(), random_state=0),
    "lbfgs": LogisticRegression(solver="lbfgs"),
    "saga": LogisticRegression(solver="saga", random_state=0, max_iter=2000),
    "sparse": LogisticRegression(),
    "unpenalised": LogisticRegression(C=np.inf),
    "ridge": Ridge(),
    "least squares": LinearRegression(),
}
CLASSIFIERS = [name for name, model in MODELS.items() if hasattr(model, "C")]


class Fault:
    """Raises an error at the k-th call."""

    def __init__(self, k, error):
        self.k, self.error, self.calls = k, error, 0

    def __call__(self):
        self.calls += 1
        if self.calls == self.k:
            raise self.error


def failing_blocks(monkeypatch, fault):
    """Make the k-th block of rows fail as it is read."""
    run = _parallel.run

    def faulty(block, n_blocks):
        def read(k):
            fault()
            return block(k)

        return run(read, n_blocks)

    monkeypatch.setattr(_parallel, "run", faulty)


ALLOCATIONS = {
    *("append", "arange", "array", "ascontiguousarray", "atleast_2d", "column_stack"),
    *("concatenate", "diag", "empty", "empty_like", "eye", "full", "full_like"),
    *("hstack", "ones", "repeat", "stack", "tile", "vstack", "where", "zeros"),
    *("zeros_like", "outer", "sort", "take", "bincount"),
}


class Allocating:
    """NumPy, in which the k-th array cannot be made."""

    def __init__(self, fault):
        self.fault = fault

    def __getattr__(self, name):
        value = getattr(np, name)
        if name not in ALLOCATIONS:
            return value

        def allocate(*args, **kwargs):
            self.fault()
            return value(*args, **kwargs)

        return allocate


COMPILED = ("kernels", "losses", "sample_losses", "_dual", "_dual_rules", "_jit")
"""Modules whose NumPy is that of Numba."""


def failing_allocations(monkeypatch, fault):
    for name, module in [*sys.modules.items()]:
        package, _, rest = name.partition(".")
        if package == "subsampled_newton" and rest.partition(".")[0] not in COMPILED:
            monkeypatch.setattr(module, "np", Allocating(fault), raising=False)


WAYS = {
    "block read": (failing_blocks, OSError("disk")),
    "allocation": (failing_allocations, MemoryError("no memory")),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_failure_of_any_call_is_raised_and_the_next_fit_is_right(
    name, way, monkeypatch
):
    inject, error = WAYS[way]
    rows = sp.csr_array(X) if name == "sparse" else X
    model = MODELS[name]
    clean = clone(model).fit(rows, y)
    k, failures = 1, 0
    while True:
        again = clone(model).fit(rows, y) if k % 10 == 1 else clone(clean)
        fault = Fault(k, error)
        with monkeypatch.context() as patch:
            inject(patch, fault)
            try:
                again.fit(rows, y)
            except type(error):
                failures += 1
            else:
                assert fault.calls < k  # nothing failed, and nothing was swallowed
                break
        # An answer that is right, or none.
        try:
            forecasts = again.predict(rows)
        except NotFittedError:
            pass
        else:
            if again.result_.converged:
                np.testing.assert_allclose(forecasts, clean.predict(rows), atol=1e-9)
        np.testing.assert_array_equal(again.fit(rows, y).coef_, clean.coef_)
        k += 1 if k < 20 else k // 3  # all of the first calls, then ever fewer
    assert failures >= 5


class ThreadedFault(Fault):
    """Raises at the k-th call, whatever thread makes it."""

    def __init__(self, k, error):
        super().__init__(k, error)
        self.lock, self.thread = threading.Lock(), None

    def __call__(self):
        with self.lock:
            if self.calls + 1 == self.k:
                self.thread = threading.current_thread()
            super().__call__()


def test_failure_in_any_thread_is_raised_and_the_next_fit_is_right(monkeypatch):
    Z, labels = make_classification(60_000, 6, flip_y=0.2, random_state=0)
    model = LogisticRegression(n_jobs=3, random_state=0)
    clean = clone(model).fit(Z, labels)
    others, k = 0, 1
    while True:
        with monkeypatch.context() as patch:
            failing_blocks(patch, fault := ThreadedFault(k, OSError("disk")))
            try:
                model.fit(Z, labels)
            except OSError:
                others += fault.thread is not threading.main_thread()
            else:
                assert fault.calls < k
                break
        k += 1 if k < 40 else k // 4
    assert k > 40
    assert others > 0
    np.testing.assert_array_equal(model.fit(Z, labels).coef_, clean.coef_)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_interrupt_keeps_the_last_iterate(name, monkeypatch):
    model = MODELS[name]
    clean = clone(model).fit(X, y)
    start = clean.history_["value"][0]
    kept, k = 0, 1
    while True:
        model = clone(clean)
        with monkeypatch.context() as patch:
            failing_blocks(patch, fault := Fault(k, KeyboardInterrupt()))
            try:
                model.fit(X, y)
            except KeyboardInterrupt:
                pass
            else:
                assert fault.calls < k
                break
        if hasattr(model, "coef_"):
            kept += 1
            if model.result_.status.name == "INTERRUPTED":
                assert not model.result_.converged
            assert model.n_iter_[0] == model.result_.n_iter
            assert len(model.history_["value"]) == model.result_.n_iter + 1
            assert model.predict(X).shape == y.shape
            z = model.decision_function(X)
            loss = np.mean(np.logaddexp(0.0, np.where(y, -z, z)))
            assert loss <= start + 1e-12 or name == "saga"
        else:
            with pytest.raises(NotFittedError):
                model.predict(X)
        np.testing.assert_array_equal(model.fit(X, y).coef_, clean.coef_)
        k += 1 if k < 20 else k // 3
    assert kept >= 3


@pytest.mark.parametrize("solver", [SubsampledNewton(0.2), MultilevelNewton()])
def test_interrupted_run_goes_on_bit_for_bit(solver, monkeypatch):
    def problem():
        return LinearModel(LOGISTIC, X, 2.0 * y - 1.0, l2=1e-3)

    whole = minimize(problem(), solver, seed=0)
    resumed = 0
    for k in range(1, 40):
        with monkeypatch.context() as patch:
            failing_blocks(patch, Fault(k, KeyboardInterrupt()))
            try:
                minimize(problem(), solver, seed=0)
                break
            except KeyboardInterrupt as error:
                last = getattr(error, "result", None)
        if last is None:
            continue
        resumed += 1
        assert last.status.name == "INTERRUPTED"
        other = minimize(problem(), solver, resume=last)
        np.testing.assert_array_equal(other.w, whole.w)
        np.testing.assert_array_equal(other.trace.value, whole.trace.value)
        assert (other.props, other.passes) == (whole.props, whole.passes)
    assert resumed >= 3


def test_failed_fit_leaves_no_mixture_of_two_models():
    model = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X, np.where(y, "yes", "no"), sample_weight=-np.ones(300))
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert set(model.fit(X, np.where(y, "yes", "no")).predict(X)) == {"yes", "no"}


SIGNALS = """
import signal, time
import numpy as np
from sklearn.base import clone
from sklearn.datasets import make_classification
from subsampled_newton import LogisticRegression

rng = np.random.default_rng(0)
Z, labels = make_classification(20_000, 20, flip_y=0.2, random_state=0)
model = LogisticRegression(solver="lbfgs")
clone(model).fit(Z, labels)
started = time.perf_counter()
clean = clone(model).fit(Z, labels)
usual = time.perf_counter() - started

def stop(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, stop)
interrupted = 0
for _ in range(20):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4 + rng.random() * usual)
        model.fit(Z, labels)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    except KeyboardInterrupt:
        interrupted += 1
    if hasattr(model, "coef_"):
        assert np.all(np.isfinite(model.coef_))
        assert model.predict(Z[:5]).shape == (5,)
assert interrupted > 0
np.testing.assert_array_equal(model.fit(Z, labels).coef_, clean.coef_)
"""


def test_signal_at_random_moments_leaves_a_usable_object():
    if not hasattr(signal, "setitimer"):
        pytest.skip("no interval timer")
    # In a process of its own: a signal may hit what a test runner has installed.
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


OFFLINE = """
import sys

def hook(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(f"{event} {arguments}")

sys.addaudithook(hook)
import os, tempfile
import numpy as np
import subsampled_newton as sn
from datasets.nist import load_nist

X = np.random.default_rng(0).standard_normal((50, 3))
path = os.path.join(tempfile.mkdtemp(), "m")
for model in (sn.LogisticRegression(solver="saga", random_state=0), sn.Ridge()):
    model.fit(X, X[:, 0] > 0).predict(X)
    model.save(path)
    sn.load(path).predict(X)
load_nist("Misra1a")
print("done")
"""


def test_import_fit_and_predict_open_no_socket():
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=PACKAGE.parent,
    )
    assert done.stdout == "done\n", done.stderr


def test_tests_cannot_reach_the_network():
    with socket.socket() as outside, pytest.raises(AssertionError, match="the network"):
        outside.connect(("192.0.2.1", 80))
    with pytest.raises(AssertionError, match="the network"):
        socket.getaddrinfo("example.org", 80)


# Files of the cache of compiled code. In processes of their own, with a hook that sees
# every access: a hook can never be removed.

CACHE = f"""
import json, os, random, resource, signal, sys, time, types
package = types.ModuleType("subsampled_newton")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["subsampled_newton"] = package
from pathlib import Path
from subsampled_newton._jit import compiled

folder = Path(os.environ["NUMBA_CACHE_DIR"])

def made(factor):
    @compiled()
    def kernel(x):
        return factor * x
    return kernel

def right(factor):
    kernel = made(factor)
    return kernel(2.0) == 2.0 * factor, sum(kernel.stats.cache_hits.values())

def files(pattern):
    return sorted(str(path) for path in folder.rglob(pattern))
"""


def in_cache(code, folder, tmp_path_factory):
    """What a process printed that compiles kernels with a cache in a folder."""
    script = tmp_path_factory.mktemp("code") / "child.py"  # Numba wants a file
    script.write_text(CACHE + code)
    env = {k: v for k, v in os.environ.items() if not k.startswith("SUBSAMPLED")}
    env.pop("NUMBA_DISABLE_JIT", None)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=200,
        env=env | {"NUMBA_CACHE_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FAILING = """
def hook(event, arguments):
    global calls
    if armed and any(str(folder) in str(a) for a in arguments):
        calls += 1
        if calls == armed:
            names.append(event)
            raise kind(5, "disk", str(arguments[0]))

armed, calls, names, wrong = 0, 0, [], []
sys.addaudithook(hook)
right(0.5)
for kind in (OSError, PermissionError):
    for filled in (False, True):
        for k in range(1, 100):
            if not filled:
                for path in folder.rglob("*.nbc"):
                    path.unlink()
            calls, armed = 0, k
            good, _ = right(1.5)
            armed, missed = 0, calls < k
            again, _ = right(1.5)
            third, hits = right(1.5)
            if not (good and again and third and hits) or files("*.tmp"):
                wrong.append([filled, k, good, again, hits, files("*.tmp")])
            if missed:
                break
print(json.dumps([wrong, sorted(set(names)), len(names)]))
"""


def test_failure_of_any_access_to_the_cache_changes_nothing(
    tmp_path, tmp_path_factory, jit
):
    wrong, names, faults = in_cache(FAILING, tmp_path, tmp_path_factory)
    assert wrong == []
    assert {"open", "os.rename"} <= set(names)
    assert faults >= 12


FULL = """
import shutil
results = [right(1.5), right(1.5)]
for path in folder.rglob("*.nbc"):
    path.unlink()
if LIMIT:  # a write ends after some bytes
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
else:
    with open(folder / "filler", "wb") as filler:
        filler.write(bytes(shutil.disk_usage(folder).free - 4096))
results += [right(1.5), right(1.5)]
print(json.dumps([results, files("*.nbc"), files("*.tmp")]))
"""


@pytest.mark.parametrize("limit", [True, False])
def test_full_disk_costs_the_cache_and_nothing_else(
    limit, tmp_path, tmp_path_factory, request, jit
):
    folder = tmp_path if limit else request.getfixturevalue("small_disk")
    found = in_cache(f"LIMIT = {limit}\n" + FULL, folder, tmp_path_factory)
    assert found == [[[True, hits] for hits in (0, 1, 0, 0)], [], []]


KILLED = """
rng = random.Random(0)
kernels = [made(float(k)) for k in range(3)]
for kernel in kernels:
    kernel(2.0)
for attempt in range(30):
    child = os.fork()
    if child == 0:
        while True:
            for kernel in kernels:
                signature = kernel.signatures[0]
                kernel._cache.save_overload(signature, kernel.overloads[signature])
    time.sleep(0.01 + 0.03 * rng.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for k in range(3):
        assert right(float(k)) == (True, 1), attempt
left = files("*.tmp")
(folder / "kernel.tmp").write_text("")
(Path(files("*.nbc")[0]).parent / "__main__.kernel.0.tmp").write_text("")
assert right(7.0)[0]
young = files("*.tmp")
for path in young:
    os.utime(path, (1.0, 1.0))
assert right(8.0)[0]
print(json.dumps([len(left), len(young), files("*.tmp")]))
"""


def test_killed_processes_leave_a_cache_that_is_right(tmp_path, tmp_path_factory, jit):
    if not hasattr(os, "fork"):
        pytest.skip("no fork")
    left, young, old = in_cache(KILLED, tmp_path, tmp_path_factory)
    assert young == left + 2  # somebody may be writing these
    assert old == [str(tmp_path / "kernel.tmp")]  # the others were abandoned


def test_interrupt_that_numba_hides_comes_as_an_interrupt():
    hidden, other = SystemError("returned a result"), SystemError("of another kind")
    hidden.__cause__ = SystemError("with an exception set")
    hidden.__cause__.__context__ = KeyboardInterrupt()
    assert isinstance(as_interrupt(hidden), KeyboardInterrupt)
    assert as_interrupt(other) is other
