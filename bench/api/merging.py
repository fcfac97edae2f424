"""Join results folders: of several machines, or of several people. No torch."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.api.console import shown
from bench.api.folders import results_folder
from bench.disk import require_space
from bench.errors import UserError
from bench.locks import hold
from bench.reporting.evidence import check_data, check_scores, check_twins, check_weights
from bench.reporting.systems import FinishedRun, Results, System, load_results
from bench.runner.display import Display
from bench.store import Labels, PlannedContrast, ResultsFolder, RunFolder
from bench.store.merging import (
    copy_labels,
    copy_run,
    copy_search,
    copy_weights,
    differing_search,
    other_file,
    run_files,
)

__all__ = ["Merged", "merge"]


# of run.json: what is the same whenever and wherever a run is trained
_NUMBERS = ("metrics", "untrained", "floors", "class_scores", "val_score", "best_step", "steps")


@dataclass(frozen=True)
class Merged:
    """What was taken of a results folder: the names of runs that were copied, and that were there already."""

    folder: Path
    copied: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)


def merge(out: str | Path, *folders: str | Path, mixed: bool = False, display: Display | None = None) -> list[Merged]:
    """Copy what is finished in results folders into another one, new or not, as if all had been trained there.

    Taken are finished runs, the plan with all that it declares, labels.npz and the record of a search; `report` makes
    the rest. All is checked before anything is written, and the folders that it comes from stay as they are. `mixed`
    allows runs of different code. Raises UserError for other data, for a run that is there twice with different
    numbers, for two searches, for a damaged run, and for a folder without a finished one.
    """
    shows = shown(display)
    target = ResultsFolder(results_folder(Path(out)))
    if not folders:
        raise UserError(f"{target.path}: nothing to merge: name the results folders to take the runs from")
    sources = [ResultsFolder(Path(folder)) for folder in folders]
    _refuse_inside(target, sources)
    found = [_checked(source) for source in sources]
    # two at once would each check what the other is about to change
    with _made(target.path), target.lock("merge", shows.notice):
        of_target = _checked(target).runs if target.finished() else []
        places = [target, *sources]
        # a new folder has none, and one of a search alone
        _check_labels(places if target.labels_file.exists() else places[1:])
        _check_plans_and_searches(places)
        joined = _joined([of_target, *(results.runs for results in found)])
        _check_origins([*joined.values()], mixed=mixed)
        check_weights([*joined.values()])
        _check_scores([*joined.values()], found[0].labels, shows)
        _copy_all(found, joined, target)
        return [_copy_runs(results, joined, target, shows) for results in found]


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and the folders above it; where nothing comes into them, remove them again."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            for path in new:
                path.rmdir()


# --- what is checked


def _refuse_inside(target: ResultsFolder, sources: Sequence[ResultsFolder]) -> None:
    for source in sources:
        if target.path.resolve().is_relative_to(source.path.resolve()):
            raise UserError(f"{target.path}: is in {source.path}, which is to be merged into it: name another folder")


def _checked(folder: ResultsFolder) -> Results:
    """Return what a report would read of a folder. Raises UserError if it could not."""
    results = load_results(folder.path, mixed=True)
    # for what is wrong with it
    _ = results.search
    return results


def _check_labels(folders: Sequence[ResultsFolder]) -> None:
    """Raise UserError for folders of different data, by their eval split."""
    first, labels = folders[0], folders[0].labels()
    for results in folders[1:]:
        if differing := labels.differing(results.labels()):
            raise UserError(
                f"{results.path} holds runs on other data than {first.path} ({differing} in labels.npz): "
                "they can't be compared, so they are not merged"
            )


def _check_plans_and_searches(folders: Sequence[ResultsFolder]) -> None:
    """Raise UserError for two contrasts of one name, and for two searches."""
    contrasts: dict[str, tuple[PlannedContrast, ResultsFolder]] = {}
    for results in folders:
        for contrast in results.plan().contrasts:
            declared, where = contrasts.setdefault(contrast.name, (contrast, results))
            if declared != contrast:
                raise UserError(
                    f"{results.plan_file}: contrast {contrast.name!r} is another one than in {where.plan_file}: "
                    "declare it alike, by the suite of today in both (`bench run` keeps finished runs)"
                )
    searched = [results for results in folders if results.search_file.is_file()]
    for results in searched[1:]:
        if name := differing_search(searched[0], results):
            raise UserError(
                f"{results.path / name}: another search than that of {searched[0].path}: there is room for one; "
                "merge the two without search.json and trials.* of one of them"
            )


def _joined(folders: Sequence[Sequence[FinishedRun]]) -> dict[str, FinishedRun]:
    """Return the runs of several folders, each as the first one has it, by what decides their numbers.

    Raises UserError for a run that is not the same in two of them, and for different runs in folders of one name.
    """
    joined: dict[str, FinishedRun] = {}
    names: dict[str, FinishedRun] = {}
    for run in (run for runs in folders for run in runs):
        # by its settings: before format 2, folders were called otherwise
        first = joined.setdefault(run.record.spec.folder, run)
        _require_same(run, first)
        if (called := names.setdefault(first.folder.name, first)) is not first:
            raise UserError(f"{first.folder.path}: another run than {called.folder.path}, in a folder of the same name")
    return joined


def _require_same(run: FinishedRun, other: FinishedRun) -> None:
    """Raise UserError for a run with different numbers in two folders; with the same ones, it is one run."""
    name = other_file(run.folder, other.folder)
    # the first one's numbers are compared with its scores, which are those of both
    if not name and any(getattr(run.record, field) != getattr(other.record, field) for field in _NUMBERS):
        name = run.folder.record_file.name
    if name:
        raise UserError(
            f"{run.folder.path}: finished in {other.folder.path.parent}, too, with another {name}: "
            "move one of the two folders away"
        )


def _check_origins(runs: Sequence[FinishedRun], *, mixed: bool) -> None:
    """Raise UserError for runs of another task or other samples, or, unless that is allowed, of other code."""
    code: dict[Any, FinishedRun] = {}
    packs: dict[Any, FinishedRun] = {}
    for run in runs:
        spec, data = run.record.spec, run.record.data
        if spec.task != runs[0].record.spec.task:
            raise UserError(f"{run.folder.path} is of another task than {runs[0].folder.path}: nothing compares them")
        other = packs.setdefault(data.get("sample_rate"), run)
        if other.record.spec.pack != spec.pack:
            raise UserError(
                f"{run.folder.path} was trained on another pack than {other.folder.path} (fingerprints "
                f"{spec.pack[:8]} and {other.record.spec.pack[:8]}): they can't be compared, so they are not merged"
            )
        # a plugin's other text is another architecture, which tables show beside it
        for part, key in (("protocol", None), ("architecture", (spec.name, spec.source))):
            other = code.setdefault((part, key), run)
            if not mixed and other.record.provenance.source.get(part) != run.record.provenance.source.get(part):
                raise UserError(
                    f"{run.folder.path} was made by other code ({part}) than {other.folder.path}: leave one of the "
                    "two out, or say --mixed to merge them all the same"
                )


def _check_scores(runs: Sequence[FinishedRun], labels: Labels, display: Display) -> None:
    """Raise UserError for scores that refute their run's numbers, and for those of one seed that are another's."""
    systems: dict[tuple[str, str], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        systems[run.record.spec.name, run.record.system].append(run)
    with display.bar(f"checking {len(runs)} runs") as progress:
        for done, of_system in enumerate(systems.values()):
            progress(done, len(systems))
            system = System(of_system[0].record.spec.name, tuple(of_system))
            scores = {
                run.record.spec.seed: run.folder.scores(system.task.score_shape(labels.targets)) for run in of_system
            }
            check_data([system], labels, of_system[0].folder.path.parent / "labels.npz")
            for run in of_system:
                check_scores(run, scores[run.record.spec.seed], labels, system.task)
            check_twins(system, scores)


# --- what is copied


def _copy_all(found: Sequence[Results], joined: Mapping[str, FinishedRun], target: ResultsFolder) -> None:
    """Copy what belongs to all runs together: labels, plan, and the record of a search."""
    new = (run.folder for run in joined.values() if run.folder.path.parent != target.path)
    require_space(target.path, sum(path.stat().st_size for run in new for path in run_files(run)))
    copy_labels(found[0].folder, target)
    title = target.plan().title if target.plan_file.exists() else found[0].folder.plan().title
    for results in found:
        if results.folder.plan_file.exists():
            plan = results.folder.plan()
            named = {"sources": plan.sources, "themes": plan.themes}
            target.add_to_plan(title, plan.planned, plan.contrasts, plan.grid, **named)
        if results.folder.search_file.is_file():
            copy_search(results.folder, target)


def _copy_runs(results: Results, joined: Mapping[str, FinishedRun], target: ResultsFolder, display: Display) -> Merged:
    """Copy the runs that are in no folder before this one, and weights that are in none."""
    merged = Merged(results.folder.path)
    with display.bar(f"copying {results.folder.path}") as progress:
        for done, run in enumerate(results.runs):
            progress(done, len(results.runs))
            # as the first one's folder is called
            copy = RunFolder(target.path / joined[run.record.spec.folder].folder.name)
            is_new = _copy_run(run, copy, display)
            (merged.copied if is_new else merged.there).append(run.folder.name)
    return merged


def _copy_run(run: FinishedRun, copy: RunFolder, display: Display) -> bool:
    """Copy a run; return False if it is there already, but then give it the weights that it may lack."""
    with hold(copy.path, "being trained", display.notice):
        if copy.is_finished:
            _require_same(FinishedRun(copy, copy.record()), run)
            copy_weights(run.folder, copy)
            return False
        copy_run(run.folder, copy)
        return True
