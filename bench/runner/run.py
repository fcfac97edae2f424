"""One run, from its spec to its folder."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from architectures import contained, get_architecture, package_of, source_text, weights_bytes
from bench.protocol.batches import Batches
from bench.protocol.build import build
from bench.protocol.checkpoint import Checkpoint
from bench.protocol.frozen import set_training
from bench.protocol.optim import optimizer_of
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of
from bench.protocol.train import train, train_step
from bench.runner.cost import CLIP_SECONDS, count_macs, count_parameters, latency, peak_memory
from bench.runner.display import Display
from bench.runner.provenance import code_digest, provenance
from bench.runner.weights import Start, begin, finished, load_model
from bench.store import ResultsFolder, RunRecord
from bench.store.record import Provenance
from bench.suites.plan import Run

__all__ = ["checkpoint_of", "execute", "measured_cost", "step_memory"]

# of a run's cost, what its training took
_OF_TRAINING = ("train_seconds", "samples_per_second", "epochs", "compiled", "compile_seconds")


@dataclass(frozen=True)
class _Kept:
    """The weights that a run's scores are of, and what its record says of them."""

    model: nn.Module
    # on val, by the run's own recipe
    val_score: float
    best_step: int
    steps: int
    history: pd.DataFrame
    # `_OF_TRAINING`
    cost: Mapping[str, Any]
    # of the weights that training began with, where these were not drawn: what the record says of them
    init: Mapping[str, Any] = field(default_factory=dict)


def execute(
    run: Run, device: torch.device, display: Display | None = None, cost: Mapping[str, Any] | None = None
) -> RunRecord:
    """Train, or load what it rescores, score eval once, and write the run folder.

    A failure is recorded in failed.json and raised again.

    Args:
        cost: what `measured_cost` said elsewhere.
    """
    run.folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with contained():
            return _execute(run, device, display or Display(), cost)
    except Exception as error:
        run.folder.write_failure(run.spec, error)
        raise


def checkpoint_of(run: Run) -> Checkpoint:
    """Return a run's checkpoint, for the code that is loaded."""
    return Checkpoint(run.folder.checkpoint_file, code_digest(run.spec), run.spec.hash)


def _execute(run: Run, device: torch.device, display: Display, cost: Mapping[str, Any] | None) -> RunRecord:
    started = time.perf_counter()
    spec, task = run.spec, run.task
    origin = _origin(run, device)
    val = task.data(run.pack, "val", spec.recipe, device)
    fp32_means_fp32()
    # before the first step: what fails here should not cost a training
    untrained = _untrained(run, device)
    cost = cost or measured_cost(spec, device)
    kept = _rescore(run, run.rescored, val, device) if run.rescored else _train(run, val, device, display)
    scores = task.score(kept.model, task.data(run.pack, "eval", spec.recipe, device))
    record = RunRecord(
        spec=spec,
        hash=spec.hash,
        **_judged(run, scores),
        untrained=untrained,
        init=dict(kept.init),
        val_score=kept.val_score,
        best_step=kept.best_step,
        steps=kept.steps,
        cost={**cost, **kept.cost, "seconds": round(time.perf_counter() - started, 3)},
        provenance=origin,
    )
    run.folder.write(record, kept.history, scores)
    return record


def _train(run: Run, val: Batches, device: torch.device, display: Display) -> _Kept:
    """Train, and write the weights that are best on val."""
    spec, task = run.spec, run.task
    data = task.data(run.pack, "train", spec.recipe, device)
    model, start = begin(spec, run.init.folder if run.init else None, device)
    if start:
        display.notice(_loaded(spec, start))
    if lacking := _without_clips(run, data):
        display.notice(f"{spec.name} seed {spec.seed}: {lacking}")
    state = train(
        model, data, val, task, spec.recipe,
        seed=spec.seed, checkpoint=checkpoint_of(run), report=display.training, notice=display.notice,
    )  # fmt: skip
    assert state.best_score is not None
    val_score, history = state.best_score, pd.DataFrame(state.history)
    if task.finish(model, data, spec.recipe, spec.seed):
        val_score = float(task.selection_score(val.targets.cpu().numpy() > 0, task.score(model, val)))
        # of the model that is kept, which the evaluations before did not see
        history.loc[history["step"] == state.best_step, "val_score"] = val_score
    run.folder.write_weights(weights_bytes(model.state_dict()))
    cost: dict[str, Any] = {
        "train_seconds": round(state.seconds, 3),
        "samples_per_second": round(state.step * spec.recipe.batch_size / max(state.seconds, 1e-9), 1),
        "epochs": round(state.step * spec.recipe.batch_size / data.epoch_size, 3),
    }
    if spec.recipe.compile != "off":
        cost |= {"compiled": state.is_compiled, "compile_seconds": round(state.compile_seconds, 3)}
    return _Kept(model, val_score, state.best_step, state.step, history, cost, _said_of(start))


def _loaded(spec: RunSpec, start: Start) -> str:
    """Return a line on what a run's model took of another's weights, and what it did not."""
    new = ", ".join(start.new[:4]) + (f" and {len(start.new) - 4} more" if len(start.new) > 4 else "")
    taken = f"{len(start.loaded)} of {len(start.loaded) + len(start.new)} weights of {start.record.spec.name}"
    return f"{spec.name} seed {spec.seed}: starts from {taken}" + (f"; new: {new}" if new else "")


def _without_clips(run: Run, data: Batches) -> str:
    """Return a line on classes of which a share of the labels holds no clip, '' if there are none."""
    if (share := run.spec.recipe.label_share) == 1:
        return ""
    there = run.task.split_targets(run.pack, "train").any(axis=0)
    missing = int((there & ~(data.targets > 0).any(dim=0).cpu().numpy()).sum())
    return f"label_share={share:g} leaves {missing} of {there.sum()} classes without a clip" if missing else ""


def _said_of(start: Start | None) -> dict[str, Any]:
    """Return what a record says of the run that its weights come from, and what those cost."""
    if start is None:
        return {}
    record = start.record
    spec, settings, before = record.spec, task_of(record.spec).settings, record.init
    # what was heard: the pack's train split, or sounds that are in no file
    own = getattr(settings, "data", "pack")
    sources = {own, *before.get("source", own).split(" + ")}
    return {
        "entry": spec.name,
        "system": record.system,
        "task": spec.task,
        "task_settings": spec.task_settings,
        "weights": start.weights_digest,
        # of this training, and of those that it started from
        "steps": record.steps + before.get("steps", 0),
        "examples": record.steps * spec.recipe.batch_size + before.get("examples", 0),
        "train_seconds": round(record.cost["train_seconds"] + before.get("train_seconds", 0.0), 3),
        "source": " + ".join(sorted(sources)),
        "loaded": len(start.loaded),
        "new": list(start.new),
    }


def _rescore(run: Run, rescored: Run, val: Batches, device: torch.device) -> _Kept:
    """Load the weights that another run has kept, and score val by them. Raises UserError if they are not there."""
    folder, task = rescored.folder, run.task
    trained = finished(folder, run.spec.rescores, "score")
    model = load_model(folder, trained, device)
    val_score = float(task.selection_score(val.targets.cpu().numpy() > 0, task.score(model, val)))
    history = folder.history()
    # of the evaluation that was kept: the others were of other weights
    line = history[history["step"] == trained.best_step].tail(1).assign(val_score=val_score)
    cost = {name: trained.cost[name] for name in _OF_TRAINING if name in trained.cost}
    return _Kept(model, val_score, trained.best_step, trained.steps, line, cost, trained.init)


def _origin(run: Run, device: torch.device) -> Provenance:
    """Return where the numbers will come from; keep the text of a user's file, which an edit would lose."""
    spec, origin = run.spec, provenance(run.spec, device)
    if text := source_text(spec.source):
        run.folder.write_source(text)
        return origin
    return origin.model_copy(update={"package": package_of(spec.architecture) if spec.source else ""})


def _untrained(run: Run, device: torch.device) -> dict[str, float | int | None]:
    """Return what eval's scores say of the weights that training begins with."""
    task, pack, recipe = run.task, run.pack, run.spec.recipe
    model, _ = begin(run.spec, run.init.folder if run.init else None, device)
    scores = task.score(model, task.data(pack, "eval", recipe, device))
    return {**task.evaluate(task.split_targets(pack, "eval"), scores, pack.leaf)}


def _judged(run: Run, scores: np.ndarray) -> dict[str, Any]:
    """Return what eval's scores say, with what they were read on and what the architecture is known for."""
    task, pack = run.task, run.pack
    entry = get_architecture(run.spec.architecture)
    targets = task.split_targets(pack, "eval")
    by_class = task.class_scores(targets, scores) if task.class_metric else np.empty(0)
    return {
        "family": entry.family,
        "published": asdict(entry.published) if entry.published and _is_as_published(run.spec) else None,
        "metrics": task.evaluate(targets, scores, pack.leaf),
        "floors": task.all_floors(targets, _floor_scores(run)),
        "class_scores": {pack.labels[k]: float(by_class[k]) for k in np.flatnonzero(np.isfinite(by_class))},
        "data": {
            "sample_rate": pack.sample_rate,
            "fingerprint": pack.fingerprint,
            "dataset": pack.dataset,
            "copied_eval_clips": pack.copied_eval_clips,
            **({"codes": codes} if (codes := task.codes_digest(pack)) else {}),
        },
    }


def _floor_scores(run: Run) -> Mapping[str, np.ndarray]:
    """Return the floors' scores of eval's clips: those that the results folder has, if it has any."""
    results = ResultsFolder(run.folder.path.parent)
    return results.labels().floors if results.labels_file.is_file() else run.task.floor_scores(run.pack)


def _is_as_published(spec: RunSpec) -> bool:
    """Return whether the config is the registered one, but for what follows from the pack."""
    usual = asdict(get_architecture(spec.architecture).config)
    follows = ("sample_rate", "num_classes")
    return all(value == usual[name] for name, value in spec.config.items() if name not in follows)


def measured_cost(spec: RunSpec, device: torch.device) -> Mapping[str, Any]:
    """Return what a run's inputs cost, whatever is learned: measured on models that are thrown away.

    Once for all seeds of a spec in this process: it is the architecture's and the recipe's. Memory is that of a step
    that is not compiled.
    """
    key = (spec.system, device, torch.get_num_threads())
    if key not in _costs:
        _costs[key] = _cost(spec, device)
    return _costs[key]


_costs: dict[tuple[str, torch.device, int], Mapping[str, Any]] = {}


def _cost(spec: RunSpec, device: torch.device) -> Mapping[str, Any]:
    recipe, task = spec.recipe, task_of(spec)
    classes, sample_rate = spec.config["num_classes"], spec.config["sample_rate"]
    size = task.size(recipe, sample_rate)
    # of a clip; those that overlap are all computed
    passes = task.passes(recipe, CLIP_SECONDS, sample_rate)
    timed = min(math.ceil(passes), task.most_timed)
    # a clip is scored so, and nothing that says it may have come before
    fp32_means_fp32()
    # what is frozen is a part of the model, too
    whole = spec.model_copy(update={"recipe": recipe.model_copy(update={"freeze": False})})
    fresh = build(whole, torch.device("cpu"))

    some, one = (task.example(rows, size, classes)[0] for rows in (timed, 1))
    return {
        "parameters": count_parameters(fresh),
        "macs": round(count_macs(fresh, one) * passes / CLIP_SECONDS),
        "train_memory_bytes": step_memory(spec, recipe.batch_size, size, device),
        "latency_seconds": latency(build(spec, device), some.to(device)) * passes / timed,
        **task.cost(),
    }


def step_memory(spec: RunSpec, rows: int, size: int, device: torch.device) -> int:
    """Return the most bytes that a training step takes, of so many inputs of `size` samples, with model and moments."""
    recipe, task, classes = spec.recipe, task_of(spec), spec.config["num_classes"]

    def one_step() -> None:
        throwaway = build(spec, device)
        set_training(throwaway, recipe)
        x, y = (tensor.to(device) for tensor in task.example(rows, size, classes))
        train_step(throwaway, optimizer_of(throwaway, recipe), x, y, task, recipe)

    return peak_memory(one_step, device)
