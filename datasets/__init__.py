"""Data sets for tests and benchmarks: ``load(name)`` returns ``X`` and ``y``.

The covtype sets come with this folder and need no file. Other sets are looked for in
``folder=``, in the folder named by the environment variable
``SUBSAMPLED_NEWTON_DATA``, and in the user's cache; what is not there is downloaded
into the cache where a public address is known. Every content has a pinned sha256.
Nothing is downloaded at import.
"""

from __future__ import annotations

import os

from datasets import _lookup, _readers
from datasets._readers import Matrix, Target
from datasets._records import DataSet
from datasets._registry import DATA_SETS
from datasets.libsvm import read_libsvm
from datasets.synthetic import covtype_like

__all__ = ["DataSet", "covtype_like", "describe", "load", "names", "read_libsvm"]


def names() -> tuple[str, ...]:
    """Return the names that `load` accepts.

    Returns
    -------
    tuple of str
        In the order of the registry.
    """
    return tuple(DATA_SETS)


def describe(name: str) -> DataSet:
    """Return shape, target, licence, origin and files of a data set.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    DataSet
        Frozen record.

    Raises
    ------
    ValueError
        If `name` is not one of `names`.
    """
    if not isinstance(name, str) or name not in DATA_SETS:
        raise ValueError(f"name must be one of {', '.join(DATA_SETS)}; got {name!r}")
    return DATA_SETS[name]


def load(
    name: str, *, folder: str | os.PathLike[str] | None = None
) -> tuple[Matrix, Target]:
    """Load a data set.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path, optional
        Folder searched first for the files of the set, before the folder named by
        ``SUBSAMPLED_NEWTON_DATA``, the cache and the download. Embedded and generated
        sets read no file from it.

    Returns
    -------
    X : ndarray or csr_matrix of float64 of shape (n, d)
        C order; int32 indices. As published, not scaled.
    y : ndarray of shape (n,)
        float64 for two classes (-1 and +1) and for regression, int64 for more classes.

    Raises
    ------
    ValueError
        If `name` is not one of `names`, a folder does not exist, or a file does not
        have the pinned content.
    FileNotFoundError
        If the files are in no folder and have no address.
    ImportError
        If a download is needed and pooch is not installed.
    OSError
        If a download fails.
    """
    data_set = describe(name)
    if not data_set.files:
        return _readers.without_files(name)
    contents = [_lookup.read(file, folder=folder) for file in data_set.files]
    return _readers.from_contents(data_set, contents)
