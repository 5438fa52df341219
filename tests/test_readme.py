"""The README's examples run as they stand."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_in_order(capsys):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 5))
    y = np.where(X[:, 0] + rng.logistic(size=3000) > 0, 1.0, -1.0)
    names = {"X": X, "y": y}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(block, names)
    assert "CONVERGED" in capsys.readouterr().out
    assert names["result"].converged


def test_tables_name_every_solver_and_every_loss():
    from subsampled_newton import losses
    from subsampled_newton.estimators import LEAST_SQUARES, SOLVERS

    text = README.read_text("utf-8")
    assert all(f'`"{name}"`' in text for name in (*SOLVERS, *LEAST_SQUARES))
    for name in set(losses.__all__) - {"PointwiseLoss"}:
        assert f"`{name}`" in text


def test_files_that_it_links_to_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8"))
    assert links
    assert all((README.parent / link).exists() for link in links)
