"""Decompression with a limit, by the first bytes of a file and not by its name."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Protocol

# xz -9 needs 65 MiB. A stream that asks for more is not one of ours.
_XZ_MEMORY = 256 * 2**20


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _new_decompressor(raw: bytes) -> _Decompressor | None:
    if raw.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if raw.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31)  # 31: a gzip header is required
    if raw.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    return None


def decompress(raw: bytes, *, limit: int, what: str) -> bytes:
    """Decompress bz2, gzip or xz content; return anything else as it is.

    Parameters
    ----------
    raw : bytes
        Content of a file. Several streams one after the other are joined.
    limit : int, > 0
        Largest number of bytes of the result. Decompression stops there, so that a
        small file cannot fill the memory.
    what : str
        Name of the file for error messages.

    Returns
    -------
    bytes
        Decompressed content.

    Raises
    ------
    ValueError
        If the content is damaged, cut off, followed by other bytes, or above `limit`.
    """
    if _new_decompressor(raw) is None:
        if len(raw) > limit:
            raise ValueError(f"{what} must have at most {limit} bytes, got {len(raw)}")
        return raw
    parts = []
    room = limit
    while raw:
        stream = _new_decompressor(raw)
        if stream is None:
            raise ValueError(
                f"{what} must be compressed to its end, got {len(raw)} other bytes"
            )
        try:
            part = stream.decompress(raw, room + 1)
        except (OSError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{what} cannot be decompressed: {error}") from error
        if len(part) > room:
            raise ValueError(f"{what} must have at most {limit} bytes, got more")
        if not stream.eof:
            raise ValueError(f"{what} must be complete, got a cut-off stream")
        parts.append(part)
        room -= len(part)
        raw = stream.unused_data
    return b"".join(parts)
