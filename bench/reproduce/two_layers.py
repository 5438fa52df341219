"""A linear network of two layers: a saddle at zero that gradients do not see."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from subsampled_newton import FiniteSum

__all__ = ["TwoLayers"]

Array = NDArray[np.float64]
Rows = NDArray[np.intp] | None


class TwoLayers(FiniteSum):
    """``mean (a'B x_i - y_i)**2`` in a (h) and B (h, d); w holds a, then the rows of B.

    At ``w = 0`` the gradient is exactly zero and the Hessian indefinite: gradient and
    Gauss-Newton methods stay there. All other stationary points that are no minimizers
    are saddles too, and the smallest value is that of linear least squares.
    """

    def __init__(self, X: Array, y: Array, hidden: int) -> None:
        super().__init__(len(y), hidden * (1 + X.shape[1]))
        self.X, self.y, self.hidden = X, y, hidden

    @classmethod
    def drawn(cls, seed: int, n: int = 500, d: int = 8, hidden: int = 3) -> Self:
        """Linear data with noise."""
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n, d))
        return cls(X, X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n), hidden)

    def smallest_value(self) -> float:
        """Value at the minimizers."""
        w = np.linalg.lstsq(self.X, self.y, rcond=None)[0]
        return float(np.mean((self.X @ w - self.y) ** 2))

    def _parts(self, w: Array) -> tuple[Array, Array]:
        return w[: self.hidden], w[self.hidden :].reshape(self.hidden, -1)

    def _rows(self, rows: Rows) -> tuple[Array, Array]:
        return (self.X, self.y) if rows is None else (self.X[rows], self.y[rows])

    def value(self, w: Array, rows: Rows = None) -> float:
        """Mean of the squared residuals."""
        (a, B), (X, y) = self._parts(w), self._rows(rows)
        return float(np.mean((X @ (a @ B) - y) ** 2))

    def gradient(self, w: Array, rows: Rows = None) -> Array:
        """Mean of the gradients."""
        (a, B), (X, y) = self._parts(w), self._rows(rows)
        moment = X.T @ (2.0 * (X @ (a @ B) - y)) / len(y)
        return np.concatenate([B @ moment, np.outer(a, moment).ravel()])

    def hess_vec(self, w: Array, rows: Rows, v: Array) -> Array:
        """Mean of the Hessians, applied to a vector."""
        (a, B), (da, dB) = self._parts(w), self._parts(v)
        X, y = self._rows(rows)
        moment = X.T @ (2.0 * (X @ (a @ B) - y)) / len(y)
        product = self.gauss_newton_vec(w, rows, v)
        product += np.concatenate([dB @ moment, np.outer(da, moment).ravel()])
        return product

    def gauss_newton_vec(self, w: Array, rows: Rows, v: Array) -> Array:
        """Mean of ``2 J'J v``."""
        (a, B), (da, dB) = self._parts(w), self._parts(v)
        X, y = self._rows(rows)
        moment = X.T @ (2.0 * (X @ (da @ B + a @ dB))) / len(y)
        return np.concatenate([B @ moment, np.outer(a, moment).ravel()])
