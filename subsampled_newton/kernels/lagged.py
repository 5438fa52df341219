"""Inner loops of stochastic methods on sparse rows, with just-in-time updates.

A step changes all parameters, by the mean of the table and by the ridge, but the loss
of a sample sees those of its row only. The others wait until a row touches them:
between two visits parameter j obeys ``w <- q w - c d_j`` with numbers q and c that do
not depend on what it is. With ``P = prod q`` and ``B = sum c / P``,

    ``w(t) / P(t) = w(s) / P(s) - d_j (B(t) - B(s))``

brings it up to date [1]_, section 4.1. Parameters wait as ``v = w / P``. P and B belong
to a group of columns of the same ridge; scales that are powers of two leave few groups.
A window of steps ends when B fills its memory or P its range; then all parameters catch
up. The intercept is in every row and never waits.

The arrays are those of `kernels.epochs`, but ``ridge`` is ``(place of the group of
every column, l2 of every group and output, l2 of the intercept)``. Indices are
unsigned, because Numba tests signed ones for counting from the end.

References
----------
.. [1] M. Schmidt, N. Le Roux, F. Bach, Minimizing finite sums with the stochastic
   average gradient, Math. Program. 162, 2017.
"""

import functools

import numpy as np

from subsampled_newton._jit import compiled, inlinable
from subsampled_newton._prefetch import prefetch
from subsampled_newton.kernels.epochs import (
    FRACTION,
    IMPORTANCE,
    LARGEST,
    MASS_SEEN,
    MEAN_MASS,
    N_SAMPLES,
    N_SEEN,
    NORM,
    RIDGE,
    SEARCH_EVERY,
    STEP_SIZE,
    TARGET,
    WEIGHT,
    line_search,
)

__all__ = ["lagged_gradient_steps", "lagged_variance_reduced", "sparse_dual_ascent"]

AHEAD = 8
"""Rows that are asked for in advance; their places are twice as far ahead."""
MAX_ELEMENTS = 256
MIN_WINDOW, MAX_WINDOW = 1 << 12, 1 << 15
"""Numbers that a window keeps: those of 8 d steps, if they stay in the first or second
level cache."""
SMALLEST_P, LARGEST_P = 1e-4, 1e4
"""Differences of the sums lose as many digits as P has lost."""
NEVER_ZERO = 1e-30
"""Stands in for q = 0, where a step forgets the parameter: P must not become 0."""


@inlinable()
def _ask_for(array, start, stop):
    line = 8 if array.itemsize == 8 else 16
    stop = min(stop, start + MAX_ELEMENTS)
    while start < stop:
        prefetch(array, start)
        start += line


@inlinable()
def _nonzero(factor):
    return factor if abs(factor) > NEVER_ZERO else NEVER_ZERO


@inlinable()
def _window_steps(n_columns, width):
    return max(16, min(MAX_WINDOW, max(MIN_WINDOW, 8 * n_columns)) // width)


@functools.cache
def lagged_variance_reduced(method, loss):
    """Kernel of the inner steps of SAG, SAGA and SVRG; see `dense_variance_reduced`."""
    sag, saga, average = method == "sag", method == "saga", method == "svrg-average"
    residual, curvature, m = loss.residual, loss.curvature, loss.n_outputs
    search = line_search(loss.value, m)

    @compiled()
    def lagged_variance_reduced_kernel(
        x, columns, ridge, samples, order, control, w, d, table, seen, total
    ):
        data, indices, indptr = x
        scale = columns[1]
        group, l2, l2_intercept = ridge
        n_columns, width = scale.size, l2.size
        intercept = w.shape[1] > n_columns
        # Entry ``t + group[j] + c`` of B belongs to output c of parameter j; a step
        # moves t on by the width.
        window = width * _window_steps(n_columns, width)
        P, push = np.ones(width), np.empty(width)
        B = np.zeros(window + width)
        # Sums of P and of P B after every step, for the average of the iterates.
        Q = np.zeros(B.size if average else 0)
        R = np.zeros(B.size if average else 0)
        last = np.zeros(n_columns, dtype=np.uint32)
        step_size, largest = control[STEP_SIZE], control[LARGEST]
        n, n_seen, mass_seen = control[N_SAMPLES], control[N_SEEN], control[MASS_SEEN]
        searching = control[FRACTION] > 0.0
        z, r, trial = np.empty(m), np.empty(m), np.empty(m)
        t = np.uint32(0)
        for k in range(order.size):
            if k + 2 * AHEAD < order.size:
                prefetch(indptr, order[k + 2 * AHEAD])
            if k + AHEAD < order.size:
                later = order[k + AHEAD]
                prefetch(samples, later)
                prefetch(table, later)
                if sag:
                    prefetch(seen, later)
                _ask_for(data, indptr[later], indptr[later + 1])
                _ask_for(indices, indptr[later], indptr[later + 1])
            i = np.uint64(order[k])
            y, weight = samples[i, TARGET], samples[i, WEIGHT]
            start, stop = np.uint64(indptr[i]), np.uint64(indptr[order[k] + 1])
            for c in range(m):
                z[c] = w[c, n_columns] if intercept else 0.0
            for q in range(start, stop):
                j = np.uint32(indices[q])
                g, s = np.uint32(group[j]), last[j]
                last[j] = t
                x_j = data[q] * scale[j]
                for c in range(m):
                    v, d_j = w[c, j], d[c, j]
                    if average:
                        steps = Q[t + g + c] - Q[s + g + c]
                        waited = R[t + g + c] - R[s + g + c] - B[s + g + c] * steps
                        total[c, j] += v * steps - d_j * waited
                    v -= d_j * (B[t + g + c] - B[s + g + c])
                    w[c, j] = v
                    z[c] += x_j * P[g + c] * v
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
                share = 1.0 / min(n, max(n_seen, mass_seen / control[MEAN_MASS]))

            # This step in P and B. Later, d will hold the change that SAGA's mean in
            # this step must not see: what the row is pushed by makes up for that.
            importance = 0.0 if sag else samples[i, IMPORTANCE]
            here = step_size * (importance - share if saga else importance)
            smallest, greatest = 1.0, 1.0
            for e in range(width):
                P[e] *= _nonzero(1.0 - step_size * l2[e])
                inverse = 1.0 / P[e]
                B[t + width + e] = B[t + e] + step_size * share * inverse
                push[e] = here * inverse
                if average:
                    Q[t + width + e] = Q[t + e] + P[e]
                    R[t + width + e] = R[t + e] + P[e] * B[t + width + e]
                smallest = min(smallest, abs(P[e]))
                greatest = max(greatest, abs(P[e]))
            t = np.uint32(t + width)

            for c in range(m):
                a = weight * r[c]
                r[c] = a - table[i, c]  # the change
                if sag or saga:
                    table[i, c] = a
            for q in range(start, stop):
                j = np.uint32(indices[q])
                g, x_j = np.uint32(group[j]), data[q] * scale[j]
                for c in range(m):
                    if not sag:
                        w[c, j] -= push[g + c] * r[c] * x_j
                    if sag or saga:
                        d[c, j] += r[c] * x_j
            if intercept:
                j = n_columns
                for c in range(m):
                    d_j = d[c, j]
                    if sag or saga:
                        d[c, j] += r[c]
                    mean = share * (d[c, j] if sag else d_j)
                    ridge_slope = l2_intercept[c] * w[c, j]
                    w[c, j] -= step_size * (importance * r[c] + mean + ridge_slope)
                    if average:
                        total[c, j] += w[c, j]

            full = t == window or smallest < SMALLEST_P or not greatest < LARGEST_P
            if full or k == order.size - 1:
                for c in range(m):
                    for j in range(n_columns):
                        e = group[j] + c
                        s = last[j] + e
                        v, d_j = w[c, j], d[c, j]
                        if average:
                            steps = Q[t + e] - Q[s]
                            waited = R[t + e] - R[s] - B[s] * steps
                            total[c, j] += v * steps - d_j * waited
                        w[c, j] = P[e] * (v - d_j * (B[t + e] - B[s]))
                last[:] = 0
                P[:] = 1.0
                t = np.uint32(0)
        control[STEP_SIZE], control[LARGEST] = step_size, largest
        control[N_SEEN], control[MASS_SEEN] = n_seen, mass_seen

    return lagged_variance_reduced_kernel


@functools.cache
def lagged_gradient_steps(loss, averaging):
    """Kernel of stochastic gradient descent; see `dense_gradient_steps`.

    Parameters wait for the ridge only: ``w = P v``. The average waits as
    ``u = average / A`` with ``A = prod (1 - gain)``: in a step it gains
    ``gain P / A v``, so ``u(t) = u(s) + v (Q(t) - Q(s))`` with sums Q of these factors.
    """
    residual, m = loss.residual, loss.n_outputs

    @compiled()
    def lagged_gradient_steps_kernel(
        x, columns, ridge, samples, order, batch, steps, gains, w, average
    ):
        data, indices, indptr = x
        scale = columns[1]
        group, l2, l2_intercept = ridge
        n_columns, width = scale.size, l2.size
        intercept = w.shape[1] > n_columns
        window = width * _window_steps(n_columns, width)
        P, A = np.ones(width), 1.0
        Q = np.zeros(window + width if averaging else 0)
        last = np.zeros(n_columns, dtype=np.uint32)
        z, r, slopes = np.empty(m), np.empty(m), np.empty((batch, m))
        t = np.uint32(0)
        for k in range(steps.size):
            first = k * batch
            for b in range(first, first + batch):
                if b + 2 * AHEAD < order.size:
                    prefetch(indptr, order[b + 2 * AHEAD])
                if b + AHEAD < order.size:
                    later = order[b + AHEAD]
                    prefetch(samples, later)
                    _ask_for(data, indptr[later], indptr[later + 1])
                    _ask_for(indices, indptr[later], indptr[later + 1])
                i = np.uint64(order[b])
                for c in range(m):
                    z[c] = w[c, n_columns] if intercept else 0.0
                for q in range(np.uint64(indptr[i]), np.uint64(indptr[order[b] + 1])):
                    j = np.uint32(indices[q])
                    g, s = np.uint32(group[j]), last[j]
                    x_j = data[q] * scale[j]
                    for c in range(m):
                        if averaging:
                            average[c, j] += w[c, j] * (Q[t + g + c] - Q[s + g + c])
                        z[c] += x_j * (P[g + c] * w[c, j])
                    if averaging:
                        last[j] = t
                residual(z, samples[i, TARGET], r)
                for c in range(m):
                    slopes[b - first, c] = samples[i, WEIGHT] * r[c]

            smallest, greatest = 1.0, 1.0
            A *= _nonzero(1.0 - gains[k])
            for e in range(width):
                P[e] *= _nonzero(1.0 - steps[k] * l2[e])
                smallest = min(smallest, abs(P[e]))
                greatest = max(greatest, abs(P[e]))
                if averaging:
                    Q[t + width + e] = Q[t + e] + gains[k] * P[e] / A
            t = np.uint32(t + width)
            if intercept:
                for c in range(m):
                    w[c, n_columns] *= 1.0 - steps[k] * l2_intercept[c]
            for b in range(first, first + batch):
                i = np.uint64(order[b])
                for c in range(m):
                    r[c] = steps[k] / batch * slopes[b - first, c]
                    if intercept:
                        w[c, n_columns] -= r[c]
                for q in range(np.uint64(indptr[i]), np.uint64(indptr[order[b] + 1])):
                    j = np.uint32(indices[q])
                    g, x_j = np.uint32(group[j]), data[q] * scale[j]
                    for c in range(m):
                        w[c, j] -= r[c] / P[g + c] * x_j
            if intercept and averaging:
                j = n_columns
                for c in range(m):
                    average[c, j] += gains[k] * (w[c, j] - average[c, j])

            full = t == window or smallest < SMALLEST_P or not greatest < LARGEST_P
            if full or A < SMALLEST_P or k == steps.size - 1:
                for c in range(m):
                    for j in range(n_columns):
                        e = group[j] + c
                        if averaging:
                            u = average[c, j]
                            average[c, j] = A * (
                                u + w[c, j] * (Q[t + e] - Q[last[j] + e])
                            )
                        w[c, j] *= P[e]
                last[:] = 0
                P[:] = 1.0
                A = 1.0
                t = np.uint32(0)

    return lagged_gradient_steps_kernel


@functools.cache
def sparse_dual_ascent(ascend):
    """Kernel of the steps of SDCA: only parameters of the row change, none waits.

    ``u`` are the coefficients of the stored columns, ``factor`` is ``1 / (n l2)`` for
    them: one number if it is the same for all, two for the intercept, when there is
    one. ``u`` has an entry for the intercept after those of the columns.
    """

    @compiled()
    def sparse_dual_ascent_kernel(x, columns, factor, samples, order, u, dual):
        data, indices, indptr = x
        n_columns = columns[1].size
        intercept = u.size > n_columns
        # One factor is read again and again instead of one for each column.
        mask = np.uint32(0 if factor.size == 1 + intercept else 0xFFFFFFFF)
        for k in range(order.size):
            if k + 2 * AHEAD < order.size:
                prefetch(indptr, order[k + 2 * AHEAD])
            if k + AHEAD < order.size:
                later = order[k + AHEAD]
                prefetch(samples, later)
                _ask_for(data, indptr[later], indptr[later + 1])
                _ask_for(indices, indptr[later], indptr[later + 1])
            i = np.uint64(order[k])
            start, stop = np.uint64(indptr[i]), np.uint64(indptr[order[k] + 1])
            z = u[n_columns] if intercept else 0.0
            for q in range(start, stop):
                z += data[q] * u[np.uint32(indices[q])]
            weight = samples[i, WEIGHT]
            stiffness = weight * samples[i, NORM]
            a = ascend(z, dual[i], samples[i, TARGET], stiffness)
            change = weight * (a - dual[i])
            dual[i] = a
            for q in range(start, stop):
                j = np.uint32(indices[q])
                u[j] += change * factor[j & mask] * data[q]
            if intercept:
                u[n_columns] += change * factor[factor.size - 1]

    return sparse_dual_ascent_kernel
