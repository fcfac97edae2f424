"""What inputs of several lengths cost."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd
import torch

from architectures import contained, get_architecture
from bench.api.datasets import packs_of
from bench.api.options import Options
from bench.api.plugins import Paths, device_of, load_plugins
from bench.errors import UserError, one_line
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.reporting.figures.growth import draw_growth
from bench.reporting.growth import COLUMNS, Growth
from bench.runner.display import Display
from bench.runner.growth import STEP_ROWS, cost_at
from bench.schema import digest, validated
from bench.store import ResultsFolder, RunRecord
from bench.store.files import write_table
from bench.suites.plan import plan, sample_rates
from bench.suites.suite import load_suite

__all__ = ["growth"]


class _Heard(NamedTuple):
    """What a run's model is, and how much of a clip it is given at once."""

    architecture: str
    # a digest of it
    config: str
    seconds: float


def growth(
    suite: str = "long",
    *,
    seconds: Sequence[float] = (1, 10, 30),
    data: Paths = (),
    out: str | Path | None = None,
    only: str | Sequence[str] = (),
    device: str = "auto",
    plugins: Paths = (),
    display: Display | None = None,
) -> Growth:
    """Measure what a chunk of each length costs the architectures of a suite, and by which power of it that grows.

    Entries of the same architecture and config are measured once, under the first one's name. Where the results folder
    has finished runs of one of them with chunks as long, their score stands beside what it costs. The table is written
    to growth.csv in that folder, and drawn. Arguments and errors are those of `run`; UserError is raised also for a
    length that no recipe may have, and for a task that is given no chunks. Entries with such a task of their own, as
    pre-trainings have, are left out.
    """
    declared = load_suite(suite)
    if "chunk_seconds" in (task := get_task(declared.task)).without:
        raise UserError(f"suite {declared.title!r}: task {task.name} is given {task.inputs}, no chunks of some length")
    lengths = sorted({_length(each) for each in seconds})
    given = Options.of(
        {"data": data, "out": out, "only": only, "device": device, "plugins": plugins, "display": display}
    )
    load_plugins([*declared.plugins, *given.plugins])
    where, results = device_of(given.device), ResultsFolder(given.folder(suite))
    packs = packs_of(given.data, sample_rates(declared, given.selection), given.display)
    runs = plan(declared, packs, results, given.selection, where)
    specs = {run.spec.name: run.spec for run in runs if "chunk_seconds" not in run.task.without}
    if not specs:
        named = ", ".join(dict.fromkeys(run.spec.name for run in runs))
        raise UserError(f"--only: {named}: pre-trainings, which are given no chunks of some length; name another entry")
    found, failed = _measure([*specs.values()], lengths, where, given.display)
    scores = _scores(results, task.primary.name)
    points = pd.DataFrame([_point(*each, scores) for each in found], columns=[*COLUMNS])
    made = Growth(declared.title, str(where), STEP_ROWS, task.primary, points, failed)
    if found:
        results.path.mkdir(parents=True, exist_ok=True)
        write_table(results.growth_table, made.table)
        draw_growth(made, results)
    return made


def _length(seconds: float) -> float:
    try:
        return validated(Recipe, {"chunk_seconds": seconds, "hop_seconds": seconds}, "--seconds").chunk_seconds
    # in words of the recipe, which nobody typed
    except UserError:
        bounds = Recipe.model_json_schema()["properties"]["chunk_seconds"]
        fix = f"give {bounds['minimum']:g} to {bounds['maximum']:g}"
        raise UserError(f"--seconds {seconds}: no length that a chunk may have; {fix}") from None


def _heard(spec: RunSpec, seconds: float) -> _Heard:
    return _Heard(spec.architecture, digest(spec.config), seconds)


def _measure(
    specs: Sequence[RunSpec], lengths: Sequence[float], device: torch.device, display: Display
) -> tuple[list[tuple[RunSpec, float, Mapping[str, float]]], dict[str, str]]:
    """Return what each architecture costs at each length, and why some could not be measured."""
    # entries may differ in their recipes alone
    first = {_heard(spec, 0.0): spec for spec in reversed(specs)}
    work = [(spec, length) for spec in specs if spec in first.values() for length in lengths]
    found: list[tuple[RunSpec, float, Mapping[str, float]]] = []
    failed = {}
    with display.bar("measuring what chunks cost") as progress:
        for done, (spec, length) in enumerate(work, start=1):
            try:
                with contained():
                    found.append((spec, length, cost_at(spec, length, device)))
            except Exception as error:
                failed[f"{spec.name} at {length:g} s"] = one_line(error)
            progress(done, len(work))
    return found, failed


def _scores(results: ResultsFolder, metric: str) -> dict[_Heard, list[float]]:
    """Return the scores of finished runs by what they heard; none of what was trained in several ways."""
    found = defaultdict[_Heard, list[RunRecord]](list)
    for folder in results.finished():
        record = folder.record()
        if record.metrics.get(metric) is not None and not record.spec.rescores:
            found[_heard(record.spec, record.spec.recipe.chunk_seconds)].append(record)
    alike = {heard: runs for heard, runs in found.items() if len({run.system for run in runs}) == 1}
    return {heard: [float(run.metrics[metric] or 0.0) for run in runs] for heard, runs in alike.items()}


def _point(
    spec: RunSpec, length: float, cost: Mapping[str, float], scores: Mapping[_Heard, Sequence[float]]
) -> dict[str, Any]:
    of_seeds = scores.get(_heard(spec, length), [])
    about = {"entry": spec.name, "family": get_architecture(spec.architecture).family, "seconds": length}
    return {**about, **cost, "score": fmean(of_seeds) if of_seeds else math.nan, "seeds": len(of_seeds)}
