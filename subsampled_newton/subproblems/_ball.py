"""What the steps inside a ball share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_positive", "distance_to_sphere"]

Array = NDArray[np.float64]


def check_positive(name: str, value: float) -> None:
    """Refuse a radius or a weight that is not positive and finite."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be > 0 and finite, got {value}")


def distance_to_sphere(s: Array, direction: Array, radius: float) -> float:
    """Return ``t`` with ``||s + t direction|| = radius``, without cancellation.

    The positive root for s inside the ball. For s a little outside and a direction that
    points outwards, the root that is nearer, or the nearest point of the line.
    """
    norm = float(np.linalg.norm(s))
    room = (radius - norm) * (radius + norm)
    along = float(s @ direction)
    square = float(direction @ direction)
    root = math.sqrt(max(0.0, along * along + square * room))
    return room / (along + root) if along > 0.0 else (root - along) / square
