"""What is on disk: suites, single runs, and what a results folder expects. No torch."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from bench.errors import UserError
from bench.protocol.task import get_task
from bench.reporting.marks import KINDS
from bench.reporting.tables.table import COSTS
from bench.store import ResultsFolder, RunFolder
from bench.store.files import checked
from bench.suites.suite import Suite, known_suites, load_suite, suite_path

__all__ = [
    "Forgotten", "SuiteSummary", "describe_run", "find_run", "forget", "list_suites", "results_folder", "show",
    "suite_text",
]  # fmt: skip


# of failed.json, what is shown
class _FailedSpec(TypedDict):
    name: str
    architecture: str
    seed: int
    config: dict[str, Any]
    recipe: dict[str, Any]
    second_hand: NotRequired[dict[str, str]]
    inferred: NotRequired[dict[str, str]]


class _Failure(TypedDict):
    spec: _FailedSpec
    error: str


_FAILED = TypeAdapter(_Failure)


# --- suites


@dataclass(frozen=True)
class SuiteSummary:
    """A suite in a line; `entries` is a number, or 'all' for every architecture."""

    name: str
    path: Path
    entries: str
    seeds: int
    description: str


def list_suites() -> list[SuiteSummary]:
    """Return the suites that come with the project, by name."""
    suites = {name: load_suite(name) for name in known_suites()}
    return [SuiteSummary(n, suite_path(n), _entries(s), s.seeds, s.description) for n, s in suites.items()]


def _entries(suite: Suite) -> str:
    # not a number, since the registry needs torch
    points = prod(len(values) for values in suite.grid.values())
    # which the grid leaves as they are
    alone = len(suite.pretrainings)
    own = len(suite.runs) - alone
    if suite.named != "all":
        return str((len(suite.named) + own) * points + alone)
    crossed = f"all{f' + {own}' if own else ''}{f' x {points}' if points > 1 else ''}"
    return crossed + (f" + {alone}" if alone else "")


def suite_text(suite: str | Path) -> str:
    """Return the TOML of a suite, by its name or a file's path. Raises UserError if there is none, or a bad one."""
    load_suite(suite)
    return suite_path(suite).read_text("utf-8")


# --- a run


def show(run: str | Path) -> dict[str, Any]:
    """Return what is known of a run: run.json of a finished one, failed.json of a failed one, or how far it is.

    The run is given by its folder, or by how the folder's name begins. Beside these, `folder`, `status` ('finished',
    'failed' or 'unfinished') and `files`, the names of what is in the folder. Raises UserError if there is no such run.
    """
    folder = find_run(run, finished=False)
    where = {"folder": folder.path, "files": sorted(path.name for path in folder.path.iterdir())}
    if folder.is_finished:
        return {**where, "status": "finished", **folder.record().model_dump(mode="json")}
    if folder.is_failed:
        failure = folder.failure()
        # its spec may be one that no version of today could make
        checked(_FAILED, failure, folder.failure_file)
        return {**where, "status": "failed", **failure}
    return {**where, "status": "unfinished", "step": _step(folder)}


def find_run(path: str | Path, *, finished: bool = True) -> RunFolder:
    """Return a run's folder, given as it is or by how its name begins: runs/demo/crnn-s0, or runs/demo/crnn.

    Raises UserError if no run, or several, begin like this; of others than finished ones, also for any other folder.
    """
    path, folder = Path(path), RunFolder(Path(path))
    if not path.is_dir():
        return ResultsFolder(path.parent).find(path.name, finished=finished)
    if not finished and not folder.is_run:
        raise UserError(f"{path}: not the folder of a run; give one, such as runs/SUITE/RUN")
    return folder


def _step(folder: RunFolder) -> int | None:
    """Return how many steps are done, None where no checkpoint says so."""
    if not folder.checkpoint_file.is_file():
        return None
    from bench.protocol.checkpoint import Checkpoint, CheckpointDamaged, CheckpointOfOtherCode

    try:
        # of which code is not asked here, and none has no digest
        Checkpoint(folder.checkpoint_file, code="").load(mmap=True)
    except CheckpointOfOtherCode as other:
        return other.step
    except CheckpointDamaged:
        pass
    return None


def describe_run(found: Mapping[str, Any]) -> str:
    """Return what `show` found, as text for people."""
    title = f"{found['folder']}: {found['status']}"
    if found["status"] == "unfinished":
        return f"{title}, {'no checkpoint yet' if found['step'] is None else 'stopped at step {step}'.format(**found)}"
    parts = {"": _identity(found)}
    if found["status"] == "failed":
        parts |= {"why": {"error": found["error"], "traceback": RunFolder(found["folder"]).failure_file}}
    else:
        parts |= {"on eval": _metrics(found), "cost": _cost(found["cost"]), "origin": _origin(found)}
    config, train = _settings(found, "config", ""), _settings(found, "recipe", "train.")
    parts |= {"config": config, "train": train, "choices": _choices(found)}
    lines = [title]
    for name, part in ((name, part) for name, part in parts.items() if part):
        lines += ["", *([name] if name else []), *(f"  {label:22}{value}" for label, value in part.items())]
    return "\n".join(lines)


def _identity(found: Mapping[str, Any]) -> dict[str, Any]:
    spec = found["spec"]
    family = f" ({found['family']})" if "family" in found else ""
    shown = {"entry": spec["name"], "seed": spec["seed"], "task": spec.get("task", "tagging")}
    shown["architecture"] = f"{spec['architecture']}{family}"
    return shown | {name: spec[name] for name in ("base", "question", "source") if spec.get(name)}


def _metrics(found: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"": f"{'trained':>9}{'untrained':>11}"}
    for name, value in found["metrics"].items():
        shown[name] = f"{_number(value):>9}{_number(found['untrained'].get(name)):>11}"
    primary = _primary(found["spec"]["task"])
    floors = ", ".join(f"{_number(value)} ({name})" for name, value in found["floors"].items())
    if floors:
        shown["without learning"] = f"{primary} {floors}"
    if names := _not_beaten(found):
        shown["no better than"] = ", ".join(names)
    kept = f"after {found['best_step']} of {found['steps']} steps, val {primary} {_number(found['val_score'])}"
    return shown | {"kept": kept}


def _not_beaten(found: Mapping[str, Any]) -> list[str]:
    """Return the floors that the run's score is no better than."""
    try:
        metric = get_task(found["spec"]["task"]).primary
    except UserError:
        # of a plugin that is not loaded
        return []
    score = found["metrics"].get(metric.name)
    floors = {name: value for name, value in found["floors"].items() if value is not None}
    return [name for name, value in floors.items() if score is not None and not metric.better(score, value)]


def _primary(task: str) -> str:
    try:
        return get_task(task).primary.label
    except UserError:
        # of a plugin that is not loaded
        return "primary metric"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _cost(cost: Mapping[str, Any]) -> dict[str, str]:
    patterns = {"parameters": "{:,}", "receptive_field": "{:,}"}
    others = {"receptive_field": ("receptive field", 1), "seconds": ("s in all", 1)}
    known = {name: of for name, of in {**COSTS, **others}.items() if cost.get(name) is not None}
    return {label: patterns.get(name, "{:.1f}").format(cost[name] * unit) for name, (label, unit) in known.items()}


def _origin(found: Mapping[str, Any]) -> dict[str, Any]:
    made, data, folder = found["provenance"], found["data"], RunFolder(found["folder"])
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    rate = [f"{data['sample_rate']} Hz"] if "sample_rate" in data else []
    weights = "kept" if folder.weights_file.is_file() else "not here: they stay on the machine that trained"
    if rescored := found["spec"].get("rescores"):
        weights = f"those of the run with hash {rescored}"
    start = found.get("init") or {}
    shown = {
        "data": ", ".join([data.get("fingerprint", "unknown")[:16], *rate]),
        "commit": f"{made['commit'] or 'unknown'}{', with changes since' if made['dirty'] else ''}",
        "command": made["command"],
        "date": made["date"],
        "device": made["device"],
        "versions": versions,
        "weights": weights,
    }
    if start:
        new = f", new are {', '.join(start['new'])}" if start["new"] else ""
        shown["start"] = (
            f"the weights of {start['entry']} (task {start['task']}, {start['steps']:,} steps, {start['source']}){new}"
        )
    if found["spec"].get("source"):
        nothing = made.get("package") or "not kept"
        shown["architecture's text"] = (
            f"{folder.source_file.name}, run only by --plugin" if folder.source_file.is_file() else nothing
        )
    return shown


def _settings(found: Mapping[str, Any], table: str, prefix: str) -> dict[str, str]:
    """Return fields of the spec's config or recipe, with † or ‡ and what they rest on where no paper documents them."""
    marked = _marked(found)
    shown = {name: (str(value), marked.get(f"{prefix}{name}")) for name, value in found["spec"][table].items()}
    return {name: f"{value}   {why}" if why else value for name, (value, why) in shown.items()}


def _choices(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what is marked though no field sets it."""
    fields = found["spec"]["config"].keys() | {f"train.{name}" for name in found["spec"]["recipe"]}
    return {name: why for name, why in _marked(found).items() if name not in fields}


def _marked(found: Mapping[str, Any]) -> dict[str, str]:
    """Return each marked setting's mark and reason."""
    of_kinds = [(kind.symbol, found["spec"].get(kind.name, {})) for kind in KINDS]
    return {name: f"{symbol} {why}" for symbol, marked in of_kinds for name, why in marked.items()}


# --- results folders, and what they expect


def results_folder(folder: Path) -> Path:
    """Return a folder that results may be kept in, which need not exist. Raises UserError if it can't be one."""
    above = next(path for path in (folder, *folder.parents) if os.path.lexists(path) or path == path.parent)
    if not above.is_dir():
        raise UserError(f"{folder}: is no folder, and results need one: choose another")
    return folder


@dataclass(frozen=True)
class Forgotten:
    """What `forget` took off the plan of a results folder, and what it left as finished."""

    folder: Path
    runs: list[str]
    finished: list[str]


def forget(*entries: str | Path) -> list[Forgotten]:
    """Take unfinished and failed runs off a results folder's plan, so that reports no longer ask for them.

    Each entry is given as RESULTS/ENTRY, or RESULTS/RUN for a single run. Nothing is deleted. Raises UserError, before
    anything is written, for one of which nothing unfinished is planned.
    """
    chosen: dict[Path, list[str]] = defaultdict(list)
    for path in map(Path, entries):
        chosen[path.parent].append(path.name)
    found = [_forgotten(ResultsFolder(folder), names) for folder, names in chosen.items()]
    for each in found:
        ResultsFolder(each.folder).forget(each.runs)
    return found


def _forgotten(results: ResultsFolder, names: Sequence[str]) -> Forgotten:
    if not results.plan_file.is_file():
        raise UserError(f"{results.path}: no results folder with a plan (suite.json); give RESULTS/ENTRY")
    left = results.unfinished()
    finished = [run for run in results.plan().planned if run not in left]
    for name in names:
        if not any(name in _names_of(run) for run in left):
            raise UserError(f"{results.path / name}: {_why_nothing(name, finished, left)}")
    runs, stay = ([run for run in of if _names_of(run) & {*names}] for of in (left, finished))
    return Forgotten(results.path, runs, stay)


def _names_of(run: str) -> set[str]:
    """Return what a run goes by: ENTRY, ENTRY-sSEED, and its folder's name."""
    return {run.rsplit("-s", 1)[0], run.rsplit("-", 1)[0], run}


def _why_nothing(name: str, finished: Iterable[str], left: Sequence[str]) -> str:
    if any(name in _names_of(run) for run in finished):
        return "all its runs are finished, and stay; to be rid of them remove their folders, and forget them then"
    return f"nothing planned is called so; unfinished are: {', '.join(left) or 'none'}"
