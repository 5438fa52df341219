"""Theorems about sub-sampled Newton methods, as statements that can fail.

Sources: Roosta-Khorasani and Mahoney, Sub-sampled Newton methods I and II; Xu et al.,
NIPS 2016. Rates are medians over fixed seeds with the bounds stated.
"""

from functools import partial

import numpy as np
import pytest
from problems import (
    energy_norm,
    gaussian,
    least_squares,
    logistic,
    minimizer,
    one_hot,
    pareto,
)

from bench.reproduce.designs import conditioned
from subsampled_newton import LOGISTIC, LinearModel, SubsampledNewton, minimize
from subsampled_newton.sampling import bernoulli, uniform, uniform_sample_size
from subsampled_newton.subproblems.newton import newton_step


def test_full_newton_solves_a_quadratic_in_one_step():
    result = minimize(least_squares(), SubsampledNewton(1.0), tol=1e-10)
    assert (result.status.name, result.n_iter) == ("CONVERGED", 1)


def test_sampled_newton_does_not_solve_a_quadratic_in_one_step():
    result = minimize(least_squares(), SubsampledNewton(60), tol=1e-10, seed=0)
    assert result.converged
    assert result.n_iter > 3


def test_newton_converges_quadratically():
    problem = logistic()
    optimum = minimizer(problem)
    errors = []
    minimize(
        problem,
        SubsampledNewton(1.0),
        tol=1e-13,
        callback=lambda state: errors.append(np.linalg.norm(state.point.w - optimum)),
    )
    errors = np.array([e for e in errors if 1e-7 < e < 0.5])
    exponents = np.log(errors[1:]) / np.log(errors[:-1])
    assert exponents[-1] >= 1.8


def contractions(problem, solver, seed):
    """Energy-norm contraction of the steps in the linear phase."""
    optimum = minimizer(problem)
    errors = []
    minimize(
        problem,
        solver,
        tol=1e-11,
        max_iter=40,
        seed=seed,
        callback=lambda state: errors.append(
            energy_norm(problem, optimum, state.point.w)
        ),
    )
    errors = np.array(errors)
    linear = (errors[:-1] < 1e-2) & (errors[1:] > 1e-9)
    return (errors[1:] / errors[:-1])[linear]


@pytest.mark.parametrize("size", [200, 800])
def test_uniform_sampling_contracts_at_the_predicted_rate(size):
    n, d = 5000, 10
    problem = logistic(n=n, d=d, l2=1e-3)
    rates = [contractions(problem, SubsampledNewton(size), seed) for seed in range(5)]
    predicted = np.sqrt(d / size * (1.0 - size / n))
    assert predicted / 2 < np.median(np.concatenate(rates)) < 2 * predicted


def contractions_near(problem, optimum, sampling, size, rng):
    """Steps with the exact minimizer of the quadratic along the sampled direction.

    The first ones turn the error towards the directions that the sampling misses; they
    are not returned.
    """
    direction = rng.standard_normal(problem.n_params)
    w = optimum + 1e-4 * direction / energy_norm(problem, optimum, optimum + direction)
    errors = []
    for _ in range(6):
        point = problem.at(w)
        errors.append(energy_norm(problem, optimum, w))
        if sampling == "uniform":
            sample = uniform(problem.n_samples, size, rng)
        else:
            sample = bernoulli(problem.row_scores(sampling, point, rng), size, rng)
        step = newton_step(point.hessian(sample).dense(), point.gradient).vector
        t = -(point.gradient @ step) / point.along(step).curvature()
        w = w + t * step
    errors = np.array(errors)
    return (errors[1:] / errors[:-1])[2:]


@pytest.mark.parametrize(
    ("design", "sampling", "holds"),
    [
        (gaussian, "uniform", True),
        (gaussian, "row-norms", True),
        (gaussian, "leverage", True),
        (pareto, "uniform", False),
        (pareto, "row-norms", True),
        (pareto, "leverage", True),
        (one_hot, "uniform", False),
        (one_hot, "row-norms", False),
        (one_hot, "leverage", True),
    ],
)
def test_leverage_sampling_keeps_its_rate_where_uniform_misses_it(
    design, sampling, holds
):
    n, d = 20_000, 20
    size = 20 * d
    problem = logistic(design, n=n, d=d, l2=1e-4, seed=1)
    optimum = minimizer(problem)
    rng = np.random.default_rng(0)
    rates = [contractions_near(problem, optimum, sampling, size, rng) for _ in range(4)]
    predicted = np.sqrt(d / size)
    assert (np.median(rates) < 1.5 * predicted) == holds


def test_unit_steps_are_accepted_after_a_burn_in():
    for seed in range(3):
        result = minimize(
            logistic(seed=seed), SubsampledNewton(0.2), tol=1e-9, seed=seed
        )
        assert result.converged
        assert np.all(result.trace.step_size[4:] == 1.0)


def test_iterations_do_not_grow_with_the_condition_number():
    """SSN with leverage sampling: at most a factor 2 over kappa from 1e1 to 1e6."""
    d = 10
    counts = []
    for kappa in 10.0 ** np.arange(1, 7):
        scale = np.sqrt(np.geomspace(1.0, 1.0 / kappa, d))
        problem = logistic(n=4000, d=d, l2=1e-3 / kappa, scale=scale)
        best = problem.at(minimizer(problem)).value
        result = minimize(
            problem,
            SubsampledNewton(20 * d, sampling="leverage"),
            tol=0.0,
            max_iter=15,
            seed=0,
        )
        gap = (result.trace.value - best) / (np.log(2.0) - best)
        counts.append(int(np.argmax(gap < 1e-10)))
    assert min(counts) > 0
    assert max(counts) <= 2 * min(counts)


def test_sample_size_lemma_holds_in_frequency():
    """Samples of the lemma's size are spectrally close with probability 1 - delta."""
    n, d, eps, delta = 20_000, 4, 0.5, 0.1
    rng = np.random.default_rng(0)
    problem = logistic(n=n, d=d, l2=0.1)
    rows = problem.rows
    X = np.vstack([rows.matvec(e) for e in np.eye(d)]).T
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    problem = LinearModel(LOGISTIC, X, problem.y, l2=0.1)
    size = uniform_sample_size(problem.sample_condition(), d, eps=eps, delta=delta, n=n)
    assert size < n / 10
    point = problem.at(np.ones(d))
    full = point.hessian(uniform(n, n, rng)).dense()
    root = np.linalg.inv(np.linalg.cholesky(full))

    def close(size):
        sampled = point.hessian(uniform(n, size, rng)).dense()
        values = np.linalg.eigvalsh(root @ sampled @ root.T)
        return 1 - eps <= values[0] and values[-1] <= 1 + eps

    assert np.mean([close(size) for _ in range(200)]) >= 1 - delta
    assert np.mean([close(d) for _ in range(50)]) < 1 - delta  # it can fail


@pytest.mark.parametrize("seed", range(4))
def test_global_convergence_bound_is_never_violated(seed):
    """Algorithm 5: gap contraction 1 - alpha beta / kappa and the bound of alpha."""
    problem = logistic(n=1000, d=5, l2=1e-2, seed=seed)
    solver = SubsampledNewton(0.3, linear_solver="cg", theta1=0.1, theta2=0.1)
    best = problem.at(minimizer(problem)).value
    X = np.column_stack([problem.rows.matvec(e) for e in np.eye(5)])
    smoothness = 0.25 * np.linalg.eigvalsh(X.T @ X / len(X))[-1] + 1e-2
    kappa = smoothness / 1e-2
    rng = np.random.default_rng(seed)
    start = 10.0 * rng.standard_normal(5)
    trace = minimize(problem, solver, start, tol=1e-7, seed=seed).trace
    gap = trace.value - best
    alpha = trace.step_size[1:]
    rho = alpha * solver.c1 / kappa
    visible = gap[1:] > 1e-14
    assert np.all((gap[1:] <= (1 - rho) * gap[:-1])[visible])
    eps = 0.5  # the sample is spectrally close to within this
    assert np.all(alpha >= 2 * (1 - 0.1) * (1 - solver.c1) * (1 - eps) / kappa)


def test_converges_from_far_starts_with_a_tiny_ridge():
    problem = logistic(n=2000, d=6, l2=1e-6)
    for seed in range(3):
        start = np.random.default_rng(seed).standard_normal(6)
        start *= 1e3 / np.linalg.norm(start)
        result = minimize(
            problem, SubsampledNewton(0.5, linear_solver="cg"), start, seed=seed
        )
        assert result.converged


def iterations(kappa, solver, seed, **options):
    """Until the gap at 0 has shrunk to 1e-10: eigenvalues 1 to 1/kappa, rotated."""
    X, y = conditioned(4000, 20, kappa, np.random.default_rng(seed))
    problem = LinearModel(LOGISTIC, X, y, l2=0.02 / kappa)
    best = minimizer(problem)
    least = problem.at(best).value
    target = least + 1e-10 * (np.log(2.0) - least)
    result = minimize(
        problem,
        solver(**options),
        tol=0.0,
        seed=seed,
        callback=lambda state: state.point.value <= target,
    )
    assert result.status.name == "CALLBACK_STOP"
    return result.n_iter


@pytest.mark.parametrize("kappa", 10.0 ** np.arange(1, 9))
@pytest.mark.parametrize("preconditioner", ["jacobi", None])
def test_default_forcing_term_costs_a_fifth_more_iterations_at_most(
    kappa, preconditioner
):
    """M30, at any condition number; counts are whole, so that 20 % is rounded up."""
    cg = {"linear_solver": "cg", "preconditioner": preconditioner}
    exact = iterations(kappa, SubsampledNewton, 0, hessian_sample=1.0)
    inexact = iterations(kappa, SubsampledNewton, 0, hessian_sample=1.0, **cg)
    assert inexact <= np.ceil(1.2 * exact)
    sampled = partial(SubsampledNewton, 400, sampling="leverage")
    exact = [iterations(kappa, sampled, seed) for seed in range(3)]
    inexact = [iterations(kappa, sampled, seed, **cg) for seed in range(3)]
    assert np.median(inexact) <= np.ceil(1.2 * np.median(exact))


def test_a_forcing_term_that_does_not_know_kappa_costs_more():
    """The control: a fixed tolerance passes where kappa is small only."""
    options = {"hessian_sample": 1.0, "linear_solver": "cg", "theta1": 0.1}
    for kappa, more in ((1e1, False), (1e6, True)):
        exact = iterations(kappa, SubsampledNewton, 0, hessian_sample=1.0)
        inexact = iterations(kappa, SubsampledNewton, 0, **options)
        assert (inexact > np.ceil(1.2 * exact)) == more


def test_plain_conjugate_gradients_feel_the_scale_of_columns():
    products = {}
    for power in (2, 4, 6):
        scale = np.sqrt(np.geomspace(1.0, 10.0**-power, 40))
        problem = logistic(n=2000, d=40, l2=1e-9, scale=scale)
        for preconditioner in ("jacobi", None):
            solver = SubsampledNewton(
                1.0, linear_solver="cg", preconditioner=preconditioner, theta1=1e-4
            )
            result = minimize(problem, solver, max_iter=1, tol=0.0)
            products[power, preconditioner] = result.trace.inner_iterations[1]
    with_jacobi = [products[power, "jacobi"] for power in (2, 4, 6)]
    plain = [products[power, None] for power in (2, 4, 6)]
    assert max(with_jacobi) <= min(with_jacobi) + 1
    assert plain[0] > 2 * with_jacobi[0]
    assert plain[0] < plain[1] < plain[2]


def test_growing_gradient_samples_reach_the_minimizer():
    result = minimize(
        logistic(n=5000), SubsampledNewton(0.2, gradient_sample=0.05), seed=0
    )
    assert result.status.name == "CONVERGED"
    assert result.gradient_norm <= 1e-8


def test_a_gradient_sample_that_does_not_grow_stalls():
    result = minimize(
        logistic(n=5000),
        SubsampledNewton(0.2, gradient_sample=0.05, gradient_rate=0.9999),
        max_iter=30,
        seed=0,
    )
    assert result.status.name == "MAX_ITER"
    assert result.gradient_norm > 1e-4
