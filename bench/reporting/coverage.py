"""How often simulated intervals held the truth: what a report says of its own."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.stats.inference import SEEDS_NEEDED, SHARED_SEEDS_NEEDED

__all__ = ["held"]

_COVERAGE = Path(__file__).parents[1] / "stats" / "coverage.csv"


def held(what: Literal["difference", "single"], clips: int, seeds: int) -> tuple[float, int]:
    """Return the share of simulated 95% intervals that held the truth, at the nearest number of clips, and that.

    `what` is a difference or a single mAP; of several simulations it is the worst. With groups none counts.
    """
    table = pd.read_csv(_COVERAGE, comment="#")
    table = table[table["group"] == 1]
    if what == "single":
        questions, simulated = ["one mAP"], SEEDS_NEEDED if seeds >= SEEDS_NEEDED else 1
    elif seeds >= SHARED_SEEDS_NEEDED:
        questions = ["equals", "better"]
        simulated = max(n for n in table.loc[table["question"] == "equals", "seeds"] if n <= seeds)
    else:
        questions, simulated = ["checkpoints"], 1
    table = table[table["question"].isin(questions) & (table["seeds"] == simulated)]
    nearest = table["clips"].iloc[(np.log(table["clips"]) - np.log(clips)).abs().argmin()]
    return float(table.loc[table["clips"] == nearest, "holds"].min()), int(nearest)
