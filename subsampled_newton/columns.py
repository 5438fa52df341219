"""What containers of rows share: the map of their columns and the count of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.parameters import check_flag, real_array

__all__ = ["Columns", "Work"]

Array = NDArray[np.float64]


class Work:
    """Counts of work; shared by a problem and the samples taken from it.

    ``rows_read`` counts rows of the data as they are read. ``props`` counts forward and
    backward propagations as the papers do (Xu, Roosta, Mahoney 2020): it starts at 1,
    a gradient on S costs ``2 |S|``, a Hessian-vector product ``2 |S|`` even where a
    formed matrix makes it cheaper, a trial value ``|S|``; the value at the iterate is
    free.
    """

    def __init__(self) -> None:
        self.rows_read = 0
        self.props = 1

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave the counts as they are, for work that is not the solver's."""
        rows_read, props = self.rows_read, self.props
        try:
            yield
        finally:
            self.rows_read, self.props = rows_read, props


@dataclass(frozen=True)
class Columns:
    """Columns of the parameters: ``(x_j - shift_j) scale_j``, then ones if asked for.

    A linear change of variables. It lets a solver work on centred columns of equal
    size, and gives the intercept a column, at no cost in memory: predictions are
    ``X u + c`` with ``(u, c) = to_raw(w)``.

    Parameters
    ----------
    scale, shift : ndarray of shape (n_raw,)
        Of the columns of the stored array. ``shift`` other than 0 needs the intercept,
        otherwise it would change the model. A column of scale 0 is zero: its
        coefficient is, and nothing of what it holds is used.
    intercept : bool
        Whether a column of ones follows.
    noise : ndarray of shape (n_params,), optional
        Root mean square that the rounding of the stored numbers may have in the columns
        of the parameters; 0 where they are exact. Default: not known, none assumed.
    """

    scale: Array
    shift: Array
    intercept: bool
    noise: Array | None = None

    def __post_init__(self) -> None:
        d = len(np.atleast_1d(real_array("scale", self.scale)))
        for name in ("scale", "shift"):
            array = real_array(name, getattr(self, name), (d,))
            object.__setattr__(self, name, array)
        check_flag("intercept", self.intercept)
        if self.noise is not None:
            noise = real_array("noise", self.noise, (self.n_params,))
            object.__setattr__(self, "noise", noise)
        if np.any(self.shift) and not self.intercept:
            raise ValueError("shift must be 0 without an intercept")

    @property
    def n_params(self) -> int:
        return len(self.scale) + self.intercept

    @cached_property
    def _shifted(self) -> bool:
        return bool(np.any(self.shift))

    @cached_property
    def _dead(self) -> NDArray[np.intp]:
        """Columns of scale 0."""
        return np.flatnonzero(self.scale == 0.0)

    def to_raw(self, w: Array) -> tuple[Array, Any]:
        """Coefficients of the stored columns and the constant of the prediction.

        Of one vector of parameters, or of every row of a matrix of them.
        """
        u = w[..., : len(self.scale)] * self.scale
        constant = w[..., -1].copy() if self.intercept else np.zeros(w.shape[:-1])
        if self._shifted:
            constant -= u @ self.shift
        return u, constant[()]

    def from_raw(self, coef: Array, constant: float = 0.0) -> Array:
        """Inverse of `to_raw`."""
        w = np.zeros(self.n_params)
        used = self.scale != 0.0
        w[: len(self.scale)][used] = coef[used] / self.scale[used]
        if self.intercept:
            w[-1] = constant + self.shift @ coef
        return w

    def gradient(self, raw: Array, total: Any) -> Array:
        """Gradient in the parameters from ``X'r`` and ``sum(r)``, for each r."""
        g = np.empty((*raw.shape[:-1], self.n_params))
        if self._shifted:
            raw = raw - np.multiply.outer(total, self.shift)
        if len(self._dead):  # sums of huge entries may have overflowed
            raw = raw.copy()
            raw[..., self._dead] = 0.0
        np.multiply(raw, self.scale, out=g[..., : len(self.scale)])
        if self.intercept:
            g[..., -1] = total
        return g

    def transform(self, A: Array, ones: Array) -> Array:
        """``S [X, 1]`` in the parameters from ``S X`` (k, n_raw) and ``S 1`` (k,)."""
        out = np.empty((len(A), self.n_params))
        out[:, : len(self.scale)] = (A - ones[:, None] * self.shift) * self.scale
        if self.intercept:
            out[:, -1] = ones
        return out
