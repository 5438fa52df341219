"""Records that describe data sets and their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["embedded", "generated", "libsvm", "idx", "wine"]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Parameters
    ----------
    stems : tuple of str
        Names without the suffix of the compression. The first is used in the cache.
    sha256 : tuple of str
        Accepted checksums of the decompressed content.
    size : int
        Largest number of bytes of the accepted contents.
    addresses : tuple of str
        Public addresses, tried in this order.
    """

    stems: tuple[str, ...]
    sha256: tuple[str, ...]
    size: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """Description of a data set.

    Parameters
    ----------
    name : str
        Name for `datasets.load`.
    shape : tuple of int
        Rows and columns of X.
    target : str
        Meaning and values of y.
    licence : str
        Licence as stated by the source.
    origin : str
        Originators, to be cited with results.
    form : str
        "embedded" and "generated" sets need no file; otherwise the format of the files.
    sparse : bool
        Whether X is a CSR matrix.
    n_entries : int, optional
        Stored entries of a libsvm file.
    labels : tuple of (float, float) pairs
        Label in the file and label returned, for files that are converted.
    integer_target : bool
        Whether y is int64 (classes) and not float64.
    files : tuple of DataFile
        Files to find or download.
    """

    name: str
    shape: tuple[int, int]
    target: str
    licence: str
    origin: str
    form: Form
    sparse: bool = False
    n_entries: int | None = None
    labels: tuple[tuple[float, float], ...] = ()
    integer_target: bool = False
    files: tuple[DataFile, ...] = ()
