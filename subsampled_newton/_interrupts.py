"""Ctrl-C at any moment: it comes as it is, and leaves the settings as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

__all__ = ["as_interrupt", "quiet"]


@contextmanager
def quiet(
    *,
    all: Literal["ignore"] | None = None,
    divide: Literal["ignore"] | None = None,
    over: Literal["ignore"] | None = None,
    invalid: Literal["ignore"] | None = None,
) -> Iterator[None]:
    """``np.errstate``, restored also when Ctrl-C comes as a block is entered or left.

    Between the entry of ``np.errstate``, which is compiled, and the first line of its
    block Python answers signals, and then forgets to leave it. Here the generator is
    closed as it is collected; that may be after the blocks around it were left, which
    is why those forget the ones inside.
    """
    token = object()
    try:
        _entered().append((token, np.geterr()))
        np.seterr(all=all, divide=divide, over=over, invalid=invalid)
        yield
    finally:
        try:
            _leave(token)
        except BaseException:
            _leave(token)
            raise


_thread = threading.local()


def _entered() -> list[tuple[object, Any]]:
    """Blocks of this thread that were not left, and the settings before them."""
    if not hasattr(_thread, "entered"):
        _thread.entered = []
    entered: list[tuple[object, Any]] = _thread.entered
    return entered


def _leave(token: object) -> None:
    entered = _entered()
    while token in (block for block, _ in entered):
        np.seterr(**entered[-1][1])
        entered.pop()


def as_interrupt(error: BaseException) -> BaseException:
    """Return the KeyboardInterrupt that a SystemError stands for, or the error itself.

    Numba calls back into Python when a kernel is entered or left; a signal that is
    answered there ends as "returned a result with an exception set".
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__ or cause.__context__
    if cause is not error and isinstance(cause, KeyboardInterrupt):
        return KeyboardInterrupt()
    return error
