"""The numerical tests as another processor runs them: python -m tests.processors.

OpenBLAS and Numba choose their code by the processor, and so does rounding. A test that
passes on one kind of processor only knows its rounding. Each kind here is a set of
environment variables under which the numerical tests run once; kinds that this machine
cannot run are left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS: dict[str, tuple[dict[str, str], set[str]]] = {
    "haswell": (
        {"OPENBLAS_CORETYPE": "Haswell", "NUMBA_CPU_NAME": "x86-64-v3"},
        {"avx2", "fma"},
    ),
    "zen-one-thread": (
        {"OPENBLAS_CORETYPE": "Zen", "SUBSAMPLED_NEWTON_NUM_THREADS": "1"},
        {"avx2", "fma"},
    ),
    "skylakex-eight-threads": (
        {"OPENBLAS_CORETYPE": "SkylakeX", "SUBSAMPLED_NEWTON_NUM_THREADS": "8"},
        {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
    ),
    "sandybridge-generic": (
        {"OPENBLAS_CORETYPE": "Sandybridge", "NUMBA_CPU_NAME": "generic"},
        {"avx"},
    ),
}
"""Variables of each kind, and the features a processor needs to run it."""
NUMERICAL = (
    # Where factors, eigenvalues or the last digits of a solution decide.
    *("agreement", "bound", "cubic_subproblems", "estimators", "first_order"),
    *("inference", "inputs", "least_squares", "levenberg_marquardt", "leverage"),
    *("linesearch", "metamorphic", "multilevel", "newton", "nist", "nonconvex"),
    *("polish", "published_facts", "rank", "row_space", "separation"),
    *("smallest_eigenvalue", "softmax", "statuses", "stochastic", "subproblems"),
    *("trust_region_subproblems", "warm_start", "weightless"),
)


def _features() -> set[str]:
    """Features of this processor, as Linux names them; empty where unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return set(next(flags, "").split())


def supported() -> list[str]:
    """Kinds that this machine can run."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    features = _features()
    return [name for name, (_, needs) in KINDS.items() if needs <= features]


def drawn(count: int) -> list[str]:
    """Kinds drawn by the commit, or by the day where there is none."""
    ask = ["git", "rev-parse", "HEAD"]
    found = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True)
    seed = found.stdout.strip() or time.strftime("%Y-%m-%d")
    kinds = supported()
    return random.Random(seed).sample(kinds, min(count, len(kinds)))


def run(kind: str, arguments: list[str]) -> int:
    """Run the numerical tests under one kind; return the exit status of pytest."""
    variables, _ = KINDS[kind]
    # OPENBLAS_L2_SIZE belongs to another core type than the one set here.
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_L2_SIZE"}
    print(f"+ {kind}: {variables}", flush=True)
    numerical = [f"tests/test_{name}.py" for name in NUMERICAL]
    pytest = f"{sys.executable} -m pytest -q -p no:cacheprovider -n 2".split(" ")
    environment.update(variables)
    done = subprocess.run(
        pytest + (arguments or [*numerical, "tests/adversarial"]),
        cwd=ROOT,
        env=environment,
    )
    return done.returncode


def main() -> int:
    """Run the kinds that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: all")
    parser.add_argument("--drawn", type=int, help="as many, drawn by the commit")
    parser.add_argument("tests", nargs="*", help="tests or options of pytest; after --")
    options = parser.parse_args()
    kinds = drawn(options.drawn) if options.drawn else options.kind or supported()
    failed = [kind for kind in kinds if run(kind, options.tests)]
    print(f"{len(kinds)} kinds of processor, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
