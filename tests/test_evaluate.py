"""A clip's score is the mean of its chunks' scores."""

import numpy as np
import torch
from torch import nn

from bench.protocol.batches import Batches
from bench.protocol.evaluate import score_clips
from bench.protocol.recipe import Recipe


class Loudness(nn.Module):
    """Logits that differ from chunk to chunk, without weights; notes the mode that it is called in."""

    def __init__(self, classes):
        super().__init__()
        self.scale = torch.linspace(1, 2, classes)
        self.modes = set()

    def forward(self, x):
        self.modes.add(self.training)
        return 10 * x.square().mean(dim=1, keepdim=True).sqrt() * self.scale


def test_clip_scores_are_means_over_chunks(packed):
    chunks = Batches(packed, "eval", packed.targets("eval"), Recipe(hop_seconds=0.5))
    model = Loudness(len(packed.labels)).train()
    scores = score_clips(model, chunks)
    assert scores.dtype == np.float32
    assert model.training
    assert model.modes == {False}
    for clip in range(len(scores)):
        ids = torch.nonzero(chunks.clip == clip).flatten()
        expected = torch.sigmoid(model(chunks.waveforms(ids))).mean(dim=0)
        np.testing.assert_allclose(scores[clip], expected, rtol=1e-5)
