"""The CUDA backend without a GPU: the tests of tests/device in Numba's simulator.

The variable that starts the simulator must be set before Numba is imported, so they run
in a process of their own. Where there is a GPU, tests/device runs on it as well.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_package_does_not_import_cuda():
    code = (
        "import sys, subsampled_newton; "
        "print([m for m in sys.modules if m.startswith(('numba.cuda', 'numba_cuda'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
