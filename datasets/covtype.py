"""Forest CoverType, stored in this folder without loss in ``covtype.xz``.

The rows of the original file lie in the order of the survey, so neighbouring rows
are alike. Format (an xz stream; see ``make_covtype.py`` for the writer):

1. the magic bytes ``COVTYPE1`` and the number of rows ``n``, little-endian uint32;
2. three tables of uint8, one per hillshade column, indexed by ``67 * aspect + slope``:
   the most frequent hillshade of that orientation;
3. for each of the seven other quantitative columns: the step from the row above, in
   zigzag order (0, -1, 1, -2, ...), as a plane of low bytes and one of high bytes;
4. for each hillshade column: its difference to the table, modulo 256, as a plane;
5. three planes: wilderness area (0..3), soil type (0..39), class (1..7).
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasets._compression import decompress

ARCHIVE = Path(__file__).with_name("covtype.xz")
MAGIC = b"COVTYPE1"
N_ROWS = 581_012
N_COLUMNS = 54
N_ASPECTS, N_SLOPES = 361, 67
HILLSHADE = (6, 7, 8)
STEPPED = (0, 1, 2, 3, 4, 5, 9)
ASPECT, SLOPE = 1, 2
CLASS_COUNTS = (211_840, 283_301, 35_754, 2_747, 9_493, 17_367, 20_510)
# Of the decoded columns, see `digest`.
SHA256 = "7c40629872b53375d908e69a5a8b7400fec2bb95fb9fd7ef159a14ca2de3f6ed"

Int16 = npt.NDArray[np.int16]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def body_size(n: int) -> int:
    """Return the number of bytes of the decompressed format.

    Parameters
    ----------
    n : int
        Number of rows.

    Returns
    -------
    int
        Header, tables and planes.
    """
    tables = len(HILLSHADE) * N_ASPECTS * N_SLOPES
    planes = 2 * len(STEPPED) + len(HILLSHADE) + 3
    return len(MAGIC) + 4 + tables + planes * n


def digest(columns: Int16) -> str:
    """Return the sha256 of the columns as little-endian int16, row after row.

    Parameters
    ----------
    columns : ndarray of int16 of shape (n, 13)
        What `decode` returns.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    return hashlib.sha256(columns.astype("<i2").tobytes()).hexdigest()


def decode(body: bytes) -> Int16:
    """Decode the columns from the decompressed format.

    Parameters
    ----------
    body : bytes
        Content of the xz stream.

    Returns
    -------
    ndarray of int16 of shape (n, 13)
        Ten quantitative columns, wilderness area, soil type, class.

    Raises
    ------
    ValueError
        If the magic bytes or the length are not those of the format.
    """
    start = len(MAGIC) + 4
    if body[: len(MAGIC)] != MAGIC or len(body) < start:
        raise ValueError(
            f"covtype archive must start with {MAGIC!r} and a row count, "
            f"got {body[:start]!r}"
        )
    (n,) = struct.unpack_from("<I", body, len(MAGIC))
    if len(body) != body_size(n):
        raise ValueError(
            f"covtype archive of {n} rows must have {body_size(n)} bytes, "
            f"got {len(body)}"
        )
    split = start + len(HILLSHADE) * N_ASPECTS * N_SLOPES
    tables = np.frombuffer(body[start:split], np.uint8).reshape(len(HILLSHADE), -1)
    planes = iter(np.frombuffer(body[split:], np.uint8).reshape(-1, n))
    columns = np.empty((n, 13), np.int16)
    for j in STEPPED:
        zigzag = next(planes) | (next(planes).astype(np.uint16) << 8)
        step = (zigzag >> 1).astype(np.int16) ^ -(zigzag & 1).astype(np.int16)
        columns[:, j] = np.cumsum(step, dtype=np.int16)
    # At most 360 * 67 + 66, which fits int16.
    orientation = columns[:, ASPECT] * N_SLOPES + columns[:, SLOPE]
    for table, j in zip(tables, HILLSHADE, strict=True):
        # "clip": a bad archive shall fail by its checksum and not by an index.
        columns[:, j] = table.take(orientation, mode="clip") + next(planes)
    for j in (10, 11, 12):
        columns[:, j] = next(planes)
    return columns


def load_columns() -> Int16:
    """Read the archive, decode it and verify the content.

    Returns
    -------
    ndarray of int16 of shape (581012, 13)
        See `decode`.

    Raises
    ------
    ValueError
        If the content is not the published data set.
    """
    raw = ARCHIVE.read_bytes()
    columns = decode(decompress(raw, limit=body_size(N_ROWS), what=str(ARCHIVE)))
    found = digest(columns)
    if found != SHA256:
        raise ValueError(f"{ARCHIVE} must decode to sha256 {SHA256}, got {found}")
    return columns


def load_covtype() -> tuple[Float64, Int64]:
    """Return the original columns and the seven classes.

    Returns
    -------
    X : ndarray of float64 of shape (581012, 54)
        Ten quantitative columns, four of wilderness areas, 40 of soil types.
    y : ndarray of int64 of shape (581012,)
        Class, 1 to 7.
    """
    columns = load_columns()
    X = np.zeros((len(columns), N_COLUMNS))
    X[:, :10] = columns[:, :10]
    _fill_levels(X, columns)
    return X, columns[:, 12].astype(np.int64)


def load_scaled() -> tuple[Float64, Float64]:
    """Return LIBSVM's scaled binary problem.

    Each quantitative column is mapped to [0, 1] by its smallest and largest value and
    rounded to six significant digits, as ``svm-scale`` prints it; the indicator columns
    stay as they are. The result equals the content of LIBSVM's
    ``covtype.libsvm.binary.scale.bz2`` (md5 ``d95f45e15c284005c2c7a4c82e4be102``) bit
    for bit, with LIBSVM's labels 2 and 1 written as +1 and -1.

    Returns
    -------
    X : ndarray of float64 of shape (581012, 54)
        Columns in [0, 1].
    y : ndarray of float64 of shape (581012,)
        +1 for class 2 (lodgepole pine), -1 for the others.
    """
    columns = load_columns()
    X = np.zeros((len(columns), N_COLUMNS))
    for j in range(10):
        column = columns[:, j].astype(np.int32)
        low, high = int(column.min()), int(column.max())
        # Formatting a table of the few distinct values, not 581012 numbers.
        table = [float(f"{v / (high - low):.6g}") for v in range(high - low + 1)]
        X[:, j] = np.array(table)[column - low]
    _fill_levels(X, columns)
    return X, binary_labels(columns[:, 12])


def binary_labels(classes: npt.NDArray[np.integer]) -> Float64:
    """Return the labels of LIBSVM's binary problem.

    Parameters
    ----------
    classes : ndarray of int of shape (n,)
        Class, 1 to 7.

    Returns
    -------
    ndarray of float64 of shape (n,)
        +1 for class 2 (lodgepole pine), -1 for the others.
    """
    return np.where(classes == 2, 1.0, -1.0)


def _fill_levels(X: Float64, columns: Int16) -> None:
    rows = np.arange(len(columns))
    X[rows, 10 + columns[:, 10]] = 1.0
    X[rows, 14 + columns[:, 11]] = 1.0
