"""The theory of the Mahoney and Martens lectures, measured."""

from __future__ import annotations

from bench.reproduce.parts import Parts
from bench.reproduce.theory_complexity import COMPLEXITY
from bench.reproduce.theory_kappa import KAPPA
from bench.reproduce.theory_lemma import LEMMA
from bench.reproduce.theory_martens import BOUNDS, RAVINE
from bench.reproduce.theory_sag import STOCHASTIC

__all__ = ["EXPERIMENT"]

EXPERIMENT = Parts(
    "theory",
    "Theory: sampling, condition numbers, bounds",
    (LEMMA, KAPPA, BOUNDS, RAVINE, STOCHASTIC, COMPLEXITY),
    "The sampling lemma is safe by two orders of magnitude. With leverage samples of "
    "20 d rows the iterations of sub-sampled Newton do not depend on the condition "
    "number, as long as directions are solved to 1/sqrt(kappa), which the default "
    "forcing term sees to. Those of trust-region and cubic methods grow far slower "
    "than their bounds. A Hessian sample of the accuracy that the theory asks for "
    "costs no iterations; a fixed 5 % costs three to four times as many to a small "
    "gradient, where full methods are quadratic.",
)
