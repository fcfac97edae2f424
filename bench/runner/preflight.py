"""What is checked before anything trains."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from architectures import create, failure, get_architecture
from bench.data.pack import Pack
from bench.disk import require_space
from bench.errors import UserError
from bench.protocol.batches import chunk_size
from bench.protocol.spec import RunSpec
from bench.protocol.train import loss_of
from bench.runner.cost import count_parameters
from bench.runner.provenance import code
from bench.runner.run import finished


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
