"""What is checked before anything trains."""

from collections.abc import Sequence

import torch

from architectures import create, failure
from bench.disk import require_space
from bench.errors import UserError
from bench.protocol.batches import chunk_size
from bench.protocol.checkpoint import CheckpointDamaged, CheckpointOfOtherCode
from bench.runner.cost import count_parameters
from bench.runner.display import Display
from bench.runner.provenance import code_of
from bench.runner.run import checkpoint_of
from bench.store import ResultsFolder
from bench.suites.plan import Run

__all__ = ["check_checkpoints", "check_runs", "refuse_other_code"]


def refuse_other_code(runs: Sequence[Run], results: ResultsFolder) -> None:
    """Raise UserError if other code has finished runs in the folder that those to come would not be compared with."""
    # a plugin's other text is another architecture, which tables show beside it
    planned = {(run.spec.name, run.spec.source): code_of(run.spec)["source"] for run in runs}
    protocol = next(iter(planned.values()))["protocol"]
    for folder in results.finished():
        record = folder.record()
        source, entry = record.provenance.source, (record.spec.name, record.spec.source)
        if source.get("protocol") != protocol or (entry in planned and source != planned[entry]):
            raise UserError(
                f"{folder.path} was made by other code than this: choose another --out, remove it to run it again, "
                "or say --mixed to keep it"
            )


def check_checkpoints(runs: Sequence[Run], results: ResultsFolder, *, restart: bool, display: Display) -> None:
    """Set damaged checkpoints aside, and with `restart` those of other code, for which it else raises UserError."""
    for run in runs:
        if run.folder.is_finished:
            continue
        who, begins = f"{run.spec.name} seed {run.spec.seed}", "training begins anew"
        for folder in [run.folder, *results.unfinished_of_format1(run.spec)]:
            found, elsewhere = checkpoint_of(Run(run.spec, run.pack, folder)), folder != run.folder
            try:
                found.load(mmap=True)
            except CheckpointDamaged as error:
                # what lies elsewhere may be a run with other settings
                if not elsewhere:
                    kept = found.set_aside().name
                    display.notice(f"{who}: {found.path} is damaged ({error}): kept as {kept}, {begins}")
            except CheckpointOfOtherCode as error:
                if elsewhere and error.format is not None:
                    continue
                if not restart:
                    raise UserError(
                        f"{who}: {found.path}, at step {error.step}, was left by other code than this, so that the run "
                        "can't be resumed: say --restart to begin it anew, or resume it with the code that began it"
                    ) from None
                display.notice(f"{who}: the checkpoint of other code is kept as {found.set_aside().name}, {begins}")


def check_runs(runs: Sequence[Run], results: ResultsFolder) -> None:
    """Take a step of every architecture. Raises UserError if one does not run, or weights find no room on the disk."""
    parameters: dict[str, int] = {}
    for run in runs:
        if run.spec.name not in parameters:
            try:
                parameters[run.spec.name] = _step(run)
            except Exception as error:
                raise UserError(f"{run.spec.name} does not run: {failure(run.spec.architecture, error)}") from error
    kept = sum(4 * parameters[run.spec.name] for run in runs if not run.folder.is_finished)
    # weights, two moments and the best weights, and all of it twice while a checkpoint replaces the last
    require_space(results.path, kept + 2 * 4 * 4 * max(parameters.values()) + 50e6)


def _step(run: Run) -> int:
    """Go forward and backward once, on silence; return the number of parameters."""
    recipe, classes = run.spec.recipe, len(run.pack.labels)
    model = create(run.spec.architecture, **run.spec.config)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(torch.zeros(2, chunk_size(recipe, run.pack.sample_rate)))
    if logits.shape != (2, classes):
        raise ValueError(f"logits have shape {tuple(logits.shape)}, should have (2, {classes})")
    run.task.loss(recipe, logits.float(), torch.zeros(2, classes)).backward()
    return count_parameters(model)
