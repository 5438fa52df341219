"""The minimum by damped Newton steps in extended precision. No package import.

The score of a fit is its *decrease*, ``F(0) - F(w)``, summed row by row as
``loss(0) - loss(z_i)``: no digits are lost where the possible decrease is tiny beside
the value. Where ``long double`` is no wider than ``double`` the reference is as good as
float64 allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LONG = np.longdouble
EPS = np.finfo(LONG).eps
MAX_STEPS = 400


@dataclass(frozen=True)
class Reference:
    """The largest possible decrease, and how far from it the reference may be."""

    decrease: np.longdouble
    uncertainty: np.longdouble


class Objective:
    """Weighted mean loss and ridge, in extended precision."""

    def __init__(self, case):
        self.loss = case.loss
        self.X = np.asarray(case.X, dtype=LONG)
        weights = case.sample_weight
        s = np.ones(len(self.X)) if weights is None else weights
        s = np.asarray(s, dtype=LONG)
        self.total = s.sum()
        self.s = s / self.total
        self.alpha = LONG(1.0) / (LONG(case.C) * self.total)
        self.fit_intercept = case.fit_intercept
        if self.loss == "logistic":
            self.y = 2 * np.asarray(case.y, dtype=LONG) - 1
        elif self.loss == "softmax":
            self.y = np.eye(int(np.max(case.y)) + 1, dtype=LONG)[np.asarray(case.y)].T
        else:
            self.y = np.asarray(case.y, dtype=LONG)
        self.n_outputs = len(self.y) if self.loss == "softmax" else 1

    def decrease(self, coef, intercept):
        """``F(0) - F`` at the coefficients of the given columns."""
        coef = np.atleast_2d(np.asarray(coef, dtype=LONG))
        intercept = np.broadcast_to(np.asarray(intercept, dtype=LONG), (len(coef),))
        Z = coef @ self.X.T + intercept[:, None]
        return self.gain(Z) - self.alpha / 2 * np.sum(coef * coef)

    def gain(self, Z):
        """Weighted mean of ``loss(0) - loss(z_i)``."""
        if self.loss == "squares":
            return self.s @ (Z[0] * (self.y - Z[0] / 2))
        if self.loss == "logistic":
            m = self.y * Z[0]
            inner = np.log1p(np.expm1(-np.maximum(m, -50)) / 2)
            outer = np.log1p(np.exp(np.minimum(m, 0))) - m - np.log(LONG(2))
            return -(self.s @ np.where(m > -50, inner, outer))
        own = np.sum(self.y * Z, axis=0)
        shifted = Z - own  # loss = log sum exp, log K at 0
        near = np.all(np.abs(shifted) < 50, axis=0)
        mean = np.mean(np.expm1(np.where(near, shifted, 0)), axis=0)
        top = shifted.max(axis=0)
        far = top + np.log(np.mean(np.exp(shifted - top), axis=0))
        return -(self.s @ np.where(near, np.log1p(mean), far))

    def derivatives(self, Z):
        """Weighted slopes (K, n) and curvatures (K, K, n) of the rows."""
        if self.loss == "squares":
            return (self.s * (Z[0] - self.y))[None], self.s[None, None]
        if self.loss == "logistic":
            m = self.y * Z[0]
            e = np.exp(-np.abs(m))
            wrong = np.where(m > 0, e, 1) / (1 + e)
            curvature = e / (1 + e) ** 2
            return (-self.s * self.y * wrong)[None], (self.s * curvature)[None, None]
        P = np.exp(Z - Z.max(axis=0))
        P /= P.sum(axis=0)
        K = len(P)
        curvature = -P[:, None] * P[None]
        curvature[range(K), range(K)] += P
        return self.s * (P - self.y), self.s * curvature


def minimum(case):
    """Return the reference of a case."""
    f = Objective(case)
    A, ridge = _columns(f)
    K, p = f.n_outputs, A.shape[1]
    W = np.zeros((K, p), dtype=LONG)
    gain = LONG(0)
    decrement = LONG(np.inf)
    for _ in range(MAX_STEPS):
        Z = W @ A.T
        slopes, curvatures = f.derivatives(Z)
        gradient = (slopes @ A + ridge * W).ravel()
        H = np.empty((K, p, K, p), dtype=LONG)
        for a in range(K):
            for b in range(a + 1):
                block = A.T @ (curvatures[a, b][:, None] * A)
                H[a, :, b] = H[b, :, a] = block
        if f.loss == "softmax":  # adding to all classes alike changes no prediction
            common = np.maximum(np.einsum("apaq->pq", H), 0).diagonal() + EPS
            H += np.einsum("ab,pq->apbq", np.ones((K, K)), np.diag(common))
        for a in range(K):
            H[a, range(p), a, range(p)] += ridge
        step = -_solve(H.reshape(K * p, K * p), gradient)
        decrement = -(gradient @ step)
        if decrement <= 1e-15 * gain or decrement <= 1e-35:
            break
        P = step.reshape(K, p)
        t = LONG(1)
        for _ in range(60):
            trial = W + t * P
            reached = f.gain(trial @ A.T) - np.sum(ridge * trial * trial) / 2
            if reached >= gain + t * decrement / 10000:
                break
            t /= 2
        else:
            break  # rounding
        W, gain = trial, reached
    return Reference(gain, max(decrement, LONG(0)))


def _columns(f):
    """Columns of size one, centred if there is an intercept, and their ridge."""
    X = f.X
    mean = f.s @ X if f.fit_intercept else np.zeros(X.shape[1], dtype=LONG)
    A = X - mean
    size = np.max(np.abs(A), axis=0)
    size = np.maximum(size, 0)
    flat = size <= 64 * EPS * np.max(np.abs(X), axis=0)
    size[flat] = 1
    A[:, flat] = 0
    # A constant column without weight on it has no effect: coefficient 0.
    A = A / size
    ridge = np.where(flat, 0, f.alpha / size**2)
    if f.fit_intercept:
        A = np.column_stack([A, np.ones(len(A), dtype=LONG)])
        ridge = np.append(ridge, LONG(0))
    return A, ridge


def _solve(H, gradient):
    """``H^-1 g`` by Cholesky, with the smallest multiple of the diagonal it needs."""
    size = np.sqrt(np.maximum(np.diag(H), 0))
    size[size == 0] = 1
    scaled, target = H / np.outer(size, size), gradient / size
    shift = LONG(0)
    while True:
        R = _cholesky(scaled, shift)
        if R is not None:
            break
        shift = max(10 * shift, 8 * len(H) * EPS)
    return _back(R, target) / size


def _cholesky(H, shift):
    """Upper factor R of ``H + shift I``, or None."""
    R = np.triu(H)
    n = len(R)
    R[range(n), range(n)] += shift
    floor = n * EPS
    for k in range(n):
        if not R[k, k] > floor:
            return None
        R[k, k:] /= np.sqrt(R[k, k])
        R[k + 1 :, k + 1 :] -= np.triu(np.outer(R[k, k + 1 :], R[k, k + 1 :]))
    return R


def _back(R, b):
    """``(R'R)^-1 b``."""
    x = b.copy()
    n = len(x)
    for k in range(n):
        x[k] = (x[k] - R[:k, k] @ x[:k]) / R[k, k]
    for k in reversed(range(n)):
        x[k] = (x[k] - R[k, k + 1 :] @ x[k + 1 :]) / R[k, k]
    return x
