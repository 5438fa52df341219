"""``python -m bench startup``: what the package costs at the start of a process.

Every number comes from fresh processes. Import: the package on top of scikit-learn and
Numba, which it needs. First fit: the first LogisticRegression().fit less the second,
with compiled code loaded from the disk cache (warm) or compiled (cold, an empty cache).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.arguments import Parser, count

__all__ = ["main"]

BASE = "import sklearn.linear_model, numba"
IMPORT = """
import time
{before}
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""
FIRST_FIT = """
import time
import numpy as np
from subsampled_newton import LogisticRegression
rng = np.random.default_rng(0)
X = rng.standard_normal((1000, 20))
y = X[:, 0] + rng.standard_normal(1000) > 0
seconds = []
for _ in range(2):
    start = time.perf_counter()
    LogisticRegression().fit(X, y)
    seconds.append(time.perf_counter() - start)
print(seconds[0] - seconds[1])
"""


def seconds_of(code: str, cache: str | None = None) -> float:
    """Run code in a new process and read the number that it prints.

    Parameters
    ----------
    code : str
        Python.
    cache : str, optional
        Folder for compiled code.
    """
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


def main(argv: list[str]) -> int:
    """Measure, print and return 0."""
    parser = Parser(
        prog="python -m bench startup",
        description=__doc__.partition("\n\n")[0],
        epilog=__doc__.partition("\n\n")[2],
    )
    parser.add_argument("--repeats", type=count, default=5, help="default 5")
    parser.add_argument("--cold", type=count, default=3, help="cold fits (default 3)")
    options = parser.parse_args(argv)
    # Ours in the process that has imported the others: a difference of two processes
    # would be the noise of both. One round first fills the caches of the file system.
    imports = {BASE: "", "import subsampled_newton, after these": BASE}
    statements = (BASE, "import subsampled_newton")
    rounds = [
        [
            seconds_of(IMPORT.format(before=before, statement=statement))
            for before, statement in zip(imports.values(), statements, strict=True)
        ]
        for _ in range(options.repeats + 1)
    ][1:]
    for label, seconds in zip(imports, zip(*rounds, strict=True), strict=True):
        print(f"{label:58} {median(seconds):7.2f} s", flush=True)

    cold = []
    for _ in range(options.cold):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds_of(FIRST_FIT, cache))
    with tempfile.TemporaryDirectory() as cache:
        seconds_of(FIRST_FIT, cache)
        warm = [seconds_of(FIRST_FIT, cache) for _ in range(options.repeats)]
    print(f"{'first fit less second, warm cache':58} {median(warm):7.2f} s")
    print(f"{'first fit less second, cold cache':58} {median(cold):7.2f} s")
    return 0
