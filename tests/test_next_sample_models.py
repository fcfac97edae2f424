"""Models that predict the next sample: what they see, that caches change nothing, and how sounds are made of them."""

import json
import math
import re
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

import pytest
import torch
import torch.nn.functional as F

import bench as api
from architectures import (
    ConfigError,
    NextSampleConfig,
    configure,
    create,
    get_architecture,
    list_architectures,
    register,
)
from architectures._registry import forget
from architectures.checks import CheckFailed, checks_of, failed_checks
from bench.errors import UserError
from bench.inspect.generate import Sampling, generate
from bench.store.record import RunRecord
from bench.suites.plan import entries
from bench.suites.suite import load_suite

KEPT = Path(__file__).parent.parent / "results/demo"
# parameters, and how many samples an output sees
SIZES = {
    "wavenet_10": (1_070_464, 1024),
    "wavenet_11": (1_169_280, 2048),
    "wavenet_30": (3_046_784, 3070),
    "sample_transformer_3": (660_864, 1600),
    "sample_transformer_3_conditioned": (760_032, 5600),
    "sample_transformer_6": (1_255_680, 1600),
    "sample_transformer_8": (1_652_224, 1600),
}
# as far as those see, but for the transformers' context
NARROW = {"wavenet": {"channels": 4}, "sample": {"embed_dim": 16, "mlp_dim": 16, "max_context": 200}}
# windows of 16 samples; of the conditioned one, 4 before it
TINY = {
    "wavenet_10": {"channels": 4, "layers": 3, "stacks": 2},
    "sample_transformer_3": {"embed_dim": 16, "mlp_dim": 16, "max_context": 16},
    "sample_transformer_3_conditioned": {
        "embed_dim": 16, "mlp_dim": 16, "max_context": 16, "sample_rate": 16, "condition_seconds": 0.25,
    },
}  # fmt: skip
GREEDY = Sampling(temperature=0)


def small(name, seed=0, **fields):
    torch.manual_seed(seed)
    return create(name, **{"num_classes": 12, **TINY[name], **fields}).eval().double()


def codes(n, b=2, k=12):
    return torch.randint(k, (b, n), generator=torch.Generator().manual_seed(n))


# --- what they are, and what they see


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_fields_are_those_published_or_said(name):
    model = create(name)
    found = sum(parameter.numel() for parameter in model.parameters())
    assert (found, model.config.receptive_field) == SIZES[name]


def test_the_registry_has_the_published_figures():
    papers = {name: get_architecture(name).published for name in SIZES}
    found = {name: (paper.top5, paper.parameters) for name, paper in papers.items() if paper}
    top5 = dict(zip(SIZES, (0.74, None, 0.76, 0.80, 0.82, 0.84, 0.85), strict=True))
    assert found == {name: (score, SIZES[name][0]) for name, score in top5.items() if score}
    assert all("top5" in paper.second_hand for paper in papers.values() if paper)


@pytest.mark.parametrize("name", SIZES)
def test_an_output_sees_exactly_its_receptive_field(name):
    """By the gradient: of samples behind it nothing, of those before it as many as its config says."""
    torch.manual_seed(0)
    model = create(name, **NARROW[name.partition("_")[0]]).double()
    before = model.config.condition_samples
    field, later = model.config.receptive_field - before, 3
    n = field + 2 * later if model.config.max_context is None else field
    embedded, heard = [], []
    model.embed.register_forward_hook(lambda _, __, made: embedded.append(made) or made.retain_grad())
    if before:
        model.condition[0].register_forward_pre_hook(lambda _, given: heard.append(given[0].requires_grad_()) or None)
    at = n - 1 - later
    model(codes(before + n, b=1, k=256))[0, at].square().sum().backward()
    touched = embedded[0].grad.abs().sum(dim=-1)[0].nonzero().flatten()
    assert touched.tolist() == list(range(max(at + 1 - field, 0), at + 1))
    assert sum(int(each.grad.count_nonzero()) for each in heard) == before


# --- caches


@pytest.mark.parametrize("start", [1, 2, 9, 30])
def test_queues_are_full_passes(start):
    """Of prompts that are shorter and longer than the field of 15, through every ring several times."""
    model, x = small("wavenet_10"), codes(60)
    assert_steps(model, x, start)


@pytest.mark.parametrize("start", [1, 2, 9])
@pytest.mark.parametrize("name", ["sample_transformer_3", "sample_transformer_3_conditioned"])
def test_keys_and_values_are_full_passes(name, start):
    model = small(name)
    before = model.config.condition_samples
    state = assert_steps(model, codes(before + 16), before + start)
    with pytest.raises(ValueError, match="17 samples are more than max_context=16"):
        model.step(codes(1)[:, 0], state)


def assert_steps(model, x, start):
    with torch.inference_mode():
        logits, state = model.begin(x[:, :start])
        found = [logits]
        for code in x[:, start:].T:
            logits, state = model.step(code, state)
            found.append(logits)
        torch.testing.assert_close(torch.stack(found, dim=1), model(x)[:, -len(found) :], rtol=0, atol=1e-10)
    return state


def test_a_window_that_a_transformer_cannot_take_is_said():
    model = small("sample_transformer_3_conditioned")
    with pytest.raises(ValueError, match="17 samples are more than max_context=16"):
        model(codes(21))
    with pytest.raises(ValueError, match="4 samples leave no window behind a condition of 4"):
        model(codes(4))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("wavenet_10", {"layers": 21}, "layers=21: 20 in a stack at most"),
        ("wavenet_10", {"channels": 0}, "channels=0 must be at least 1"),
        ("sample_transformer_3", {"num_heads": 3}, "embed_dim=128 must be a multiple of num_heads=3"),
        ("sample_transformer_3", {"max_context": 0}, "max_context=0 must be 1 to"),
        ("sample_transformer_3", {"condition_seconds": -1.0}, r"condition_seconds=-1.0 must be 0 to"),
        ("sample_transformer_3", {"mlp_dim": 0}, "mlp_dim=0 must be at least 1"),
    ],
)
def test_configs_refuse_nonsense(name, fields, message):
    with pytest.raises(ConfigError, match=message):
        configure(name, **fields)


# --- generation


def by_full_passes(model, prompt, steps, most, before):
    """The likeliest codes, written out: a window that is full goes on from its last half."""
    x, first = prompt, before
    for _ in range(steps):
        if x.shape[1] - first > most:
            first = x.shape[1] - most // 2
        x = torch.cat([x, model(x[:, first - before :])[:, -1:].argmax(dim=-1)], dim=1)
    return x[:, prompt.shape[1] :]


@pytest.mark.parametrize(
    ("name", "context", "most"),
    [
        ("sample_transformer_3", None, 16),
        ("sample_transformer_3", 10, 10),
        ("sample_transformer_3_conditioned", 99, 16),
        # a field of 15 samples: what was trained on less is held to that
        ("wavenet_10", None, 1000),
        ("wavenet_10", 15, 1000),
        ("wavenet_10", 10, 10),
    ],
)
@pytest.mark.parametrize("length", [5, 30])
def test_temperature_0_is_the_argmax_of_full_passes(name, context, most, length):
    model, prompt = small(name), codes(length)
    expected = by_full_passes(model, prompt, 40, most, model.config.condition_samples)
    found = generate(model, prompt, 40, sampling=GREEDY, context=context)
    assert torch.equal(found, expected)
    assert len(found.unique()) > 1, "or it shows little"
    # what has no caches comes to the same
    assert torch.equal(generate(WithoutCaches(model), prompt, 40, sampling=GREEDY, context=context), expected)


class WithoutCaches(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, x):
        return self.model(x)


class Fixed(torch.nn.Module):
    """The same logits everywhere."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.config = logits, configure("wavenet_10", num_classes=len(logits))

    def forward(self, x):
        return self.logits.expand(*x.shape, -1)


def shares(sampling, logits=(0.0, 1.0, 2.0, 0.5)):
    model, generator = Fixed(torch.tensor(logits)), torch.Generator().manual_seed(0)
    found = generate(model, codes(1, b=20_000, k=4), 1, sampling=sampling, generator=generator)
    return found.flatten().bincount(minlength=4) / found.numel()


def test_codes_are_drawn_by_their_chances():
    logits = torch.tensor([0.0, 1.0, 2.0, 0.5])
    torch.testing.assert_close(shares(Sampling()), logits.softmax(0), rtol=0, atol=0.015)
    torch.testing.assert_close(shares(Sampling(temperature=2)), (logits / 2).softmax(0), rtol=0, atol=0.015)
    of_two = torch.tensor([0, 1.0, 2.0, 0]).masked_fill(torch.tensor([True, False, False, True]), -torch.inf)
    torch.testing.assert_close(shares(Sampling(top_k=2)), of_two.softmax(0), rtol=0, atol=0.015)
    for certain in (Sampling(top_k=1), Sampling(temperature=1e-40), GREEDY):
        assert shares(certain).tolist() == [0, 0, 1, 0]
    assert shares(Sampling(top_k=9)).count_nonzero() == 4


def test_the_same_seed_makes_the_same_sound():
    model = small("wavenet_10")
    one, again, other = (
        generate(model, codes(5), 30, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_before_a_short_prompt_there_is_silence():
    model = small("sample_transformer_3_conditioned")
    silence = torch.full((2, 4), 6)
    padded = torch.cat([silence[:, :2], codes(3)], dim=1)
    assert torch.equal(generate(model, codes(3), 9, sampling=GREEDY), generate(model, padded, 9, sampling=GREEDY))
    none = torch.empty(2, 0, dtype=torch.long)
    assert torch.equal(
        generate(small("wavenet_10"), none, 9, sampling=GREEDY),
        generate(small("wavenet_10"), silence[:, :1], 9, sampling=GREEDY),
    )


def test_what_cannot_be_generated_is_said():
    with pytest.raises(ValueError, match="codes outside 0 to 11"):
        generate(small("wavenet_10"), torch.tensor([[12]]), 1)
    with pytest.raises(ValueError, match="context=0 must be at least 1"):
        generate(small("wavenet_10"), codes(1), 1, context=0)
    with pytest.raises(ValueError, match="temperature=-1 must be 0 or more"):
        Sampling(temperature=-1)
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        Sampling(top_k=0)


@pytest.mark.parametrize("name", ["wavenet_10", "sample_transformer_3"])
def test_a_sine_is_learned_to_under_a_tenth_of_a_bit(name):
    """A period of 12 samples, in 256 codes; and what is generated goes on with it."""
    torch.manual_seed(0)
    sizes = {"wavenet_10": {"channels": 24, "layers": 4}, "sample_transformer_3": {"embed_dim": 32, "mlp_dim": 32}}
    model = create(name, **sizes[name])
    wave = ((torch.arange(100) * (2 * torch.pi / 12)).sin() * 120).round().long() + 128
    # all phases at once
    x = torch.stack([wave[phase : phase + 33] for phase in range(12)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        # behind the first half, where the phase is known
        bits = F.cross_entropy(model(x[:, :-1])[:, 16:].flatten(0, 1), x[:, 17:].flatten()) / math.log(2)
        optimizer.zero_grad()
        bits.backward()
        optimizer.step()
    assert bits < 0.1
    assert torch.equal(generate(model.eval(), wave[None, :20], 60, sampling=GREEDY, context=32)[0], wave[20:80])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ratio"), [("sample_transformer_3", 20), ("wavenet_11", 10)])
def test_caches_are_many_times_as_fast_as_full_passes(name, ratio):
    """At a context of 1,600, in turns."""
    model = create(name).eval()
    x = codes(1599, b=1, k=256)
    full, cached = [], []
    with torch.inference_mode():
        for _ in range(5):
            _, state = model.begin(x[:, :1570])
            begun = time.perf_counter()
            for code in x[:, 1570:].T:
                model.step(code, state)
            cached.append((time.perf_counter() - begun) / (1599 - 1570))
            begun = time.perf_counter()
            model(x)
            full.append(time.perf_counter() - begun)
    assert median(full) > ratio * median(cached), (median(full), median(cached))


# --- the registry, suites and commands know whom a task is for

SUITE = """
title = "mixed"
task = "TASK"
architectures = NAMES
[train]
max_steps = 4
"""


def suite_of(tmp_path, task, names='"all"', more=""):
    path = tmp_path / "mixed.toml"
    path.write_text(SUITE.replace("TASK", task).replace("NAMES", names) + more, "utf-8")
    return load_suite(path)


def test_a_suite_of_all_takes_those_of_its_task(tmp_path):
    tagging = [entry.architecture for entry in entries(suite_of(tmp_path, "tagging"))]
    assert tagging == list_architectures(task="tagging", in_all_only=True)
    assert not set(tagging) & set(SIZES)
    assert [entry.architecture for entry in entries(suite_of(tmp_path, "next_sample"))] == list(SIZES)
    # a user's task, which has none of its own
    assert [entry.architecture for entry in entries(suite_of(tmp_path, "one_label"))] == tagging


RUN = '\n[[runs]]\nname = "mine"\narchitecture = "wavenet_10"\n'


@pytest.mark.parametrize(
    ("task", "names", "more", "only", "message"),
    [
        ("tagging", '["wavenet_10"]', "", (), "'wavenet_10' is for task next_sample, not tagging"),
        ("tagging", '["vgg_like"]', RUN, (), "'wavenet_10' is for task next_sample, not tagging"),
        ("tagging", '"all"', "", ("wavenet_10",), "'wavenet_10' is for task next_sample, not tagging"),
        ("next_sample", '["wavenet_10", "vgg_like"]', "", (), "'vgg_like' is for task tagging, not next_sample"),
        ("next_sample", '"all"', "", ("timm:resnet18",), "'timm:resnet18' is for task tagging, not next_sample"),
    ],
)
def test_a_suite_does_not_mix_tasks(tmp_path, task, names, more, only, message):
    with pytest.raises(UserError, match=rf"^architecture {message}"):
        entries(suite_of(tmp_path, task, names, more), only)


def test_architectures_are_listed_by_task(bench):
    everything = list_architectures()
    assert everything[-len(SIZES) :] == list_architectures(task="next_sample") == list(SIZES)
    assert api.list_architectures(task="next_sample") == list(SIZES)
    assert api.list_architectures() == everything
    with pytest.raises(UserError, match="no task 'next_sampel'"):
        api.list_architectures(task="next_sampel")
    lines = bench("list").out.splitlines()
    heads = [line.split()[0] for line in lines if "family" in line.split()]
    assert heads == ["tagging", *sorted(set(heads) - {"tagging"})]
    assert "next_sample" in heads
    assert next(line for line in lines if line.startswith("next_sample ")).split()[2:4] == ["published", "top-5"]
    assert next(line for line in lines if line.startswith("wavenet_30")).split()[2:6] == ["0.760", "‡", "3.05M", "†"]


def test_records_keep_published_figures_of_any_task():
    record = json.loads(next(KEPT.glob("*/run.json")).read_text("utf-8"))
    for name in ("wavenet_10", "vgg_like"):
        paper = asdict(get_architecture(name).published)
        found = RunRecord.model_validate(record | {"published": paper}).published
        assert found == paper
        assert "metric" not in found


def test_new_writes_an_architecture_of_a_task(bench, tmp_path):
    done = bench("new", "ahead", "--out", tmp_path, "--task", "next_sample")
    assert done.code == 0
    assert "bench run demo" not in done.out
    checked = bench("check", tmp_path / "ahead.py")
    assert (checked.code, checked.out.strip()) == (0, "ahead: passes all checks")
    refused = bench("new", "other", "--out", tmp_path, "--task", "sorting")
    assert (refused.code, "task 'sorting'" in refused.err) == (2, True)


# --- the checks find what breaks the contract


class Recurrent(torch.nn.Module):
    """Sound; the classes below change one thing each."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed = torch.nn.Embedding(config.num_classes, 8)
        self.rnn = torch.nn.GRU(8, 8, batch_first=True)
        self.head = torch.nn.Linear(8, config.num_classes)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0])

    def begin(self, x):
        made, state = self.rnn(self.embed(x))
        return self.head(made[:, -1]), state

    def step(self, code, state):
        made, state = self.rnn(self.embed(code[:, None]), state)
        return self.head(made[:, 0]), state


class LooksAhead(Recurrent):
    def forward(self, x):
        return super().forward(x.roll(-1, dims=1))


class Forgets(Recurrent):
    def step(self, code, state):
        return super().step(code, torch.zeros_like(state))


class OneForAll(Recurrent):
    def forward(self, x):
        return super().forward(x).mean(dim=1)


class WithoutConfig(Recurrent):
    def __init__(self, config):
        super().__init__(config)
        del self.config


class EndlessConfig(NextSampleConfig):
    receptive_field = 10**9


@pytest.fixture
def mine():
    """Registers a class as 'mine' until the test ends."""
    yield lambda model, task="next_sample": register("mine", family="hybrid", task=task, config=EndlessConfig())(model)
    forget(["mine"])


SHAPE = "takes (b, before + n) codes and returns (b, n, k) logits"


@pytest.mark.parametrize(
    ("model", "check", "reason"),
    [
        (LooksAhead, "predicts from what came before", "later samples change earlier outputs by"),
        (Forgets, "comes to the same step by step", "from those of a full pass"),
        (OneForAll, SHAPE, "100 samples at 16000 Hz give (2, 7), should be (2, 100, 7)"),
        (WithoutConfig, "keeps its config, a NextSampleConfig that says how far it sees", "is a NoneType"),
    ],
)
def test_checks_find_what_breaks_the_contract(mine, model, check, reason):
    mine(model)
    with pytest.raises(CheckFailed, match=re.escape(reason)):
        checks_of("mine")[check]("mine")


def test_checks_pass_what_keeps_it(mine):
    mine(Recurrent)
    assert failed_checks("mine") == {}


def test_a_task_without_checks_is_said(mine):
    mine(Recurrent, task="sorting")
    with pytest.raises(ConfigError, match=r"mine: there are checks for .*tagging.*, none for task sorting"):
        checks_of("mine")
