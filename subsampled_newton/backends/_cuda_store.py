"""Where the arrays of a matrix are: on the device, or on the host, copied in parts."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.backends._cuda_device import (
    free_memory,
    new_array,
    on_memory,
    to_device,
)
from subsampled_newton.backends._cuda_tiles import cuda

__all__ = ["Resident", "Store", "Streamed", "by_columns", "stored"]

PART_BYTES = 1 << 28
"""A part of streamed rows: large enough that the copy runs at full speed."""
PART_SHARE = 8
"""Of the free memory, the part that a buffer takes at most."""


Parts = Generator[tuple[tuple[Any, ...], int, int, Any], None, None]


class Store(Protocol):
    """Arrays of a matrix: its entries, or values, indices and pointers of its rows."""

    n_rows: int

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""

    def parts(self, multiple: int) -> Parts:
        """Parts of the rows: arrays, first row and number of rows, and a stream.

        To be closed, also after an error: a part may be in flight, and others wait. The
        first rows are multiples of ``multiple``: whatever is added up for so many rows
        at a time is the same in all stores.
        """


class Resident:
    """Arrays on the device: one part."""

    def __init__(self, arrays: tuple[Any, ...], n_rows: int) -> None:
        self.arrays, self.n_rows = arrays, n_rows

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    def parts(self, multiple: int) -> Parts:
        if self.n_rows:
            yield self.arrays, 0, self.n_rows, 0


class Streamed:
    """Arrays on the host: every read copies them, through two buffers in turn.

    Parameters
    ----------
    arrays : tuple of ndarray
        A dense array of two dimensions, in any memory order; or values, indices, and
        pointers to where a row begins, one more than there are rows.
    """

    def __init__(self, arrays: tuple[NDArray[Any], ...]) -> None:
        self._arrays = arrays
        self.n_rows = len(arrays[-1]) - (len(arrays) == 3)
        self._limit = min(PART_BYTES, free_memory() // PART_SHARE)
        self._slots: list[_Slot] = []
        self._reading = threading.Lock()

    @property
    def nbytes(self) -> int:
        return 2 * min(int(self._limit), sum(array.nbytes for array in self._arrays))

    def parts(self, multiple: int) -> Parts:
        edges = self._edges(multiple)
        spans = list(itertools.pairwise(edges))
        if not spans:
            return
        most = np.max([self._sizes(*span) for span in spans], axis=0)
        with self._reading:  # one thread at a time has the buffers
            while len(self._slots) < min(2, len(spans)):
                self._slots.append(_Slot())
            # What the kernels of these streams read is written in another.
            cuda.synchronize()
            try:
                for slot, (lo, hi) in zip(
                    itertools.cycle(self._slots), spans, strict=False
                ):
                    x = slot.copied(self._pieces(lo, hi), most)
                    yield x, lo, hi - lo, slot.stream
            finally:
                for slot in self._slots:
                    slot.stream.synchronize()

    def _edges(self, multiple: int) -> list[int]:
        """Rows where parts begin, and the end: as many as the limit allows."""
        starts = np.append(np.arange(0, self.n_rows, multiple), self.n_rows)
        before = self._bytes_before(starts)
        edges = [0]
        while edges[-1] < len(starts) - 1:
            room = before[edges[-1]] + self._limit
            last = int(np.searchsorted(before, room, side="right")) - 1
            edges.append(max(last, edges[-1] + 1))
        return [int(start) for start in starts[edges]]

    def _bytes_before(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(self._arrays) == 1:
            row: int = self._arrays[0][0].nbytes
            return rows * row
        values, indices, pointers = self._arrays
        entries: NDArray[np.int64] = pointers[rows].astype(np.int64)
        entry: int = values.itemsize + indices.itemsize
        return entries * entry + rows * pointers.itemsize

    def _sizes(self, lo: int, hi: int) -> tuple[int, ...]:
        if len(self._arrays) == 1:
            return ((hi - lo) * self._arrays[0].shape[1],)
        count = int(self._arrays[2][hi] - self._arrays[2][lo])
        return count, count, hi - lo + 1

    def _pieces(self, lo: int, hi: int) -> tuple[NDArray[Any], ...]:
        if len(self._arrays) == 1:
            return (self._arrays[0][lo:hi],)
        values, indices, pointers = self._arrays
        own = slice(pointers[lo], pointers[hi])
        return values[own], indices[own], pointers[lo : hi + 1] - pointers[lo]


class _Slot:
    """A stream with a buffer for each array, in page-locked memory and on the device.

    Kept from read to read: such memory takes longer to get than to fill.
    """

    def __init__(self) -> None:
        self.stream = cuda.stream()
        self._buffers: list[tuple[Any, Any]] = []

    def copied(
        self, pieces: tuple[NDArray[Any], ...], sizes: NDArray[np.int64]
    ) -> tuple[Any, ...]:
        """Copies on the device, in flight; ``sizes`` are those of the largest part."""
        self.stream.synchronize()  # the kernel that read the buffers has ended
        if any(b.size < s for (b, _), s in zip(self._buffers, sizes, strict=False)):
            self._buffers.clear()
        if not self._buffers:
            self._buffers = [
                _buffers(max(1, int(size)), piece.dtype)
                for piece, size in zip(pieces, sizes, strict=True)
            ]
        copies = []
        for piece, (staging, buffer) in zip(pieces, self._buffers, strict=True):
            np.copyto(staging[: piece.size].reshape(piece.shape), piece)
            copy = buffer[: piece.size]
            copy.copy_to_device(staging[: piece.size], self.stream)
            copies.append(copy)
        return tuple(copies)


def _buffers(size: int, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    staging = on_memory(
        lambda: cuda.pinned_array((size,), dtype),
        size * dtype.itemsize,
        "a buffer for streamed rows",
        "page-locked memory of the host",
    )
    return staging, new_array((size,), dtype, "a buffer for streamed rows")


def stored(
    arrays: tuple[NDArray[Any], ...], beside: float, what: str
) -> Resident | Streamed:
    """Copy arrays of a matrix to the device if they fit with ``beside`` bytes more.

    A dense array becomes a vector of its entries, by columns if it is in that order.
    """
    needed = sum(array.nbytes for array in arrays) + beside
    if needed > free_memory(needed):
        return Streamed(arrays)
    n_rows = len(arrays[-1]) - (len(arrays) == 3)
    flat = (a.T.reshape(-1) if by_columns(a) else a.reshape(-1) for a in arrays)
    return Resident(tuple(to_device(a, what) for a in flat), n_rows)


def by_columns(array: Any) -> bool:
    """Whether an array is in Fortran's order only."""
    flags = array.flags
    return bool(flags["F_CONTIGUOUS"] and not flags["C_CONTIGUOUS"])
