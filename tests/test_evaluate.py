"""A clip's score is made of its chunks' scores: their mean, or another way that the recipe names."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.errors import UserError
from bench.protocol.batches import Batches
from bench.protocol.evaluate import score_clips
from bench.protocol.recipe import Recipe
from bench.schema import validated


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


def by_hand(packed, **recipe):
    """What `score_clips` says of eval, and of each clip its chunks' logits, and where they begin in it."""
    chunks, model = Batches(packed, "eval", packed.targets("eval"), Recipe(**recipe)), Loudness(len(packed.labels))
    first = packed.clips("eval")["start"].to_numpy()
    of_clips = []
    for clip in range(len(first)):
        ids = torch.nonzero(chunks.clip == clip).flatten()
        of_clips.append((model(chunks.waveforms(ids)), chunks.start[ids].numpy() - first[clip]))
    return score_clips(model, chunks), of_clips


@pytest.mark.parametrize(("recipe", "count"), [({"aggregate": "max"}, 1), ({"aggregate": "top_k", "top_k": 4}, 4)])
def test_the_highest_chunks_count_class_by_class(packed, recipe, count):
    scores, of_clips = by_hand(packed, hop_seconds=0.5, **recipe)
    assert scores.dtype == np.float32
    assert min(len(logits) for logits, _ in of_clips) < 4 < max(len(logits) for logits, _ in of_clips)
    for found, (logits, _) in zip(scores, of_clips, strict=True):
        expected = np.sort(1 / (1 + np.exp(-logits.double().numpy())), axis=0)[::-1][:count].mean(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("aggregate", ["mean", "logits"])
@pytest.mark.parametrize("hop", [1.0, 0.4])
def test_the_last_chunk_counts_by_its_new_samples(packed, aggregate, hop):
    recipe = {"aggregate": aggregate, "hop_seconds": hop, "last_chunk_weight": "new_samples"}
    scores, of_clips = by_hand(packed, **recipe)
    counted = []
    for found, (logits, starts) in zip(scores, of_clips, strict=True):
        heard, weights = np.zeros(starts[-1] + 16_000, bool), []
        for start in starts:
            weights.append((~heard[start : start + 16_000]).sum() / (16_000 * hop))
            heard[start : start + 16_000] = True
        # the first one is new as a whole, and counts as any other
        weights[0] = 1.0
        counted += weights[1:-1]
        values = logits.double().numpy()
        values = values if aggregate == "logits" else 1 / (1 + np.exp(-values))
        expected = np.average(values, axis=0, weights=weights)
        expected = 1 / (1 + np.exp(-expected)) if aggregate == "logits" else expected
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert set(counted) == {1.0}
    usual, _ = by_hand(packed, aggregate=aggregate, hop_seconds=hop)
    assert not np.allclose(scores, usual, rtol=1e-4)


@pytest.mark.parametrize("recipe", [{}, {"last_chunk_weight": "new_samples"}, {"aggregate": "top_k"}])
def test_the_first_chunks_of_a_split_are_scored_as_in_all_of_it(packed, recipe):
    chunks, model = Batches(packed, "eval", packed.targets("eval"), Recipe(**recipe)), Loudness(len(packed.labels))
    whole = int(chunks.counts[:3].sum())
    np.testing.assert_allclose(score_clips(model, chunks.head(whole))[:3], score_clips(model, chunks)[:3], rtol=1e-6)


@pytest.mark.parametrize("aggregate", ["max", "top_k"])
def test_what_is_no_mean_has_no_weights(aggregate):
    fields = {"aggregate": aggregate, "last_chunk_weight": "new_samples"}
    with pytest.raises(UserError, match=rf"^train: last_chunk_weight='new_samples' has no place in '{aggregate}': .+$"):
        validated(Recipe, fields, "train")


def test_new_ways_to_score_leave_the_hashes_of_the_old_ones():
    said = {"top_k": 3, "last_chunk_weight": "one", "short_clips": "repeat"}
    assert Recipe(**said).identity() == {k: v for k, v in Recipe().identity().items() if k not in said}
    for name, value in {"top_k": 2, "last_chunk_weight": "new_samples", "short_clips": "zeros"}.items():
        assert Recipe(**{name: value}).identity() == Recipe().identity() | {name: value}
