"""Costs against counts made by hand."""

import pytest
import torch
from torch import nn

from architectures import config_values, configure, create
from bench.protocol.spec import RunSpec
from bench.runner import run as running
from bench.runner.cost import count_macs, latency, peak_memory
from bench.runner.run import measured_cost
from bench.suites.suite import Entry, load_suite
from tests.conftest import make_spec

CPU = torch.device("cpu")
MEL = 101 * 513 * 96 + 1.25 * 101 * 1024 * 10  # filter bank; 101 real FFTs of 1,024, two operations a multiply-add


def attention_block(t, embed_dim=64, inner_dim=512, mlp_dim=512):
    projections = t * embed_dim * inner_dim * 4
    products = 2 * t * t * inner_dim
    return projections + products + 2 * t * embed_dim * mlp_dim


def test_macs_of_the_transformers_with_attention():
    front_end = 40 * (400 * 2048 + 2048 * 64)
    head = 64 * 512 + 512 * 200
    assert count_macs(create("transformer_large"), torch.zeros(1, 16_000)) == front_end + 6 * attention_block(40) + head
    pooled = front_end + sum(2 * attention_block(t) for t in (40, 20, 10)) + head
    assert count_macs(create("transformer_pooled"), torch.zeros(1, 16_000)) == pooled


def test_macs_of_the_vgg_with_its_spectrogram():
    at_full, at_half, at_quarter = 96 * 101, 48 * 50, 24 * 25
    convs = at_full * 9 * (32 + 2 * 32 * 32) + at_half * 9 * (32 * 64 + 64 * 64) + at_quarter * 9 * 64 * 128
    dense = 256 * 256 + 256 * 200
    assert count_macs(create("vgg_like"), torch.zeros(1, 16_000)) == MEL + convs + dense


def test_macs_of_the_crnn_with_its_recurrence():
    convs = 25 * (96 * 101 * 128 + 19 * 50 * 128 * 128 + 4 * 25 * 128 * 128)
    gru = 12 * 2 * 3 * 64 * (256 + 64)
    assert count_macs(create("crnn"), torch.zeros(1, 16_000)) == MEL + convs + gru + 64 * 200


@pytest.fixture
def counted(monkeypatch):
    """What is counted of a spec's cost, without what takes time to measure."""
    monkeypatch.setattr(running, "_costs", {})
    for name in ("latency", "peak_memory"):
        monkeypatch.setattr(running, name, lambda *_: 1)
    return lambda spec: measured_cost(spec, CPU)["macs"]


@pytest.mark.parametrize(
    ("recipe", "chunks"),
    [
        ({}, 10),
        # whose last one ends with the clip
        ({"eval_hop_seconds": 0.5}, 19),
        ({"hop_seconds": 0.25}, 37),
        ({"chunk_seconds": 4.0, "hop_seconds": 4.0}, 3),
    ],
)
def test_macs_are_those_of_all_chunks_of_a_clip_of_ten_seconds(counted, packed, recipe, chunks):
    spec = make_spec(packed, **recipe)
    model = create("transformer_small", **spec.config)
    of_a_chunk = count_macs(model, torch.zeros(1, round(spec.recipe.chunk_seconds * 16_000)))
    assert counted(spec) == round(of_a_chunk * chunks / 10)


def test_the_papers_cnns_compute_nearly_twice_what_they_hear(counted):
    _, recipe, _ = load_suite("paper").settings(Entry(name="any", architecture="vgg_like"), "cnn", {})
    config = config_values(configure("vgg_like", sample_rate=22_050, num_classes=200))
    spec = RunSpec(name="any", architecture="vgg_like", config=config, recipe=recipe, seed=0, pack="")
    assert counted(spec) == round(count_macs(create("vgg_like", sample_rate=22_050), torch.zeros(1, 22_050)) * 19 / 10)


def test_counting_leaves_the_model_as_it_was():
    model = create("vgg_like")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, torch.zeros(1, 16_000))
    latency(model, torch.zeros(10, 16_000))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_latency_is_that_of_the_work():
    class Deeper(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(depth)))

        def forward(self, x):
            return self.layers(x[:, :1000])

    assert 0 < latency(Deeper(1), torch.zeros(10, 16_000)) < latency(Deeper(60), torch.zeros(10, 16_000))


@pytest.mark.parametrize("megabytes", [1, 64])
def test_peak_memory_counts_what_lives_at_once(megabytes):
    def step():
        for _ in range(3):  # one after another: never two at once
            torch.empty(megabytes * 2**18).fill_(1)

    assert peak_memory(step, CPU) == pytest.approx(megabytes * 2**20, rel=0.01)


def test_peak_memory_of_nothing_is_nothing():
    assert peak_memory(lambda: None, CPU) == 0
