"""A suite: expand it to runs, check it whole, skip what is finished, execute the rest."""

import errno
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from architectures import ConfigError, configure, create, failure, get_architecture, list_architectures
from bench.cost import count_parameters
from bench.data.pack import Pack
from bench.disk import require_space, write_json
from bench.errors import NotTogether, UserError, one_line
from bench.progress import SuiteDisplay
from bench.protocol.batches import chunk_size
from bench.protocol.precision import computes_bf16
from bench.protocol.spec import RunSpec
from bench.protocol.train import loss_of
from bench.provenance import code
from bench.run import clean_up, execute, execute_together, finished, write_labels
from bench.suites.suite import Entry, Suite

CPU = torch.device("cpu")


@dataclass
class Outcome:
    skipped: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def rows(suite: Suite, only: Sequence[str] = ()) -> list[Entry]:
    """The suite's rows, or those named on the command line, each once, with all that they take from their bases.

    Raises:
        UserError: an unknown name.
    """
    names = list_architectures(contestants_only=True) if suite.contestants == "all" else suite.contestants
    try:
        own = [suite.resolved(entry) for entry in suite.runs]
        for entry in own:
            get_architecture(entry.architecture)
        declared = {entry.name: entry for entry in [*map(_row, names), *own]}
        chosen = [declared.get(row_name(name)) or _row(name) for name in only or declared]
    except ConfigError as error:
        raise UserError(str(error)) from None
    return list({entry.name: entry for entry in chosen}.values())


def _row(architecture: str) -> Entry:
    return Entry(name=row_name(get_architecture(architecture).name), architecture=architecture)


def row_name(architecture: str) -> str:
    """What an architecture's row and folders are called; those of timm:convnext_atto are timm-convnext_atto."""
    return architecture.replace(":", "-")


def sample_rates(suite: Suite, only: Sequence[str], sets: Mapping[str, Any]) -> list[int]:
    """Of the packs that the rows need, in Hz. Raises UserError as `rows` and `Suite.settings`."""
    families = ((entry, get_architecture(entry.architecture).family) for entry in rows(suite, only))
    return sorted({suite.settings(entry, family, sets)[0] for entry, family in families})


def plan(
    suite: Suite,
    packs: Sequence[Pack],
    *,
    only: Sequence[str] = (),
    seeds: int | None = None,
    sets: Mapping[str, Any] | None = None,
    device: torch.device = CPU,
) -> list[tuple[RunSpec, Pack]]:
    """All runs of a suite, seed by seed, so that a half-done suite compares all contestants.

    `device` settles what a precision of 'auto' is.

    Raises:
        UserError: an unknown name or field, no pack of a needed sample rate, or packs of different data.
    """
    if len({pack.dataset for pack in packs}) > 1:
        raise UserError(f"{packs[0].folder} and {packs[-1].folder} are packs of different data")
    if len({pack.sample_rate for pack in packs}) < len(packs):
        raise UserError("two of the packs have the same sample rate; one of each is enough")
    entries = rows(suite, only)
    first = suite.first_seed
    bf16 = computes_bf16(device)
    return [
        _spec(suite, entry, seed, packs, sets or {}, bf16)
        for seed in range(first, first + (seeds or suite.seeds))
        for entry in entries
    ]


def _spec(
    suite: Suite, entry: Entry, seed: int, packs: Sequence[Pack], sets: Mapping[str, Any], bf16: bool
) -> tuple[RunSpec, Pack]:
    architecture = get_architecture(entry.architecture)
    sample_rate, recipe, inferred = suite.settings(entry, architecture.family, sets)
    pack = _pack_at(sample_rate, packs, entry.name)
    fixed = {"sample_rate": sample_rate, "num_classes": len(pack.labels)}
    if given := sorted(fixed.keys() & entry.config.keys()):
        raise UserError(f"{entry.name}: config may not set {given[0]}, which follows from the pack")
    try:
        config = configure(entry.architecture, **fixed, **entry.config)
    except ConfigError as error:
        raise UserError(str(error) if entry.name == entry.architecture else f"{entry.name}: {error}") from None
    inferred = inferred | {k: v for k, v in architecture.inferred.items() if k not in entry.config}
    spec = RunSpec(
        name=entry.name,
        architecture=entry.architecture,
        config=asdict(config),
        recipe=recipe.on(bf16=bf16),
        seed=seed,
        pack=pack.fingerprint,
        inferred=inferred,
        source=architecture.source,
        base=entry.base,
        question=entry.question,
    )
    return spec, pack


def _pack_at(sample_rate: int, packs: Sequence[Pack], name: str) -> Pack:
    for pack in packs:
        if pack.sample_rate == sample_rate:
            return pack
    given = ", ".join(f"{pack.folder} ({pack.sample_rate} Hz)" for pack in packs) or "none"
    raise UserError(
        f"{name} needs a pack at {sample_rate} Hz, given: {given}; "
        f"make one with `bench data pack DIR --out PACK --sample-rate {sample_rate}` and add --data PACK"
    )


def refuse_other_code(runs: Sequence[tuple[RunSpec, Pack]], out: Path) -> None:
    """Finished runs that other code made would not be compared with those to come: say so before they are made.

    Raises:
        UserError: there are such runs.
    """
    for spec, _ in runs:
        path = out / spec.folder / "run.json"
        if not path.is_file():
            continue
        try:
            made = json.loads(path.read_text("utf-8"))["provenance"]["source"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: damaged; remove it and run the suite again") from None
        if made != code(get_architecture(spec.architecture).model.__module__)["source"]:
            raise UserError(
                f"{path.parent} was made by other code than this: choose another --out, remove it to run it again, "
                "or say --mixed to keep it"
            )


def check(runs: Sequence[tuple[RunSpec, Pack]], out: Path) -> None:
    """Build every contestant, once forward and once backward, before any of them trains.

    Raises:
        UserError: a contestant does not run, or there is no room for weights and checkpoints.
    """
    parameters: dict[str, int] = {}
    for spec, pack in runs:
        if spec.name not in parameters:
            try:
                parameters[spec.name] = _step(spec, pack)
            except Exception as error:
                raise UserError(f"{spec.name} does not run: {failure(spec.architecture, error)}") from error
    kept = sum(4 * parameters[spec.name] for spec, _ in runs if not finished(out / spec.folder))
    # weights, two moments and the best weights, and all of it twice while a checkpoint replaces the last
    require_space(out, kept + 2 * 4 * 4 * max(parameters.values()) + 50e6)


def _step(spec: RunSpec, pack: Pack) -> int:
    """One update's forward and backward on silence; returns the number of parameters."""
    model = create(spec.architecture, **spec.config)
    with torch.autocast("cpu", torch.bfloat16, enabled=spec.recipe.precision == "bf16"):
        logits = model(torch.zeros(2, chunk_size(spec.recipe, pack.sample_rate)))
    if logits.shape != (2, len(pack.labels)):
        raise ValueError(f"logits have shape {tuple(logits.shape)}, should have (2, {len(pack.labels)})")
    loss_of(spec.recipe, logits.float(), torch.zeros(2, len(pack.labels))).backward()
    return count_parameters(model)


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
