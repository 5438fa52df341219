"""Fixtures of all tests."""

import socket
import subprocess

import numba
import numpy as np
import pytest

from datasets import _lookup

# By default anything is near an expected value below 1e-12; a test has to say so.
type(pytest.approx(1.0)).DEFAULT_ABSOLUTE_TOLERANCE = 0.0


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


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Let no test leave the machine: a set that is not on it cannot be had."""

    def offline(file):
        raise OSError(f"{file.stems[0]} is not on this machine; tests do not download")

    def refusing(function, host_of):
        def guarded(*args, **kwargs):
            host = host_of(args)
            if host not in (None, "", "localhost", "127.0.0.1", "::1"):
                raise AssertionError(f"a test used the network: {host!r}")
            return function(*args, **kwargs)

        return guarded

    def peer(args):  # of a socket; those of files have no host
        return args[1][0] if isinstance(args[1], tuple) else None

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(
                socket.socket, name, refusing(getattr(socket.socket, name), peer)
            )
        lookup = refusing(socket.getaddrinfo, lambda args: args[0])
        patch.setattr(socket, "getaddrinfo", lookup)
        patch.setattr(_lookup, "_pooch_downloader", offline)
        yield
