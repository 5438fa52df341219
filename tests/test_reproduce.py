"""The frame of the reproductions: keys, cache, verdict table, page, command."""

import json
import math
import types

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

from bench.__main__ import main
from bench.plot import LOOKS, MARKERS, look
from bench.reproduce import command, curves, levels, registry, report, store
from bench.reproduce.experiment import Claim, Scope, Task, Verdict
from bench.reproduce.store import Interrupted, Store, run_all
from bench.reproduce.traces import trace_rows
from subsampled_newton import LOGISTIC, LinearModel, SubsampledNewton, minimize

SCOPE = Scope(quick=False, seeds=3)
BASE = {"data": "a9a", "solver": "newton", "seed": 0, "budget": 1e8, "quick": False}


class Counting:
    """An experiment that counts its runs and may be interrupted."""

    name = "counting"
    title = "Counting"

    def __init__(self, fail_at=None, error=KeyboardInterrupt):
        self.ran = []
        self.fail_at, self.error = fail_at, error

    def tasks(self, scope):
        return [Task(self.name, {"seed": k, "power": 2}) for k in range(scope.seeds)]

    def run(self, task):
        seed = task.parameters["seed"]
        if len(self.ran) == self.fail_at:
            raise self.error
        self.ran.append(seed)
        return [{"x": k, "y": float(k**2) + seed} for k in range(3)]

    def claims(self, rows, scope):
        holds = len(rows) == 3 * scope.seeds
        return [
            Claim(
                "Y99",
                "a claim | with a bar, and words enough to need more than one line",
                "nowhere",
                "nine rows",
                f"{len(rows)} rows",
                Verdict.HOLDS if holds else Verdict.DOES_NOT_HOLD,
                "A remark that is longer than the table is wide, so that it has to be "
                "broken into lines like everything else that stands in the table.",
            )
        ]

    def figures(self, rows, scope):
        figure, axes = curves.panels(1)
        axes[0].plot(rows["x"], rows["y"])
        return {"counting-figure": figure}


# --- keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"data": "w8a"},
        {"solver": "lbfgs"},
        {"seed": 1},
        {"budget": 1.1e8},
        {"quick": True},
        {"rows": None},
    ],
)
def test_key_changes_with_any_parameter(change):
    assert Task("e", BASE | change).key() != Task("e", BASE).key()


def test_key_changes_when_a_parameter_goes():
    less = {name: value for name, value in BASE.items() if name != "budget"}
    assert Task("e", less).key() != Task("e", BASE).key()


def test_key_changes_with_the_experiment():
    assert Task("f", BASE).key() != Task("e", BASE).key()


def test_key_does_not_depend_on_the_order():
    turned = dict(reversed(BASE.items()))
    assert Task("e", turned).key() == Task("e", BASE).key()


def test_key_changes_with_the_package(monkeypatch):
    before = Task("e", BASE).key()
    monkeypatch.setattr("subsampled_newton.__version__", "9.9.9")
    assert Task("e", BASE).key() != before


@pytest.mark.parametrize("package", ["numpy", "numba"])
def test_key_changes_with_the_libraries(monkeypatch, package):
    before = Task("e", BASE).key()
    monkeypatch.setattr(
        "bench.reproduce.experiment.version",
        lambda name: "9.9.9" if name == package else "1.0",
    )
    other = Task("e", BASE).key()
    monkeypatch.setattr("bench.reproduce.experiment.version", lambda name: "1.0")
    assert len({before, other, Task("e", BASE).key()}) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf, [1], {"a": 1}, np.float32(1)])
def test_parameters_are_json_scalars(value):
    with pytest.raises(ValueError, match="'odd' must be a JSON scalar"):
        Task("e", {"odd": value})


# --- store ----------------------------------------------------------------------------


def test_rows_come_back_as_they_were(tmp_path):
    task = Task("e", BASE)
    rows = [
        {"a": 1, "b": 0.1 + 0.2, "c": "x", "d": True, "e": None},
        {"a": np.int64(2), "b": np.float64(1e-300), "c": "é|,\n", "d": np.bool_(0)},
        {"a": 3, "b": -math.inf, "c": "", "d": False, "e": 5},
    ]
    Store(tmp_path).write(task, rows)
    found = Store(tmp_path).read(task)
    assert found == [
        rows[0],
        {"a": 2, "b": 1e-300, "c": "é|,\n", "d": False, "e": None},
        rows[2],
    ]
    assert type(found[1]["a"]) is int


def test_nan_comes_back(tmp_path):
    task = Task("e", BASE)
    (row,) = Store(tmp_path).write(task, [{"loss": math.nan}])
    assert math.isnan(row["loss"])


def test_a_row_of_arrays_is_refused(tmp_path):
    with pytest.raises(TypeError, match="plain scalars"):
        Store(tmp_path).write(Task("e", BASE), [{"w": np.ones(3)}])
    assert not list(tmp_path.iterdir())


def test_unknown_task_is_none(tmp_path):
    assert Store(tmp_path / "absent").read(Task("e", BASE)) is None


def spoil(text, how):
    document = json.loads(text)
    if how == "cut":
        return text[: len(text) // 2]
    if how == "empty":
        return ""
    if how == "row lost":
        document["rows"].pop()
    elif how == "value lost":
        document["rows"][0].pop()
    elif how == "other key":
        document["key"] = "0" * 64
    elif how == "list":
        document = [1, 2]
    return json.dumps(document)


@pytest.mark.parametrize(
    "how", ["cut", "empty", "row lost", "value lost", "other key", "list"]
)
def test_spoiled_file_is_computed_again(tmp_path, how):
    first = run_all(Counting(), SCOPE, tmp_path)
    path = Store(tmp_path / "cache").path(Counting().tasks(SCOPE)[1])
    path.write_text(spoil(path.read_text(), how))
    again = Counting()
    rows = run_all(again, SCOPE, tmp_path)
    assert again.ran == [1]
    pd.testing.assert_frame_equal(rows, first)


def test_bytes_that_are_no_text_are_computed_again(tmp_path):
    run_all(Counting(), SCOPE, tmp_path)
    path = Store(tmp_path / "cache").path(Counting().tasks(SCOPE)[2])
    path.write_bytes(b"\xff\xfe\x00")
    again = Counting()
    run_all(again, SCOPE, tmp_path)
    assert again.ran == [2]


def test_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def full_disk(self, target):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        Store(tmp_path).write(Task("e", BASE), [{"a": 1}])
    assert not list(tmp_path.iterdir())


def test_rows_have_the_parameters_of_their_task(tmp_path):
    rows = run_all(Counting(), SCOPE, tmp_path)
    assert list(rows["seed"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert set(rows["power"]) == {2}
    assert rows["y"].iloc[-1] == 6.0


def test_a_column_of_the_task_wins_over_its_parameter(tmp_path):
    experiment = Counting()
    experiment.run = lambda task: [{"power": 7}]
    assert list(run_all(experiment, SCOPE, tmp_path)["power"]) == [7, 7, 7]


def test_second_run_runs_nothing(tmp_path):
    first = run_all(Counting(), SCOPE, tmp_path)
    again, lines = Counting(), []
    pd.testing.assert_frame_equal(
        run_all(again, SCOPE, tmp_path, log=lines.append), first
    )
    assert again.ran == []
    assert lines == ["3 of 3 tasks are known from an earlier run."]


def test_more_seeds_run_only_the_new_ones(tmp_path):
    run_all(Counting(), SCOPE, tmp_path)
    more = Counting()
    assert len(run_all(more, Scope(False, 5), tmp_path)) == 15
    assert more.ran == [3, 4]


def test_interrupted_run_goes_on_with_what_is_missing(tmp_path):
    stopped = Counting(fail_at=2)
    with pytest.raises(Interrupted, match=r"2 of 3 tasks .* goes on from there"):
        run_all(stopped, SCOPE, tmp_path)
    resumed = Counting()
    rows = run_all(resumed, SCOPE, tmp_path)
    assert (stopped.ran, resumed.ran) == ([0, 1], [2])
    pd.testing.assert_frame_equal(rows, run_all(Counting(), SCOPE, tmp_path / "new"))


def test_a_failing_task_is_named(tmp_path):
    experiment = Counting(fail_at=1, error=ValueError("bad"))
    with pytest.raises(ValueError, match="bad") as caught:
        run_all(experiment, SCOPE, tmp_path)
    assert "'seed': 1" in caught.value.__notes__[0]


def test_equal_tasks_are_refused(tmp_path):
    experiment = Counting()
    experiment.tasks = lambda scope: [Task("e", BASE), Task("e", BASE)]
    with pytest.raises(ValueError, match="two tasks have the same parameters"):
        run_all(experiment, SCOPE, tmp_path)


# --- table and page -------------------------------------------------------------------


@pytest.fixture
def record(tmp_path):
    experiment = Counting()
    rows = run_all(experiment, SCOPE, tmp_path)
    record = report.judge(experiment, rows, SCOPE, 1.0)
    report.write(experiment, rows, record, SCOPE, tmp_path)
    return record


def test_table_is_aligned_and_not_too_wide(record):
    record["claims"][0]["verdict"] = "does not hold"
    lines = report.table(record).splitlines()
    assert max(map(len, lines)) <= 100
    titles = lines[0]
    for title, cell in (
        ("rows", "Y99"),
        ("claim", "a claim | with"),
        ("published", "nine rows"),
        ("measured", "9 rows"),
        ("verdict", "does not hold"),
    ):
        assert lines[2][titles.index(title) :].startswith(cell)


def test_table_has_all_words(record):
    words = " ".join(report.table(record).split())
    assert "more than one line" in words
    assert "everything else that stands in the table." in words


def test_record_tells_scope_machine_and_versions(record):
    assert record["seeds"] == 3
    assert {"cpu", "cores", "memory_gib"} <= record["machine"].keys()
    assert {"numpy", "numba", "subsampled_newton"} <= record["versions"].keys()
    assert record["figures"] == ["counting-figure"]


def test_files_of_an_experiment(record, tmp_path):
    rows = pd.read_csv(tmp_path / "counting.csv")
    assert len(rows) == 9
    assert json.loads((tmp_path / "counting-claims.json").read_text()) == record
    assert (tmp_path / "counting-figure.png").stat().st_size < 150_000


def test_page_shows_every_claim_with_its_verdict(record):
    failed = json.loads(json.dumps(record))
    failed["name"], failed["title"] = "other", "Other"
    failed["claims"][0]["verdict"] = "does not hold"
    text = report.page([failed, record])
    assert "Claims: 1 holds, 1 does not hold, 0 not decidable." in text
    assert text.index("## Counting") < text.index("## Other")
    assert "a claim \\| with a bar" in text
    assert "**does not hold**" in text
    assert text.count("- Other. a claim") == 1
    assert "- Counting. a claim" not in text
    assert "![counting-figure](results/counting-figure.png)" in text


def test_publishing_one_experiment_keeps_the_others(record, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "PAGE", tmp_path / "RESULTS.md")
    report.publish(record, tmp_path)
    other = record | {"name": "other", "title": "Other", "figures": []}
    (tmp_path / "other-claims.json").write_text(json.dumps(other))
    report.publish(other, tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "## Counting" in text
    assert "## Other" in text
    assert (tmp_path / "results" / "counting-figure.png").exists()


# --- command --------------------------------------------------------------------------


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Two experiments in place of the real ones, and folders of the test."""
    one, two = Counting(), Counting()
    two.name = two.title = "second"
    found = {"counting": one, "second": two}
    monkeypatch.setattr(registry, "NAMES", tuple(found))
    monkeypatch.setattr(registry, "experiment", found.__getitem__)
    monkeypatch.setattr(command, "FOLDER", tmp_path / "out")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "PAGE", tmp_path / "RESULTS.md")
    return one, two


def test_full_run_writes_the_page(fakes, tmp_path, capsys):
    assert main(["reproduce", "all"]) == 0
    assert [len(e.ran) for e in fakes] == [5, 5]
    text = capsys.readouterr().out
    assert "15 rows" in text
    assert "does not hold" not in text
    assert (tmp_path / "RESULTS.md").read_text().count("## ") == 2
    assert (tmp_path / "out" / "reproduce" / "second.csv").exists()


def test_quick_run_leaves_the_page_alone(fakes, tmp_path):
    assert main(["reproduce", "counting", "--quick"]) == 0
    assert fakes[0].ran == [0]
    assert (tmp_path / "out" / "reproduce-quick" / "counting.csv").exists()
    assert not (tmp_path / "RESULTS.md").exists()


def test_run_in_another_folder_leaves_the_page_alone(fakes, tmp_path):
    out = tmp_path / "mine"
    assert main(["reproduce", "counting", "--seeds", "2", "--out", str(out)]) == 0
    assert fakes[0].ran == [0, 1]
    assert (out / "counting-claims.json").exists()
    assert not (tmp_path / "RESULTS.md").exists()


def test_ctrl_c_tells_how_to_go_on(fakes, capsys):
    fakes[0].fail_at = 1
    assert main(["reproduce", "all", "--quick", "--seeds", "3"]) == 130
    assert "1 of 3 tasks of counting are kept" in capsys.readouterr().out
    assert fakes[1].ran == []
    fakes[0].fail_at = None
    assert main(["reproduce", "all", "--quick", "--seeds", "3"]) == 0
    assert fakes[0].ran == [0, 1, 2]


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["counting", "--seeds", "0"], ["--quick"]]
)
def test_wrong_arguments_are_one_line(fakes, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["reproduce", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_folder_that_cannot_be_made_is_one_line(fakes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "out")
    assert main(["reproduce", "counting", "--out", out]) == 1
    assert capsys.readouterr().err.startswith("python -m bench reproduce: ")


def test_every_registered_experiment_keeps_the_protocol():
    for name in registry.NAMES:
        experiment = registry.experiment(name)
        assert experiment.name == name
        assert experiment.title
        tasks = experiment.tasks(Scope(quick=True, seeds=1))
        assert tasks
        assert len({task.key() for task in tasks}) == len(tasks)
        for task in tasks:
            assert task.experiment == name


# --- traces, levels, curves -----------------------------------------------------------


def test_trace_rows_are_the_trace():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    y = np.where(X[:, 0] + rng.standard_normal(60) > 0.0, 1.0, -1.0)
    result = minimize(LinearModel(LOGISTIC, X, y, l2=0.1), SubsampledNewton(), seed=0)
    rows = trace_rows(result)
    assert [row["iteration"] for row in rows] == list(range(result.n_iter + 1))
    assert [row["props"] for row in rows] == result.trace.props.tolist()
    assert rows[-1]["loss"] == result.value
    assert {row["status"] for row in rows} == {"CONVERGED"}
    assert all(type(v) in (int, float, str) for row in rows for v in row.values())


def planted(solver, seed, losses, per_step, data="set"):
    return pd.DataFrame(
        {
            "data": data,
            "solver": solver,
            "seed": seed,
            "loss": losses,
            "props": [1.0 + per_step * k for k in range(len(losses))],
        }
    )


def test_gap_is_one_at_the_start_and_zero_at_the_best():
    rows = pd.concat(
        [planted("a", 0, [5.0, 3.0, 1.0], 1), planted("b", 0, [9, 1.8], 1)]
    )
    gap = levels.with_gap(rows)["gap"].tolist()
    assert gap == pytest.approx([1.0, 0.5, 0.0, 1.0, 0.1])


def test_gap_is_relative_to_the_best_of_the_same_set():
    rows = pd.concat(
        [planted("a", 0, [2.0, 1.0], 1, "x"), planted("a", 0, [4.0, 3.0], 1, "y")]
    )
    assert levels.with_gap(rows)["gap"].tolist() == [1.0, 0.0, 1.0, 0.0]


def test_reach_is_the_first_time_at_a_level():
    rows = levels.with_gap(
        pd.concat(
            [
                planted("a", 0, [1.0, 0.04, 0.2, 0.0], 10),
                planted("a", 1, [1.0, 0.5, 0.4, 0.3], 10),
            ]
        )
    )
    assert levels.reach(rows, 0.05) == {"a": [11.0, math.inf]}


def test_final_gap_is_that_of_the_last_row():
    rows = pd.concat(
        [planted("a", 0, [5.0, 1.0, 3.0], 1), planted("a", 1, [5, 2, math.nan], 1)]
    )
    assert levels.final_gaps(levels.with_gap(rows)) == {"a": [0.5, math.inf]}


@pytest.mark.parametrize(
    ("needed", "spent", "verdict"),
    [
        ({"a": [1, 2, 9], "b": [3, 3, 1]}, 10, "holds"),
        ({"a": [3, 4, 9], "b": [3, 3, 1]}, 10, "does not hold"),
        ({"a": [3], "b": [3]}, 10, "does not hold"),
        ({"a": [3], "b": [math.inf]}, 10, "holds"),
        ({"a": [11], "b": [math.inf]}, 10, "not decidable"),
        ({"a": [math.inf], "b": [3]}, 10, "does not hold"),
        ({"a": [math.inf], "b": [11]}, 10, "not decidable"),
        ({"a": [math.inf], "b": [math.inf]}, 10, "not decidable"),
        ({"a": [1]}, 10, "not decidable"),
    ],
)
def test_ordering(needed, spent, verdict):
    found = levels.ordering(needed, {"a": spent, "b": spent}, ("a", "b"))
    assert found.value == verdict


def test_ordering_of_three_needs_both_pairs():
    needed = {"a": [1.0], "b": [math.inf], "c": [2.0]}
    spent = dict.fromkeys("abc", 10.0)
    assert levels.ordering(needed, spent, "abc") is Verdict.DOES_NOT_HOLD
    assert levels.ordering(needed, spent, "acb") is Verdict.HOLDS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.inf, "not reached"),
        (0.0, "0"),
        (3.14159, "3.14"),
        (1234.5, "1234"),
        (2e-10, "2.0e-10"),
        (3e8, "3.0e8"),
        (math.nan, "--"),
    ],
)
def test_numbers_for_people(value, text):
    assert levels.number(value) == text


def test_spread_shows_median_and_range():
    assert levels.spread([3.0, 1.0, 2.0]) == "2 (1 to 3)"
    assert levels.spread([2.0, 2.0]) == "2"


def test_curve_is_the_median_of_what_was_reached():
    rows = pd.concat(
        [planted("newton", k, [4.0, 2.0 + k, 1.0 + k], 10) for k in range(3)]
    )
    axes = matplotlib.figure.Figure().subplots()
    curves.median_curve(axes, rows, "newton", label="Newton")
    (line,), (band,) = axes.lines, axes.collections
    x, y = line.get_data()
    assert (x[0], x[-1]) == pytest.approx((1.0, 21.0))
    assert (y[0], y[-1]) == (4.0, 2.0)
    assert y[np.searchsorted(x, 11.0) + 1] == 3.0
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 4.0)


def test_curve_without_runs_is_not_drawn():
    axes = matplotlib.figure.Figure().subplots()
    curves.median_curve(axes, planted("newton", 0, [1.0], 1), "lbfgs", label="L-BFGS")
    assert not axes.lines


def test_looks_are_told_apart():
    shown = {}
    for name in MARKERS:
        style = look(name)
        key = (style["color"], str(style.get("linestyle")), style["marker"])
        assert shown.setdefault(key, name) == name
        assert LOOKS[name]["color"] == style["color"]


def test_command_without_pandas_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "bench.reproduce.store", None)
    monkeypatch.delattr("bench.reproduce.store")
    assert command.main(["figure1"]) == 1
    assert 'pip install ".[bench]"' in capsys.readouterr().err
    assert isinstance(store, types.ModuleType)
