"""Fixtures of all tests."""

import subprocess

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


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with room for 128 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
