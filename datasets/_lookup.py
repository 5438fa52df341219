"""Find the file of a data set: given folder, environment, cache, download.

Whatever the place, the decompressed content must have the sha256 written in the
registry. A file with another content is an error; the search never goes on past it.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from datasets._compression import decompress
from datasets._records import DataFile

VARIABLE = "SUBSAMPLED_NEWTON_DATA"
PROJECT = "subsampled_newton"
SUFFIXES = ("", ".bz2", ".gz", ".xz")
# Compressed files of incompressible content are a little larger than the content.
_SLACK = 2**16
_TIMEOUT = 60.0  # seconds without an answer
# Seconds after which a download that has not been written to has no process any more.
_ABANDONED = 86_400.0


class LimitedWriter:
    """Binary file that refuses to grow above a limit."""

    def __init__(self, file: BinaryIO, limit: int, address: str) -> None:
        self.file, self.limit, self.address = file, limit, address
        self.written = 0

    def write(self, chunk: bytes) -> int:
        self.written += len(chunk)
        if self.written > self.limit:
            raise ValueError(f"{self.address} must have at most {self.limit} bytes")
        return self.file.write(chunk)

    def flush(self) -> None:
        self.file.flush()


class Downloader(Protocol):
    """What a downloader of pooch offers, as far as it is used here."""

    def __call__(
        self, url: str, output_file: LimitedWriter, pooch: None, /
    ) -> object: ...


def cache_folder() -> Path:
    """Return the folder for downloads in the user's cache. It may not exist yet."""
    try:
        import pooch
    except ImportError:
        pass
    else:
        return Path(pooch.os_cache(PROJECT))
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(local) / PROJECT / PROJECT / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / PROJECT
    base = os.environ.get("XDG_CACHE_HOME", "").strip() or Path.home() / ".cache"
    return Path(base) / PROJECT


def read(
    file: DataFile,
    *,
    folder: str | os.PathLike[str] | None = None,
    downloader: Downloader | None = None,
) -> bytes:
    """Return the verified, decompressed content of a file.

    Parameters
    ----------
    file : DataFile
        What to look for.
    folder : path, optional
        Searched first.
    downloader : Downloader, optional
        Default: ``pooch.HTTPDownloader``.

    Returns
    -------
    bytes
        Content with one of the accepted checksums.

    Raises
    ------
    ValueError
        If a given folder does not exist, or a file has another content.
    FileNotFoundError
        If no folder has the file and it has no address.
    ImportError
        If a download is needed and pooch is not installed.
    OSError
        If no address could be read.
    """
    for place in _folders(folder):
        for stem in file.stems:
            for suffix in SUFFIXES:
                path = place / (stem + suffix)
                if path.is_file():
                    return verify(path, file)
    if not file.addresses:
        raise FileNotFoundError(
            f"{file.stems[0]} has no public address with this content; give the folder "
            f"that holds it (as it is, .bz2, .gz or .xz) as folder= or in {VARIABLE}"
        )
    return _download(file, downloader or _pooch_downloader(file))


def verify(path: Path, file: DataFile) -> bytes:
    """Return the decompressed content of `path`, or raise ValueError."""
    with path.open("rb") as stream:
        raw = stream.read(file.size + _SLACK + 1)
    content = decompress(raw, limit=file.size, what=str(path))
    found = hashlib.sha256(content).hexdigest()
    if found not in file.sha256:
        raise ValueError(
            f"{path} must have (decompressed) sha256 {' or '.join(file.sha256)}, "
            f"got {found}; remove or replace the file"
        )
    return content


def _folders(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    # An empty variable counts as unset.
    variable = os.environ.get(VARIABLE) or None
    for name, value in (("folder", folder), (VARIABLE, variable)):
        if value is not None:
            if not isinstance(value, str | os.PathLike) or not Path(value).is_dir():
                raise ValueError(f"{name} must be an existing folder, got {value!r}")
            yield Path(value)
    yield cache_folder()


def _pooch_downloader(file: DataFile) -> Downloader:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"{file.stems[0]} is not on this machine and a download needs pooch: "
            'pip install ".[data]"; or give the folder that holds the file as folder= '
            f"or in {VARIABLE}"
        ) from error
    # 1 MiB at a time; pooch's 1 KiB makes Python the bottleneck.
    made: Downloader = pooch.HTTPDownloader(timeout=_TIMEOUT, chunk_size=2**20)
    return made


def _download(file: DataFile, downloader: Downloader) -> bytes:
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    failures = []
    for address in file.addresses:
        suffix = PurePosixPath(urlsplit(address).path).suffix
        name = file.stems[0] + (suffix if suffix in SUFFIXES else "")
        _remove_abandoned(cache, name)
        # In the same folder, so that the rename below cannot leave half a file.
        handle, temporary = tempfile.mkstemp(dir=cache, prefix=name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                writer = LimitedWriter(stream, file.size + _SLACK, address)
                downloader(address, writer, None)
            content = verify(Path(temporary), file)
            os.replace(temporary, cache / name)
        except (OSError, ValueError) as error:
            failures.append(f"{address}: {error}")
        else:
            return content
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    raise OSError(
        f"{file.stems[0]} could not be downloaded to {cache}: " + "; ".join(failures)
    )


def _remove_abandoned(cache: Path, name: str) -> None:
    """Remove what killed processes have left of the same download."""
    for path in cache.glob(f"{glob.escape(name)}*.part"):
        with contextlib.suppress(OSError):  # another process was first
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()
