"""The command ``python -m bench peers``: planted rows, fake rivals, tiny problems."""

import itertools
import json
import os
import time
from functools import partial

import matplotlib.image
import mpmath
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from bench.__main__ import main
from bench.peers import command, objectives, problems, profile, report, solvers, table
from bench.peers.contest import Limits, Outcomes, compete
from bench.peers.objectives import LeastSquares, Sigmoid, Softmax
from bench.peers.problems import Task
from bench.peers.solvers import OURS, RIVALS, Rival
from bench.peers.worker import RivalError, Worker
from bench.problems import Objective
from bench.rows import LEVELS, Row
from bench.sweep import Outcome

LIMITS = Limits(repeats=3, cap=5.0, quick=False)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("bench.sweep.time.sleep", lambda seconds: None)


def data(n=300, d=5, classes=2, seed=3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    scores = X @ rng.standard_normal((d, classes)) + rng.gumbel(size=(n, classes))
    codes = scores.argmax(axis=1)
    return X, (2.0 * codes - 1.0 if classes == 2 else codes.astype(float))


def task(kind, monkeypatch):
    """A tiny problem of a kind, with the reference that the command would find."""
    X, y = data(classes=4 if kind == "multinomial" else 2)
    if kind == "least squares":
        exact = objectives.least_squares_solution(X, y)
        objective = LeastSquares("tiny", X, y, 0.0, len(y), exact)
    else:
        form = {"multinomial": Softmax, "nls": Sigmoid}.get(kind, Objective)
        objective = form("tiny", X, y, 0.01, len(y))
    last = {"nls": 1e-8, "least squares": 1e-9}.get(kind, LEVELS[-1])
    spec = problems._Spec(kind, lambda rows: objective, (1e-3, 1e-6, last))
    monkeypatch.setitem(problems.PROBLEMS, "tiny", spec)
    return problems.load_task("tiny", quick=False)


@pytest.fixture
def logistic(monkeypatch):
    return task("logistic", monkeypatch)


# --- planted rows: ratios and profile ------------------------------------------------


def row(solver, budget, seconds, accuracy, passes=None):
    return Row(solver, "fit", 0, budget, seconds, 0.0, accuracy, None, "", passes)


PLANTED = [
    row(OURS, 1e-2, 1.0, 1e-4, passes=3.0),
    row(OURS, 1e-2, 3.0, 1e-4, passes=3.0),
    row(OURS, 1e-2, 2.0, 1e-4, passes=4.0),
    row(OURS, 1e-4, 4.0, 1e-7, passes=7.0),
    row("scipy trust-ncg", 3, 8.0, 1e-5),
    row("scipy L-BFGS-B", 9, 6.0, 1e-3),
    row("glum irls-ls", 7, 1.0, 1e-8),
    row("skglm LBFGS", 7, 0.1, 1e-2),
]


def test_ratio_is_the_best_rival_over_ours():
    first, second, third = table.judge(PLANTED[:6], LEVELS)["levels"]
    assert (first["ours"], first["rival"], first["ratio"]) == (2.0, 6.0, 3.0)
    assert first["best_rival"] == "scipy L-BFGS-B"
    assert first["passes"] == 3.0
    assert (second["ours"], second["best_rival"], second["ratio"]) == (4.0, None, None)
    assert second["passes"] == 7.0
    assert (third["ours"], third["rival"]) == (None, None)


def test_lost_cases_are_shown_like_the_others():
    verdict = table.judge(PLANTED, LEVELS)
    assert [v["ratio"] for v in verdict["levels"]] == [0.5, 0.25, None]
    text = table.table(verdict, "suboptimality", {"x": "out of luck"}, {"y": "not y"})
    lines = {line[:36].strip(): line[36:].split() for line in text.splitlines()}
    assert lines["best rival / ours"] == ["0.50", "0.25", "--"]
    assert lines["passes of ours"] == ["3.0", "7.0", "--"]
    assert lines["glum irls-ls"] == ["1'", "1'", "--", "7", "7", "--", "1e-8"]
    assert lines["skglm LBFGS"] == ["--"] * 6 + ["1e-2"]
    assert "best rival to 1e-3: glum irls-ls" in text
    assert "x: failed: out of luck" in text
    assert "y: not y" in text


def test_without_our_rows_there_is_still_a_table():
    verdict = table.judge(PLANTED[4:], LEVELS)
    assert verdict["levels"][0]["ours"] is None
    assert verdict["levels"][0]["best_rival"] == "glum irls-ls"
    assert "--" in table.table(verdict, "", {}, {})


def test_profile_of_dolan_and_more():
    cases = [
        {"ours": 1.0, "glum": 2.0, "skglm": None},
        {"ours": 6.0, "glum": 2.0},
        {"ours": 5.0, "glum": None, "skglm": 20.0},
        {"ours": None, "glum": None},  # nobody: left out
    ]
    found = profile.ratios(cases)
    np.testing.assert_array_equal(found["ours"], [1.0, 3.0, 1.0])
    np.testing.assert_array_equal(found["glum"], [2.0, 1.0, np.inf])
    np.testing.assert_array_equal(found["skglm"], [np.inf, np.inf, 4.0])
    at = np.array([1.0, 2.0, 2.9, 3.0, 1e9])
    np.testing.assert_allclose(
        3 * profile.fractions(found["ours"], at), [2, 2, 2, 3, 3]
    )
    np.testing.assert_allclose(
        3 * profile.fractions(found["glum"], at), [1, 2, 2, 2, 2]
    )


def test_figure_shows_every_package(tmp_path):
    case = {name: 1.0 + k for k, name in enumerate(profile.LOOKS)}
    assert profile.draw([case], tmp_path / "all.png")
    image = matplotlib.image.imread(tmp_path / "all.png")[..., :3]
    used = np.unique((255 * image).astype(int).reshape(-1, 3), axis=0)
    for colour in ((0, 114, 178), (213, 94, 0)):  # ours, snapml
        assert np.abs(used - colour).sum(axis=1).min() < 60
    assert not profile.draw([{"ours": None}], tmp_path / "none.png")
    assert set(profile.LOOKS) == {OURS, *solvers.PACKAGES}


def test_package_counts_with_its_fastest_solver():
    levels = LEVELS[:2]
    summary = table.judge(PLANTED, levels)
    document = {"problems": [{"summary": summary, "levels": levels}]}
    first, second = report.cases(document)
    assert first == {"ours": 2.0, "scipy": 6.0, "glum": 1.0, "skglm": None}
    assert second == {"ours": 4.0, "scipy": None, "glum": 1.0, "skglm": None}


# --- rivals that fail, rounds --------------------------------------------------------


def abort(objective, budget, seed, threads):
    os.abort()


def stumble(objective, budget, seed, threads):
    raise ValueError(f"no {objective.n} rows\nmore")


def dawdle(seconds, objective, budget, seed, threads):
    time.sleep(seconds)
    return Outcome(seconds, np.zeros(objective.d), False, str(os.getpid()))


def test_rival_that_aborts_is_reported_and_the_rest_goes_on(logistic):
    lbfgs = next(r for r in RIVALS if r.name == "scipy L-BFGS-B")
    kinds = ("logistic",)
    rivals = [
        Rival("snapml", "dual", kinds, abort, isolated=True),
        Rival("snapml", "primal", kinds, stumble, isolated=True),
        Rival("scikit-learn", "sag", kinds, stumble),
        Rival("snapml", "third", kinds, lbfgs.fit, isolated=True, threaded=False),
        lbfgs,
    ]
    found = Outcomes()
    workers = {}
    try:
        compete(logistic, rivals, LIMITS, found, workers)
    finally:
        for worker in workers.values():
            worker.close()
    assert list(workers) == ["snapml"]
    assert set(found.failures) == {"snapml dual", "snapml primal", "scikit-learn sag"}
    assert "SIGABRT" in found.failures["snapml dual"]
    # The process of the package was started again for its second solver.
    assert found.failures["snapml primal"] == "ValueError: no 100 rows"
    assert found.failures["scikit-learn sag"] == "ValueError: no 100 rows"
    assert {r.solver for r in found.rows} == {OURS, "snapml third", "scipy L-BFGS-B"}
    levels = table.judge(found.rows, LEVELS)["solvers"]["snapml third"]["levels"]
    assert all(level["runs"] == 3 for level in levels)


def test_worker_that_does_not_answer_is_ended(logistic):
    worker = Worker(patience=100.0)
    try:
        first = worker.fit(partial(dawdle, 0.0), logistic.objective, 1, 0, None)
        assert first.status != str(os.getpid())
        worker.patience = 0.2
        with pytest.raises(RivalError, match=r"no answer in 0 s"):
            worker.fit(partial(dawdle, 60.0), logistic.objective, 1, 0, None)
        assert worker._process is None
    finally:
        worker.close()
    assert not worker._log.exists()


def test_repetitions_go_round_the_solvers(logistic):
    _, y = data()
    best = np.linalg.lstsq(logistic.objective.X, y)[0]  # only its time matters

    def fit(name, objective, budget, seed, threads):
        calls.append((name, seed, threads))
        return Outcome(0.01, best, True, "")

    calls = []
    rivals = [
        Rival("glum", name, ("logistic",), partial(fit, name), "none", threaded=False)
        for name in ("a", "b")
    ]
    easy = Task("", "logistic", logistic.objective, Easy(), LEVELS, "", "")
    compete(easy, rivals, LIMITS, Outcomes(), {})
    # Each: a call to load, a search of one fit; then in turns, with other seeds.
    assert [c[:2] for c in calls] == [
        *[(name, 0) for name in "aabb"],
        *itertools.product("ab", [1]),
        *itertools.product("ab", [2]),
    ]


class Easy:
    """A reference that everything reaches."""

    def suboptimality(self, value):
        return 0.0


class Planted(Objective):
    def _evaluate(self, w):
        return 10.0 ** -w[0], 0.0


def test_search_ends_at_the_last_level_of_the_problem():
    def fit(objective, budget, seed, threads):
        used.append(budget)
        return Outcome(0.01, np.full(5, budget), False, "")

    used = []
    X, y = data()
    planted = Planted("", X, y, 0.01, len(y))
    exact = objectives.Absolute(0.0, 1.0, ())
    short = Task("", "logistic", planted, exact, (1e-2, 1e-4), "", "")
    rival = Rival("glum", "a", ("logistic",), fit, threaded=False)
    found = Outcomes()
    compete(short, [rival], LIMITS, found, {})
    assert max(used) == 4
    rows = [r for r in found.rows if r.solver == "glum a"]
    levels = table.judge(rows, short.levels)["solvers"]["glum a"]["levels"]
    assert [(level["budget"], level["runs"]) for level in levels] == [(2, 3), (4, 3)]


def test_rival_gets_the_better_number_of_threads(logistic):
    def fit(objective, budget, seed, threads):
        used.append(threads)
        return Outcome(0.1 if threads == 1 else 0.2, np.zeros(objective.d), True, "")

    used = []
    found = Outcomes()
    compete(logistic, [Rival("glum", "a", ("logistic",), fit)], LIMITS, found, {})
    assert found.threads == {"glum a": 1}
    assert used[-1] == 1


# --- the calls are right -------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of other packages, when they are imported
@pytest.mark.parametrize(
    ("rival", "kind"),
    [
        pytest.param(r, kind, id=f"{r.name}-{kind}".replace(" ", "-"))
        for r in RIVALS
        for kind in r.kinds
    ],
)
def test_rival_solves_our_problem(rival, kind, monkeypatch):
    if solvers.installed(rival.package) is None:
        pytest.skip(f"{rival.package} is not installed")
    tiny = task(kind, monkeypatch)
    budget = 1e-12 if rival.budget == "tol" else 2000
    outcome = rival.fit(tiny.objective, budget, 0, None)
    value, _ = tiny.objective.evaluate(outcome.w)
    # SciPy's Newton-CG ends where its line search finds nothing below rounding.
    level = 1e-6 if rival.solver == "Newton-CG" else tiny.levels[-1]
    assert tiny.reference.suboptimality(value) <= level
    assert outcome.seconds > 0.0


@pytest.mark.parametrize("kind", ["logistic", "multinomial", "least squares", "nls"])
def test_we_solve_it_and_count_passes(kind, monkeypatch):
    tiny = task(kind, monkeypatch)
    outcome = solvers.our_fit(kind, tiny.objective, 1e-9, 0)
    value, _ = tiny.objective.evaluate(outcome.w)
    assert tiny.reference.suboptimality(value) <= tiny.levels[-1]
    assert outcome.passes > 0.0


def test_softmax_agrees_with_the_definition():
    X, y = data(n=50, classes=4)
    objective = Softmax("", X, y, 0.3, 50)
    w = np.random.default_rng(0).standard_normal(20)

    def value(w):
        z = X @ w.reshape(4, 5).T
        own = z[np.arange(50), y.astype(int)]
        return np.mean(np.log(np.exp(z).sum(axis=1)) - own) + 0.15 * w @ w

    found, norm = objective.evaluate(w)
    assert found == pytest.approx(value(w), rel=1e-14)
    gradient = approx_fprime(w, value)
    assert norm == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
    objective_in_blocks = objective.evaluate(w)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "BLOCK", 7)
        assert objective.evaluate(w) == pytest.approx(objective_in_blocks, rel=1e-13)


@pytest.mark.parametrize("form", [Objective, Sigmoid])
def test_derivatives_for_scipy(form):
    X, y = data(n=50)
    objective = form("", X, y, 0.3, 50)
    w, v = np.random.default_rng(0).standard_normal((2, 5))
    value, gradient = objectives.value_and_gradient(objective, w)
    numeric = approx_fprime(w, lambda u: objectives.value_and_gradient(objective, u)[0])
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-7)
    D = objectives.curvatures(objective)
    product = X.T @ (D(w) * (X @ v)) / 50 + 0.3 * v
    ends = [
        objectives.value_and_gradient(objective, w + h * v)[1] for h in (1e-5, -1e-5)
    ]
    np.testing.assert_allclose(product, (ends[0] - ends[1]) / 2e-5, rtol=1e-6)
    assert not np.array_equal(D(w), D(v))
    if form is Sigmoid:
        p = 1.0 / (1.0 + np.exp(-X @ w))
        expected = np.mean((p - (y > 0)) ** 2) + 0.15 * w @ w
        assert value == pytest.approx(expected, rel=1e-14)


def test_another_stationary_point_does_not_count():
    X, y = data(n=50)
    objective = Sigmoid("", X, y, 0.01, 50, highest=0.1)
    assert objective.evaluate(np.zeros(5))[0] == np.inf


def test_least_squares_reference_is_exact():
    if np.finfo(np.longdouble).eps == np.finfo(float).eps:
        pytest.skip("no extended precision here")
    X, y = problems.tall(60, 5, kappa=1e4)
    Q = np.linalg.qr(X)[0]
    r = np.random.default_rng(1).standard_normal(60)
    y += r - Q @ (Q.T @ r)  # refined in double, the error is 1e-9
    with mpmath.workdps(50):
        A, b = mpmath.matrix(X.tolist()), mpmath.matrix(y.tolist())
        exact = mpmath.lu_solve(A.T * A, A.T * b)
        w = np.array([float(e) for e in exact])
    found = objectives.least_squares_solution(X, y)
    assert np.linalg.norm(found - w) <= 1e-12 * np.linalg.norm(w)


def test_generators_are_as_described():
    X, y = problems.tall(3000, 8)
    s = np.linalg.svd(X, compute_uv=False)
    assert 1e6 < s[0] / s[-1] < 4e6
    leverage = (np.linalg.qr(X)[0] ** 2).sum(axis=1)
    assert 0.3 < leverage.max() < 0.95
    X, y = problems.rcv1_like(500, 3000)
    assert X.shape == (500, 3000)
    norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
    np.testing.assert_allclose(norms, 1.0, rtol=1e-12)
    assert set(y) == {-1.0, 1.0}
    counts = np.bincount(X.indices, minlength=3000)
    assert counts[:100].mean() > 10 * counts[-100:].mean()


# --- the command ---------------------------------------------------------------------


@pytest.fixture
def tiny_loader(monkeypatch):
    X, y = data(400, 12, classes=7)

    def load(name):
        return X.copy(), (y if name == "covtype" else np.where(y > 2, 1.0, -1.0))

    monkeypatch.setattr("bench.problems.load", load)
    monkeypatch.setattr(problems, "load", load)
    monkeypatch.setattr(report, "QUICK_SHAPE", (500, 12))
    texts = problems.rcv1_like(300, 400)
    monkeypatch.setattr(problems, "rcv1_like", lambda n, d: texts)


def test_quick_with_scikit_learn_alone(tmp_path, capsys, tiny_loader):
    argv = ["peers", "--quick", "--rival", "scikit-learn", "--cap", "0.3"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("best rival / ours") == len(problems.QUICK)
    assert "failed" not in out
    assert matplotlib.image.imread(tmp_path / "peers.png").std() > 0.01
    document = json.loads((tmp_path / "peers.json").read_text())
    assert document["complete"]
    assert len(document["limits"]) == 2
    assert document["versions"]["scikit-learn"]
    for problem in document["problems"]:
        assert problem["complete"]
        assert problem["failures"] == {}
        found = {r["solver"] for r in problem["rows"]}
        expected = {
            r.name
            for r in RIVALS
            if r.package == "scikit-learn" and problem["kind"] in r.kinds
        }
        assert found == {OURS} | expected
        assert len(problem["summary"]["levels"]) == 3


def test_what_is_not_there_is_listed(tmp_path, capsys, monkeypatch, tiny_loader):
    monkeypatch.setattr(command, "installed", lambda package: None)
    argv = ["peers", "--quick", "--problem", "covtype", "--rival", "glum"]
    assert main([*argv, "--cap", "0.1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "glum: not installed" in out
    assert "best rival to 1e-3: none" in out
    document = json.loads((tmp_path / "peers.json").read_text())
    assert document["not_installed"] == ["glum"]


def test_one_solver_of_a_package():
    name = "scikit-learn newton-cg"
    entrants, skipped = command._entrants("logistic", 5, [name], {"scikit-learn": "1"})
    assert [r.name for r in entrants] == [name]
    assert not skipped
    entrants, _ = command._entrants("nls", 5, [name], {"scikit-learn": "1"})
    assert not entrants


def test_matrix_that_is_too_large_is_not_formed():
    present = {"scikit-learn": "1"}
    entrants, skipped = command._entrants("logistic", 50_000, present, present)
    names = [r.name for r in entrants]
    assert "scikit-learn newton-cg" in names
    assert "scikit-learn newton-cholesky" not in names
    assert "50000 x 50000" in skipped["scikit-learn newton-cholesky"]


def test_missing_data_are_skipped(tmp_path, capsys, monkeypatch, tiny_loader):
    def refuse(name):
        raise FileNotFoundError(f"{name} is not here")

    monkeypatch.setattr("bench.problems.load", refuse)
    argv = ["peers", "--quick", "--problem", "ijcnn1", "--rival", "glum"]
    assert main([*argv, "--out", str(tmp_path)]) == 1
    assert "ijcnn1: skipped: ijcnn1 is not here" in capsys.readouterr().out


def test_interrupt_keeps_what_was_measured(tmp_path, capsys, monkeypatch, tiny_loader):
    def interrupt(task, entrants, limits, found, workers):
        found.rows.append(row(OURS, 1e-2, 0.5, 1e-4, passes=2.0))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "compete", interrupt)
    argv = ["peers", "--quick", "--problem", "covtype", "--out", str(tmp_path)]
    assert main(argv) == 130
    assert "Interrupted" in capsys.readouterr().out
    document = json.loads((tmp_path / "peers.json").read_text())
    assert not document["complete"]
    assert not document["problems"][0]["complete"]
    assert len(document["problems"][0]["rows"]) == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rival", "nope"], "unknown rival 'nope'; allowed: scikit-learn, scikit"),
        (["--problem", "nope"], "unknown problem 'nope'; allowed: covtype,"),
        (["--cap", "0"], "must be a number > 0"),
    ],
)
def test_wrong_argument_is_one_line_and_code_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["peers", *argv])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1
