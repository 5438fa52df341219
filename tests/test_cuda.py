"""The CUDA backend without a GPU: the tests of tests/device in Numba's simulator.

The variable that starts the simulator must be set before Numba is imported, so they run
in a process of their own. Where there is a GPU, tests/device runs on it as well.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from subsampled_newton import LogisticRegression, as_rows
from subsampled_newton.data import on_device

HERE = Path(__file__).parent
FILES = sorted(path.name for path in (HERE / "device").glob("test_*.py"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FILES)
def test_in_the_simulator(name, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
            f"--basetemp={tmp_path / 'inner'}",
            str(HERE / "device" / name),
        ],
        cwd=HERE.parent,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout


def run(code, **variables):
    """Run code in a process with its own Numba."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


NOT_INSTALLED = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "numba_cuda" else find(name)
import numpy as np
from subsampled_newton import LogisticRegression
LogisticRegression(device="cuda").fit(np.eye(4), [0, 1, 0, 1])
"""


def test_the_extra_that_is_missing_is_named():
    done = run(NOT_INSTALLED)
    assert "ImportError: rows on a GPU need the package numba-cuda: pip" in done.stderr
    assert '"subsampled_newton[cuda]"' in done.stderr


WITHOUT = """
import numpy as np
from subsampled_newton.backends import _cuda_device
{change}
from subsampled_newton import as_rows
as_rows(np.eye(4), device="cuda")
"""


def test_what_numba_reports_without_a_device_is_passed_on():
    change = """
_cuda_device.cuda.is_available = lambda: False
_cuda_device.cuda.cuda_error = lambda: {error!r}
"""
    for error, told in (("no driver\n here.\n:", "no driver here"), (None, "no CUDA")):
        code = WITHOUT.format(change=change.format(error=error))
        done = run(code, NUMBA_ENABLE_CUDASIM="1")
        assert "RuntimeError: device='cuda' needs an NVIDIA GPU and its" in done.stderr
        assert f"numba.cuda reports: {told}" in done.stderr


def test_a_device_without_a_compiler_is_an_error_that_names_the_packages():
    change = """
def missing():
    raise OSError("libNVVM is not available")
_cuda_device._compiler = missing
"""
    done = run(WITHOUT.format(change=change), NUMBA_ENABLE_CUDASIM="1")
    assert "RuntimeError: there is a CUDA driver, but no compiler: pip" in done.stderr
    assert "libNVVM is not available" in done.stderr


FORKED = """
import os, sys
import numpy as np
from subsampled_newton import as_rows
as_rows(np.eye(4), device="cuda")
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
as_rows(np.eye(4), device="cuda")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_is_told_to_start_anew():
    done = run(FORKED, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 1
    assert "RuntimeError: device='cuda' cannot be used in this process" in done.stderr
    assert "spawn" in done.stderr


def test_devices_that_do_not_exist_are_refused():
    X, y = np.eye(4), [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"device must be one of .*cpu.* got 'gpu'"):
        as_rows(X, device="gpu")
    with pytest.raises(ValueError, match="'device' parameter of LogisticRegression"):
        LogisticRegression(device="gpu").fit(X, y)


def test_rows_of_the_host_stay_there():
    rows = as_rows(np.eye(3))
    assert rows.on_host() is rows
    assert as_rows(rows, device="cpu") is rows
    vector = np.ones(3)
    assert rows.place(vector) is vector


class OnlyDlpack:
    """An array as DLPack describes it, on a device of some kind."""

    def __init__(self, kind):
        self.kind = kind

    def __dlpack_device__(self):
        return self.kind, 0


def test_arrays_on_a_device_are_recognised():
    assert not on_device(np.eye(2))  # NumPy knows DLPack, too
    assert not on_device([[1.0]])
    assert not on_device(OnlyDlpack(1))
    assert on_device(OnlyDlpack(2))


def test_the_package_does_not_import_cuda():
    code = (
        "import sys, subsampled_newton; "
        "print([m for m in sys.modules if m.startswith(('numba.cuda', 'numba_cuda'))])"
    )
    assert run(code).stdout.strip() == "[]"
