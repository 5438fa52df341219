"""Data sets: contents, look-up, download with a fake, libsvm text, generator."""

import bz2
import contextlib
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import datasets
from datasets import _lookup, _readers, covtype, make_covtype
from datasets._compression import decompress
from datasets._records import DataFile, DataSet
from datasets._registry import DATA_SETS

pytestmark = pytest.mark.filterwarnings("error")

ROOT = Path(__file__).resolve().parents[1]
# Read here, because the fixture below unsets it.
DATA = Path(os.environ.get(_lookup.VARIABLE) or ROOT.parent / "shared" / "data")
needs_data = pytest.mark.skipif(
    _lookup.VARIABLE not in os.environ and not DATA.is_dir(),
    reason=f"no data files: set {_lookup.VARIABLE} to their folder",
)
real_cache_folder = _lookup.cache_folder
pooch_downloader = _lookup._pooch_downloader


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give each test a cache of its own, no data folder and no network."""

    def refuse(*_):
        raise AssertionError("a test used the network")

    folder = tmp_path / "cache"
    monkeypatch.delenv(_lookup.VARIABLE, raising=False)
    monkeypatch.setattr(_lookup, "cache_folder", lambda: folder)
    monkeypatch.setattr(_lookup, "_pooch_downloader", pooch_downloader)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return folder


@pytest.fixture(scope="module")
def forest():
    return datasets.load("covtype")


@pytest.fixture(scope="module")
def columns():
    return covtype.load_columns()


# --- names ---------------------------------------------------------------------------


def test_unknown_name_is_refused_with_the_allowed_names():
    with pytest.raises(ValueError, match=r"name must be one of .*ijcnn1.*got 'ijcnn'"):
        datasets.load("ijcnn")


@pytest.mark.parametrize("name", [None, 3, ["a9a"]])
def test_name_of_another_type_is_refused(name):
    with pytest.raises(ValueError, match="name must be one of"):
        datasets.describe(name)


@pytest.mark.parametrize("name", datasets.names())
def test_every_file_is_pinned_and_every_address_is_https(name):
    data_set = datasets.describe(name)
    assert data_set.name == name
    assert bool(data_set.files) == (data_set.form not in ("embedded", "generated"))
    for file in data_set.files:
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in file.sha256)
        assert all(address.startswith("https://") for address in file.addresses)
        assert file.size > 0


def test_import_and_embedded_sets_need_neither_pooch_nor_requests():
    code = (
        "import sys; sys.modules['pooch'] = None; sys.modules['requests'] = None\n"
        "import datasets, datasets._lookup\n"
        "assert datasets.load('covtype')[0].shape == (581012, 54)\n"
        "assert datasets._lookup.cache_folder().name\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


# --- covtype -------------------------------------------------------------------------


def test_embedded_covtype_is_the_published_text(columns):
    # The checksum of UCI's covtype.data, decompressed, as others record it too.
    wilderness = [",".join("01"[i == k] for i in range(4)) for k in range(4)]
    soil = [",".join("01"[i == k] for i in range(40)) for k in range(40)]
    text = "".join(
        f"{','.join(map(str, row))},{wilderness[w]},{soil[s]},{label}\n"
        for *row, w, s, label in columns.tolist()
    )
    assert hashlib.sha256(text.encode()).hexdigest() == make_covtype.CSV_SHA256


def test_covtype_is_the_decoded_columns_with_indicators(forest, columns):
    X, y = forest
    assert X.dtype == np.float64
    assert X.flags.c_contiguous
    np.testing.assert_array_equal(X[:, :10], columns[:, :10])
    np.testing.assert_array_equal(X[:, 10:14].argmax(axis=1), columns[:, 10])
    np.testing.assert_array_equal(X[:, 14:].argmax(axis=1), columns[:, 11])
    # A row with more than two ones would pass the lines above.
    assert (X[:, 10:].sum(axis=1) == 2).all()
    assert (X[:, 10:14].sum(axis=1) == 1).all()
    assert np.count_nonzero(X[:, 10:]) == 2 * len(X)
    assert y.dtype == np.int64


def test_covtype_has_the_class_counts_and_the_official_split(forest):
    y = forest[1]
    assert tuple(np.bincount(y)[1:].tolist()) == covtype.CLASS_COUNTS
    assert (np.bincount(y[:11340])[1:] == 1620).all()
    assert (np.bincount(y[11340:15120])[1:] == 540).all()


def test_binary_labels_are_plus_one_for_class_two_only(forest):
    X, y = datasets.load("covtype.binary")
    np.testing.assert_array_equal(y, np.where(forest[1] == 2, 1.0, -1.0))
    np.testing.assert_array_equal(X[::1000], forest[0][::1000])


def test_scaled_covtype_is_the_published_text():
    # LIBSVM's covtype.libsvm.binary.scale. This text, compressed by bzip2 -9, has md5
    # d95f45e15c284005c2c7a4c82e4be102, which others record for the file there.
    X, y = datasets.load("covtype.binary.scale")
    assert X.flags.c_contiguous
    # Every entry as text, by its place among the few values of its column.
    words = np.empty((10, len(X)), object)
    for j in range(10):
        values, place = np.unique(X[:, j], return_inverse=True)
        word = [f"{j + 1}:{v:g} " if v else "" for v in values.tolist()]
        words[j] = np.array(word, object)[place]
    sums = words.sum(axis=0)
    levels = np.nonzero(X[:, 10:] == 1)[1].reshape(-1, 2) + 11
    assert np.count_nonzero(X[:, 10:]) == levels.size
    ends = [f"{i}:1 {j}:1 \n" for i, j in levels.tolist()]
    labels = np.where(y == 1, "2 ", "1 ").tolist()
    text = "".join(a + b + c for a, b, c in zip(labels, sums, ends, strict=True))
    expected = "859809c092ca933e1a8cc1cfa15e33b56cb11651e4e0a5b52b702abc315a6c0f"
    assert hashlib.sha256(text.encode()).hexdigest() == expected


@needs_data
def test_scaled_covtype_agrees_with_the_file_where_it_is_at_hand():
    path = DATA / "covtype.binary.scale.pm1.bz2"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the data folder")
    with bz2.open(path) as stream:
        head = b"".join(stream.readline() for _ in range(5_000))
    X, y = datasets.load("covtype.binary.scale")
    A, b = datasets.read_libsvm(io.BytesIO(head), n_features=54)
    np.testing.assert_array_equal(X[:5_000], A.toarray())
    np.testing.assert_array_equal(y[:5_000], b)


def replace_archive(monkeypatch, path, content):
    path.write_bytes(content)
    monkeypatch.setattr(covtype, "ARCHIVE", path)


@pytest.mark.parametrize("place", [20, 1_000_000, -30])
def test_damaged_archive_is_refused(place, tmp_path, monkeypatch):
    content = bytearray(covtype.ARCHIVE.read_bytes())
    content[place] ^= 1
    replace_archive(monkeypatch, tmp_path / "covtype.xz", bytes(content))
    with pytest.raises(ValueError, match=r"covtype\.xz cannot be decompressed"):
        datasets.load("covtype")


def test_sound_archive_of_other_columns_is_refused(columns, tmp_path, monkeypatch):
    other = columns.copy()
    other[-1, 0] += 1
    body = make_covtype.encode(other)
    replace_archive(monkeypatch, tmp_path / "covtype", body)
    with pytest.raises(ValueError, match="must decode to sha256"):
        datasets.load("covtype")


@given(data=st.data(), n=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_encoding_returns_any_columns_in_range(data, n):
    columns = data.draw(hnp.arrays(np.int16, (n, 13)))
    columns[:, covtype.ASPECT] %= covtype.N_ASPECTS
    columns[:, covtype.SLOPE] %= covtype.N_SLOPES
    columns[:, [*covtype.HILLSHADE, 10, 11, 12]] %= 256
    decoded = covtype.decode(make_covtype.encode(columns))
    np.testing.assert_array_equal(decoded, columns)


@pytest.mark.parametrize("size", [0, 8, 11, 12, 1000, -1])
def test_cut_body_is_refused(size):
    body = make_covtype.encode(np.zeros((3, 13), np.int16))
    with pytest.raises(ValueError, match="covtype archive"):
        covtype.decode(body[:size])


def test_maker_refuses_another_table(tmp_path):
    path = tmp_path / "covtype.csv"
    path.write_text("Elevation,Class\n2596,5\n")
    with pytest.raises(ValueError, match=r"covtype\.csv must have sha256"):
        make_covtype.main([str(path), "--output", str(tmp_path / "out.xz")])
    assert not (tmp_path / "out.xz").exists()


# --- generator -----------------------------------------------------------------------


def test_generator_repeats_itself_and_depends_on_the_seed():
    X, y = datasets.covtype_like(2000, seed=3)
    again, y_again = datasets.covtype_like(2000, seed=3)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(X, datasets.covtype_like(2000, seed=4)[0])


@pytest.mark.parametrize("n", [1000, 40_000])
def test_generated_levels_are_zipf_with_four_rare_ones(n):
    X, _ = datasets.covtype_like(n)
    assert X.shape == (n, 54)
    assert X.flags.c_contiguous
    assert (X[:, 10:14].sum(axis=1) == 1).all()
    assert (X[:, 14:].sum(axis=1) == 1).all()
    assert set(np.unique(X[:, 10:])) == {0.0, 1.0}
    counts = X[:, 14:].sum(axis=0)
    assert counts[-4:].tolist() == [24, 12, 6, 3]
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.5)


def test_generated_columns_are_raw_and_correlated():
    X, _ = datasets.covtype_like(20_000)
    mean = X[:, :10].mean(axis=0)
    assert 2800 < mean[0] < 3100
    assert 5 < mean[2] < 25
    np.testing.assert_array_equal(X, np.rint(X))
    correlation = np.abs(np.corrcoef(X[:, :10].T)) - np.eye(10)
    assert correlation.max() > 0.4
    assert np.linalg.matrix_rank(X[:, :10]) == 10


@pytest.mark.parametrize("seed", range(5))
def test_generated_labels_are_balanced_learnable_and_noisy(seed):
    X, y = datasets.covtype_like(4000, seed=seed)
    assert set(np.unique(y)) == {-1.0, 1.0}
    assert 0.45 < np.mean(y == 1) < 0.55
    Z = X - X.mean(axis=0)
    w = np.linalg.lstsq(Z, y, rcond=None)[0]
    accuracy = np.mean(np.sign(Z @ w) == y)
    assert 0.6 < accuracy < 0.95


@pytest.mark.parametrize(
    ("n", "seed", "error", "words"),
    [
        (999, 0, ValueError, "n must be >= 1000, got 999"),
        (1000.0, 0, TypeError, r"n must be an integer, got 1000\.0"),
        (True, 0, TypeError, "n must be an integer"),
        (1000, -1, ValueError, "seed must be >= 0, got -1"),
        (1000, None, TypeError, "seed must be an integer, got None"),
    ],
)
def test_generator_refuses_bad_arguments(n, seed, error, words):
    with pytest.raises(error, match=words):
        datasets.covtype_like(n, seed)


# --- look-up and download ------------------------------------------------------------

CONTENT = b"1 1:0.5\n-1 2:3\n"
SMALL = DataFile(
    stems=("small", "tiny"),
    sha256=(hashlib.sha256(CONTENT).hexdigest(),),
    size=len(CONTENT),
    addresses=("https://one.invalid/small.bz2", "https://two.invalid/small"),
)
UNLISTED = DataFile(SMALL.stems, SMALL.sha256, SMALL.size)


class FakeDownloader:
    """Writes given content in pieces, or raises; remembers the addresses."""

    def __init__(self, **contents):
        self.contents = contents
        self.asked = []
        self.pieces = 0

    def __call__(self, url, output_file, pooch):
        self.asked.append(url)
        content = self.contents["one" if "one" in url else "two"]
        if isinstance(content, Exception):
            raise content
        for start in range(0, len(content), 1000):
            self.pieces += 1
            output_file.write(content[start : start + 1000])
            output_file.flush()


@pytest.mark.parametrize("packed", [bytes, bz2.compress, gzip.compress, lzma.compress])
@pytest.mark.parametrize("name", ["small", "small.bz2", "tiny.gz", "tiny.xz"])
def test_content_counts_and_not_the_suffix(packed, name, tmp_path):
    (tmp_path / name).write_bytes(packed(CONTENT))
    assert _lookup.read(UNLISTED, folder=tmp_path) == CONTENT


@pytest.mark.parametrize("good", [0, 1, 2])
def test_first_place_with_the_file_decides(good, tmp_path, cache, monkeypatch):
    places = [tmp_path / "folder", tmp_path / "variable", cache]
    for i, place in enumerate(places):
        place.mkdir()
        if i >= good:
            (place / "small").write_bytes(CONTENT if i == good else b"other")
    monkeypatch.setenv(_lookup.VARIABLE, str(places[1]))
    assert _lookup.read(SMALL, folder=places[0]) == CONTENT


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_wrong_content_stops_the_search(bad, tmp_path, cache, monkeypatch):
    places = [tmp_path / "folder", tmp_path / "variable", cache]
    for i, place in enumerate(places):
        place.mkdir()
        if i >= bad:
            (place / "small").write_bytes(CONTENT if i > bad else CONTENT[::-1])
    monkeypatch.setenv(_lookup.VARIABLE, str(places[1]))
    found = hashlib.sha256(CONTENT[::-1]).hexdigest()
    words = f"{re.escape(str(places[bad] / 'small'))} .*{SMALL.sha256[0]}.*{found}"
    downloader = FakeDownloader(one=CONTENT)
    with pytest.raises(ValueError, match=words):
        _lookup.read(SMALL, folder=places[0], downloader=downloader)
    assert downloader.asked == []


def test_folder_that_is_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="folder must be an existing folder"):
        _lookup.read(SMALL, folder=tmp_path / "none")
    monkeypatch.setenv(_lookup.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ValueError, match=f"{_lookup.VARIABLE} must be an existing"):
        _lookup.read(SMALL)


def test_empty_variable_is_not_the_current_folder(tmp_path, cache, monkeypatch):
    monkeypatch.setenv(_lookup.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").write_bytes(b"other")
    cache.mkdir()
    (cache / "small").write_bytes(CONTENT)
    assert _lookup.read(SMALL) == CONTENT


def test_file_without_address_asks_for_a_folder():
    with pytest.raises(FileNotFoundError, match=rf"small.*folder=.*{_lookup.VARIABLE}"):
        _lookup.read(UNLISTED)


def test_download_is_kept_and_not_repeated(cache):
    downloader = FakeDownloader(one=bz2.compress(CONTENT))
    assert _lookup.read(SMALL, downloader=downloader) == CONTENT
    assert [path.name for path in cache.iterdir()] == ["small.bz2"]
    assert _lookup.read(SMALL, downloader=downloader) == CONTENT
    assert downloader.asked == ["https://one.invalid/small.bz2"]


@pytest.mark.parametrize("first", [OSError("no answer"), b"<html>", CONTENT[:-1]])
def test_second_address_serves_when_the_first_fails(first, cache):
    downloader = FakeDownloader(one=first, two=CONTENT)
    assert _lookup.read(SMALL, downloader=downloader) == CONTENT
    assert [path.name for path in cache.iterdir()] == ["small"]


def test_wrong_downloads_leave_nothing_behind(cache):
    other = b"2 1:0.5\n-1 2:3\n"
    downloader = FakeDownloader(one=other, two=OSError("no answer"))
    found = hashlib.sha256(other).hexdigest()
    with pytest.raises(OSError, match=rf"(?s)one\.invalid.*{found}.*two.*no answer"):
        _lookup.read(SMALL, downloader=downloader)
    assert list(cache.iterdir()) == []


def test_interrupted_download_leaves_nothing_behind(cache):
    downloader = FakeDownloader(one=RuntimeError("stopped"))
    with pytest.raises(RuntimeError, match="stopped"):
        _lookup.read(SMALL, downloader=downloader)
    assert list(cache.iterdir()) == []


def test_download_starts_afresh_after_an_interruption(cache):
    class Cut(FakeDownloader):
        def __call__(self, url, output_file, pooch):
            output_file.write(CONTENT[:4])
            output_file.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _lookup.read(SMALL, downloader=Cut())
    assert list(cache.iterdir()) == []
    assert _lookup.read(SMALL, downloader=FakeDownloader(one=CONTENT)) == CONTENT


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT[:-1], b"<html>", b""])
def test_unverified_content_never_bears_the_final_name(content, cache, monkeypatch):
    seen = set()

    def watching(function):
        def call(*args, **kwargs):
            seen.update(path.name for path in cache.iterdir())
            try:
                return function(*args, **kwargs)
            finally:
                seen.update(path.name for path in cache.iterdir())

        return call

    for module, name in ((_lookup, "verify"), (os, "replace"), (os, "unlink")):
        monkeypatch.setattr(module, name, watching(getattr(module, name)))
    with pytest.raises(OSError, match="must have"):
        _lookup.read(SMALL, downloader=FakeDownloader(one=content, two=content))
    assert seen
    assert all(name.endswith(".part") for name in seen)


STEPS = {
    "folder": (Path, "mkdir"),
    "temporary": (_lookup.tempfile, "mkstemp"),
    "opened": (os, "fdopen"),
    "verified": (_lookup, "verify"),
    "renamed": (os, "replace"),
    "written": (_lookup.LimitedWriter, "write"),
}


@pytest.mark.parametrize("step", STEPS)
def test_failing_step_of_a_download_leaves_nothing_wrong(step, cache, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], fail)
        with pytest.raises(OSError, match="disk is full"):
            _lookup.read(SMALL, downloader=FakeDownloader(one=CONTENT, two=CONTENT))
    assert not cache.exists() or list(cache.iterdir()) == []
    assert _lookup.read(SMALL, downloader=FakeDownloader(one=CONTENT)) == CONTENT


def test_full_disk_is_named_and_leaves_nothing(small_disk, monkeypatch):
    monkeypatch.setattr(_lookup, "cache_folder", lambda: small_disk / "cache")
    content = np.random.default_rng(0).bytes(300_000)
    digest = hashlib.sha256(content).hexdigest()
    file = DataFile(("large",), (digest,), len(content), SMALL.addresses)
    words = rf"to {re.escape(str(small_disk))}/cache: .*No space left on device"
    with pytest.raises(OSError, match=words):
        _lookup.read(file, downloader=FakeDownloader(one=content, two=content))
    assert list((small_disk / "cache").iterdir()) == []


def test_rests_of_killed_downloads_do_no_harm_and_are_removed(cache):
    cache.mkdir()
    old, young, other = (cache / f"{stem}.part" for stem in ("small1", "small2", "b"))
    for path in (old, young, other):
        path.write_bytes(CONTENT[:5])
    for path in (old, other):
        os.utime(path, (1.0, 1.0))
    downloader = FakeDownloader(one=OSError("no answer"), two=CONTENT)
    assert _lookup.read(SMALL, downloader=downloader) == CONTENT
    assert {path.name for path in cache.iterdir()} == {"small", "small2.part", "b.part"}


def test_other_process_may_be_killed_while_it_downloads(cache):
    code = f"""
import sys, time
from pathlib import Path
from datasets import _lookup
from datasets._records import DataFile
_lookup.cache_folder = lambda: Path(sys.argv[1])
def slowly(url, output_file, pooch):
    output_file.write({CONTENT[:6]!r})
    output_file.flush()
    print("writing", flush=True)
    time.sleep(60)
_lookup.read({SMALL!r}, downloader=slowly)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(cache)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout.readline() == b"writing\n"
    child.kill()
    child.communicate()
    assert [path.suffix for path in cache.iterdir()] == [".part"]
    assert _lookup.read(SMALL, downloader=FakeDownloader(one=CONTENT)) == CONTENT
    assert _lookup.read(SMALL, downloader=FakeDownloader()) == CONTENT


def test_endless_download_is_stopped(cache):
    downloader = FakeDownloader(one=bytes(10**7), two=OSError("no answer"))
    with pytest.raises(OSError, match="must have at most"):
        _lookup.read(SMALL, downloader=downloader)
    assert downloader.pieces < 100
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, lzma.compress])
def test_downloaded_bomb_is_not_unpacked(pack, cache):
    downloader = FakeDownloader(one=pack(bytes(10**7)), two=OSError("no answer"))
    with pytest.raises(OSError, match="must have at most 15 bytes, got more"):
        _lookup.read(SMALL, downloader=downloader)
    assert list(cache.iterdir()) == []


def test_load_downloads_with_pooch(monkeypatch):
    pooch = pytest.importorskip("pooch")
    text = b'"a";"b";"quality"\n1;2;5\n3;4;6\n'
    digest = hashlib.sha256(text).hexdigest()
    file = DataFile(("t.csv",), (digest,), len(text), ("https://one.invalid/t.csv",))
    data_set = DataSet("toy", (2, 2), "", "", "", "wine", files=(file,))
    made = FakeDownloader(one=text)
    monkeypatch.setitem(DATA_SETS, "toy", data_set)
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **_: made)
    X, y = datasets.load("toy")
    assert X.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert y.tolist() == [5.0, 6.0]
    assert made.asked == ["https://one.invalid/t.csv"]


def test_real_pooch_downloader_writes_through_the_limit(monkeypatch):
    # Its contract: it takes an object with `write` in place of a path.
    pytest.importorskip("pooch")
    requests = pytest.importorskip("requests")

    def answer(*_, **__):
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO(bytes(10**6))
        return response

    monkeypatch.setattr(requests, "get", answer)
    with pytest.raises(OSError, match=r"one\.invalid/small\.bz2 must have at most"):
        _lookup.read(SMALL)


def test_missing_pooch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[data\]"'):
        _lookup.read(SMALL)


def test_cache_folder_is_the_same_without_pooch(monkeypatch):
    pytest.importorskip("pooch")
    with_pooch = real_cache_folder()
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert real_cache_folder() == with_pooch


# --- compression ---------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, bz2.compress, gzip.compress, lzma.compress])
def test_limit_of_decompression_is_exact(pack):
    content = bytes(range(256)) * 40
    packed = pack(content)
    assert decompress(packed, limit=len(content), what="f") == content
    with pytest.raises(ValueError, match="f must have at most 10239 bytes"):
        decompress(packed, limit=len(content) - 1, what="f")


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, lzma.compress])
def test_streams_are_joined_and_rests_refused(pack):
    packed = pack(b"one") + pack(b"two")
    assert decompress(packed, limit=6, what="f") == b"onetwo"
    with pytest.raises(ValueError, match="at most 5 bytes"):
        decompress(packed, limit=5, what="f")
    with pytest.raises(ValueError, match="compressed to its end, got 4 other bytes"):
        decompress(packed + b"rest", limit=100, what="f")
    with pytest.raises(ValueError, match="cut-off stream"):
        decompress(packed[:-1], limit=100, what="f")


# --- libsvm text ---------------------------------------------------------------------


def read_text(text, n_features=9, **options):
    content = text if isinstance(text, bytes) else text.encode()
    return datasets.read_libsvm(io.BytesIO(content), n_features=n_features, **options)


def test_libsvm_text_is_read_as_written(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(
        gzip.compress(b"+1 1:0.5 3:-2e-1 # note\r\n\n# only this\n-1 \n2 4:0\n")
    )
    X, y = datasets.read_libsvm(path, n_features=5, n_rows=3, n_entries=3)
    assert isinstance(X, scipy.sparse.csr_matrix)
    assert X.dtype == np.float64
    assert X.indices.dtype == X.indptr.dtype == np.int32
    # The last entry is an explicit zero and stays.
    assert X.data.tolist() == [0.5, -0.2, 0.0]
    assert X.indices.tolist() == [0, 2, 3]
    assert X.indptr.tolist() == [0, 2, 2, 3]
    assert X.shape == (3, 5)
    assert y.tolist() == [1.0, -1.0, 2.0]


def test_indices_start_at_one_even_if_all_are_large():
    X, _ = read_text("1 2:1\n", n_features=2)
    assert X.toarray().tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1 1:nan\n", 1),
        ("1 1:1\n1 1:inf\n", 2),
        ("1 1:1\n\n# c\n1 1:1 2:-1e999\n", 4),
        ("nan 1:1\n", 1),
        ("1 1:1\n1e999 1:1\n", 2),
        ("1e999\n1 1:1e999\n", 1),
        ("1 1:1e999\n1e999\n", 1),
        ("1 1:1_0\n", 1),
        ("1_0 1:1\n", 1),
        ("1 qid:3 1:1\n", 1),
        ("1,2 1:1\n", 1),
        ("1 1:0,5\n", 1),
        ("1 1 2:3\n", 1),
        ("1 1:1 2:\n", 1),
        ("1 1: 2:3\n", 1),
        ("1:1 2:3\n", 1),
        ("1 1:1\r1 2:1\n", 1),
        ("1 1:1\x0b2:1\n", 1),
        ("1 1:1\x00\n", 1),
        ("<html>\n", 1),
        ("1 0:1\n", 1),
        ("1 -1:1\n", 1),
        ("1 10:1\n", 1),
        ("1 1:1\n1 99999999999999999999999:1\n", 2),
        ("1 " + "9" * 5000 + ":1\n", 1),
        ("1 1:1\n1 2:1 2:1\n", 2),
        ("1 3:1 2:1\n", 1),
        ("1 1:1\n1 1:1 2:1.", 2),
        ("1 1:1", 1),
    ],
)
def test_bad_line_is_refused_by_number(text, line):
    with pytest.raises(ValueError, match=f"libsvm file, line {line}: "):
        read_text(text)


@pytest.mark.parametrize("text", ["", "\n \n", "# a comment\n#\n"])
def test_text_without_rows_is_refused(text):
    with pytest.raises(ValueError, match="at least one row, got none"):
        read_text(text)


def test_last_newline_may_be_waived_for_verified_content():
    X, _ = read_text("1 1:1\n1 2:5", final_newline=False)
    assert X[1, 1] == 5


def test_error_names_the_file(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("1 1:x\n")
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}, line 1: .*'1 1:x'"):
        datasets.read_libsvm(path, n_features=1)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"n_rows": 3}, "must have 3 rows, got 2"),
        ({"n_entries": 1}, "must have 1 entries, got 2"),
        ({"max_bytes": 11}, "at most 11 bytes"),
        ({"n_features": 0}, "n_features must be > 0 and <= 2147483647, got 0"),
        ({"n_features": 2**31}, "n_features must be > 0 and <= 21.*, got 2147483648"),
        ({"n_features": 1}, "line 2: indices must ascend from 1 to 1, got 2 after 0"),
    ],
)
def test_unexpected_size_is_refused(option, words):
    with pytest.raises(ValueError, match=words):
        read_text("1 1:1\n1 2:1\n", **option)


@pytest.mark.parametrize("n_features", [2.0, "2", None, True])
def test_width_of_another_type_is_refused(n_features):
    with pytest.raises(TypeError, match="n_features must be an integer"):
        read_text("1 1:1\n", n_features=n_features)


def test_open_text_file_is_refused():
    with pytest.raises(TypeError, match="binary file"):
        datasets.read_libsvm(io.StringIO("1 1:1\n"), n_features=1)


finite = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.tuples(finite, st.dictionaries(st.integers(1, 9), finite)), min_size=1
)


@given(rows)
@settings(max_examples=100, deadline=None)
def test_written_numbers_come_back_bit_for_bit(rows):
    lines = []
    for label, entries in rows:
        words = [f"{j}:{entries[j]!r}" for j in sorted(entries)]
        lines.append(" ".join([repr(label), *words]) + "\n")
    X, y = read_text("".join(lines))
    values = [entries[j] for _, entries in rows for j in sorted(entries)]
    places = [j - 1 for _, entries in rows for j in sorted(entries)]
    assert X.data.tobytes() == np.array(values, np.float64).tobytes()
    assert X.indices.tolist() == places
    assert np.diff(X.indptr).tolist() == [len(entries) for _, entries in rows]
    assert y.tobytes() == np.array([label for label, _ in rows]).tobytes()


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_give_a_value_error_or_finite_numbers(content):
    for packed in (content, b"BZh9" + content, b"\x1f\x8b" + content):
        with contextlib.suppress(ValueError):
            X, y = read_text(packed, max_bytes=10**6)
            assert np.isfinite(X.data).all()
            assert np.isfinite(y).all()


# --- the files themselves ------------------------------------------------------------

COUNTS = {
    "ijcnn1": {-1: 45137, 1: 4853},
    "ijcnn1.t": {-1: 82989, 1: 8712},
    "a9a": {-1: 24720, 1: 7841},
    "a9a.t": {-1: 12435, 1: 3846},
    "mushrooms": {-1: 4208, 1: 3916},
    "w8a": {-1: 48270, 1: 1479},
    "w8a.t": {-1: 14497, 1: 454},
    "reuters": {-1: 7232, 1: 538},
    "reuters.t": {-1: 3120, 1: 179},
    "wine.red": {3: 10, 4: 53, 5: 681, 6: 638, 7: 199, 8: 18},
}


def load_real(name):
    """Load from the data folder only; skip where it lacks a file."""
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(
            _lookup, "_pooch_downloader", lambda file: pytest.skip(file.stems[0])
        )
        try:
            return datasets.load(name, folder=DATA)
        except FileNotFoundError as error:
            pytest.skip(str(error))


@needs_data
@pytest.mark.parametrize(
    "name", [name for name in datasets.names() if datasets.describe(name).files]
)
def test_file_has_the_registered_form(name):
    X, y = load_real(name)
    data_set = datasets.describe(name)
    assert X.shape == data_set.shape
    assert y.shape == X.shape[:1]
    assert X.dtype == np.float64
    assert y.dtype == (np.int64 if data_set.integer_target else np.float64)
    if data_set.sparse:
        assert X.format == "csr"
        assert X.indices.dtype == X.indptr.dtype == np.int32
        assert X.nnz == data_set.n_entries
    else:
        assert isinstance(X, np.ndarray)
        assert X.flags.c_contiguous
        assert X.flags.writeable
    if name in COUNTS:
        labels, counts = np.unique(y, return_counts=True)
        assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == COUNTS[name]


@needs_data
def test_digits_are_grey_levels_in_reading_order():
    X, y = load_real("mnist.t")
    # The first test image is a seven: a bar above, nothing below on the left.
    assert y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert (X.min(), X.max()) == (0.0, 255.0)
    image = X[0].reshape(28, 28)
    assert image[8, 7:20].min() > 100
    assert image[18:, :9].max() == 0


@needs_data
def test_wine_is_red_then_white():
    X, y = load_real("wine")
    red, white = load_real("wine.red"), load_real("wine.white")
    np.testing.assert_array_equal(X, np.vstack([red[0], white[0]]))
    np.testing.assert_array_equal(y, np.concatenate([red[1], white[1]]))
    assert red[0][0, :2].tolist() == [7.4, 0.7]


@needs_data
def test_both_contents_of_mushrooms_are_one_set(tmp_path):
    path = DATA / "mushrooms.bz2"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the data folder")
    ours = bz2.decompress(path.read_bytes())
    published = re.sub(rb"(?m)^0 ", b"2 ", ours) + b"\n"
    (tmp_path / "mushrooms").write_bytes(published)
    X, y = datasets.load("mushrooms", folder=tmp_path)
    X_ours, y_ours = load_real("mushrooms")
    np.testing.assert_array_equal(y, y_ours)
    np.testing.assert_array_equal(X.toarray(), X_ours.toarray())


def test_set_of_another_shape_is_refused():
    data_set = DataSet("toy", (3, 2), "", "", "", "wine", files=(SMALL,))
    with pytest.raises(ValueError, match=r"toy must have shape \(3, 2\), got \(2, 2\)"):
        _readers.from_contents(data_set, [b"a;b;c\n1;2;3\n4;5;6\n"])
