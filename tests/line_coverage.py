"""Line coverage without JIT: python -m tests.line_coverage [test files].

Kernels run as plain Python, so that their lines are seen, a thousand times slower than
compiled. So each case of a test has a limit of seconds of computing. One that needs
more is skipped, and what it ran does not count; after the second one so are all other
cases of the test. What starts other processes is skipped: their lines are not seen.
Tests of what only compiled code does skip themselves.

Needs `pip install coverage`, and 15 minutes of one core. Ends with status 1 where a
test fails or the total is below 95 %.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).parents[1]
ENOUGH = 95.0
ELSEWHERE = (
    *("bench", "peers", "referee", "reproduce*", "readme"),  # not about the packages
    *("concurrency", "cuda*", "fuzz", "rates"),  # long runs, many at once
)
CODE_WRITERS = ("_dual.py", "_prefetch.py", "_tile.py")
"""They write instructions for Numba: most of it runs only while it compiles."""


class Limited:
    """Plugin of pytest: a context of the measurement and a limit for every test."""

    def __init__(self, measurement, limit):
        self.measurement, self.limit = measurement, limit
        self.cut: set[str] = set()
        self.slow: Counter[str] = Counter()  # cases that were cut, of every test

    def pytest_collection_modifyitems(self, items):
        cases = defaultdict(list)
        for item in items:
            cases[_test(item)].append(item)
        items[:] = []
        for group in cases.values():
            random.Random(0).shuffle(group)
            items += group

    def pytest_collection_finish(self):
        def elsewhere(*_, **__):
            pytest.skip("its lines run in another process")

        subprocess.Popen.__init__ = elsewhere

    def pytest_runtest_setup(self, item):
        if self.slow[_test(item)] == 2:
            pytest.skip("other cases were too slow without JIT")

    def pytest_runtest_logstart(self, nodeid):
        self.measurement.switch_context(nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        def too_slow(_, frame):
            if "coverage" in frame.f_code.co_filename:  # it holds a lock: a bit later
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)
                return
            self.cut.add(item.nodeid)
            self.slow[_test(item)] += 1
            pytest.skip("too slow without JIT")

        # Seconds of computing: a busy machine does not change what is measured.
        signal.signal(signal.SIGVTALRM, too_slow)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.limit)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.failed and item.nodeid in self.cut:  # hypothesis takes a skip amiss
            report.outcome, report.longrepr = "skipped", (item.nodeid, 0, "too slow")
        return report

    def pytest_runtest_teardown(self, item):
        if item.nodeid in self.cut:
            _forget_kernels()


def _test(item):
    """Name of a test without its case."""
    return item.nodeid.partition("[")[0]


def _forget_kernels():
    """What was made in a test that does not count is made again in one that does."""
    for name, module in list(sys.modules.items()):
        if name.startswith("subsampled_newton."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


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
    parser.add_argument("--limit", type=float, default=1.0, help="seconds of a test")
    options = parser.parse_args()
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    os.chdir(ROOT)
    measurement = coverage.Coverage(data_file=None)
    measurement.start()
    plugin = Limited(measurement, options.limit)
    # Plain Python warns of an overflow where a kernel does not.
    silent = "ignore:overflow encountered:RuntimeWarning"
    arguments = ["-q", "-p", "no:cacheprovider", "-r", "fE", "-W", silent]
    arguments += [f"--ignore-glob=tests/test_{name}.py" for name in ELSEWHERE]
    failed = pytest.main([*arguments, *options.files], plugins=[plugin])
    measurement.stop()
    counted = without(measurement, plugin.cut)
    total = counted.report(show_missing=True)
    names = ", ".join(CODE_WRITERS)
    omitted = [f"*/{name}" for name in CODE_WRITERS]
    rest = counted.report(omit=omitted, file=io.StringIO())
    print(f"{len(plugin.cut)} tests were too slow")
    print(f"{total:.2f} % of the lines; {rest:.2f} % without {names},")
    print("which write code for Numba: most of it runs only while a kernel is compiled")
    return int(bool(failed) or total < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
