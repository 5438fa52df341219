"""Sub-sampled second-order solvers for large finite sums.

Estimators with the interface of scikit-learn: `LogisticRegression`, `Ridge`. For
research: `minimize`, `LinearModel`, `FiniteSum`, the losses and `SubsampledNewton`.
"""

from subsampled_newton.certificate import Certificate, certify
from subsampled_newton.columns import Columns
from subsampled_newton.data import Rows, as_rows
from subsampled_newton.estimators import (
    LogisticRegression,
    Ridge,
    SigmoidLeastSquaresClassifier,
    warmup,
)
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
from subsampled_newton.solvers._sizes import Growing, InverseStep, Lemma, Spectral
from subsampled_newton.solvers.cubic import CubicRegularization
from subsampled_newton.solvers.multilevel import MultilevelNewton
from subsampled_newton.solvers.newton import SubsampledNewton
from subsampled_newton.solvers.trust_region import TrustRegion

__version__ = "0.1.0"

__all__ = [
    "LOGISTIC",
    "POISSON",
    "SIGMOID_SQUARED",
    "SQUARED",
    "TANH_SQUARED",
    "Certificate",
    "Checkpoint",
    "Columns",
    "CubicRegularization",
    "FiniteSum",
    "Growing",
    "InverseStep",
    "Lemma",
    "LinearModel",
    "LogisticRegression",
    "MultilevelNewton",
    "PointwiseLoss",
    "Result",
    "Ridge",
    "Rows",
    "SigmoidLeastSquaresClassifier",
    "SoftmaxModel",
    "Spectral",
    "State",
    "Status",
    "SubsampledNewton",
    "Trace",
    "TrustRegion",
    "as_rows",
    "certify",
    "check_derivatives",
    "huber",
    "link_squared",
    "minimize",
    "pseudo_huber",
    "tukey",
    "warmup",
]
