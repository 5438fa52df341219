"""Verdicts on convex sub-sampled Newton methods, from the rows of `convex_ssn`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.reproduce.experiment import Claim
from bench.reproduce.levels import number
from bench.reproduce.parts import first_below, verdict

__all__ = [
    "LABELS",
    "OTHERS",
    "REACH",
    "SAMPLED",
    "data_sets",
    "judged",
    "or_never",
    "runs_of",
]

PUBLISHED = {"covtype.binary": (221.0, 322_370.0), "a9a": (182.0, 69_359.0)}
"""kappa and kappa_hat of the paper: Forest covtype and Adult."""
LABELS = {
    "newton": "Newton",
    "subsampled-newton": "SSN, uniform, 200 d rows",
    "subsampled-newton-leverage": "SSN, leverage (PLevSS), 20 d rows",
    "subsampled-newton-row-norms": "SSN, row norms (RNormSS), 20 d rows",
    "lbfgs": "L-BFGS, 50 pairs",
    "gradient-descent": "gradient descent",
    "nesterov": "Nesterov (AGD)",
}
NAMES = {
    "subsampled-newton": "uniform",
    "subsampled-newton-leverage": "leverage",
    "subsampled-newton-row-norms": "row norms",
}
SAMPLED = tuple(NAMES)
OTHERS = tuple(name for name in LABELS if name not in SAMPLED)
BURN_IN = 4
REACH = 1e-8
TIE = 0.9
"""Ratio of times above which noise may have decided."""
LEVELS = (1e-2, 1e-4, 1e-8)


def judged(rows: pd.DataFrame) -> list[Claim]:
    """All claims."""
    claims = [_conditions(rows), _linear(rows), _floor(rows)]
    claims += [_fewer_rows(own, str(data)) for data, own in data_sets(rows)]
    claims += [_faster(rows, level) for level in LEVELS]
    return [*claims, _unit_steps(rows)]


def data_sets(rows: pd.DataFrame) -> Any:
    """Rows by data set, in the order of the tasks."""
    return rows.groupby("data", sort=False)


def runs_of(rows: pd.DataFrame, solver: str) -> list[pd.DataFrame]:
    """Runs of a solver, by seed."""
    own = rows[rows["solver"] == solver]
    return [run for _, run in own.groupby("seed")]


def or_never(value: float) -> float:
    """Infinity for nan: what was not reached."""
    return math.inf if math.isnan(value) else value


def _partial(rows: pd.DataFrame) -> bool:
    """Whether a part of the rows was used: too few for claims on time and size."""
    return bool(rows["rows"].notna().any())


def _reached(
    rows: pd.DataFrame, solver: str, level: float, column: str
) -> tuple[float, int]:
    """Median over seeds of what an error took, inf if not reached; number of runs."""
    needed = [
        first_below(run[column], run["error"], level) for run in runs_of(rows, solver)
    ]
    if not needed:
        return math.nan, 0
    values = np.where(np.isnan(needed), np.inf, needed)
    return float(np.sort(values)[len(values) // 2]), len(values)


def _straightness(run: pd.DataFrame) -> float:
    """R^2 of log error over iterations, between 1e-1 and 1e-11."""
    fitted = run[(run["error"] < 1e-1) & (run["error"] > 1e-11)]
    if len(fitted) < 4:
        return math.nan
    pair = np.corrcoef(fitted["iteration"], np.log(fitted["error"]))
    return float(pair[0, 1] ** 2)


def _conditions(rows: pd.DataFrame) -> Claim:
    shown, published, near = [], [], []
    for data, own in data_sets(rows):
        kappa, hat = float(own["kappa"].iloc[0]), float(own["kappa_hat"].iloc[0])
        shown.append(f"{data} {kappa:.0f}; {hat:.0f}")
        if data in PUBLISHED:
            theirs, theirs_hat = PUBLISHED[str(data)]
            published.append(f"{data} {theirs:.0f}; {theirs_hat:.0f}")
            near.append(abs(kappa / theirs - 1.0) < 0.01)
            near.append(abs(hat / theirs_hat - 1.0) < 0.2)
    return Claim(
        "10.3",
        "The problems are those of the paper: kappa and kappa_hat agree",
        "Xu et al., NIPS 2016, table of data sets",
        ", ".join(published) or "no such data",
        ", ".join(shown),
        verdict(*([None] if _partial(rows) or not near else near)),
        "kappa within 1 %, kappa_hat within 20 %; Hessians at the minimizer.",
    )


def _linear(rows: pd.DataFrame) -> Claim:
    found: dict[str, float] = {}
    for data, own in data_sets(rows):
        values = [
            _straightness(run) for solver in SAMPLED for run in runs_of(own, solver)
        ]
        good = [value for value in values if math.isfinite(value)]
        found[str(data)] = float(np.median(good)) if good else math.nan
    known = bool(found) and all(math.isfinite(value) for value in found.values())
    return Claim(
        "10.3, M31",
        "Sub-sampled Newton converges linearly: log error over iterations is a line",
        "Xu et al., NIPS 2016, figures",
        "straight lines",
        ", ".join(f"{data} R^2 {value:.3f}" for data, value in found.items()),
        verdict(min(found.values()) >= 0.95 if known else None),
        "Median of the runs, errors from 1e-1 to 1e-11; holds from 0.95 on.",
    )


def _floor(rows: pd.DataFrame) -> Claim:
    runs = [
        run["error"].to_numpy()
        for _, own in data_sets(rows)
        for solver in SAMPLED
        for run in runs_of(own, solver)
    ]
    lowest = [float(errors.min()) for errors in runs]
    # A run that has not arrived in its iterations and still falls has met no floor.
    falling = [e.min() <= REACH or e[-5:].min() < 0.5 * e[:-5].min() for e in runs]
    arrived = sum(value <= REACH for value in lowest)
    return Claim(
        "10.3",
        "There is no floor: with full gradients the error falls to rounding",
        "Xu et al., NIPS 2016",
        "1e-8 to 1e-14",
        f"median {number(float(np.median(lowest)))}, {arrived} of {len(runs)} runs "
        f"below {REACH:g}",
        verdict(all(falling) if runs else None),
        "Smallest errors of sub-sampled Newton. Holds where all others still halve in "
        "their last five iterations.",
    )


def _fewer_rows(rows: pd.DataFrame, data: str) -> Claim:
    counts = {
        solver: _reached(rows, solver, REACH, "iteration")[0] for solver in SAMPLED
    }
    uniform = counts["subsampled-newton"]
    known = not any(math.isnan(v) for v in counts.values()) and not _partial(rows)
    worst = max(v for s, v in counts.items() if s != "subsampled-newton")
    rows_used = {
        solver: np.mean(
            [run["hessian_rows"][1:].mean() for run in runs_of(rows, solver)]
        )
        for solver in SAMPLED
    }
    return Claim(
        "10.3",
        f"{data}: leverage and row norms need no more iterations than uniform samples "
        "of ten times the rows",
        "Xu et al., NIPS 2016",
        "same rate with a tenth of the rows",
        ", ".join(f"{NAMES[s]} {number(counts[s])}" for s in SAMPLED),
        verdict(worst <= 1.5 * uniform if known else None),
        f"Iterations to an error of {REACH:g}, medians; holds within 1.5 times. Rows "
        "used: " + ", ".join(f"{NAMES[s]} {rows_used[s]:.0f}" for s in SAMPLED) + ".",
    )


def _faster(rows: pd.DataFrame, level: float) -> Claim:
    wins, shown = [], []
    for data, own in data_sets(rows):
        needed = {
            solver: _reached(own, solver, level, "cpu_seconds")[0] for solver in LABELS
        }
        ours = min(SAMPLED, key=lambda s: or_never(needed[s]))
        best = min(OTHERS, key=lambda s: or_never(needed[s]))
        us, them = or_never(needed[ours]), or_never(needed[best])
        near = TIE * max(us, them) <= min(us, them)  # also where none arrives
        wins.append(None if near else us < them)
        shown.append(
            f"{data}: {number(needed[ours])} s ({_short(ours)}) against "
            f"{number(needed[best])} s ({_short(best)})"
        )
    return Claim(
        "10.3",
        f"To an error of {level:.0e} the best sub-sampled Newton method is faster than "
        "Newton, L-BFGS, gradient descent and Nesterov",
        "Xu et al., NIPS 2016, figures over time",
        "faster",
        "; ".join(shown),
        verdict(*([None] if _partial(rows) else wins)),
        "Seconds of the processor, one thread, medians over seeds; medians within "
        "10 % of each other decide nothing.",
    )


def _unit_steps(rows: pd.DataFrame) -> Claim:
    late = rows[rows["solver"].isin(SAMPLED) & (rows["iteration"] > BURN_IN)]
    # Below this the decrease of F is rounding, and any step passes or fails by chance.
    late = late[late["error"] > REACH]
    unit = late["step"] == 1.0
    share = float(unit.mean()) if len(late) else math.nan
    each = unit.groupby([late["data"], late["solver"]], sort=False).mean()
    short = ", ".join(
        f"{NAMES[str(solver)]} on {data} {value:.0%}"
        for (data, solver), value in each.items()
        if value < 1.0
    )
    return Claim(
        "M32",
        f"After a burn-in of {BURN_IN} steps the unit step always passes Armijo's test",
        "Mahoney, local and global theorem",
        "all steps",
        f"{share:.1%} of {len(late)} steps",
        verdict(share == 1.0 if len(late) else None),
        f"As long as the error is above {REACH:g}. Shorter steps: {short or 'none'}. "
        "The theorem asks for samples that are spectrally close.",
    )


def _short(solver: str) -> str:
    return LABELS[solver].replace("SSN, ", "").split(",")[0].split(" (")[0]
