"""Scores of whole clips over a whole split. Knows no metric and nothing of training."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.protocol.batches import Batches, to_device

__all__ = ["evaluation_batch_size", "score_clips"]

# fixed for each kind of device, since the last digits of a matrix product depend on it; on a CPU, activations of more
# chunks than this fall out of the cache
_CPU_BATCH_SIZE, _ACCELERATOR_BATCH_SIZE = 16, 512


def evaluation_batch_size(device: torch.device) -> int:
    return _CPU_BATCH_SIZE if device.type == "cpu" else _ACCELERATOR_BATCH_SIZE


@torch.inference_mode()
def score_clips(
    model: nn.Module, data: Batches, activation: Callable[[Tensor], Tensor] = torch.sigmoid
) -> npt.NDArray[np.float32]:
    """Score every clip: the mean of its chunks' scores, or where `aggregate` is 'logits' the score of their mean logit.

    Returns (clips, k), in fp32: bf16 would leave some 300 distinct values, and so ties, which move AP. The model is
    left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros_like(data.targets)
    for ids in data.in_order(evaluation_batch_size(data.device)):
        outputs = model(data.waveforms(ids)).float()  # (b, k)
        if data.aggregate == "mean":
            outputs = activation(outputs)
        sums.index_add_(0, to_device(data.clip[ids], sums.device), outputs)
    counts = torch.bincount(data.clip, minlength=len(sums)).unsqueeze(1)
    model.train(was_training)
    means = sums.cpu() / counts
    scores: npt.NDArray[np.float32] = (means if data.aggregate == "mean" else activation(means)).numpy()
    return scores
