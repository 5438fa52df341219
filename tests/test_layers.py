"""Imports go down only: the floors of the architecture."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "subsampled_newton"

# Lower number, lower floor. A module may import from lower floors only; the order
# inside a floor is part of the table.
FLOORS = {
    "_archive": 0.0,
    "_jit": 0.0,
    "_interrupts": 0.0,
    "_memory": 0.0,
    "_parallel": 0.01,
    "parameters": 0.0,
    "_prefetch": 0.0,
    "_tile": 0.0,
    "_dual": 0.1,
    "_elementary": 0.1,
    "_dual_rules": 0.2,
    "_dual_plain": 0.25,
    "_user_function": 0.3,
    "losses": 0.2,
    "linesearch": 0.3,
    "sampling": 0.3,
    "subproblems._step": 0.3,
    "sample_losses": 0.4,
    "subproblems._ball": 0.4,
    "subproblems.newton": 0.4,
    "subproblems._secular": 0.5,
    "subproblems.conjugate_gradient": 0.5,
    "subproblems._krylov": 0.6,
    "subproblems.cubic": 0.6,
    "subproblems.spectral": 0.6,
    "subproblems.lanczos": 0.7,
    "subproblems.more_sorensen": 0.7,
    "kernels.draws": 1.0,
    "kernels.rows": 1.0,
    "kernels.epochs": 1.1,
    "kernels.gram": 1.1,
    "kernels.linear": 1.1,
    "kernels.sketch": 1.1,
    "kernels.fused": 1.2,
    "kernels.lagged": 1.2,
    "kernels.nonlinear": 1.2,
    "kernels.pointwise": 1.2,
    "kernels.softmax": 1.2,
    "columns": 1.9,
    "data": 2.0,
    "picked": 2.05,
    "backends._cuda_tiles": 2.1,
    "embeddings": 2.1,
    "backends._cuda_entries": 2.11,
    "backends._cuda_gram": 2.11,
    "backends._cuda_rows": 2.11,
    "backends._cuda_vectors": 2.11,
    "backends._cuda_classes": 2.12,
    "backends._cuda_device": 2.2,
    "backends._cuda_store": 2.21,
    "factor": 2.2,
    "backends.cuda": 2.3,
    "leverage": 2.3,
    "problem": 3.0,
    "linear_model": 3.1,
    "nonlinear_model": 3.2,
    "softmax_model": 3.2,
    "_smoothness": 3.3,
    "certificate": 3.3,
    "separation": 3.3,
    "solvers._result": 4.0,
    "solvers._sizes": 4.0,
    "solvers._memory": 4.05,
    "solvers._advice": 4.06,
    "solvers._verdict": 4.06,
    "solvers._descent": 4.1,
    "solvers._driver": 4.1,
    "solvers._whitener": 4.05,
    "solvers._fixed_step": 4.2,
    "solvers._iterative_sketching": 4.25,
    "solvers._polish": 4.2,
    "solvers._ratio": 4.2,
    "solvers._refinement": 4.2,
    "solvers._samples": 4.2,
    "solvers.newton": 4.2,
    "inference": 4.3,
    "solvers._variance_reduced": 4.3,
    "solvers.cubic": 4.3,
    "solvers.direct": 4.3,
    "solvers.gradient": 4.3,
    "solvers.heavy_ball": 4.3,
    "solvers.lbfgs": 4.3,
    "solvers.levenberg_marquardt": 4.3,
    "solvers.multilevel": 4.3,
    "solvers.nesterov": 4.3,
    "solvers.sketched": 4.3,
    "solvers.trust_region": 4.3,
    "solvers.least_squares": 4.4,
    "solvers.sag": 4.4,
    "solvers.saga": 4.4,
    "solvers.sdca": 4.4,
    "solvers.dual_start": 4.5,
    "solvers.sampled_start": 4.5,
    "solvers.multistart": 4.6,
    "solvers.sgd": 4.4,
    "solvers.svrg": 4.4,
    "estimators._base": 5.0,
    "estimators._row_space": 4.9,
    "estimators._targets": 4.9,
    "estimators._classifiers": 5.1,
    "estimators._linear": 5.1,
    "estimators._nonlinear": 5.1,
    "estimators._warmup": 5.2,
    "estimators": 5.3,
    "persistence": 5.4,
    "": 6.0,
}
FREE = ("backends", "kernels", "solvers", "subproblems")  # package docstrings only
ALLOWED = {  # third-party package -> modules that may import it
    "cuda": ("backends.cuda",),
    "numba": (
        "_jit",
        "_prefetch",
        "_tile",
        "_dual",
        "_dual_rules",
        "_user_function",
        "backends._cuda_device",
        "backends._cuda_tiles",
    ),
    "sklearn": (
        "estimators._base",
        "estimators._linear",
        "estimators._classifiers",
        "estimators._nonlinear",
    ),
    "joblib": ("_parallel",),
    "threadpoolctl": ("_parallel",),
    "tqdm": ("solvers._driver",),
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").rstrip(".")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                known = inner.removeprefix("subsampled_newton.") in FLOORS
                yield inner if known else node.module


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down(path):
    name = module_name(path)
    if name in FREE:
        assert not list(imports(path))
        return
    for target in imports(path):
        top, _, rest = target.partition(".")
        if top == "subsampled_newton":
            assert FLOORS[rest] < FLOORS[name], f"{name} imports {rest}"
        elif top in ALLOWED:
            assert name in ALLOWED[top], f"{name} imports {top}"


def test_numba_decorators_are_applied_in_one_module():
    for path in FILES:
        if module_name(path) != "_jit":
            text = path.read_text()
            assert "@njit" not in text
            assert "numba.njit" not in text
            assert "prange(" not in text
