"""Line coverage without JIT: python -m tests.line_coverage [test files].

Kernels run as plain Python, so that their lines are seen, a thousand times slower than
compiled. So only a few cases of a parametrised test are run, and a test that needs more
seconds of computing than the limit is skipped: what it ran does not count. Tests of
what only compiled code does skip themselves.
Needs `pip install coverage`. Ends with status 1 where a test fails or the total is
below 95 %.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).parents[1]
ENOUGH = 95.0
ELSEWHERE = ("bench", "peers", "referee", "reproduce*")  # not about the packages


class Limited:
    """Plugin of pytest: a context of the measurement and a limit for every test."""

    def __init__(self, measurement, limit, n_cases):
        self.measurement, self.limit, self.n_cases = measurement, limit, n_cases
        self.cut = set()

    def pytest_collection_modifyitems(self, items):
        cases = defaultdict(list)
        for item in items:
            cases[item.nodeid.partition("[")[0]].append(item)
        items[:] = []
        for group in cases.values():
            items += group[:: -(-len(group) // self.n_cases)]

    def pytest_runtest_logstart(self, nodeid):
        self.measurement.switch_context(nodeid)

    def pytest_runtest_call(self, item):
        def too_slow(_, frame):
            if "coverage" in frame.f_code.co_filename:  # it holds a lock: a bit later
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)
                return
            self.cut.add(item.nodeid)
            pytest.skip("too slow without JIT")

        # Seconds of computing: a busy machine does not change what is measured.
        signal.signal(signal.SIGVTALRM, too_slow)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.limit)

    def pytest_runtest_teardown(self):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)


def without(measurement, cut):
    """The measurement less what only tests that were cut short have run."""
    old = measurement.get_data()
    clean = coverage.Coverage(data_file=None)
    ran = {}
    for path in old.measured_files():
        contexts = old.contexts_by_lineno(path)
        ran[path] = [k for k, names in contexts.items() if not cut.issuperset(names)]
    clean.get_data().add_lines(ran)
    clean.get_data().touch_files(ran)  # also those of which no line ran
    return clean


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="default: all but of bench/")
    parser.add_argument("--cases", type=int, default=4, help="of a test at most")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds of a test")
    options = parser.parse_args()
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    os.chdir(ROOT)
    measurement = coverage.Coverage(data_file=None)
    measurement.start()
    plugin = Limited(measurement, options.limit, options.cases)
    # Plain Python warns of an overflow where a kernel does not.
    silent = "ignore:overflow encountered:RuntimeWarning"
    arguments = ["-q", "-p", "no:cacheprovider", "-r", "fE", "-W", silent]
    arguments += [f"--ignore-glob=tests/test_{name}.py" for name in ELSEWHERE]
    failed = pytest.main([*arguments, *options.files], plugins=[plugin])
    measurement.stop()
    total = without(measurement, plugin.cut).report(show_missing=True)
    print(f"{len(plugin.cut)} tests were too slow")
    return int(bool(failed) or total < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
