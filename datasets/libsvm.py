"""Read libsvm text without guessing.

`sklearn.datasets.load_svmlight_file` does the parsing. It accepts a few things in
silence that would spoil a benchmark: nan and infinite values and labels, numbers like
``1e999`` or ``1_0``, ``qid`` entries, an empty file, and a file cut off in the middle
of a number. It also guesses whether indices start at 0 or 1. The reader here refuses
or fixes these.
"""

from __future__ import annotations

import io
import os
import re
import reprlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import scipy.sparse
from sklearn.datasets import load_svmlight_file

from datasets._compression import decompress

_NUMBER = rb"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+"
# Possessive quantifiers: a bad line must not cost time by backtracking.
_ROW = re.compile(
    rb"[ \t]*+" + _NUMBER + rb"(?:[ \t]++[0-9]++:" + _NUMBER + rb")*+[ \t]*+\r?+\n?+"
)
# What load_svmlight_file can read: its indices are of 32 bits.
_MAX_FEATURES = 2**31 - 1
# An index of more digits does not fit int64; Python refuses to convert very long ones.
_MAX_INDEX_DIGITS = 18


def read_libsvm(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    n_features: int,
    n_rows: int | None = None,
    n_entries: int | None = None,
    final_newline: bool = True,
    max_bytes: int = 2**30,
) -> tuple[scipy.sparse.csr_matrix, npt.NDArray[np.float64]]:
    """Read a file of lines ``label index:value index:value ...``.

    Indices start at 1 and ascend within a line. Blank lines and text after ``#`` are
    skipped. Explicit zeros are kept.

    Parameters
    ----------
    source : path or binary file
        Plain text or bz2, gzip or xz of it, recognized by its first bytes.
    n_features : int, from 1 to 2**31 - 1
        Number of columns. A file need not use the last ones.
    n_rows : int, optional
        Expected number of rows.
    n_entries : int, optional
        Expected number of stored entries.
    final_newline : bool, default True
        Whether the last line must end in a newline. This finds cut-off files. False is
        for content verified by other means.
    max_bytes : int, default 2**30
        Largest size of the text.

    Returns
    -------
    X : csr_matrix of float64 of shape (n, n_features)
        int32 indices if they fit, int64 otherwise.
    y : ndarray of float64 of shape (n,)
        Labels as in the file.

    Raises
    ------
    ValueError
        If the file is not of this form, is empty or cut off, holds a label or value
        that is not finite or an index above `n_features`, or is not of the expected
        size. The message has the file and, where one is to blame, the line.
    TypeError
        If `source` is an open text file or `n_features` is not an integer.
    """
    _check_count("n_features", n_features, _MAX_FEATURES)
    _check_count("max_bytes", max_bytes, 2**62)
    for name, expected in (("n_rows", n_rows), ("n_entries", n_entries)):
        if expected is not None:
            _check_count(name, expected, 2**62, least=0)
    if not isinstance(final_newline, bool | np.bool_):
        raise TypeError(
            f"final_newline must be True or False, got {reprlib.repr(final_newline)}"
        )
    if not isinstance(source, str | os.PathLike) and not hasattr(source, "read"):
        raise TypeError(
            f"source must be a path or a binary file, got {reprlib.repr(source)}"
        )
    text, what = _read_text(source, max_bytes)
    if final_newline and text and not text.endswith(b"\n"):
        last = text.count(b"\n") + 1
        raise ValueError(f"{what}, line {last}: must end in a newline, the file is cut")
    _check_lines(text, what)
    X, y = _parse(text, what, int(n_features))
    _check_finite(X, y, text, what)
    for name, expected, found in (
        ("rows", n_rows, X.shape[0]),
        ("entries", n_entries, X.nnz),
    ):
        if expected is not None and found != expected:
            raise ValueError(f"{what}: must have {expected} {name}, got {found}")
    return X, y


def _check_count(name: str, value: object, most: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {reprlib.repr(value)}")
    if not least <= value <= most:
        bound = f"> {least - 1}" if least else ">= 0"
        raise ValueError(
            f"{name} must be {bound} and <= {most}, got {reprlib.repr(int(value))}"
        )


def _read_text(
    source: str | os.PathLike[str] | BinaryIO, max_bytes: int
) -> tuple[bytes, str]:
    if isinstance(source, str | os.PathLike):
        what = os.fspath(source)
        with open(source, "rb") as file:
            raw = file.read(max_bytes + 1)
    else:
        what = str(getattr(source, "name", "libsvm file"))
        raw = source.read(max_bytes + 1)
        if not isinstance(raw, bytes):
            raise TypeError(
                f"source must be a path or a binary file, got one of {type(raw)}"
            )
    return decompress(raw, limit=max_bytes, what=what), what


def _rows(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield line number and content of every line that holds a row."""
    start, number = 0, 0
    while start < len(text):
        end = text.find(b"\n", start) + 1 or len(text)
        number += 1
        line = text[start:end]
        start = end
        if b"#" in line:
            line = line.partition(b"#")[0]
        if line.strip(b" \t\r\n"):
            yield number, line


def _check_lines(text: bytes, what: str) -> None:
    empty = True
    for number, line in _rows(text):
        empty = False
        if not _ROW.fullmatch(line):
            shown = line[:80].decode("ascii", "backslashreplace").rstrip()
            raise ValueError(
                f"{what}, line {number}: must be 'label index:value ...', got {shown!r}"
            )
    if empty:
        raise ValueError(f"{what}: must hold at least one row, got none")


def _parse(
    text: bytes, what: str, n_features: int
) -> tuple[scipy.sparse.csr_matrix, npt.NDArray[np.float64]]:
    try:
        X, y = load_svmlight_file(
            io.BytesIO(text), n_features=n_features, dtype=np.float64, zero_based=False
        )
    except (ValueError, OverflowError) as error:
        _check_indices(text, what, n_features)
        raise ValueError(f"{what}: {error}") from error
    if max(*X.shape, X.nnz) <= np.iinfo(np.int32).max:
        X.indices = X.indices.astype(np.int32, copy=False)
        X.indptr = X.indptr.astype(np.int32, copy=False)
    return X, y


def _check_indices(text: bytes, what: str, n_features: int) -> None:
    """Find the line that the parser refused; only called after it did."""
    for number, line in _rows(text):
        previous = 0
        for entry in line.split()[1:]:
            digits = entry.partition(b":")[0].lstrip(b"0") or b"0"
            too_long = len(digits) > _MAX_INDEX_DIGITS
            index = n_features + 1 if too_long else int(digits)
            if not previous < index <= n_features:
                raise ValueError(
                    f"{what}, line {number}: indices must ascend from 1 to "
                    f"{n_features}, got {digits[:20].decode()} after {previous}"
                )
            previous = index


def _check_finite(
    X: scipy.sparse.csr_matrix, y: npt.NDArray[np.float64], text: bytes, what: str
) -> None:
    """Refuse numbers that overflow, like 1e999; nan and inf never get here."""
    bad = np.flatnonzero(~np.isfinite(y))
    bad_entries = np.flatnonzero(~np.isfinite(X.data))
    bad_rows = np.searchsorted(X.indptr, bad_entries, side="right") - 1
    if len(bad) or len(bad_rows):
        row = min([*bad[:1].tolist(), *bad_rows[:1].tolist()])
        number = next(n for i, (n, _) in enumerate(_rows(text)) if i == row)
        raise ValueError(f"{what}, line {number}: numbers must fit float64")
