"""Ctrl-C at any moment: it comes as it is, and leaves the settings as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

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
    block Python answers signals, and then forgets to leave it.
    """
    before = np.geterr()
    try:
        np.seterr(all=all, divide=divide, over=over, invalid=invalid)
        yield
    finally:
        try:
            np.seterr(**before)
        except BaseException:
            np.seterr(**before)
            raise


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
