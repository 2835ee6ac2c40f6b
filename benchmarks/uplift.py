"""What the comparison of chosen hours with the fixed one claims where hours are worth nothing.

    python -m benchmarks.uplift --accounts 4000

Nobody has habits, so that which hour was chosen changes nothing and need not be worked out: each account is a list of
people who open as often as they do, a tenth of them in the control group, and some mailings. Coverage: intervals of the
effect (for one look, after the last mailing) that hold zero. Claimed: accounts in which anything, good or bad, was ever
called proven, looked at after each mailing. `abmail sendtime simulate --habits none` plays the same with hours chosen.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from abmail._hazard import reach
from abmail._readers import people
from abmail.sendtime import UpliftStatus, control_group, uplift

APPEAL = 0.3  # standard deviation of a campaign's log appeal
PAST = 5  # mails before the comparison
Booleans = NDArray[np.bool_]
LISTS = ((300, 6), (500, 6), (500, 12), (2_000, 6))


def account(n: int, mailings: int, rng: np.random.Generator, salt: str) -> tuple[bool, bool]:
    """Whether the last interval holds zero, and whether anything was ever claimed."""
    crowd = people(n, rng, strength=0.0)
    chance = crowd.engagement * (crowd.activity @ reach(crowd.decay))[:, 10]

    def opened() -> Booleans:
        return np.asarray(rng.random(n) < -np.expm1(-np.exp(APPEAL * rng.standard_normal()) * chance))

    control = control_group(np.arange(n), salt)
    before = np.mean([opened() for _ in range(PAST)], axis=0)
    opens: list[Booleans] = []
    claimed = False
    for _ in range(mailings):
        opens.append(opened())
        k = len(opens)
        found = uplift(
            np.tile(np.arange(n), k), np.repeat(np.arange(k), n), np.tile(control, k), np.concatenate(opens),
            before=np.tile(before, k),
        )  # fmt: skip
        claimed |= found.status in {UpliftStatus.PROVEN, UpliftStatus.WORSE}
    return found.status == UpliftStatus.TOO_FEW or found.ci_lower <= 0 <= found.ci_upper, claimed


def main() -> None:
    """Print a row for each kind of list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print("recipients  mailings  accounts  covered (error)   must be  ever claimed")
    for n, mailings in LISTS:
        rows = [
            account(n, mailings, np.random.default_rng([asked.seed, number]), f"account {number}")
            for number in range(asked.accounts)
        ]
        covered, claimed = np.array(rows).mean(axis=0)
        error = np.sqrt(covered * (1 - covered) / len(rows))
        print(
            f"{n:10,}  {mailings:8}  {len(rows):8,}  {covered:7.2%} ({error:.2%})   95 %     {claimed:.2%}", flush=True
        )


if __name__ == "__main__":
    main()
