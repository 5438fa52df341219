"""The cache of compiled kernels, in fresh processes: never stale, never in the way."""

import json
import math
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numba
import numpy as np
import pytest

from subsampled_newton import SQUARED, PointwiseLoss, _jit, as_rows
from subsampled_newton._jit import _fingerprint, compiled, inlinable

PACKAGE = Path(__file__).resolve().parents[1] / "subsampled_newton"

# Importing the whole package takes seconds: most children need this module only.
LIGHT = f"""
import json, sys, types
package = types.ModuleType("subsampled_newton")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["subsampled_newton"] = package
"""


def environment(cache, path, **changes):
    env = dict(os.environ)
    env.pop("NUMBA_DISABLE_JIT", None)
    env.pop("SUBSAMPLED_NEWTON_CACHE", None)
    # Edits within one second must not meet the bytecode of the old text.
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(path)}
    return env | {"NUMBA_CACHE_DIR": str(cache)} | changes


def start(code, env):
    return subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child):
    """What the child printed, as JSON. It must end well."""
    output, errors = child.communicate(timeout=200)
    assert child.returncode == 0, errors
    return json.loads(output)


def cache_files(folder):
    return sorted(p for p in Path(folder).rglob("*") if p.is_file())


# A package of kernels. Each reaches the number that it returns in another way; the
# second text of a file changes the number.

COMMON = """
from subsampled_newton._jit import compiled, inlinable
def make(f):
    @compiled()
    def kernel(x):
        return f(x)
    return kernel
def make_sum(options):
    @compiled(**options)
    def kernel(x):
        return (x + 1e20) - 1e20
    return kernel
"""
HELPER = "from subsampled_newton._jit import inlinable\n@inlinable()\n"

EDITS = {
    # way: (files before, changes, the kernel, result before, result after)
    "unchanged": ({}, {}, "make(inlinable()(lambda x: 5.0 * x))", 5.0, 5.0),
    "function two modules away": (
        {
            "a1": HELPER + "def inner(x): return 1.0 * x",
            "a2": "from toy.a1 import inner\n" + HELPER + "def f(x): return inner(x)",
        },
        {"a1": HELPER + "def inner(x): return 100.0 * x"},
        "make(importlib.import_module('toy.a2').f)",
        1.0,
        100.0,
    ),
    "attribute of a module": (
        {
            "b1": HELPER + "def inner(x): return 1.0 * x",
            "b2": "import toy.b1 as b\n" + HELPER + "def f(x): return b.inner(x)",
        },
        {"b1": HELPER + "def inner(x): return 100.0 * x"},
        "make(importlib.import_module('toy.b2').f)",
        1.0,
        100.0,
    ),
    "attribute of a module of a package": (
        {
            "c1": HELPER + "def inner(x): return 1.0 * x",
            "c2": "import toy.c1\n" + HELPER + "def f(x): return toy.c1.inner(x)",
        },
        {"c1": HELPER + "def inner(x): return 100.0 * x"},
        "make(importlib.import_module('toy.c2').f)",
        1.0,
        100.0,
    ),
    "global constant": (
        {"d1": "FACTOR = 1.0\n" + HELPER + "def f(x): return FACTOR * x"},
        {"d1": "FACTOR = 100.0\n" + HELPER + "def f(x): return FACTOR * x"},
        "make(importlib.import_module('toy.d1').f)",
        1.0,
        100.0,
    ),
    "constant of a module": (
        {
            "e1": "FACTOR = 1.0",
            "e2": "import toy.e1 as e\n" + HELPER + "def f(x): return e.FACTOR * x",
        },
        {"e1": "FACTOR = 100.0"},
        "make(importlib.import_module('toy.e2').f)",
        1.0,
        100.0,
    ),
    "numpy integer constant": (
        {
            "f1": "import numpy as np\nK = np.int64(1)\n"
            + HELPER
            + "def f(x): return K*x"
        },
        {
            "f1": "import numpy as np\nK = np.int64(9)\n"
            + HELPER
            + "def f(x): return K*x"
        },
        "make(importlib.import_module('toy.f1').f)",
        1.0,
        9.0,
    ),
    "tuple constant": (
        {"g1": "K = (0.0, 1.0)\n" + HELPER + "def f(x): return K[1] * x"},
        {"g1": "K = (0.0, 9.0)\n" + HELPER + "def f(x): return K[1] * x"},
        "make(importlib.import_module('toy.g1').f)",
        1.0,
        9.0,
    ),
    "number of a closure": (
        {"h1": "def get(k):\n  def f(x): return k * x\n  return f\nf = get(1.0)"},
        {"h1": "def get(k):\n  def f(x): return k * x\n  return f\nf = get(9.0)"},
        "make(inlinable()(importlib.import_module('toy.h1').f))",
        1.0,
        9.0,
    ),
    "default of an argument": (
        {
            "i1": HELPER + "def g(x, k=1.0): return k * x",
            "i2": "from toy.i1 import g\n" + HELPER + "def f(x): return g(x)",
        },
        {"i1": HELPER + "def g(x, k=9.0): return k * x"},
        "make(importlib.import_module('toy.i2').f)",
        1.0,
        9.0,
    ),
    "constant in the code": (
        {"j1": HELPER + "def f(x): return 1.5 * x"},
        {"j1": HELPER + "def f(x): return 2.5 * x"},
        "make(importlib.import_module('toy.j1').f)",
        1.5,
        2.5,
    ),
    "set in the code": (
        {"m1": HELPER + "def f(x): return 4.0 if x in {1.0, 2.0} else 9.0"},
        {"m1": HELPER + "def f(x): return 4.0 if x in {3.0, 2.0} else 9.0"},
        "make(importlib.import_module('toy.m1').f)",
        4.0,
        9.0,
    ),
    # (x + 1e20) - 1e20 is x where sums may be reassociated, else 0.
    "option of an inlined function": (
        {
            "k1": "from subsampled_newton._jit import inlinable\n@inlinable()\n"
            "def f(x): return (x + 1e20) - 1e20"
        },
        {
            "k1": "from subsampled_newton._jit import inlinable\n"
            "@inlinable(fastmath={'reassoc', 'nsz'})\n"
            "def f(x): return (x + 1e20) - 1e20"
        },
        "make(importlib.import_module('toy.k1').f)",
        0.0,
        1.0,
    ),
    "option of the kernel": (
        {"l1": "OPTIONS = {}"},
        {"l1": "OPTIONS = {'fastmath': {'reassoc', 'nsz'}}"},
        "make_sum(importlib.import_module('toy.l1').OPTIONS)",
        0.0,
        1.0,
    ),
}

RUN = (
    LIGHT
    + """
import importlib
from toy.common import inlinable, make, make_sum
results = {}
for way, text in json.loads(sys.argv[1] if len(sys.argv) > 1 else KERNELS).items():
    kernel = eval(text)
    results[way] = [
        kernel(1.0),
        sum(kernel.stats.cache_hits.values()),
        sum(kernel.stats.cache_misses.values()),
    ]
print(json.dumps(results))
"""
)


def run_toy(cache, path, ways=EDITS, **changes):
    kernels = json.dumps({way: EDITS[way][2] for way in ways})
    code = f"KERNELS = {kernels!r}\n" + RUN
    return finish(start(code, environment(cache, path, **changes)))


def write(folder, files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text + "\n")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The folder of the package, and a cache that one process has filled."""
    path = tmp_path_factory.mktemp("jit")
    folder = path / "toy"
    folder.mkdir()
    write(folder, {"__init__": "", "common": COMMON})
    for before, *_ in EDITS.values():
        write(folder, before)
    first = run_toy(path / "cache", path)
    return path, first


@pytest.fixture(scope="module")
def second(toy):
    """Results of a second process."""
    path, _ = toy
    return run_toy(path / "cache", path)


@pytest.fixture(scope="module")
def edited(toy, tmp_path_factory):
    """Results of a process after the edits, and the old and new files of the cache."""
    path, _ = toy
    other = tmp_path_factory.mktemp("edited")
    shutil.copytree(path, other, dirs_exist_ok=True)
    for _, changes, *_ in EDITS.values():
        write(other / "toy", changes)
    # Cache folders are named after the path of the sources: the name must not change.
    moved = path.with_name("before")
    path.rename(moved)
    try:
        shutil.copytree(other, path)
        files = cache_files(path / "cache")
        results = run_toy(path / "cache", path)
        return results, files, cache_files(path / "cache")
    finally:
        shutil.rmtree(path)
        moved.rename(path)


ways = pytest.mark.parametrize("way", list(EDITS))


@ways
def test_first_process_compiles(toy, way):
    assert toy[1][way] == [EDITS[way][3], 0, 1]


@ways
def test_second_process_compiles_nothing(second, way):
    assert second[way] == [EDITS[way][3], 1, 0]


@ways
def test_edit_gives_the_new_number(edited, way):
    assert edited[0][way][0] == EDITS[way][4]


def test_edit_recompiles_what_it_reaches_and_nothing_else(edited):
    results, before, after = edited
    hits = [way for way, (_, hits, _) in results.items() if hits]
    assert hits == ["unchanged"]
    assert set(before) < set(after)
    assert len(after) == len(before) + len(EDITS) - 1


def damage(file, kind):
    content = bytearray(file.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "short":
        content = content[:20]
    elif kind == "empty":
        content = b""
    elif kind == "garbage":
        content = random.Random(0).randbytes(len(content))
    elif kind == "flipped":
        content[len(content) // 2] ^= 0x10
    elif kind == "flipped sum":
        content[3] ^= 0x01
    elif kind == "folder":
        file.unlink()
        file.mkdir()
        return
    file.write_bytes(content)


KINDS = ["truncated", "short", "empty", "garbage", "flipped", "flipped sum", "folder"]


def test_damaged_files_are_compiled_again_and_replaced(toy, second, tmp_path):
    path, first = toy
    cache = tmp_path / "cache"
    shutil.copytree(path / "cache", cache)
    files = cache_files(cache)
    assert len(files) >= len(KINDS)
    for i, file in enumerate(files):
        damage(file, KINDS[i % len(KINDS)])
    assert run_toy(cache, path) == first

    again = run_toy(cache, path)
    assert [r[0] for r in again.values()] == [r[0] for r in first.values()]
    # A folder in place of a file is left alone; everything else was replaced.
    folders = [p for p in cache.rglob("*") if p.is_dir() and p.suffix == ".nbc"]
    assert sum(hits for _, hits, _ in again.values()) == len(files) - len(folders)


def test_cache_can_be_switched_off(toy, tmp_path):
    path, _ = toy
    cache = tmp_path / "cache"
    way = "unchanged"
    results = run_toy(cache, path, [way], SUBSAMPLED_NEWTON_CACHE="0")
    assert results[way][0] == EDITS[way][3]
    assert not cache_files(tmp_path)


TWO_SIGNATURES = (
    LIGHT
    + """
from toy.common import inlinable, make
kernel = make(inlinable()(lambda x: x / 2))
values = [kernel(eval(text)) for text in ARGUMENTS]
print(json.dumps([values, sum(kernel.stats.cache_hits.values())]))
"""
)


def test_two_processes_may_compile_at_once(toy, tmp_path):
    path, _ = toy
    env = environment(tmp_path / "cache", path)
    both = [
        start(f"ARGUMENTS = [{text!r}]\n" + TWO_SIGNATURES, env)
        for text in ("7", "complex(0.0, 5.0).imag")
    ]
    assert [finish(child) for child in both] == [[[3.5], 0], [[2.5], 0]]
    third = start("ARGUMENTS = ['7', '5.0']\n" + TWO_SIGNATURES, env)
    assert finish(third) == [[3.5, 2.5], 2]
    assert not [p for p in cache_files(tmp_path) if p.suffix == ".tmp"]


# The whole package


IMPORT = """
import gc, json
import subsampled_newton
from numba.core.dispatcher import Dispatcher
ours = [
    o for o in gc.get_objects()
    if isinstance(o, Dispatcher)
    and o.py_func.__module__.startswith("subsampled_newton")
]
print(json.dumps([str(o) for o in ours if o.signatures]))
"""


def test_import_compiles_nothing(tmp_path):
    env = environment(tmp_path / "cache", PACKAGE.parent)
    assert finish(start(IMPORT, env)) == []
    assert not cache_files(tmp_path)


FIT = """
import json
import numpy as np
import subsampled_newton as sn

assert sn.__file__.startswith(ROOT), sn.__file__
X = np.arange(12.0).reshape(6, 2) % 5
problem = sn.LinearModel(sn.SQUARED, X, X @ [1.0, -2.0])
result = sn.minimize(problem, sn.SubsampledNewton(1.0), tol=1e-10)
print(json.dumps(np.round(result.w, 6).tolist()))
"""


def test_fit_works_where_nothing_can_be_written(tmp_path):
    # Not by permissions, which the superuser ignores: by files in place of folders.
    copy = tmp_path / "subsampled_newton"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (copy, *(p for p in copy.rglob("*") if p.is_dir())):
        (folder / "__pycache__").write_text("")
    nowhere = str(copy / "__pycache__" / "x")
    env = environment(
        nowhere,
        tmp_path,
        HOME=nowhere,
        XDG_CACHE_HOME=nowhere,
        LOCALAPPDATA=nowhere,
    )
    before = cache_files(tmp_path)
    assert finish(start(f"ROOT = {str(tmp_path)!r}\n" + FIT, env)) == [1.0, -2.0]
    assert cache_files(tmp_path) == before


# In this process


def _double(x):
    return 2.0 * x


def test_inlinable_function_stays_an_ordinary_function():
    assert inlinable(fastmath={"contract"})(_double) is _double
    assert inlinable()(_double) is _double
    assert _double(2.0) == 4.0


def test_inlinable_takes_the_function_of_a_compiled_one():
    def triple(x):
        return 3.0 * x

    assert inlinable()(numba.njit(triple)) is triple


@pytest.mark.usefixtures("jit")
def test_kernels_release_the_interpreter_lock_and_divide_as_numpy():
    @compiled()
    def kernel(x):
        return 1.0 / x

    assert kernel.targetoptions["nogil"] is True
    assert kernel(0.0) == np.inf


def test_plain_function_comes_back_where_compilation_is_off(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)

    def kernel(x):
        return x

    assert compiled()(kernel) is kernel


def test_two_kernels_of_one_factory_do_not_mix():
    X = as_rows(np.ones((1, 1)))
    one, z = np.ones(1), np.array([3.0])
    results = [X.pointwise(f, z, one, one)[0] for f in (SQUARED.value, SQUARED.d1)]
    assert results == [2.0, 2.0]
    losses = [_power(k) for k in (2.0, 3.0)]
    results = [X.pointwise(loss.value, z, one, one)[0] for loss in losses]
    assert results == [9.0, 27.0]


def _power(k):
    def value(z, y):
        return z**k

    return PointwiseLoss("power", value, value, value)


def test_function_made_by_exec_can_be_compiled():
    namespace = {}
    exec("def f(z, y): return 7.0 * z", namespace)
    f = namespace["f"]
    loss = PointwiseLoss("made", f, f, f)
    one = np.ones(1)
    assert as_rows(np.ones((1, 1))).pointwise(loss.value, one, one, one)[0] == 7.0


def test_library_functions_in_closures_are_told_apart():
    """``f = math.sin`` and ``f = math.cos``: the same bytecode, another kernel."""

    def make(f):
        return lambda x: f(x)

    library = (math.sin, math.cos, np.sin, np.cos)
    assert len({_fingerprint(make(f), set()) for f in library}) == 4


def test_functions_of_one_name_cached_by_two_processes_do_not_mix(tmp_path):
    """LLVM makes symbols of what it does not inline, as of products class by class."""
    code = """
        import numpy as np
        from subsampled_newton import as_rows
        X, W = np.random.default_rng(0).standard_normal((2, 9, 9))
        for order in {!r}:
            Z = as_rows(np.asarray(X, order=order)).class_predictions(W)
            assert np.allclose(Z, W @ X.T, rtol=1e-12, atol=0.0), order
        print("true")
    """
    env = environment(tmp_path, PACKAGE.parent)
    for orders in ("C", "F", "CF", "FC"):
        assert finish(start(code.format(orders), env))
    names = {path.name for path in cache_files(tmp_path)}
    assert len(names) == 2, names


# The parts of the cache, in this process.


def test_cache_file_gives_back_what_it_was_given_or_nothing(tmp_path):
    file = _jit._CacheFile(str(tmp_path), "kernel")
    assert file.load("key") is None
    file.save("key", [1, 2.5])
    file.flush()
    assert file.load("key") == [1, 2.5]
    assert file.load("other") is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=f"damaged cache file {path}"):
        file.load("key")


def test_temporary_files_of_killed_processes_are_removed_and_of_others_are_not(
    tmp_path,
):
    killed, writing, foreign = (
        tmp_path / name for name in ("kernel.1.tmp", "kernel.2.tmp", "other.1.tmp")
    )
    for path in (killed, writing, foreign):
        path.touch()
    long_ago = time.time() - 4000.0
    for path in (killed, foreign):
        os.utime(path, (long_ago, long_ago))
    _jit._CacheFile(str(tmp_path), "kernel").save("key", 1)
    assert {p.name for p in tmp_path.glob("*.tmp")} == {writing.name, foreign.name}


def test_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        _jit._CacheFile(str(tmp_path), "kernel").save("key", 1)
    assert not list(tmp_path.iterdir())


def half(x):
    return 0.5 * x


def test_cache_that_fails_is_not_in_the_way(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    caplog.set_level("INFO", "subsampled_newton")
    cache = _jit._GuardedCache(half)
    cache.enable()
    assert cache.load_overload("signature", None) is None
    cache.save_overload("signature", None)
    said = [record.message.partition(":")[0] for record in caplog.records]
    assert said == ["cache not used", "cache not written"]


def test_key_on_disk_names_signature_processor_and_code(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    here, there = (SimpleNamespace(magic_tuple=lambda n=n: n) for n in ("a", "b"))
    keys = {
        repr(_jit._GuardedCache(function)._index_key(signature, processor))
        for function in (half, cache_files)
        for signature in ("f8", "f4")
        for processor in (here, there)
    }
    assert len(keys) == 8


def test_kernel_has_a_guarded_cache_where_numba_finds_a_place(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("SUBSAMPLED_NEWTON_CACHE", raising=False)
    caplog.set_level("INFO", "subsampled_newton")
    kernel = compiled()(lambda x: x)
    assert isinstance(kernel._cache, _jit._GuardedCache)
    scope = {}
    exec("def f(x): return x", scope)
    assert not isinstance(compiled()(scope["f"])._cache, _jit._GuardedCache)
    (record,) = caplog.records
    assert "kernels are compiled in every process" in record.message


def test_seconds_of_nested_compilations_count_once(monkeypatch):
    monkeypatch.setattr(_jit.time, "perf_counter", iter([1.0, 4.0, 10.0]).__next__)
    clock = _jit._CompileClock()
    clock.on_start()
    clock.on_start()
    clock.on_end()
    assert clock.seconds == 0.0
    clock.on_end()
    assert clock.seconds == 3.0


def test_clock_of_a_forked_child_starts_afresh(monkeypatch):
    clock = _jit._CompileClock()
    monkeypatch.setattr(_jit, "_clock", clock)
    clock.on_start()
    clock._lock.acquire()  # by another thread of the parent
    _jit._after_fork()
    clock.on_start()
    clock.on_end()
    assert 0.0 < _jit.compile_seconds() < 60.0


def made(text, **names):
    scope = {"__name__": "user", **names}
    exec(text, scope)
    return scope["f"]


def module(text, **names):
    value = ModuleType("helpers")
    vars(value).update(names)
    exec(text, vars(value))
    return value


def with_options(**options):
    return SimpleNamespace(py_func=half, targetoptions=options)


DIFFERENT = {
    "nested": [
        made(f"def f(x):\n def g(y): return y + {k}\n return g(x)") for k in (1, 2)
    ],
    "set": [made(f"def f(x): return x in {{1, {k}}}") for k in (2, 3)],
    "array": [made("def f(x): return a[x]", a=np.arange(3) + k) for k in (0, 1)],
    "module": [
        made("def f(x): return m.c * x", m=module(f"c = {k}.0")) for k in (1, 2)
    ],
    "inner module": [
        made("def f(x): return m.n.c * x", m=module("", n=module(f"c = {k}.0")))
        for k in (1, 2)
    ],
    "library": [made("def f(x): return g(x)", g=g) for g in (math.sin, math.cos)],
    "options": [
        made("def f(x): return g(x)", g=with_options(fastmath=k)) for k in (True, False)
    ],
    "default": [made(f"def f(x, c={k}): return c * x") for k in (1, 2)],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_whatever_a_kernel_reaches_is_in_its_fingerprint(what):
    first, second = (_fingerprint(function, set()) for function in DIFFERENT[what])
    assert first != second
    assert first == _fingerprint(DIFFERENT[what][0], set())
