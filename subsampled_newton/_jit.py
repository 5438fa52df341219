"""Compile kernels with Numba and keep them on disk under names that cannot go stale.

Numba's own cache has four faults that reached users of other libraries: it looks
only at the file of the kernel, not at the functions that the kernel inlines; compile
options are not part of its key; a damaged cache file ends the program; two processes
that compile at once can give the code of one signature the name of another. Here a
cache file is named after everything that decides its content, it carries a checksum,
and whatever goes wrong with it means "compile again".

Every kernel for the CPU is compiled here. `_tile`, `_dual` and `_prefetch` teach Numba
instructions and types with its decorators for extensions; the modules ``_cuda_*`` of
``backends`` compile theirs with those for GPUs.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import inspect
import logging
import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba import njit
from numba.core import config, event
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps
from numba.extending import overload

__all__ = [
    "DISABLED",
    "check_arguments",
    "compile_seconds",
    "compiled",
    "content",
    "frozen",
    "inlinable",
]

logger = logging.getLogger("subsampled_newton")

DISABLED = bool(config.DISABLE_JIT)
"""Whether kernels are plain Python: ``NUMBA_DISABLE_JIT=1`` before the import."""

_FOREIGN = ("numpy", "numba", "scipy", "math", "builtins")
_CONSTANTS = (bool, int, float, complex, str, bytes, tuple, np.generic, enum.Enum)
_ROWS = ("x", "X", "x_i", "xi", "t", "row")
_PARAMS = ("p", "params", "parameters", "theta", "beta", "coef", "w")
_DIGEST_BYTES = hashlib.sha256().digest_size
_ABANDONED = 3600.0
"""Seconds after which nobody is writing a temporary file any more."""


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: ``njit`` without the GIL and with a guarded disk cache.

    ``SUBSAMPLED_NEWTON_CACHE=0`` in the environment switches the disk cache off. With
    ``NUMBA_DISABLE_JIT=1`` the plain function is returned.

    Parameters
    ----------
    **options
        Options of ``numba.njit``. ``error_model="numpy"`` is the default because the
        check for a zero divisor of the other model stops LLVM from vectorising.
    """
    options = {"nogil": True, "error_model": "numpy", **options}

    def wrap(func: Any) -> Any:
        func.jit_options = _canonical(options)
        dispatcher = njit(**options)(func)
        if config.DISABLE_JIT or os.environ.get("SUBSAMPLED_NEWTON_CACHE", "1") == "0":
            return dispatcher
        try:
            dispatcher._cache = _GuardedCache(func)
        except RuntimeError as error:  # Numba found no folder that it may write to
            logger.info("kernels are compiled in every process: %s", error)
        return dispatcher

    return wrap


def inlinable(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator: a plain function that kernels may inline.

    The function stays an ordinary Python function. Applying the decorator twice does
    no harm, so losses may register functions that a user has registered already.

    What LLVM does not inline becomes a symbol of the kernel's code, named after the
    content of the function: kernels cached by different processes may call different
    functions of one name, as the closures of a factory or what a notebook defines
    twice, and a process that loads both would take the first for the second.
    """

    def wrap(func: Any) -> Any:
        func = getattr(func, "py_func", func)
        if not isinstance(func, FunctionType):
            raise TypeError(f"a plain Python function can be compiled, got {func!r}")
        if not hasattr(func, "jit_options"):
            setattr(func, "jit_options", _canonical(options))  # noqa: B010  # for mypy

            def named(*args: Any, **kwargs: Any) -> Any:
                return _named_by_content(func)

            # Numba has no checks of bounds on a GPU.
            unchecked = {k: v for k, v in options.items() if k != "boundscheck"}
            targets = ("generic",) if unchecked == options else ("cpu", "cuda")
            for target in targets:
                kept = unchecked if target == "cuda" else options
                overload(func, jit_options=kept, strict=False, target=target)(named)

        return func

    return wrap


_COPIES: dict[tuple[object, ...], Any] = {}
"""Frozen copies by their content."""


def check_arguments(name: str, function: Any, takes: dict[int, str]) -> None:
    """Refuse a function that cannot be called with the numbers of arguments allowed.

    Raises
    ------
    TypeError
        That names the arguments it has, and those it must have.
    """
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType):
        return  # refused elsewhere
    code = function.__code__
    most = code.co_argcount
    least = most - len(function.__defaults__ or ())
    open_end = bool(code.co_flags & inspect.CO_VARARGS)
    names = code.co_varnames[:most]
    forced = code.co_kwonlyargcount > len(function.__kwdefaults__ or {})
    fits = any(least <= k and (k <= most or open_end) for k in takes) and not forced
    swapped = names[:2] and names[0] in _ROWS and names[1:2] and names[1] in _PARAMS
    if not fits or ("params" in takes.get(2, "") and swapped):
        got = f"{function.__name__}({', '.join(names)})"
        raise TypeError(f"{name} must take {' or '.join(takes.values())}, got {got}")


def content(func: Any) -> str:
    """Hash of a function and of all that it reaches: code, constants, arrays."""
    return _fingerprint(func, set())


def frozen(func: Any, stamp: str = "") -> Any:
    """Copy of a user's function, and of all that it reaches, as they are now.

    Globals, cells of closures, arrays and helpers may change later; kernels that are
    compiled around the copy keep what there was, and the copy is another one when
    anything has changed. Copies are inlinable, divide as NumPy and check the bounds of
    arrays.

    Parameters
    ----------
    func : function
        Plain Python. What it calls need not be inlinable.
    stamp : str
        Text for the names of the kernels on disk.
    """
    func = getattr(func, "py_func", func)
    if getattr(func, "frozen_from", None) is not None:
        return func
    code = func.__code__
    place = (func.__module__, func.__qualname__, code.co_filename, code.co_firstlineno)
    key = (content(func), stamp, *place)
    if key not in _COPIES:
        _COPIES[key] = _frozen(func, stamp, {})
    return _COPIES[key]


def _frozen(func: Any, stamp: str, done: dict[Any, Any]) -> Any:
    if func in done:
        return done[func]
    names = _code_parts(func.__code__)[0]
    cells = tuple(CellType() for _ in func.__closure__ or ())
    scope = {
        key: func.__globals__[key]
        for key in ("__name__", "__builtins__")
        if key in func.__globals__
    }
    copy: Any = FunctionType(func.__code__, scope, func.__name__, None, cells)
    done[func] = copy

    def still(value: Any) -> Any:
        return _still(value, names, stamp, done)

    copy.__defaults__ = still(func.__defaults__)
    if func.__kwdefaults__ is not None:
        copy.__kwdefaults__ = {k: still(v) for k, v in func.__kwdefaults__.items()}
    copy.__module__, copy.__qualname__ = func.__module__, func.__qualname__
    for name in names:
        if name in func.__globals__:
            scope[name] = still(func.__globals__[name])
    for cell, of_user in zip(cells, func.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            cell.cell_contents = still(of_user.cell_contents)
    inlinable(error_model="numpy", boundscheck=True)(copy)
    copy.jit_options += stamp
    copy.frozen_from = func.__qualname__
    return copy


def _still(value: Any, names: list[str], stamp: str, done: dict[Any, Any]) -> Any:
    """Copy of what may change; helpers that Numba compiled as plain functions."""
    plain = getattr(value, "py_func", value)
    if isinstance(plain, FunctionType):
        module = plain.__module__ or ""
        known = module.partition(".")[0] == "subsampled_newton"
        static = known and hasattr(plain, "jit_options") and not plain.__closure__
        keep = static or _foreign(module) or hasattr(plain, "frozen_from")
        return value if keep else _frozen(plain, stamp, done)
    if isinstance(value, np.ndarray):
        copied = np.array(value, order="K")
        copied.flags.writeable = False
        return copied
    if isinstance(value, tuple):
        parts = [_still(part, names, stamp, done) for part in value]
        if all(a is b for a, b in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, ModuleType) and not _foreign(value.__name__):
        if value not in done:
            done[value] = ModuleType(value.__name__)
        for name in names:
            if hasattr(value, name) and not hasattr(done[value], name):
                part = _still(getattr(value, name), names, stamp, done)
                setattr(done[value], name, part)
        return done[value]
    return value


def _named_by_content(func: FunctionType) -> FunctionType:
    """Copy of a function whose qualified name, which Numba makes symbols of, is unique.

    Made as a kernel is compiled: all that the function calls has been defined by then.
    """
    copy = FunctionType(
        func.__code__,
        func.__globals__,
        func.__name__,
        func.__defaults__,
        func.__closure__,
    )
    copy.__kwdefaults__, copy.__module__ = func.__kwdefaults__, func.__module__
    copy.__qualname__ = f"{func.__qualname__}.{_fingerprint(func, set())[:24]}"
    return copy


class _CompileClock(event.Listener):  # type: ignore[misc]  # Numba has no types
    """Seconds in which some thread compiled or loaded a kernel."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._start = 0.0
        self._lock = threading.Lock()

    def on_start(self, event: Any = None) -> None:
        with self._lock:
            if self._depth == 0:
                self._start = time.perf_counter()
            self._depth += 1

    def on_end(self, event: Any = None) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.perf_counter() - self._start


_clock = _CompileClock()
event.register("numba:compile", _clock)


def _after_fork() -> None:
    """Another thread of the parent may have held the lock: start afresh."""
    _clock.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def compile_seconds() -> float:
    """Seconds that this process has spent on compiling and loading kernels so far.

    A difference of two calls is what to leave out of a measured time.
    """
    return _clock.seconds


class _CacheFile:
    """One file for one kernel, signature, processor and state of the code."""

    def __init__(self, folder: str, base: str) -> None:
        self._folder = Path(folder)
        self._base = base

    def _path(self, key: object) -> Path:
        name = hashlib.sha256(repr((numba.__version__, key)).encode()).hexdigest()
        return self._folder / f"{self._base}.{name[:24]}.nbc"

    def flush(self) -> None:
        """Do nothing: a key that changes names another file."""

    def load(self, key: object) -> Any:
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError(f"damaged cache file {self._path(key)}")
        return pickle.loads(data)

    def save(self, key: object, data: object) -> None:
        content = dumps(data)
        # Written aside and renamed: readers see the whole file or none. Not a file of
        # tempfile, which other users of the machine could not read.
        temporary = self._folder / f"{self._base}.{uuid.uuid4().hex}.tmp"
        try:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            os.replace(temporary, self._path(key))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for path in self._folder.glob(f"{self._base}.*.tmp"):  # of killed processes
            with contextlib.suppress(FileNotFoundError):  # removed by another one
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()


class _GuardedCache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache of one function, over `_CacheFile`, that never raises."""

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        self._stamp = _fingerprint(py_func, set())
        # The qualified name holds the signature of closures in some releases: cut it.
        base = f"{py_func.__module__.rpartition('.')[2]}.{py_func.__name__}"
        self._cache_file = _CacheFile(self._cache_path, base)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[object, ...]:
        return (sig, codegen.magic_tuple(), self._stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        _clock.on_start()
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # any damage: the kernel is compiled again
            logger.info("cache not used: %s", error)
            return None
        finally:
            _clock.on_end()

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, a folder that vanished
            logger.info("cache not written: %s", error)


def _fingerprint(func: Any, seen: set[Any]) -> str:
    """Hash the bytecode and constants of a function and of all it reaches."""
    func = getattr(func, "py_func", func)
    if func in seen or _foreign(func.__module__ or ""):
        return ""
    seen.add(func)
    names, parts = _code_parts(func.__code__)
    parts += [getattr(func, "jit_options", ""), repr(func.__defaults__)]
    refs = [func.__globals__.get(name) for name in names]
    refs += [_contents(cell) for cell in func.__closure__ or ()]
    refs += [value for value in func.__defaults__ or () if not _repeats(value)]
    refs += [value for _, value in sorted((func.__kwdefaults__ or {}).items())]
    modules: set[ModuleType] = set()
    for ref in refs:  # grows: modules inside modules are followed, too
        if isinstance(ref, ModuleType) and not _foreign(ref.__name__):
            if ref not in modules:
                refs += [getattr(ref, name, None) for name in names]
            modules.add(ref)
    for ref in refs:
        options = getattr(ref, "targetoptions", None)  # of a user's own njit function
        if options is not None:
            parts.append(repr(sorted(options.items(), key=str)))
        ref = getattr(ref, "py_func", ref)
        if isinstance(ref, FunctionType) and not _foreign(ref.__module__ or ""):
            parts.append(_fingerprint(ref, seen))
        elif callable(ref) and hasattr(ref, "__name__"):
            # A library function under another name: f = math.sin, then f = math.cos.
            parts.append(f"{getattr(ref, '__module__', None)}.{ref.__name__}")
    parts += _plain(refs)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # assigned later
        return None


def _repeats(value: Any) -> bool:
    """Whether the text of a value tells all of it."""
    return value is None or (
        isinstance(value, _CONSTANTS) and not isinstance(value, tuple)
    )


def _code_parts(code: CodeType) -> tuple[list[str], list[str]]:
    """Names that a code object refers to, and its text, nested functions included."""
    names = list(code.co_names)
    parts = [code.co_code.hex(), repr(code.co_names), *_plain(code.co_consts)]
    for const in code.co_consts:
        if isinstance(const, CodeType):
            inner_names, inner_parts = _code_parts(const)
            names += inner_names
            parts += inner_parts
    return names, parts


def _foreign(module: str) -> bool:
    return module.partition(".")[0] in _FOREIGN


def _plain(values: Any) -> list[str]:
    """Text of the constants that Numba compiles into the code.

    Arrays are among them, though kernels of this package never read a global one.
    """
    texts = []
    for value in values:
        if isinstance(value, frozenset | set):
            texts.append(repr(sorted(map(repr, value))))
        elif isinstance(value, np.ndarray):
            digest = hashlib.sha256(value.tobytes()).hexdigest()
            texts.append(f"{value.dtype}{value.shape}{value.strides}{digest}")
        elif isinstance(value, tuple | list) and not all(map(_repeats, value)):
            texts += ["(", *_plain(value), ")"]
        elif isinstance(value, _CONSTANTS):
            texts.append(repr(value))
    return texts


def _canonical(options: dict[str, Any]) -> str:
    return repr(
        sorted((k, sorted(v) if isinstance(v, set) else v) for k, v in options.items())
    )
