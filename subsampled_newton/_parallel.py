"""Run block kernels on a pool of Python threads and add their parts in order.

Kernels release the GIL and work on a range of rows. The ranges depend on the shape of
the data alone and the parts are added in their order, so results have the same bits
for every number of threads. Numba's own threading layers abort when two user threads
enter (workqueue) or kill forked children (OpenMP); a pool of Python threads does
neither, and it answers Ctrl-C between blocks.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import joblib
import numpy as np
from threadpoolctl import ThreadpoolController

from subsampled_newton._interrupts import as_interrupt

__all__ = ["bounds", "n_threads", "one_blas_thread", "run", "sum_parts", "use_threads"]

MAX_BLOCKS = 64
"""More blocks balance uneven threads; each costs some microseconds of Python and one
vector of partial sums."""

MAX_BLOCK_ELEMENTS = 1 << 25
"""Nor does a block take longer than some tenths of a second (256 MB from a disk), which
bounds the wait for Ctrl-C, however large the data are."""

MIN_BLOCK_ELEMENTS = 1 << 17
"""Below this (about 0.1 ms of work) a second thread costs more than it saves."""

_VARIABLE = "SUBSAMPLED_NEWTON_NUM_THREADS"
_VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Those of others: joblib sets them in its worker processes."""
_limit: ContextVar[int | None] = ContextVar("subsampled_newton_threads", default=None)
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def bounds(
    n_rows: int, n_elements: int, part_size: int = 1, cost: int = 1
) -> list[int]:
    """Row ranges of the blocks: block k is ``bounds[k]:bounds[k + 1]``.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    n_elements : int
        Number of stored elements (rows times columns, or non-zeros).
    part_size : int, default 1
        Length of the partial sum of one block. There are never more blocks than the
        data can fill, so that a wide sparse matrix does not need more memory for
        partial sums than for itself.
    cost : int, default 1
        Time for one element, in units of that of a product with a vector.
    """
    useful = min(
        n_elements * cost // MIN_BLOCK_ELEMENTS, n_elements // max(1, 4 * part_size)
    )
    most = max(MAX_BLOCKS, n_elements // MAX_BLOCK_ELEMENTS)
    n_blocks = max(1, min(useful, most, n_rows))
    if n_blocks < 16:  # few are to be shared out evenly: 1, 2, 4 or 8
        n_blocks = 1 << (n_blocks.bit_length() - 1)
    return [k * n_rows // n_blocks for k in range(n_blocks + 1)]


def n_threads() -> int:
    """Threads that the next call uses.

    The limit of the context, or our variable of the environment, or the smallest of
    what limits others: cores, their variables, threadpoolctl for OpenMP, joblib.
    """
    limit = _limit.get()
    if limit is not None:
        return limit
    value = os.environ.get(_VARIABLE)
    if value is not None:
        if not value.isdigit() or int(value) < 1:
            raise ValueError(f"{_VARIABLE} must be a positive integer, got {value!r}")
        return int(value)
    limits = [os.environ.get(name, "").partition(",")[0] for name in _VARIABLES]
    counts = [int(text) for text in limits if text.isdigit()]
    counts += [library.num_threads for library in _openmp()]
    backend, n_jobs = joblib.parallel.get_active_backend()
    # Before joblib 1.3 the default was 1, and not told from it.
    if n_jobs is not None and hasattr(joblib, "parallel_config"):
        counts.append(backend.effective_n_jobs(n_jobs))
    return min([_n_cores(), *(count for count in counts if count and count > 0)])


def _n_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its group."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _quota())
    return _quota()


@functools.cache
def _quota() -> int:
    return int(joblib.cpu_count())  # reads files


@functools.cache
def _openmp() -> tuple[Any, ...]:
    """Libraries of OpenMP, of which scikit-learn brings one, to ask for their limit."""
    found = ThreadpoolController().select(user_api="openmp")
    return tuple(found.lib_controllers)


@contextmanager
def use_threads(n_jobs: int | None) -> Iterator[None]:
    """Limit the threads inside the ``with`` block, for this user thread only.

    ``None`` leaves the setting alone; -1 means all cores, -2 all but one, and so on.
    """
    if n_jobs is None:
        n_jobs = n_threads()  # asked for once: it takes longer than a small block
    if (
        isinstance(n_jobs, bool)
        or not isinstance(n_jobs, int | np.integer)
        or not n_jobs
    ):
        raise ValueError(
            f"n_jobs must be None or an integer other than 0, got {n_jobs!r}"
        )
    count = int(n_jobs) if n_jobs > 0 else max(1, _n_cores() + 1 + int(n_jobs))
    before = _limit.get()
    try:  # Ctrl-C may come between any two lines
        _limit.set(count)
        yield
    finally:
        _limit.set(before)


def run(block: Callable[[int], Any], n_blocks: int) -> list[Any]:
    """Call ``block(k)`` for every k on several threads; return the results in order.

    The calling thread works too, so nothing waits for a pool that is busy elsewhere.
    The first exception of a block stops the others and is raised here.
    """
    results: list[Any] = [None] * n_blocks
    tickets = itertools.count()  # next() is atomic
    stop = False

    def work() -> None:
        nonlocal stop
        while not stop and (k := next(tickets)) < n_blocks:
            try:
                results[k] = block(k)
            except BaseException:
                stop = True
                raise

    helpers = _submit(work, min(n_threads(), n_blocks) - 1) if n_blocks > 1 else []
    try:
        work()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    except BaseException as error:  # Ctrl-C as well: let the helpers leave their loop
        stop = True
        for helper in helpers:
            helper.cancel()
        if as_interrupt(error) is not error:
            raise as_interrupt(error) from error
        raise
    return results


def sum_parts(block: Callable[[int], np.ndarray], n_blocks: int) -> np.ndarray:
    """Add the arrays ``block(0), block(1), ...`` in that order.

    A part is added as soon as those before it are, so that about one part per thread is
    in memory, not one per block.
    """
    lock = threading.Lock()
    waiting: dict[int, np.ndarray] = {}
    total: np.ndarray | None = None
    first = 0

    def add(k: int) -> None:
        nonlocal total, first
        waiting[k] = block(k)
        with lock:
            while first in waiting:
                part = waiting.pop(first)
                if total is None:
                    total = part
                else:
                    total += part
                first += 1

    run(add, n_blocks)
    assert total is not None
    return total


def _submit(work: Callable[[], None], n_helpers: int) -> list[Future[None]]:
    global _pool
    if n_helpers < 1:
        return []
    with _pool_lock:
        if _pool is None or _pool._max_workers < n_helpers:
            _pool = ThreadPoolExecutor(max(n_helpers, _n_cores()), "subsampled_newton")
        pool = _pool
    try:
        return [pool.submit(work) for _ in range(n_helpers)]
    except RuntimeError:  # the interpreter is shutting down: the caller works alone
        return []


class _OneBlasThread:
    """Process-wide limit of the BLAS threads, shared by all that asked for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users: dict[object, int] = {}
        """Tokens of the users, and their threads."""
        self.libraries: list[Any] | None = None
        self.before: list[int] = []

    def enter(self, token: object) -> None:
        with self.lock:
            if not self.users:
                if self.libraries is None:  # looking for them takes milliseconds
                    found = ThreadpoolController().select(user_api="blas")
                    self.libraries = list(found.lib_controllers)
                self.before = [library.num_threads for library in self.libraries]
            self.users[token] = threading.get_ident()
            if len(self.users) == 1:
                self._set([1] * len(self.libraries or []))

    def leave(self, token: object) -> None:
        """Forget a user; to be called again, it does no harm, if it was interrupted."""
        with self.lock:
            if token in self.users and len(self.users) == 1:
                self._set(self.before)
            self.users.pop(token, None)

    def after_fork(self) -> None:
        """Forget the users that the child does not have."""
        self.lock = threading.Lock()
        here, others = threading.get_ident(), len(self.users)
        self.users = {t: ident for t, ident in self.users.items() if ident == here}
        if others and not self.users:
            self._set(self.before)

    def _set(self, counts: list[int]) -> None:
        for library, count in zip(self.libraries or [], counts, strict=True):
            # threadpoolctl 3.8 ignores all threads but the one that came first; the
            # last user to leave is often another one.
            release = getattr(library, "clear_controlling_thread", None)
            if release is not None:
                release(force=True)
            library.set_num_threads(count)
            if release is not None:
                release(force=True)


_blas = _OneBlasThread()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: our pool calls it on blocks, one block per core.

    The setting of BLAS belongs to the process, so overlapping uses share it and the
    last one to leave restores what the first one found. Also after Ctrl-C at any
    moment: what it interrupts here is done again.
    """
    token = object()
    try:
        _blas.enter(token)
        yield
    finally:
        try:
            _blas.leave(token)
        except BaseException:
            _blas.leave(token)
            raise


def _after_fork() -> None:
    """A child has none of the threads and must not inherit a lock that one held."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()
    _blas.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
