"""A user's model over a block of rows, with its derivatives by dual numbers.

X is a C array of float64, read only, so that a model sees the same kind of row for
every kind of data, and cannot write into them. One loop each: compiling is what small
problems wait for. The default argument puts the number of lanes into the name of the
kernel on disk, which does not see it otherwise.
"""

import functools
from typing import Any

from subsampled_newton._dual import MAX_LANES, floats
from subsampled_newton._dual_rules import register_rules
from subsampled_newton._jit import DISABLED, compiled
from subsampled_newton._user_function import prepare

if DISABLED:
    from subsampled_newton._dual_plain import contract, seeds, store, value_of
else:
    from subsampled_newton._dual import contract, seeds, store, value_of

__all__ = ["evaluate", "evaluate_with", "second"]


def _lanes(n_params):
    """Smallest power of two that holds all parameters, or the largest allowed."""
    return min(MAX_LANES, 1 << (n_params - 1).bit_length())


def evaluate(function: Any, n_params: int) -> Any:
    """Kernel that fills the predictions ``f`` (n,) and their Jacobian ``J`` (n, p).

    J may have no columns.
    """
    return _evaluate(prepare(function), n_params)


@functools.cache
def _evaluate(function, n_params):
    register_rules()
    width = _lanes(n_params)
    seed = seeds(1, width)

    @compiled()
    def evaluate_kernel(X, w, f, J, lanes=width):
        for i in range(X.shape[0]):
            f[i] = store(function(seed(w, w, 0), X[i]), J, i, 0)

    @compiled()
    def evaluate_parts_kernel(X, w, f, J):
        for i in range(X.shape[0]):
            for first in range(0, max(1, J.shape[1]), width):
                f[i] = store(function(seed(w, w, first), X[i]), J, i, first)

    return evaluate_kernel if n_params <= width else evaluate_parts_kernel


def evaluate_with(function: Any, jacobian: Any) -> Any:
    """As `evaluate`, with derivatives that the user has written.

    ``jacobian(params, x_i)`` returns them, ``jacobian(params, x_i, out)`` fills in.
    """
    return _evaluate_with(prepare(function), prepare(jacobian))


@functools.cache
def _evaluate_with(function, jacobian):
    seed = seeds(0, 1)

    @compiled()
    def filling_kernel(X, w, f, J):
        for i in range(X.shape[0]):
            f[i] = value_of(function(seed(w, w, 0), X[i]))
            if J.shape[1] > 0:
                jacobian(seed(w, w, 0), X[i], J[i])

    @compiled()
    def returning_kernel(X, w, f, J):
        for i in range(X.shape[0]):
            f[i] = value_of(function(seed(w, w, 0), X[i]))
            if J.shape[1] > 0:
                derivatives = floats(jacobian(seed(w, w, 0), X[i]))
                if len(derivatives) != J.shape[1]:
                    raise ValueError("jacobian must return one number per parameter")
                for k in range(J.shape[1]):
                    J[i, k] = derivatives[k]

    return filling_kernel if jacobian.__code__.co_argcount == 3 else returning_kernel


def second(function: Any, n_params: int) -> Any:
    """Kernel of second derivatives along a direction t.

    With ``h_i`` the Hessian of the model at row i times t: adds ``t'h_i`` to
    ``along[i]`` and ``sum_i a_i h_i`` to ``total``.
    """
    return _second(prepare(function), n_params)


@functools.cache
def _second(function, n_params):
    register_rules()
    width = _lanes(n_params)
    seed = seeds(2, width)

    @compiled()
    def second_kernel(X, w, t, a, along, total, lanes=width):
        for i in range(X.shape[0]):
            number = function(seed(w, t, 0), X[i])
            along[i] += contract(number, t, a[i], total, 0)

    @compiled()
    def second_parts_kernel(X, w, t, a, along, total):
        for i in range(X.shape[0]):
            for first in range(0, n_params, width):
                number = function(seed(w, t, first), X[i])
                along[i] += contract(number, t, a[i], total, first)

    return second_kernel if n_params <= width else second_parts_kernel
