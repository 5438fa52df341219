"""How much memory there is, asked before something large is made."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["NotEnoughMemory", "available", "require"]

SMALL = 1 << 27
"""Bytes that are not worth a look at the system."""
GIGABYTE = 1e9


class NotEnoughMemory(MemoryError):
    """Something does not fit in the memory available; it was not tried."""


def require(n_bytes: float, what: str, remedy: str) -> None:
    """Raise if something needs more memory than there is.

    Parameters
    ----------
    n_bytes : float
        Peak of the additional memory.
    what : str
        What needs it.
    remedy : str
        What to do instead.

    Raises
    ------
    NotEnoughMemory
        Saying how much it needs and how much is available.
    """
    if n_bytes > SMALL and n_bytes > (free := available()):
        raise NotEnoughMemory(
            f"{what} needs about {n_bytes / GIGABYTE:.2g} GB of memory, "
            f"{free / GIGABYTE:.2g} GB are available: {remedy}"
        )


def available() -> float:
    """Bytes that this process can still take; inf where the system does not tell.

    The least of what the machine has left and of what the limits of the control groups
    of the process leave, in both versions of these. Files in the cache can be dropped.
    """
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
