"""Declared contrasts: the weighted sums of systems that a suite asks about, in the primary metric."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.reporting.systems import System, ranked_on_val
from bench.stats.bootstrap import Estimate, contrast
from bench.stats.inference import Inference, infer
from bench.store import PlannedContrast

__all__ = ["WeighedContrast", "totals", "weigh"]

Estimates = Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class WeighedContrast:
    """What came of a contrast, which is computed from all that it names, or not at all."""

    planned: PlannedContrast
    # None where it could not be computed, and why not
    estimate: Estimate | None = None
    found: Inference | None = None
    lacks: str = ""
    # by entry
    weights: Mapping[str, float] = field(default_factory=dict)
    # of `best_of`, by its name for several entries the best of them
    chosen: Mapping[str, str] = field(default_factory=dict)
    # the most seeds that one of its systems has
    most_seeds: int = 0

    @property
    def shared_seeds(self) -> int:
        """How many seeds all its systems have."""
        return len(self.estimate.seeds) if self.estimate else 0


def weigh(planned: Sequence[PlannedContrast], systems: Sequence[System], estimates: Estimates) -> list[WeighedContrast]:
    """Return each contrast of these systems, by the seeds that all of its systems have.

    `estimates` are by label and metric. Where an entry has no finished run the rest is not weighed anew, since that
    would answer another question.
    """
    return [_weigh(each, systems, estimates) for each in planned]


def _weigh(planned: PlannedContrast, systems: Sequence[System], estimates: Estimates) -> WeighedContrast:
    if lacks := _lacks(planned, systems):
        return WeighedContrast(planned, lacks=lacks)
    by_name = {system.name: system for system in systems}
    chosen = {
        group: ranked_on_val([by_name[entry] for entry in choice.entries])[0].name
        for group, choice in planned.best_of.items()
    }
    weights = planned.weights or {entry: planned.best_of[group].weight for group, entry in chosen.items()}
    weighed, metric = [by_name[entry] for entry in weights], systems[0].task.primary.name
    of_systems = [estimates[system.label][metric] for system in weighed]
    together = contrast(list(zip(weights.values(), of_systems, strict=True)))
    if together is None:
        return WeighedContrast(planned, lacks=f"{', '.join(weights)} have no seed in common")
    most = max(len(system.runs) for system in weighed)
    return WeighedContrast(planned, together, infer(together), "", weights, chosen, most)


def _lacks(planned: PlannedContrast, systems: Sequence[System]) -> str:
    """Return why a contrast can't be computed; '' where each of its entries is one system."""
    names = [system.name for system in systems]
    if missing := [entry for entry in planned.entries if entry not in names]:
        return f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no finished run"
    if several := [entry for entry in planned.entries if names.count(entry) > 1]:
        return f"{several[0]} was run with several settings here"
    return ""


def totals(planned: Sequence[PlannedContrast]) -> dict[str, int]:
    """Return the contrasts whose weights are those of several that follow directly, added: by name, of how many."""
    found: dict[str, int] = {}
    for place, total in enumerate(planned):
        left = defaultdict(float, total.weights)
        for count, part in enumerate(planned[place + 1 :], start=1):
            if not part.weights:
                break
            for entry, weight in part.weights.items():
                left[entry] -= weight
            if total.weights and count > 1 and all(math.isclose(rest, 0, abs_tol=1e-9) for rest in left.values()):
                found[total.name] = count
                break
    return found
