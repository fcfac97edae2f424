"""Augmentation changes what it says and nothing else, and is a function of seed and step."""

import pytest
import torch

from bench.protocol.augment import augment
from bench.protocol.recipe import Recipe


def batch(b=6, n=1000, k=5):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(b, n, generator=generator) - 0.5, (torch.rand(b, k, generator=generator) > 0.5).float()


def test_defaults_touch_nothing():
    x, y = batch()
    a, b = augment(x, y, Recipe(), 0, 0)
    assert a is x
    assert b is y


@pytest.mark.parametrize("field", ["gain_db", "time_shift", "mixup"])
def test_what_is_drawn_follows_from_seed_and_step(field):
    recipe, (x, y) = Recipe(**{field: 0.5}), batch()
    first = augment(x, y, recipe, 3, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, augment(x, y, recipe, 3, 7), strict=True))
    for other in ((4, 7), (3, 8)):
        assert not torch.equal(first[0], augment(x, y, recipe, *other)[0])
    assert torch.equal(x, batch()[0]), "the batch itself is left alone"


def test_gain_is_within_its_decibels_and_full_scale():
    x, y = batch()
    louder, same = augment(x, y, Recipe(gain_db=6), 0, 0)
    assert same is y
    ratio = 20 * torch.log10((louder / x).median(dim=1).values)
    assert ratio.abs().max() <= 6
    assert ratio.std() > 1, "each chunk has its own"
    assert augment(x, y, Recipe(gain_db=60), 0, 0)[0].abs().max() <= 1


def test_a_shift_is_a_circle_within_its_share():
    x, y = batch(b=50)
    shifted, _ = augment(x, y, Recipe(time_shift=0.1), 0, 0)
    found = []
    for before, after in zip(x, shifted, strict=True):
        (shift,) = [s for s in range(-100, 101) if torch.equal(before.roll(s), after)]
        found.append(shift)
    assert min(found) < -50
    assert max(found) > 50


def test_mixup_mixes_labels_as_it_mixes_chunks():
    x = torch.eye(4, 100)  # who a chunk is made of can be read off its samples
    mixed, labels = augment(x, torch.eye(4), Recipe(mixup=0.5), 0, 0)
    torch.testing.assert_close(mixed[:, :4], labels)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(4))
    assert not torch.equal(labels, torch.eye(4))
