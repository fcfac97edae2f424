"""How many seeds, clips and hours a suite needs, before anything is trained."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AllowInfNan

from architectures import get_architecture
from bench.api.console import shown
from bench.api.plugins import load_plugins
from bench.errors import UserError
from bench.protocol.task import get_task
from bench.reporting.planning import Pilot, Question, Spread, training_hours, weigh_pilot
from bench.reporting.power_plan import PowerPlan
from bench.reporting.sampling import Sampling
from bench.reporting.systems import Results, load_results
from bench.runner.display import Display
from bench.schema import Strict, validated
from bench.stats.bootstrap import RESAMPLES
from bench.stats.planning import POWER
from bench.suites.plan import contrasts, entries
from bench.suites.suite import Entry, Suite, load_suite

__all__ = ["PowerPlan", "plan"]


class _Numbers(Strict):
    """What is asked, by type; which values make sense is said where they are used."""

    # those that are not finite are told of there, too
    difference: Annotated[float, AllowInfNan()]
    power: Annotated[float, AllowInfNan()]
    seed_sd: Annotated[float, AllowInfNan()] | None
    clip_sd: Annotated[float, AllowInfNan()] | None
    clips: int | None
    seeds: int | None


_NO_PILOT = "hours: not told without a --pilot; `bench cost` measures them here."


def plan(
    suite: str,
    difference: float,
    *,
    pilot: str | Path | None = None,
    seed_sd: float | None = None,
    clip_sd: float | None = None,
    clips: int | None = None,
    seeds: int | None = None,
    power: float = POWER,
    resamples: int = RESAMPLES,
    by_group: bool | None = None,
    mixed: bool = False,
    display: Display | None = None,
) -> PowerPlan:
    """Say what a suite needs so that a true difference is called significant with a chance of `power`.

    Raises UserError if neither a pilot nor variances are given, both are, or no two systems of the pilot share three
    seeds.

    Args:
        suite: By its name or the path of a TOML file.
        difference: In the unit of the task's primary metric: .01 of mAP.
        pilot: A results folder whose systems, these or others, share seeds. How they vary is taken from it, and how
            long the suite trains.
        seed_sd: Instead of a pilot, the standard deviation of the difference over seeds, on the same clips.
        clip_sd: The standard deviation of the mean difference over draws of as many eval clips as `clips`.
        clips: How many eval clips the suite has; None is the pilot's number.
        seeds: How many seeds the suite has; None is its own number.
        resamples: Of the pilot's bootstrap; so are `by_group` and `mixed`, which are those of `report`.
    """
    given = {"seed_sd": seed_sd, "clip_sd": clip_sd, "clips": clips, "seeds": seeds}
    validated(_Numbers, {"difference": difference, "power": power, **given}, "plan")
    declared = load_suite(suite)
    load_plugins(declared.plugins)
    # what is wrong should not wait for minutes of resampling
    compared, own_seeds = _compared(declared), declared.seeds if seeds is None else seeds
    asked = Question(difference, power, own_seeds, 1 if clips is None else clips)
    about, families = (declared.title, get_task(declared.task).primary.label), _families(declared, compared)
    if pilot is None:
        return PowerPlan(*about, asked, _stated(seed_sd, clip_sd, clips), families, notes=(_NO_PILOT,))
    if seed_sd is not None or clip_sd is not None:
        raise UserError("--seed-sd and --clip-sd are stated instead of a --pilot: leave one of the two out")
    results = _load_pilot(Path(pilot), declared, mixed=mixed)
    asked = replace(asked, clips=clips or len(results.labels.clips))
    with shown(display).bar(f"resampling clips for {pilot}") as progress:
        made = weigh_pilot(results, contrasts(declared), Sampling(resamples, by_group), asked.clips, progress)
    hours, note = _hours(declared, compared, results)
    return PowerPlan(*about, asked, made, families, hours, (_origin(results, made, asked), *_lacking(made), note))


def _compared(suite: Suite) -> list[Entry]:
    """Return a suite's entries but for pre-trainings, which have results of their own."""
    return [entry for entry in entries(suite) if not suite.is_pretraining(entry)]


def _stated(seed_sd: float | None, clip_sd: float | None, clips: int | None) -> Pilot:
    if seed_sd is None or clip_sd is None or clips is None:
        raise UserError("give --pilot RESULTS, or all of --seed-sd, --clip-sd and --clips, of the difference")
    for option, value in {"--seed-sd": seed_sd, "--clip-sd": clip_sd}.items():
        # no metric varies by more
        if not 0 <= value < 1e6:
            raise UserError(f"{option} {value:g}: a standard deviation is from 0 to 1,000,000")
    return Pilot((Spread("as stated", seed_sd**2, clip_sd**2),), (), {})


def _load_pilot(path: Path, suite: Suite, *, mixed: bool) -> Results:
    results = load_results(path, mixed=mixed)
    if results.task.name != suite.task:
        raise UserError(
            f"--pilot {path}: runs of task {results.task.name}, but suite {suite.title!r} is of {suite.task}"
        )
    return results


def _families(suite: Suite, found: Sequence[Entry]) -> dict[str, int]:
    """Return how many comparisons a report of the suite tests at once, by kind."""
    bases = {entry.name: entry.compared_with for entry in suite.runs}
    ablations = [entry for entry in found if bases.get(entry.name)]
    # where recipes are searched, the best one is a system beside the default one
    systems = (len(found) - len(ablations)) * (2 if suite.space else 1)
    return {"pairs": systems * (systems - 1) // 2, "ablations": len(ablations), "contrasts": len(suite.contrasts)}


def _hours(suite: Suite, found: Sequence[Entry], pilot: Results) -> tuple[float | None, str]:
    """Return hours of training of one seed of all entries that are compared, and a line on what they rest on."""
    families = {entry.name: get_architecture(entry.architecture).family for entry in found}
    # what scores the weights of another entry trains nothing
    trained = [e for e in found if not e.rescores]
    recipes = {e.name: (e.architecture, suite.settings(e, families[e.name], {})[1]) for e in trained}
    hours, missing = training_hours(pilot, recipes)
    if len(missing) == len(recipes):
        return None, "hours: not told, since the pilot has no run of any entry; `bench cost` measures them here."
    devices = ", ".join(sorted({run.record.provenance.device for run in pilot.runs}))
    without = f", without {', '.join(missing)}, of which the pilot has no run" if missing else ""
    # a pilot of the suite's own task says nothing of how long a step of another takes
    aside = ", pre-trainings aside" if suite.pretrainings else ""
    also = ", twice as many where the best recipe is retrained, and the search" if suite.space else ""
    return hours, (
        f"hours: of training, of all entries with the seeds needed{aside}{without}; one seed takes {hours:.3g} h, by "
        f"the pilot's seconds on {devices}{also}."
    )


def _origin(pilot: Results, made: Pilot, asked: Question) -> str:
    clips, seeds = len(pilot.labels.clips), sorted({spread.seeds for spread in (*made.pairs, *made.contrasts)})
    counts = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
    scaled = f", scaled to {asked.clips:,} as one over their number" if asked.clips != clips else ""
    what = f"{len(made.pairs)} differences" if len(made.pairs) > 1 else made.pairs[0].name
    return f"variances: of {what} in {pilot.folder.path}, {counts} shared seeds, {clips:,} eval clips{scaled}."


def _lacking(made: Pilot) -> list[str]:
    if not made.lacks:
        return []
    reasons = "; ".join(f"{name} ({why})" for name, why in made.lacks.items())
    return [f"contrasts that the pilot does not tell of: {reasons}."]
