"""Fixtures of all tests."""

import numba
import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(20240501)


@pytest.fixture
def jit():
    """Skip the test where kernels run as plain Python."""
    if numba.config.DISABLE_JIT:
        pytest.skip("NUMBA_DISABLE_JIT is set: nothing is compiled")
