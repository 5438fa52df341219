"""Inner loops of stochastic methods on dense rows.

Parameters, sums and tables have one row per output: one for a pointwise loss, K - 1 for
softmax; the number of outputs is a constant of the compiled code. Rows are read as the
parameters see them, shifted, scaled and with the intercept's one (`columns.Columns`).
`kernels.lagged` has the same loops for sparse rows. What they share:

``columns``
    ``(shift, scale)`` of the stored columns.
``samples`` (n, 4)
    Target, weight ``s_i``, importance and squared norm of every row. In one array
    because rows come in random order: each array would cost a cache miss of its own.
``w``, ``d`` (n_outputs, n_params), ``table`` (n, n_outputs + 1)
    Parameters, ``sum_i a_i x_i'``, and the derivatives ``a_i`` it is made of. The last
    column of the table holds estimates of the smoothness constants ``L_i``.
``control``
    Numbers that a kernel reads and some of which it changes, see `STEP_SIZE`.
"""

import functools
import math

import numpy as np

from subsampled_newton._jit import compiled, inlinable
from subsampled_newton._prefetch import prefetch

__all__ = [
    "FRACTION",
    "IMPORTANCE",
    "LARGEST",
    "MASS_SEEN",
    "MEAN_MASS",
    "NORM",
    "N_CONTROL",
    "N_SAMPLES",
    "N_SEEN",
    "RIDGE",
    "STEP_SIZE",
    "TARGET",
    "WEIGHT",
    "dense_dual_ascent",
    "dense_gradient_steps",
    "dense_variance_reduced",
    "dual_gap",
    "fill_table",
    "line_search",
]

TARGET, WEIGHT, IMPORTANCE, NORM = range(4)
"""Columns of ``samples``."""
N_CONTROL = 8
STEP_SIZE, FRACTION, LARGEST, RIDGE, N_SAMPLES, N_SEEN, MASS_SEEN, MEAN_MASS = range(8)
"""Entries of ``control``. The step size is fixed where FRACTION is 0; otherwise it is
FRACTION over the LARGEST ``L_i / (n p_i)`` so far plus RIDGE. N_SAMPLES of the mean,
N_SEEN of them so far, with ``MASS_SEEN = sum L_i``; MEAN_MASS is the mean of all."""
AHEAD = 8
"""Rows that are on their way from memory while one is worked on. On 581012 x 54 a step
takes 406 ns with none of them, 159, 156, 161 and 167 ns with 4, 8, 12 and 16."""
MAX_ELEMENTS = 512
"""Numbers of a row that are asked for; in longer ones the processor sees a pattern."""
SEARCH_EVERY = 4
"""Steps of which one has a line search: all of them cost 60 % of a step, a quarter of
them 20 %, for the same number of steps."""
SMALLEST = 1e-300
MAX_DOUBLINGS = 30
"""An estimate that was too small by a factor 1e9 is not too small."""

_DENSE = {"reassoc", "contract"}


# Rows as the parameters see them. A row is an array and an index: what is stored as it
# is wanted is not copied, and a view of it would be counted by two locked instructions.


@inlinable()
def _stored(stored, buffer):
    return stored


@inlinable()
def _buffer(stored, buffer):
    return buffer


@inlinable()
def _load_nothing(stored, i, shift, scale, buffer):
    return i


@inlinable()
def _load_row(stored, i, shift, scale, buffer):
    for j in range(shift.size):
        buffer[0, j] = (stored[i, j] - shift[j]) * scale[j]
    return 0


@inlinable()
def _load_column(stored, i, shift, scale, buffer):
    for j in range(shift.size):
        buffer[0, j] = (stored[j, i] - shift[j]) * scale[j]
    return 0


@inlinable()
def _ask_for_row(stored, i):
    # A range whose step is not a constant would divide, and so would the length of a
    # line over the item size: a division costs as much as half of the work on the row.
    line = 8 if stored.itemsize == 8 else 16
    last = min(stored.shape[1], MAX_ELEMENTS) - 1
    j = 0
    while j < last:
        prefetch(stored, i, j)
        j += line
    prefetch(stored, i, last)  # rows need not begin with a line


@inlinable()
def _ask_for_column(stored, i):
    for j in range(min(stored.shape[0], MAX_ELEMENTS)):
        prefetch(stored, j, i)


def _reader(column_major, plain):
    """Functions: where rows are, copying one there, and asking for one in advance."""
    if column_major:
        return _buffer, _load_column, _ask_for_column
    if plain:
        return _stored, _load_nothing, _ask_for_row
    return _buffer, _load_row, _ask_for_row


@inlinable(fastmath=_DENSE)
def _dot(rows, i, w, c):
    total = 0.0
    for j in range(w.shape[1]):
        total += rows[i, j] * w[c, j]
    return total


# The steps of the methods. ``change`` is the new derivative of the sample minus the
# stored one, ``share`` is one over the number of samples of the mean.


@inlinable(fastmath=_DENSE)
def _sag_step(rows, i, w, d, l2, c, step_size, change, share):
    for j in range(w.shape[1]):
        d_j = d[c, j] + change * rows[i, j]
        d[c, j] = d_j
        w[c, j] -= step_size * (share * d_j + l2[c, j] * w[c, j])


@inlinable(fastmath=_DENSE)
def _saga_step(rows, i, w, d, l2, c, step_size, change, share, importance):
    here = importance * change
    for j in range(w.shape[1]):
        x_j, d_j = rows[i, j], d[c, j]
        d[c, j] = d_j + change * x_j
        w[c, j] -= step_size * (here * x_j + share * d_j + l2[c, j] * w[c, j])


@inlinable(fastmath=_DENSE)
def _svrg_step(rows, i, w, d, l2, c, step_size, change, share, importance):
    here = importance * change
    for j in range(w.shape[1]):
        mean = share * d[c, j] + l2[c, j] * w[c, j]
        w[c, j] -= step_size * (here * rows[i, j] + mean)


@functools.cache
def line_search(value, n_outputs):
    """Return the search for the smoothness constant L of one sample [1]_, section 4.6.

    Doubles L until ``f_i(w - grad / L) <= f_i(w) - ||grad||**2 / (2 L)``, for the loss
    of the sample without the ridge. The predictions at that point are
    ``z - r s_i ||x_i||**2 / L``, so a trial costs one value of the loss. inf means that
    no L was found: the derivative does not belong to the value.

    References
    ----------
    .. [1] M. Schmidt, N. Le Roux, F. Bach, Minimizing finite sums with the stochastic
       average gradient, Math. Program. 162, 2017.
    """

    @inlinable()
    def search(z, r, trial, y, weight, norm, L):
        squared = 0.0  # ||grad||^2 over the weight
        for c in range(n_outputs):
            squared += r[c] * r[c]
        squared *= weight * norm
        if squared == 0.0:
            return L
        L = max(L, SMALLEST)  # doubling must lead away from 0
        here = value(z, y)
        doublings = 0
        while True:
            # Differs from [1], which skips gradients below 1e-8: a decrease that
            # rounding hides says nothing, and this does not depend on units.
            decrease = squared / (2.0 * L)
            if not decrease > 1e-11 * abs(here):
                return L if doublings < MAX_DOUBLINGS else math.inf
            for c in range(n_outputs):
                trial[c] = z[c] - weight * norm / L * r[c]
            if value(trial, y) <= here - decrease:
                return L
            L *= 2.0
            doublings += 1

    return search


@functools.cache
def dense_variance_reduced(method, loss, column_major=False, plain=False):
    """Kernel of the inner steps of SAG, SAGA and SVRG, one for every row of ``order``.

    Parameters
    ----------
    method : {"sag", "saga", "svrg", "svrg-average"}
        The last one adds the iterates to ``total``.
    loss : SampleLoss
        Its functions are inlined.
    column_major, plain : bool
        Whether the array is the transpose, and whether its rows are used as stored.
    """
    sag, saga, average = method == "sag", method == "saga", method == "svrg-average"
    residual, curvature, m = loss.residual, loss.curvature, loss.n_outputs
    search = line_search(loss.value, m)
    where, load, ask = _reader(column_major, plain)

    @compiled()
    def dense_variance_reduced_kernel(
        x, columns, ridge, samples, order, control, w, d, table, seen, total
    ):
        stored, l2 = x[0], ridge[0]
        shift, scale = columns
        buffer = np.ones((1, w.shape[1]))
        rows = where(stored, buffer)
        step_size, largest = control[STEP_SIZE], control[LARGEST]
        n, n_seen, mass_seen = control[N_SAMPLES], control[N_SEEN], control[MASS_SEEN]
        searching = control[FRACTION] > 0.0
        z, r, trial = np.empty(m), np.empty(m), np.empty(m)
        for k in range(order.size):
            if k + AHEAD < order.size:
                later = order[k + AHEAD]
                ask(stored, later)
                prefetch(samples, later)
                prefetch(table, later)
                if sag:
                    prefetch(seen, later)
            i = order[k]
            y, weight = samples[i, TARGET], samples[i, WEIGHT]
            at = load(stored, i, shift, scale, buffer)
            for c in range(m):
                z[c] = _dot(rows, at, w, c)
            residual(z, y, r)
            if searching:
                norm = samples[i, NORM]
                least = weight * norm * curvature(z, y)
                L = max(table[i, m], least)
                if k % SEARCH_EVERY == 0:
                    L = max(0.5 * L, least)
                    L = search(z, r, trial, y, weight, norm, L)
                table[i, m] = L
                # A branch that is seldom taken: the step waits for no division.
                if L * samples[i, IMPORTANCE] > largest:
                    largest = L * samples[i, IMPORTANCE]
                    step_size = control[FRACTION] / (largest + control[RIDGE])
            share = 1.0 / n
            if sag and n_seen < n:
                if not seen[i]:
                    seen[i] = True
                    n_seen += 1.0
                    mass_seen += table[i, m]
                # Differs from the paper, where the mean is over n_seen samples: the
                # first of them must not count for more than their part of all L_i.
                share = 1.0 / min(n, max(n_seen, mass_seen / control[MEAN_MASS]))
            p = samples[i, IMPORTANCE]
            for c in range(m):
                a = weight * r[c]
                change = a - table[i, c]
                if sag:
                    table[i, c] = a
                    _sag_step(rows, at, w, d, l2, c, step_size, change, share)
                elif saga:
                    table[i, c] = a
                    _saga_step(rows, at, w, d, l2, c, step_size, change, share, p)
                else:
                    _svrg_step(rows, at, w, d, l2, c, step_size, change, share, p)
                if average:
                    for j in range(w.shape[1]):
                        total[c, j] += w[c, j]
        control[STEP_SIZE], control[LARGEST] = step_size, largest
        control[N_SEEN], control[MASS_SEEN] = n_seen, mass_seen

    return dense_variance_reduced_kernel


@functools.cache
def fill_table(loss):
    """Kernel that fills ``table[i] = s_i r_i`` from the predictions (n_outputs, n)."""
    residual, m = loss.residual, loss.n_outputs

    @compiled()
    def fill_table_kernel(z, samples, table):
        z_i, r = np.empty(m), np.empty(m)
        for i in range(table.shape[0]):
            for c in range(m):
                z_i[c] = z[c, i]
            residual(z_i, samples[i, TARGET], r)
            for c in range(m):
                table[i, c] = samples[i, WEIGHT] * r[c]

    return fill_table_kernel


@functools.cache
def dense_gradient_steps(loss, column_major=False, plain=False):
    """Kernel of the steps of stochastic gradient descent.

    Step k takes the samples ``order[k * batch:(k + 1) * batch]`` and the step size
    ``steps[k]``, and then ``average += gains[k] * (w - average)``.
    """
    residual, m = loss.residual, loss.n_outputs
    where, load, ask = _reader(column_major, plain)

    @compiled(fastmath={"contract"})
    def dense_gradient_steps_kernel(
        x, columns, ridge, samples, order, batch, steps, gains, w, average
    ):
        stored, l2 = x[0], ridge[0]
        shift, scale = columns
        buffer = np.ones((1, w.shape[1]))
        rows = where(stored, buffer)
        z, r, slopes = np.empty(m), np.empty(m), np.empty((batch, m))
        for k in range(steps.size):
            first = k * batch
            for b in range(batch):
                if first + b + AHEAD < order.size:
                    later = order[first + b + AHEAD]
                    ask(stored, later)
                    prefetch(samples, later)
                i = order[first + b]
                at = load(stored, i, shift, scale, buffer)
                for c in range(m):
                    z[c] = _dot(rows, at, w, c)
                residual(z, samples[i, TARGET], r)
                for c in range(m):
                    slopes[b, c] = samples[i, WEIGHT] * r[c]
            for c in range(m):
                for j in range(w.shape[1]):
                    w[c, j] -= steps[k] * l2[c, j] * w[c, j]
            for b in range(batch):
                at = load(stored, order[first + b], shift, scale, buffer)
                for c in range(m):
                    factor = steps[k] / batch * slopes[b, c]
                    for j in range(w.shape[1]):
                        w[c, j] -= factor * rows[at, j]
            if gains[k] != 0.0:
                for c in range(m):
                    for j in range(w.shape[1]):
                        average[c, j] += gains[k] * (w[c, j] - average[c, j])

    return dense_gradient_steps_kernel


@functools.cache
def dense_dual_ascent(ascend, column_major=False, plain=False):
    """Kernel of the steps of SDCA: exact maximization over one dual variable each.

    ``factor`` is ``1 / (n l2)`` and ``NORM`` of a sample ``sum_j factor_j x_ij**2``.
    """
    where, load, ask = _reader(column_major, plain)

    @compiled(fastmath={"contract"})
    def dense_dual_ascent_kernel(x, columns, factor, samples, order, u, dual):
        stored = x[0]
        shift, scale = columns
        w = u.reshape(1, u.size)
        buffer = np.ones((1, u.size))
        rows = where(stored, buffer)
        for k in range(order.size):
            if k + AHEAD < order.size:
                later = order[k + AHEAD]
                ask(stored, later)
                prefetch(samples, later)
            i = order[k]
            weight = samples[i, WEIGHT]
            at = load(stored, i, shift, scale, buffer)
            z, stiffness = _dot(rows, at, w, 0), weight * samples[i, NORM]
            a = ascend(z, dual[i], samples[i, TARGET], stiffness)
            change = weight * (a - dual[i])
            dual[i] = a
            for j in range(u.size):
                u[j] += change * rows[at, j] * factor[j]

    return dense_dual_ascent_kernel


@functools.cache
def dual_gap(gap):
    """Kernel that returns ``sum_i s_i gap(z_i, a_i, y_i)``."""

    @compiled()
    def dual_gap_kernel(z, dual, y, weights):
        total = 0.0
        for i in range(z.size):
            if weights[i] > 0.0:
                total += weights[i] * gap(z[i], dual[i], y[i])
        return total

    return dual_gap_kernel
