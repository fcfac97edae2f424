"""Train a finished run anew, and say whether it comes out as it was."""

from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from bench.api.console import shown
from bench.api.datasets import GENERATED, packs_of
from bench.api.folders import find_run, results_folder
from bench.api.plugins import Paths, device_of, load_plugins, paths_of
from bench.data.pack import Pack
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of
from bench.reporting.reproduction import Reproduction, weigh
from bench.runner.display import Display
from bench.runner.executors import LocalExecutor
from bench.runner.preflight import check_checkpoints, check_runs
from bench.runner.provenance import python_call
from bench.runner.runs import run_all
from bench.runner.weights import load_trained, require_source, start_folder, weights_folder
from bench.store import ResultsFolder, RunFolder, RunRecord
from bench.suites.plan import Run

__all__ = ["Reproduction", "reproduce"]

# beside runs/, where results are
_REPRODUCE = Path("reproduce")


def reproduce(
    run: str | Path,
    *,
    data: Paths = (),
    out: str | Path | None = None,
    device: str = "auto",
    plugins: Paths = (),
    display: Display | None = None,
) -> Reproduction:
    """Train a finished run anew, with its own settings, seed and data, and compare the two.

    The verdict is 'bitwise' (scores and weights are equal), 'within seed noise' (the primary metric differs by no more
    than seeds do) or 'no'. Called again, it resumes; a run that was trained anew already is compared as it is. Raises
    UserError if the data are others, the architecture is not there, `out` is where the run itself is, or the run scores
    the weights of another.

    Args:
        run: A run folder, or how its name begins: runs/demo/crnn-s0.
        data: Packs, among them the one that the run was trained on; without, that of a generated set, if it is one.
        out: The results folder of the new run; None is reproduce/SUITE.
        plugins: Python files with the run's architecture or task, if it is not one of the project's.
    """
    shows = shown(display)
    load_plugins(paths_of(plugins))
    folder = find_run(run)
    record = folder.record()
    results = ResultsFolder(results_folder(Path(out) if out else _REPRODUCE / folder.path.absolute().parent.name))
    if results.path.resolve() == folder.path.resolve().parent:
        raise UserError(f"{results.path}: the run itself is there: name another --out")
    if record.spec.rescores:
        trained = weights_folder(folder, record)
        raise UserError(f"{folder.path}: scores the weights of {trained.name}: reproduce {trained.path} instead")
    require_source(folder, record, "reproduce it with the code that made it")
    pack = _pack_of(record.spec, packs_of(paths_of(data), [int(record.data["sample_rate"])], shows))
    task = task_of(record.spec)
    shape = task.score_shape(task.split_targets(pack, "eval"))
    # what can't be compared is not trained
    folder.scores(shape)
    again = Run(record.spec, pack, RunFolder(results.path / record.spec.folder), follows=_start(folder, record, pack))
    if not again.folder.is_finished:
        call = f"bench.reproduce({str(run)!r})"
        with python_call(call):
            _train(again, results, device_of(device), shows)
    if not again.folder.is_finished:
        why = again.folder.failure()["error"]
        return Reproduction(folder.path, again.folder.path, "no", f"training failed: {why}")
    return weigh(folder, again.folder, shape, same_weights=_same_weights(folder, again.folder))


def _start(folder: RunFolder, record: RunRecord, pack: Pack) -> Run | None:
    """Return the run whose weights a run started from, if they were not drawn. Raises UserError if it is gone."""
    start = start_folder(folder, record)
    return Run(start.record().spec, pack, start) if start else None


def _pack_of(spec: RunSpec, packs: list[Pack]) -> Pack:
    """Return the pack that a run was trained on, or raise UserError if it is not among those given."""
    if not packs:
        # the generated ones, where they were made before
        made = [path for at in GENERATED.values() for path in sorted(at.parent.glob(f"{at.name}-*/manifest.json"))]
        packs = [Pack(manifest.parent) for manifest in made if manifest.is_file()]
        if not any(pack.fingerprint == spec.pack for pack in packs):
            raise UserError(
                f"{spec.folder} was trained on the pack with fingerprint {spec.pack[:16]}: name it by --data PACK "
                f"(or --data {' or '.join(GENERATED)}, for a generated set)"
            )
    for pack in packs:
        if pack.fingerprint == spec.pack:
            return pack
    given = ", ".join(f"{pack.folder} ({pack.fingerprint[:16]})" for pack in packs)
    raise UserError(f"{spec.folder} was trained on the pack with fingerprint {spec.pack[:16]}, given: {given}")


def _train(run: Run, results: ResultsFolder, device: torch.device, display: Display) -> None:
    check_checkpoints([run], results, restart=False, display=display)
    check_runs([run], results, device)
    run.task.prepare(run.pack, None, partial(load_trained, device=device), device=device)
    results.add_labels(run.pack, run.task)
    sources = {run.pack.dataset: str(run.pack.manifest["source"])}
    results.add_to_plan(f"{results.path.name}, trained anew", [run.folder.name], sources=sources)
    with display:
        run_all([run], LocalExecutor(device), display)


def _same_weights(first: RunFolder, second: RunFolder) -> bool | None:
    """Return whether two runs have equal weights, or None if one has none, or damaged ones."""
    paths = [first.weights_file, second.weights_file]
    if not all(path.is_file() for path in paths):
        return None
    try:
        one, other = (load(path.read_bytes()) for path in paths)
    except SafetensorError:
        return None
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
