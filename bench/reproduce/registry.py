"""Experiments by name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import cast

from bench.reproduce.experiment import Experiment

__all__ = ["NAMES", "experiment"]

_MODULES = {
    "figure1": "figure1",
    "empirical-study": "empirical_study",
    "convex-ssn": "convex_ssn",
    "theory": "theory",
    "leverage": "leverage",
}
NAMES = tuple(
    name for name, module in _MODULES.items() if find_spec(f"{__package__}.{module}")
)


def experiment(name: str) -> Experiment:
    """Import an experiment: the others cost nothing."""
    module = import_module(f"{__package__}.{_MODULES[name]}")
    return cast(Experiment, module.EXPERIMENT)
