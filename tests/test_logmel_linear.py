"""The floor of band statistics: what numpy makes of them, what it cannot hear, and where it runs."""

import numpy as np
import pytest
import torch

from architectures import ConfigError, configure, create, get_architecture, list_architectures
from bench.runner.cost import count_parameters

RATE = 16_000


def noise(b=3, n=RATE):
    return 0.1 * torch.randn(b, n, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create("logmel_linear", num_classes=7).eval()


@torch.no_grad()
def test_logits_are_a_linear_layer_on_what_numpy_says_of_each_band(model):
    bands = model.front_end(noise()).numpy()[:, 0]  # (b, f, t)
    features = np.concatenate([np.mean(bands, axis=2), np.std(bands, axis=2)], axis=1)
    np.testing.assert_allclose(model.forward_features(noise()), features, atol=1e-5)
    weight, bias = (value.numpy() for value in (model.head.weight, model.head.bias))
    np.testing.assert_allclose(model(noise()), features @ weight.T + bias, atol=1e-5)


@torch.no_grad()
def test_the_order_of_frames_is_not_heard_and_how_much_they_vary_is(model):
    bands = model.front_end(noise())
    shuffled = bands[..., torch.randperm(bands.shape[-1], generator=torch.Generator().manual_seed(1))]
    calm = bands.mean(dim=-1, keepdim=True).expand_as(bands)
    logits = {}
    for name, given in (("as it is", bands), ("shuffled", shuffled), ("calm", calm)):
        model.front_end = torch.nn.Identity()
        logits[name] = model(given)
    torch.testing.assert_close(logits["shuffled"], logits["as it is"])
    assert (logits["calm"] - logits["as it is"]).abs().min() > 1e-3


@torch.no_grad()
def test_a_single_frame_varies_by_nothing(model):
    model.front_end = torch.nn.Identity()
    assert torch.equal(model.forward_features(torch.ones(1, 1, 96, 1))[0, 96:], torch.zeros(96))


def test_it_has_two_weights_a_band_and_class_and_runs_where_it_is_named():
    assert count_parameters(create("logmel_linear")) == 200 * (2 * 96 + 1)
    assert "logmel_linear" in list_architectures(task="tagging")
    assert "logmel_linear" not in list_architectures(in_all_only=True)
    assert get_architecture("logmel_linear").family not in ("cnn", "transformer")
    with pytest.raises(ConfigError, match="n_mels=0 must be 1 to 513"):
        configure("logmel_linear", n_mels=0)
