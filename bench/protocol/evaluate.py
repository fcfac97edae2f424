"""Scores of whole clips over a whole split. Knows no metric and nothing of training."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench.protocol.batches import Chunks, to_device

# fixed for each kind of device, since the last digits of a matrix product depend on it; on a CPU, activations of more
# chunks than this fall out of the cache (a quarter slower at 128)
CPU_BATCH_SIZE, ACCELERATOR_BATCH_SIZE = 32, 512


@torch.inference_mode()
def score_clips(model: nn.Module, chunks: Chunks) -> npt.NDArray[np.float32]:
    """A clip's score is the mean of its chunks' scores (after the sigmoid), or, where the chunks' `aggregate` is
    'logits', the score of their mean logit; in fp32: (clips, k).

    bf16 would leave some 300 distinct values, and so ties, which move AP. The model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros_like(chunks.targets)
    for ids in chunks.in_order(CPU_BATCH_SIZE if chunks.device.type == "cpu" else ACCELERATOR_BATCH_SIZE):
        outputs = model(chunks.waveforms(ids)).float()  # (b, k)
        if chunks.aggregate == "scores":
            outputs = torch.sigmoid(outputs)
        sums.index_add_(0, to_device(chunks.clip[ids], sums.device), outputs)
    counts = torch.bincount(chunks.clip, minlength=len(sums)).unsqueeze(1)
    model.train(was_training)
    means = sums.cpu() / counts
    scores: npt.NDArray[np.float32] = (means if chunks.aggregate == "scores" else torch.sigmoid(means)).numpy()
    return scores
