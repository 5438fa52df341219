"""NIST's certified problems of nonlinear regression (StRD), stored in this folder.

27 problems, two starts each, the first far from the solution. The certified values were
computed in 128-bit arithmetic and are printed with eleven digits; see ``NIST.txt``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets._compression import decompress

__all__ = ["MODELS", "NistProblem", "digits", "load_nist", "nist_names"]

ARCHIVE = Path(__file__).with_name("nist.json.xz")
LIMIT = 200_000
# Of the decompressed content.
SHA256 = "cb8a4b938884f8684307fd83a67273f1bec57fbfa14455c3cff5c0f60e0ea02f"

Array = npt.NDArray[np.float64]
Model = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class NistProblem:
    """A regression problem with a certified solution.

    Parameters
    ----------
    name : str
        As NIST writes it.
    difficulty : {"lower", "average", "higher"}
        NIST's judgement.
    model : callable, (b, x) -> float
        Prediction from the parameters, indexed from 0, and one row of X. A plain
        function of scalars.
    X : ndarray of shape (n, 1) or (n, 2)
        Predictors.
    y : ndarray of shape (n,)
        Response; for Nelson its logarithm, which the model predicts.
    starts : ndarray of shape (2, p)
        The two starts.
    params, standard_errors : ndarray of shape (p,)
        Certified parameters and their standard deviations.
    sum_of_squares, residual_std : float
        Certified residual sum of squares and residual standard deviation.
    """

    name: str
    difficulty: str
    model: Model
    X: Array
    y: Array
    starts: Array
    params: Array
    standard_errors: Array
    sum_of_squares: float
    residual_std: float


def nist_names() -> tuple[str, ...]:
    """Return the names that `load_nist` accepts.

    Returns
    -------
    tuple of str
        In NIST's order: lower, average, higher difficulty.
    """
    return tuple(MODELS)


def load_nist(name: str) -> NistProblem:
    """Load a problem.

    Parameters
    ----------
    name : str
        One of `nist_names`.

    Returns
    -------
    NistProblem
        With arrays of its own.

    Raises
    ------
    ValueError
        If the name is not one of `nist_names`, or the file was changed.
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(MODELS)}; got {name!r}")
    record = _records()[name]
    y = np.array(record["y"])
    return NistProblem(
        name=name,
        difficulty=record["difficulty"],
        model=MODELS[name],
        X=np.array(record["x"]),
        y=np.log(y) if name == "Nelson" else y,
        starts=np.array(record["starts"]),
        params=np.array(record["params"]),
        standard_errors=np.array(record["standard_errors"]),
        sum_of_squares=record["sum_of_squares"],
        residual_std=record["residual_std"],
    )


def digits(computed: npt.ArrayLike, certified: npt.ArrayLike) -> float:
    """Return the number of correct digits, NIST's log relative error.

    Parameters
    ----------
    computed, certified : array-like
        Numbers and their true values.

    Returns
    -------
    float
        Smallest ``-log10(|computed - certified| / |certified|)``, at least 0 and at
        most 11, the number of digits that NIST prints; 0 for nan.
    """
    computed, certified = np.asarray(computed), np.asarray(certified)
    error = float(np.max(np.abs(computed - certified) / np.abs(certified)))
    if not error < 1.0:
        return 0.0
    return 11.0 if error <= 1e-11 else -math.log10(error)


@functools.cache
def _records() -> dict[str, dict[str, Any]]:
    content = decompress(ARCHIVE.read_bytes(), limit=LIMIT, what=str(ARCHIVE))
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(f"{ARCHIVE} must hold sha256 {SHA256}, got {found}")
    records: dict[str, dict[str, Any]] = json.loads(content)
    return records


# The models of NIST's files, b indexed from 0.


def _misra1a(b: Any, x: Any) -> Any:
    return b[0] * (1 - np.exp(-b[1] * x[0]))


def _misra1b(b: Any, x: Any) -> Any:
    return b[0] * (1 - (1 + b[1] * x[0] / 2) ** -2)


def _misra1c(b: Any, x: Any) -> Any:
    return b[0] * (1 - (1 + 2 * b[1] * x[0]) ** -0.5)


def _misra1d(b: Any, x: Any) -> Any:
    return b[0] * b[1] * x[0] * (1 + b[1] * x[0]) ** -1


def _chwirut(b: Any, x: Any) -> Any:
    return np.exp(-b[0] * x[0]) / (b[1] + b[2] * x[0])


def _lanczos(b: Any, x: Any) -> Any:
    return (
        b[0] * np.exp(-b[1] * x[0])
        + b[2] * np.exp(-b[3] * x[0])
        + b[4] * np.exp(-b[5] * x[0])
    )


def _gauss(b: Any, x: Any) -> Any:
    return (
        b[0] * np.exp(-b[1] * x[0])
        + b[2] * np.exp(-((x[0] - b[3]) ** 2) / b[4] ** 2)
        + b[5] * np.exp(-((x[0] - b[6]) ** 2) / b[7] ** 2)
    )


def _danwood(b: Any, x: Any) -> Any:
    return b[0] * x[0] ** b[1]


def _kirby2(b: Any, x: Any) -> Any:
    t = x[0]
    return (b[0] + b[1] * t + b[2] * t**2) / (1 + b[3] * t + b[4] * t**2)


def _hahn1(b: Any, x: Any) -> Any:
    t = x[0]
    above = b[0] + b[1] * t + b[2] * t**2 + b[3] * t**3
    return above / (1 + b[4] * t + b[5] * t**2 + b[6] * t**3)


def _nelson(b: Any, x: Any) -> Any:
    return b[0] - b[1] * x[0] * np.exp(-b[2] * x[1])


def _mgh17(b: Any, x: Any) -> Any:
    return b[0] + b[1] * np.exp(-x[0] * b[3]) + b[2] * np.exp(-x[0] * b[4])


def _roszman1(b: Any, x: Any) -> Any:
    return b[0] - b[1] * x[0] - np.arctan(b[2] / (x[0] - b[3])) / np.pi


def _enso(b: Any, x: Any) -> Any:
    t = 2 * np.pi * x[0]
    return (
        b[0]
        + b[1] * np.cos(t / 12)
        + b[2] * np.sin(t / 12)
        + b[4] * np.cos(t / b[3])
        + b[5] * np.sin(t / b[3])
        + b[7] * np.cos(t / b[6])
        + b[8] * np.sin(t / b[6])
    )


def _mgh09(b: Any, x: Any) -> Any:
    t = x[0]
    return b[0] * (t**2 + t * b[1]) / (t**2 + t * b[2] + b[3])


def _thurber(b: Any, x: Any) -> Any:
    t = x[0]
    above = b[0] + b[1] * t + b[2] * t**2 + b[3] * t**3
    return above / (1 + b[4] * t + b[5] * t**2 + b[6] * t**3)


def _boxbod(b: Any, x: Any) -> Any:
    return b[0] * (1 - np.exp(-b[1] * x[0]))


def _rat42(b: Any, x: Any) -> Any:
    return b[0] / (1 + np.exp(b[1] - b[2] * x[0]))


def _mgh10(b: Any, x: Any) -> Any:
    return b[0] * np.exp(b[1] / (x[0] + b[2]))


def _eckerle4(b: Any, x: Any) -> Any:
    return (b[0] / b[1]) * np.exp(-0.5 * ((x[0] - b[2]) / b[1]) ** 2)


def _rat43(b: Any, x: Any) -> Any:
    return b[0] / (1 + np.exp(b[1] - b[2] * x[0])) ** (1 / b[3])


def _bennett5(b: Any, x: Any) -> Any:
    return b[0] * (b[1] + x[0]) ** (-1 / b[2])


MODELS: dict[str, Model] = {
    "Misra1a": _misra1a,
    "Chwirut2": _chwirut,
    "Chwirut1": _chwirut,
    "Lanczos3": _lanczos,
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "DanWood": _danwood,
    "Misra1b": _misra1b,
    "Kirby2": _kirby2,
    "Hahn1": _hahn1,
    "Nelson": _nelson,
    "MGH17": _mgh17,
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Gauss3": _gauss,
    "Misra1c": _misra1c,
    "Misra1d": _misra1d,
    "Roszman1": _roszman1,
    "ENSO": _enso,
    "MGH09": _mgh09,
    "Thurber": _thurber,
    "BoxBOD": _boxbod,
    "Rat42": _rat42,
    "MGH10": _mgh10,
    "Eckerle4": _eckerle4,
    "Rat43": _rat43,
    "Bennett5": _bennett5,
}
