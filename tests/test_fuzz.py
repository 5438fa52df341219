"""A share of ``python -m tests.fuzz`` for every run of the tests."""

import random

import fuzz
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import libsvm


def test_random_files_are_read_by_the_letter_or_refused_by_the_line():
    read = fuzz.run(5000, seed=1)
    assert 1500 < read < 3500  # neither kind is rare


@pytest.mark.parametrize(
    "text",
    [
        "1 1:1 2:1e400\n",
        "1\r\n-1 9:1\n",
        "1 1:1 #2:nan\n",
        "#1\n\n1 01:1\n",
        "1 1:2\r#c\n",
        "1 1:2 \r #c\n",
        "1 2147483647:1\n",
        "1e999\n1 1:1e999\n",
        "1 1:1e999\n1e999\n",
        "1 2:1 1:1\n1e999\n",
    ],
)
def test_corners_are_read_by_the_letter(text):
    for width in (9, 2**31 - 1):
        fuzz.check(text.encode(), width)


@given(st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_files_that_hypothesis_looks_for(rng):
    fuzz.check(*fuzz.random_file(rng))


@given(st.binary(max_size=40), st.integers(0, 40))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_bytes_around_a_row(content, place):
    fuzz.check(content[:place] + b"1 1:2 3:4\n" + content[place:] + b"\n", 9)


def test_generator_makes_what_the_format_allows_and_what_it_does_not():
    files = [fuzz.random_file(random.Random(k))[0] for k in range(4000)]
    for word in (b"#", b"\r\n", b"\t", b"nan", b"qid", b"\x00", b" 00", b"e-", b"\n\n"):
        assert any(word in content for content in files), word
    assert any(not content.endswith(b"\n") for content in files)
    assert any(max(content, default=0) > 127 for content in files)


@pytest.mark.parametrize("fault", ["", "line", "row", "number"])
def test_the_comparison_finds_a_wrong_reader(fault, monkeypatch):
    read = libsvm.read_libsvm

    def wrong(source, **options):
        try:
            X, y = read(source, **options)
        except ValueError as error:
            text = str(error)
            raise ValueError(
                text.replace("line 2", "line 3") if fault == "line" else text
            ) from None
        if fault == "row" and len(y) == 3:
            return X[:2], y[:2]
        if fault == "number":
            X.data[X.data == 1.25] = 1.2500000000000002
        return X, y

    monkeypatch.setattr(fuzz.datasets, "read_libsvm", wrong)
    if not fault:
        fuzz.run(1000)
        return
    with pytest.raises(AssertionError, match=r"case .* columns"):
        fuzz.run(1000)
