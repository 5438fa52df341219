"""Compilation in advance."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from subsampled_newton.estimators._classifiers import LogisticRegression
from subsampled_newton.estimators._linear import Ridge

__all__ = ["warmup"]


def warmup() -> None:
    """Compile what the estimators need, so that no later fit waits for it.

    A cold start costs some seconds per kind of data, once per machine and version: the
    compiled code is kept on disk. Call this while an image is built or a service
    starts. Covers float64 and float32 in C and Fortran order, and CSR matrices.
    """
    X = np.random.default_rng(0).standard_normal((40, 2))
    y = np.tile([0, 1, 1, 0], 10)
    layouts = (np.ascontiguousarray, np.asfortranarray, sp.csr_array)
    for dtype in (np.float64, np.float32):
        for layout in layouts:
            data = layout(X.astype(dtype))
            LogisticRegression().fit(data, y)
            Ridge().fit(data, y)
