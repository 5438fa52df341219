"""NIST's certified regression problems, by the estimator as it comes."""

import functools
import hashlib
import lzma

import numpy as np
import pytest

from datasets import make_nist, nist
from datasets.nist import digits, load_nist, nist_names
from subsampled_newton import NonlinearLeastSquares

RUNS = [(name, start) for name in nist_names() for start in (0, 1)]


@functools.cache
def fitted(name, start):
    p = load_nist(name)
    return NonlinearLeastSquares(p.model, p.starts[start]).fit(p.X, p.y)


@pytest.mark.parametrize(("name", "start"), RUNS)
def test_certified_values_by_default(name, start):
    p, model = load_nist(name), fitted(name, start)
    assert model.result_.converged
    assert digits(model.params_, p.params) >= 10.0
    # The residuals of Lanczos1 are 1e-13: three digits above the rounding of y.
    least = 3.0 if name == "Lanczos1" else 9.0
    assert digits(model.std_errors_, p.standard_errors) >= least
    assert digits(model.residual_std_, p.residual_std) >= least


@pytest.mark.usefixtures("jit")  # 54 fits
def test_half_of_the_runs_have_all_digits_that_are_printed():
    reached = [digits(fitted(*run).params_, load_nist(run[0]).params) for run in RUNS]
    assert np.median(reached) >= 10.7


# The data.


def test_there_are_27_problems_of_the_published_sizes():
    sizes = {name: load_nist(name).X.shape for name in nist_names()}
    assert len(sizes) == 27
    assert sizes["Nelson"] == (128, 2)
    assert sizes["Gauss1"] == (250, 1)
    assert sum(n for n, _ in sizes.values()) == 2_176
    levels = [load_nist(name).difficulty for name in nist_names()]
    assert [levels.count(k) for k in ("lower", "average", "higher")] == [8, 11, 8]


@pytest.mark.parametrize("name", nist_names())
def test_certified_values_fit_the_data_and_the_models(name):
    """An error in data, model or certified values would show in the sum of squares."""
    p = load_nist(name)
    residual = np.array([p.model(p.params, x) for x in p.X]) - p.y
    freedom = len(p.y) - len(p.params)
    if name != "Lanczos1":  # certified parameters are rounded to 11 digits
        assert digits(residual @ residual, p.sum_of_squares) > 9.9
    std = np.sqrt(p.sum_of_squares / freedom)
    assert digits(std, p.residual_std) > 10.0
    assert p.starts.shape == (2, len(p.params))
    assert p.standard_errors.shape == p.params.shape


def test_digits_are_the_log_relative_error():
    assert digits([1.0, 2.0 + 2e-5], [1.0, 2.0]) == pytest.approx(5.0)
    assert digits(1.0, 1.0) == 11.0
    assert digits(np.nan, 1.0) == 0.0
    assert digits(5.0, 1.0) == 0.0


def test_records_are_of_their_own():
    load_nist("Misra1a").y[:] = 0.0
    assert load_nist("Misra1a").y[0] == 10.07


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of Misra1a, .*got 'misra'"):
        load_nist("misra")


def test_changed_file_is_refused(tmp_path, monkeypatch):
    content = lzma.decompress(nist.ARCHIVE.read_bytes())
    assert hashlib.sha256(content).hexdigest() == nist.SHA256
    other = tmp_path / "nist.json.xz"
    other.write_bytes(lzma.compress(content.replace(b"10.07", b"10.08")))
    monkeypatch.setattr(nist, "ARCHIVE", other)
    nist._records.cache_clear()
    with pytest.raises(ValueError, match="must hold sha256"):
        load_nist("Misra1a")
    nist._records.cache_clear()


HEADER = """\
Model:         Exponential Class
               2 Parameters (b1 and b2)
        Start 1     Start 2           Parameter     Standard Deviation
  b1 =   500         .25E3         2.3894212918E+02  2.7070075241E+00
  b2 =     0.0001      0.0005      5.5015643181E-04  7.2668688436E-06
Residual Sum of Squares:                    1.2455138894E-01
Residual Standard Deviation:                1.0187876330E-01
Number of Observations:                            3
               Lower Level of Difficulty
"""


def test_files_of_nist_are_parsed():
    lines = HEADER.splitlines()
    text = "\n".join([*lines, *[""] * (60 - len(lines)), " 1E0 2.5", "3 .5E1", "-1 0"])
    record = make_nist.parse(text)
    assert record["x"] == [[2.5], [5.0], [0.0]]
    assert record["y"] == [1.0, 3.0, -1.0]
    assert record["starts"] == [(500.0, 0.0001), (250.0, 0.0005)]
    assert record["params"] == (2.3894212918e2, 5.5015643181e-4)
    assert record["standard_errors"] == (2.7070075241, 7.2668688436e-6)
    assert (record["difficulty"], record["sum_of_squares"]) == ("lower", 0.12455138894)
    with pytest.raises(ValueError, match="number of rows"):
        make_nist.parse(text.removesuffix("\n-1 0"))
    with pytest.raises(ValueError, match="number of parameters"):
        make_nist.parse(text.replace("2 Parameters", "3 Parameters"))
    with pytest.raises(ValueError, match="must state the Residual Sum"):
        make_nist.parse(text.replace("Sum of", "Total of"))
    with pytest.raises(ValueError, match="level of difficulty"):
        make_nist.parse(text.replace("Lower Level", "No"))
