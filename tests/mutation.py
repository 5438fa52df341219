"""Mutation run: python -m tests.mutation losses linesearch [--sample 60 --lines 21-40].

Every mutant is the module with one operator, number or comparison changed; the tests
of that module run on it without JIT, fastest first, until one fails. A mutant that no
test notices is printed. The operators are those of cosmic-ray that fit numerical code
(`pip install cosmic-ray`) and two of our own: ``+=`` for ``-=``, ``min`` for ``max``.

A start of pytest costs a hundred times what the test costs that kills a mutant. So the
tests are collected once, and for every mutant a fork of that process exchanges the
code of all functions of the module, closures included, its constants and defaults.
What survives is tried again in a process that imports the mutant.

What survived, and why, is in MUTATION.md.
"""

from __future__ import annotations

import os

os.environ.update(NUMBA_DISABLE_JIT="1", OMP_NUM_THREADS="1")

import argparse
import gc
import importlib
import io
import json
import random
import signal
import sys
import time
import tokenize
from collections.abc import Container
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[1]
TESTS = {
    "losses": ["losses", "softmax"],
    "sample_losses": ["epochs"],
    "_elementary": ["elementary"],
    "linesearch": ["linesearch"],
    "sampling": ["sampling"],
    "subproblems._ball": ["subproblems", "trust_region_subproblems"],
    "subproblems._krylov": ["trust_region_subproblems", "cubic_subproblems"],
    "subproblems._secular": ["trust_region_subproblems", "cubic_subproblems"],
    "subproblems.conjugate_gradient": ["subproblems", "trust_region_subproblems"],
    "subproblems.cubic": ["cubic_subproblems"],
    "subproblems.lanczos": [
        "trust_region_subproblems",
        "cubic_subproblems",
        "smallest_eigenvalue",
    ],
    "subproblems.more_sorensen": ["trust_region_subproblems"],
    "subproblems.newton": ["subproblems"],
    "subproblems.spectral": ["trust_region_subproblems", "cubic_subproblems"],
    "leverage": ["leverage"],
    "embeddings": ["sketching"],
    "separation": ["separation"],
}
"""Test files by module of the package."""

SWAPS = ["Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Pow_Mul"]
COMPARISONS = [
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
]
OPERATORS = [
    *(f"ReplaceBinaryOperator_{pair}" for pair in SWAPS),
    *(f"ReplaceComparisonOperator_{pair}" for pair in COMPARISONS),
    *("ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "NumberReplacer"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ZeroIterationForLoop"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
]
TOKENS = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "min": "max", "max": "min"}
TOKENS |= {"minimum": "maximum", "maximum": "minimum"}


def mutants(path: Path, wanted: Container[int]) -> list[tuple[int, str, str]]:
    """Line, description and source text of every mutant of the wanted lines."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source, found = path.read_text(), set()
    nodes = list(ast_nodes(get_ast(source)))
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [
            place for node in nodes for place in operator.mutation_positions(node)
        ]
        for occurrence, (start, _) in enumerate(places):
            if start[0] in wanted:
                found.add(mutate_code(source, operator, occurrence))
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.string in TOKENS and token.type in (tokenize.OP, tokenize.NAME):
            row, (lo, hi) = token.start[0] - 1, (token.start[1], token.end[1])
            if row + 1 not in wanted:
                continue
            line = lines[row][:lo] + TOKENS[token.string] + lines[row][hi:]
            found.add("".join([*lines[:row], line, *lines[row + 1 :]]))
    result = []
    for text in found:
        pairs = zip(lines, text.splitlines(keepends=True), strict=True)
        row, (old, new) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
        if new not in (old.replace("*,", "/,"), old.replace("/)", "*)")):  # signatures
            result.append((row + 1, f"{old.strip()}  ->  {new.strip()}", text))
    return sorted(result)


def exchange(module, functions: list[FunctionType], text: str) -> None:
    """Make a module that is in use behave as if it had been made from other text."""

    def pairs(old: CodeType, new: CodeType):
        yield old, new
        inner = [
            [c for c in code.co_consts if isinstance(c, CodeType)]
            for code in (old, new)
        ]
        for a, b in zip(*inner, strict=True):
            yield from pairs(a, b)

    path = module.__file__
    old = compile(Path(path).read_text(), path, "exec", dont_inherit=True)
    new = compile(text, path, "exec", dont_inherit=True)
    codes = dict(pairs(old, new))
    for function in functions:
        if function.__code__ in codes:
            function.__code__ = codes[function.__code__]
    fresh = {"__name__": module.__name__, "__file__": path}
    exec(new, fresh)
    plain = (int, float, tuple, str, dict, list)
    for name, value in fresh.items():
        before = getattr(module, name, None)
        before = getattr(before, "__wrapped__", before)
        value = getattr(value, "__wrapped__", value)
        if isinstance(value, FunctionType):
            before.__defaults__ = value.__defaults__
            before.__kwdefaults__ = value.__kwdefaults__
        elif isinstance(value, plain) and name[:2] != "__" and value != before:
            for other in list(sys.modules.values()):
                if vars(other).get(name) is before:
                    vars(other)[name] = value
        elif type(before).__module__ == module.__name__:
            for field, v in vars(value).items():
                if isinstance(v, plain):
                    object.__setattr__(before, field, v)
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for field, v in vars(value).items():
                if isinstance(v, FunctionType) and hasattr(before, field):
                    function = vars(before)[field]
                    function.__defaults__ = v.__defaults__
                    function.__kwdefaults__ = v.__kwdefaults__
                elif isinstance(v, plain) and not field.startswith("__"):
                    setattr(before, field, v)


class Loader(SourceFileLoader):
    """Imports a mutant."""

    text = ""

    def get_code(self, fullname):
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds it instead of the file."""

    def __init__(self, name, path, text):
        self.name, self.path = name, path
        self.loader = Loader(name, str(path))
        self.loader.text = text

    def find_spec(self, fullname, path=None, target=None):
        if fullname == self.name:
            spec = importlib.util.spec_from_file_location
            return spec(fullname, self.path, loader=self.loader)
        return None


def survives(action, limit: float) -> bool:
    """Whether ``action()`` finds no failure in a fork of this process, in time."""
    pid = os.fork()
    if pid == 0:
        failed = True
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            failed = action()
        finally:
            os._exit(bool(failed))
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            return code == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


class Run:
    """Plugin of pytest: instead of one loop over the tests, one for every mutant."""

    def __init__(self, name, chosen, most):
        self.name, self.chosen, self.seconds = name, chosen, {}
        self.survivors, self.slow, self.limit = [], [], 0.0
        self.most = self.cap = most

    def failed(self, items) -> bool:
        for item in items:
            start = time.process_time()
            signal.setitimer(signal.ITIMER_VIRTUAL, self.cap)
            reports = runtestprotocol(item, log=False, nextitem=None)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            self.seconds[item.nodeid] = time.process_time() - start
            if any(report.failed for report in reports):
                return True
        return False

    def pytest_runtestloop(self, session):
        items = session.items
        signal.signal(signal.SIGVTALRM, lambda *_: pytest.skip("too slow"))
        if self.failed(items):
            return True
        self.slow = [k for k, seconds in self.seconds.items() if seconds > self.most]
        items = [item for item in items if item.nodeid not in self.slow]
        items.sort(key=lambda item: self.seconds[item.nodeid])
        self.limit = 20.0 + 10.0 * sum(self.seconds[item.nodeid] for item in items)
        module = importlib.import_module(self.name)
        functions = [f for f in gc.get_objects() if isinstance(f, FunctionType)]
        functions = [f for f in functions if f.__code__.co_filename == module.__file__]
        gc.freeze()

        def changed(text: str) -> bool:
            signal.signal(signal.SIGVTALRM, lambda *_: os._exit(1))
            self.cap = 4.0 * self.most
            exchange(module, functions, text)
            return self.failed(items)

        for mutant in self.chosen:
            if survives(partial(changed, mutant[2]), self.limit):
                self.survivors.append(mutant)
                sys.__stderr__.write(f"  ({mutant[0]}: {mutant[1]})\n")
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="+", choices=TESTS)
    parser.add_argument("--sample", type=int, help="a seeded sample of so many")
    parser.add_argument("--lines", nargs="+", type=span, help="of these: 21 30-40")
    parser.add_argument("--tests", nargs="+", help="files other than usual: losses")
    parser.add_argument("--keyword", default="", help="of their tests, as pytest's -k")
    parser.add_argument("--slow", type=float, default=1.5, help="seconds: left out")
    options = parser.parse_args()
    for library in ("mpmath", "hypothesis", "numba", "sklearn.linear_model", "pandas"):
        importlib.import_module(library)
    os.chdir(ROOT)
    # A failure is enough: no shrinking, no memory.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutation", phases=phases, database=None)
    settings.load_profile("mutation")
    for module in options.modules:
        files = options.tests or TESTS[module]
        lines = set().union(*options.lines) if options.lines else range(10**6)
        examine(module, files, lines, options)


def span(text: str) -> range:
    """Lines from "30-40" or "30"."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def examine(
    module: str, tests: list[str], lines: Container[int], options: argparse.Namespace
) -> None:
    """Print the mutants of a module that no test notices, and how many there were."""
    start = time.monotonic()
    name = f"subsampled_newton.{module}"
    path = ROOT / (name.replace(".", "/") + ".py")
    files = [f"tests/test_{file}.py" for file in tests]
    ignored = "ignore::pytest.PytestAssertRewriteWarning"  # Hypothesis is imported
    arguments = ["-q", "-p", "no:cacheprovider", "-W", ignored, *files]
    arguments += ["-k", options.keyword] if options.keyword else []
    chosen = every = mutants(path, lines)
    if options.sample and options.sample < len(chosen):
        chosen = sorted(random.Random(0).sample(chosen, options.sample))
    reader, writer = os.pipe()
    if os.fork() == 0:
        run = Run(name, chosen, options.slow)
        pytest.main(arguments, plugins=[run])
        with os.fdopen(writer, "w") as file:
            json.dump([run.limit, run.slow, run.survivors], file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        limit, slow, survivors = json.load(file)
    os.wait()
    if not limit:
        sys.exit(f"{module}: the tests fail without a mutation")

    def again(text: str) -> bool:
        sys.meta_path.insert(0, Finder(name, path, text))
        left_out = [f"--deselect={test}" for test in slow]
        return pytest.main(["-x", *left_out, *arguments]) != 0

    left = [m for m in survivors if survives(partial(again, m[2]), 60.0 + limit)]
    for line, what, _ in left:
        print(f"  {module}:{line}: {what}")
    print(
        f"{module}: {len(chosen)} of {len(every)} mutants, {len(left)} survived "
        f"({len(survivors)} the exchange of code), {time.monotonic() - start:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
