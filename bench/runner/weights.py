"""A finished run as the model that it trained."""

import glob
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from architectures import ConfigError, contained, failure, get_architecture, misfit, text_digest
from bench.disk import machine_fault
from bench.errors import UserError, one_line
from bench.protocol.build import build
from bench.protocol.frozen import head_names
from bench.protocol.spec import RunSpec
from bench.protocol.task import TrainedRun
from bench.store import ResultsFolder, RunFolder, RunRecord
from bench.store.trained import digest_of_weights

__all__ = [
    "Start", "begin", "finished", "fitting_names", "load_model", "load_trained", "require_source", "require_waveforms",
    "start_folder", "weights_folder",
]  # fmt: skip


def weights_folder(folder: RunFolder, record: RunRecord) -> RunFolder:
    """Return the folder with a finished run's weights: its own, or that of the run whose weights it scores.

    Raises UserError if that one is not beside it.
    """
    spec = record.spec
    if not spec.rescores:
        return folder
    if found := _finished_beside(folder, spec.seed, spec.rescores):
        return found[0]
    raise UserError(
        f"{folder.path}: scores the weights of the run with hash {spec.rescores}, which is not beside it: "
        "copy that run's folder there, or run the suite again"
    )


def start_folder(folder: RunFolder, record: RunRecord) -> RunFolder | None:
    """Return the folder of the run whose weights a run started from; None where the seed drew them.

    It lies beside the run's, or in a results folder there, as pre-trainings do, or beside that one. Raises UserError if
    it does not.
    """
    spec = record.spec
    if not spec.init:
        return None
    found = _finished_beside(folder, spec.seed, spec.init, nested=True)
    if not found:
        raise UserError(
            f"{folder.path}: started from the weights of the run with hash {spec.init}, which is not beside it: copy "
            "that run's folder there, or run the suite again"
        )
    # those without weights last: what is gone is said where it is loaded
    for start in sorted(found, key=lambda each: not each.weights_file.is_file()):
        if not start.weights_file.is_file() or digest_of_weights(start) == record.init["weights"]:
            return start
    raise UserError(
        f"{folder.path}: started from other weights than {found[0].path} has now, which was made again: restore that "
        "folder from a copy, or move both away and run the suite again"
    )


def _finished_beside(folder: RunFolder, seed: int, run_hash: str, *, nested: bool = False) -> list[RunFolder]:
    """Return finished runs of this hash: in the same results folder, and if `nested`, within it, or around it."""
    pattern, results = f"*-s{seed}-{glob.escape(run_hash)}", ResultsFolder(folder.path.absolute().parent)
    places = [(results, pattern)] + [(results, f"*/{pattern}")] * nested
    outer = ResultsFolder(results.path.parent)
    if nested and outer.plan_file.is_file():
        places += [(outer, pattern), (outer, f"*/{pattern}")]
    paths = (path for place, each in places for path in sorted(place.path.glob(each)))
    return [found for found in map(RunFolder, paths) if found.is_finished]


def load_model(folder: RunFolder, record: RunRecord, device: torch.device) -> nn.Module:
    """Return the architecture with the weights of its run; raise UserError if either is gone, damaged or another."""
    if (trained := weights_folder(folder, record)) != folder:
        folder, record = trained, trained.record()
    path = folder.weights_file
    # away with it, since a run with a run.json would be skipped
    again = f"move the folder away and make it again with `{record.provenance.command}`"
    if not path.is_file():
        raise UserError(f"{path}: no weights (they stay on the machine that trained, git does not keep them); {again}")
    require_source(folder, record, again)
    # before anything is made by settings that may ask for anything; hashes of format 1 are by other rules
    if record.hash != record.spec.hash and not folder.is_of_format1:
        changed = f"hash: {record.hash}, but its spec gives {record.spec.hash}: one was changed"
        raise UserError(f"{folder.record_file}: {changed}; restore it from a copy, or {again}")
    try:
        with contained():
            model = build(record.spec, device)
    # whatever an architecture raises
    except Exception as error:
        why = failure(record.spec.architecture, error)
        raise UserError(f"{folder.record_file}: its architecture can't be made ({why}); {again}") from error
    try:
        # by Python, whose errors say whether it is the file's fault or the machine's
        weights = load(path.read_bytes())
        reason = misfit(weights, model.state_dict())
    except (SafetensorError, OSError) as error:
        if fault := machine_fault(error, path):
            raise fault from None
        reason = one_line(error)
    if reason:
        raise UserError(f"{path}: damaged, or of another version ({reason[:200]}); {again}")
    model.load_state_dict(weights)
    return model


@dataclass(frozen=True)
class Start:
    """What a model took of the weights of another run, and what of it is as the seed drew it: names of weights."""

    record: RunRecord
    weights_digest: str
    loaded: tuple[str, ...]
    new: tuple[str, ...]


def begin(spec: RunSpec, init: RunFolder | None, device: torch.device) -> tuple[nn.Module, Start | None]:
    """Return the model that a run's training begins with, and what it took of the weights of another run, if of any.

    What has the same name and shape is taken, but for the head where the other run had another task. Raises UserError
    if that run is not finished, or its weights are gone, damaged, of another spec or no start for this model.
    """
    if init is None:
        assert not spec.init, "from other weights, it would be another run"
        return build(spec, device), None
    record = finished(init, spec.init, "start from")
    weights = load_model(init, record, torch.device("cpu")).state_dict()
    model = build(spec, device)
    loaded, new = fitting_names(spec, record.spec, model.state_dict(), weights)
    model.load_state_dict({name: weights[name] for name in loaded}, strict=False)
    return model, Start(record, digest_of_weights(init), loaded, new)


def fitting_names(
    spec: RunSpec, start: RunSpec, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of a model's own weights that it takes of those of another run, and of those that stay as drawn.

    Raises UserError if it could take none, or not all that `freeze` needs.
    """
    head = head_names(spec.architecture, spec.config) if start.task != spec.task else set()
    loaded = tuple(
        name for name, w in own.items() if name not in head and name in weights and weights[name].shape == w.shape
    )
    new = tuple(name for name in own if name not in loaded)
    if not loaded:
        raise UserError(f"{spec.name}: none of the weights of {start.name} fits: start from those of a like model")
    if spec.recipe.freeze and (drawn := [name for name in new if name not in head]):
        fix = "give it the config of its start, or leave freeze out"
        raise UserError(f"{spec.name}: freeze would leave {drawn[0]} as drawn, which {start.name} has not: {fix}")
    return loaded, new


def finished(folder: RunFolder, run_hash: str, purpose: str) -> RunRecord:
    """Return the record of a finished run with this hash, whose weights another run needs. Raises UserError."""
    if not folder.is_finished:
        raise UserError(f"{folder.name} has not finished, so that there are no weights of it to {purpose}")
    record = folder.record()
    if record.spec.hash != run_hash:
        fix = "move the folder away and run the suite again"
        raise UserError(f"{folder.record_file}: of a run with hash {record.spec.hash}, not {run_hash}: {fix}")
    return record


def require_waveforms(folder: RunFolder, record: RunRecord) -> None:
    """Raise UserError for a run whose model, which is registered by now, takes anything but waveforms: codes."""
    spec = record.spec
    if get_architecture(spec.architecture).task != "tagging":
        raise UserError(f"{folder.path}: of task {spec.task}, whose model takes no waveforms; give a run of tagging")


def load_trained(trained: TrainedRun, device: torch.device) -> nn.Module:
    """Return the model of a run that another one is built on, in eval mode. Raises UserError as `load_model`."""
    folder = RunFolder(trained.folder)
    return load_model(folder, folder.record(), device).eval()


def require_source(folder: RunFolder, record: RunRecord, again: str) -> None:
    """Raise UserError if the architecture is not there, or of another text; what the run kept is named, never run."""
    spec, kept, package = record.spec, folder.source_file, record.provenance.package
    try:
        get_architecture(spec.architecture, spec.source)
    except ConfigError as error:
        fix = again
        if spec.source and kept.is_file() and text_digest(kept.read_bytes()) == spec.source:
            name_it = f"--plugin {shlex.quote(str(kept))}"
            fix = f"its text was kept with the run; to run that, and no other, say {name_it}"
        elif spec.source:
            fix = f"install {package}" if package else "name its file as it was (--plugin FILE.py)"
            fix += f", or {again}"
        raise UserError(f"{folder.record_file}: its architecture can't be made ({error}); {fix}") from None
