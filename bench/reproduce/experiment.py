"""What an experiment is: tasks that give rows, rows that give claims and figures.

An experiment is a module of this folder with an object ``EXPERIMENT``, and a line in
`bench.reproduce.registry`. It may have, beside the methods of the protocol,
``reading(rows, scope) -> str``: one paragraph for the page of results.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import subsampled_newton

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Claim", "Experiment", "Scope", "Task", "Verdict"]


@dataclass(frozen=True)
class Scope:
    """How much is run."""

    quick: bool
    seeds: int


@dataclass(frozen=True)
class Task:
    """One piece of work whose rows are kept on disk.

    ``parameters`` is the full configuration, JSON scalars by name: data set, solver,
    its parameters, seed, budget, quick, ...
    """

    experiment: str
    parameters: dict[str, Any]

    def __post_init__(self) -> None:
        for name, value in self.parameters.items():
            scalar = value is None or isinstance(value, bool | int | float | str)
            if not scalar or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(
                    f"parameter {name!r} must be a JSON scalar, got {value!r}"
                )

    def key(self) -> str:
        """Hash of the configuration and of the versions that the rows depend on."""
        content = {
            "experiment": self.experiment,
            "parameters": self.parameters,
            "versions": {
                "subsampled_newton": subsampled_newton.__version__,
                "numpy": version("numpy"),
                "numba": version("numba"),
            },
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Verdict(Enum):
    """What the rows say of a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    NOT_DECIDABLE = "not decidable"


@dataclass(frozen=True)
class Claim:
    """A statement of a paper beside what was measured."""

    seed_rows: str
    """Rows of the inventory of the papers, "Y22"."""
    text: str
    source: str
    """Slide or paper."""
    published: str
    measured: str
    verdict: Verdict
    remark: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self) | {"verdict": self.verdict.value}


class Experiment(Protocol):
    """What the command asks of an experiment."""

    name: str
    """As on the command line, "figure1"."""
    title: str

    def tasks(self, scope: Scope) -> list[Task]:
        """All tasks, seeds outermost: an interrupted run then has whole seeds."""

    def run(self, task: Task) -> list[dict[str, Any]]:
        """Rows of a task: plain scalars, nan allowed.

        They need not repeat the parameters of the task: the store adds them as columns.
        """

    def claims(self, rows: pandas.DataFrame, scope: Scope) -> list[Claim]:
        """Verdicts."""

    def figures(self, rows: pandas.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Figures by file stem."""
