"""One file for a tree of numbers, strings, arrays and records of this package.

The file is an npz archive: `numpy.load` opens its arrays, which bear the names of what
they are; ``content.json`` holds the rest and the format. The comment of the archive is
the SHA-256 of all bytes before it, so that no byte can change unnoticed. Nothing in it
is code, and no name in it is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import io
import json
import math
import os
import sys
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["read", "write"]

FORMAT = "subsampled_newton"
VERSION = 1
CONTENT = "content.json"
_KINDS = "biufSU"
_ITEM_SIZES = {"f": (2, 4, 8)}
"""The larger floats are other numbers on another machine."""
_DIGITS = hashlib.sha256().digest_size * 2


def write(path: str | os.PathLike[str], value: Any) -> None:
    """Write a file, which then holds all of it or what it held before.

    Raises
    ------
    TypeError
        If a part of the value cannot be stored, or `load` would refuse it.
    OSError
        If the file cannot be written; it names the path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, got {path!r}")
    arrays: dict[str, np.ndarray] = {}
    content = {
        "format": FORMAT,
        "version": VERSION,
        # Set by the package itself, which cannot be imported from below.
        "package": str(vars(sys.modules[str(__package__)])["__version__"]),
        "value": _encoded(value, "", arrays),
    }
    data = _archived(json.dumps(content, allow_nan=False, indent=1), arrays)
    _check_loads(data)
    try:
        _replace(os.path.realpath(path), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _check_loads(data: bytes) -> None:
    """Raise unless `load` takes these bytes: by its own checks, before any is written.

    Its registry of classes stands above this module, which the package has imported.
    """
    build = vars(sys.modules[f"{__package__}.persistence"])["_built"]
    try:
        _value(data, build)
    except MemoryError:
        raise
    except Exception as error:
        text = str(error)
        text = text if len(text) <= 200 else f"{text[:197]}..."
        raise TypeError(f"it cannot be saved, load would refuse it: {text}") from error


def _replace(path: str, data: bytes) -> None:
    """Write aside and rename: a full disk or a kill leaves the old file whole."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # The new name survives a power cut, too, where folders can be flushed.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _archived(content: str, arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    # Not compressed: what is larger than the file was never in it.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(CONTENT), content)
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, (1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
        archive.comment = b" " * _DIGITS
    body = stream.getvalue()[:-_DIGITS]
    return body + _digest(body)


def _digest(body: bytes | memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _parts(value: Any) -> dict[str, Any] | None:
    """Names and values of what an object of this package consists of, if it is one."""
    if type(value).__module__.partition(".")[0] != __package__:
        return None
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if hasattr(value, "get_params"):  # the history is the trace of the result
        return {k: v for k, v in vars(value).items() if k != "history_"}
    return None


def _encoded(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Value for JSON; arrays are put beside it."""

    def inner(part: Any, key: object) -> Any:
        return _encoded(part, f"{name}.{key}" if name else str(key), arrays)

    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim == 1:
        return {"objects": [inner(part, k) for k, part in enumerate(value)]}
    if isinstance(value, np.ndarray | np.generic) and _storable(value.dtype):
        arrays[name] = np.asarray(value)
        return {"array" if isinstance(value, np.ndarray) else "scalar": name}
    if type(value) is list and _is_table(value):
        columns = enumerate(zip(*value, strict=True))
        return {"table": [inner(np.array(column), j) for j, column in columns]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [inner(p, k) for k, p in enumerate(value)]}
    if type(value) is dict:
        pairs = enumerate(value.items())
        return {"dict": [[inner(k, i), inner(v, f"{i}.value")] for i, (k, v) in pairs]}
    fields = _parts(value)
    if fields is not None:
        record = {key: inner(part, key) for key, part in fields.items()}
        return {"record": type(value).__name__, "fields": record}
    if isinstance(value, enum.Enum) and type(value).__module__.startswith(FORMAT):
        return {"record": type(value).__name__, "fields": {"name": value.name}}
    raise TypeError(
        f"{name or 'it'} must be a number, a string, an array of these, None or an "
        f"object of this package to be saved, got {_described(value)}"
    )


def _described(value: Any) -> str:
    what = f"one of type {type(value).__name__}"
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return f"{what}: give an integer seed or None"
    if callable(value) or hasattr(value, "step"):
        return f"{what}: code is not saved, keep it in a module and the numbers apart"
    return f"{what}: replace it before and set it again after loading"


def _storable(dtype: np.dtype[Any]) -> bool:
    sizes = _ITEM_SIZES.get(dtype.kind, (dtype.itemsize,))
    return dtype.kind in _KINDS and dtype.itemsize > 0 and dtype.itemsize in sizes


def _is_table(rows: list[Any]) -> bool:
    """Whether these are rows of numbers, as the records of a run."""
    return bool(rows) and all(
        type(row) is tuple
        and len(row) == len(rows[0]) > 0
        and all(isinstance(x, int | float | np.integer) for x in row)
        for row in rows
    )


def read(
    path: str | os.PathLike[str], build: Callable[[str, dict[str, Any]], Any]
) -> Any:
    """Read a file that `write` wrote.

    Parameters
    ----------
    path : path
    build : callable, (name, fields) -> object
        Makes a record; raises an exception where it is not a valid one.

    Raises
    ------
    ValueError
        If the file is anything but what `write` wrote, to the last bit. Names the path.
    OSError
        If it cannot be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, got {path!r}")
    with open(path, "rb") as file:
        raw = file.read()
    if not raw.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path} is not a file that save() wrote")
    if _digest(memoryview(raw)[:-_DIGITS]) != raw[-_DIGITS:]:
        raise ValueError(
            f"{path} is damaged, cut off or not of this package: its checksum is wrong"
        )
    try:
        return _value(raw, build)
    except MemoryError:
        raise
    # Only a file that was made by hand comes here: whatever is wrong is its content.
    except Exception as error:
        raise ValueError(f"{path} is not valid: {error}") from error


def _value(raw: bytes, build: Callable[[str, dict[str, Any]], Any]) -> Any:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        stored = all(m.compress_type == zipfile.ZIP_STORED for m in members)
        if not stored or sum(m.file_size for m in members) > len(raw):
            raise ValueError("its members must be stored as they are")
        if len(set(names)) < len(names) or CONTENT not in names:
            raise ValueError(f"it must hold one {CONTENT}, and every array once")
        content = json.loads(archive.read(CONTENT))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"its format must be {FORMAT!r}")
        if content.get("version") != VERSION:
            raise ValueError(
                f"its format version is {content.get('version')!r}, written by "
                f"release {content.get('package')!r}, but this release reads {VERSION}"
            )
        arrays = {
            name.removesuffix(".npy"): _array(archive.read(name))
            for name in names
            if name != CONTENT
        }
    value = _decoded(content["value"], arrays, build)
    if arrays:
        raise ValueError(f"it holds arrays that nothing refers to: {sorted(arrays)}")
    return value


def _array(data: bytes) -> np.ndarray:
    """Array of an npy member, of the size that its header says."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("its arrays must be of version 1.0 of the npy format")
    header = np.lib.format.read_array_header_1_0(stream)
    shape, fortran, dtype = header
    size = math.prod(shape) * dtype.itemsize
    if not _storable(dtype) or min(shape, default=0) < 0:
        raise ValueError(f"it holds an array of dtype {dtype} and shape {shape}")
    if size != len(data) - stream.tell():
        raise ValueError(f"an array of shape {shape} does not fit its member")
    order: Any = "F" if fortran else "C"
    return np.ndarray(shape, dtype, data, stream.tell(), order=order).copy(order=order)


def _decoded(
    tree: Any,
    arrays: dict[str, np.ndarray],
    build: Callable[[str, dict[str, Any]], Any],
) -> Any:
    """Inverse of `_encoded`. Takes the arrays that it uses out of the dictionary."""

    def inner(trees: list[Any]) -> list[Any]:
        return [_decoded(part, arrays, build) for part in trees]

    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise ValueError("a list must say what it is")
        return tree
    if set(tree) == {"record", "fields"}:
        fields = dict(
            zip(tree["fields"], inner([*tree["fields"].values()]), strict=True)
        )
        return build(tree["record"], fields)
    ((tag, part),) = tree.items()
    if tag == "float" and part in ("nan", "inf", "-inf"):
        return float(part)
    if tag == "array":
        return arrays.pop(part)
    if tag == "scalar":
        return arrays.pop(part)[()]
    if tag == "objects":
        objects = np.empty(len(part), dtype=object)
        objects[:] = inner(part)
        return objects
    if tag == "table":
        return list(zip(*(column.tolist() for column in inner(part)), strict=True))
    if tag == "list":
        return inner(part)
    if tag == "tuple":
        return tuple(inner(part))
    if tag == "dict":
        return dict(inner(pair) for pair in part)
    raise ValueError(f"it holds {tag!r}, which is nothing that is known")
