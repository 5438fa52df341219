"""Slow NumPy twins of the package, written from the formulas. No package import."""

import numpy as np


def sigmoid(t):
    return 1.0 / (1.0 + np.exp(-t))


def _robust(weight, value, d2):
    """A robust loss from its value, d1 / r and d2 as functions of r = z - y."""
    return (
        lambda z, y: value(z - y),
        lambda z, y: (z - y) * weight(z - y),
        lambda z, y: d2(z - y),
        lambda z, y: weight(z - y),
    )


def _link(h, h1, h2):
    return (
        lambda z, y: (h(z) - y) ** 2,
        lambda z, y: 2 * (h(z) - y) * h1(z),
        lambda z, y: 2 * (h1(z) ** 2 + (h(z) - y) * h2(z)),
        lambda z, y: 2 * h1(z) ** 2,
    )


def _sigmoid1(t):
    return sigmoid(t) * (1 - sigmoid(t))


def _huber(delta):
    return _robust(
        lambda r: np.where(
            np.abs(r) <= delta, 1.0, delta / np.maximum(np.abs(r), 1e-9)
        ),
        lambda r: np.where(
            np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2)
        ),
        lambda r: np.where(np.abs(r) <= delta, 1.0, 0.0),
    )


def _pseudo_huber(delta):
    return _robust(
        lambda r: (1 + (r / delta) ** 2) ** -0.5,
        lambda r: delta**2 * (np.sqrt(1 + (r / delta) ** 2) - 1),
        lambda r: (1 + (r / delta) ** 2) ** -1.5,
    )


def _tukey(c):
    def v(r):
        return np.minimum((r / c) ** 2, 1.0)

    return _robust(
        lambda r: (1 - v(r)) ** 2,
        lambda r: c**2 / 6 * (1 - (1 - v(r)) ** 3),
        lambda r: (1 - v(r)) * (1 - 5 * v(r)),
    )


def _logistic_d2(z, y):
    return sigmoid(z) * sigmoid(-z)


# Textbook forms of value, d1, d2 and the Gauss-Newton weight, for moderate z only.
LOSSES = {
    "logistic": (
        lambda z, y: np.log(1 + np.exp(-y * z)),
        lambda z, y: -y * sigmoid(-y * z),
        _logistic_d2,
        _logistic_d2,
    ),
    "squared": (
        lambda z, y: (z - y) ** 2 / 2,
        lambda z, y: z - y,
        lambda z, y: 1.0 + 0.0 * z,
        lambda z, y: 1.0 + 0.0 * z,
    ),
    "squared hinge": (
        lambda z, y: np.maximum(0.0, 1.0 - y * z) ** 2 / 2,
        lambda z, y: -y * np.maximum(0.0, 1.0 - y * z),
        lambda z, y: np.where(y * z < 1.0, 1.0, 0.0),
        lambda z, y: np.where(y * z < 1.0, 1.0, 0.0),
    ),
    "sigmoid squared": _link(
        sigmoid, _sigmoid1, lambda t: _sigmoid1(t) * (1 - 2 * sigmoid(t))
    ),
    "tanh squared": _link(
        np.tanh,
        lambda t: 1 - np.tanh(t) ** 2,
        lambda t: -2 * np.tanh(t) * (1 - np.tanh(t) ** 2),
    ),
    "sine squared": _link(np.sin, np.cos, lambda t: -np.sin(t)),
    "huber(1.345)": _huber(1.345),
    "pseudo-huber(1.345)": _pseudo_huber(1.345),
    "tukey(4.685)": _tukey(4.685),
    "poisson": (
        lambda z, y: np.exp(z) - y * z,
        lambda z, y: np.exp(z) - y,
        lambda z, y: np.exp(z),
        lambda z, y: np.exp(z),
    ),
}


class Model:
    """``(1/n) sum_i s_i f(x_i'w, y_i) + (1/2) sum_j l2_j w_j**2``, one row at a time.

    The weights ``s`` are scaled to mean one.
    """

    def __init__(self, loss, X, y, l2=0.0, weights=None):
        self.f, self.d1, self.d2, _ = LOSSES[loss]
        self.X = np.array(X, dtype=np.float64)
        self.y = np.array(y, dtype=np.float64)
        n, d = self.X.shape
        self.l2 = np.array([l2] * d if np.isscalar(l2) else l2, dtype=np.float64)
        s = np.ones(n) if weights is None else np.array(weights, dtype=np.float64)
        self.s = s / np.mean(s)

    def value(self, w):
        total = 0.0
        for x, y, s in zip(self.X, self.y, self.s, strict=True):
            total += s * self.f(x @ w, y)
        return total / len(self.y) + np.sum(self.l2 * w**2) / 2

    def gradient(self, w):
        total = np.zeros(len(w))
        for x, y, s in zip(self.X, self.y, self.s, strict=True):
            total += s * self.d1(x @ w, y) * x
        return total / len(self.y) + self.l2 * w

    def hessian(self, w):
        total = np.zeros((len(w), len(w)))
        for x, y, s in zip(self.X, self.y, self.s, strict=True):
            total += s * self.d2(x @ w, y) * np.outer(x, x)
        return total / len(self.y) + np.diag(self.l2)


def transformed(X, scale, shift, intercept):
    """The matrix of the parameters: columns ``(x_j - shift_j) scale_j``, then ones."""
    A = np.array(X, dtype=np.float64)
    for j in range(A.shape[1]):
        A[:, j] = (A[:, j] - shift[j]) * scale[j]
    return np.hstack([A, np.ones((len(A), 1))]) if intercept else A


def leverage_scores(A, l2=0.0):
    """``a_i' (A'A + l2 I)^+ a_i`` by the pseudo-inverse."""
    inverse = np.linalg.pinv(A.T @ A + l2 * np.eye(A.shape[1]), hermitian=True)
    return np.array([a @ inverse @ a for a in A])


def conjugate_gradient(H, g, steps):
    """The iterates of conjugate gradients on ``H s = -g`` from 0, textbook form."""
    s, r = np.zeros_like(g), -g
    d, iterates = r, []
    for _ in range(steps):
        a = (r @ r) / (d @ H @ d)
        s, previous = s + a * d, r
        r = r - a * (H @ d)
        d = r + (r @ r) / (previous @ previous) * d
        iterates.append(s)
    return iterates


def armijo(f, value, slope, c1, shrink, max_backtracks):
    """The largest step of the grid that satisfies Armijo's condition, or None."""
    grid = [shrink**k for k in range(max_backtracks + 1)]
    good = [t for t in grid if np.isfinite(f(t)) and f(t) <= value + c1 * t * slope]
    return max(good, default=None)


def model_decrease(H, g, s):
    return -(g @ s + s @ H @ s / 2)
