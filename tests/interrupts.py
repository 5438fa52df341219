"""Ctrl-C at random moments of every family of estimators.

``python -m tests.interrupts 1000`` prints the longest wait; the tests run a few.
"""

import math
import signal
import sys
import time
import warnings

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from threadpoolctl import threadpool_info

from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    NonlinearLeastSquares,
    Ridge,
    SigmoidLeastSquaresClassifier,
    _parallel,
)


def curve(p, x):
    return p[0] * math.exp(-p[1] * x[0]) + p[2] * x[1]


rng = np.random.default_rng(0)
X = rng.standard_normal((12_000, 20))
two = X[:, 0] + rng.logistic(size=len(X)) > 0.0
three = np.argmax(X[:, :3] + rng.gumbel(size=(len(X), 3)), axis=1)
real = X @ rng.standard_normal(20) + rng.standard_normal(len(X))
decay = 3.0 * np.exp(-0.5 * X[:, 0]) + X[:, 1] + rng.standard_normal(len(X))
FAMILIES = {
    "newton": (LogisticRegression(solver="newton"), X, two),
    "multilevel": (LogisticRegression(solver="multilevel-newton"), X, two),
    "lbfgs": (LogisticRegression(solver="lbfgs", C=np.inf), X, two),
    "saga": (LogisticRegression(solver="saga", max_iter=5), X, two),
    "sparse": (LogisticRegression(solver="newton-cg"), sp.csr_array(X * (X > 1)), two),
    "multinomial": (LogisticRegression(), X, three),
    "sigmoid": (SigmoidLeastSquaresClassifier(n_init=2), X, two),
    "ridge": (Ridge(solver="cholesky"), X, real),
    "qr": (LinearRegression(solver="qr"), X, real),
    "sketch": (Ridge(solver="sketch"), X, real),
    "several targets": (LinearRegression(), X, np.column_stack([real, decay])),
    "curve": (NonlinearLeastSquares(curve, [1.0, 1.0, 0.0]), X[:, :2], decay),
}


def stop(number, frame):
    raise KeyboardInterrupt


def settings():
    """What a fit changes for its time."""
    blas = [lib["num_threads"] for lib in threadpool_info()]
    return blas, _parallel.n_threads(), np.geterr()


def check(name, model, Z):
    """The object is fitted and usable, or not fitted."""
    fitted = getattr(model, "params_", getattr(model, "coef_", None))
    if fitted is None:
        return False
    assert np.all(np.isfinite(fitted)), name
    assert np.all(np.isfinite(model.predict(Z[:5]))), name
    values = model.history_["value"]
    assert len(values) == model.result_.n_iter + 1, name
    known = values[np.isfinite(values)]
    if name != "saga" and len(known):  # no descent method
        assert known[-1] <= known[0] + 1e-12, name
    return True


def run(name, times, rng):
    """Interrupt fits of a family; return interrupts, usable objects, longest wait."""
    model, Z, y = FAMILIES[name]
    model = clone(model)
    if "random_state" in model.get_params():
        model.set_params(random_state=0)
    clone(model).fit(Z, y)
    started = time.perf_counter()
    clean = clone(model).fit(Z, y)
    usual = time.perf_counter() - started
    before, interrupted, usable, longest = settings(), 0, 0, 0.0
    for _ in range(times):
        again = clone(model)
        delay = 1e-5 + rng.random() * usual
        try:
            started = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, delay)
            again.fit(Z, y)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        except KeyboardInterrupt:
            interrupted += 1
            longest = max(longest, time.perf_counter() - started - delay)
        usable += check(name, again, Z)
        assert settings() == before, (name, settings(), before)
    again = clone(model).fit(Z, y)
    for attribute in ("coef_", "params_"):
        np.testing.assert_array_equal(
            getattr(again, attribute, 0), getattr(clean, attribute, 0)
        )
    return interrupted, usable, longest


def main(times: int) -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, stop)
    rng, total, worst = np.random.default_rng(1), 0, 0.0
    for name in FAMILIES:
        interrupted, usable, longest = run(name, times, rng)
        print(
            f"{name}: {interrupted} of {times} interrupted, {usable} usable, "
            f"longest wait {1e3 * longest:.0f} ms",
            flush=True,
        )
        total, worst = total + interrupted, max(worst, longest)
    assert total > 0
    print(f"{total} interrupts, longest wait {1e3 * worst:.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]))
