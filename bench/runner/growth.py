"""What an architecture costs on inputs of several lengths: how arithmetic, time and memory grow with them."""

import torch

from bench.protocol.build import build
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of
from bench.runner.cost import count_macs, count_parameters, latency
from bench.runner.run import step_memory

__all__ = ["STEP_ROWS", "cost_at"]

# inputs of a step whose memory is measured: with one alone, batch norm may have nothing to normalise by
STEP_ROWS = 2


def cost_at(spec: RunSpec, seconds: float, device: torch.device) -> dict[str, float]:
    """Return what one chunk of so many seconds costs a run's architecture, whatever the length of the run's own.

    `parameters`; `macs` and `latency_seconds` of a chunk; `train_memory_bytes` of a step of STEP_ROWS chunks, in the
    recipe's precision. All are of models that are thrown away.
    """
    task, classes = task_of(spec), spec.config["num_classes"]
    recipe = spec.recipe.model_copy(update={"chunk_seconds": seconds})
    size = task.size(recipe, spec.config["sample_rate"])
    fp32_means_fp32()
    fresh, (x, _) = build(spec, torch.device("cpu")), task.example(1, size, classes)
    return {
        "parameters": count_parameters(fresh),
        "macs": count_macs(fresh, x),
        "latency_seconds": latency(build(spec, device), x.to(device)),
        "train_memory_bytes": step_memory(spec, STEP_ROWS, size, device),
    }
