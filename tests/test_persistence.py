"""Files of models and checkpoints: all comes back, or an error says what does not."""

import dataclasses
import errno
import io
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from solver_list import SOLVERS, build, data

import subsampled_newton as sn
from subsampled_newton import _archive, persistence
from subsampled_newton.estimators import LEAST_SQUARES
from subsampled_newton.solvers._driver import State

ROOT = Path(__file__).resolve().parents[1]
X, binary = make_classification(200, 4, flip_y=0.2, random_state=0)
three = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
real = X @ np.arange(1.0, 5.0) + np.random.default_rng(0).standard_normal(200)
words = np.array(["no", "yes"])[binary]


def same(a, b):
    """Whether two trees are equal in every type, shape and bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and a.dtype == object:
        return same(a.tolist(), b.tolist())
    if isinstance(a, np.ndarray | np.generic):
        alike = (a.dtype, a.shape) == (b.dtype, b.shape)
        return alike and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same([*a], [*b]) and same([*a.values()], [*b.values()])
    if dataclasses.is_dataclass(a):
        fields = dataclasses.fields(a)  # and not what is computed from them
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields)
    if isinstance(a, float):
        return a.hex() == b.hex()
    return a == b


def frame(X):
    import pandas as pd

    return pd.DataFrame(X, columns=["a", "b", "c", "d"])


Logistic = sn.LogisticRegression
MODELS = {
    "logistic": (Logistic(), X, binary),
    "strings": (Logistic(C=np.float64(2.0), random_state=np.int64(3)), X, words),
    "objects": (Logistic(), X, words.astype(object)),
    "booleans": (Logistic(max_iter=np.int32(50)), X, binary.astype(bool)),
    "unsigned": (Logistic(n_jobs=1), X.astype(np.float32), binary.astype(np.uint8)),
    "halves": (Logistic(), X, binary * 1.0 - 3.0),
    "class weights": (Logistic(class_weight={"no": 1, "yes": 2.5}), X, words),
    "numbered weights": (Logistic(class_weight={np.int64(0): 2, 1: 1}), X, binary),
    "named columns": (Logistic(), frame, words),
    "softmax": (Logistic(class_weight="balanced"), X, three),
    "unpenalised": (Logistic(C=math.inf), X, binary),
    "no intercept": (Logistic(fit_intercept=False, alpha=0.1), X, binary),
    "multilevel": (Logistic(solver=sn.MultilevelNewton(0.5), random_state=1), X, words),
    "growing": (
        Logistic(solver=sn.SubsampledNewton(sn.Growing(0.3)), random_state=0),
        X,
        binary,
    ),
    "lbfgs": (Logistic(solver="lbfgs"), X, binary),
    "saga": (Logistic(solver="saga", random_state=0), X, binary),
    "sgd": (Logistic(solver=sn.SGD(8), random_state=0, tol=0.1), X, binary),
    "not converged": (Logistic(max_iter=1, tol=0.0), X, binary),
    "sigmoid": (sn.SigmoidLeastSquaresClassifier(n_init=2, random_state=0), X, binary),
    "ridge": (sn.Ridge(), X, real),
    "ridge, two targets": (sn.Ridge(2.0), X, np.column_stack([real, real**2])),
    "ridge, no intercept": (sn.Ridge(fit_intercept=False), X, real),
    "ridge by newton": (sn.Ridge(solver="newton"), X, real),
    "least squares": (sn.LinearRegression(), X, real),
    "sketch": (sn.LinearRegression(solver="sketch", random_state=0), X, real),
    "least squares by lbfgs": (sn.LinearRegression(solver="lbfgs"), X, real),
}
INFERENCE = ("unpenalised", "least squares")


@pytest.fixture(scope="module")
def fitted():
    """Every model, fitted once."""

    def fit(name):
        if name not in made:
            model, rows, y = MODELS[name]
            rows = rows(X) if callable(rows) else rows
            made[name] = model.fit(rows, y), rows, y
        return made[name]

    made = {}
    return fit


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MODELS)
def test_model_comes_back_bit_for_bit(name, fitted, tmp_path):
    model, rows, y = fitted(name)
    path = tmp_path / "model.npz"
    model.save(path)
    other = sn.load(path)
    assert type(other) is type(model)
    assert same(sorted(vars(other)), sorted(vars(model)))
    assert all(same(vars(other)[key], part) for key, part in vars(model).items())
    for method in ("predict", "decision_function", "predict_proba"):
        if hasattr(model, method):
            assert same(getattr(other, method)(rows), getattr(model, method)(rows))
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    # As far as to the next fit.
    model, other = (m.set_params(warm_start=True) for m in (model, other))
    before = pickle.dumps(model)
    other.fit(rows, y)
    assert same(other.coef_, pickle.loads(before).fit(rows, y).coef_)
    model.set_params(warm_start=False)


@pytest.mark.parametrize("name", INFERENCE)
def test_loaded_model_gives_the_same_inference(name, tmp_path):
    model, _, y = MODELS[name]
    rows = X + 0.1 * np.random.default_rng(2).standard_normal(X.shape)
    model = clone(model).fit(rows, y)
    model.save(tmp_path / "m")
    other = sn.load(tmp_path / "m")
    assert same(other.std_errors(rows, y), model.std_errors(rows, y))
    assert same(other.diagnose(rows, y), model.diagnose(rows, y))


def test_arrays_are_an_npz_that_numpy_opens(fitted, tmp_path):
    model, _, _ = fitted("softmax")
    model.save(tmp_path / "m")
    with np.load(tmp_path / "m", allow_pickle=False) as arrays:
        assert same(arrays["coef_"], model.coef_)
        assert same(arrays["result_.trace.value"], model.result_.trace.value)


def test_path_is_used_as_it_is_and_through_links(fitted, tmp_path):
    model, _, _ = fitted("ridge")
    (tmp_path / "file").write_text("something else")
    (tmp_path / "link").symlink_to("file")
    model.save(str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert same(sn.load(tmp_path / "file").coef_, model.coef_)


def test_every_record_of_the_package_can_be_loaded():
    found = persistence.CLASSES

    def below(cls):
        return {cls}.union(*map(below, cls.__subclasses__()))

    solvers = {type(entry.solver) for entry in SOLVERS.values()}
    solvers |= {type(make(0.1)) for make in LEAST_SQUARES.values()}
    states = {c for c in below(State) if c.__module__.startswith("subsampled_newton")}
    missing = {cls for cls in solvers | states if found.get(cls.__name__) is not cls}
    assert not missing, "put them into the registry of persistence.py"


def test_model_of_an_earlier_release_is_read():
    # Written by release 0.1.0: LogisticRegression().fit(X, words).save(path)
    model = sn.load(ROOT / "tests" / "model-of-0.1.0.npz")
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.result_.converged
    forecasts = model.predict_proba([[1.0, 2.0, 0.0, -1.0], [0.0, -1.0, 1.0, 0.5]])
    expected = [0.22055221272526115, 0.738841312308835]
    np.testing.assert_allclose(forecasts[:, 1], expected, rtol=1e-9)


# --- checkpoints ---------------------------------------------------------------------

MORE_SOLVERS = {
    "cholesky": sn.DirectLeastSquares("cholesky"),
    "qr": sn.DirectLeastSquares("qr"),
    "sketch": sn.SketchedLeastSquares("precondition", "gaussian", 40),
    "iterative-sketch": sn.SketchedLeastSquares("iterative", "gaussian", 40),
}
FILES = {
    **{name: (entry.solver, entry.kinds[0]) for name, entry in SOLVERS.items()},
    **{name: (solver, "least-squares") for name, solver in MORE_SOLVERS.items()},
    "softmax saga": (sn.SAGA(), "softmax"),
    "own objective": (sn.SubsampledNewton(0.2), "custom"),
    "curve": (sn.LevenbergMarquardt(), "nonlinear"),
}
LIMITS = {"tol": 0.0, "max_iter": 5}


def start(problem):
    return np.full(problem.n_params, 0.1)


def make_problem(kind):
    return build(kind, *data(kind, n=300))


GO_ON = """
import pickle, sys
from pathlib import Path
from test_persistence import FILES, LIMITS, make_problem
import subsampled_newton as sn

folder = Path(sys.argv[1])
ends = {}
for name, (solver, kind) in FILES.items():
    checkpoint = sn.load(folder / name.replace("/", " "))
    ends[name] = sn.minimize(make_problem(kind), solver, resume=checkpoint, **LIMITS)
(folder / "ends").write_bytes(pickle.dumps(ends))
"""


def test_run_goes_on_in_another_process_bit_for_bit(tmp_path):
    whole = {}
    for name, (solver, kind) in FILES.items():
        problem = make_problem(kind)
        whole[name] = sn.minimize(problem, solver, start(problem), seed=1, **LIMITS)
        stopped = sn.minimize(
            make_problem(kind),
            solver,
            start(problem),
            seed=1,
            callback=lambda s: s.iteration == 2,
            **LIMITS,
        )
        stopped.checkpoint.save(tmp_path / name.replace("/", " "))
    assert sum(result.n_iter > 2 for result in whole.values()) >= len(FILES) - 12
    done = subprocess.run(
        [sys.executable, "-c", GO_ON, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
    )
    assert done.returncode == 0, done.stderr
    ends = pickle.loads((tmp_path / "ends").read_bytes())
    for name, end in ends.items():
        assert same(end.w, whole[name].w), name
        for column in ("value", "gradient_norm", "step_size", "props", "passes"):
            a, b = (getattr(r.trace, column) for r in (end, whole[name]))
            np.testing.assert_array_equal(a, b, err_msg=name)
        assert (end.status, end.passes) == (whole[name].status, whole[name].passes)


def test_result_comes_back_with_its_checkpoint(tmp_path):
    problem = make_problem("sigmoid")
    result = sn.minimize(problem, sn.TrustRegion(0.3), seed=0)
    assert result.certificate is not None
    result.save(tmp_path / "r")
    assert same(sn.load(tmp_path / "r"), result)


X2 = np.random.default_rng(5).standard_normal((60, 3))
y2 = np.sign(X2[:, 0] + 0.5)


def logistic(X=X2, y=y2, l2=0.1, loss=sn.LOGISTIC):
    return sn.LinearModel(loss, X, y, l2=l2)


OTHERS = {
    "fewer rows": (logistic(X2[1:], y2[1:]), "of 60 samples .*got .*59 samples"),
    "another loss": (logistic(loss=sn.SQUARED), "loss logistic, got .*loss squared"),
    "another ridge": (logistic(l2=0.2), "sum 0.3.*got .*sum 0.6"),
    "another target": (
        logistic(y=-y2),
        "data of the run before, but F|data of the run before, but the gradient",
    ),
    "rows of others": (logistic(X2[::-1]), "data of the run before"),
    "one number": (logistic(X2 + 1e-3 * (X2[7, 1] == X2)), "the data of the run"),
}


@pytest.mark.parametrize("iteration", [0, 2])
@pytest.mark.parametrize("way", OTHERS)
def test_checkpoint_of_another_problem_is_refused(way, iteration):
    solver = sn.SubsampledNewton(0.5)
    run = sn.minimize(logistic(), solver, max_iter=iteration, seed=0)
    problem, message = OTHERS[way]
    with pytest.raises(ValueError, match=f"resume needs .*{message}"):
        sn.minimize(problem, solver, resume=run)


def test_sampled_gradients_are_compared_with_full_ones():
    solver = sn.SAGA(sampling="uniform")
    run = sn.minimize(logistic(), solver, max_iter=2, seed=0)
    with pytest.raises(ValueError, match="data of the run before"):
        sn.minimize(logistic(X2[::-1]), solver, resume=run)
    work = sn.minimize(logistic(), solver, resume=run, max_iter=4)
    whole = sn.minimize(logistic(), solver, max_iter=4, seed=0)
    assert same(work.w, whole.w)
    assert work.passes == whole.passes


def test_checkpoint_of_another_solver_is_refused():
    run = sn.minimize(logistic(), sn.SAG(), max_iter=2, seed=0)
    with pytest.raises(ValueError, match="same solver as before, SAG, got SAGA"):
        sn.minimize(logistic(), sn.SAGA(), resume=run)


def test_own_objective_may_call_anything_its_loss(tmp_path):
    problem = make_problem("custom")
    problem.loss = "log-likelihood"
    solver = sn.SubsampledNewton(1.0)
    run = sn.minimize(problem, solver, max_iter=1, seed=0)
    run.checkpoint.save(tmp_path / "c")
    assert sn.minimize(problem, solver, resume=sn.load(tmp_path / "c")).converged


@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("relative", [1e-7, -1e-7, 1e-5])
def test_rounding_of_another_machine_is_allowed(relative, steps):
    solver = sn.SubsampledNewton(1.0)
    run = sn.minimize(logistic(), solver, max_iter=steps, tol=0.0).checkpoint
    *head, last = run.records
    last = (*last[:4], last[4] * (1 + relative), *last[5:])
    gradient = run.gradient * (1 + relative) + 1e-11  # what is left at the minimizer
    other = dataclasses.replace(run, records=[*head, last], gradient=gradient)
    if abs(relative) < 1e-6:
        assert sn.minimize(logistic(), solver, resume=other).converged
    else:
        with pytest.raises(ValueError, match="the data of the run before, but F"):
            sn.minimize(logistic(), solver, resume=other)


class Peeking:
    """Pays for a full gradient that the loop does not ask for."""

    def init(self, problem, point, rng):
        return State(point, gradient_estimate=1.0)

    def step(self, problem, state, rng):
        point = problem.at(state.point.w - 0.1 * state.point.gradient)
        return State(point, state.iteration + 1, gradient_estimate=1.0)


def test_comparison_of_the_data_is_not_seen_by_the_solver():
    whole = sn.minimize(logistic(), Peeking(), max_iter=4)
    run = sn.minimize(logistic(), Peeking(), max_iter=2)
    resumed = sn.minimize(logistic(), Peeking(), max_iter=4, resume=run)
    assert (resumed.passes, resumed.props) == (whole.passes, whole.props)
    assert same(resumed.w, whole.w)


def test_checkpoint_of_an_own_solver_is_kept_without_it(tmp_path):
    run = sn.minimize(logistic(), Peeking(), max_iter=2)
    with pytest.raises(TypeError, match=r"solver must be .*Peeking: code is not saved"):
        run.save(tmp_path / "r")
    run.checkpoint.save(tmp_path / "c")
    again = sn.minimize(
        logistic(), Peeking(), max_iter=4, resume=sn.load(tmp_path / "c")
    )
    assert same(again.w, sn.minimize(logistic(), Peeking(), max_iter=4).w)


# --- what cannot be stored -----------------------------------------------------------


class OwnSolver:
    def init(self, problem, point, rng):
        return sn.SubsampledNewton(1.0).init(problem, point, rng)

    def step(self, problem, state, rng):
        return sn.SubsampledNewton(1.0).step(problem, state, rng)


class OwnRule(sn.Growing):
    pass


class OwnModel(sn.Ridge):
    pass


REFUSED = {
    "random state": (
        Logistic(random_state=np.random.RandomState(0)),
        "random_state .*RandomState: give an integer seed",
    ),
    "solver": (Logistic(solver=OwnSolver()), "solver .*OwnSolver: code is not saved"),
    "rule": (
        Logistic(solver=sn.SubsampledNewton(OwnRule(0.5)), random_state=0),
        "solver.hessian_sample .*OwnRule: replace it",
    ),
    "model": (OwnModel(), "it must be .*of this package .*OwnModel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_of_this_package_is_refused_by_name(name, fitted, tmp_path):
    model, message = REFUSED[name]
    path = tmp_path / "m"
    fitted("logistic")[0].save(path)
    content = path.read_bytes()
    with pytest.raises(TypeError, match=message):
        model.fit(X, binary).save(path)
    assert path.read_bytes() == content
    assert len([*tmp_path.iterdir()]) == 1


SPOILED = {
    "an attribute of one's own": (lambda m: {"note": "x"}, "no attribute 'note'"),
    "single precision": (
        lambda m: {"coef_": m.coef_.astype(np.float32)},
        "coef_ must be of dtype float64, got float32",
    ),
    "integer intercept": (
        lambda m: {"intercept_": np.zeros(1, dtype=int)},
        "intercept_ must be of dtype float64, got int64",
    ),
    "no result": (lambda m: {"result_": None}, "result_ must be of type Result"),
    "labels as a list": (lambda m: {"classes_": [0, 1]}, "classes_ must be of type"),
    "a column less": (lambda m: {"coef_": m.coef_[:, 1:]}, "coef_.* do not fit"),
    "a parameter out of range": (lambda m: {"C": -1.0}, "'C' parameter"),
    "an unknown solver": (lambda m: {"solver": "none"}, "'solver' parameter"),
}


@pytest.mark.parametrize("way", SPOILED)
def test_what_load_would_refuse_is_not_saved(way, tmp_path):
    change, message = SPOILED[way]
    model, path = Logistic().fit(X, binary), tmp_path / "m"
    model.save(path)
    content = path.read_bytes()
    vars(model).update(change(model))
    with pytest.raises(TypeError, match=message) as caught:
        model.save(path)
    assert len(str(caught.value)) <= 300
    assert path.read_bytes() == content
    assert len([*tmp_path.iterdir()]) == 1


def test_result_whose_state_has_no_entry_in_the_registry_is_not_saved(
    tmp_path, monkeypatch
):
    run = sn.minimize(logistic(), sn.LBFGS(), max_iter=2)
    monkeypatch.delitem(persistence.CLASSES, "LBFGSState")
    for part in (run, run.checkpoint):
        with pytest.raises(TypeError, match="'LBFGSState', which this release does"):
            part.save(tmp_path / "r")
    assert not [*tmp_path.iterdir()]


NAMES = ["auto", *sn.estimators.SOLVERS, *LEAST_SQUARES]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", NAMES)
def test_fitted_models_carry_nothing_for_every_row(name, tmp_path):
    makers = [sn.LinearRegression] if name in LEAST_SQUARES else [Logistic, sn.Ridge]
    fits = 0
    for make in makers:
        for layout in (np.asarray, sp.csr_array):
            sizes = []
            for n in (500, 25_000 if name == "auto" else 6_000):
                draws = np.random.default_rng(0).standard_normal((n, 3))
                y = draws[:, 0] + draws[:, 1] > 0.0
                model = make(solver=name, max_iter=2, tol=0.0, fit_intercept=False)
                try:
                    model.fit(layout(draws), y.astype(float))
                except (TypeError, ValueError):  # not for this problem, and says so
                    break
                model.save(tmp_path / "m")
                size = (tmp_path / "m").stat().st_size
                sizes.append(max(size, len(pickle.dumps(model))))
            else:
                fits += 1
                assert sizes[1] - sizes[0] < 2_000
    assert fits > 0


def test_result_of_an_estimator_is_no_checkpoint():
    model = Logistic().fit(X, binary)
    assert model.result_.checkpoint is None
    with pytest.raises(ValueError, match="resume needs a result with a checkpoint"):
        sn.minimize(logistic(), sn.LBFGS(), resume=model.result_)


def test_function_of_a_curve_is_refused_and_its_result_is_not(tmp_path):
    def line(p, x):
        return p[0] + p[1] * x[0]

    model = sn.NonlinearLeastSquares(line, [0.0, 0.0]).fit(X[:, :1], real)
    with pytest.raises(TypeError, match=r"function must be .*code is not saved"):
        model.save(tmp_path / "m")
    model.result_.save(tmp_path / "r")
    assert same(sn.load(tmp_path / "r"), model.result_)


@pytest.mark.parametrize("model", [Logistic(), sn.NonlinearLeastSquares(same, [1.0])])
def test_model_that_is_not_fitted_is_refused(model, tmp_path):
    with pytest.raises(NotFittedError):
        model.save(tmp_path / "m")


@pytest.mark.parametrize("path", [None, 3, b"m"])
def test_path_of_another_type_is_refused(path, fitted):
    with pytest.raises(TypeError, match="path must be a path, got"):
        fitted("ridge")[0].save(path)
    with pytest.raises(TypeError, match="path must be a path, got"):
        sn.load(path)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(2, dtype=complex),
        np.zeros(2, dtype=np.longdouble),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(1, dtype=[("a", float)]),
        np.array([{1}], dtype=object),
        np.array([[1]], dtype=object),
        {1, 2},
        b"bytes",
        1j,
        object(),
        len,
    ],
    ids=lambda v: type(v).__name__ + str(getattr(v, "dtype", "")),
)
def test_other_values_are_refused(value, tmp_path):
    with pytest.raises(TypeError, match="to be saved"):
        _archive.write(tmp_path / "m", value)
    assert not [*tmp_path.iterdir()]


# --- damage --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small file of a model."""
    path = tmp_path_factory.mktemp("small") / "m.npz"
    model = Logistic(fit_intercept=False).fit(X[:, :1], binary)
    # With the checkpoint of a run, as files of earlier releases have it.
    problem = sn.LinearModel(sn.LOGISTIC, X[:, :1], 2.0 * binary - 1.0)
    model.result_ = sn.minimize(problem, sn.SubsampledNewton(1.0))
    model.save(path)
    assert path.stat().st_size < 20_000
    return path


def refused(path, message="is damaged, cut off"):
    with pytest.raises(ValueError, match=f"^{path} ({message})"):
        sn.load(path)


def accepted(path, changes):
    """Names of the changes after which the file is read, or not refused by its name."""
    wrong = []
    for name in changes:
        try:
            sn.load(path)
        except ValueError as error:
            if not str(error).startswith(f"{path} is "):
                wrong.append(name)
        else:
            wrong.append(name)
    return wrong


def test_any_flipped_bit_is_refused(small, tmp_path):
    path = tmp_path / "m"
    content = small.read_bytes()
    path.write_bytes(content)

    def flips(file):
        for k, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << k % 8]), k)
            yield k
            os.pwrite(file.fileno(), bytes([byte]), k)

    with path.open("r+b") as file:
        assert accepted(path, flips(file)) == []
    assert path.read_bytes() == content
    assert sn.load(path).n_features_in_ == 1


def test_any_shorter_or_longer_file_is_refused(small, tmp_path):
    path = tmp_path / "m"
    content = small.read_bytes()

    def cuts():
        for size in reversed(range(len(content))):
            os.truncate(path, size)
            yield size

    def others():
        for change in (content + b"0", content[1:], content * 2, b"0" + content):
            path.write_bytes(change)
            yield len(change)

    path.write_bytes(content)
    assert accepted(path, cuts()) == []
    assert accepted(path, others()) == []


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03", b"\x80\x04.", b"{}"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(content)
    refused(path, r"is not a file that save\(\) wrote")


def test_npz_of_others_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", coef_=np.ones(3))
    refused(tmp_path / "m.npz")


def test_missing_file_and_folder_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        sn.load(tmp_path / "none")
    with pytest.raises(OSError, match=str(tmp_path)):
        sn.load(tmp_path)


def forged(small, path, edit):
    """Write a changed file with a checksum that fits, as nobody but a forger would."""
    with zipfile.ZipFile(small) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(members["content.json"])
    compression = edit(content, content["value"]["fields"], members)
    if "content.json" in members:
        members["content.json"] = json.dumps(content)
    deflate = compression is zipfile.ZIP_DEFLATED
    seal(path, members.items(), zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED)


def seal(path, members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, member in members:
            archive.writestr(name, member)
        archive.comment = b" " * 64
    body = stream.getvalue()[:-64]
    Path(path).write_bytes(body + _archive._digest(body))


def npy(array, **header):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    content = stream.getvalue()
    for old, new in header.items():
        content = content.replace(old.encode(), new.encode().ljust(len(old)))
    return content


class Bomb:
    """What a pickle of this runs when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def put(**changes):
    def edit(content, fields, members):
        content.update(changes)

    return edit


def fields(**changes):
    def edit(content, fields, members):
        fields.update(changes)

    return edit


def members(**changes):
    def edit(content, fields, members):
        for name, member in changes.items():
            members[f"{name}.npy"] = member

    return edit


def of_result(**changes):
    def edit(content, fields, members):
        fields["result_"]["fields"].update(changes)

    return edit


def of_state(**changes):
    def edit(content, fields, members):
        checkpoint = fields["result_"]["fields"]["checkpoint"]["fields"]
        checkpoint["state"]["fields"].update(changes)

    return edit


def drop(*names):
    def edit(content, fields, members):
        for name in names:
            fields.pop(name)
            members.pop(f"{name}.npy", None)

    return edit


def without(name):
    return lambda content, fields, members: members.pop(name)


def deflated(content, fields, members):
    members["coef_.npy"] = npy(np.zeros(10**6))
    return zipfile.ZIP_DEFLATED


FORGED = {
    "later format": (put(version=2, package="9.0"), "format version is 2, .* '9.0'"),
    "earlier format": (put(version=0), "format version is 0"),
    "format as text": (put(version="1"), "format version is '1'"),
    "other format": (put(format="skops"), "format must be"),
    "no content": (without("content.json"), "one content.json"),
    "no array": (without("coef_.npy"), "is not valid: 'coef_'"),
    "array too much": (members(other=npy(np.ones(1))), r"refers to: \['other'\]"),
    "compressed": (deflated, "stored as they are"),
    "unknown class": (
        put(value={"record": "os.system", "fields": {}}),
        "holds a 'os.system', which this release does not know",
    ),
    "class of the package": (
        put(value={"record": "Work", "fields": {}}),
        "holds a 'Work', which",
    ),
    "not a model": (
        put(value={"record": "Status", "fields": {"name": "CONVERGED"}}),
        "|holds no model",
    ),
    "no status": (
        of_result(status={"record": "Status", "fields": {"name": "mro"}}),
        "is not valid",
    ),
    "unknown tag": (put(value={"pickle": "x"}), "nothing that is known"),
    "bare list": (put(value=[1]), "must say what it is"),
    "no object": (members(coef_=npy(np.array([{}], dtype=object))), "is not valid"),
    "complex": (members(coef_=npy(np.ones((1, 1), complex))), "dtype complex128"),
    "single": (members(coef_=npy(np.ones((1, 1), np.float32))), "float64, got float32"),
    "shape": (members(coef_=npy(np.ones((1, 2)))), "do not fit together"),
    "row": (members(coef_=npy(np.ones(1))), "do not fit together"),
    "intercepts": (members(intercept_=npy(np.ones(2))), "do not fit together"),
    "labels": (members(classes_=npy(np.arange(3))), "do not fit together"),
    "names": (
        fields(feature_names_in_={"objects": ["a", "b"]}),
        "do not fit together",
    ),
    "huge array": (
        members(coef_=npy(np.ones((1, 1)), **{"(1, 1), }": "(9**9,9), }"})),
        "is not valid",
    ),
    "large array": (
        members(coef_=npy(np.ones((1, 1)), **{"(1, 1), }  ": "(1, 99), }"})),
        r"shape \(1, 99\) does not fit",
    ),
    "negative shape": (
        members(coef_=npy(np.ones((1, 1)), **{"(1, 1), }  ": "(-1, -1), }"})),
        r"shape \(-1, -1\)",
    ),
    "cut array": (members(coef_=npy(np.ones((1, 1)))[:-1]), "does not fit its member"),
    "longer array": (
        members(coef_=npy(np.ones((1, 1))) + bytes(8)),
        "does not fit its member",
    ),
    "no array at all": (members(coef_=b"text"), "is not valid"),
    "bad parameter": (fields(C=-1.0), "'C' parameter"),
    "text for a parameter": (fields(fit_intercept="yes"), "'fit_intercept' parameter"),
    "method": (fields(predict=1), "has no attribute 'predict'"),
    "other attribute": (fields(rank_=1), "has no attribute 'rank_'"),
    "no coefficients": (drop("coef_"), "needs an attribute 'coef_'"),
    "no result": (fields(result_=None), "result_ must be of type Result, got NoneType"),
    "count as text": (fields(n_features_in_="1"), "n_features_in_ must be of type int"),
    "value as text": (of_result(value="0"), "Result whose value is of a wrong"),
    "trace as number": (of_result(trace=1.0), "Result whose trace is of a wrong"),
    "unknown field": (of_result(extra=1.0), "is not valid: 'extra'"),
    "state of another": (
        of_state(scores={"list": [1.0]}),
        "NewtonState whose scores is of a wrong type",
    ),
    "single in a state": (
        members(**{"result_.checkpoint.w": npy(np.ones(1, np.float32))}),
        "Checkpoint whose w is of a wrong type",
    ),
    "bad solver": (
        of_result(
            solver={"record": "SubsampledNewton", "fields": {"hessian_sample": 1.5}}
        ),
        "hessian_sample must be a fraction",
    ),
}


@pytest.mark.parametrize("way", FORGED)
def test_file_made_by_hand_is_refused(way, small, tmp_path):
    edit, message = FORGED[way]
    forged(small, tmp_path / "m", edit)
    refused(tmp_path / "m", f".*{message}")


@pytest.mark.parametrize(
    "content", ["[" * 10**5 + "]" * 10**5, "{", "1", "NaN", "[]", b"\xff", "9" * 5000]
)
def test_other_json_is_refused(content, tmp_path):
    seal(tmp_path / "m", [("content.json", content)])
    refused(tmp_path / "m", "is not valid")


def test_the_forger_can_write_what_is_accepted(small, tmp_path):
    # Otherwise the refusals above might be those of the forger's own mistakes.
    forged(small, tmp_path / "m", fields(C=2.0))
    model = sn.load(tmp_path / "m")
    assert model.C == 2.0
    assert same(model.coef_, sn.load(small).coef_)


def test_lack_of_memory_is_not_damage(small, monkeypatch):
    def fail(*args):
        raise MemoryError("no memory")

    monkeypatch.setattr(_archive, "_array", fail)
    with pytest.raises(MemoryError):
        sn.load(small)


def test_member_twice_is_refused(small, tmp_path):
    with zipfile.ZipFile(small) as archive:
        names = archive.namelist()
        both = [(name, archive.read(name)) for name in [*names, "coef_.npy"]]
    with pytest.warns(UserWarning, match="Duplicate name"):
        seal(tmp_path / "m", both)
    refused(tmp_path / "m", ".*every array once")


def test_pickle_in_the_file_is_not_run(small, tmp_path):
    trap = tmp_path / "trap"
    forged(small, tmp_path / "m", members(coef_=npy(np.array([Bomb(trap)]))))
    refused(tmp_path / "m", "is not valid")
    assert not trap.exists()


def test_field_that_a_later_release_added_gets_its_default(small, tmp_path):
    def edit(content, fields, members):
        del fields["verbose"], fields["result_"]["fields"]["certificate"]

    forged(small, tmp_path / "m", edit)
    model = sn.load(tmp_path / "m")
    assert model.verbose == 0
    assert model.result_.certificate is None


# --- disks and kills -----------------------------------------------------------------


class FullDisk:
    """A file with room for a hundred bytes."""

    def __init__(self, path, mode):
        self.file = Path(path).open(mode)  # noqa: SIM115  # closed on leaving

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content):
        self.file.write(content[:100])
        raise OSError(errno.ENOSPC, "disk is full")


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace", "unlink"])
def test_failing_call_leaves_the_old_file_and_nothing_else(
    name, fitted, tmp_path, monkeypatch
):
    path = tmp_path / "m"
    fitted("ridge")[0].save(path)
    content = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "disk", str(args[0]))

    with monkeypatch.context() as patch:
        if name == "open":
            patch.setattr(_archive, "open", fail, raising=False)
        elif name == "write":
            patch.setattr(_archive, "open", FullDisk, raising=False)
        else:
            patch.setattr(os, name, fail)
        if name == "unlink":  # of what another failure leaves
            patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk") as error:
            fitted("softmax")[0].save(path)
    number = errno.ENOSPC if name == "write" else errno.EIO
    assert (error.value.errno, error.value.filename) == (number, str(path))
    assert path.read_bytes() == content
    assert len([*tmp_path.iterdir()]) == (2 if name == "unlink" else 1)


def test_full_disk_is_an_error_with_the_path(fitted, small_disk):
    path = small_disk / "m"
    fitted("ridge")[0].save(path)
    content = path.read_bytes()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    with pytest.raises(OSError, match="No space") as error:
        fitted("saga")[0].save(path)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == content
    assert {p.name for p in small_disk.iterdir()} == {"m", "filler"}


KILLING = """
import os, signal, sys
import subsampled_newton as sn
target, *paths = sys.argv[1:]
models = [sn.load(path) for path in paths]
whole = os.path.getsize(target)
folder = os.path.dirname(target)
caught = 0
for _ in range(5):
    child = os.fork()
    if child == 0:
        while True:
            for model in models:
                model.save(target)
    writing = False
    while not writing:
        for entry in os.scandir(folder):
            try:
                writing = writing or 0 < entry.stat().st_size < whole
            except FileNotFoundError:  # renamed in the meantime
                pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    sn.load(target)
    for name in set(os.listdir(folder)) - {os.path.basename(target)}:
        caught += os.path.getsize(os.path.join(folder, name)) < whole
        os.unlink(os.path.join(folder, name))
print(caught)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_killed_process_leaves_one_file_or_the_other(tmp_path):
    run = sn.minimize(logistic(), sn.LBFGS(), max_iter=2).checkpoint
    (tmp_path / "folder").mkdir()
    paths = [tmp_path / name for name in ("folder/target", "a", "b")]
    for k, path in enumerate(paths):  # large, so that they are met half written
        dataclasses.replace(run, w=np.full(10**6, float(k % 2))).save(path)
    done = subprocess.run(
        [sys.executable, "-c", KILLING, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # the moment was met
    assert paths[0].read_bytes() in [path.read_bytes() for path in paths[1:]]
