"""Finished tasks on disk, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from bench.reproduce.experiment import Experiment, Scope, Task

__all__ = ["Interrupted", "Store", "run_all"]

Rows = list[dict[str, Any]]


class Interrupted(Exception):
    """Ctrl-C came between two tasks or in one; what is finished is kept."""

    def __init__(self, experiment: str, done: int, total: int) -> None:
        super().__init__(
            f"Interrupted: {done} of {total} tasks of {experiment} are kept. "
            "The same command goes on from there."
        )


class Store:
    """A folder with one JSON file per finished task, named by the key of the task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, task: Task) -> Path:
        """File of a task."""
        return self.folder / f"{task.experiment}-{task.key()[:32]}.json"

    def read(self, task: Task) -> Rows | None:
        """Rows of a task; None if it is not finished or its file cannot be trusted."""
        try:
            document = json.loads(self.path(task).read_text(encoding="utf-8"))
            if document["key"] != task.key():
                return None
            columns = document["columns"]
            rows = [
                dict(zip(columns, (_read(v) for v in values), strict=True))
                for values in document["rows"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return rows if len(rows) == document["n_rows"] else None

    def write(self, task: Task, rows: Rows) -> Rows:
        """Keep the rows of a task and return them as they will be read again.

        The file appears whole or not at all.
        """
        columns = list(dict.fromkeys(name for row in rows for name in row))
        document = {
            "key": task.key(),
            "parameters": task.parameters,
            "n_rows": len(rows),
            "columns": columns,
            "rows": [[_plain(row.get(name)) for name in columns] for row in rows],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(task)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        kept = self.read(task)
        assert kept is not None
        return kept


def run_all(
    experiment: Experiment,
    scope: Scope,
    out: Path,
    *,
    log: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Run the tasks that are not in ``out/cache`` yet; return the rows of all.

    Every row has the parameters of its task as columns. A column that a task itself
    reports wins over a parameter of the same name.

    Raises
    ------
    Interrupted
        After Ctrl-C.
    """
    store, tasks = Store(out / "cache"), experiment.tasks(scope)
    keys = [task.key() for task in tasks]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{experiment.name}: two tasks have the same parameters")
    found = {task.key(): store.read(task) for task in tasks}
    missing = [task for task in tasks if found[task.key()] is None]
    done = len(tasks) - len(missing)
    if done:
        log(f"{done} of {len(tasks)} tasks are known from an earlier run.")
    bar = tqdm(
        total=len(tasks),
        initial=done,
        unit="task",
        desc=experiment.name,
        disable=None,  # silent where nobody watches
        leave=False,
        smoothing=0.0,  # tasks differ: the mean of all tells the time left best
    )
    try:
        for task in missing:
            bar.set_postfix_str(_describe(task))
            try:
                found[task.key()] = store.write(task, experiment.run(task))
            except Exception as error:
                error.add_note(f"in the task {task.parameters} of {experiment.name}")
                raise
            done += 1
            bar.update()
    except KeyboardInterrupt:
        raise Interrupted(experiment.name, done, len(tasks)) from None
    finally:
        bar.close()
    rows = [task.parameters | row for task in tasks for row in found[task.key()] or []]
    return pd.DataFrame(rows)


def _plain(value: Any) -> Any:
    """Return a JSON scalar; NumPy scalars are unwrapped, others than finite named."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}  # JSON has no nan and no inf
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"rows must hold plain scalars, got {value!r}")


def _read(value: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) else value


def _describe(task: Task) -> str:
    names = ("data", "solver", "start", "seed")
    return ", ".join(
        str(task.parameters[name]) for name in names if name in task.parameters
    )
