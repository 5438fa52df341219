"""The softmax model: several classes, one vector of coefficients for each.

The value does not change when the same vector is added to the coefficients of every
class, and with a ridge the coefficients of a minimizer sum to zero. The model works in
the subspace of such coefficients, in an orthonormal basis: no direction is without
curvature because of the parametrisation, and lengths, gradients and the ridge are
those of the K coefficient vectors.

The basis B is the first K - 1 columns of the Householder reflection that exchanges
``-e_K`` with ``(1, ..., 1) / sqrt(K)``; with ``S = sum_j v_j``,
``(B v)_k = v_k - S / (K + sqrt(K))`` for k < K and ``(B v)_K = -S / sqrt(K)``.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subsampled_newton._memory import NotEnoughMemory
from subsampled_newton.data import as_rows
from subsampled_newton.leverage import block_leverage
from subsampled_newton.linear_model import (
    FORMED_MAX_PARAMS,
    FORMED_SPEED,
    LinearModel,
    with_weight,
)
from subsampled_newton.losses import SoftmaxLoss
from subsampled_newton.parameters import real_array
from subsampled_newton.problem import Curvature, FiniteSum, as_ridge

__all__ = ["SoftmaxModel"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


class SoftmaxModel(LinearModel):
    """``F(V) = (1/n) sum_i s_i (log sum_k exp(z_ik) - z_iy_i) + ridge``, ``Z = X W'``.

    ``W = B V`` holds one row of coefficients per class, summing to zero over the
    classes. The parameters are V, of shape (n_classes - 1, n_columns), flattened class
    by class; `coefficients` turns them into W. ``||V|| = ||W||``.

    Parameters
    ----------
    X : array-like, sparse matrix or Rows of shape (n_samples, n_columns)
        Used in place; see `as_rows`.
    y : array-like of shape (n_samples,)
        Classes 0, ..., n_classes - 1.
    n_classes : int, optional
        Default: the number of different classes in ``y``, among rows with a weight,
        which then have one of every class from 0 on.
    l2 : float or array-like of shape (n_columns,), default 0
        Ridge weights of the columns, the same for every class.
    sample_weight : array-like of shape (n_samples,), optional
        Weights >= 0, scaled to mean one.

    Raises
    ------
    ValueError, TypeError
        If an argument has a wrong type, shape or value.
    """

    loss: SoftmaxLoss  # type: ignore[assignment]

    def __init__(
        self,
        X: Any,
        y: ArrayLike,
        *,
        n_classes: int | None = None,
        l2: ArrayLike = 0.0,
        sample_weight: ArrayLike | None = None,
    ) -> None:
        rows, y, weights = with_weight(as_rows(X), y, sample_weight)
        what = f"hold {rows.n_rows} integers, one class per row"
        classes = real_array("y", y, what=what)
        if classes.dtype.kind not in "iu" or classes.shape != (rows.n_rows,):
            raise ValueError(
                f"y must {what}, got dtype {classes.dtype} and shape {classes.shape}"
            )
        if n_classes is None:
            n_classes = _number_of_classes(classes)
        self.loss = SoftmaxLoss(n_classes)
        if classes.min() < 0 or classes.max() >= self.loss.n_classes:
            raise ValueError(
                f"y must hold classes 0, ..., {self.loss.n_classes - 1}, got "
                f"{classes.min()} to {classes.max()}"
            )
        m = self.loss.n_classes - 1
        ridge = np.tile(as_ridge(l2, rows.n_params), m)
        FiniteSum.__init__(self, rows.n_rows, len(ridge), ridge)
        self.outputs = (self.loss.n_classes,)
        self.rows, self.work = rows, rows.work
        self.y = rows.place(classes.astype(np.float64))
        self.weights = rows.place(weights)
        self.convex = True

    def coefficients(self, w: Array) -> Array:
        """Coefficients (n_classes, n_columns) of parameters w: ``B V``."""
        V = w.reshape(-1, self.rows.n_params)
        root, total = math.sqrt(len(V) + 1), V.sum(axis=0)
        return np.vstack([V - total / (root * (root + 1.0)), -total / root])

    def parameters(self, W: Array) -> Array:
        """Parameters of coefficients or of a gradient in them: ``B' W``.

        What is common to all classes is dropped.
        """
        root = math.sqrt(len(W))
        common = (W.sum(axis=0) / root + W[-1]) / (root + 1.0)
        V: Array = W[:-1] - common
        return V.ravel()

    def predictions(self, w: Array) -> Array:
        return self.rows.class_predictions(self.coefficients(w))

    def evaluate(self, w: Array) -> tuple[Array, float, Array]:
        z, value, gradient = self.rows.class_evaluate(
            self.y, self.weights, self.coefficients(w)
        )
        return z, value, self.parameters(gradient)

    def mean_along(self, z: Array, u: Array, t: float) -> float:
        return self.rows.class_mean_along(z, u, t, self.y, self.weights)

    def slope_change(self, z: Array, u: Array, t: float) -> float:
        change = self.rows.class_probabilities(z + t * u)
        change -= self.rows.class_probabilities(z)
        change *= u
        return float(self.weights @ np.sum(change, axis=0)) / len(z[0])

    def curvature_of(
        self, z: Array, factor: float, own: Array, parameters: Indices
    ) -> Array:
        P = np.asarray(self.rows.class_probabilities(z))
        h = np.asarray(self.weights) * factor
        m, d = len(P) - 1, len(own)
        H = np.empty((m, d, m, d))
        for j, k in np.ndindex(d, d):
            hP = P * (h * own[j] * own[k])
            D = np.diag(hP.sum(axis=1)) - hP @ P.T  # sum_i h_i (diag(p_i) - p_i p_i')
            half = self.parameters(D).reshape(m, -1)
            H[:, j, :, k] = self.parameters(half.T).reshape(m, m)
        return H.reshape(m * d, m * d)

    def slope_size(self, z: Array) -> float:
        return 1.0

    def curvature_sizes(self, z: Array) -> Array:
        """Weighted traces of ``diag(p_i) - p_i p_i'`` for all rows."""
        p = self.rows.class_probabilities(z)
        sizes: Array = self.weights * np.sum(p * (1.0 - p), axis=0)
        return sizes

    def _leverage(self, z: Array, rng: np.random.Generator) -> Array:
        """Approximate block partial leverage scores of the rows."""
        P = np.asarray(self.rows.class_probabilities(z))
        weights = np.asarray(self.weights) / self.n_samples
        K, root = len(P), math.sqrt(len(P))
        B = np.vstack([np.eye(K - 1) - 1.0 / (K + root), np.full(K - 1, -1.0 / root)])
        return block_leverage(self.rows, P, weights, B, self.l2, rng)

    def curvature_along(self, z: Array, u: Array) -> float:
        p = self.rows.class_probabilities(z)
        spread = u - np.sum(p * u, axis=0)
        return float(self.weights @ np.sum(p * spread * u, axis=0)) / self.n_samples

    def hessian_at(  # type: ignore[override]
        self, z: Array, factor: Array | float, curvature: Curvature
    ) -> SoftmaxHessian:
        """Hessian at predictions; it is its own Gauss-Newton matrix."""
        return SoftmaxHessian(
            self, self.rows.class_probabilities(z), self.weights * factor
        )


def _number_of_classes(classes: NDArray[Any]) -> int:
    """One more than the largest class, if there is a row of every one."""
    low, high = int(classes.min()), int(classes.max())
    found = len(np.unique(classes))
    if low < 0 or found <= high:
        raise ValueError(
            "y must hold classes 0, 1, ... with a row of each, unless n_classes is "
            f"given, got {found} different ones from {low} to {high}"
        )
    if found < 2:
        raise ValueError("y must hold two classes or more, got one class: 0")
    return found


class SoftmaxHessian:
    """Blocks ``X' diag(h_ab) X + diag(l2)`` on the rows of a sample.

    ``h_ab`` is an entry of ``B' (diag(p_i) - p_i p_i') B``.
    """

    def __init__(self, model: SoftmaxModel, p: Array, h: Array) -> None:
        self.model, self.rows, self.p, self.h = model, model.rows, p, h
        self._formed: Array | None = None

    def prepare(self, n_products: int) -> None:
        """Form the matrix if that is cheaper than the expected products.

        A block costs as much as ``d / FORMED_SPEED`` products with one class; there are
        K (K - 1) / 2 blocks for products with K classes.
        """
        d, blocks = len(self.model.l2), 0.5 * (len(self.p) - 1)
        if d <= FORMED_MAX_PARAMS and (
            FORMED_SPEED * n_products > blocks * self.rows.n_params
        ):
            with contextlib.suppress(NotEnoughMemory):  # products are the same
                self._form()

    def matvec(self, v: Array) -> Array:
        """Product with a vector."""
        self.model.work.props += 2 * self.rows.n_rows
        if self._formed is not None:
            product: Array = self._formed @ v
            return product
        return self.product(v) + self.model.l2 * v

    def product(self, v: Array) -> Array:
        """Product without the ridge."""
        model = self.model
        V = model.coefficients(v)
        return model.parameters(self.rows.class_hess_vec(self.p, self.h, V))

    def diagonal(self) -> Array:
        """Diagonal of the matrix, as a preconditioner: positive."""
        m = len(self.p) - 1
        blocks = [self.rows.gram_diagonal(self._weights(a)) for a in range(m)]
        diagonal = np.concatenate(blocks) + self.model.l2
        return np.where(diagonal > 0.0, diagonal, 1.0)

    def dense(self) -> Array:
        """The matrix. Counted as its d products."""
        self.model.work.props += 2 * self.rows.n_rows * len(self.model.l2)
        return self._form()

    def _form(self) -> Array:
        if self._formed is None:
            size = len(self.model.l2)
            H = self.rows.class_hessian(self.p, self.h)
            self._formed = H.reshape(size, size)
            self._formed[np.diag_indices(size)] += self.model.l2
        return self._formed

    def _weights(self, a: int) -> Array:
        """``h_i B_a' (diag(p_i) - p_i p_i') B_a``, with the entries of B put in."""
        p, K = self.p, len(self.p)
        root = math.sqrt(K)
        share = 1.0 / (K + root)
        common = (1.0 / root + p[-1]) / (root + 1.0)
        constant = share * share * (1.0 - p[-1]) + p[-1] / K
        curvature = constant - (p[a] - common) ** 2 + (1.0 - 2.0 * share) * p[a]
        weights: Array = self.h * curvature
        return weights
