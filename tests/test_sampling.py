"""Samples: their weights estimate means without bias; sizes of the lemmas."""

import itertools
import math

import numpy as np
import pytest

from subsampled_newton.sampling import (
    bernoulli,
    chernoff_sample_size,
    full,
    leverage_sample_size,
    uniform,
    uniform_sample_size,
    with_replacement,
)

VALUES = np.array([3.0, -1.0, 4.0, 1.5, -9.0, 2.6])
SCORES = np.array([1.0, 0.0, 2.0, 0.5, 40.0, 3.0])


def estimate(sample, values=VALUES):
    rows = slice(None) if sample.rows is None else sample.rows
    return float(np.sum(sample.weights * values[rows]))


def mixed(scores):
    """Nine parts in proportion to the scores and one part uniform."""
    return 0.9 * scores / scores.sum() + 0.1 / len(scores)


class Uniforms:
    """A generator whose next uniform numbers are given."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def random(self, n):
        assert n == len(self.values)
        return self.values


def test_full_sample_is_the_mean():
    sample = full(6)
    assert sample.rows is None
    assert sample.n_rows == 6
    assert estimate(sample) == pytest.approx(VALUES.mean())


def test_uniform_draws_every_subset_with_equal_probability(rng):
    n_draws = 6000
    counts = dict.fromkeys(itertools.combinations(range(6), 3), 0)
    for _ in range(n_draws):
        counts[tuple(uniform(6, 3, rng).rows)] += 1  # sorted, else no such key
    expected = n_draws / len(counts)
    chi2 = sum((c - expected) ** 2 / expected for c in counts.values())
    assert chi2 < 19 + 5 * math.sqrt(2 * 19)


@pytest.mark.parametrize(("n", "size"), [(6, 1), (6, 5), (1000, 10), (20000, 900)])
def test_uniform_rows_are_sorted_and_differ(rng, n, size):
    sample = uniform(n, size, rng)
    assert np.all(np.diff(sample.rows) > 0)
    assert sample.rows.min() >= 0
    assert sample.rows.max() < n
    assert len(sample.rows) == sample.n_rows == size
    assert sample.weights == 1.0 / size


@pytest.mark.parametrize("size", [6, 7])
def test_uniform_of_all_rows_is_the_full_sample(rng, size):
    assert uniform(6, size, rng) == full(6)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: uniform(500, 20, rng),
        lambda rng: bernoulli(np.arange(500.0), 20, rng),
        lambda rng: with_replacement(np.arange(500.0), 20, rng),
    ],
    ids=["uniform", "bernoulli", "with_replacement"],
)
def test_same_generator_draws_the_same_sample(draw):
    a, b = draw(np.random.default_rng(3)), draw(np.random.default_rng(3))
    c = draw(np.random.default_rng(4))
    np.testing.assert_array_equal(a.rows, b.rows)
    np.testing.assert_array_equal(a.weights, b.weights)
    assert not np.array_equal(a.rows, c.rows)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_bernoulli_estimates_the_mean_without_bias(size):
    # All 2**6 outcomes with their probabilities.
    keep = np.minimum(1.0, size * mixed(SCORES))
    total = 0.0
    for kept in itertools.product([False, True], repeat=6):
        probability = np.prod(np.where(kept, keep, 1.0 - keep))
        if probability > 0.0:
            below, above = np.nextafter(keep, 0.0), np.minimum(keep, 1.0 - 1e-16)
            sample = bernoulli(SCORES, size, Uniforms(np.where(kept, below, above)))
            np.testing.assert_array_equal(sample.rows, np.flatnonzero(kept))
            total += probability * estimate(sample)
    assert total == pytest.approx(VALUES.mean(), rel=1e-12)


def test_bernoulli_always_keeps_a_row_that_dominates():
    scores = np.ones(100)
    scores[37] = 1e6
    almost_one = np.full(100, np.nextafter(1.0, 0.0))
    sample = bernoulli(scores, 10, Uniforms(almost_one))
    np.testing.assert_array_equal(sample.rows, [37])
    np.testing.assert_array_equal(sample.weights, [0.01])


def test_bernoulli_keeps_at_most_the_size_in_the_mean(rng):
    scores = rng.pareto(1.0, 300)
    sizes = [bernoulli(scores, 30, rng).n_rows for _ in range(400)]
    expected = np.minimum(1.0, 30 * mixed(scores))
    assert expected.sum() <= 30.0
    spread = math.sqrt((expected * (1 - expected)).sum() / 400)
    assert abs(np.mean(sizes) - expected.sum()) < 5 * spread


def test_bernoulli_of_all_rows_is_the_full_sample(rng):
    assert bernoulli(SCORES, 6, rng) == full(6)


@pytest.mark.parametrize("size", [1, 2])
def test_with_replacement_estimates_the_mean_without_bias(size):
    # All draws: a number in the middle of each row's interval draws that row.
    p = mixed(SCORES)
    middles = np.cumsum(p) - p / 2
    total = 0.0
    for drawn in itertools.product(range(6), repeat=size):
        sample = with_replacement(SCORES, size, Uniforms(middles[list(drawn)]))
        np.testing.assert_array_equal(sample.rows, np.unique(drawn))
        total += np.prod(p[list(drawn)]) * estimate(sample)
    assert total == pytest.approx(VALUES.mean(), rel=1e-12)


def test_row_drawn_several_times_appears_once_with_its_weights_added():
    p = mixed(SCORES)
    middle = (np.cumsum(p) - p / 2)[4]
    sample = with_replacement(SCORES, 3, Uniforms([middle] * 3))
    assert sample.n_rows == 1
    np.testing.assert_array_equal(sample.rows, [4])
    np.testing.assert_allclose(sample.weights, 1 / (6 * p[4]))


def test_uniform_number_next_to_one_draws_the_last_row():
    # The cumulative sum may end below 1.
    almost_one = np.nextafter(1.0, 0.0)
    assert np.cumsum(mixed(np.ones(10)))[-1] <= almost_one
    sample = with_replacement(np.ones(10), 1, Uniforms([almost_one]))
    np.testing.assert_array_equal(sample.rows, [9])


@pytest.mark.parametrize("draw", [bernoulli, with_replacement])
@pytest.mark.parametrize("unit", [2.0**-900, 2.0**-20, 2.0**20])
def test_unit_of_the_scores_does_not_matter(draw, unit):
    scores = np.arange(50.0)
    sample = draw(scores, 10, np.random.default_rng(0))
    other = draw(unit * scores, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(other.rows, sample.rows)
    np.testing.assert_array_equal(other.weights, sample.weights)


@pytest.mark.parametrize("draw", [bernoulli, with_replacement])
def test_weight_of_a_row_without_score_is_at_most_ten_times_uniform(draw, rng):
    scores = np.zeros(1000)
    scores[0] = 1.0
    for _ in range(20):
        sample = draw(scores, 200, rng)
        counts = 1 if draw is bernoulli else sample.weights * 200 / 10
        assert np.max(sample.weights / counts) <= 10 / 200 * (1 + 1e-12)


@pytest.mark.parametrize("draw", [bernoulli, with_replacement])
@pytest.mark.parametrize("scores", [np.zeros(50), np.full(50, np.nan), [np.inf] * 50])
def test_useless_scores_mean_uniform_probabilities(draw, scores, rng):
    sample = draw(np.asarray(scores), 10, rng)
    multiples = 10.0 * sample.weights  # of the uniform weight
    np.testing.assert_allclose(multiples, np.maximum(1.0, np.round(multiples)))


# Condition 4, eps 0.3, delta 0.1, ten parameters.
@pytest.mark.parametrize(
    ("rule", "first", "expected"),
    [
        (uniform_sample_size, 4.0, 2 * 16 * math.log(200) / 0.09),
        (chernoff_sample_size, 4.0, 3 * 4 * math.log(200) / 0.09),
        (leverage_sample_size, 4.0, 2 * 4 * (1 + 0.3 / 3) * math.log(200) / 0.09),
    ],
)
class TestSizes:
    def test_size_is_that_of_the_formula(self, rule, first, expected):
        size = rule(first, 10, eps=0.3, delta=0.1, n=10**9)
        assert size == math.ceil(expected)

    def test_size_is_at_most_n(self, rule, first, expected):
        assert rule(first, 10, eps=0.5, delta=0.1, n=50) == 50
        assert rule(math.inf, 10, eps=0.5, delta=0.1, n=50) == 50

    def test_size_is_at_least_one(self, rule, first, expected):
        assert rule(0.0, 10, eps=0.5, delta=0.1, n=50) == 1

    @pytest.mark.parametrize("bad", [0.0, 1.0, -0.5, 2.0, math.nan])
    def test_probabilities_outside_the_unit_interval_are_refused(
        self, rule, first, expected, bad
    ):
        with pytest.raises(ValueError, match=r"^eps must be a number in \(0, 1\), got"):
            rule(first, 10, eps=bad, delta=0.1, n=50)
        with pytest.raises(
            ValueError, match=r"^delta must be a number in \(0, 1\), got"
        ):
            rule(first, 10, eps=0.5, delta=bad, n=50)
