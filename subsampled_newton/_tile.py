"""A small block of a matrix product that stays in the registers of the processor.

Compilers turn one loop into vector code, not three: a product of tall blocks written
as loops adds to memory what could be added to registers. `add_tile` is the innermost
part of such a product, spelled out; the loops around it are ordinary kernels.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

__all__ = ["TILE_COLUMNS", "TILE_ROWS", "add_tile"]

TILE_ROWS, TILE_COLUMNS = 4, 8
"""4 x 8 sums: 4 registers of 512 bits or 8 of 256, with room for the factors in both.
8 rows or 16 columns are up to a fifth faster on the first and would spill the second.
"""
_VERSION = 1
"""Raise it when the intrinsic changes: cached kernels then are compiled again."""


def add_tile(
    a: Any, b: Any, n: int, j: int, m: int, out: Any, _version: int = _VERSION
) -> None:
    """Add ``a[:n, j:j + 4].T @ b[:n, m:m + 8]`` to ``out[j:j + 4, m:m + 8]``.

    For C-contiguous float64 matrices; the indices are not checked.
    """
    rows, columns = slice(j, j + TILE_ROWS), slice(m, m + TILE_COLUMNS)
    out[rows, columns] += a[:n, rows].T @ b[:n, columns]


@intrinsic  # type: ignore[untyped-decorator]  # Numba has no types
def _add_tile(typingctx: Any, a: Any, b: Any, n: Any, j: Any, m: Any, out: Any) -> Any:
    double, word = ir.DoubleType(), ir.IntType(32)
    vector = ir.VectorType(double, TILE_COLUMNS)
    undefined = ir.Constant(vector, ir.Undefined)
    everywhere = ir.Constant(ir.VectorType(word, TILE_COLUMNS), [0] * TILE_COLUMNS)
    flags = ("contract",)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args

        def matrix(k: int) -> tuple[Any, Any]:
            view = context.make_array(kinds[k])(context, builder, args[k])
            return view.data, cgutils.unpack_tuple(builder, view.shape)[1]

        def address(data: Any, width: Any, row: Any, column: Any) -> Any:
            return builder.gep(data, [builder.add(builder.mul(row, width), column)])

        def eight(pointer: Any) -> Any:
            return builder.bitcast(pointer, vector.as_pointer())

        (a, a_width), (b, b_width), (out, out_width) = matrix(0), matrix(1), matrix(5)
        n, j, m = args[2:5]
        sums = [cgutils.alloca_once(builder, vector) for _ in range(TILE_ROWS)]
        for sum_ in sums:
            builder.store(ir.Constant(vector, None), sum_)
        with cgutils.for_range(builder, n) as loop:
            factors = builder.load(eight(address(b, b_width, loop.index, m)), align=8)
            first = address(a, a_width, loop.index, j)
            for r, sum_ in enumerate(sums):
                factor = builder.load(builder.gep(first, [word(r)]))
                factor = builder.insert_element(undefined, factor, word(0))
                factor = builder.shuffle_vector(factor, undefined, everywhere)
                product = builder.fmul(factor, factors, flags=flags)
                added = builder.fadd(builder.load(sum_), product, flags=flags)
                builder.store(added, sum_)
        for r, sum_ in enumerate(sums):
            entry = eight(address(out, out_width, builder.add(j, j.type(r)), m))
            total = builder.fadd(builder.load(entry, align=8), builder.load(sum_))
            builder.store(total, entry, align=8)
        return context.get_dummy_value()

    return types.void(a, b, types.intp, types.intp, types.intp, out), codegen


@overload(add_tile)
def _overload_add_tile(a, b, n, j, m, out, _version=_VERSION):  # type: ignore[no-untyped-def]
    def implementation(a, b, n, j, m, out, _version=_VERSION):  # type: ignore[no-untyped-def]
        _add_tile(a, b, n, j, m, out)

    return implementation
