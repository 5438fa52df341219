"""The pool: same bits for every number of threads, errors, forks, Ctrl-C, BLAS."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_info, threadpool_limits

from subsampled_newton import LOGISTIC, Columns, _parallel, as_rows
from subsampled_newton._parallel import (
    bounds,
    n_threads,
    one_blas_thread,
    run,
    sum_parts,
    use_threads,
)

N, D = 40_011, 17


def block_count(rows, part_size):
    return len(bounds(rows.n_rows, rows._n_elements, part_size)) - 1


@pytest.fixture(scope="module", params=["C", "Fortran", "csr"])
def rows(request):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((N, D))
    make = {"C": np.array, "Fortran": np.asfortranarray, "csr": sp.csr_array}
    columns = Columns(rng.random(D) + 0.5, rng.random(D), intercept=True)
    rows = as_rows(make[request.param](X)).with_columns(columns)
    assert block_count(rows, D) > 2
    return rows


def operations(rows):
    rng = np.random.default_rng(5)
    n, d = rows.n_rows, rows.n_params
    y = rng.choice([-1.0, 1.0], n)
    w, r, s = rng.standard_normal(d), rng.standard_normal(n), rng.random(n)
    return {
        "matvec": lambda: rows.matvec(w),
        "rmatvec": lambda: rows.rmatvec(r),
        "hess_vec": lambda: rows.hess_vec(s, w),
        "gram": lambda: rows.gram(s),
        "evaluate": lambda: np.concatenate(
            [np.ravel(v) for v in rows.evaluate(LOGISTIC, y, s, w)]
        ),
        "mean_along": lambda: rows.mean_along(LOGISTIC.value, r, s, 0.3, y, s),
        "pointwise": lambda: rows.pointwise(LOGISTIC.d2, r, y, s),
        "row_norms": lambda: rows.row_norms(),
        "projected_norms": lambda: rows.projected_norms(np.eye(d)[:, :3]),
        "column_moments": lambda: np.stack(rows.column_moments(s)),
    }


@pytest.mark.parametrize("operation", list(operations(as_rows(np.ones((1, 1))))))
def test_bits_do_not_depend_on_the_number_of_threads(rows, operation):
    results = []
    for n in (1, 2, 4, 8):
        with use_threads(n):
            results.append(np.asarray(operations(rows)[operation]()).tobytes())
    assert len(set(results)) == 1


def test_means_of_predictions_have_several_blocks():
    # With two the order of the sum would make no difference to mean_along above.
    assert len(bounds(N, 16 * N)) > 3


@pytest.mark.parametrize("elements", [0, 1, 10**5, 10**6, 10**9])
@pytest.mark.parametrize("n_rows", [1, 5, 1000])
@pytest.mark.parametrize("part_size", [1, 1000])
def test_blocks_cover_all_rows_once(n_rows, elements, part_size):
    edges = bounds(n_rows, elements, part_size)
    assert edges[0] == 0
    assert edges[-1] == n_rows
    assert np.all(np.diff(edges) > 0)
    assert len(edges) - 1 <= min(n_rows, _parallel.MAX_BLOCKS)  # 1e9 is not huge


def test_small_data_are_one_block():
    assert len(bounds(1000, _parallel.MIN_BLOCK_ELEMENTS - 1)) == 2


def test_blocks_of_huge_data_are_bounded():
    # The wait for Ctrl-C is that for a block.
    n, elements = 10**7, 10**11
    longest = np.diff(bounds(n, elements)).max() * (elements / n)
    assert longest <= 1.01 * _parallel.MAX_BLOCK_ELEMENTS


def test_partial_sums_are_smaller_than_the_data():
    edges = bounds(10**6, 10**7, part_size=10**6)
    assert (len(edges) - 1) * 10**6 <= 10**7


# run


def test_results_come_in_the_order_of_the_blocks():
    def block(k):
        time.sleep(0.002 * (k % 3))
        return k

    with use_threads(4):
        assert run(block, 20) == list(range(20))


def test_parts_are_added_in_order():
    parts = [1e16, 1.0, -1e16, 1.0]
    with use_threads(4):
        total = sum_parts(lambda k: np.array([parts[k]]), 4)
    assert total[0] == ((parts[0] + parts[1]) + parts[2]) + parts[3]


def test_several_threads_work_on_the_blocks():
    meeting = threading.Barrier(3, timeout=30)
    with use_threads(3):
        names = run(lambda k: (meeting.wait(), threading.get_ident())[1], 3)
    assert len(set(names)) == 3


def test_limit_of_one_thread_stays_in_the_calling_thread():
    with use_threads(1):
        names = run(lambda k: threading.get_ident(), 8)
    assert set(names) == {threading.get_ident()}


class BlockError(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bad", [0, 7, 19])
def test_exception_of_a_block_is_raised_and_the_pool_stays_usable(threads, bad):
    def block(k):
        if k == bad:
            raise BlockError(k)
        return k

    with use_threads(threads):
        with pytest.raises(BlockError, match=str(bad)):
            run(block, 20)
        assert run(lambda k: k, 20) == list(range(20))


def test_exception_of_a_block_stops_the_others():
    done = []

    def block(k):
        if k == 0:
            raise BlockError
        time.sleep(0.01)
        done.append(k)

    with use_threads(2), pytest.raises(BlockError):
        run(block, 500)
    assert len(done) < 100


def test_exception_of_a_helper_reaches_the_caller():
    caller = threading.get_ident()
    failed = threading.Event()

    def block(k):
        if threading.get_ident() != caller:
            failed.set()
            raise BlockError
        assert failed.wait(30)

    with use_threads(2), pytest.raises(BlockError):
        run(block, 2)


def test_exception_of_a_helper_stops_the_caller():
    caller = threading.get_ident()
    failed, done = threading.Event(), []

    def block(k):
        if threading.get_ident() != caller:
            failed.set()
            raise BlockError
        assert failed.wait(30)
        time.sleep(0.005)
        done.append(k)

    with use_threads(2), pytest.raises(BlockError):
        run(block, 300)
    assert len(done) < 100


def test_run_inside_a_block_does_not_wait_for_the_pool():
    with use_threads(4):
        assert run(lambda k: sum(run(lambda j: j, 5)), 8) == [10] * 8


def test_eight_user_threads_get_right_answers():
    rng = np.random.default_rng(6)
    rows = as_rows(rng.standard_normal((8000, 64)))
    vectors = rng.standard_normal((8, 64))
    ones = np.ones(8000)
    expected = [rows.hess_vec(ones, v) for v in vectors]
    gram = rows.gram(ones)
    got, start = {}, threading.Barrier(8, timeout=60)

    def work(k):
        start.wait()
        got[k] = [rows.hess_vec(ones, vectors[k]) for _ in range(3)], rows.gram(ones)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for k in range(8):
        products, matrix = got[k]
        np.testing.assert_array_equal(products, [expected[k]] * 3)
        np.testing.assert_array_equal(matrix, gram)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("busy", [False, True])
def test_forked_child_can_use_the_pool(busy):
    """Also when a thread of the parent held the locks at the moment of the fork."""
    rows = as_rows(np.ones((8000, 64)))
    ones, identity = np.ones(8000), np.eye(64)
    locks = (_parallel._pool_lock, _parallel._blas.lock) if busy else ()
    with use_threads(2), contextlib.ExitStack() as held:
        expected = rows.hess_vec(ones, np.ones(64))
        rows.projected_norms(identity)
        for lock in locks:
            held.enter_context(lock)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of forks with threads
            child = os.fork()
        if child == 0:
            try:
                rows.projected_norms(identity)
                same = np.array_equal(rows.hess_vec(ones, np.ones(64)), expected)
                os._exit(0 if same else 3)
            finally:
                os._exit(4)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0


# The number of threads


def test_limit_holds_inside_the_block_only():
    before = n_threads()
    with use_threads(3):
        assert n_threads() == 3
        with use_threads(5):
            assert n_threads() == 5
        with use_threads(None):
            assert n_threads() == 3
        assert n_threads() == 3
    assert n_threads() == before


def test_limit_is_undone_by_an_exception():
    before = n_threads()
    with pytest.raises(BlockError), use_threads(7):
        raise BlockError
    assert n_threads() == before


def test_limit_holds_for_one_user_thread_only():
    seen = []
    with use_threads(3):
        other = threading.Thread(target=lambda: seen.append(n_threads()))
        other.start()
        other.join(30)
    assert seen == [n_threads()]


def test_negative_limits_count_from_the_cores(monkeypatch):
    monkeypatch.setattr(_parallel, "_n_cores", lambda: 4)
    counts = []
    for n_jobs in (-1, -2, -4, -9, np.int64(2)):
        with use_threads(n_jobs):
            counts.append(n_threads())
    assert counts == [4, 3, 1, 1, 2]


@pytest.mark.parametrize("bad", [0, True, False, 2.0, "2", np.nan])
def test_bad_limit_is_refused(bad):
    message = "n_jobs must be None or an integer other than 0, got"
    with pytest.raises(ValueError, match=message), use_threads(bad):
        pass


def test_environment_sets_the_number_and_a_limit_overrides_it(monkeypatch):
    monkeypatch.setenv("SUBSAMPLED_NEWTON_NUM_THREADS", "6")
    assert n_threads() == 6
    with use_threads(2):
        assert n_threads() == 2
    for name in ("SUBSAMPLED_NEWTON_NUM_THREADS", *_parallel._VARIABLES):
        monkeypatch.delenv(name, raising=False)
    assert n_threads() <= _parallel._n_cores()


@pytest.fixture
def sixteen_cores(monkeypatch):
    """A machine with 16 cores of which nothing is said elsewhere."""
    for name in ("SUBSAMPLED_NEWTON_NUM_THREADS", *_parallel._VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_parallel, "_n_cores", lambda: 16)
    with threadpool_limits(16, user_api="openmp"):
        yield


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_variables_of_others_are_followed(name, sixteen_cores, monkeypatch):
    for text, expected in (("3", 3), ("3,2", 3), ("64", 16), ("", 16), ("x", 16)):
        monkeypatch.setenv(name, text)
        assert n_threads() == expected
    monkeypatch.setenv(name, "3")
    monkeypatch.setenv("SUBSAMPLED_NEWTON_NUM_THREADS", "5")
    assert n_threads() == 5


def test_cores_count_where_nothing_else_is_said(sixteen_cores, monkeypatch):
    monkeypatch.setattr(_parallel, "_openmp", tuple)
    assert n_threads() == 16


def test_limits_of_threadpoolctl_are_followed(sixteen_cores):
    assert n_threads() == 16
    for user_api in (None, "openmp"):
        with threadpool_limits(2, user_api=user_api):
            assert n_threads() == 2
    with threadpool_limits(1, user_api="blas"):  # ours are not threads of BLAS
        assert n_threads() == 16


def test_contexts_of_joblib_are_followed(sixteen_cores):
    for backend in ("loky", "threading"):
        with joblib.parallel_config(backend, n_jobs=3):
            assert n_threads() == 3
            with use_threads(5):
                assert n_threads() == 5
        with joblib.parallel_config(backend, n_jobs=1):
            assert n_threads() == 1
        with joblib.parallel_config(backend):
            assert n_threads() == 16


def threads_of_a_fit():
    """Threads that a fit of many rows uses by default, in whatever process it runs."""
    rows = as_rows(np.ones((200_000, 8)))
    seen = set()

    def block(k):
        seen.add(threading.get_ident())
        time.sleep(0.01)

    with use_threads(None):
        run(block, block_count(rows, 8))
    return n_threads(), len(seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs workers of joblib")
def test_workers_of_joblib_share_the_cores(monkeypatch):
    for name in ("SUBSAMPLED_NEWTON_NUM_THREADS", *_parallel._VARIABLES):
        monkeypatch.delenv(name, raising=False)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = joblib.Parallel()(joblib.delayed(threads_of_a_fit)() for _ in range(4))
    assert found == [(1, 1)] * 4


@pytest.mark.parametrize("bad", ["0", "-1", "two", "", "1.5"])
def test_bad_environment_is_refused_by_name(monkeypatch, bad):
    monkeypatch.setenv("SUBSAMPLED_NEWTON_NUM_THREADS", bad)
    message = "SUBSAMPLED_NEWTON_NUM_THREADS must be a positive integer, got"
    with pytest.raises(ValueError, match=message):
        n_threads()


# Ctrl-C


INTERRUPTED = """
    import signal, time
    import numpy as np
    from subsampled_newton import _parallel, as_rows

    # A shell that starts a background job makes it ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = as_rows(np.ones((6000, 64)))
    ones = np.ones(6000)
    expected = rows.hess_vec(ones, np.ones(64))

    def block(k):
        for _ in range(20):
            rows.layout  # Python between kernels
            time.sleep(0.005)

    with _parallel.use_threads(4):
        print("ready", flush=True)
        try:
            _parallel.run(block, 10_000)  # minutes
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        assert np.array_equal(rows.hess_vec(ones, np.ones(64)), expected)
        assert _parallel.run(lambda k: k, 100) == list(range(100))
        print("usable", flush=True)
    """


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_ctrl_c_ends_a_run_and_leaves_the_pool_usable():
    code = textwrap.dedent(INTERRUPTED)
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env=child_environment(),
        text=True,
    )
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        # The blocks alone take minutes: to end at all is to be interrupted.
        output, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert output == "interrupted\nusable\n"
    assert child.returncode == 0


def child_environment():
    path = os.pathsep.join(p for p in sys.path if p)
    return {**os.environ, "PYTHONPATH": path}


# BLAS


def blas_threads():
    return {
        lib["filepath"]: lib["num_threads"]
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    }


@pytest.fixture
def three_blas_threads():
    with threadpool_limits(3, user_api="blas"):
        counts = blas_threads()
        if not counts or set(counts.values()) != {3}:
            pytest.skip("the threads of this BLAS cannot be set")
        yield counts


def test_blas_has_one_thread_inside_and_its_own_setting_after(three_blas_threads):
    with one_blas_thread():
        assert set(blas_threads().values()) == {1}
        with one_blas_thread():
            assert set(blas_threads().values()) == {1}
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == three_blas_threads


def test_blas_setting_is_restored_after_an_exception(three_blas_threads):
    with pytest.raises(BlockError), one_blas_thread():
        raise BlockError
    assert blas_threads() == three_blas_threads


def test_blas_setting_is_restored_after_overlapping_use(three_blas_threads):
    # A enters, B enters, A leaves, B leaves: B must not restore what it found.
    entered, leave = threading.Event(), threading.Event()

    def second():
        with one_blas_thread():
            entered.set()
            leave.wait(30)

    other = threading.Thread(target=second)
    with one_blas_thread():
        other.start()
        assert entered.wait(30)
    assert set(blas_threads().values()) == {1}
    leave.set()
    other.join(30)
    assert blas_threads() == three_blas_threads
