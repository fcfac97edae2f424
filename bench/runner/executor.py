"""A suite: expand it to runs, check it whole, skip what is finished, execute the rest."""

import errno
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from architectures import get_architecture
from bench.cli.progress import SuiteDisplay
from bench.data.pack import Pack
from bench.disk import write_json
from bench.errors import NotTogether, UserError, one_line
from bench.protocol.spec import RunSpec
from bench.runner.provenance import code
from bench.runner.run import clean_up, execute, execute_together, finished, write_labels


@dataclass
class Outcome:
    skipped: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run_suite(
    runs: Sequence[tuple[RunSpec, Pack]],
    out: Path,
    *,
    title: str,
    device: torch.device,
    display: SuiteDisplay,
    together: int | None = None,
    after_run: Callable[[], None] = lambda: None,
) -> Outcome:
    """Execute what is not finished; a failed run is recorded, and the rest goes on.

    Args:
        together: up to so many seeds of a row are trained at once, as one stacked model, where that can be done. None:
            all of a transformer's on an accelerator, which a small one does not fill, and else one.

    Raises:
        UserError: `out` holds runs on other data.
    """
    write_labels(out, runs[0][1])
    write_plan(out, title, [spec.folder for spec, _ in runs])
    for spec, _ in runs:
        code(get_architecture(spec.architecture).model.__module__)
    outcome, number = Outcome(), 0
    for group in _groups(runs, lambda spec: together or _at_once(spec, device)):
        number += len(group)
        left = []
        for spec, pack in group:
            if finished(out / spec.folder):  # perhaps by another process, just now
                clean_up(out / spec.folder)
                outcome.skipped.append(spec.folder)
            else:
                left.append((spec, pack))
        if left:
            display.runs_started(number, len(runs), [spec for spec, _ in left])
            _run_group(left, out, device, display, outcome, after_run)
    return outcome


Runs = Sequence[tuple[RunSpec, Pack]]


def _at_once(spec: RunSpec, device: torch.device) -> int:
    """How many seeds of a row are worth training at once."""
    is_transformer = get_architecture(spec.architecture).family == "transformer"
    return sys.maxsize if is_transformer and device.type == "cuda" else 1


def _groups(runs: Runs, together: Callable[[RunSpec], int]) -> list[Runs]:
    """Runs that differ by their seed only, by so many; in the order of the first of each group."""
    rows: dict[str, list[list[tuple[RunSpec, Pack]]]] = {}
    groups: list[Runs] = []
    for spec, pack in runs:
        own = rows.setdefault(spec.model_copy(update={"seed": 0}).folder, [])
        if not own or len(own[-1]) >= together(spec):
            own.append([])
            groups.append(own[-1])
        own[-1].append((spec, pack))
    return groups


def _run_group(
    group: Runs,
    out: Path,
    device: torch.device,
    display: SuiteDisplay,
    outcome: Outcome,
    after_run: Callable[[], None],
) -> None:
    """At once, if they are several and can be; else one by one."""
    specs, pack = [spec for spec, _ in group], group[0][1]
    if len(group) > 1:
        folders = [out / spec.folder for spec in specs]
        try:
            results = execute_together(specs, pack, folders, device=device, report=display.run_status)
        except NotTogether as error:
            display.ended(f"one by one: {one_line(error)}")
        else:
            display.runs_finished(results)
            outcome.done += [spec.folder for spec in specs]
            after_run()
            return
    for spec in specs:
        if len(group) > 1:
            display.started(f"{spec.name} seed {spec.seed}", spec.recipe.updates)
        try:
            result = execute(spec, pack, out / spec.folder, device=device, report=display.run_status)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise  # it would fail every run
            display.run_failed(error, out / spec.folder)
            outcome.failed.append(spec.folder)
        else:
            display.runs_finished([result])
            outcome.done.append(spec.folder)
        after_run()


def write_plan(out: Path, title: str, planned: list[str]) -> None:
    """suite.json: what a report should find, added to what earlier commands planned here."""
    path = out / "suite.json"
    before: list[str] = []
    if path.exists():
        try:
            before = list(json.loads(path.read_text("utf-8"))["planned"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged: remove it and run the suite again") from None
    write_json(path, {"title": title, "planned": list(dict.fromkeys(before + planned))})
