"""A generated stand-in for covtype: same shape and magnitudes, any number of rows."""

from __future__ import annotations

import math
import reprlib

import numpy as np
import numpy.typing as npt

# Mean, standard deviation, smallest and largest value of covtype's first ten columns.
_MEAN = (2959.4, 155.7, 14.1, 269.4, 46.4, 2350.1, 212.1, 223.3, 142.5, 1980.3)
_SPREAD = (280.0, 111.9, 7.5, 212.5, 58.3, 1559.3, 26.8, 19.8, 38.3, 1324.2)
_LOW = (1859.0, 0.0, 0.0, 0.0, -173.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_HIGH = (3858.0, 360.0, 66.0, 1397.0, 601.0, 7117.0, 254.0, 254.0, 254.0, 7173.0)
_N_CONTINUOUS = len(_MEAN)
_N_FACTORS = 4
_N_WILDERNESS, _N_SOIL = 4, 40
# Rows of the last soil types: as in covtype, a few levels are carried by few rows.
_RARE = (24, 12, 6, 3)
_MIN_ROWS = 1000


def covtype_like(
    n: int = 581_012, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw a binary problem of the shape of covtype.

    Ten correlated columns are drawn from a factor model with covtype's means, spreads
    and ranges, rounded to integers and not scaled. A block of four and a block of 40
    indicator columns follow, one level a row. The frequency of the k-th level is
    proportional to 1/k; the last four of the 40 have 24, 12, 6 and 3 rows whatever `n`,
    so that some rows have a leverage score near one. Labels follow a logistic model of
    all columns, standardized, with its median at zero.

    Parameters
    ----------
    n : int, >= 1000, default 581012
        Number of rows.
    seed : int, >= 0, default 0
        Seed of ``numpy.random.default_rng``.

    Returns
    -------
    X : ndarray of float64 of shape (n, 54)
        C order.
    y : ndarray of float64 of shape (n,)
        -1 and +1, about half of each. No hyperplane separates them.

    Raises
    ------
    ValueError
        If `n` or `seed` is too small.
    TypeError
        If `n` or `seed` is not an integer.
    """
    for name, value, least, most in (
        ("n", n, _MIN_ROWS, 2**48),
        ("seed", seed, 0, math.inf),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} must be an integer, got {reprlib.repr(value)}")
        if not least <= value < most:
            bound = f" and < {most}" if value > least else ""
            raise ValueError(
                f"{name} must be >= {least}{bound}, got {reprlib.repr(int(value))}"
            )
    rng = np.random.default_rng(seed)
    X = np.zeros((n, _N_CONTINUOUS + _N_WILDERNESS + _N_SOIL))
    continuous = _continuous(rng, n)
    wilderness = _levels(rng, _zipf_counts(n, _N_WILDERNESS))
    common = _zipf_counts(n - sum(_RARE), _N_SOIL - len(_RARE))
    soil = _levels(rng, np.append(common, _RARE))
    score = continuous @ rng.normal(0.0, 0.5, _N_CONTINUOUS)
    score += rng.normal(0.0, 0.5, _N_WILDERNESS)[wilderness]
    score += rng.normal(0.0, 1.0, _N_SOIL)[soil]
    score -= np.median(score)
    y = np.where(rng.logistic(size=n) < score, 1.0, -1.0)
    raw = np.rint(continuous * np.array(_SPREAD) + np.array(_MEAN))
    X[:, :_N_CONTINUOUS] = np.clip(raw, _LOW, _HIGH)
    rows = np.arange(n)
    X[rows, _N_CONTINUOUS + wilderness] = 1.0
    X[rows, _N_CONTINUOUS + _N_WILDERNESS + soil] = 1.0
    return X, y


def _continuous(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Draw standardized columns: four common factors and some noise of their own."""
    loadings = rng.normal(size=(_N_FACTORS, _N_CONTINUOUS))
    loadings *= np.sqrt(0.8 / np.sum(loadings**2, axis=0))
    columns = np.sqrt(0.2) * rng.standard_normal((n, _N_CONTINUOUS))
    columns += rng.standard_normal((n, _N_FACTORS)) @ loadings
    return np.asarray(columns)


def _zipf_counts(n: int, n_levels: int) -> npt.NDArray[np.int64]:
    """Split `n` rows in proportion to 1/k; the first level takes the remainder."""
    weights = 1.0 / np.arange(1, n_levels + 1)
    counts = np.asarray(n * weights / weights.sum()).astype(np.int64)
    counts[0] += n - counts.sum()
    return counts


def _levels(
    rng: np.random.Generator, counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    levels = np.arange(len(counts), dtype=np.int64).repeat(counts)
    rng.shuffle(levels)
    return levels
