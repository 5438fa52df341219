"""Dual numbers in compiled code: exact derivatives of a user's plain function.

A `Dual` is a number with derivatives along a few coordinates (its lanes), which every
operation carries on by the chain rule. A number of second order also has a slope along
one more direction, and the mixed derivatives: that gives products with a Hessian. The
rules are instructions for Numba, so a function of numbers, written without a thought of
derivatives, compiles on duals as it stands. Lanes are one vector of the processor.

Derivatives are accurate to rounding, like the values. Two conventions: a number that
does not depend on a coordinate has derivative 0 along it, whatever the outer derivative
(``sqrt(0)``), and an outer derivative 0 stays 0 when the inner one has overflowed
(``1 / (1 + exp(800))``).

Here are the types, the arithmetic and the container of the parameters; `_dual_rules`
has the derivatives of the functions. With ``NUMBA_DISABLE_JIT=1`` the rules are carried
out by `_dual_plain`.
"""

# Types of LLVM and Numba values are Numba's business, as in the kernels.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"
# mypy: disable-error-code="attr-defined,name-defined,import-untyped"

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import RefType, iternext_impl
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    models,
    overload,
    register_model,
    type_callable,
)

__all__ = [
    "MAX_LANES",
    "Dual",
    "Number",
    "Parts",
    "chain",
    "chain2",
    "contract",
    "floats",
    "plus",
    "register",
    "seeds",
    "store",
    "times",
    "value_of",
]

MAX_LANES = 8
"""Coordinates of one evaluation: one register of 512 bits, or several smaller ones."""

_DOUBLE = ir.DoubleType()


# Types.


class Dual(types.Type):
    """A number with ``width`` derivatives; ``order`` 2 adds a slope and the mixed."""

    def __init__(self, order: int, width: int) -> None:
        self.order, self.width = order, width
        super().__init__(name=f"Dual({order}, {width})")

    def unify(self, typingctx, other):
        """A variable that is now a number, now a dual, is a dual."""
        return self if _is_real(other) else None

    def can_convert_from(self, typingctx, other):
        """A number is a constant. The way back would lose the derivatives."""
        return Conversion.safe if _is_real(other) else None


class Lanes(types.Type):
    """The derivatives of a dual: a vector of the processor."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes({width})")


class Params(types.IterableType):
    """The parameters a function is called with: ``p[i]``, ``len(p)``, ``a, b = p``."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Params({dtype})")

    @property
    def iterator_type(self):
        return ParamsIterator(self)


class ParamsIterator(types.SimpleIteratorType):
    """Iterator over `Params`."""

    def __init__(self, container: Params) -> None:
        self.container = container
        super().__init__(f"iter({container})", container.dtype)


def _is_real(ty) -> bool:
    return isinstance(ty, types.Integer | types.Float | types.Boolean)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    """In registers a vector; in memory an array, which needs no wide alignment."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(_DOUBLE, fe_type.width))
        self._stored = ir.ArrayType(_DOUBLE, fe_type.width)

    def get_data_type(self):
        return self._stored

    def as_data(self, builder, value):
        stored = ir.Constant(self._stored, ir.Undefined)
        for k in range(self._stored.count):
            element = builder.extract_element(value, ir.IntType(32)(k))
            stored = builder.insert_value(stored, element, k)
        return stored

    def from_data(self, builder, value):
        vector = ir.Constant(self.get_value_type(), ir.Undefined)
        for k in range(self._stored.count):
            element = builder.extract_value(value, k)
            vector = builder.insert_element(vector, element, ir.IntType(32)(k))
        return vector

    def load_from_data_pointer(self, builder, ptr, align=None):
        return self.from_data(builder, builder.load(ptr, align=align))


@register_model(Dual)
class _DualModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        lanes = Lanes(fe_type.width)
        members = [("value", types.float64), ("lanes", lanes)]
        if fe_type.order == 2:
            members += [("slope", types.float64), ("cross", lanes)]
        super().__init__(dmm, fe_type, members)


@register_model(Params)
class _ParamsModel(models.StructModel):
    """Pointers to the values and to the direction; both outlive the call."""

    def __init__(self, dmm, fe_type):
        pointer = types.CPointer(types.float64)
        members = [("values", pointer), ("direction", pointer)]
        members += [("size", types.intp), ("first", types.intp)]
        super().__init__(dmm, fe_type, members)


@register_model(ParamsIterator)
class _ParamsIteratorModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        members = [("index", types.EphemeralPointer(types.intp))]
        members += [("container", fe_type.container)]
        super().__init__(dmm, fe_type, members)


# Arithmetic while code is generated: a `Number` stands for a float64 to come, None for
# a derivative that is zero for certain and costs nothing.


class Number:
    """A float64, or a vector of them, in the code that is being generated."""

    def __init__(self, context, builder, code) -> None:
        self.context, self.builder, self.code = context, builder, code

    def new(self, code) -> Number:
        return Number(self.context, self.builder, code)

    def constant(self, other) -> Number:
        """The other operand: a number of Python becomes a constant."""
        if isinstance(other, Number):
            return other
        return self.new(ir.Constant(_DOUBLE, float(other)))

    def zero(self) -> Number:
        """Zero, or a vector of zeros if this is a vector."""
        return self.new(ir.Constant(self.code.type, None))

    def __add__(self, other):
        return self.new(self.builder.fadd(self.code, self.constant(other).code))

    def __sub__(self, other):
        return self.new(self.builder.fsub(self.code, self.constant(other).code))

    def __mul__(self, other):
        return self.new(self.builder.fmul(self.code, self.constant(other).code))

    def __truediv__(self, other):
        return self.new(self.builder.fdiv(self.code, self.constant(other).code))

    def __rsub__(self, other):
        return self.constant(other) - self

    def __rtruediv__(self, other):
        return self.constant(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self):
        return self.new(self.builder.fneg(self.code))

    def compare(self, symbol, other):
        return self.builder.fcmp_ordered(symbol, self.code, self.constant(other).code)

    def where(self, condition, other):
        """This number where the condition holds, otherwise the other one."""
        other = self.constant(other).code
        return self.new(self.builder.select(condition, self.code, other))

    def call(self, function, *others):
        """A function of floats that Numba knows."""
        codes = [self.code, *(self.constant(other).code for other in others)]
        typed = self.context.typing_context.resolve_value_type(function)
        kinds = (types.float64,) * len(codes)
        kind = typed.get_call_type(self.context.typing_context, kinds, {})
        return self.new(self.context.get_function(typed, kind)(self.builder, codes))

    def compute(self, function):
        """A plain Python function of one float, compiled."""
        kind = signature(types.float64, types.float64)
        return self.new(
            self.context.compile_internal(self.builder, function, kind, [self.code])
        )

    def splat(self, like) -> Number:
        """A vector of this number, if ``like`` is a vector."""
        if not isinstance(like.code.type, ir.VectorType):
            return self
        zero, width = ir.IntType(32)(0), like.code.type.count
        empty = ir.Constant(like.code.type, ir.Undefined)
        first = self.builder.insert_element(empty, self.code, zero)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return self.new(self.builder.shuffle_vector(first, empty, mask))


def plus(a, b):
    """Sum of derivatives, either of which may be None: zero."""
    if a is None or b is None:
        return a if b is None else b
    return a + b


def times(factor, derivative):
    """Product of an outer derivative and inner ones: 0 if an inner one is 0.

    Also 0 if the outer is 0 and the inner infinite.
    """
    if factor is None or derivative is None:
        return None
    builder = factor.builder
    vector, inner = factor.splat(derivative).code, derivative.code
    zero = derivative.zero().code
    flat = builder.fcmp_ordered("==", vector, zero)
    flat = builder.and_(flat, builder.fcmp_ordered("ord", inner, inner))
    none = builder.or_(builder.fcmp_ordered("==", inner, zero), flat)
    return factor.new(builder.select(none, zero, builder.fmul(vector, inner)))


class Parts(NamedTuple):
    """The numbers of a dual."""

    value: Number
    lanes: Number | None = None
    slope: Number | None = None
    cross: Number | None = None


def chain(x, f, f1, f2):
    """A function of one dual from its value and first two derivatives."""
    cross = plus(times(f1, x.cross), times(times(f2, x.slope), x.lanes))
    return Parts(f, times(f1, x.lanes), times(f1, x.slope), cross)


def chain2(a, b, f, fa, fb, faa, fab, fbb):
    """A function of two duals from its value and derivatives."""
    cross = plus(times(fa, a.cross), times(fb, b.cross))
    for second, slope, lanes in (
        (faa, a.slope, a.lanes),
        (fab, a.slope, b.lanes),
        (fab, b.slope, a.lanes),
        (fbb, b.slope, b.lanes),
    ):
        cross = plus(cross, times(times(second, slope), lanes))
    lanes = plus(times(fa, a.lanes), times(fb, b.lanes))
    slope = plus(times(fa, a.slope), times(fb, b.slope))
    return Parts(f, lanes, slope, cross)


def _read(context, builder, ty, value) -> Parts:
    """The numbers of an argument: of a dual, or of a real constant."""

    def number(code):
        return Number(context, builder, code)

    if isinstance(ty, Dual):
        struct = cgutils.create_struct_proxy(ty)(context, builder, value=value)
        parts = Parts(number(struct.value), number(struct.lanes))
        if ty.order == 1:
            return parts
        return parts._replace(slope=number(struct.slope), cross=number(struct.cross))
    if isinstance(value, int | float):  # Numba hands over literals as they are
        return Parts(number(ir.Constant(_DOUBLE, float(value))))
    return Parts(number(context.cast(builder, value, ty, types.float64)))


def _write(context, builder, ty, parts: Parts):
    """A dual from its numbers."""
    struct = cgutils.create_struct_proxy(ty)(context, builder)
    for name in Parts._fields[: 2 * ty.order]:
        part = getattr(parts, name)
        zero = ir.Constant(getattr(struct, name).type, None)
        setattr(struct, name, zero if part is None else part.code)
    return struct._getvalue()


@lower_cast(types.Integer, Dual)
@lower_cast(types.Float, Dual)
@lower_cast(types.Boolean, Dual)
def _constant(context, builder, fromty, toty, value):
    return _write(context, builder, toty, _read(context, builder, fromty, value))


def _common(arguments):
    """Type of the result: the dual among real numbers; None if this is not our case."""
    duals = {ty for ty in arguments if isinstance(ty, Dual)}
    if len(duals) != 1 or not all(ty in duals or _is_real(ty) for ty in arguments):
        return None
    return duals.pop()


def register(function, n_arguments, lower, result=None):
    """Tell Numba the type and the code of a function of duals and real numbers."""

    def typer(context):
        def of_duals(*arguments):
            common = _common(arguments)
            return None if common is None else result or common

        # Numba reads the number of arguments off the typing function.
        return {
            1: lambda a: of_duals(a),
            2: lambda a, b: of_duals(a, b),
            3: lambda a, b, c: of_duals(a, b, c),
        }[n_arguments]

    type_callable(function)(typer)

    def code(context, builder, sig, args):
        parts = [
            _read(context, builder, ty, value)
            for ty, value in zip(sig.args, args, strict=True)
        ]
        answer = lower(*parts)
        if isinstance(answer, Parts):
            return _write(context, builder, sig.return_type, answer)
        return answer

    for mask in range(1, 2**n_arguments):
        kinds = [Dual if mask >> k & 1 else types.Any for k in range(n_arguments)]
        lower_builtin(function, *kinds)(code)


# The container of the parameters.


@functools.cache
def seeds(order: int, width: int):
    """Return the function for kernels that makes `Params` from arrays.

    It takes the values, the direction of the slopes (read for order 2 only) and the
    index of the parameter that belongs to the first lane. Order 0 gives plain numbers.
    """
    dtype = Dual(order, width) if order else types.float64

    @intrinsic
    def make(typingctx, values, direction, first):
        array = types.Array(types.float64, 1, "C")
        if values != array or direction != array:
            return None

        def code(context, builder, sig, args):
            out = cgutils.create_struct_proxy(sig.return_type)(context, builder)
            given, along = (
                context.make_array(array)(context, builder, arg) for arg in args[:2]
            )
            out.values, out.direction = given.data, along.data
            out.size = builder.extract_value(given.shape, 0)
            out.first = args[2]
            return out._getvalue()

        return Params(dtype)(values, direction, types.intp), code

    return make


# What kernels do with a result: one instruction each, because loops and calls are what
# takes Numba long to compile.


def _checked(number):
    if not (isinstance(number, Dual) or _is_real(number)):
        raise TypingError(f"it returns {number} where a number is needed")


def _lanes_at(builder, part, ty, first, size):
    """Pairs of a parameter and its derivative, inside a test that it exists."""
    for k in range(ty.width if isinstance(ty, Dual) else 0):
        index = builder.add(first, first.type(k))
        with builder.if_then(builder.icmp_signed("<", index, size)):
            yield index, builder.extract_element(part.code, ir.IntType(32)(k))


@intrinsic
def value_of(typingctx, number):
    """Value of a dual or of a number."""
    _checked(number)

    def code(context, builder, sig, args):
        return _read(context, builder, number, args[0]).value.code

    return types.float64(number), code


@intrinsic
def store(typingctx, number, J, i, first):
    """Write the derivatives to ``J[i, first:]``, if there is room; return the value."""
    _checked(number)

    def code(context, builder, sig, args):
        parts = _read(context, builder, number, args[0])
        out = context.make_array(J)(context, builder, args[1])
        size = builder.extract_value(out.shape, 1)
        row = builder.gep(out.data, [builder.mul(args[2], size)])
        for index, derivative in _lanes_at(builder, parts.lanes, number, args[3], size):
            builder.store(derivative, builder.gep(row, [index]))
        return parts.value.code

    return types.float64(number, J, types.intp, types.intp), code


@intrinsic
def contract(typingctx, number, t, a, total, first):
    """Add ``a`` times the mixed derivatives to ``total``; return their product with t.

    Of the parameters from ``first`` on. Nothing is added for ``a = 0``, whatever they
    are.
    """
    _checked(number)

    def code(context, builder, sig, args):
        parts = _read(context, builder, number, args[0])
        along, out = (
            context.make_array(ty)(context, builder, arg)
            for ty, arg in ((t, args[1]), (total, args[3]))
        )
        size = builder.extract_value(out.shape, 0)
        sum_ = cgutils.alloca_once_value(builder, ir.Constant(_DOUBLE, 0.0))
        nothing = builder.fcmp_ordered("==", args[2], ir.Constant(_DOUBLE, 0.0))
        for index, h in _lanes_at(builder, parts.cross, number, args[4], size):
            weight = builder.load(builder.gep(along.data, [index]))
            product = builder.fmul(weight, h)
            builder.store(builder.fadd(builder.load(sum_), product), sum_)
            entry = builder.gep(out.data, [index])
            old = builder.load(entry)
            added = builder.fadd(old, builder.fmul(args[2], h))
            builder.store(builder.select(nothing, old, added), entry)
        return builder.load(sum_)

    return types.float64(number, t, types.float64, total, types.intp), code


@intrinsic
def _floats(typingctx, values):
    """A tuple of numbers as a tuple of float64."""
    if not (isinstance(values, types.BaseTuple) and all(map(_is_real, values))):
        return None
    result = types.UniTuple(types.float64, len(values))

    def code(context, builder, sig, args):
        return context.cast(builder, args[0], values, result)

    return result(values), code


def floats(values):
    """An array, or a tuple of numbers, as something with an index."""
    return values


@overload(floats)
def _floats_of(values):
    if isinstance(values, types.Array):
        return lambda values: values
    return lambda values: _floats(values)


def _element_at(context, builder, ty, params, index):
    """Parameter ``index`` of the container, a constant or a seeded dual."""
    value = builder.load(builder.gep(params.values, [index]))
    if not isinstance(ty.dtype, Dual):
        return value
    width = ty.dtype.width
    offset = builder.sub(index, params.first)
    lanes = ir.Constant(ir.VectorType(_DOUBLE, width), None)
    for k in range(width):
        hit = builder.icmp_signed("==", offset, offset.type(k))
        one = builder.select(hit, ir.Constant(_DOUBLE, 1.0), ir.Constant(_DOUBLE, 0.0))
        lanes = builder.insert_element(lanes, one, ir.IntType(32)(k))
    parts = Parts(Number(context, builder, value), Number(context, builder, lanes))
    if ty.dtype.order == 2:
        slope = builder.load(builder.gep(params.direction, [index]))
        parts = parts._replace(slope=Number(context, builder, slope))
    return _write(context, builder, ty.dtype, parts)


@type_callable(len)
def _type_len(context):
    return lambda params: types.intp if isinstance(params, Params) else None


@lower_builtin(len, Params)
def _len(context, builder, sig, args):
    return cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).size


@type_callable(operator.getitem)
def _type_getitem(context):
    def typer(params, index):
        if not isinstance(params, Params):
            return None
        if isinstance(index, types.SliceType) and not index.has_step:
            return params
        return params.dtype if isinstance(index, types.Integer) else None

    return typer


@lower_builtin(operator.getitem, Params, types.Integer)
def _getitem(context, builder, sig, args):
    ty, kind = sig.args
    params = cgutils.create_struct_proxy(ty)(context, builder, args[0])
    index = context.cast(builder, args[1], kind, types.intp)
    negative = builder.icmp_signed("<", index, index.type(0))
    index = builder.select(negative, builder.add(index, params.size), index)
    outside = builder.icmp_unsigned(">=", index, params.size)
    with builder.if_then(outside, likely=False):
        context.call_conv.return_user_exc(
            builder, IndexError, ("parameter index out of range",)
        )
    return _element_at(context, builder, ty, params, index)


@lower_builtin(operator.getitem, Params, types.SliceType)
def _getslice(context, builder, sig, args):
    ty, kind = sig.args
    params = cgutils.create_struct_proxy(ty)(context, builder, args[0])
    part = context.make_helper(builder, kind, args[1])
    zero = params.size.type(0)

    def inside(bound):
        """As Python: from the end if negative, then cut to the range."""
        low = builder.icmp_signed("<", bound, zero)
        bound = builder.select(low, builder.add(bound, params.size), bound)
        bound = builder.select(builder.icmp_signed("<", bound, zero), zero, bound)
        high = builder.icmp_signed(">", bound, params.size)
        return builder.select(high, params.size, bound)

    start, stop = inside(part.start), inside(part.stop)
    size = builder.sub(stop, start)
    empty = builder.icmp_signed("<", size, zero)
    params.values = builder.gep(params.values, [start])
    params.direction = builder.gep(params.direction, [start])
    params.first = builder.sub(params.first, start)
    params.size = builder.select(empty, zero, size)
    return params._getvalue()


@lower_builtin("getiter", Params)
def _getiter(context, builder, sig, args):
    iterator = context.make_helper(builder, sig.return_type)
    iterator.index = cgutils.alloca_once_value(
        builder, context.get_constant(types.intp, 0)
    )
    iterator.container = args[0]
    return iterator._getvalue()


@lower_builtin("iternext", ParamsIterator)
@iternext_impl(RefType.UNTRACKED)
def _iternext(context, builder, sig, args, result):
    iterator = context.make_helper(builder, sig.args[0], args[0])
    ty = sig.args[0].container
    params = cgutils.create_struct_proxy(ty)(context, builder, iterator.container)
    index = builder.load(iterator.index)
    valid = builder.icmp_signed("<", index, params.size)
    result.set_valid(valid)
    with builder.if_then(valid):
        result.yield_(_element_at(context, builder, ty, params, index))
        builder.store(builder.add(index, index.type(1)), iterator.index)


@overload(np.dot)
@overload(operator.matmul)
def _dot(a, b):
    """``params @ x``: the length is that of the parameters."""
    kinds = {type(a), type(b)}
    if Params not in kinds or not kinds <= {Params, types.Array}:
        return None

    def dot(a, b):
        if len(a) != len(b):
            raise ValueError("dot of two vectors of different length")
        total = 0.0
        for i in range(len(a)):
            total = total + a[i] * b[i]
        return total

    return dot


@overload(sum)
def _sum(values):
    if not isinstance(values, Params):
        return None

    def total(values):
        result = 0.0
        for value in values:
            result = result + value
        return result

    return total
