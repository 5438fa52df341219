"""Sub-sampled second-order solvers for large finite sums.

Estimators with the interface of scikit-learn: `LogisticRegression`, `Ridge`. For
research: `minimize`, `LinearModel`, `FiniteSum`, the losses and `SubsampledNewton`.
"""

from subsampled_newton._smoothness import Smoothness, smoothness
from subsampled_newton.certificate import Certificate, certify
from subsampled_newton.columns import Columns
from subsampled_newton.data import Rows, as_rows
from subsampled_newton.estimators import (
    LinearRegression,
    LogisticRegression,
    NonlinearLeastSquares,
    Ridge,
    SigmoidLeastSquaresClassifier,
    warmup,
)
from subsampled_newton.inference import Diagnosis, WaldTests
from subsampled_newton.leverage import coherence, leverage_scores
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.losses import (
    LOGISTIC,
    POISSON,
    SIGMOID_SQUARED,
    SQUARED,
    SQUARED_HINGE,
    TANH_SQUARED,
    PointwiseLoss,
    huber,
    link_squared,
    pseudo_huber,
    tukey,
)
from subsampled_newton.nonlinear_model import NonlinearModel
from subsampled_newton.persistence import load
from subsampled_newton.problem import FiniteSum, check_derivatives
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._driver import State, minimize
from subsampled_newton.solvers._memory import device_memory_needed, memory_needed
from subsampled_newton.solvers._result import Checkpoint, Result, Start, Status, Trace
from subsampled_newton.solvers._sizes import Growing, InverseStep, Lemma, Spectral
from subsampled_newton.solvers.cubic import CubicRegularization
from subsampled_newton.solvers.direct import DirectLeastSquares
from subsampled_newton.solvers.dual_start import DualStartNewton
from subsampled_newton.solvers.gradient import GradientDescent
from subsampled_newton.solvers.heavy_ball import HeavyBall
from subsampled_newton.solvers.lbfgs import LBFGS
from subsampled_newton.solvers.least_squares import choose_least_squares
from subsampled_newton.solvers.levenberg_marquardt import LevenbergMarquardt
from subsampled_newton.solvers.multilevel import MultilevelNewton
from subsampled_newton.solvers.multistart import multistart
from subsampled_newton.solvers.nesterov import Nesterov
from subsampled_newton.solvers.newton import SubsampledNewton
from subsampled_newton.solvers.sag import SAG
from subsampled_newton.solvers.saga import SAGA
from subsampled_newton.solvers.sampled_start import SampledStart
from subsampled_newton.solvers.sdca import SDCA
from subsampled_newton.solvers.sgd import SGD
from subsampled_newton.solvers.sketched import SketchedLeastSquares
from subsampled_newton.solvers.svrg import SVRG
from subsampled_newton.solvers.trust_region import TrustRegion

__version__ = "0.1.0"

__all__ = [
    "LBFGS",
    "LOGISTIC",
    "POISSON",
    "SAG",
    "SAGA",
    "SDCA",
    "SGD",
    "SIGMOID_SQUARED",
    "SQUARED",
    "SQUARED_HINGE",
    "SVRG",
    "TANH_SQUARED",
    "Certificate",
    "Checkpoint",
    "Columns",
    "CubicRegularization",
    "Diagnosis",
    "DirectLeastSquares",
    "DualStartNewton",
    "FiniteSum",
    "GradientDescent",
    "Growing",
    "HeavyBall",
    "InverseStep",
    "Lemma",
    "LevenbergMarquardt",
    "LinearModel",
    "LinearRegression",
    "LogisticRegression",
    "MultilevelNewton",
    "Nesterov",
    "NonlinearLeastSquares",
    "NonlinearModel",
    "PointwiseLoss",
    "Result",
    "Ridge",
    "Rows",
    "SampledStart",
    "SigmoidLeastSquaresClassifier",
    "SketchedLeastSquares",
    "Smoothness",
    "SoftmaxModel",
    "Spectral",
    "Start",
    "State",
    "Status",
    "SubsampledNewton",
    "Trace",
    "TrustRegion",
    "WaldTests",
    "as_rows",
    "certify",
    "check_derivatives",
    "choose_least_squares",
    "coherence",
    "device_memory_needed",
    "huber",
    "leverage_scores",
    "link_squared",
    "load",
    "memory_needed",
    "minimize",
    "multistart",
    "pseudo_huber",
    "smoothness",
    "tukey",
    "warmup",
]
