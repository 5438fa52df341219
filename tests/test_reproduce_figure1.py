"""Figure 1 and the empirical study: protocol on tiny data, claims on planted rows."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from bench.__main__ import main
from bench.plot import save
from bench.reproduce import data, empirical_study, figure1, figure1_results, report
from bench.reproduce import empirical_study_results as results
from bench.reproduce.empirical_study import EmpiricalStudy
from bench.reproduce.experiment import Scope, Task, Verdict
from bench.reproduce.figure1 import Figure1
from bench.reproduce.figure1_results import CR, SCR, TR
from bench.reproduce.two_layers import TwoLayers
from subsampled_newton import check_derivatives

N, D = 400, 4
HOLDS, FAILS, OPEN = (
    Verdict.HOLDS,
    Verdict.DOES_NOT_HOLD,
    Verdict.NOT_DECIDABLE,
)


def tiny(name):
    rng = np.random.default_rng(len(name))
    X = rng.standard_normal((N, D))
    if name == "covtype.binary":
        X = X * 1000.0
    y = np.where(X @ np.arange(D) + 1.5 * rng.standard_normal(N) > 0.0, 1.0, -1.0)
    return X, y


@pytest.fixture
def tiny_data(monkeypatch):
    monkeypatch.setattr(data, "dense", tiny)
    monkeypatch.setattr(data, "available", lambda name: True)
    monkeypatch.setattr(figure1, "BUDGET", 25.0 * 20 * N)
    monkeypatch.setattr(figure1, "FULL_BUDGET", 25.0 * 20 * N)
    monkeypatch.setattr(figure1, "SCR_BUDGET", 25.0 * 20 * N)
    monkeypatch.setattr(empirical_study, "BUDGET", 20.0 * 20 * N)
    monkeypatch.setattr(empirical_study, "FULL_BUDGET", 20.0 * 20 * N)
    monkeypatch.setattr(empirical_study, "SWEEP_BUDGET", 20.0 * 10 * N)
    forget()
    yield
    forget()


def forget():
    figure1.load.cache_clear()
    empirical_study.test_rows.cache_clear()


# --- the public command ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        (
            "figure1",
            {
                "figure1-ijcnn1",
                "figure1-ijcnn1-passes",
                "figure1-covtype",
                "figure1-covtype-passes",
            },
        ),
        (
            "empirical-study",
            {
                "empirical-study-ijcnn1",
                "empirical-study-covtype",
                "empirical-study-errors",
                "empirical-study-sizes",
            },
        ),
    ],
)
def test_quick_run_of_the_command(
    tiny_data, tmp_path, capsys, monkeypatch, name, figures
):
    def coarse(figure, path):
        figure.set_dpi(40)
        save(figure, path)

    monkeypatch.setattr(report, "save", coarse)  # most of the time goes into pixels
    arguments = ["reproduce", name, "--quick", "--out", str(tmp_path)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "verdict" in text
    rows = pd.read_csv(tmp_path / f"{name}.csv")
    wanted = {"solver", "seed", "props", "passes", "seconds", "loss", "gradient_norm"}
    wanted |= {"configuration", "subsampled_newton", "numpy", "numba"}
    assert wanted <= set(rows)
    assert rows["loss"].notna().all()
    record = json.loads((tmp_path / f"{name}-claims.json").read_text())
    assert set(record["figures"]) == figures
    assert record["claims"]
    for stem in figures:
        assert 1_000 < (tmp_path / f"{stem}.png").stat().st_size < 150_000
    monkeypatch.setattr(report, "write", lambda *arguments: [])
    assert main(arguments) == 0
    assert "tasks are known from an earlier run" in capsys.readouterr().out


# --- the protocol of figure 1 ---------------------------------------------------------


def run_of(solver, **changes):
    parameters = {
        "data": "ijcnn1",
        "solver": solver,
        "seed": 0,
        "budget": 30.0 * N,
        "quick": False,
        "max_rows": None,
    }
    return Figure1().run(Task("figure1", parameters | changes))


def test_all_methods_of_a_seed_start_from_the_same_point(tiny_data):
    starts = {run_of(solver)[0]["loss"] for solver in (*TR, *CR, *SCR)}
    assert len(starts) == 1
    assert run_of("cubic", seed=1)[0]["loss"] not in starts


@pytest.mark.parametrize("solver", ["scr-lanczos", "scr-gd"])
def test_fixed_sigma_is_charged_samples_only(tiny_data, solver):
    rows = run_of(solver)
    gradient, hessian = 2 * math.ceil(0.1 * N), 2 * math.ceil(0.01 * N)
    assert rows[0]["props"] == 1
    for before, after in itertools.pairwise(rows):
        cost = after["props"] - before["props"] - gradient
        assert 0 < cost < N
        assert cost % hessian == 0
        assert cost // hessian >= after["inner"]


def test_inexact_gradients_are_charged_their_sample_and_the_trial(tiny_data):
    rows = run_of("inexact-trust-region")
    first = rows[1]["props"] - rows[0]["props"]
    assert rows[0]["props"] == 1
    assert first == 2 * math.ceil(0.05 * N) + 2 * 4 * rows[1]["inner"] + N


@pytest.mark.parametrize("solver", [*TR, *CR, *SCR])
def test_oracles_are_gradients_and_products(tiny_data, solver):
    rows = run_of(solver)
    n_hessian = N if solver in (TR[2], CR[2]) else 4
    for before, after in itertools.pairwise(rows):
        cost = after["oracles"] - before["oracles"] - n_hessian * after["inner"]
        if solver in (TR[2], CR[2], TR[1], CR[1]):
            assert cost == (N if after["loss"] != before["loss"] else 0)
        else:
            assert 0 <= cost < N


def test_full_gradient_at_the_start_is_charged(tiny_data):
    assert run_of("subsampled-trust-region")[0]["props"] == 2 * N + 1


def test_a_run_ends_when_its_props_are_spent(tiny_data):
    rows = run_of("subsampled-cubic", budget=15.0 * N)
    assert rows[-1]["status"] == "CALLBACK_STOP"
    assert rows[-2]["props"] < 15 * N <= rows[-1]["props"]


def test_a_vanished_radius_ends_a_run():
    callback = figure1.stop_after(TwoLayers.drawn(0), 1e9)

    class State:
        iteration, size = 3, 1.0

    assert not callback(State)
    State.size = 1e-120
    assert callback(State)
    State.size = math.inf
    assert callback(State)


def test_training_rows_of_covtype_are_eight_tenths(tiny_data):
    X, y = figure1.load("covtype.binary.scale", None)
    assert X.shape == (N - N // 5, D)
    held, labels = empirical_study.test_rows("covtype.binary.scale")
    both = {tuple(row) for row in X} | {tuple(row) for row in held}
    assert len(both) == N
    everything, raw = tiny("covtype.binary.scale")
    label = {tuple(row): v for row, v in zip(everything, raw, strict=True)}
    assert all(
        label[tuple(row)] == (-1 if t else 1) for row, t in zip(X, y, strict=True)
    )
    assert all(
        (label[tuple(row)] == -1) == t for row, t in zip(held, labels, strict=True)
    )


def test_targets_of_ijcnn1_are_its_positive_class(tiny_data):
    y = figure1.load("ijcnn1", None)[1]
    assert np.array_equal(y, (tiny("ijcnn1")[1] > 0.0) * 1.0)


# --- surrogates -----------------------------------------------------------------------


def test_an_absent_set_is_replaced_and_named_surrogate(monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: name != "ijcnn1")
    names = {t.parameters["data"] for t in Figure1().tasks(Scope(True, 1))}
    assert "ijcnn1-like (surrogate)" in names
    assert "covtype.binary.scale" in names
    assert data.is_surrogate("ijcnn1-like (surrogate)")
    assert not data.is_surrogate("ijcnn1")


def test_surrogate_of_ijcnn1():
    X, y = data.ijcnn1_like(2000, seed=3)
    assert X.shape == (2000, 22)
    assert np.array_equal(np.unique(X[:, :10]), [0.0, 1.0])
    assert np.all(X[:, :10].sum(axis=1) == 1.0)
    assert np.abs(X).max() <= 1.0
    assert np.mean(y > 0.0) == pytest.approx(0.1, abs=0.002)


def test_shape_of_a_surrogate_is_not_judged():
    rows = figure1_rows()
    rows["data"] = "ijcnn1-like (surrogate)"
    (shape,) = [
        c for c in Figure1().claims(rows, Scope(False, 3)) if c.seed_rows == "Y21"
    ]
    assert shape.verdict is OPEN


# --- claims of figure 1 on planted rows -----------------------------------------------


def curve(solver, seed, per_step, end, n=49_990, d=22, budget=1e8):
    """Loss halves its gap to 1 in every step, down to the gap ``end``."""
    k = np.arange(40)
    gap = np.maximum(0.5**k, end)
    return pd.DataFrame(
        {
            "data": "ijcnn1",
            "solver": solver,
            "seed": seed,
            "loss": 1.0 + gap,
            "props": 1.0 + per_step * n * k,
            "passes": 1.0 + k,
            "inner": np.where(k > 0, 3, 0),
            "iteration": k,
            "n": n,
            "d": d,
            "budget": budget,
            "quick": False,
        }
    )


def figure1_rows(costs=None, ends=None, **options):
    """Rows on which every claim holds, unless costs or ends are others."""
    cost = dict(zip((*TR, *CR, *SCR), [1, 3, 9, 2, 4, 10, 8, 9], strict=True))
    end = dict.fromkeys(cost, 0.0) | dict.fromkeys((TR[0], CR[0]), 5e-3)
    cost |= costs or {}
    end |= ends or {}
    return pd.concat(
        [
            curve(
                solver, seed, cost[solver] * (1 + 0.01 * seed), end[solver], **options
            )
            for seed in range(3)
            for solver in cost
        ],
        ignore_index=True,
    )


def verdicts(rows, words):
    found = Figure1().claims(rows, Scope(False, 3))
    chosen = [claim.verdict for claim in found if words in claim.text]
    assert chosen
    return set(chosen)


def test_orders_hold_on_rows_that_obey():
    assert verdicts(figure1_rows(), "Inexact < SubH < Full") == {HOLDS}


@pytest.mark.parametrize("family", [TR, CR])
def test_order_does_not_hold_when_inexact_is_slower(family):
    rows = figure1_rows({family[0]: 5.0})
    claims = [
        c
        for c in Figure1().claims(rows, Scope(False, 3))
        if "Inexact < SubH < Full" in c.text
    ]
    assert [c.verdict for c in claims].count(FAILS) == 3
    assert {c.seed_rows for c in claims if c.verdict is FAILS} == {
        "Y22" if family is TR else "Y23"
    }


def test_order_does_not_hold_when_inexact_never_arrives():
    rows = figure1_rows(ends={TR[0]: 0.03})
    claims = Figure1().claims(rows, Scope(False, 3))
    at = {
        level: c.verdict
        for c in claims
        for level in ("20%", "5%", "1%")
        if c.seed_rows == "Y22" and f"props to {level} " in c.text
    }
    assert at == {"20%": HOLDS, "5%": HOLDS, "1%": FAILS}


def test_measured_figures_are_props_over_n():
    claims = Figure1().claims(figure1_rows(), Scope(False, 3))
    (claim,) = [c for c in claims if c.seed_rows == "Y22" and "to 5% of" in c.text]
    # 2**-5 is the first power below 5 %; medians are those of seed 1.
    assert claim.measured == "5.05, 15.2, 45.5 n"
    assert "for 3 of 3 seeds" in claim.remark


def test_ends():
    assert verdicts(figure1_rows(), "end at the same loss") == {HOLDS}
    apart = figure1_rows(ends={TR[1]: 2e-3, CR[2]: 2e-3})
    assert verdicts(apart, "end at the same loss") == {FAILS}


def test_stall_of_the_inexact_variants():
    assert verdicts(figure1_rows(), "stalls in the last phase") == {HOLDS}
    through = figure1_rows(ends={TR[0]: 0.0, CR[0]: 0.0})
    assert verdicts(through, "stalls in the last phase") == {FAILS}


def test_fixed_sigma_must_be_slower():
    words = "SCR with fixed sigma"
    assert verdicts(figure1_rows(), words) == {HOLDS}
    assert verdicts(figure1_rows({"scr-gd": 1.0}), words) == {FAILS}
    stalled = {"scr-gd": 0.2, "scr-lanczos": 0.3}
    assert verdicts(figure1_rows(ends=stalled), words) == {HOLDS}
    nobody = stalled | {"inexact-cubic": 0.1}
    assert verdicts(figure1_rows(ends=nobody), words) == {HOLDS}
    assert verdicts(figure1_rows(ends=nobody | {"scr-gd": 0.1}), words) == {OPEN}


def test_counting_rule():
    n = 49_990
    rows = figure1_rows()
    full = rows["solver"] == "trust-region"
    moved = rows["loss"].diff() != 0.0
    cost = np.where(rows["iteration"] > 0, 2 * n * rows["inner"] + n + 2 * n * moved, 1)
    exact = pd.Series(cost).groupby([rows["solver"], rows["seed"]]).cumsum()
    rows.loc[full, "props"] = exact[full]
    assert verdicts(rows, "an iteration of Full TR costs") == {HOLDS}
    rows.loc[np.flatnonzero(full)[7:], "props"] += 1
    assert verdicts(rows, "an iteration of Full TR costs") == {FAILS}


def test_shape_of_the_data():
    assert verdicts(figure1_rows(), "rows and columns") == {HOLDS}
    assert verdicts(figure1_rows(n=49_000), "rows and columns") == {FAILS}


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.5, 0.5, 0.999), HOLDS),
        ((0.5, 0.999, 0.999), FAILS),
        ((0.5, 0.5, 0.5), FAILS),
    ],
)
def test_raw_columns(ends, verdict):
    parts = [
        pd.DataFrame(
            {
                "data": "covtype.binary",
                "solver": s,
                "seed": 0,
                "loss": [1.0, e],
                "gradient_norm": 1.0,
            }
        )
        for s, e in zip(figure1.RAW_SOLVERS, ends, strict=True)
    ]
    assert figure1_results._raw(pd.concat(parts)).verdict is verdict


# --- claims of the empirical study on planted rows ------------------------------------


def study_rows(costs=None, ends=None):
    """Rows on which all claims on starts hold; keys: solver or (solver, start)."""
    cost = dict.fromkeys(empirical_study.SOLVERS, 2.0)
    cost |= dict.fromkeys(("trust-region", "cubic", "gauss-newton"), 20.0)
    end = {("lbfgs", "ones"): 0.5, ("gauss-newton", "ones"): 0.5}
    cost |= costs or {}
    end |= ends or {}
    parts = [
        curve(
            solver,
            seed,
            cost.get((solver, start), cost[solver]) * (1 + 0.01 * seed),
            end.get((solver, start), 0.0),
        ).assign(part="starts", start=start)
        for seed in range(3)
        for start in results.STARTS
        for solver in empirical_study.SOLVERS
    ]
    return pd.concat(parts, ignore_index=True)


def study(rows, words):
    found = [c for c in results.claims(rows, Scope(False, 3)) if words in c.text]
    assert found
    return [claim.verdict for claim in found]


def test_fewer_props():
    words = "needs fewer props"
    assert study(study_rows(), words) == [HOLDS] * 4
    slow = study_rows({("row-norms-trust-region", "ones"): 30.0})
    assert study(slow, words) == [FAILS, FAILS, HOLDS, HOLDS]


def test_robustness_to_the_start():
    words = "from zeros, ones and normal starts"
    assert study(study_rows(), words) == [HOLDS, HOLDS]
    stuck = study_rows(ends={("subsampled-cubic", "normal"): 0.02})
    assert study(stuck, words) == [HOLDS, FAILS]


def test_gauss_newton_and_lbfgs_must_both_fail_somewhere():
    words = "GN and L-BFGS end above"
    assert study(study_rows(), words) == [HOLDS]
    assert study(study_rows(ends={("lbfgs", "ones"): 0.0}), words) == [FAILS]
    assert study(study_rows(ends={("gauss-newton", "ones"): 0.0}), words) == [FAILS]


def size_rows(losses):
    return pd.DataFrame(
        [
            {
                "part": "sizes",
                "data": "ijcnn1",
                "start": "zeros",
                "solver": solver,
                "size": size,
                "seed": seed,
                "loss": value,
                "n": 10,
            }
            for solver, ends in losses.items()
            for size, end in zip((1e-4, 1.0, 1e4), ends, strict=True)
            for seed in range(3)
            for value in (1.0, end)
        ]
    )


@pytest.mark.parametrize(
    ("solver", "ends", "verdict"),
    [
        ("subsampled-trust-region", (1.0, 1.009, 1.0), HOLDS),
        ("subsampled-trust-region", (1.0, 1.02, 1.0), FAILS),
        ("subsampled-cubic", (1.0, 1.02, 1.0), FAILS),
        ("sgd", (3.0, 1.0, 1.0), HOLDS),
        ("sgd", (1.0, 1.0, math.nan), HOLDS),
        ("sgd", (1.0, 1.05, 1.0), FAILS),
    ],
)
def test_sizes(solver, ends, verdict):
    (claim,) = results.claims(size_rows({solver: ends}), Scope(False, 3))
    assert claim.verdict is verdict


def saddle_rows(second, others):
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "part": "saddle",
                    "solver": solver,
                    "seed": 0,
                    "loss": [
                        4.0,
                        second
                        if "gauss" not in solver and solver != "lbfgs"
                        else others,
                    ],
                    "best": 1.0,
                }
            )
            for solver in empirical_study.SADDLE
        ]
    )


@pytest.mark.parametrize(
    ("second", "others", "verdict"),
    [(1.0, 4.0, HOLDS), (1.1, 4.0, FAILS), (1.0, 1.0, FAILS)],
)
def test_saddle(second, others, verdict):
    (claim,) = results.claims(saddle_rows(second, others), Scope(False, 1))
    assert claim.verdict is verdict


def test_two_layers():
    problem = TwoLayers.drawn(0)
    rng = np.random.default_rng(1)
    w = rng.standard_normal(problem.n_params)
    check_derivatives(problem, w)
    assert not np.any(problem.gradient(np.zeros(problem.n_params)))
    v = rng.standard_normal(problem.n_params)
    rows = np.arange(5)
    a, B = w[:3], w[3:].reshape(3, -1)
    jacobian = np.column_stack(
        [problem.X @ B.T, *(problem.X * weight for weight in a)]
    )[rows]
    product = 2.0 * jacobian.T @ (jacobian @ v) / 5
    np.testing.assert_allclose(problem.gauss_newton_vec(w, rows, v), product)
    best = problem.smallest_value()
    assert 0.005 < best < 0.02


def test_deterministic_runs_are_not_repeated():
    tasks = EmpiricalStudy().tasks(Scope(quick=False, seeds=2))
    repeated = [
        t.parameters
        for t in tasks
        if t.parameters["seed"] == 1 and t.parameters["part"] == "starts"
    ]
    full = {
        (p["solver"], p["start"])
        for p in repeated
        if p["solver"] in empirical_study.FULL
    }
    assert {start for _, start in full} == {"normal"}
