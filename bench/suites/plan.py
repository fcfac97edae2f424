"""All runs of a suite, in their order."""

import difflib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from architectures import ConfigError, config_values, configure, get_architecture, list_architectures
from bench.data.pack import Pack
from bench.errors import UserError
from bench.protocol.precision import computes_bf16, computes_tf32
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import Task, TrainedRun, get_task, task_of
from bench.schema import digest, validated
from bench.store import PlannedContrast, ResultsFolder, RunFolder
from bench.store.trained import find_trained
from bench.suites.contrasts import resolve
from bench.suites.grid import point_name
from bench.suites.suite import DEFAULT_RATE, MAX_RUNS, Entry, Suite, entry_name, same_names

__all__ = [
    "Run", "Selection", "by_results", "check_name", "contrasts", "entries", "plan", "run_names", "sample_rates",
    "themes",
]  # fmt: skip

CPU = torch.device("cpu")
# characters, of the 80 that a name may have; and of what a folder is called by a question
_SEARCHED, _LONGEST = 60, 120


@dataclass(frozen=True)
class Run:
    """What is run, on which data, and where it is kept."""

    spec: RunSpec
    pack: Pack
    folder: RunFolder
    # whose weights it needs: to score them, or to start from
    follows: "Run | None" = None
    # whose model makes its data, of a task that needs one
    built_on: TrainedRun | None = None

    @property
    def name(self) -> str:
        """What it is called among the runs of its suite: ENTRY-sSEED."""
        return _run_name(self.spec.name, self.spec.seed)

    @property
    def task(self) -> Task:
        return task_of(self.spec)

    @property
    def results(self) -> ResultsFolder:
        """The results that it belongs to: the suite's, or those of a pre-training within them."""
        return ResultsFolder(self.folder.path.parent)

    @property
    def rescored(self) -> "Run | None":
        """The run whose weights it scores; None where it trains some."""
        return self.follows if self.spec.rescores else None

    @property
    def init(self) -> "Run | None":
        """The run whose weights it starts from; None where the seed draws them."""
        return self.follows if self.spec.init else None


@dataclass(frozen=True)
class Selection:
    """What a command takes of a suite, and what it sets otherwise."""

    # names of entries or architectures; empty takes all
    only: Sequence[str] = ()
    # how many; None is the suite's number
    seeds: int | None = None
    # recipe fields, for all; and settings of the task, for all entries that have none of their own
    overrides: Mapping[str, Any] = field(default_factory=dict)
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    # this seed alone, instead of several
    seed: int | None = None

    def seeds_of(self, suite: Suite) -> tuple[int, int]:
        """Return the first seed, and how many there are from it on."""
        if self.seed is not None:
            return self.seed, 1
        return suite.first_seed, suite.seeds if self.seeds is None else self.seeds


_ALL = Selection()


def entries(suite: Suite, only: Sequence[str] = ()) -> list[Entry]:
    """Return the suite's entries, or those named, each once, with all that they take from their bases and the grid.

    What scores the weights of another, or starts from them, comes right behind that one, which is there in any case.
    Raises UserError for an unknown name, also in the suite's contrasts, and for names that the grid makes twice or too
    long.
    """
    crossed = _crossed(suite)
    # by the entry that needs no weights of others: that one, and those that need its own
    groups: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in (entry for name in only or crossed for entry in _chosen(name, suite, crossed)):
        chain = [entry]
        while needed := chain[0].follows:
            chain.insert(0, _chosen(needed, suite, crossed)[0])
        first = chain[0]
        groups[first.name] = {first.name: first} | groups[first.name] | {each.name: each for each in chain}
    _check_names(suite, [entry.name for of_entry in crossed.values() for entry in of_entry])
    # what is wrong in them should not wait for data
    _resolved(suite, crossed)
    return [entry for group in groups.values() for entry in group.values()]


def _selected(suite: Suite, selection: Selection) -> list[Entry]:
    """Return the entries of a selection. Raises UserError if with all seeds they are more runs than anyone trains."""
    chosen = entries(suite, selection.only)
    _, seeds = selection.seeds_of(suite)
    if len(chosen) * seeds > MAX_RUNS:
        raise _too_many(suite, f"{_counted(len(chosen), 'entry', 'entries')} x {_counted(seeds, 'seed', 'seeds')}")
    return chosen


def _too_many(suite: Suite, what: str) -> UserError:
    fix = "fewer seeds, entries or values in [grid]"
    return UserError(f"suite {suite.title!r}: {what} are more than {MAX_RUNS:,} runs: {fix}")


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def contrasts(suite: Suite) -> tuple[PlannedContrast, ...]:
    """Return the suite's contrasts, over its entries by name; raise UserError for unknown names.

    They are those of the whole suite, whatever a command selects: of fewer entries they would be other contrasts.
    """
    return _resolved(suite, _crossed(suite))


def themes(suite: Suite) -> dict[str, str]:
    """Return the themes of the whole suite's entries by name, of those that have one."""
    compared = _compared(suite, _crossed(suite))
    return {entry.name: entry.theme for of_entry in compared.values() for entry in of_entry if entry.theme}


def _compared(suite: Suite, crossed: Mapping[str, list[Entry]]) -> dict[str, list[Entry]]:
    """Return what is there to be compared: all but pre-trainings."""
    return {name: of for name, of in crossed.items() if not any(map(suite.is_pretraining, of))}


def _crossed(suite: Suite) -> dict[str, list[Entry]]:
    """Return each entry by its declared name, at all points of the grid."""
    names = list_architectures(task=suite.task, in_all_only=True) if suite.named == "all" else suite.named
    try:
        declared = [suite.resolved(entry) for entry in suite.runs]
        for entry in declared:
            get_architecture(entry.architecture, task=entry.task or suite.task)
        known = {entry.name: entry for entry in [*(_entry_of(name, suite.task) for name in names), *declared]}
    except ConfigError as error:
        raise UserError(str(error)) from None
    alone = len(suite.pretrainings)
    if (count := alone + (len(known) - alone) * prod(map(len, suite.grid.values()))) > MAX_RUNS:
        raise _too_many(suite, _counted(count, "entry", "entries"))
    return {name: suite.crossed(entry) for name, entry in known.items()}


def _resolved(suite: Suite, crossed: Mapping[str, list[Entry]]) -> tuple[PlannedContrast, ...]:
    _require_compared(suite, crossed)
    crossed = _compared(suite, crossed)
    names = {name: [entry.name for entry in of_entry] for name, of_entry in crossed.items()}
    families: dict[str, list[str]] = defaultdict(list)
    for entry in (entry for of_entry in crossed.values() for entry in of_entry if not entry.compared_with):
        families[get_architecture(entry.architecture).family].append(entry.name)
    where = f"suite {suite.title!r}, [[contrasts]]"
    return tuple(resolve(contrast, names, families, where) for contrast in suite.contrasts)


def _require_compared(suite: Suite, crossed: Mapping[str, list[Entry]]) -> None:
    """Raise UserError for a contrast over a pre-training."""
    for contrast in suite.contrasts:
        chosen = (entry for choice in contrast.best_of.values() for entry in choice.entries)
        for name in (*contrast.entries, *chosen):
            if any(map(suite.is_pretraining, crossed.get(name, ()))):
                raise UserError(
                    f"suite {suite.title!r}, [[contrasts]] {contrast.name}: {name!r} is a pre-training, which nothing "
                    "is compared with: name what starts from it"
                )


def _chosen(name: str, suite: Suite, crossed: Mapping[str, list[Entry]]) -> list[Entry]:
    """Return what a name stands for: an entry, all that the grid makes of one, or an architecture as an entry."""
    if entry_name(name) in crossed:
        return crossed[entry_name(name)]
    points = {entry.name: entry for of_entry in crossed.values() for entry in of_entry}
    if name in points:
        return [points[name]]
    try:
        return suite.crossed(_entry_of(name, suite.task))
    except ConfigError as error:
        near = difflib.get_close_matches(name, points if suite.grid else [], n=1, cutoff=0.8)
        raise UserError(f"no entry {name!r} (did you mean {near[0]!r}?)" if near else str(error)) from None


def _check_names(suite: Suite, names: Sequence[str]) -> None:
    if twice := same_names(names):
        raise UserError(f"suite {suite.title!r}, [grid]: two of its entries are called {twice}: leave one out")
    # the best recipe's entry is called NAME_best_of_TRIALS
    if suite.space and (longest := max(names, key=len, default="")) and len(longest) > _SEARCHED:
        raise UserError(
            f"suite {suite.title!r}: {longest}: an entry that is searched needs a name of {_SEARCHED} at most"
        )


def _entry_of(architecture: str, task: str) -> Entry:
    name = entry_name(get_architecture(architecture, task=task).name)
    return validated(Entry, {"name": name, "architecture": architecture}, f"architecture {architecture!r}, as an entry")


def sample_rates(suite: Suite, selection: Selection) -> list[int]:
    """Return the sample rates of the packs that are needed, in Hz."""
    families = ((entry, get_architecture(entry.architecture).family) for entry in _selected(suite, selection))
    return sorted({suite.settings(entry, family, selection.overrides)[0] for entry, family in families})


def plan(
    suite: Suite, packs: Sequence[Pack], results: ResultsFolder, selection: Selection = _ALL, device: torch.device = CPU
) -> list[Run]:
    """Return all runs of a suite, seed by seed, so that a half-done suite compares all architectures.

    The device settles a precision of 'auto'. Raises UserError for unknown names or fields, a precision that the device
    does not have, and packs that do not fit.
    """
    if len({pack.dataset for pack in packs}) > 1:
        raise UserError(f"{packs[0].folder} and {packs[-1].folder} are packs of different data")
    if len({pack.sample_rate for pack in packs}) < len(packs):
        raise UserError("two of the packs have the same sample rate; one of each is enough")
    bf16, selected = computes_bf16(device), _selected(suite, selection)
    chosen = [_first_run(suite, entry, packs, results, selection, bf16) for entry in selected]
    for run in chosen:
        if run.spec.recipe.precision == "tf32" and not computes_tf32(device):
            has = f"{device} does not compute in it (NVIDIA GPUs do, Ampere and later)"
            raise UserError(f"{run.spec.name}, train: precision='tf32': {has}: take fp32")
    for runs_of in by_results(chosen).values():
        _require_one_question([run.spec for run in runs_of])
    _require_starts(chosen, selected)
    runs: list[Run] = []
    for seed in _seeds(suite, selection):
        made: dict[str, Run] = {}
        for entry, first in zip(selected, chosen, strict=True):
            needed = made.get(entry.follows)
            hashes = {"rescores" if entry.rescores else "init": needed.spec.hash} if needed else {}
            spec = first.spec.model_copy(update={"seed": seed, **hashes})
            made[entry.name] = replace(first, spec=spec, folder=first.results.run(spec), follows=needed)
        runs += made.values()
    return _needed(runs, results, selection.only)


def _needed(runs: Sequence[Run], results: ResultsFolder, asked: Collection[str]) -> list[Run]:
    """Return runs without those pre-trainings that are not there, though all that starts from them is.

    So it is where results were merged, or copied without them. Those of entries that were asked for stay.
    """
    behind: dict[RunFolder, list[Run]] = defaultdict(list)
    for run in runs:
        if run.follows:
            behind[run.follows.folder].append(run)
    idle = set[RunFolder]()
    # what starts from a run comes after it
    for run in reversed(runs):
        others = [other.folder for other in behind[run.folder]]
        if run.results != results and others and not run.folder.is_finished and run.spec.name not in asked:
            idle |= {run.folder} if all(other.is_finished or other in idle for other in others) else set()
    return [run for run in runs if run.folder not in idle]


def by_results(runs: Sequence[Run]) -> dict[ResultsFolder, list[Run]]:
    """Return runs by the results that they belong to: the suite's, and those of its pre-trainings."""
    found: dict[ResultsFolder, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.results].append(run)
    return found


def _require_one_question(specs: Sequence[RunSpec]) -> None:
    """Raise UserError for entries that are judged on different things, which nothing compares."""
    for spec in specs[1:]:
        asked = task_of(specs[0]).judged_on()
        for name, value in task_of(spec).judged_on().items():
            if value != asked[name]:
                raise UserError(
                    f"{specs[0].name} has {name}={asked[name]!r} and {spec.name} {value!r}, so that nothing compares "
                    "them: one suite has one for all entries"
                )


def _require_starts(runs: Sequence[Run], selected: Sequence[Entry]) -> None:
    """Raise UserError for an entry that can't start from the weights that it is to start from."""
    specs = {run.spec.name: run.spec for run in runs}
    for entry in selected:
        if not entry.init:
            continue
        spec, start = specs[entry.name], specs[entry.init]
        for what, mine, others in (
            ("architecture", spec.architecture, start.architecture),
            ("sample_rate", spec.config["sample_rate"], start.config["sample_rate"]),
            ("source", spec.source, start.source),
        ):
            if mine != others:
                raise UserError(
                    f"{entry.name}: init={entry.init!r} has {what}={others!r}, not {mine!r}, so that its weights say "
                    "nothing here: start from an entry of the same"
                )


def run_names(suite: Suite, selection: Selection = _ALL, *, trained: bool = False) -> list[str]:
    """Return what the runs of a suite are called, in the order of `plan`: ENTRY-sSEED. No data are needed.

    Args:
        trained: Whether those are left out that need the weights of others, with which they are done.
    """
    chosen = [entry for entry in _selected(suite, selection) if not (trained and entry.follows)]
    return [_run_name(entry.name, seed) for seed in _seeds(suite, selection) for entry in chosen]


def check_name(name: str, suite: Suite, names: Sequence[str]) -> None:
    """Raise UserError unless one of a suite's runs, of these names, is called so."""
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"write ENTRY-sSEED, such as {names[0]!r}"
        raise UserError(f"--part {name}: no run of suite {suite.title!r} is called so ({known})")


def _seeds(suite: Suite, selection: Selection) -> range:
    first, count = selection.seeds_of(suite)
    return range(first, first + count)


def _run_name(entry: str, seed: int) -> str:
    return f"{entry}-s{seed}"


def _first_run(
    suite: Suite, entry: Entry, packs: Sequence[Pack], results: ResultsFolder, selection: Selection, bf16: bool
) -> Run:
    """Return the run of an entry's first seed, but for what it scores, whose seeds have runs of their own."""
    architecture, task = get_architecture(entry.architecture), get_task(entry.task or suite.task)
    sample_rate, recipe, marks = suite.settings(entry, architecture.family, selection.overrides)
    of_task = suite.task_settings_of(entry, architecture.family, selection.task_settings)
    pack = _pack_at(sample_rate, packs, entry.name)
    where = f"suite {suite.title!r}, {entry.name}"
    trained = find_trained(task, of_task, f"{where}, task_settings")
    of_task = task.settled(of_task, pack, trained, f"{where}, task_settings")
    fixed = task.with_settings(of_task, f"{where}, task_settings").config(pack)
    if given := sorted(fixed.keys() & entry.config.keys()):
        raise UserError(f"{entry.name}: config may not set {given[0]}, which follows from the pack")
    try:
        config = configure(entry.architecture, **fixed, **entry.config)
    except ConfigError as error:
        raise UserError(str(error) if entry.name == entry.architecture else f"{entry.name}: {error}") from None
    if recipe.loss not in (None, *task.losses):
        known = ", ".join(map(repr, task.losses))
        raise UserError(f"{entry.name}, train: loss={recipe.loss!r}: task {task.name} has {known}")
    for table, fields in (("[space]", [*suite.space]), (f"{entry.name}, train", _changed(recipe))):
        if idle := [name for name in task.without if name in fields]:
            raise UserError(f"{table}: {idle[0]} means nothing to task {task.name}: leave it out")
    values = {
        **{name: getattr(entry, name) for name in ("name", "architecture", "question")},
        "base": entry.compared_with,
        "task": task.name,
        "task_settings": task.checked_settings(of_task, f"{where}, task_settings"),
        "config": config_values(config, architecture.config),
        "recipe": recipe.settled(bf16=bf16, loss=task.losses[0]),
        "seed": suite.first_seed,
        "pack": pack.fingerprint,
        "fold": suite.fold,
        "source": architecture.source,
        "second_hand": marks.second_hand | _left(architecture.second_hand, entry),
        "inferred": marks.inferred | _left(architecture.inferred, entry),
    }
    spec = validated(RunSpec, values, where)
    task.require(spec, pack)
    if suite.is_pretraining(entry):
        results = results.within(_question(task_of(spec)))
    return Run(spec, pack, results.run(spec), built_on=trained)


def _question(task: Task) -> str:
    """Return what the results of a pre-training's task are called: contrast, or contrast-seconds_2.0."""
    usual = {"sample_rate": DEFAULT_RATE, **get_task(task.name).judged_on()}
    other = {name: value for name, value in task.judged_on().items() if value != usual.get(name)}
    text = "-".join([task.name, *([point_name(other)] if other else [])])
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", text)[:_LONGEST]
    return name if name == text else f"{name}-{digest(other)[:8]}"


def _changed(recipe: Recipe) -> list[str]:
    """Return the fields of a recipe that have another value than where nothing is said."""
    return [name for name, field in Recipe.model_fields.items() if getattr(recipe, name) != field.default]


def _left(marks: Mapping[str, str], entry: Entry) -> dict[str, str]:
    """Return the marks of an architecture's fields that the entry leaves as they are."""
    return {field: reason for field, reason in marks.items() if field not in entry.config}


def _pack_at(sample_rate: int, packs: Sequence[Pack], name: str) -> Pack:
    for pack in packs:
        if pack.sample_rate == sample_rate:
            return pack
    given = ", ".join(f"{pack.folder} ({pack.sample_rate} Hz)" for pack in packs) or "none"
    raise UserError(
        f"{name} needs a pack at {sample_rate} Hz, given: {given}; "
        f"make one with `bench data pack DIR --out PACK --sample-rate {sample_rate}` and add --data PACK"
    )
