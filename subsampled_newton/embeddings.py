"""Random embeddings: matrices S of few rows that keep the norms of a subspace.

A class is a kind of embedding, its ``draw`` the law, an instance one matrix drawn from
it: an operator with ``shape`` and ``@`` for arrays, sparse matrices and `Rows`. All are
scaled so that ``E ||S x||**2 = ||x||**2``. That is more than convention: a ridge is
added to the sketch as it is, and must weigh the same beside it.

Products are added over fixed blocks of rows, so that the bits of a result do not depend
on the number of threads. The data are read once and never copied as a whole.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from subsampled_newton import _memory, _parallel
from subsampled_newton.data import DenseRows, Rows, as_rows
from subsampled_newton.kernels.rows import CSR
from subsampled_newton.kernels.sketch import scatter, walsh_hadamard
from subsampled_newton.sampling import Sample, bernoulli, full, uniform

__all__ = [
    "Embedding",
    "Gaussian",
    "RowSample",
    "SparseSign",
    "SubsampledHadamard",
    "dense_block",
    "identity",
]

Array = NDArray[np.float64]
CHUNK = 1024
"""Columns of a Gaussian embedding that are drawn at a time."""


class Embedding(ABC):
    """An operator of shape ``(size, n)`` that is applied to matrices of n rows."""

    shape: tuple[int, int]
    dtype = np.dtype(np.float64)

    @abstractmethod
    def sketch(
        self, rows: Rows, scale: Array | None = None, extra: Array | None = None
    ) -> Array:
        """Return ``S diag(scale) [X, extra]`` in one read of the rows.

        Parameters
        ----------
        rows : Rows
            The matrix X, with its columns as `Columns` define them.
        scale : ndarray of shape (n,), optional
            Factors of the rows, for example square roots of weights.
        extra : ndarray of shape (n,), optional
            One column more, for example the target.
        """

    def __matmul__(self, X: Any) -> Array:
        if isinstance(X, Rows):
            return self.sketch(X)
        if not sp.issparse(X):
            X = np.asarray(X)
            if X.ndim == 1:
                return self.sketch(as_rows(X[:, None]))[:, 0]
        return self.sketch(as_rows(X))

    matvec = matmat = __matmul__  # what scipy.sparse.linalg.aslinearoperator needs

    def _check(self, rows: Rows) -> None:
        if rows.n_rows != self.shape[1]:
            raise ValueError(
                f"X must have {self.shape[1]} rows for an embedding of shape "
                f"{self.shape}, got {rows.n_rows}"
            )


@dataclass(frozen=True, eq=False)
class SparseSign(Embedding):
    """A few random signs in every column, in different rows.

    With one sign a column this is CountSketch [1]_: one addition per entry of X, but
    two rows of X that alone carry a direction are lost when they meet, which takes
    ``d**2`` rows to exclude. Eight signs need a small multiple of d [2]_, [3]_.

    References
    ----------
    .. [1] Clarkson, Woodruff, Low rank approximation and regression in input sparsity
       time, STOC 2013.
    .. [2] Nelson, Nguyen, OSNAP: faster numerical linear algebra algorithms via sparser
       subspace embeddings, FOCS 2013: one sign in each of ``n_signs`` blocks of rows.
    .. [3] Martinsson, Tropp, Randomized numerical linear algebra, Acta Numerica 2020,
       section 9.2, for eight signs.
    """

    targets: NDArray[np.int32]
    """Rows (n, n_signs) of the signs."""
    signs: NDArray[np.int8]
    size: int

    @classmethod
    def draw(
        cls, n: int, size: int, rng: np.random.Generator, n_signs: int = 8
    ) -> Self:
        """Draw an embedding of n rows into ``size`` rows."""
        _check_sizes(n=n, size=size, n_signs=n_signs)
        edges = np.linspace(0, size, min(n_signs, size) + 1).astype(np.int32)
        shape, widths = (n, len(edges) - 1), np.diff(edges)
        # One width for all blocks is drawn four times faster.
        width = widths[0] if np.all(widths == widths[0]) else widths
        targets = rng.integers(0, width, shape, dtype=np.int32)
        targets += edges[:-1]
        return cls(targets, _signs(shape, rng), size)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]  # constant
        return self.size, len(self.targets)

    def sketch(
        self, rows: Rows, scale: Array | None = None, extra: Array | None = None
    ) -> Array:
        self._check(rows)
        rows = rows.on_host()
        columns, kernel = rows.columns, scatter(rows.layout)
        shape = (self.size, len(columns.scale) + 1)
        r = _factors(scale, rows.n_rows) / math.sqrt(self.targets.shape[1])

        def of_piece(part: slice, piece: Rows) -> Array:
            own = self.targets[part], self.signs[part], r[part]

            def block(lo: int, hi: int) -> Array:
                out = np.zeros(shape)
                for x, start, stop, rest in piece._pieces(lo, hi):
                    mine = [array[rest] for array in own]
                    kernel(x, start, stop, *mine, columns.shift, out)
                return out

            # Large parts: their additions stay small beside the read of X.
            return piece._sum(block, 4 * shape[0] * shape[1])

        _memory.require(
            8.0 * (_parallel.n_threads() + 2) * shape[0] * shape[1],
            f"a sketch of {shape[0]:,} rows with {shape[1]:,} columns",
            "take a solver that needs none, as 'newton-cg' or 'lbfgs'",
        )
        parts = rows.pieces()
        total = of_piece(*next(parts))
        for part, piece in parts:
            total += of_piece(part, piece)
        if rows.layout is CSR:
            result = columns.transform(total[:, :-1], total[:, -1])
        else:
            total[:, :-1] *= columns.scale
            result = total if columns.intercept else total[:, :-1]
        if extra is None:
            return result
        column = self.sketch(DenseRows(extra[:, None]), scale)
        return np.hstack([result, column])


class _Blockwise(Embedding):
    """An embedding that is applied to dense blocks of ``block_rows`` rows."""

    block_rows: int

    @abstractmethod
    def _add(self, X: Array, index: int, scale: Array, out: Array) -> None:
        """Add ``S diag(scale) X`` for block ``index``, X its rows, to ``out``."""

    def sketch(
        self, rows: Rows, scale: Array | None = None, extra: Array | None = None
    ) -> Array:
        self._check(rows)
        n, step = self.shape[1], self.block_rows
        shape = (self.shape[0], rows.n_params + (extra is not None))
        factors = _factors(scale, n)
        n_blocks = -(-n // step)
        groups = _parallel.bounds(n_blocks, n * rows.n_params, 4 * shape[0] * shape[1])

        def part(k: int) -> Array:
            out = np.zeros(shape)
            for index in range(groups[k], groups[k + 1]):
                lo, hi = index * step, min(n, (index + 1) * step)
                block = dense_block(rows, lo, hi, extra=extra)
                self._add(block, index, factors[lo:hi], out)
            return out

        rows.work.rows_read += n
        with _parallel.one_blas_thread():
            return _parallel.sum_parts(part, len(groups) - 1)


@dataclass(frozen=True, eq=False)
class SubsampledHadamard(_Blockwise):
    """Some rows of ``H D``: random signs D, the Walsh-Hadamard matrix H (SRHT).

    ``sqrt(N / size)`` times uniform rows of ``H D / sqrt(N)``, N the power of two above
    n; rows of X beyond n are zero and not stored [1]_. Mixing spreads every direction
    evenly over the rows, so that a uniform choice of them loses none.

    References
    ----------
    .. [1] Tropp, Improved analysis of the subsampled randomized Hadamard transform,
       Adv. Adapt. Data Anal. 2011.
    """

    signs: NDArray[np.int8]
    chosen: NDArray[np.int64]
    """Sorted rows of H."""
    block_rows: int
    """A power of two, and so is the number of blocks."""

    @classmethod
    def draw(cls, n: int, size: int, rng: np.random.Generator) -> Self:
        """Draw an embedding of n rows into ``size`` rows."""
        _check_sizes(n=n, size=size)
        order = 1 << (n - 1).bit_length()
        if size > order:
            raise ValueError(f"size must be <= {order} for n = {n}, got {size}")
        chosen = np.sort(rng.choice(order, size, replace=False, shuffle=False))
        # About `size` rows: transforms of shorter blocks would cost more additions
        # afterwards, those of longer ones more memory.
        block_rows = min(order, max(256, min(4096, 1 << (size - 1).bit_length())))
        return cls(_signs((n,), rng), chosen, block_rows)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]  # constant
        return len(self.chosen), len(self.signs)

    def _add(self, X: Array, index: int, scale: Array, out: Array) -> None:
        lo = index * self.block_rows
        signs = self.signs[lo : lo + len(X)]
        r = signs * scale / math.sqrt(len(self.chosen))
        walsh_hadamard()(X, r, index, self.block_rows, self.chosen, out)


@dataclass(frozen=True, eq=False)
class Gaussian(_Blockwise):
    """Independent normal entries of variance ``1 / size``.

    The embedding of the sharpest theory and the largest cost. Entries are drawn anew,
    and the same, whenever they are needed: blocks of columns from a counter.
    """

    shape: tuple[int, int]
    key: int
    block_rows: int = CHUNK

    @classmethod
    def draw(cls, n: int, size: int, rng: np.random.Generator) -> Self:
        """Draw an embedding of n rows into ``size`` rows."""
        _check_sizes(n=n, size=size)
        return cls((size, n), int(rng.integers(2**63)))

    def _add(self, X: Array, index: int, scale: Array, out: Array) -> None:
        stream = np.random.Philox(key=self.key, counter=[0, 0, 0, index])
        G = np.random.Generator(stream).standard_normal((self.shape[0], len(X)))
        out += G @ (X * (scale / math.sqrt(self.shape[0]))[:, None])


@dataclass(frozen=True, eq=False)
class RowSample(Embedding):
    """Some rows, each divided by the root of the expected number of times it is drawn.

    Uniform samples need ``coherence`` times as many rows as samples by leverage scores.
    """

    sample: Sample
    """Rows and weights of an estimate of the mean, see `sampling`."""
    n: int

    @classmethod
    def draw(
        cls,
        n: int,
        size: int,
        rng: np.random.Generator,
        scores: Array | None = None,
    ) -> Self:
        """Draw about ``size`` of n rows, uniformly or by scores as in `bernoulli`."""
        _check_sizes(n=n, size=size)
        if scores is None:
            return cls(uniform(n, size, rng), n)
        return cls(bernoulli(scores, size, rng), n)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]  # constant
        return self.sample.n_rows, self.n

    def sketch(
        self, rows: Rows, scale: Array | None = None, extra: Array | None = None
    ) -> Array:
        self._check(rows)
        kept: Any = self.sample.rows
        part, factors = rows, _factors(scale, self.n)
        if kept is None:
            kept = slice(None)
            rows.work.rows_read += self.n
        else:
            part = rows.take(kept)
        block = dense_block(
            part, 0, part.n_rows, extra=None if extra is None else extra[kept]
        )
        weights = np.sqrt(self.n * np.asarray(self.sample.weights))
        result: Array = block * (factors[kept] * weights)[:, None]
        return result


def identity(n: int) -> RowSample:
    """Return the embedding that keeps all rows."""
    return RowSample(full(n), n)


def dense_block(rows: Rows, lo: int, hi: int, *, extra: Array | None = None) -> Array:
    """Rows ``lo:hi`` of ``[X, extra]`` as a float64 array. May share memory with X."""
    _memory.require(
        16.0 * (hi - lo) * rows.n_params,
        f"a dense copy of {hi - lo:,} rows with {rows.n_params:,} columns",
        "take a solver that needs none, as 'newton-cg' or 'lbfgs'",
    )
    block = rows._transformed(lo, hi)
    more = []
    if rows.columns.intercept:
        more.append(np.ones(hi - lo))
    if extra is not None:
        more.append(extra[lo:hi])
    return np.column_stack([block, *more]) if more else block


def _factors(scale: Array | None, n: int) -> Array:
    return np.ones(n) if scale is None else scale


def _signs(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int8]:
    n = math.prod(shape)
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-n // 8)), np.uint8), count=n)
    return 2 * bits.view(np.int8).reshape(shape) - 1


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not integer or value < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
