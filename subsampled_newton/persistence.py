"""Models and checkpoints in files that hold no code: what ``save(path)`` wrote."""

from __future__ import annotations

import enum
import inspect
import os
import types
import typing
from numbers import Integral, Real
from typing import Any

import numpy as np

from subsampled_newton import _archive
from subsampled_newton.certificate import Certificate
from subsampled_newton.estimators._base import LinearEstimator
from subsampled_newton.estimators._classifiers import (
    LinearClassifier,
    LogisticRegression,
    SigmoidLeastSquaresClassifier,
)
from subsampled_newton.estimators._linear import LinearRegression, Ridge
from subsampled_newton.sampling import Sample
from subsampled_newton.solvers import (
    _polish,
    _ratio,
    _refinement,
    _result,
    _sizes,
    _variance_reduced,
    _whitener,
    cubic,
    direct,
    dual_start,
    gradient,
    heavy_ball,
    lbfgs,
    levenberg_marquardt,
    multilevel,
    nesterov,
    newton,
    sag,
    saga,
    sampled_start,
    sdca,
    sgd,
    sketched,
    svrg,
    trust_region,
)
from subsampled_newton.solvers._driver import State

__all__ = ["load"]

_MODELS = (LinearRegression, LogisticRegression, Ridge, SigmoidLeastSquaresClassifier)
_RESULTS = (
    _result.Checkpoint,
    _result.Result,
    _result.Start,
    _result.Status,
    _result.Trace,
    Certificate,
)
_SIZE_RULES = (
    _sizes.Fixed,
    _sizes.Growing,
    _sizes.InverseStep,
    _sizes.Lemma,
    _sizes.Spectral,
)
_SOLVERS = (
    _polish.FactoredNewton,
    cubic.CubicRegularization,
    direct.DirectLeastSquares,
    direct.WhitenedLeastSquares,
    dual_start.DualStartNewton,
    gradient.GradientDescent,
    heavy_ball.HeavyBall,
    lbfgs.LBFGS,
    levenberg_marquardt.LevenbergMarquardt,
    multilevel.MultilevelNewton,
    nesterov.Nesterov,
    newton.SubsampledNewton,
    sag.SAG,
    saga.SAGA,
    sampled_start.SampledStart,
    sdca.SDCA,
    sgd.SGD,
    sketched.SketchedLeastSquares,
    svrg.SVRG,
    trust_region.TrustRegion,
)
_STATES = (
    State,
    _polish.PolishState,
    _ratio.RatioState,
    _refinement.LeastSquaresState,
    _refinement.Refinement,
    _variance_reduced.EpochState,
    _variance_reduced.Memory,
    _whitener.Whitener,
    Sample,
    gradient.GradientState,
    heavy_ball.HeavyBallState,
    lbfgs.LBFGSState,
    levenberg_marquardt.LevenbergMarquardtState,
    multilevel.MultilevelState,
    nesterov.NesterovState,
    newton.NewtonState,
    sdca.SDCAState,
    sgd.SGDState,
    svrg.SVRGState,
)
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (*_MODELS, *_RESULTS, *_SIZE_RULES, *_SOLVERS, *_STATES)
}
"""What a file may hold. A field that a later release adds needs a default: files of
earlier ones lack it."""
_FITTED = {
    "classes_": np.ndarray,
    "coef_": np.ndarray,
    "intercept_": np.ndarray | float,
    "n_iter_": np.ndarray | int,
    "result_": _result.Result,
    "rank_": int | None,
    "condition_": float,
    "n_features_in_": int,
    "feature_names_in_": np.ndarray,
}
_OPTIONAL = {"feature_names_in_"}


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model, a result or a checkpoint from a file that ``save(path)`` wrote.

    A model predicts the same bits as the one that was saved; `minimize` goes on from a
    checkpoint as if it had never stopped. The file holds numbers and names, no code: to
    read a file from elsewhere is safe.

    Parameters
    ----------
    path : path
        Of the file.

    Returns
    -------
    LogisticRegression, Ridge, ..., Result or Checkpoint
        What was saved.

    Raises
    ------
    ValueError
        If the file is damaged in any byte, cut off, or not one that ``save`` wrote, or
        is of a later format.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from subsampled_newton import Ridge, load
    >>> X = np.eye(3)
    >>> path = os.path.join(tempfile.mkdtemp(), "ridge.npz")
    >>> Ridge().fit(X, [1.0, 2.0, 3.0]).save(path)
    >>> load(path).predict(X)
    array([1.5, 2. , 2.5])
    """
    value = _archive.read(path, _built)
    if not isinstance(value, (*_MODELS, _result.Result, _result.Checkpoint)):
        raise ValueError(f"{path} holds no model, result or checkpoint")
    return value


def _built(name: str, fields: dict[str, Any]) -> Any:
    """Object of a registered class, if these are fields of one."""
    cls = CLASSES.get(name)
    if cls is None:
        raise ValueError(f"it holds a {name!r}, which this release does not know")
    if issubclass(cls, enum.Enum):
        return cls[fields["name"]]
    if issubclass(cls, LinearEstimator):
        return _model(cls, fields)
    hints = typing.get_type_hints(cls)
    for key, value in fields.items():
        if not _fits(value, hints[key]):
            raise ValueError(f"it holds a {name} whose {key} is of a wrong type")
    return cls(**fields)


def _model(cls: type[LinearEstimator], fields: dict[str, Any]) -> LinearEstimator:
    """Fitted estimator; raises if its parts do not fit together."""
    names = inspect.signature(cls).parameters
    model = cls(**{key: value for key, value in fields.items() if key in names})
    model._validate_params()
    fitted = {key: value for key, value in fields.items() if key not in names}
    expected = set(_FITTED)
    if cls is not LinearRegression:
        expected -= {"rank_", "condition_"}
    if not issubclass(cls, LinearClassifier):
        expected -= {"classes_"}
    for key in sorted(set(fitted) ^ expected - (_OPTIONAL - set(fitted))):
        lacks = "has no" if key in fitted else "needs an"
        raise ValueError(f"a fitted {cls.__name__} {lacks} attribute {key!r}")
    for key, value in fitted.items():
        if not _fits(value, _FITTED[key]):
            raise ValueError(
                f"{key} must be of type {_in_words(_FITTED[key])}, got "
                f"{type(value).__name__}"
            )
        setattr(model, key, value)
    for key in ("coef_", "intercept_"):
        dtype = np.asarray(fitted[key]).dtype
        if dtype != np.float64:
            raise ValueError(f"{key} must be of dtype float64, got {dtype}")
    shape = model.coef_.shape
    outputs: tuple[int, ...] = shape[:-1]
    if issubclass(cls, LinearClassifier):
        K = len(model.classes_)
        outputs = (1 if K == 2 else K,)
    n_features, names_in = model.n_features_in_, fitted.get("feature_names_in_")
    if (
        len(outputs) > 1
        or shape != (*outputs, n_features)
        or np.shape(model.intercept_) not in (outputs, ())
        or (names_in is not None and names_in.shape != (n_features,))
    ):
        raise ValueError("its coef_, intercept_ and labels do not fit together")
    model.history_ = model.result_.trace.as_dict()
    return model


def _in_words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or getattr(hint, "_is_protocol", False):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if origin is typing.Literal:
        return value in inner
    if origin is np.ndarray:  # NDArray[...]
        (kind,) = typing.get_args(inner[1])
        known = isinstance(value, np.ndarray)
        return known and (kind is Any or value.dtype == np.dtype(kind))
    if origin is tuple and isinstance(value, tuple):
        if inner[-1] is Ellipsis:
            return all(_fits(part, inner[0]) for part in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if hint in (int, float):
        allowed = Real if hint is float else Integral
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
