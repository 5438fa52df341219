"""Sub-sampled second-order solvers for large finite sums.

Estimators with the interface of scikit-learn: `LogisticRegression`, `Ridge`. For
research: `minimize`, `LinearModel`, `FiniteSum`, the losses and `SubsampledNewton`.
"""

from subsampled_newton.columns import Columns
from subsampled_newton.data import Rows, as_rows
from subsampled_newton.estimators import LogisticRegression, Ridge, warmup
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.losses import (
    LOGISTIC,
    POISSON,
    SIGMOID_SQUARED,
    SQUARED,
    TANH_SQUARED,
    PointwiseLoss,
    huber,
    link_squared,
    pseudo_huber,
    tukey,
)
from subsampled_newton.problem import FiniteSum, check_derivatives
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._driver import State, minimize
from subsampled_newton.solvers._result import Checkpoint, Result, Status, Trace
from subsampled_newton.solvers._sizes import Growing, Lemma, Spectral
from subsampled_newton.solvers.multilevel import MultilevelNewton
from subsampled_newton.solvers.newton import SubsampledNewton

__version__ = "0.1.0"

__all__ = [
    "LOGISTIC",
    "POISSON",
    "SIGMOID_SQUARED",
    "SQUARED",
    "TANH_SQUARED",
    "Checkpoint",
    "Columns",
    "FiniteSum",
    "Growing",
    "Lemma",
    "LinearModel",
    "LogisticRegression",
    "MultilevelNewton",
    "PointwiseLoss",
    "Result",
    "Ridge",
    "Rows",
    "SoftmaxModel",
    "Spectral",
    "State",
    "Status",
    "SubsampledNewton",
    "Trace",
    "as_rows",
    "check_derivatives",
    "huber",
    "link_squared",
    "minimize",
    "pseudo_huber",
    "tukey",
    "warmup",
]
