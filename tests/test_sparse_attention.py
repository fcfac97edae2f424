"""Sparse attention against attention to all tokens under masks that loops make; what it costs, and what it refuses."""

import math
import re
import time
from itertools import product

import pytest
import torch

from architectures import ConfigError, config_values, configure, create
from architectures.attention import Pattern, sparse_attention
from architectures.audio_transformer import Attention, AudioTransformerConfig
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.runner.cost import count_macs, peak_memory
from bench.runner.preflight import check_runs
from bench.store import ResultsFolder
from bench.suites.plan import Run
from tests.conftest import make_spec

CPU = torch.device("cpu")
KINDS = ("local", "strided", "fixed")
# tokens, span, summary: whole blocks, a last one of one token, one shorter than its summary, one of just that
SIZES = [(12, 4, 1), (13, 4, 3), (14, 4, 3), (15, 4, 3), (7, 6, 2), (11, 2, 1), (30, 7, 6)]


def sees(pattern, head, heads, i, j, t):
    """The patterns in words: whether token i attends to token j."""
    if pattern.causal and j > i:
        return False
    if pattern.kind == "local" or (pattern.kind == "strided" and head < heads // 2):
        return abs(i - j) < pattern.span
    if pattern.kind == "strided":
        return (i - j) % pattern.span == 0
    block = j // pattern.span
    end = min((block + 1) * pattern.span, t)
    return i // pattern.span == block or end - pattern.summary <= j


def mask_of(pattern, heads, t):
    """(heads, t, t)"""
    return torch.tensor(
        [[[sees(pattern, h, heads, i, j, t) for j in range(t)] for i in range(t)] for h in range(heads)]
    )


def dense(q, k, v, mask):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ v


@pytest.mark.parametrize(("t", "span", "summary"), SIZES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_masked_dense_attention(kind, causal, t, span, summary):
    pattern, heads = Pattern(kind=kind, span=span, summary=summary, causal=causal), 4
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(4, 2, heads, t, 8, generator=generator, dtype=torch.float64).split([3, 1])
    x.requires_grad_()
    found, expected = sparse_attention(*x, pattern), dense(*x, mask_of(pattern, heads, t))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad((y * weights[0]).sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("t", "span", "summary"), SIZES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["strided", "fixed"])
def test_two_steps_reach_every_token(kind, causal, t, span, summary):
    # one step is through any of the heads
    mask = mask_of(Pattern(kind=kind, span=span, summary=summary, causal=causal), 2, t).any(dim=0).float()
    reached, all_tokens = mask @ mask > 0, torch.ones(t, t).bool()
    assert torch.equal(reached, all_tokens.tril() if causal else all_tokens)


def tokens_of(model, x):
    """The tokens that the model would average."""
    kept = []
    handle = model.norm.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        model(x)
    handle.remove()
    return kept[0]


@pytest.mark.parametrize("fields", [{}, {"pool_after": (1,)}], ids=["plain", "pooled"])
@pytest.mark.parametrize("kind", KINDS)
def test_causal_tokens_never_see_a_later_sample(kind, fields):
    torch.manual_seed(0)
    model = create("transformer_small", causal=True, input_level="raw", attention=kind, span=6, **fields).eval()
    before, after = torch.randn(2, 1, 16_000)
    changed = torch.cat([before[:, :8000], after[:, 8000:]], dim=1)  # from token 20 on, of 40
    first = 10 if fields else 20
    a, b = tokens_of(model, before), tokens_of(model, changed)
    torch.testing.assert_close(a[:, :first], b[:, :first])
    assert not torch.allclose(a[:, first:], b[:, first:])


def test_patterns_have_the_weights_of_full_attention_and_other_outputs():
    torch.manual_seed(0)
    x, outputs = 0.1 * torch.randn(2, 16_000), []
    full = create("transformer_small").eval()
    for kind in ("full", *KINDS):
        model = create("transformer_small", attention=kind, span=6).eval()
        model.load_state_dict(full.state_dict())
        outputs.append(model(x).detach())
    assert torch.equal(outputs[0], full(x))
    pairs = [(a, b) for a, b in product(range(4), repeat=2) if a < b]
    assert all(not torch.allclose(outputs[a], outputs[b], atol=1e-4) for a, b in pairs)


def test_runs_from_before_the_fields_keep_their_hash():
    variant = configure("transformer_small")
    assert not {"attention", "span", "summary"} & config_values(variant, variant).keys()
    assert config_values(configure("transformer_small", attention="local"), variant)["attention"] == "local"


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_of_weights_and_keeps_their_mean(kind):
    pattern = Pattern(kind=kind, span=3, summary=1, causal=False)
    q, k, v = torch.randn(3, 1, 2, 7, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    many = sparse_attention(*(x.expand(20_000, -1, -1, -1) for x in (q, k, v)), pattern, 0.25)
    torch.testing.assert_close(many.mean(dim=0, keepdim=True), sparse_attention(q, k, v, pattern), rtol=0, atol=0.03)
    assert many.std(dim=0).min() > 0.01


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_one_graph_and_computes_in_bf16(kind, causal):
    attention = Attention(AudioTransformerConfig(attention=kind, span=6, causal=causal, num_heads=2, head_dim=8))
    x = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(0))
    torch.compiler.reset()
    whole = torch.compile(attention, fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(whole(x), attention(x))
    with torch.autocast("cpu", torch.bfloat16):
        low = attention(x)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), attention(x), rtol=0, atol=0.02)


# --- what it costs


def macs_of_a_block(products, t, d=64, inner=512):
    """Of a block with `products` weights of attention a head, each of which takes two products of 64 numbers."""
    return 4 * t * d * inner + 2 * t * d * 512 + 2 * products * 8 * 64


@pytest.mark.parametrize(
    ("seconds", "fields", "products"),
    [
        (10, {}, 2000**2),
        (10, {"attention": "local"}, 2000 * 3 * 50),
        (10, {"attention": "local", "causal": True}, 2000 * 2 * 50),
        # half of the heads each
        (10, {"attention": "strided"}, 2000 * (3 * 50 + 40) // 2),
        # its own block but for its summary, and those of all 40
        (10, {"attention": "fixed"}, 2000 * (48 + 40 * 2)),
        # the last block, of 50 tokens in 60, is filled up; it has a summary
        (10.05, {"attention": "fixed", "span": 60, "summary": 3}, 34 * 60 * (57 + 34 * 3)),
    ],
)
def test_macs_are_those_of_the_blocks(seconds, fields, products):
    model, t = create("transformer_small", patch_seconds=0.005, **fields), round(200 * seconds)
    others = t * (80 * 256 + 256 * 64) + 64 * 512 + 512 * 200
    assert count_macs(model, torch.zeros(1, 80 * t)) == others + 3 * macs_of_a_block(products, t)


def work(kind, t, d=64):
    """Forward and backward of one attention over t tokens, with a span of their root; or of the dense one, masked."""
    pattern = Pattern(kind=kind, span=round(t**0.5), summary=1, causal=False) if kind != "dense" else None
    mask = None if pattern else torch.ones(t, t, dtype=torch.bool)
    x = torch.randn(3, 1, 2, t, d, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def step():
        (sparse_attention(*x, pattern) if pattern else dense(*x, mask)).sum().backward()
        x.grad = None

    return step


def exponent(small, large, ratio=4):
    return math.log(large / small) / math.log(ratio)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_grows_with_tokens_and_not_with_their_pairs(kind):
    small, large = (peak_memory(work(kind, t), CPU) for t in (1600, 6400))
    assert 0.9 < exponent(small, large) < 1.1
    small, large = (peak_memory(work("dense", t), CPU) for t in (200, 800))
    assert exponent(small, large) > 1.8, "masked dense attention"


@pytest.mark.slow
def test_time_grows_more_slowly_than_that_of_all_pairs():
    keys = [*product((*KINDS, "dense"), (1600, 6400))]
    steps, seconds = {key: work(*key) for key in keys}, {key: [] for key in keys}
    # in turns, so that what else the machine does meets all alike; the first one is warm-up
    for _ in range(5):
        for key, step in steps.items():
            # of this process alone, which has one thread
            started = time.process_time()
            step()
            seconds[key].append(time.process_time() - started)
    least = {key: min(taken[1:]) for key, taken in seconds.items()}
    grown = {kind: exponent(least[kind, 1600], least[kind, 6400]) for kind in (*KINDS, "dense")}
    assert max(grown[kind] for kind in KINDS) < 1.6, grown
    assert grown["dense"] > 1.7, grown
    assert all(least["dense", 6400] > 3 * least[kind, 6400] for kind in KINDS), least


# --- what does not fit


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": "local", "span": 1}, "span=1 must be at least 2 tokens with attention='local'"),
        ({"attention": "fixed", "span": 4, "summary": 4}, "summary=4 must be 1 to less than span=4"),
        ({"attention": "fixed", "summary": 0}, "summary=0 must be 1 to less than span=50"),
        ({"attention": "strided", "num_heads": 3}, "num_heads=3 must be even with attention='strided'"),
        ({"attention": "sparse"}, "attention: Input should be 'full', 'local', 'strided' or 'fixed'"),
    ],
)
def test_what_cannot_be_is_one_line(fields, message):
    with pytest.raises(ConfigError, match=f"^transformer_small: {re.escape(message)}[^\n]*$"):
        configure("transformer_small", **fields)


def test_a_field_without_effect_is_not_looked_at():
    assert configure("transformer_small", span=0, summary=0, num_heads=3).pattern is None
    assert configure("transformer_small", attention="local", summary=0).pattern.span == 50


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [({"attention": "local", "span": 40}, 40), ({"attention": "strided", "span": 20, "pool_after": [1]}, 20)],
    ids=["plain", "pooled"],
)
def test_a_span_of_all_tokens_is_refused_before_anything_trains(packed, tmp_path, fields, tokens):
    """Such a run would be one of full attention under another name; behind a pool, too."""
    config = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels), **fields}
    spec = make_spec(packed).model_copy(update={"name": "mine", "architecture": "transformer_small", "config": config})
    run = Run(RunSpec.model_validate(spec.model_dump()), packed, ResultsFolder(tmp_path).run(spec))
    with pytest.raises(UserError) as raised:
        check_runs([run], ResultsFolder(tmp_path))
    kind, span = fields["attention"], fields["span"]
    assert f"attention='{kind}' has span={span}, of {tokens} tokens in all: take a smaller span" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not run.folder.path.exists()
