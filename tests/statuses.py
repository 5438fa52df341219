"""Random runs of every solver: none may be called converged with much left to gain.

``python tests/statuses.py --cases 2000``. A case is a solver of `solver_list`, one of
the kinds of problems it is for, columns of sizes from 1e-9 to 1e9, a start at zero,
near or far out, a ridge or none, and now and then a step, a radius or a sigma that is
far too small or too large. Formulas, minimizers and derivatives are those of this file.

A converged run may leave a millionth of the decrease since w = 0 (convex objectives),
or a gradient of 1e-6 for columns of size one (the sigmoid), or 1e-6 for the cosine of
the angle between the residuals and the tangent plane (the curve). Differences below the
rounding of F are none.
"""

import argparse
import sys
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from solver_list import SOLVERS, build, data

from subsampled_newton import minimize

GAP = 1e-6
GRADIENT = 1e-6
ROUNDING = 1e-13
NAMES = tuple(SOLVERS)


class Case(NamedTuple):
    """One run."""

    name: str
    kind: str
    solver: object
    X: np.ndarray
    sizes: np.ndarray
    y: np.ndarray
    l2: float
    w0: np.ndarray
    tol: float
    max_iter: int

    def __repr__(self):
        return (
            f"{self.name} on {self.kind} {self.X.shape}, {self.solver}, sizes "
            f"{self.sizes}, l2={self.l2}, tol={self.tol}, w0={self.w0}"
        )


def random_case(k, seed=0):
    """Case k: the solvers in turn, the rest at random."""
    rng = np.random.default_rng([seed, k])
    name = NAMES[k % len(NAMES)]
    entry = SOLVERS[name]
    kind = str(rng.choice(entry.kinds))
    n, d = int(rng.integers(40, 400)), int(rng.integers(2, 6))
    X, y = data(kind, n, d, int(rng.integers(1000)))
    sizes = np.ones(d)
    if kind != "nonlinear" and rng.random() < 0.6:
        sizes = 10.0 ** (rng.uniform(-9, 9, d) * rng.choice([0, 1], d))
    l2 = float(rng.choice([0.0, 1e-8, 1e-3, 1.0]))
    if "strongly" in name or name in ("heavy-ball", "sdca", "dual start"):
        l2 = l2 or 1e-3  # what these solvers need
    n_params = {"softmax": 3 * d, "nonlinear": 3}.get(kind, d)
    reach = float(rng.choice([0.0, 1.0, 30.0, 1e4]))
    w0 = reach * rng.standard_normal(n_params)
    if kind != "nonlinear":
        w0 /= np.tile(sizes, n_params // d)
    solver = entry.solver
    if rng.random() < 0.3:
        solver = _extreme(solver, rng)
    tol = float(rng.choice([1e-8, 1e-8, 1e-11, 0.0]))
    max_iter = int(rng.choice([20, 200]))
    return Case(name, kind, solver, X, sizes, y, l2, w0, tol, max_iter)


def _extreme(solver, rng):
    """The solver with a first size or a step that nobody would choose."""
    value = float(10.0 ** rng.uniform(-25, 12))
    for parameter in ("radius", "sigma"):
        if hasattr(solver, parameter):
            return replace(solver, **{parameter: value})
    if hasattr(solver, "step_size"):
        return replace(solver, step_size=value)
    return solver


# The formulas, for columns of size one.


def _softmax(X, y, W):
    Z = X @ W
    Z = Z - Z.max(axis=1, keepdims=True)
    P = np.exp(Z)
    total = P.sum(axis=1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) - Z[np.arange(len(y)), y])
    return value, P / total


def derivatives(kind, X, y, w):
    """Mean loss, gradient and Hessian of the convex kinds and of the sigmoid."""
    n = len(X)
    if kind == "softmax":
        d = X.shape[1]
        value, P = _softmax(X, y, w.reshape(4, d).T)
        gradient = ((P - np.eye(4)[y]).T @ X / n).ravel()
        H = np.zeros((4, d, 4, d))
        for a in range(4):
            for b in range(4):
                h = P[:, a] * ((a == b) - P[:, b]) / n
                H[a, :, b] = X.T @ (h[:, None] * X)
        return value, gradient, H.reshape(4 * d, 4 * d)
    z = X @ w
    if kind == "least-squares":
        terms, d1, d2 = 0.5 * (z - y) ** 2, z - y, np.ones(n)
    elif kind == "poisson":
        mu = np.exp(z)
        terms, d1, d2 = mu - y * z, mu - y, mu
    elif kind == "sigmoid":
        p = 0.5 * (1.0 + np.tanh(0.5 * z))
        terms, d1 = (p - y) ** 2, 2.0 * (p - y) * p * (1.0 - p)
        d2 = np.full(n, np.nan)
    else:
        p = 0.5 * (1.0 + np.tanh(0.5 * z))
        terms, d1, d2 = np.logaddexp(0.0, -y * z), p - (y > 0), p * (1.0 - p)
    return np.mean(terms), X.T @ d1 / n, X.T @ (d2[:, None] * X) / n


def minimum(kind, X, y, ridge):
    """F at 0 and the least F that damped Newton steps from there reach."""
    size = X.shape[1] * (4 if kind == "softmax" else 1)
    ridge = np.tile(ridge, size // X.shape[1])
    w, first, best = np.zeros(size), np.nan, np.inf
    for _ in range(100):
        value, gradient, H = derivatives(kind, X, y, w)
        value += 0.5 * ridge @ w**2
        gradient = gradient + ridge * w
        first = value if np.isnan(first) else first
        best = min(best, value)
        step = -np.linalg.lstsq(H + np.diag(ridge), gradient, rcond=1e-13)[0]
        if not -gradient @ step > 1e-17 * abs(value):
            break
        t = 1.0
        while t > 1e-10:
            trial = w + t * step
            after = derivatives(kind, X, y, trial)[0] + 0.5 * ridge @ trial**2
            if after <= value + 1e-4 * t * (gradient @ step):
                break
            t *= 0.5
        w = w + t * step
    return first, best


def left(case, problem, w):
    """What a run has left, in units of what it may."""
    if case.kind == "nonlinear":
        tanh = np.tanh(w[1] * case.X[:, 0])
        J = np.column_stack([tanh, w[0] * case.X[:, 0] * (1.0 - tanh**2), case.X[:, 1]])
        sizes = np.linalg.norm(J, axis=0)
        if not np.all(sizes > 0.0):  # some parameter has no effect
            return np.inf
        residual = w[0] * tanh + w[2] * case.X[:, 1] - case.y
        Q = np.linalg.qr(J / sizes)[0]
        return np.linalg.norm(Q.T @ residual) / np.linalg.norm(residual) / GRADIENT
    ridge = case.l2 / case.sizes**2
    W = w[None, :]
    if case.kind == "softmax":
        W = problem.coefficients(w)
    v = (W * case.sizes).ravel()
    value, gradient, _ = derivatives(case.kind, case.X, case.y, v)
    if case.kind == "sigmoid":
        gradient = gradient + ridge * v
        return np.linalg.norm(gradient / np.sqrt(1.0 + ridge)) / GRADIENT
    value += 0.5 * np.tile(ridge, len(W)) @ v**2
    first, best = minimum(case.kind, case.X, case.y, ridge)
    allowed = GAP * (first - best) + ROUNDING * abs(first)
    return (value - best) / allowed


def check(case):
    """Run a case; returns its status, raises where it is called converged wrongly."""
    problem = build(case.kind, case.X * case.sizes, case.y, l2=case.l2)
    result = minimize(
        problem,
        case.solver,
        case.w0,
        tol=case.tol,
        max_iter=case.max_iter,
        seed=0,
        n_jobs=1,
    )
    if result.status.converged:
        share = left(case, problem, result.w)
        if not share <= 1.0:
            raise AssertionError(f"{share:.3g} of what may be left: {case}, {result}")
    assert result.message.startswith(result.status.value)
    return result.status


def run(cases, seed=0, first=0, progress=None):
    """Check so many cases; returns how often each status came."""
    counts = Counter()
    for k in range(first, first + cases):
        with np.errstate(all="ignore"):
            counts[check(random_case(k, seed)).name] += 1
        if progress is not None:
            progress(k)
    return counts


def main(arguments=None):
    """Run random cases and list those that are called converged wrongly."""
    parser = argparse.ArgumentParser(
        prog="python tests/statuses.py", description=main.__doc__
    )
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    counts, wrong = Counter(), 0
    for k in range(options.cases):
        try:
            counts += run(1, options.seed, k)
        except Exception as error:
            wrong += 1
            print(f"case {k}: {type(error).__name__}: {error}", flush=True)
    print(f"{options.cases} runs: {dict(counts.most_common())}, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
