"""Command lines with errors of one line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from typing import NoReturn

__all__ = ["Parser", "count", "name_in", "positive", "seed"]


class Parser(argparse.ArgumentParser):
    """Errors of one line and exit code 2; no abbreviations; line breaks are kept."""

    def __init__(self, **options: str) -> None:
        super().__init__(
            **options,  # type: ignore[arg-type]  # texts only
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print the message and leave."""
        self.exit(2, f"{self.prog}: {message}\n")


def name_in(what: str, allowed: Iterable[str]) -> Callable[[str], str]:
    """Return a type that accepts some names."""
    names = tuple(allowed)

    def check(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(
                f"unknown {what} {name!r}; allowed: {', '.join(names)}"
            )
        return name

    return check


def positive(text: str) -> float:
    """Read a finite number > 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return number


def count(text: str) -> int:
    """Read an integer >= 1."""
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Read an integer >= 0 that scikit-learn takes, with room for repetitions."""
    if not (text.isdecimal() and int(text) < 2**31):
        raise argparse.ArgumentTypeError(
            f"must be an integer >= 0 and < 2**31, got {text!r}"
        )
    return int(text)
