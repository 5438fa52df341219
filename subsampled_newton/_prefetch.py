"""Ask the processor for memory before it is needed.

Stochastic methods read rows in random order: without a hint every row costs the latency
of the main memory, several times what the arithmetic costs. Reading a number of a later
row instead does not help much, because the processor waits for it in order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

__all__ = ["prefetch"]

_VERSION = 2
"""Raise it when the intrinsic changes: cached kernels then are compiled again."""


def prefetch(array: Any, i: int, j: int = 0, _version: int = _VERSION) -> None:
    """Hint that ``array[i]`` or ``array[i, j]`` will be read soon.

    Fetches the cache line, 64 bytes on most processors, in which the number begins. An
    index outside the array does no harm. In plain Python nothing happens.
    """


@intrinsic  # type: ignore[untyped-decorator]  # Numba has no types
def _prefetch(typingctx: Any, array: Any, i: Any, j: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        strides = cgutils.unpack_tuple(builder, view.strides)
        offset = builder.mul(args[1], strides[0])
        if len(strides) > 1:
            offset = builder.add(offset, builder.mul(args[2], strides[1]))
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.gep(builder.bitcast(view.data, byte), [offset])
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            (byte,),
            ir.FunctionType(ir.VoidType(), (byte, word, word, word)),
        )
        read, keep, data = word(0), word(3), word(1)
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), codegen


@overload(prefetch)
def _overload_prefetch(array, i, j=0, _version=_VERSION):  # type: ignore[no-untyped-def]
    def implementation(array, i, j=0, _version=_VERSION):  # type: ignore[no-untyped-def]
        _prefetch(array, i, j)

    return implementation
