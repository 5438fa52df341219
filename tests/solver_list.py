"""Every solver, and the kinds of problems that it is for: the rows of the contract."""

import math
from typing import Any, NamedTuple

import numpy as np
from problems import gaussian, labels

from subsampled_newton import (
    LBFGS,
    LOGISTIC,
    POISSON,
    SAG,
    SAGA,
    SDCA,
    SGD,
    SIGMOID_SQUARED,
    SQUARED,
    SVRG,
    CubicRegularization,
    DualStartNewton,
    FiniteSum,
    GradientDescent,
    Growing,
    HeavyBall,
    InverseStep,
    LevenbergMarquardt,
    LinearModel,
    MultilevelNewton,
    Nesterov,
    NonlinearModel,
    SampledStart,
    SoftmaxModel,
    Spectral,
    SubsampledNewton,
    TrustRegion,
)


def saturation(p, x):
    """A curve that is not a function of one linear predictor."""
    return p[0] * math.tanh(p[1] * x[0]) + p[2] * x[1]


class Custom(FiniteSum):
    """Logistic regression as a user would write it: three functions over some rows."""

    convex = True

    def __init__(self, X, y, l2):
        super().__init__(*X.shape, l2)
        self.X, self.y = X, y

    def _pick(self, rows):
        return (self.X, self.y) if rows is None else (self.X[rows], self.y[rows])

    def value(self, w, rows=None):
        X, y = self._pick(rows)
        return float(np.mean(np.logaddexp(0.0, -y * (X @ w))))

    def gradient(self, w, rows=None):
        X, y = self._pick(rows)
        return X.T @ (-y / (1.0 + np.exp(y * (X @ w)))) / len(y)

    def hess_vec(self, w, rows, v):
        X, y = self._pick(rows)
        p = 1.0 / (1.0 + np.exp(-(X @ w)))
        return X.T @ (p * (1.0 - p) * (X @ v)) / len(y)


def _targets(kind, X, seed=1):
    rng = np.random.default_rng(seed)
    z = X @ (rng.standard_normal(X.shape[1]) / np.sqrt(X.shape[1]))
    if kind in ("logistic", "custom"):
        return labels(X, rng)
    if kind == "least-squares":
        return z + rng.standard_normal(len(X))
    if kind == "softmax":
        Z = X @ rng.standard_normal((X.shape[1], 4)) + rng.gumbel(size=(len(X), 4))
        return Z.argmax(axis=1)
    if kind == "nonlinear":
        return (
            2.0 * np.tanh(0.5 * X[:, 0]) + X[:, 1] + 0.3 * rng.standard_normal(len(X))
        )
    if kind == "poisson":
        return rng.poisson(np.exp(0.5 * z)).astype(float)
    return (z + 0.5 * rng.standard_normal(len(X)) > 0.0).astype(float)  # sigmoid


def data(kind, n=1500, d=6, seed=0):
    """Rows and targets for a kind of problem."""
    X = gaussian(n, d, np.random.default_rng(seed))
    return X, _targets(kind, X)


def build(kind, X, y, weights=None, l2=1e-2):
    """The problem of a kind on rows, targets and weights."""
    if kind == "softmax":
        return SoftmaxModel(X, y, n_classes=4, l2=l2, sample_weight=weights)
    if kind == "custom":
        return Custom(X, y, l2)
    if kind == "nonlinear":
        return NonlinearModel(saturation, X, y, 3, sample_weight=weights)
    loss = {
        "logistic": LOGISTIC,
        "least-squares": SQUARED,
        "poisson": POISSON,
        "sigmoid": SIGMOID_SQUARED,
    }[kind]
    return LinearModel(loss, X, y, l2=l2, sample_weight=weights)


SMOOTH = ("logistic", "least-squares", "softmax", "sigmoid")
CONVEX_MODELS = ("logistic", "least-squares", "softmax", "poisson")
CONVEX = (*CONVEX_MODELS, "custom")
MODELS = (*CONVEX_MODELS, "sigmoid")
ALL = (*CONVEX, "sigmoid", "nonlinear")
LEAST_SQUARES = ("least-squares", "sigmoid", "nonlinear")


class Entry(NamedTuple):
    """A solver with what may be asked of it."""

    solver: Any
    kinds: tuple[str, ...]
    tol: float = 1e-8
    max_iter: int = 500
    deterministic: bool = False
    steps_at_solution: int = 0
    """Steps that a start at the minimizer may take."""


SOLVERS = {
    "newton": Entry(SubsampledNewton(1.0), CONVEX, deterministic=True),
    "newton-cg": Entry(
        SubsampledNewton(1.0, linear_solver="cg"), CONVEX, deterministic=True
    ),
    "uniform": Entry(SubsampledNewton(0.2), CONVEX),
    "count": Entry(SubsampledNewton(400), CONVEX),
    "cg": Entry(SubsampledNewton(0.2, linear_solver="cg"), CONVEX),
    "growing": Entry(SubsampledNewton(Growing(0.1)), CONVEX),
    "spectral": Entry(SubsampledNewton(Spectral(0.05)), CONVEX),
    "row-norms": Entry(SubsampledNewton(0.2, sampling="row-norms"), CONVEX_MODELS),
    "leverage": Entry(
        SubsampledNewton(0.2, sampling="leverage", score_refresh=3), CONVEX_MODELS
    ),
    "sampled gradient": Entry(SubsampledNewton(0.2, gradient_sample=0.1), CONVEX),
    "gauss-newton": Entry(
        SubsampledNewton(1.0, curvature="gauss-newton"),
        MODELS,
        deterministic=True,
    ),
    "levenberg-marquardt": Entry(
        LevenbergMarquardt(), LEAST_SQUARES, deterministic=True
    ),
    "sampled levenberg-marquardt": Entry(LevenbergMarquardt(0.2), LEAST_SQUARES),
    "sampled gauss-newton": Entry(
        SubsampledNewton(0.3, curvature="gauss-newton"), MODELS
    ),
    "multilevel": Entry(MultilevelNewton(), CONVEX_MODELS),
    "dual start": Entry(DualStartNewton(3), ("logistic", "least-squares")),
    "trust-region": Entry(TrustRegion(1.0), ALL, deterministic=True),
    "trust-region lanczos": Entry(
        TrustRegion(1.0, subproblem="lanczos"), ALL, deterministic=True
    ),
    "trust-region steihaug": Entry(
        TrustRegion(1.0, subproblem="steihaug"), ALL, deterministic=True
    ),
    "sampled trust-region": Entry(TrustRegion(0.2), ALL),
    "sampled start": Entry(SampledStart(TrustRegion(1.0)), ALL),
    "sampled start of lbfgs": Entry(SampledStart(LBFGS(), start=LBFGS()), MODELS),
    "inexact trust-region": Entry(TrustRegion(0.2, gradient_sample=0.2), ALL),
    "leverage trust-region": Entry(TrustRegion(0.2, sampling="leverage"), MODELS),
    "cubic": Entry(CubicRegularization(1.0), ALL, deterministic=True),
    "cubic lanczos": Entry(
        CubicRegularization(1.0, subproblem="lanczos"), ALL, deterministic=True
    ),
    "sampled cubic": Entry(CubicRegularization(0.2), ALL),
    "inexact cubic": Entry(CubicRegularization(0.2, gradient_sample=0.2), ALL),
    "inverse step": Entry(CubicRegularization(InverseStep(0.1)), ALL),
    "gradient-descent": Entry(
        GradientDescent(), SMOOTH, max_iter=20_000, deterministic=True
    ),
    "gradient-descent 2/(L+mu)": Entry(
        GradientDescent("2/(L+mu)"), SMOOTH, max_iter=20_000, deterministic=True
    ),
    "armijo": Entry(
        GradientDescent("armijo"), ALL, max_iter=20_000, deterministic=True
    ),
    "barzilai-borwein": Entry(
        GradientDescent("barzilai-borwein"), ALL, max_iter=5000, deterministic=True
    ),
    "nesterov": Entry(Nesterov(), ALL, max_iter=20_000, deterministic=True),
    "nesterov backtracking": Entry(
        Nesterov(step_size="backtracking"), ALL, max_iter=20_000, deterministic=True
    ),
    "heavy-ball": Entry(HeavyBall(), SMOOTH[:3], max_iter=20_000, deterministic=True),
    "lbfgs": Entry(LBFGS(), ALL, deterministic=True),
    "nesterov strongly-convex": Entry(
        Nesterov("strongly-convex", restart=False),
        SMOOTH[:3],
        max_iter=20_000,
        deterministic=True,
    ),
    "lbfgs armijo": Entry(LBFGS(line_search="armijo"), ALL, deterministic=True),
    "sag": Entry(SAG(), MODELS),
    "sag 1/L": Entry(SAG(step_size="1/L"), SMOOTH, max_iter=2000),
    "sag uniform": Entry(SAG(sampling="uniform"), MODELS),
    "saga": Entry(SAGA(), MODELS),
    "saga 1/L": Entry(SAGA(step_size="1/L"), SMOOTH, max_iter=2000),
    "svrg": Entry(SVRG(), MODELS),
    "svrg average": Entry(SVRG(snapshot="average"), MODELS),
    "svrg loopless": Entry(SVRG(length="loopless"), MODELS),
    "svrg barzilai-borwein": Entry(SVRG(step_size="barzilai-borwein"), MODELS),
    "sdca": Entry(SDCA(), ("logistic", "least-squares")),
    "sgd": Entry(SGD(), SMOOTH, tol=0.02),
    "sgd shuffled batches": Entry(
        SGD(batch_size=8, sampling="shuffled", averaging="polyak"), SMOOTH, tol=0.02
    ),
}
