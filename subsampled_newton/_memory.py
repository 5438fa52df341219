"""How much memory there is, asked before something large is made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

__all__ = ["NotEnoughMemory", "affords", "available", "granted", "require"]

SMALL = 1 << 24
"""Bytes that are not worth a look at the system."""
GIGABYTE = 1e9


class NotEnoughMemory(MemoryError):
    """Something does not fit in the memory available; it was not tried."""


def require(n_bytes: float, what: str, remedy: str, held: float = 0.0) -> None:
    """Raise if something needs more memory than there is.

    Parameters
    ----------
    n_bytes : float
        Peak of the additional memory.
    what : str
        What needs it.
    remedy : str
        What to do instead.
    held : float, default 0
        The part of it that has been taken already.

    Raises
    ------
    NotEnoughMemory
        Saying how much it needs and how much is available.
    """
    if (free := _free(n_bytes, held)) < n_bytes:
        raise NotEnoughMemory(
            f"{what} needs about {n_bytes / GIGABYTE:.2g} GB of memory, "
            f"{free / GIGABYTE:.2g} GB are available: {remedy}"
        )


def affords(n_bytes: float, held: float = 0.0) -> bool:
    """Whether `require` would not raise."""
    return n_bytes <= _free(n_bytes, held)


def _free(n_bytes: float, held: float) -> float:
    """Bytes for something, with those that it holds; asks the system if need be."""
    left = _left()
    return left if n_bytes <= min(SMALL, left) else min(_system() + held, left)


def available() -> float:
    """Bytes that this process can still take; inf where the system does not tell.

    The least of what the machine has left, of what the limits of the control groups of
    the process leave, in both versions of these, and of the limit that the user has
    set. Files in the cache can be dropped.
    """
    return min(_system(), _left())


_LIMIT = "SUBSAMPLED_NEWTON_MEMORY_LIMIT"
"""Environment variable: bytes that a fit may take beside the data."""
_granted: ContextVar[float] = ContextVar("_granted", default=0.0)


@contextmanager
def granted(n_bytes: float) -> Iterator[None]:
    """Leave so much less of the user's limit to what is asked for in the block.

    What the system tells contains what has been taken, the user's limit does not.
    """
    before = _granted.get()
    try:
        _granted.set(before + n_bytes)
        yield
    finally:
        _granted.set(before)


def _left() -> float:
    """What the user's limit leaves; inf without one."""
    text = os.environ.get(_LIMIT)
    if text is None:
        return math.inf
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not limit >= 0.0:
        raise ValueError(f"{_LIMIT} must be a number of bytes >= 0, got {text!r}")
    return max(0.0, limit - _granted.get())


def _system() -> float:
    return min(_machine(), *(_group(*files) for files in _group_files()))


def _machine() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _group_files() -> list[tuple[Path, str, str, str]]:
    """Folder, and names of the limit, the usage and the cache in the statistics."""
    root = Path("/sys/fs/cgroup")
    found = [(root, *_V2), (root / "memory", *_V1)]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root, _V2
        elif "memory" in controllers.split(","):
            top, names = root / "memory", _V1
        else:
            continue
        folder = top / path.lstrip("/")
        # A limit of a group is one of those inside it.
        for group in (folder, *folder.parents):
            if not group.is_relative_to(top):
                break
            found.append((group, *names))
    return found


_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _group(folder: Path, limit: str, usage: str, cache: str) -> float:
    try:
        most = float((folder / limit).read_text())  # "max" is no number
        used = float((folder / usage).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            name, value = line.split()
            if name == cache:
                used -= float(value)
    except (OSError, ValueError):
        return float("inf")
    return max(0.0, most - used)
