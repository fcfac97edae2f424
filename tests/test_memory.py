"""What plainly does not fit into memory is refused before any of it is taken."""

import resource
import time

import pytest
import torch

from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.runner import memory
from bench.runner.estimate import Remaining, estimate
from bench.runner.memory import require_memory, saved_bytes, total_memory
from bench.runner.preflight import check_runs
from bench.searching.search import searches
from bench.store import ResultsFolder
from bench.suites.plan import Run
from bench.suites.space import Dimension
from tests.conftest import make_spec

CPU = torch.device("cpu")
BILLION = 1_000_000_000


def spec_of(packed, architecture="transformer_small", config=None, **recipe):
    spec = make_spec(packed, **recipe)
    fixed = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels)}
    return RunSpec(
        **{**dict(spec), "name": "mine", "architecture": architecture, "config": {**fixed, **(config or {})}}
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"batch_size": BILLION},
            "a batch of 1000000000 would take .* GB of memory, the machine has .* GB: take a smaller batch_size",
        ),
        ({"batch_size": 10_000_000, "chunk_seconds": 30}, "a batch of 10000000 would take"),
        ({"config": {"embed_dim": BILLION}}, "its weights take more than .* GB, all that there are; make it smaller"),
        ({"config": {"embed_dim": 1_000_000}}, "its weights take more than"),
        ({"config": {"depth": BILLION}}, "it has more than 10000 layers; make it smaller"),
        ({"config": {"mlp_dim": 10**11}}, "its weights take more than"),
        ({"config": {"patch_seconds": 1e6}}, "its weights take more than"),
        ({"architecture": "crnn", "config": {"rnn_width": 10_000_000}}, "its weights take more than"),
        ({"architecture": "vgg_like", "config": {"hidden_dim": BILLION}}, "its weights take more than"),
        ({"architecture": "vgg_like", "config": {"stage_widths": ((1 << 20, 1 << 20),)}}, "its weights take more than"),
    ],
)
def test_what_does_not_fit_is_one_line_and_takes_nothing(packed, given, message):
    spec, started = spec_of(packed, **given), time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=rf"^mine: {message}") as caught:
        require_memory(spec, packed, CPU)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"
    assert time.monotonic() - started < 60, "a busy machine is tenfold slower"


def test_weights_moments_and_the_best_ones_count(packed, monkeypatch):
    """A model that fits, and its training does not."""
    spec = spec_of(packed)
    monkeypatch.setattr(memory, "total_memory", lambda device=None: 10_000_000)
    with pytest.raises(
        UserError, match=r"weights, gradients and moments would take 0\.0 GB of memory, the machine has 0\.0 GB: take"
    ):
        require_memory(spec, packed, CPU)


def test_chunks_are_counted_before_they_are_made(packed, monkeypatch):
    spec = spec_of(packed, hop_seconds=0.01, config={"depth": 1})
    monkeypatch.setattr(memory, "_CHUNK_BYTES", 10**9)
    with pytest.raises(UserError, match=r"mine: \d+ chunks of train would take .* GB.*take a larger hop_seconds"):
        require_memory(spec, packed, CPU)


def test_what_a_step_keeps_is_measured_on_two_chunks(packed, tmp_path, monkeypatch):
    spec = spec_of(packed, batch_size=1000)
    run = Run(spec, packed, ResultsFolder(tmp_path).run(spec))
    monkeypatch.setattr(memory, "total_memory", lambda device=None: 300_000_000)
    with pytest.raises(UserError, match=r"^mine: a step with batch_size=1000 would take .*take a smaller batch_size"):
        check_runs([run], ResultsFolder(tmp_path))


def test_what_is_kept_until_backward():
    layer, x = torch.nn.Linear(10, 20), torch.randn(3, 10)
    with saved_bytes(layer) as kept:
        layer(x).relu()
    # the input of the product, and what the ReLU lets through; not the weights
    assert kept == [4 * (3 * 10 + 3 * 20)]


def test_sizing_draws_nothing_and_registers_no_hook(packed):
    torch.manual_seed(7)
    expected = torch.rand(3)
    for architecture in ("transformer_small", "crnn", "resnet18"):
        torch.manual_seed(7)
        require_memory(spec_of(packed, architecture), packed, CPU)
        assert torch.equal(torch.rand(3), expected)
    for _ in range(memory._LAYERS // 100):
        torch.nn.Sequential(*[torch.nn.Identity()] * 200)


def test_an_estimate_says_it_too(packed):
    entry = Remaining(spec_of(packed, batch_size=BILLION), packed, (0,))
    (found,) = estimate([entry], CPU, seconds=0.1)
    assert found.cause.startswith("UserError: mine: a batch of 1000000000 would take ")


def test_a_space_is_tried_before_a_search(packed, tmp_path):
    spec = make_spec(packed)
    run = Run(spec, packed, ResultsFolder(tmp_path).run(spec))
    for name, value, message in (("batch_size", BILLION, "tiny: a batch of"), ("mlp_dim", 10**11, "tiny: its weights")):
        default = {"batch_size": 8, "mlp_dim": 32}[name]
        space = {name: Dimension(choices=[default, value])}
        with pytest.raises(UserError, match=rf"^\[space\] {name}={value}: {message}"):
            searches([run], space, 0, ())


def test_memory_is_that_of_the_machine_or_less():
    assert 10**8 < total_memory() == total_memory(CPU)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = total_memory() - 1
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        assert total_memory() == most
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
