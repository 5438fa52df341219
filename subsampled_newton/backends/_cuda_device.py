"""The device: whether there is one, its memory, and vectors that live on it."""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from subsampled_newton.backends import _cuda_vectors as vectors
from subsampled_newton.backends._cuda_tiles import (
    BLOCKS,
    LANES,
    REDUCE_THREADS,
    SIMULATED,
    THREADS,
    cuda,
    settings,
)

__all__ = [
    "DeviceArray",
    "allocate",
    "blocks_for",
    "check_device",
    "checked_rows",
    "column_sums",
    "free_memory",
    "launch",
    "new_array",
    "on_memory",
    "place",
    "scratch",
    "to_device",
]

KEPT = 32
"""Vectors that wait to be used again: allocation on a device stops all work on it."""


def check_device() -> None:
    """Raise where no kernel can run.

    Raises
    ------
    RuntimeError
        Saying what Numba found instead of a device, or that the process was forked or
        has used another device before.
    """
    global _device, _process
    if _process not in (None, os.getpid()):
        raise RuntimeError(
            "device='cuda' cannot be used in this process: it was forked from one that "
            "used the GPU, whose context it cannot share. Start it anew, as "
            'multiprocessing.get_context("spawn") does'
        )
    # A missing compiler makes Numba say "not available", too: the driver comes first.
    driver = cuda.cuda_error() if hasattr(cuda, "cuda_error") else None
    if not driver:
        try:
            _compiler()
        except Exception as error:
            raise RuntimeError(
                "there is a CUDA driver, but no compiler: pip install numba-cuda[cu13],"
                f" or numba-cuda[cu12] for drivers of CUDA 12 (numba.cuda reports: "
                f"{error})"
            ) from error
    if driver or not cuda.is_available():
        reason = " ".join(str(driver or "no CUDA device was found").split())
        raise RuntimeError(
            "device='cuda' needs an NVIDIA GPU and its driver; numba.cuda reports: "
            f"{reason.rstrip(' .:')}. Use device='cpu'"
        )
    cuda.current_context()
    device = cuda.gpus.current.id
    if _device not in (None, device):
        raise RuntimeError(
            f"device='cuda' is one GPU in a process: device {_device} was used before, "
            f"and the current one is {device}. Start another process for it"
        )
    _process, _device = os.getpid(), device


_process: int | None = None
"""That has used the device: contexts do not survive a fork."""
_device: int | None = None
"""That was used: the work space and the vectors that wait are there."""


def _compiler() -> None:
    if not SIMULATED:
        from numba.cuda.cudadrv import nvvm

        nvvm.NVVM()


def free_memory(needed: float = math.inf) -> int | float:
    """Bytes of device memory that are free; inf in the simulator.

    If they are fewer than those needed, after all that waits has been given back.
    """
    context = cuda.current_context()
    free: int | float = context.get_memory_info()[0]
    if free < needed and not SIMULATED:
        _release()
        context.deallocations.clear()  # what Numba frees when there is more of it
        free = context.get_memory_info()[0]
    return free


def _release() -> None:
    """Give back the memory that waits to be used again, ours and that of CuPy."""
    _free.clear()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()


_free: dict[int, list[Any]] = {}


def allocate(shape: tuple[int, ...], what: str = "a vector of the rows") -> Any:
    """Device array of float64, not initialised, from those given back if one fits."""
    size = math.prod(shape)
    waiting = _free.get(size)
    if waiting:
        try:
            return waiting.pop().reshape(shape)
        except IndexError:  # another thread was faster
            pass
    return new_array(shape, np.float64, what)


def on_memory(
    make: Callable[[], Any], needed: int, what: str, where: str = "device memory"
) -> Any:
    """Call a function that takes memory; raise `MemoryError` if there is not enough.

    ``needed`` bytes, ``what`` needs them and ``where`` are for the message.
    """
    for attempt in range(2):
        try:
            return make()
        except Exception as error:
            if "OUT_OF_MEMORY" not in str(error):
                raise
            if attempt:
                raise MemoryError(
                    f"{what} needs {needed / 1e6:.6g} MB of {where}; on the device "
                    f"{free_memory() / 1e6:.6g} MB are free"
                ) from error
            _release()
    raise AssertionError


def new_array(shape: tuple[int, ...], dtype: Any, what: str) -> Any:
    """Device array, not initialised."""
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    return on_memory(lambda: cuda.device_array(shape, dtype), needed, what)


def to_device(values: NDArray[Any], what: str) -> Any:
    """Copy of a host array on the device."""
    values = np.ascontiguousarray(values)
    return on_memory(lambda: cuda.to_device(values), values.nbytes, what)


def checked_rows(rows: Any, n: int) -> NDArray[np.int64]:
    """Numbers of rows as NumPy takes them: from the end if negative, none beyond it.

    Kernels would read the memory of others.

    Raises
    ------
    IndexError
        If there is no such row.
    """
    index = np.asarray(rows, dtype=np.int64)
    if index.size and (index.min() < -n or index.max() >= n):
        worst = index.min() if index.min() < -n else index.max()
        raise IndexError(f"row {worst} is out of bounds for {n} rows")
    return np.where(index < 0, index + n, index)


def _give_back(array: Any) -> None:
    if sum(map(len, list(_free.values()))) >= KEPT:
        _free.clear()
    _free.setdefault(array.size, []).append(array)


_local = threading.local()


def scratch(name: str, *shape: int) -> Any:
    """Device array of float64 that the next call with this name overwrites.

    Each thread has its own.
    """
    arrays: dict[str, Any] = _local.__dict__.setdefault("arrays", {})
    size = math.prod(shape)
    if name not in arrays or arrays[name].size < size:
        arrays.pop(name, None)
        arrays[name] = new_array((size,), np.float64, f"the work space {name!r}")
    return arrays[name][:size].reshape(shape)


def place(name: str, values: NDArray[np.float64]) -> Any:
    """Small host array in scratch memory, in one transfer."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    target = scratch(name, *values.shape)
    target.copy_to_device(values)
    return target


def blocks_for(n: int) -> int:
    """Blocks for a loop over n entries; a function of n alone."""
    return max(1, min(BLOCKS, -(-n // THREADS)))


_configuring = threading.Lock()


@functools.lru_cache(maxsize=1024)
def _configured(
    kernel: Any, blocks: int | tuple[int, int], threads: int, stream: Any, shared: int
) -> Any:
    # Without Numba's advice for a few blocks, which few rows and short sums need. The
    # filters of warnings would be those of all threads; this is a setting of Numba
    # that is read here only.
    with _configuring:
        advice = settings.CUDA_LOW_OCCUPANCY_WARNINGS
        settings.CUDA_LOW_OCCUPANCY_WARNINGS = 0
        try:
            return kernel[blocks, threads, stream, shared]
        finally:
            settings.CUDA_LOW_OCCUPANCY_WARNINGS = advice


def launch(
    kernel: Any,
    blocks: int | tuple[int, int],
    *arguments: Any,
    threads: int = THREADS,
    shared: int = 0,
    stream: Any = 0,
) -> None:
    """Run a kernel, with ``shared`` bytes of dynamic shared memory."""
    # Configurations are kept: making one takes as long as a launch. Not in the
    # simulator, where all of a kernel are one object, nor those of a passing stream.
    kept = stream == 0 and not SIMULATED
    configure = _configured if kept else _configured.__wrapped__
    configure(kernel, blocks, threads, stream, shared)(*arguments)


def column_sums(partial: Any) -> NDArray[np.float64]:
    """Add the rows of a device array in a fixed order; the sums come to the host."""
    n_rows, n_columns = partial.shape
    out = scratch("sums", n_columns)
    blocks = -(-n_columns // LANES)
    launch(
        vectors.column_sums(),
        blocks,
        partial,
        n_rows,
        n_columns,
        out,
        threads=REDUCE_THREADS,
        shared=8 * REDUCE_THREADS,
    )
    sums: NDArray[np.float64] = out.copy_to_host()
    return sums


class DeviceArray(NDArrayOperatorsMixin):
    """Numbers of the rows on the device: float64, of shape (n,) or (n_classes, n).

    Takes part in the operations that the models need, with numbers, with vectors of
    the same length, on the device or not, and nothing else: ``np.asarray`` brings it
    to the host for what is done once.
    """

    def __init__(self, data: Any, owner: DeviceArray | None = None) -> None:
        self.data = data
        self.shape: tuple[int, ...] = tuple(data.shape)
        self._owner = owner

    @classmethod
    def empty(cls, *shape: int) -> DeviceArray:
        """New array, to be filled by a kernel."""
        return cls(allocate(shape))

    @classmethod
    def of(cls, values: Any) -> DeviceArray:
        """Copy of host values; a device array as it is."""
        if isinstance(values, DeviceArray):
            return values
        values = np.ascontiguousarray(values, dtype=np.float64)
        result = cls.empty(*values.shape)
        result.data.copy_to_device(values)
        return result

    def __del__(self) -> None:
        if self._owner is None and _give_back is not None:
            _give_back(self.data)

    @property
    def ndim(self) -> int:
        """1 or 2."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def flat(self) -> Any:
        """The entries as a vector of numba.cuda."""
        return self.data.reshape(self.size)

    @property
    def classes(self) -> Any:
        """The entries as a matrix of numba.cuda, of one row for a vector."""
        return self.data.reshape((-1, self.shape[-1])[-2:])

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError("a vector on a GPU cannot be used without a copy")
        host = self.data.copy_to_host().reshape(self.shape)
        return host if dtype is None else host.astype(dtype, copy=False)

    def __reduce__(self) -> Any:
        return DeviceArray.of, (np.asarray(self),)

    def __getitem__(self, key: Any) -> DeviceArray:
        """One class, or the entries of some rows (host integers)."""
        if isinstance(key, int | np.integer) and self.ndim == 2:
            k = int(key) % self.shape[0]
            row = self.flat[k * self.shape[1] : (k + 1) * self.shape[1]]
            return DeviceArray(row, owner=self)
        if isinstance(key, tuple) and len(key) == 2 and key[0] is Ellipsis:
            key = key[1]
        elif self.ndim != 1:
            key = None
        index = np.asarray(key)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise TypeError(
                "numbers of rows on a GPU are indexed by integer arrays of rows, got "
                f"{key!r}: use numpy.asarray(...) for anything else"
            )
        out = DeviceArray.empty(*self.shape[:-1], len(index))
        rows = to_device(checked_rows(index, self.shape[-1]), "numbers of rows")
        launch(
            vectors.vector_gather(),
            blocks_for(len(index)),
            self.classes,
            rows,
            out.classes,
        )
        return out

    def sum(self, axis: int | None = None, out: None = None) -> Any:
        """Sum of all entries, or over the classes (``axis=0``)."""
        if axis is None:
            return self._total(vectors.first_of, self)
        if axis != 0 or self.ndim != 2:
            raise TypeError(f"axis must be None or 0 of two, got {axis!r}")
        result = DeviceArray.empty(self.shape[1])
        launch(
            vectors.vector_sum_classes(),
            blocks_for(len(result)),
            self.data,
            result.data,
        )
        return result

    def mean(
        self, axis: int | None = None, dtype: None = None, out: None = None
    ) -> float:
        """Mean of all entries."""
        _check_all(axis)
        return self._total(vectors.first_of, self) / self.size

    def max(self, axis: int | None = None, out: None = None) -> float:
        """Largest entry."""
        _check_all(axis)
        return self._extreme(1.0)

    def min(self, axis: int | None = None, out: None = None) -> float:
        """Smallest entry."""
        _check_all(axis)
        return -self._extreme(-1.0)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kw: Any) -> Any:
        (target,) = kw.pop("out", (None,))
        if method != "__call__" or kw:
            return NotImplemented
        if ufunc is np.matmul:
            return self._dot(*inputs)
        f = vectors.UFUNCS.get(ufunc)
        if f is None:
            return NotImplemented
        a, b = inputs if len(inputs) == 2 else (inputs[0], 0.0)
        kinds = "".join("s" if np.ndim(x) == 0 else "a" for x in (a, b))
        a, b = (float(x) if np.ndim(x) == 0 else DeviceArray.of(x) for x in (a, b))
        shape = max((x.shape for x in (a, b) if isinstance(x, DeviceArray)), key=len)
        for x in (a, b):
            if isinstance(x, DeviceArray) and x.shape not in (shape, shape[-1:]):
                raise ValueError(f"shapes {x.shape} and {shape} do not match")
        result = DeviceArray.empty(*shape) if target is None else target
        if not isinstance(result, DeviceArray) or result.shape != shape:
            return NotImplemented
        # The vectors stay until the launch: their memory would go to the next.
        flat = [x.flat if isinstance(x, DeviceArray) else x for x in (a, b)]
        kernel = vectors.vector_map(f, kinds)
        launch(kernel, blocks_for(result.size), *flat, result.flat)
        return result

    def _dot(self, a: Any, b: Any) -> Any:
        a, b = DeviceArray.of(a), DeviceArray.of(b)
        if a.ndim != 1 or a.shape != b.shape:
            return NotImplemented
        return a._total(vectors.product_of, b)

    def _total(self, f: Callable[[Any, Any], Any], other: DeviceArray) -> float:
        blocks = blocks_for(self.size)
        partial = scratch("partial", blocks, 1)
        launch(
            vectors.vector_sum_of(f),
            blocks,
            self.flat,
            other.flat,
            partial,
            shared=8 * THREADS,
        )
        return float(column_sums(partial)[0])

    def _extreme(self, sign: float) -> float:
        blocks = blocks_for(self.size)
        partial = scratch("partial", blocks, 1)
        launch(
            vectors.vector_extreme(sign), blocks, self.flat, partial, shared=8 * THREADS
        )
        return float(np.max(partial.copy_to_host()))


def _check_all(axis: int | None) -> None:
    if axis is not None:
        raise TypeError(f"axis must be None, got {axis!r}: use numpy.asarray(...)")
