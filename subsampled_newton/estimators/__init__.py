"""Estimators with the interface of scikit-learn: change the import, keep the code."""

from subsampled_newton.estimators._base import SOLVERS
from subsampled_newton.estimators._classifiers import (
    LogisticRegression,
    SigmoidLeastSquaresClassifier,
)
from subsampled_newton.estimators._linear import Ridge
from subsampled_newton.estimators._warmup import warmup

__all__ = [
    "SOLVERS",
    "LogisticRegression",
    "Ridge",
    "SigmoidLeastSquaresClassifier",
    "warmup",
]
