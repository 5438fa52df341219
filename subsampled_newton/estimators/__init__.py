"""Estimators with the interface of scikit-learn: change the import, keep the code."""

from subsampled_newton.estimators._base import SOLVERS
from subsampled_newton.estimators._classifiers import (
    LogisticRegression,
    SigmoidLeastSquaresClassifier,
)
from subsampled_newton.estimators._linear import (
    LEAST_SQUARES,
    LinearRegression,
    Ridge,
)
from subsampled_newton.estimators._nonlinear import NonlinearLeastSquares
from subsampled_newton.estimators._warmup import warmup

__all__ = [
    "LEAST_SQUARES",
    "SOLVERS",
    "LinearRegression",
    "LogisticRegression",
    "NonlinearLeastSquares",
    "Ridge",
    "SigmoidLeastSquaresClassifier",
    "warmup",
]
