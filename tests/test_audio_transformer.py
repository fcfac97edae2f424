"""The parts of the transformers against plain loops and torch's layers."""

import pytest
import torch
from torch import nn

from architectures import configure, create, list_architectures
from architectures.audio_transformer import (
    Attention,
    AudioTransformer,
    AudioTransformerConfig,
    Block,
    _average_pool,
    _averaging_matrices,
    _multi_scale,
    _sinusoids,
)

torch.manual_seed(0)


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (2, 1), (3, 2), (4, 4)])
def test_average_pool_is_a_plain_loop(window, stride):
    x = torch.randn(2, 11, 5)
    loop = [x[:, i : i + window].mean(dim=1) for i in range(0, 11 - window + 1, stride)]
    torch.testing.assert_close(_average_pool(x, window, stride), torch.stack(loop, dim=1))


def mean_at(x, i, window, kind):
    t = x.shape[1]
    if kind == "block":
        start = i // window * window
        return x[:, start : min(start + window, t)].mean(dim=1)
    return x[:, max(0, i - window + 1) : i + 1].mean(dim=1)


@pytest.mark.parametrize("kind", ["block", "past"])
@pytest.mark.parametrize("t", [40, 7, 1])
def test_multi_scale_is_a_plain_loop(kind, t):
    windows = (1, 2, 4, 64)
    x = torch.randn(2, t, 16)
    expected = x.clone()
    for group, window in enumerate(windows):
        dims = slice(8 + 2 * group, 10 + 2 * group)
        for i in range(t):
            expected[:, i, dims] = mean_at(x[:, :, dims], i, window, kind)
    torch.testing.assert_close(_multi_scale(x, windows, kind), expected)


def test_multi_scale_averages_half_of_the_dimensions_and_keeps_half():
    """Five of the averaged had a window of 1, which left 37 of 64 as they were."""
    config, x = configure("transformer_multiscale"), torch.randn(2, 40, 64)
    changed = (_multi_scale(x, config.multiscale_windows, config.multiscale_mean) != x).any(dim=(0, 1))
    assert changed.tolist() == 32 * [False] + 32 * [True]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_torchs(causal):
    config = AudioTransformerConfig(embed_dim=32, num_heads=4, head_dim=8, causal=causal)
    ours, theirs = Attention(config), nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.in_proj_weight, theirs.in_proj_bias = ours.qkv.weight, ours.qkv.bias
    theirs.out_proj.weight, theirs.out_proj.bias = ours.proj.weight, ours.proj.bias
    x = torch.randn(3, 10, 32)
    mask = nn.Transformer.generate_square_subsequent_mask(10) if causal else None
    expected, _ = theirs(x, x, x, attn_mask=mask, is_causal=causal, need_weights=False)
    torch.testing.assert_close(ours(x), expected)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_block_equals_torchs(norm):
    ours = Block(AudioTransformerConfig(embed_dim=32, num_heads=4, head_dim=8, mlp_dim=24, norm=norm))
    theirs = nn.TransformerEncoderLayer(32, 4, 24, dropout=0.0, batch_first=True, norm_first=norm == "pre")
    attention = theirs.self_attn
    attention.in_proj_weight, attention.in_proj_bias = ours.attn.qkv.weight, ours.attn.qkv.bias
    attention.out_proj.weight, attention.out_proj.bias = ours.attn.proj.weight, ours.attn.proj.bias
    theirs.linear1, theirs.linear2 = ours.mlp[0], ours.mlp[3]
    x = torch.randn(3, 10, 32)
    torch.testing.assert_close(ours(x), theirs(x))


def tokens(model, x):
    """What the model would average: the tokens behind the last norm."""
    kept = []
    handle = model.norm.register_forward_hook(lambda module, args, output: kept.append(output))
    model(x)
    handle.remove()
    return kept[0]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"multiscale_after": (1, 2), "multiscale_mean": "past", "multiscale_windows": (1, 2, 4, 64)},
        {"pool_after": (1,)},
        {"pool_after": (1,), "pool_stride": 1},
    ],
)
def test_causal_tokens_never_see_a_later_sample(fields):
    model = create("transformer_small", causal=True, input_level="raw", **fields).eval()
    before, after = torch.randn(2, 16_000), torch.randn(2, 16_000)
    changed = torch.cat([before[:, :8000], after[:, 8000:]], dim=1)  # from token 20 on
    # token i of a pooled sequence is made of tokens up to stride * i + 1
    first_changed = 20 if not fields.get("pool_after") else 10 if fields.get("pool_stride", 2) == 2 else 19
    with torch.no_grad():
        a, b = tokens(model, before), tokens(model, changed)
    torch.testing.assert_close(a[:, :first_changed], b[:, :first_changed])
    assert not torch.allclose(a[:, first_changed:], b[:, first_changed:])


def test_without_causal_they_do():
    model = create("transformer_small", input_level="raw").eval()
    before = torch.randn(1, 16_000)
    changed = before.clone()
    changed[:, 8000:] = 0
    assert not torch.allclose(tokens(model, before)[:, :20], tokens(model, changed)[:, :20])


def test_an_evaluation_may_come_before_training():
    model = create("transformer_multiscale")
    _averaging_matrices.cache_clear()
    with torch.inference_mode():
        model(torch.randn(1, 16_000))
    model(torch.randn(1, 16_000)).sum().backward()


def test_sinusoids_follow_the_formula():
    positions = _sinusoids(50, 64)
    for position, i in ((0, 0), (3, 5), (49, 31)):
        angle = torch.tensor(position / 10_000 ** (2 * i / 64))
        torch.testing.assert_close(positions[position, 2 * i], angle.sin(), atol=1e-5, rtol=0)
        torch.testing.assert_close(positions[position, 2 * i + 1], angle.cos(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"norm": "post"},
        {"input_level": "raw"},
        {"position_scale": 0.0},
        {"causal": True},
        {"pool_after": (2,)},
        {"pool_after": (2,), "pool_stride": 1},
        {"multiscale_after": (1,)},
        {"multiscale_after": (1,), "multiscale_mean": "past"},
    ],
)
def test_every_choice_changes_the_output(fields):
    def logits(**fields):
        torch.manual_seed(0)
        return create("transformer_small", **fields).eval()(x)

    x = 0.1 * torch.randn(2, 16_000)
    base = {key: value for key, value in fields.items() if key not in ("pool_stride", "multiscale_mean")}
    assert not torch.allclose(logits(**fields), logits(), atol=1e-4)
    if base != fields:
        assert not torch.allclose(logits(**fields), logits(**base), atol=1e-4)


def test_positions_are_as_long_as_the_input():
    """They ended at 2,048 tokens: 30 s in patches of 10 ms are 3,000."""
    config = AudioTransformerConfig(depth=1, front_end_dim=4, embed_dim=8, num_heads=1, head_dim=8, mlp_dim=8,
                                    patch_seconds=0.010, multiscale_windows=(1,), num_classes=3)  # fmt: skip
    model, x = AudioTransformer(config).eval(), torch.randn(1, 30 * 16_000)
    # as the formula has them, and those up to 2,048 to the bit as they have always been
    whole = _sinusoids(3000, 8)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.inference_mode():
        for n in (x.shape[1], 2048 * 160):
            assert model(x[:, :n]).isfinite().all()
        front_end = model.front_end(x)
    torch.testing.assert_close(seen[0] - front_end, 0.1 * whole.unsqueeze(0), atol=1e-6, rtol=0)
    assert torch.equal(model.positions, _sinusoids(2048, 8))
    assert seen[1].shape == (1, 2048, 8)
    # an evaluation may come before training, of these as of the means over time
    model(x).sum().backward()


def test_a_chunk_that_fills_no_patch_is_said():
    model = create("transformer_small", patch_seconds=0.5)
    with pytest.raises(ValueError, match="1600 samples are less than one patch of 8000"):
        model(torch.randn(2, 1600))


@pytest.mark.parametrize("name", list_architectures(task="tagging", in_all_only=True))
def test_every_architecture_takes_what_a_recipe_may_cut(name):
    model = create(name).eval()
    with torch.inference_mode():
        # densenet121 halves its frames five times
        for seconds in (0.3 if name == "densenet121" else 0.1, 1.5, 30):
            assert model(0.1 * torch.randn(1, round(seconds * 16_000))).isfinite().all(), seconds
