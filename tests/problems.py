"""Small problems with known minimizers, shared by the tests of the solvers."""

import numpy as np

from subsampled_newton import LOGISTIC, SQUARED, LinearModel, SubsampledNewton, minimize


def gaussian(n, d, rng):
    return rng.standard_normal((n, d))


def pareto(n, d, rng):
    """Rows of very different norm: Gaussian directions times Pareto(1.5) factors."""
    return rng.standard_normal((n, d)) * (1.0 + rng.pareto(1.5, n))[:, None]


def one_hot(n, d, rng):
    """Half Gaussian columns, half indicators of a Zipf(2.5) category."""
    levels = d // 2
    p = np.arange(1, levels + 1) ** -2.5
    category = rng.choice(levels, n, p=p / p.sum())
    return np.hstack([rng.standard_normal((n, d - levels)), np.eye(levels)[category]])


def labels(X, rng, noise=1.0):
    """Labels of a logistic model with coefficients of norm 1 on X."""
    w = rng.standard_normal(X.shape[1]) / np.sqrt(X.shape[1])
    z = X @ w
    z *= 2.0 / max(np.std(z), 1e-300)
    return np.where(z + noise * rng.logistic(size=len(X)) > 0.0, 1.0, -1.0)


def logistic(design=gaussian, n=2000, d=8, l2=1e-3, seed=0, scale=None):
    rng = np.random.default_rng(seed)
    X = design(n, d, rng)
    y = labels(X, rng)
    if scale is not None:
        X = X * scale
    return LinearModel(LOGISTIC, X, y, l2=l2)


def least_squares(n=500, d=6, l2=1e-2, seed=0):
    rng = np.random.default_rng(seed)
    X = gaussian(n, d, rng)
    return LinearModel(SQUARED, X, X @ rng.standard_normal(d) + 1.0, l2=l2)


def minimizer(problem):
    """Minimizer to rounding, by full Newton steps far beyond every tolerance."""
    return minimize(problem, SubsampledNewton(1.0), tol=0.0, max_iter=60).w


def energy_norm(problem, center, w):
    """Norm of ``w - center`` in the Hessian at ``center``."""
    e = w - center
    return float(np.sqrt(e @ (problem.hess_vec(center, None, e) + problem.l2 * e)))
