"""Make the profiles that ship with abmail: classes learned from simulated people, worth 2,000 opens of a new account.

Run: ``python -m benchmarks.profiles [PATH]``. 12,000 people with strong habits get 60 mails each, every one at a
random hour of the week. What `SendTime.fit` learns from them without any prior is written; no real person is behind it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import abmail
from abmail._readers import history, people
from abmail.sendtime import SendTime

PEOPLE, MAILS, SEED = 12_000, 60, 20_240
LABEL = "Simulated: 12,000 people of abmail/_readers.py, 60 mails each at random hours. No real person's data."


def profiles() -> dict[str, object]:
    """Learn them."""
    rng = np.random.default_rng(SEED)
    log = history(people(PEOPLE, rng), MAILS, rng, logs="week")
    classes = SendTime.fit(log, forget=1.0, profiles=False).population.classes
    return {
        "format_version": 1,
        "source": LABEL,
        "alpha": round(classes.alpha, 4),
        "beta": round(classes.beta, 4),
        "shares": np.round(classes.shares[0], 4).tolist(),
        "shapes": np.round(classes.shapes, 3).tolist(),
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Make the profiles that ship with abmail.")
    shipped = Path(abmail.__file__).parent / "_profiles.json"
    parser.add_argument("path", type=Path, nargs="?", default=shipped)
    path = parser.parse_args().path
    path.write_text(json.dumps(profiles()) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
