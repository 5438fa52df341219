"""Small parts of matrix products that stay in the registers of the processor.

Compilers turn one loop into vector code, not the loops around it: a product written as
loops adds to memory what could be added to registers, and the last columns of every
row, up to 31, go one by one. These are the innermost parts of products, spelled out;
what is around them are ordinary kernels.

Vectors have 8 numbers, one register of 512 bits or two of 256. The last vector of a row
that is no multiple of 8 begins earlier and shares columns with the one before it, where
its other factor, or its result, is zero.
"""

# Numba has no types: neither have its decorators and what they compile.
# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

__all__ = [
    "MOST_COLUMNS",
    "TILE_COLUMNS",
    "TILE_ROWS",
    "add_moments",
    "add_rows",
    "add_tile",
    "dot_rows",
    "scale_rows",
]

TILE_ROWS, TILE_COLUMNS = 4, 8
"""4 x 8 sums: 4 registers of 512 bits or 8 of 256, with room for the factors in both.
8 rows or 16 columns are up to a fifth faster on the first and would spill the second.
"""
MOST_COLUMNS = 64
"""Of `dot_rows` and `add_rows`, which go to and fro between rows. Wider rows are better
read one after the other: what comes next is then on its way from the memory."""
_VERSION = 3
"""Raise it when an intrinsic changes: cached kernels then are compiled again."""
_FLAGS = ("contract",)
_DOUBLE, _WORD = ir.DoubleType(), ir.IntType(32)
_VECTOR = ir.VectorType(_DOUBLE, TILE_COLUMNS)
_ZERO, _UNDEFINED = ir.Constant(_VECTOR, None), ir.Constant(_VECTOR, ir.Undefined)


def add_tile(
    a: Any, b: Any, n: int, j: int, m: int, out: Any, _version: int = _VERSION
) -> None:
    """Add ``a[:n, j:j + 4].T @ b[:n, m:m + 8]`` to ``out[j:j + 4, m:m + 8]``.

    For C-contiguous float64 matrices; the indices are not checked.
    """
    rows, columns = slice(j, j + TILE_ROWS), slice(m, m + TILE_COLUMNS)
    out[rows, columns] += a[:n, rows].T @ b[:n, columns]


def dot_rows(
    block: Any, w: Any, offset: float, z: Any, _version: int = _VERSION
) -> bool:
    """Set ``z[:] = block @ w + offset`` and return True, or do nothing.

    It is done in compiled code, for C-contiguous blocks of 4 rows or more and 8 to 64
    columns, whose numbers are float64 or float32.
    """
    return False


def add_rows(block: Any, r: Any, g: Any, _version: int = _VERSION) -> bool:
    """Add ``block.T @ r`` to ``g`` and return True, or do nothing, as `dot_rows`."""
    return False


def add_moments(
    block: Any, s: Any, center: Any, out: Any, _version: int = _VERSION
) -> bool:
    """Add ``s @ (block - center)`` to ``out[0]`` and that of the squares to ``out[1]``.

    Return True, or do nothing, as `dot_rows`.
    """
    return False


def scale_rows(
    block: Any,
    shift: Any,
    scale: Any,
    h: Any,
    rows: Any,
    weighted: Any,
    _version: int = _VERSION,
) -> bool:
    """Set the first columns of ``rows`` to those of the block, shifted and scaled.

    ``weighted`` receives ``diag(h)`` times the same. Return True, or do nothing, as
    `dot_rows`.
    """
    return False


class _Code:
    """Shorthands for the instructions of one intrinsic."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def array(self, kind: Any, value: Any) -> tuple[Any, list[Any]]:
        """Address of the first number, and the shape."""
        view = self.context.make_array(kind)(self.context, self.builder, value)
        return view.data, cgutils.unpack_tuple(self.builder, view.shape)

    def entries(self, kind: Any, value: Any) -> Callable[[Any], Any]:
        """Addresses of the numbers of a vector with any stride."""
        view = self.context.make_array(kind)(self.context, self.builder, value)
        (stride,) = cgutils.unpack_tuple(self.builder, view.strides)
        data = self.builder.bitcast(view.data, ir.IntType(8).as_pointer())

        def address(k: Any) -> Any:
            entry = self.builder.gep(data, [self.builder.mul(k, stride)])
            return self.builder.bitcast(entry, view.data.type)

        return address

    def index(self, value: int) -> Any:
        return self.context.get_constant(types.intp, value)

    def at(self, data: Any, *terms: Any) -> Any:
        """Address of the number at the sum of the indices."""
        for term in terms:
            data = self.builder.gep(data, [term])
        return data

    def steps(self, stop: Any, step: int) -> Any:
        """A loop ``for k in range(0, stop, step)``."""
        return cgutils.for_range_slice(
            self.builder, self.index(0), stop, self.index(step)
        )

    def load(self, pointer: Any) -> Any:
        """Eight numbers, wherever they begin, as float64."""
        kind = ir.VectorType(pointer.type.pointee, TILE_COLUMNS)
        numbers = self.builder.load(
            self.builder.bitcast(pointer, kind.as_pointer()), align=1
        )
        return numbers if kind == _VECTOR else self.builder.fpext(numbers, _VECTOR)

    def store(self, numbers: Any, pointer: Any) -> None:
        kind = ir.VectorType(_DOUBLE, numbers.type.count)
        pointer = self.builder.bitcast(pointer, kind.as_pointer())
        self.builder.store(numbers, pointer, align=8)

    def spread(self, number: Any) -> Any:
        """A vector of one number."""
        first = self.builder.insert_element(_UNDEFINED, number, _WORD(0))
        return self.shuffle(first, first, [0] * TILE_COLUMNS)

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(_WORD, len(lanes)), lanes)
        return self.builder.shuffle_vector(a, b, mask)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_FLAGS)

    def add_product(self, total: Any, a: Any, b: Any) -> None:
        """Add to a variable."""
        product = self.builder.fmul(a, b, flags=_FLAGS)
        self.builder.store(self.add(self.builder.load(total), product), total)

    def variables(self, count: int) -> list[Any]:
        """Vectors that are zero; LLVM keeps them in registers."""
        made = [cgutils.alloca_once(self.builder, _VECTOR) for _ in range(count)]
        for variable in made:
            self.builder.store(_ZERO, variable)
        return made

    def smaller(self, a: Any, b: Any) -> Any:
        less = self.builder.icmp_signed("<", a, b)
        return self.builder.select(less, a, b)

    def begins(self, column: Any, width: Any) -> tuple[Any, Any]:
        """Where the next four vectors begin: as wanted, and within the width."""
        last = self.builder.sub(width, self.index(TILE_COLUMNS))
        wanted = [
            self.builder.add(column, self.index(k * TILE_COLUMNS))
            for k in range(TILE_ROWS)
        ]
        return wanted, [self.smaller(k, last) for k in wanted]

    def new_lanes(self, numbers: Any, begin: Any, wanted: Any) -> Any:
        """Zero for the columns before the wanted one, in a vector from ``begin`` on."""
        lanes = ir.Constant(_VECTOR, [float(k) for k in range(TILE_COLUMNS)])
        skip = self.builder.sitofp(self.builder.sub(wanted, begin), _DOUBLE)
        new = self.builder.fcmp_ordered(">=", lanes, self.spread(skip))
        return self.builder.select(new, numbers, _ZERO)

    def add_sums(self, data: Any, begins: Any, wanted: Any, sums: Any) -> None:
        """Add to the numbers in memory what columns of their own have summed up."""
        for begin, first, total in zip(begins, wanted, sums, strict=True):
            new = self.new_lanes(self.builder.load(total), begin, first)
            entry = self.at(data, begin)
            self.store(self.add(self.load(entry), new), entry)


@intrinsic
def _add_tile(typingctx: Any, a: Any, b: Any, n: Any, j: Any, m: Any, out: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, kinds = _Code(context, builder), signature.args
        a, (_, a_width) = code.array(kinds[0], args[0])
        b, (_, b_width) = code.array(kinds[1], args[1])
        out, (_, out_width) = code.array(kinds[5], args[5])
        n, j, m = args[2:5]
        sums = code.variables(TILE_ROWS)
        with cgutils.for_range(builder, n) as loop:
            factors = code.load(code.at(b, builder.mul(loop.index, b_width), m))
            first = code.at(a, builder.mul(loop.index, a_width), j)
            for r, total in enumerate(sums):
                factor = builder.load(code.at(first, _WORD(r)))
                code.add_product(total, code.spread(factor), factors)
        for r, total in enumerate(sums):
            row = builder.mul(builder.add(j, code.index(r)), out_width)
            entry = code.at(out, row, m)
            code.store(code.add(code.load(entry), builder.load(total)), entry)
        return context.get_dummy_value()

    return types.void(a, b, types.intp, types.intp, types.intp, out), codegen


@intrinsic
def _dot_rows(typingctx: Any, block: Any, w: Any, offset: Any, z: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, kinds = _Code(context, builder), signature.args
        x, (n, d) = code.array(kinds[0], args[0])
        w, _ = code.array(kinds[1], args[1])
        entry_of_z = code.entries(kinds[3], args[3])
        eight = code.index(TILE_COLUMNS)
        last = builder.sub(d, eight)
        whole = builder.mul(builder.sdiv(d, eight), eight)
        rest = builder.icmp_signed("<", whole, d)
        w_last = code.new_lanes(code.load(code.at(w, last)), last, whole)
        offsets = code.shuffle(code.spread(args[2]), _UNDEFINED, list(range(TILE_ROWS)))
        four = code.index(TILE_ROWS)
        with code.steps(n, TILE_ROWS) as (row, _):
            # The last four share rows with those before: the same results again.
            row = code.smaller(row, builder.sub(n, four))
            starts = [
                code.at(x, builder.mul(builder.add(row, code.index(k)), d))
                for k in range(TILE_ROWS)
            ]
            sums = code.variables(TILE_ROWS)
            with code.steps(whole, TILE_COLUMNS) as (j, _):
                factors = code.load(code.at(w, j))
                for start, total in zip(starts, sums, strict=True):
                    code.add_product(total, code.load(code.at(start, j)), factors)
            with builder.if_then(rest):
                for start, total in zip(starts, sums, strict=True):
                    code.add_product(total, code.load(code.at(start, last)), w_last)
            # Sums over the lanes of four vectors: of pairs, pairs of pairs, halves.
            a, b, c, e = (builder.load(total) for total in sums)
            even, odd = [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15]
            a = code.add(code.shuffle(a, b, even), code.shuffle(a, b, odd))
            c = code.add(code.shuffle(c, e, even), code.shuffle(c, e, odd))
            even, odd = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
            a = code.add(code.shuffle(a, c, even), code.shuffle(a, c, odd))
            a = code.add(
                code.shuffle(a, a, [0, 1, 2, 3]), code.shuffle(a, a, [4, 5, 6, 7])
            )
            a = code.add(a, offsets)
            for k in range(TILE_ROWS):
                entry = entry_of_z(builder.add(row, code.index(k)))
                builder.store(builder.extract_element(a, _WORD(k)), entry)
        return context.get_dummy_value()

    return types.void(block, w, types.float64, z), codegen


@intrinsic
def _add_rows(typingctx: Any, block: Any, r: Any, g: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, kinds = _Code(context, builder), signature.args
        x, (n, d) = code.array(kinds[0], args[0])
        entry_of_r = code.entries(kinds[1], args[1])
        g, _ = code.array(kinds[2], args[2])
        with code.steps(d, TILE_ROWS * TILE_COLUMNS) as (column, _):
            wanted, begins = code.begins(column, d)
            sums = code.variables(TILE_ROWS)
            with cgutils.for_range(builder, n) as loop:
                start = code.at(x, builder.mul(loop.index, d))
                factor = code.spread(builder.load(entry_of_r(loop.index)))
                for begin, total in zip(begins, sums, strict=True):
                    code.add_product(total, code.load(code.at(start, begin)), factor)
            code.add_sums(g, begins, wanted, sums)
        return context.get_dummy_value()

    return types.void(block, r, g), codegen


@intrinsic
def _add_moments(typingctx: Any, block: Any, s: Any, center: Any, out: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder)
        pairs = zip(signature.args, args, strict=True)
        (x, (n, d)), (s, _), (center, _), (out, _) = (
            code.array(*pair) for pair in pairs
        )
        with code.steps(d, TILE_ROWS * TILE_COLUMNS) as (column, _):
            wanted, begins = code.begins(column, d)
            centers = [code.load(code.at(center, begin)) for begin in begins]
            first, second = code.variables(TILE_ROWS), code.variables(TILE_ROWS)
            with cgutils.for_range(builder, n) as loop:
                start = code.at(x, builder.mul(loop.index, d))
                factor = code.spread(builder.load(code.at(s, loop.index)))
                for k, begin in enumerate(begins):
                    numbers = code.load(code.at(start, begin))
                    numbers = builder.fsub(numbers, centers[k])
                    weighted = builder.fmul(factor, numbers)
                    total = code.add(builder.load(first[k]), weighted)
                    builder.store(total, first[k])
                    code.add_product(second[k], weighted, numbers)
            code.add_sums(out, begins, wanted, first)
            code.add_sums(code.at(out, d), begins, wanted, second)
        return context.get_dummy_value()

    return types.void(block, s, center, out), codegen


@intrinsic
def _scale_rows(
    typingctx: Any, block: Any, shift: Any, scale: Any, h: Any, rows: Any, weighted: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder)
        pairs = zip(signature.args, args, strict=True)
        arrays = [code.array(kind, value) for kind, value in pairs]
        x, shift, scale, h, rows, weighted = (data for data, _ in arrays)
        (n, d), (_, width) = arrays[0][1], arrays[4][1]
        with code.steps(d, TILE_ROWS * TILE_COLUMNS) as (column, _):
            _, begins = code.begins(column, d)
            shifts = [code.load(code.at(shift, begin)) for begin in begins]
            scales = [code.load(code.at(scale, begin)) for begin in begins]
            with cgutils.for_range(builder, n) as loop:
                factor = code.spread(builder.load(code.at(h, loop.index)))
                start = code.at(x, builder.mul(loop.index, d))
                offset = builder.mul(loop.index, width)
                for begin, minus, times in zip(begins, shifts, scales, strict=True):
                    numbers = builder.fsub(code.load(code.at(start, begin)), minus)
                    numbers = builder.fmul(numbers, times)
                    code.store(numbers, code.at(rows, offset, begin))
                    numbers = builder.fmul(numbers, factor)
                    code.store(numbers, code.at(weighted, offset, begin))
        return context.get_dummy_value()

    return types.void(block, shift, scale, h, rows, weighted), codegen


@overload(add_tile)
def _overload_add_tile(a, b, n, j, m, out, _version=_VERSION):
    def implementation(a, b, n, j, m, out, _version=_VERSION):
        _add_tile(a, b, n, j, m, out)

    return implementation


@overload(dot_rows)
def _overload_dot_rows(block, w, offset, z, _version=_VERSION):
    if not _contiguous(block, w):
        return lambda block, w, offset, z, _version=_VERSION: False

    def implementation(block, w, offset, z, _version=_VERSION):
        n, d = block.shape
        if n < TILE_ROWS or not TILE_COLUMNS <= d <= MOST_COLUMNS:
            return False
        _dot_rows(block, w, offset, z)
        return True

    return implementation


@overload(add_rows)
def _overload_add_rows(block, r, g, _version=_VERSION):
    if not _contiguous(block, g):
        return lambda block, r, g, _version=_VERSION: False

    def implementation(block, r, g, _version=_VERSION):
        if not TILE_COLUMNS <= block.shape[1] <= MOST_COLUMNS:
            return False
        _add_rows(block, r, g)
        return True

    return implementation


@overload(add_moments)
def _overload_add_moments(block, s, center, out, _version=_VERSION):
    if not _contiguous(block, s, center, out):
        return lambda block, s, center, out, _version=_VERSION: False

    def implementation(block, s, center, out, _version=_VERSION):
        if not TILE_COLUMNS <= block.shape[1] <= MOST_COLUMNS:
            return False
        _add_moments(block, s, center, out)
        return True

    return implementation


@overload(scale_rows)
def _overload_scale_rows(block, shift, scale, h, rows, weighted, _version=_VERSION):
    if not _contiguous(block, shift, scale, h, rows, weighted):
        return lambda block, shift, scale, h, rows, weighted, _version=_VERSION: False

    def implementation(block, shift, scale, h, rows, weighted, _version=_VERSION):
        if block.shape[1] < TILE_COLUMNS:
            return False
        _scale_rows(block, shift, scale, h, rows, weighted)
        return True

    return implementation


def _contiguous(*arrays: Any) -> bool:
    real = (types.float64, types.float32)
    return all(array.layout == "C" and array.dtype in real for array in arrays)
