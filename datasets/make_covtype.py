"""Write ``covtype.xz`` from the original comma-separated file.

Run from the root of the repository::

    python -m datasets.make_covtype covtype.csv

The input is ``covtype.data`` of the UCI Machine Learning Repository (see
``COVTYPE.txt``), plain or compressed, or the same with one header line. The output
depends on the input only; another version of liblzma may compress it to other bytes,
which decode to the same columns.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import lzma
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasets._compression import decompress
from datasets.covtype import (
    ARCHIVE,
    ASPECT,
    CLASS_COUNTS,
    HILLSHADE,
    MAGIC,
    N_ASPECTS,
    N_ROWS,
    N_SLOPES,
    STEPPED,
    Int16,
    decode,
    digest,
)
from datasets.covtype import SLOPE as SLOPE_COLUMN

# Of covtype.data without a header line, 75169317 bytes.
CSV_SHA256 = "0a9371cef7c964b5475d6053cc3e0894a5aa6f65ad1ed3ecb01c45aa96217945"
CSV_LIMIT = 80_000_000


def read_columns(path: Path) -> Int16:
    """Read and verify the comma-separated file.

    Parameters
    ----------
    path : Path
        Plain, gz, bz2 or xz, with or without a header line.

    Returns
    -------
    ndarray of int16 of shape (581012, 13)
        The columns of `datasets.covtype.decode`.

    Raises
    ------
    ValueError
        If the content is not ``covtype.data``.
    """
    text = decompress(path.read_bytes(), limit=CSV_LIMIT, what=str(path))
    if text[:1].isalpha():
        text = text.partition(b"\n")[2]
    found = hashlib.sha256(text).hexdigest()
    if found != CSV_SHA256:
        raise ValueError(f"{path} must have sha256 {CSV_SHA256}, got {found}")
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.int16)
    for first, last in ((10, 14), (14, 54)):
        if not (np.sum(table[:, first:last], axis=1) == 1).all():
            raise ValueError(f"columns {first} to {last - 1} must hold a single 1")
    columns = np.empty((len(table), 13), np.int16)
    columns[:, :10] = table[:, :10]
    columns[:, 10] = table[:, 10:14].argmax(axis=1)
    columns[:, 11] = table[:, 14:54].argmax(axis=1)
    columns[:, 12] = table[:, 54]
    counts = tuple(np.bincount(columns[:, 12], minlength=8)[1:].tolist())
    if len(columns) != N_ROWS or counts != CLASS_COUNTS:
        raise ValueError(f"class counts must be {CLASS_COUNTS}, got {counts}")
    return columns


def encode(columns: Int16) -> bytes:
    """Encode the columns in the format of `datasets.covtype`, not compressed.

    Parameters
    ----------
    columns : ndarray of int16 of shape (n, 13)
        Aspect in 0..360, slope in 0..66, hillshades in 0..255, the last three columns
        in 0..255.

    Returns
    -------
    bytes
        What `datasets.covtype.decode` reads.
    """
    tables: list[npt.NDArray[np.uint8]] = []
    planes: list[npt.NDArray[np.uint8]] = []
    for j in STEPPED:
        # Steps may leave int16; they wrap around here and back in `decode`.
        step = np.diff(columns[:, j], prepend=np.int16(0))
        zigzag = ((step << 1) ^ (step >> 15)).view(np.uint16)
        planes += [zigzag.astype(np.uint8), (zigzag >> 8).astype(np.uint8)]
    orientation = columns[:, ASPECT].astype(np.int64) * N_SLOPES
    orientation += columns[:, SLOPE_COLUMN]
    n_orientations = N_ASPECTS * N_SLOPES
    for j in HILLSHADE:
        cell = orientation * 256 + columns[:, j]
        counts = np.bincount(cell, minlength=256 * n_orientations)
        table = counts.reshape(n_orientations, 256).argmax(axis=1).astype(np.uint8)
        tables.append(table)
        planes.append(columns[:, j].astype(np.uint8) - table[orientation])
    planes += [columns[:, j].astype(np.uint8) for j in (10, 11, 12)]
    header = MAGIC + struct.pack("<I", len(columns))
    return header + b"".join(part.tobytes() for part in tables + planes)


def compress(body: bytes) -> bytes:
    """Compress with xz; settings chosen by size on this file.

    Parameters
    ----------
    body : bytes
        What `encode` returns.

    Returns
    -------
    bytes
        Content of ``covtype.xz``.
    """
    # One byte a sample: no alignment of positions (lp, pb) to model.
    preset = 9 | lzma.PRESET_EXTREME
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "lc": 4, "lp": 0, "pb": 0}]
    return lzma.compress(
        body, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    parser = argparse.ArgumentParser(description="Write the embedded covtype file.")
    parser.add_argument("csv", type=Path, help="covtype.data, with or without a header")
    parser.add_argument(
        "--output", type=Path, default=ARCHIVE, help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    columns = read_columns(options.csv)
    body = encode(columns)
    if not np.array_equal(decode(body), columns):
        raise RuntimeError("the encoding is not lossless: a defect of this script")
    packed = compress(body)
    options.output.write_bytes(packed)
    print(f"{options.output}: {len(packed)} bytes, columns sha256 {digest(columns)}")


if __name__ == "__main__":
    main()
