"""What is checked before anything trains."""

from collections.abc import Sequence

import torch
from torch import Tensor

from architectures import contained, failure, is_finite, pass_on
from bench.disk import require_space
from bench.errors import UserError
from bench.locks import attempt
from bench.protocol.build import build
from bench.protocol.checkpoint import CheckpointDamaged, CheckpointOfOtherCode
from bench.protocol.optim import optimizer_of
from bench.protocol.train import train_step
from bench.runner.cost import count_parameters
from bench.runner.display import Display
from bench.runner.memory import require_memory, require_memory_of_step, saved_bytes
from bench.runner.provenance import code_of
from bench.runner.run import checkpoint_of
from bench.runner.weights import fitting_names, load_model
from bench.store import ResultsFolder
from bench.suites.plan import Run

__all__ = ["check_checkpoints", "check_runs", "refuse_other_code"]

_CPU = torch.device("cpu")
# chunks that a model is tried on: with one alone, batch norm has nothing to normalise by
_ROWS = 2
# Of the step that is tried. With the recipe's own, training may diverge: that is for the run to find, and its result.
_LEARNING_RATE = 1e-6


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
    for run in runs if results.path.is_dir() else ():
        if not run.folder.is_finished:
            with attempt(run.folder.path, display.notice) as is_free:
                # who is at it has checked it, and writes it anew
                if is_free:
                    _check_checkpoint(run, results, restart=restart, display=display)


def _check_checkpoint(run: Run, results: ResultsFolder, *, restart: bool, display: Display) -> None:
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


def check_runs(runs: Sequence[Run], results: ResultsFolder, device: torch.device = _CPU) -> None:
    """Take a step of every architecture, keep its weights and read them again.

    Raises UserError if one can't do that, if memory plainly does not suffice, if weights find no room on the disk, or
    if those that are to be scored anew, or started from, are gone, damaged or of another shape.
    """
    _load_needed(runs)
    parameters: dict[str, int] = {}
    # what scores the weights of another entry is as that one
    trained = [run for run in runs if not run.rescored]
    for run in trained:
        if run.spec.name not in parameters:
            try:
                with contained():
                    require_memory(run.spec, run.pack, device)
                    parameters[run.spec.name] = _step(run, device)
                    if run.init:
                        # before what it starts from is trained
                        own, others = (build(each.spec, _CPU).state_dict() for each in (run, run.init))
                        fitting_names(run.spec, run.init.spec, own, others)
            except UserError:
                raise
            except Exception as error:
                why = f"{failure(run.spec.architecture, error)}, on {_inputs(run)}"
                raise UserError(f"{run.spec.name} does not run: {why}") from error
    kept = sum(4 * parameters[run.spec.name] for run in trained if not run.folder.is_finished)
    # weights, two moments and the best weights, and all of it twice while a checkpoint replaces the last
    require_space(results.path, kept + 2 * 4 * 4 * max(parameters.values(), default=0) + 50e6)


def _load_needed(runs: Sequence[Run]) -> None:
    """Load the weights of finished runs that others wait for. Raises UserError if some are gone or damaged."""
    waiting = [run.follows.folder for run in runs if run.follows and not run.folder.is_finished]
    for folder in dict.fromkeys(waiting):
        if folder.is_finished:
            load_model(folder, folder.record(), _CPU)


def _inputs(run: Run) -> str:
    """Return what the run's model takes, in words."""
    task, recipe = run.task, run.spec.recipe
    if "chunk_seconds" in task.without:
        return f"windows of {task.size(recipe, run.pack.sample_rate)}"
    return f"chunks of {recipe.chunk_seconds:g} s"


def _step(run: Run, device: torch.device) -> int:
    """Do once, on the CPU, what a run does until its weights are kept; return the number of parameters."""
    recipe = run.spec.recipe.model_copy(update={"learning_rate": _LEARNING_RATE})
    task, classes = run.task, run.spec.config["num_classes"]
    size = task.size(recipe, run.pack.sample_rate)
    (x, y), shape = task.example(_ROWS, size, classes), task.output_shape(_ROWS, size, classes)
    model, fresh = (build(run.spec, _CPU) for _ in range(2))
    # of several inputs at once, or one more
    model.register_forward_hook(
        lambda *given: _require_logits(task.logits_of(given[-1]), (len(given[1][0]), *shape[1:]))
    )
    with saved_bytes(model) as kept:
        train_step(model, optimizer_of(model, recipe), x, y, task, recipe)
    require_memory_of_step(run.spec, device, model, x, kept[0])
    with torch.inference_mode():
        model.eval()(x)
    pass_on(model, fresh)
    return count_parameters(model)


def _require_logits(logits: object, shape: tuple[int, ...]) -> None:
    """Raise ValueError if a model's outputs are no logits of this shape."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"the output is a {type(logits).__name__}, should be a tensor of logits")
    if logits.shape != shape:
        raise ValueError(f"logits have shape {tuple(logits.shape)}, should have {shape}")
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}, should be floats")
    if not is_finite(logits):
        raise ValueError("logits are not finite, on silence or on noise")
