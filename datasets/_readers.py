"""From the verified content of the files of a data set to X and y."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse

from datasets import covtype, synthetic
from datasets._records import DataSet
from datasets.libsvm import read_libsvm

Matrix: TypeAlias = npt.NDArray[np.float64] | scipy.sparse.csr_matrix
Target: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int64]


def without_files(name: str) -> tuple[Matrix, Target]:
    """Return an embedded or generated set."""
    if name == "covtype.synthetic":
        return synthetic.covtype_like()
    if name == "covtype.binary.scale":
        return covtype.load_scaled()
    X, classes = covtype.load_covtype()
    return X, covtype.binary_labels(classes) if name == "covtype.binary" else classes


def from_contents(
    data_set: DataSet, contents: Sequence[bytes]
) -> tuple[Matrix, Target]:
    """Parse the contents of the files of a set, in the order of the registry.

    Raises
    ------
    ValueError
        If the result is not of the registered shape.
    """
    readers: dict[str, Callable[..., tuple[Matrix, Target]]] = {
        "libsvm": _libsvm,
        "idx": _idx,
        "wine": _wine,
    }
    X, y = readers[data_set.form](data_set, *contents)
    if X.shape != data_set.shape or y.shape != data_set.shape[:1]:
        raise ValueError(
            f"{data_set.name} must have shape {data_set.shape}, got {X.shape}"
        )
    if data_set.integer_target:
        return X, y.astype(np.int64, copy=False)
    return X, y.astype(np.float64, copy=False)


def _libsvm(data_set: DataSet, text: bytes) -> tuple[Matrix, Target]:
    X, y = read_libsvm(
        io.BytesIO(text),
        n_features=data_set.shape[1],
        n_rows=data_set.shape[0],
        n_entries=data_set.n_entries,
        final_newline=False,  # complete by its checksum
    )
    if data_set.labels:
        table = dict(data_set.labels)
        y = np.array([table[label] for label in y.tolist()])
    return (X if data_set.sparse else X.toarray()), y


def _idx(data_set: DataSet, images: bytes, labels: bytes) -> tuple[Matrix, Target]:
    # Headers: 16 bytes (magic, number, rows, columns) and 8 bytes (magic, number).
    pixels = np.frombuffer(images, np.uint8, offset=16)
    X = pixels.reshape(-1, data_set.shape[1]).astype(np.float64)
    return X, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def _wine(data_set: DataSet, *tables: bytes) -> tuple[Matrix, Target]:
    table = np.vstack(
        [np.loadtxt(io.BytesIO(text), delimiter=";", skiprows=1) for text in tables]
    )
    return np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1])
