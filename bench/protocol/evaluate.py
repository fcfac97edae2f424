"""Scores of whole clips over a whole split. Knows no metric and nothing of training."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.protocol.batches import Batches, to_device

__all__ = ["evaluation_batch_size", "mean_of_highest", "score_clips"]

# fixed for each kind of device, since the last digits of a matrix product depend on it; on a CPU, activations of more
# chunks than this fall out of the cache
_CPU_BATCH_SIZE, _ACCELERATOR_BATCH_SIZE = 16, 512


def evaluation_batch_size(device: torch.device) -> int:
    return _CPU_BATCH_SIZE if device.type == "cpu" else _ACCELERATOR_BATCH_SIZE


@torch.inference_mode()
def score_clips(
    model: nn.Module, data: Batches, activation: Callable[[Tensor], Tensor] = torch.sigmoid
) -> npt.NDArray[np.float32]:
    """Score every clip by its chunks, as the recipe's `aggregate` says: by their mean score, for example.

    Returns (clips, k), in fp32: bf16 would leave some 300 distinct values, and so ties, which move AP. The model is
    left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    is_of_logits = data.aggregate == "logits"
    outputs = _outputs(model, data, nn.Identity() if is_of_logits else activation)
    of_clips = _highest(outputs, data) if data.highest else _means(outputs, data)
    model.train(was_training)
    scores: npt.NDArray[np.float32] = (activation(of_clips) if is_of_logits else of_clips).numpy()
    return scores


def mean_of_highest(values: Tensor, count: int) -> Tensor:
    """Return of each column the mean of the `count` highest values, of all where there are fewer: (n, k) -> (k,)."""
    return values.topk(min(count, len(values)), dim=0).values.mean(dim=0)


def _outputs(
    model: nn.Module, data: Batches, activation: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield chunks by their ids, (b,), with what the model makes of them, (b, k)."""
    for ids in data.in_order(evaluation_batch_size(data.device)):
        yield ids, activation(model(data.waveforms(ids)).float())


def _means(outputs: Iterator[tuple[Tensor, Tensor]], data: Batches) -> Tensor:
    """Return the mean over each clip's chunks, by their weights where they have some: (clips, k) on the CPU."""
    sums = torch.zeros_like(data.targets)
    for ids, values in outputs:
        if data.weights is not None:
            values = values * to_device(data.weights[ids], sums.device).unsqueeze(1)
        sums.index_add_(0, to_device(data.clip[ids], sums.device), values)
    return sums.cpu() / torch.bincount(data.clip, data.weights, minlength=len(sums)).unsqueeze(1)


def _highest(outputs: Iterator[tuple[Tensor, Tensor]], data: Batches) -> Tensor:
    """Return the mean of each clip's highest outputs, class by class: (clips, k) on the CPU, which holds them all."""
    chunks = torch.cat([values.cpu() for _, values in outputs])
    of_clips = chunks.split(torch.bincount(data.clip, minlength=len(data.targets)).tolist())
    return torch.stack([mean_of_highest(values, data.highest) for values in of_clips])
