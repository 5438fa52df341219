"""Random quadratic models with every inertia, every scale, and planted hard cases."""

from typing import NamedTuple

import numpy as np

SPECTRA = ("indefinite", "definite", "singular", "multiple", "zero")
GRADIENTS = ("general", "orthogonal", "zero", "nearly orthogonal")


class Models(NamedTuple):
    """Stacks of Hessians (m, d, d), gradients (m, d), radii or sigmas (m,)."""

    H: np.ndarray
    g: np.ndarray
    size: np.ndarray
    spectrum: np.ndarray
    gradient: np.ndarray


def random_models(m, d, seed, scales=6.0):
    """Models whose Hessian, gradient and size are scaled by 10**[-scales, scales].

    Half of the Hessians are diagonal: there a gradient is orthogonal to the bottom
    eigenvectors to the last bit, elsewhere to rounding.
    """
    rng = np.random.default_rng([seed, d])
    values = rng.standard_normal((m, d))
    spectrum = rng.choice(SPECTRA, m, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    values[spectrum == "definite"] = np.abs(values[spectrum == "definite"])
    values[spectrum == "singular"] = np.abs(values[spectrum == "singular"])
    values[spectrum == "singular", : (d + 1) // 2] = 0.0
    values[spectrum == "zero"] = 0.0
    values.sort(axis=1)
    multiple = spectrum == "multiple"
    values[multiple, : (d + 2) // 3] = values[multiple, :1]

    g = rng.standard_normal((m, d))
    gradient = rng.choice(GRADIENTS, m, p=[0.4, 0.3, 0.1, 0.2])
    bottom = values == values[:, :1]
    g[(gradient == "orthogonal")[:, None] & bottom] = 0.0
    g[gradient == "zero"] = 0.0
    small = 10.0 ** -rng.uniform(1.0, 30.0, m)
    near = (gradient == "nearly orthogonal")[:, None] & bottom
    g = np.where(near, g * small[:, None], g)

    Q = np.linalg.qr(rng.standard_normal((m, d, d)))[0]
    Q[rng.random(m) < 0.5] = np.eye(d)
    H = (Q * values[:, None, :]) @ Q.transpose(0, 2, 1)
    H = 0.5 * (H + H.transpose(0, 2, 1))
    g = np.einsum("mij,mj->mi", Q, g)
    of_H, of_g, size = 10.0 ** rng.uniform(-scales, scales, (3, m))
    return Models(H * of_H[:, None, None], g * of_g[:, None], size, spectrum, gradient)


def largest_modulus(H):
    """Spectral norm of each matrix of a stack."""
    return np.abs(np.linalg.eigvalsh(H)).max(axis=-1)


def residual(H, g, steps, nu):
    """``||(H + nu I) s + g||`` relative to the terms that cancel in it."""
    left = np.einsum("mij,mj->mi", H, steps) + nu[:, None] * steps + g
    norm = np.linalg.norm(steps, axis=1)
    terms = (largest_modulus(H) + nu) * norm + np.linalg.norm(g, axis=1)
    return np.linalg.norm(left, axis=1) / np.where(terms > 0.0, terms, 1.0)


def indefiniteness(H, nu):
    """How far ``H + nu I`` is from semi-definite, relative to H."""
    values = np.linalg.eigvalsh(H)
    scale = np.abs(values).max(axis=-1)
    return np.maximum(0.0, -(values[:, 0] + nu)) / np.where(scale > 0.0, scale, 1.0)
