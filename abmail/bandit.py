"""How the next wave is shared among the arms, from what the earlier waves have shown.

A policy is a frozen value; what it knows is in the counts, so an epoch's weights can be worked out again at any time.
Mails that nobody has opened yet are neither failures nor left out: each counts as the share of a trial whose answer can
have come in by now, which `DelayCurve` estimates (Vernade, Cappé & Perchet 2017; Chapelle 2014). Where the arms may
differ in speed, `DelayCurve.fit_by_arm` gives several pictures of that share, and `weights_over` averages over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from abmail._account import AccountCurve, AccountPrior, curve_from_history, prior_from_history
from abmail._contextual import Contextual
from abmail._delay import ArmCurves, DelayCurve
from abmail._factorial import Factorial
from abmail._fading import faded
from abmail._hierarchy import Hierarchical
from abmail._policies import (
    SIMPLE_POLICIES,
    ChanceToBeBest,
    EpsilonGreedy,
    ExplorationSampling,
    Fixed,
    Policy,
    Sharpened,
    TestThenSend,
    Thompson,
    TopTwo,
    Uniform,
    read_policy,
)
from abmail._structure import BySegment
from abmail._weights import WEIGHT_UNIT, level_weighted, quantise
from abmail.stats import Counts

__all__ = [
    "POLICIES",
    "WEIGHT_UNIT",
    "AccountCurve",
    "AccountPrior",
    "ArmCurves",
    "BySegment",
    "ChanceToBeBest",
    "Contextual",
    "DelayCurve",
    "EpsilonGreedy",
    "ExplorationSampling",
    "Factorial",
    "Fixed",
    "Hierarchical",
    "Policy",
    "Sharpened",
    "TestThenSend",
    "Thompson",
    "TopTwo",
    "Uniform",
    "curve_from_history",
    "faded",
    "level_weighted",
    "policy_from_dict",
    "prior_from_history",
    "quantise",
    "weights_over",
]

Floats = NDArray[np.float64]

POLICIES: Final = {
    **SIMPLE_POLICIES, Hierarchical.name: Hierarchical, Factorial.name: Factorial, Contextual.name: Contextual,
}  # fmt: skip
"""Every policy by its name; `policy_from_dict` reads them."""

_NEGLIGIBLE: Final = 1e-7  # a scenario that could not move any weight by its last digit


def policy_from_dict(data: Mapping[str, Any]) -> Policy:
    """Read what a policy's ``to_dict`` wrote.

    Raises:
        ValueError: No policy has that name, or one of its fields is unknown or out of range.

    Example:
        >>> policy_from_dict({"name": "test_then_send", "share": 0.1})
        TestThenSend(share=0.1, wait=14400.0, planned=None)
    """
    return read_policy(data, POLICIES)


def weights_over(
    policy: Policy,
    counts: Counts,
    exposures: Floats,
    chances: Floats,
    *,
    rng: int | np.random.Generator | None = None,
    active: Sequence[bool] | None = None,
) -> Floats:
    """Shares of the next epoch where it is uncertain which part of the answers can have come in.

    For policies that go by the chance to be the best, that chance is averaged over the scenarios, which integrates the
    uncertain delays out: an arm that may just be slow keeps being tried. For others the shares are averaged.

    Args:
        policy: Any policy.
        counts: What is known; its own exposure is not used.
        exposures: (n_scenarios, n_epochs, n_arms) delay-weighted trials (`ArmCurves.exposures`), clipped to the sends.
        chances: (n_scenarios,) chance of each scenario, non-negative with a positive sum (`ArmCurves.chances`).
        rng: As `Policy.weights`.
        active: As `Policy.weights`.

    Returns:
        (n_arms,) float64, multiples of 2^-20 that sum to 1 exactly.

    Raises:
        ValueError: The shapes do not agree, or the chances are no chances.
    """
    if exposures.shape != (len(chances), *counts.n.shape):
        wanted = (len(chances), *counts.n.shape)
        raise ValueError(f"exposures have shape {exposures.shape}, must be {wanted}: scenarios, epochs, arms")
    if not np.isfinite(chances).all() or (chances < 0).any() or chances.sum() <= 0:
        raise ValueError(f"chances are {chances.tolist()}, must be non-negative numbers with a positive sum")
    share = chances / chances.sum()
    some = share > _NEGLIGIBLE
    trials = np.clip(exposures[some], 0.0, counts.n)
    if isinstance(policy, ChanceToBeBest):
        best = policy.chances(counts, active=active, exposures=trials)
        return policy.weights_from(share[some] @ best, counts, active=active)
    own = [policy.weights(counts.exposed(exposure), rng=rng, active=active) for exposure in trials]
    return quantise(share[some] @ np.stack(own))
