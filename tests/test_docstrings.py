"""What docstrings promise about the papers they name."""

import inspect
import re

import pytest

import subsampled_newton
from subsampled_newton import embeddings, leverage, sampling
from subsampled_newton.solvers.direct import DirectLeastSquares
from subsampled_newton.solvers.sketched import SketchedLeastSquares

PUBLIC = [getattr(subsampled_newton, name) for name in subsampled_newton.__all__]
SOLVERS = [c for c in PUBLIC if inspect.isclass(c) and hasattr(c, "step")]
RULES = [c for c in PUBLIC if inspect.isclass(c) and hasattr(c, "first")]
NAMED = [
    *SOLVERS,
    *(c for c in RULES if c.__doc__ and "References" in c.__doc__),
    subsampled_newton.Lemma,
    DirectLeastSquares,
    SketchedLeastSquares,
    sampling.bernoulli,
    leverage.block_leverage,
    leverage.sketched_leverage,
]
PARAGRAPH = re.compile(r"(Differs from the papers? in|As in the papers?\b)")


def test_solvers_are_found():
    assert len(SOLVERS) >= 15
    assert subsampled_newton.InverseStep in NAMED


@pytest.mark.parametrize("method", NAMED, ids=lambda method: method.__name__)
def test_methods_say_how_they_differ_from_their_papers(method):
    text = inspect.getdoc(method)
    assert PARAGRAPH.search(text)
    if inspect.isclass(method) and hasattr(method, "step"):
        assert "References\n----------" in text


def test_mixed_probabilities_are_told_wherever_rows_are_drawn_by_scores():
    users = [c for c in SOLVERS if "sampling" in inspect.signature(c).parameters]
    by_scores = [c for c in users if "row-norms" in inspect.getdoc(c)]
    assert {c.__name__ for c in by_scores} >= {"SubsampledNewton", "TrustRegion"}
    told = re.compile(r"``0\.9 p \+ 0\.1 / n``")
    for function in (
        *by_scores,
        subsampled_newton.CubicRegularization,
        SketchedLeastSquares,
        sampling.bernoulli,
        sampling.with_replacement,
    ):
        assert told.search(inspect.getdoc(function)), function.__name__
    assert "bernoulli" in inspect.getdoc(embeddings.RowSample.draw)
