"""The command ``python -m bench``, in this process and on a tiny problem."""

import itertools
import json
import sys
import warnings
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import scipy.sparse

from bench import gpu, limits, measure, ours, plot, problems, rivals, startup, summary
from bench.__main__ import main
from bench.problems import Objective, Reference
from bench.rows import LEVELS, Row
from bench.sweep import ITERATIONS, Outcome, Sweep

TINY = ["--dataset", "ijcnn1", "--cap", "0.3", "--repeats", "2"]


def tiny_set(n=300, d=5):
    rng = np.random.default_rng(7)
    X = rng.standard_normal((n, d))
    y = np.where(X @ np.arange(d) + 2.0 * rng.standard_normal(n) > 0.0, 1.0, -1.0)
    return X, y


@pytest.fixture(autouse=True)
def tiny_loader(monkeypatch):
    monkeypatch.setattr(problems, "load", lambda name: tiny_set())
    monkeypatch.setattr("bench.sweep.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def objective():
    X, y = tiny_set()
    return Objective("tiny", X, y, 0.01, len(y))


@pytest.fixture(scope="module")
def reference(objective):
    return problems.find_reference(objective)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "load", lambda name: tiny_set())
        patch.setattr("bench.sweep.time.sleep", lambda seconds: None)
        assert main([*TINY, "--solver", "all", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def document(written):
    return json.loads((written / "ijcnn1.json").read_text())


# --- the whole command ---------------------------------------------------------------


def test_every_solver_leaves_rows(document):
    found = {row["solver"] for row in document["rows"]}
    assert found == set(measure.SOLVERS)
    assert document["complete"]
    assert not document["failures"]


def test_rows_are_complete(document):
    for row in document["rows"]:
        assert (row["dataset"], row["n"], row["d"]) == ("ijcnn1", 300, 5)
        assert row["alpha"] == pytest.approx(1 / 300)
        assert row["seconds"] >= 0.0
        assert row["suboptimality"] >= 0.0
        assert (row["passes"] is not None) == (not row["solver"].startswith("sklearn"))


def test_suboptimality_decreases_along_newton(document):
    for seed in (0, 1):
        curve = [
            row["suboptimality"]
            for row in document["rows"]
            if row["solver"] == "newton" and row["seed"] == seed
        ]
        assert curve[0] == pytest.approx(1.0)
        assert all(b <= a + 1e-15 for a, b in itertools.pairwise(curve))
        assert curve[-1] < 1e-14


def test_best_value_has_two_independent_sources(document):
    problem = document["problem"]
    runs = problem["best_value_from"]
    assert len({run["solver"] for run in runs}) == 2
    assert problem["best_value"] == min(run["value"] for run in runs)
    for run in runs:
        assert run["value"] == pytest.approx(problem["best_value"], rel=1e-14)
        assert run["gradient_norm"] < 1e-10


def test_document_names_machine_and_versions(document):
    assert {"cpu", "cores", "threads"} <= set(document["machine"])
    assert {"python", "numpy", "scikit-learn", "numba"} <= set(document["versions"])
    assert document["compile_seconds"] is not None


def test_figure_is_small_wide_and_not_blank(written):
    path = written / "ijcnn1.png"
    image = matplotlib.image.imread(path)
    assert image.shape[1] == 1400
    assert path.stat().st_size < 150_000
    used = np.unique((255 * image[..., :3]).astype(int).reshape(-1, 3), axis=0)
    blue, orange = (0, 114, 178), (230, 159, 0)
    for colour in (blue, orange):
        assert np.abs(used - colour).sum(axis=1).min() < 60


def test_table_goes_to_the_screen(tmp_path, capsys):
    argv = [*TINY, "--solver", "newton", "--alpha", "0.1", "--out", str(tmp_path)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "Newton, all rows" in out
    assert "alpha = 0.1" in out
    assert str(tmp_path / "ijcnn1.json") in out


def test_quick_says_that_it_is_a_part(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(problems, "load", lambda name: tiny_set(20_001, 3))
    argv = ["--quick", "--dataset", "ijcnn1", "--solver", "newton"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    assert "20000 x 3 (a random part of the 20001 rows)" in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    problem = json.loads(path.read_text())["problem"]
    assert (problem["n"], problem["subset_of"]) == (20_000, 20_001)


def test_interrupt_keeps_what_was_measured(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(rivals, "fit", interrupt)
    argv = [*TINY, "--solver", "newton", "--solver", "sklearn-lbfgs"]
    assert main([*argv, "--out", str(tmp_path)]) == 130
    assert "Interrupted" in capsys.readouterr().out
    document = json.loads((tmp_path / "ijcnn1.json").read_text())
    assert not document["complete"]
    assert {row["solver"] for row in document["rows"]} == {"newton"}


def test_failure_of_a_rival_is_reported(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise ValueError("out of luck")

    monkeypatch.setattr(rivals, "fit", fail)
    argv = [*TINY, "--solver", "newton", "--solver", "sklearn-lbfgs"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    assert "sklearn lbfgs: failed: out of luck" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--solver", "nope"], "unknown solver 'nope'; allowed: all, auto,"),
        (["--dataset", "nope"], "unknown data set 'nope'; allowed: covtype.binary,"),
        (["--alpha", "0"], "must be a number > 0, got '0'"),
        (["--seed", "-1"], "must be an integer >= 0"),
        (["--repeats", "0"], "must be an integer >= 1, got '0'"),
        (["--nope"], "unrecognized arguments: --nope"),
    ],
)
def test_wrong_argument_is_one_line_and_code_2(argv, message, capsys, monkeypatch):
    monkeypatch.setattr(problems, "load", lambda name: pytest.fail("work was done"))
    with pytest.raises(SystemExit) as stop:
        main(argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def test_missing_data_are_one_line_and_code_1(tmp_path, capsys, monkeypatch):
    def refuse(name):
        raise FileNotFoundError(f"{name} is not here")

    monkeypatch.setattr(problems, "load", refuse)
    assert main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "python -m bench: covtype.binary is not here\n"


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "python -m bench --quick" in out
    for name in measure.SOLVERS:
        assert name in out


# --- levels --------------------------------------------------------------------------


def row(solver, kind, budget, seconds, suboptimality, seed=0, passes=None):
    return Row(
        solver, kind, seed, budget, seconds, 0.0, suboptimality, None, "DONE", passes
    )


def test_levels_of_a_trace_are_its_first_iterations_below():
    values = [1.0, 1e-2, 9e-4, 2e-3, 1e-6, 1e-8]
    rows = [
        row("auto", "trace", k, 0.5 * k, value, passes=2.0 * k)
        for k, value in enumerate(values)
    ]
    (record,) = summary.summarize(rows)
    assert [level["seconds"] for level in record["levels"]] == [1.0, 2.0, None]
    assert [level["passes"] for level in record["levels"]] == [4.0, 8.0, None]
    assert record["best"] == 1e-8


def test_trace_level_is_the_median_of_seeds():
    rows = [
        row("auto", "trace", 1, seconds, value, seed=seed, passes=1.0)
        for seed, seconds, value in [(0, 1.0, 1e-4), (1, 3.0, 1e-4), (2, 9.0, 0.5)]
    ]
    (record,) = summary.summarize(rows)
    assert record["levels"][0]["seconds"] == 3.0
    assert record["levels"][1]["seconds"] is None


def test_fit_level_needs_every_repetition_and_takes_the_fastest_budget():
    rows = [
        row("fit", "fit", 1, 1.0, 1e-4),
        row("fit", "fit", 1, 1.0, 1e-2, seed=1),  # the same budget, another seed
        row("fit", "fit", 2, 3.0, 1e-5),
        row("fit", "fit", 3, 2.0, 1e-5),
        row("sklearn-sag", "fit", 5, 8.0, 1e-5),
    ]
    ours_record, sag = summary.summarize(rows)
    level = ours_record["levels"][0]
    assert (level["seconds"], level["budget"]) == (2.0, 3)
    assert sag["levels"][0]["ratio"] == 4.0
    assert sag["levels"][1]["ratio"] is None
    assert sag["status"] == "stalled"


def test_table_shows_dashes_for_what_was_not_reached():
    records = summary.summarize([row("fit", "fit", 4, 1.5, 1e-5)])
    line = summary.table(records, {}).splitlines()[-1]
    assert " ".join(line.split()) == (
        "our default, fit() 1.50' -- -- 1 -- -- 4 -- -- 1e-5 stalled"
    )


@pytest.mark.parametrize("needed", [1, 2, 7, 90])
def test_sweep_finds_the_smallest_budget(objective, reference, needed):
    at_zero, minimizer = np.zeros(5), ours.fit(objective, 1e-12, 0).w
    rows = []

    def fit(k, seed):
        return Outcome(1e-3 * k, minimizer if k >= needed else at_zero, False, "DONE")

    sweep = Sweep(
        "sklearn-lbfgs",
        fit,
        ITERATIONS,
        budget=lambda k: {"max_iter": k},
        parameters={},
        proportional=True,
        cap=100.0,
        seed=0,
        repeats=3,
    )
    sweep(objective, reference, rows.append)
    found = sweep.smallest(LEVELS[0])
    assert needed <= found <= needed + needed // 20 + 1
    assert sum(r.budget == found for r in rows) == 3


def test_sweep_goes_on_where_another_seed_fails(objective, reference):
    at_zero, minimizer = np.zeros(5), ours.fit(objective, 1e-12, 0).w

    def fit(k, seed):
        return Outcome(1.0, minimizer if k >= 4 + seed else at_zero, False, "DONE")

    sweep = Sweep(
        "fit",
        fit,
        range(2, 50, 2),
        budget=lambda k: {"tol": float(k)},
        parameters={},
        proportional=False,
        cap=100.0,
        seed=0,
        repeats=3,
    )
    sweep(objective, reference, lambda row: None)
    assert sweep.smallest(LEVELS[-1]) == 6
    assert len(sweep.seconds[6]) == 3


def test_sweep_respects_its_time(objective, reference):
    rows = []

    def fit(k, seed):
        return Outcome(1.0 * k, np.zeros(5), False, "DONE")

    sweep = Sweep(
        "sklearn-sag",
        fit,
        ITERATIONS,
        budget=lambda k: {"max_iter": k},
        parameters={},
        proportional=True,
        cap=30.0,
        seed=0,
        repeats=3,
    )
    sweep(objective, reference, rows.append)
    assert sum(r.seconds for r in rows) <= 45.0
    assert max(r.seconds for r in rows) <= 10.0


# --- parts ---------------------------------------------------------------------------


@pytest.mark.parametrize("solver", rivals.RIVALS)
def test_rival_reaches_our_minimizer(objective, solver):
    w = ours.fit(objective, 1e-12, 0).w
    outcome = rivals.fit(solver, objective, 1e-12 if solver == "liblinear" else 2000, 0)
    assert np.abs(outcome.w - w).max() < 1e-6


def test_rival_within_its_budget_does_not_warn(objective):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = rivals.fit("lbfgs", objective, 1, 0)
    assert not outcome.stopped


def test_objective_agrees_with_the_definition(objective):
    w = np.linspace(-1.0, 1.0, 5)
    losses = np.log(1.0 + np.exp(-objective.y * (objective.X @ w)))
    value, norm = objective.evaluate(w)
    assert value == pytest.approx(losses.mean() + 0.005 * w @ w, rel=1e-14)
    steps = 1e-6 * np.eye(5)
    numeric = [
        (objective.evaluate(w + h)[0] - objective.evaluate(w - h)[0]) / 2e-6
        for h in steps
    ]
    assert norm == pytest.approx(np.linalg.norm(numeric), rel=1e-7)


def test_objective_is_finite_for_huge_predictions(objective):
    value, norm = objective.evaluate(np.full(5, 1e4))
    assert np.isfinite([value, norm]).all()


def test_sparse_rows_give_the_same_objective(objective):
    sparse = Objective(
        "tiny", scipy.sparse.csr_matrix(objective.X), objective.y, 0.01, 300
    )
    w = np.linspace(-1.0, 1.0, 5)
    assert sparse.evaluate(w) == pytest.approx(objective.evaluate(w), rel=1e-13)


def test_continuous_columns_are_standardised(monkeypatch):
    X, y = tiny_set(200, 12)
    monkeypatch.setattr(problems, "load", lambda name: (5.0 + 3.0 * X, y))
    scaled = problems.load_objective("covtype.binary", None).X
    np.testing.assert_allclose(scaled[:, :10].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scaled[:, :10].std(axis=0), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(scaled[:, 10:], 5.0 + 3.0 * X[:, 10:])


def test_suboptimality_is_one_at_zero_and_never_negative():
    reference = Reference(2.0, 4.0, ())
    assert reference.suboptimality(4.0) == 1.0
    assert reference.suboptimality(2.0 - 1e-16) == 0.0
    assert reference.suboptimality(np.nan) == np.inf


def test_start_on_samples_has_its_value_at_zero(monkeypatch):
    X, y = tiny_set(20_000, 3)
    tall = Objective("tall", X, y, 1e-4, len(y))
    reference = problems.find_reference(tall)
    rows = []
    ours.trace("auto", tall, reference, seed=0, max_time=9.0, emit=rows.append)
    assert rows[0].suboptimality == pytest.approx(1.0)
    assert all(np.isfinite(r.value) for r in rows)


def test_value_that_is_no_number_does_not_stop_the_files(tmp_path, monkeypatch):
    def lost(*_):
        return Outcome(0.1, np.full(5, np.nan), True, "DONE")

    monkeypatch.setattr(rivals, "fit", lost)
    argv = [*TINY, "--solver", "newton", "--solver", "sklearn-lbfgs"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "ijcnn1.json").read_text())
    (record,) = [r for r in document["summary"] if r["solver"] == "sklearn-lbfgs"]
    assert record["best"] is None
    assert record["levels"][0]["seconds"] is None


def test_figure_of_a_part_of_the_solvers(tmp_path, document):
    rows = [r for r in document["rows"] if r["solver"] == "sklearn-lbfgs"]
    plot.draw({**document, "rows": rows}, tmp_path / "part.png")
    assert matplotlib.image.imread(tmp_path / "part.png").std() > 0.01


# --- the other commands --------------------------------------------------------------


def test_read_sum_is_the_sum():
    X = np.arange(3000.0).reshape(1000, 3)
    assert limits.read_sum(X) == X.sum()
    assert limits.read_sum(X.astype(np.float32)) == pytest.approx(X.sum(), rel=1e-4)


def test_numpy_pass_of_limits_agrees_with_the_objective(objective):
    w = np.linspace(-1.0, 1.0, 5)
    value, gradient = limits.numpy_pass(objective.X, objective.y, w)
    expected, norm = objective.evaluate(w)
    assert value + 0.005 * w @ w == pytest.approx(expected, rel=1e-14)
    assert np.linalg.norm(gradient + 0.01 * w) == pytest.approx(norm, rel=1e-12)


def test_limits_prints_ratios(capsys):
    assert main(["limits", "--rows", "2000", "--columns", "4", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("fused / sum") == 2
    assert "float32" in out


def test_gpu_says_that_nothing_was_measured(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "unavailable", lambda: "no driver")
    assert main(["gpu"]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "python -m bench gpu: not measured, no driver\n")


@pytest.mark.parametrize(
    "arguments", [["--repeats", "0"], ["--repeats"], ["--sizes", "3"], ["covtype"]]
)
def test_gpu_refuses_other_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["gpu", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("python -m bench gpu: ")


def test_libraries_that_cannot_compute_are_told_from_those_that_can(monkeypatch):
    def broken():
        raise RuntimeError("no driver")

    for count, told in ((lambda: 0, "torch sees no device"), (broken, "no driver")):
        torch = SimpleNamespace(cuda=SimpleNamespace(device_count=count))
        monkeypatch.setitem(sys.modules, "torch", torch)
        found, why_not = gpu.library("torch")
        assert found is None
        assert told in why_not
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1))
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert gpu.library("cupy") == (cupy, "")
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert gpu.library("cupy") == (None, "cupy is not installed")


def test_objective_of_the_gpu_comparison_is_ours(objective, rng):
    w = rng.standard_normal(objective.d) / 10
    value = gpu.objective(objective.X, objective.y, w[:, None], objective.alpha)
    assert value == pytest.approx(objective.evaluate(w)[0], rel=1e-12)
    # Two classes of softmax with opposite coefficients are the logistic loss.
    W = np.column_stack([-0.5 * w, 0.5 * w])
    classes = (objective.y > 0).astype(np.int64)
    value = gpu.objective(objective.X, classes, W, 2 * objective.alpha)
    assert value == pytest.approx(objective.evaluate(w)[0], rel=1e-12)


def test_newton_of_the_gpu_comparison_reaches_levels(objective, reference):
    F = reference.value
    run = (np, objective.X, objective.y, objective.alpha)
    assert gpu.newton(*run, F + 1e-9) > 0.0
    assert gpu.newton(*run, F - 1e-9) is None


def test_startup_reads_the_number_that_a_process_prints():
    assert startup.seconds_of("print(0.25)") == 0.25


def test_startup_prints_medians(capsys, monkeypatch):
    def pretend(code, cache=None):
        return 3.0 if "subsampled_newton\n" in code else 2.0

    monkeypatch.setattr(startup, "seconds_of", pretend)
    assert main(["startup", "--repeats", "1", "--cold", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[-2:] for line in lines]
    assert shown == [["2.00", "s"], ["3.00", "s"], ["2.00", "s"], ["2.00", "s"]]
