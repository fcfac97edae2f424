"""RunSpec to run folder."""

import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn

from architectures import get_architecture
from bench.data.pack import Pack
from bench.disk import write_json
from bench.errors import NotTogether, TrainingDiverged, UserError, one_line
from bench.protocol.batches import chunk_size, chunks_of
from bench.protocol.build import build, fp32_means_fp32
from bench.protocol.evaluate import score_clips
from bench.protocol.metrics import average_precision, chance_map, evaluate
from bench.protocol.spec import RunSpec
from bench.protocol.stack import may_stack
from bench.protocol.train import State, Status, optimizer_of, step, train_together
from bench.runner.cost import CLIP_SECONDS, count_macs, count_parameters, latency, peak_memory
from bench.runner.provenance import provenance
from bench.schema import digest


def execute(
    spec: RunSpec,
    pack: Pack,
    folder: Path,
    *,
    device: torch.device,
    report: Callable[[Status], None] = lambda status: None,
) -> dict[str, Any]:
    """Train, score eval once, and write the run folder; run.json comes last, so that a folder with it is whole.

    A failure is recorded in failed.json, with its traceback, and raised again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (result,) = _execute([spec], pack, [folder], device, report)
    except Exception as error:
        record = {"spec": spec.model_dump(), "error": _named(error), "traceback": traceback.format_exc()}
        write_json(folder / "failed.json", record)
        raise
    return result


def execute_together(
    specs: Sequence[RunSpec],
    pack: Pack,
    folders: Sequence[Path],
    *,
    device: torch.device,
    report: Callable[[Status], None] = lambda status: None,
) -> list[dict[str, Any]]:
    """The same for several seeds of one row, trained as one stacked model.

    Raises:
        NotTogether: they can't be, or one of them failed; nothing is lost, and each may be executed alone.
    """
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    if not may_stack(specs[0].recipe):
        raise NotTogether("their recipe goes by what each sees on val")
    try:
        return _execute(specs, pack, folders, device, report)
    except (RuntimeError, ValueError, TrainingDiverged) as error:
        raise NotTogether(one_line(error)) from error


def clean_up(folder: Path) -> None:
    """Remove what a finished run no longer needs."""
    (folder / "failed.json").unlink(missing_ok=True)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _execute(
    specs: Sequence[RunSpec],
    pack: Pack,
    folders: Sequence[Path],
    device: torch.device,
    report: Callable[[Status], None],
) -> list[dict[str, Any]]:
    """Runs that differ by their seed only."""
    started = time.perf_counter()
    first = specs[0]
    origin = provenance(get_architecture(first.architecture).model.__module__, device)
    data, val = (chunks_of(pack, split, first.recipe, device) for split in ("train", "val"))
    fp32_means_fp32()
    models = [build(spec, device) for spec in specs]
    states = train_together(
        models,
        data,
        val,
        first.recipe,
        seeds=[spec.seed for spec in specs],
        checkpoints=[folder / "checkpoint.pt" for folder in folders],
        code=digest(origin["source"]),
        report=report,
    )
    shared = (time.perf_counter() - started) / len(specs)
    together = {"trained_together": len(specs)} if len(specs) > 1 else {}
    results = []
    for spec, folder, model, state in zip(specs, folders, models, states, strict=True):
        result = _finish(spec, pack, folder, device, model, state, shared)
        result["provenance"] = origin | together
        write_json(folder / "run.json", result)
        clean_up(folder)
        results.append(result)
    return results


def _finish(
    spec: RunSpec, pack: Pack, folder: Path, device: torch.device, model: nn.Module, state: State, before: float
) -> dict[str, Any]:
    """Score eval, measure what the contestant costs, and write all but run.json, whose contents are returned.

    `before` is what the run has taken so far, in seconds.
    """
    started = time.perf_counter()
    entry = get_architecture(spec.architecture)
    eval_chunks = chunks_of(pack, "eval", spec.recipe, device)
    scores = score_clips(model, eval_chunks)
    targets = pack.targets("eval")
    ap = average_precision(targets, scores)
    untrained = score_clips(build(spec, device), eval_chunks)
    result = {
        "spec": spec.model_dump(),
        "hash": spec.hash,
        "family": entry.family,
        "published": asdict(entry.published) if entry.published else None,
        "metrics": evaluate(targets, scores, pack.leaf),
        "untrained": evaluate(targets, untrained, pack.leaf),
        "chance_map": chance_map(targets),
        "class_ap": {pack.labels[k]: float(ap[k]) for k in np.flatnonzero(np.isfinite(ap))},
        "val_map": state.best_map,
        "best_update": state.best_update,
        "updates": state.update,
        "cost": {
            **_static_cost(spec, device),
            "latency_seconds": latency(model, eval_chunks.size, device, spec.recipe.test_chunks(CLIP_SECONDS)),
            "train_seconds": round(state.seconds, 3),
            "samples_per_second": round(state.update * spec.recipe.batch_size / state.seconds, 1),
            # of this process, evaluation included
            "seconds": round(before + time.perf_counter() - started, 3),
        },
        "data": {"sample_rate": pack.sample_rate, "fingerprint": pack.fingerprint, "dataset": pack.dataset},
    }
    pd.DataFrame(state.history).to_csv(folder / "history.csv", index=False, lineterminator="\n")
    np.savez_compressed(folder / "scores.npz", scores=scores)
    weights = {name: w.contiguous() for name, w in model.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights))
    return result


def _static_cost(spec: RunSpec, device: torch.device) -> dict[str, Any]:
    """What follows from architecture and recipe alone, on a copy that is thrown away."""
    size, classes = chunk_size(spec.recipe, spec.config["sample_rate"]), spec.config["num_classes"]
    model = build(spec, torch.device("cpu"))

    def update() -> None:
        model = build(spec, device)
        x = torch.zeros(spec.recipe.batch_size, size, device=device)
        step(model, optimizer_of(model, spec.recipe), x, torch.zeros(len(x), classes, device=device), spec.recipe)

    return {
        "parameters": count_parameters(model),
        "macs": round(count_macs(model, size) / spec.recipe.chunk_seconds),
        "train_memory_bytes": peak_memory(update, device),
    }


def finished(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def write_labels(out: Path, pack: Pack) -> None:
    """labels.npz: what a report must know of eval, so that it needs nothing but the results folder.

    Raises:
        UserError: the folder holds results on other data.
    """
    path = out / "labels.npz"
    if path.exists():
        try:
            with np.load(path) as known:
                dataset = str(known["dataset"])
        except (ValueError, KeyError, BadZipFile):
            raise UserError(f"{path} is damaged: remove it and run the suite again") from None
        if dataset != pack.dataset:
            raise UserError(f"{out} holds runs on other data: choose another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    clips = pack.clips("eval")
    temporary = path.with_name("labels.partial.npz")
    np.savez_compressed(
        temporary,
        dataset=np.array(pack.dataset),
        clips=clips["clip"].to_numpy(dtype=str),
        groups=clips["group"].fillna("").to_numpy(dtype=str),
        classes=np.array(pack.labels),
        leaf=pack.leaf,
        targets=pack.targets("eval"),
        train_counts=pack.train_counts,
    )
    os.replace(temporary, path)


def _named(error: Exception) -> str:
    text = one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
