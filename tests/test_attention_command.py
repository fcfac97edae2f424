"""Where heads look: the weights are those that the module uses, numbers are those of known weights; and the command."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.special
import soundfile
import torch
from matplotlib import pyplot as plt
from matplotlib.text import Text
from safetensors.torch import save_file

from architectures import config_values, configure, create
from architectures.audio_transformer import Attention, AudioTransformerConfig
from bench.errors import UserError
from bench.inspect.attention import listen, measure_blocks, token_times
from bench.inspect.hooks import hooked
from bench.protocol.build import build
from bench.protocol.spec import RunSpec
from bench.reporting.attention import describe, table_of
from bench.reporting.figures import attention as figures
from bench.reporting.figures.attention import attention_figure
from bench.reporting.figures.style import FULL, SMALL
from bench.runner.run import execute
from bench.runner.weights import load_model
from bench.store import RunFolder
from tests.conftest import TINY, make_run, make_spec

RATE = 16_000
FIELDS = TINY | {"depth": 3}


def noise(n=RATE):
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(0))


def model_of(**fields):
    torch.manual_seed(0)
    return create("transformer_small", num_classes=5, **{**FIELDS, **fields}).eval()


def sharpen(model, factor=6.0):
    """Make heads look somewhere: newly drawn queries and keys look at everything nearly alike."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.qkv.weight.data[: 2 * 16] *= factor


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"causal": True}, {"pool_after": (1,)}, {"multiscale_after": (2,)},
        *({"attention": kind, "span": 6} for kind in ("local", "strided", "fixed")),
    ],
)  # fmt: skip
def test_weights_times_values_are_what_the_module_passes_on(fields):
    model, seen = model_of(multiscale_mean="past", **fields), 0
    sharpen(model)

    def compare(module, inputs, output):
        nonlocal seen
        seen += 1
        weights = module.weights(inputs[0])
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 2, weights.shape[-1]))
        assert weights.max() > 0.5
        value = module.qkv(inputs[0])[..., 32:].unflatten(-1, (2, 8)).transpose(1, 2)  # (b, heads, t, head_dim)
        mixed = module.proj((weights @ value).transpose(1, 2).flatten(2))
        assert (mixed - output).abs().max() < 1e-6

    with hooked(model, [module for module in model.modules() if isinstance(module, Attention)], compare):
        model(noise().unsqueeze(0))
    assert seen == 3


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_weights_are_the_softmax_of_scaled_products(causal):
    module, x = (
        Attention(AudioTransformerConfig(embed_dim=16, num_heads=2, head_dim=8, causal=causal)),
        torch.randn(3, 12, 16),
    )
    module.qkv.weight *= 6
    q, k, _ = module.qkv(x).double().unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    products = np.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(8)
    if causal:
        products[..., ~np.tri(12, dtype=bool)] = -np.inf
    np.testing.assert_allclose(module.weights(x), scipy.special.softmax(products, axis=-1), atol=1e-6)


class Looks(Attention):
    """Two heads whose weights are known: one looks three tokens back or at the first one, one at all alike."""

    def weights(self, x):
        t = x.shape[1]
        back = torch.zeros(t, t)
        back[torch.arange(t), (torch.arange(t) - 3).clamp(min=0)] = 1
        even = torch.full((t, t), 1 / t)
        # as heads that may see everything: all alike where tokens are
        return torch.stack([even if not x.any() else back, even]).unsqueeze(0)


def test_numbers_are_those_of_known_weights():
    model = model_of()
    model.blocks[1].attn.__class__ = Looks
    block = measure_blocks(model, noise())[1]
    assert (block.tokens, block.spacing, block.span) == (40, pytest.approx(0.025), pytest.approx((0, 1)))
    # 37 queries look three tokens back, the first three at the first token
    assert block.distance[0] == pytest.approx(0.025 * (37 * 3 + 0 + 1 + 2) / 40)
    # of two tokens drawn by chance the mean distance is (t^2 - 1) / 3t
    assert block.distance[1] == pytest.approx(0.025 * (40**2 - 1) / 120)
    assert block.entropy == pytest.approx([0, np.log2(40)], abs=1e-6)
    assert block.even_distance == pytest.approx([block.distance[1]] * 2)
    assert block.even_entropy == pytest.approx([np.log2(40)] * 2)
    looked_at = Looks.weights(model.blocks[1].attn, torch.ones(1, 40, 1))[0, 0].numpy()
    np.testing.assert_allclose(block.maps[0], 40 * looked_at, rtol=1e-5)
    # the first token is looked at by itself and the three after it
    assert block.received[0, 0] == pytest.approx(4)
    assert block.received[0, 37:] == pytest.approx(0)
    assert block.received[1] == pytest.approx(1)


def test_a_causal_head_is_held_against_all_that_it_may_see():
    (first, *_) = measure_blocks(model_of(causal=True), noise())
    sizes = np.arange(1, 41)
    assert first.even_entropy == pytest.approx([np.log2(sizes).mean()] * 2, rel=1e-5)
    assert first.even_distance == pytest.approx([0.025 * ((sizes - 1) / 2).mean()] * 2, rel=1e-5)
    # multiples of what each query has for each key: of the first query there is one key, whose weight is 1
    assert first.maps[:, 0, 0] == pytest.approx(1)
    assert (np.isnan(first.maps) == ~np.tri(40, dtype=bool)).all()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # in ms: centre of the first token, time to the next
        ({}, [(12.5, 25), (12.5, 25), (12.5, 25)]),
        ({"pool_after": (1, 2)}, [(12.5, 25), (25, 50), (50, 100)]),
        ({"pool_after": (1,), "pool_window": 3, "pool_stride": 1}, [(12.5, 25), (37.5, 25), (37.5, 25)]),
        # frames of 10 ms, the first of them at 0 ms
        ({"front_end": "log_mel"}, [(5, 20), (5, 20), (5, 20)]),
    ],
)
def test_tokens_are_where_their_samples_are(fields, expected):
    config = model_of(**fields).config
    found = [tuple(1000 * np.array(token_times(config, block))) for block in range(3)]
    np.testing.assert_allclose(found, expected)


def test_maps_of_many_tokens_are_means_over_neighbours():
    blocks = measure_blocks(model_of(patch_seconds=0.005, depth=1), noise(32_000))
    (block,) = blocks
    assert (block.tokens, block.maps.shape, block.received.shape) == (400, (2, 128, 128), (2, 400))
    assert block.maps.mean() == pytest.approx(1, rel=0.01)


@pytest.fixture(scope="module")
def real(packed, tmp_path_factory):
    """A tiny run, trained for real."""
    run = make_run(packed, tmp_path_factory.mktemp("attention"), config={"depth": 2})
    execute(run, torch.device("cpu"))
    return run.folder


@pytest.fixture
def run(real, tmp_path):
    return RunFolder(Path(shutil.copytree(real.path, tmp_path / "run")))


@pytest.fixture
def sound(tmp_path):
    """2.5 s at another rate, silent for the first second."""
    path = tmp_path / "sound.wav"
    samples = 0.1 * np.random.default_rng(0).normal(size=55_125)
    samples[:22_050] = 0
    soundfile.write(path, samples, 22_050)
    return path


def test_the_command_writes_table_and_figures_beside_the_run(run, sound, bench, tmp_path, monkeypatch):
    done = bench("attention", run.path, sound, "--second", 1.25)
    assert done.code == 0, done.err
    assert "tiny, seed 0 on sound.wav, 1.25 to 2.25 s" in done.out
    made = {path.name for path in run.path.iterdir() if path.name.startswith("attention")}
    assert made == {f"attention.{suffix}" for suffix in ("csv", "pdf", "png", "svg")}
    table = pd.read_csv(run.attention_table)
    assert list(zip(table["block"], table["head"], strict=True)) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert (table["tokens"] == 40).all()
    assert (table["entropy_bits"] < table["even_entropy_bits"]).all()
    # elsewhere, and as JSON
    monkeypatch.setattr("bench.api.models.attention_figure", lambda *_: None)
    done = bench("attention", run.path, sound, "--second", 1.25, "--out", tmp_path / "else", "--json")
    document = json.loads(done.out)
    assert pd.DataFrame(document["heads"])["distance_ms"].to_numpy() == pytest.approx(table["distance_ms"], rel=1e-5)
    assert (tmp_path / "else" / "attention.csv").read_bytes() == run.attention_table.read_bytes()


def test_the_model_hears_the_chunk_that_an_evaluation_would_cut(run, packed, tmp_path):
    """A clip of the pack, as a file at the pack's rate, is what the pack holds."""
    samples = np.array(packed.samples("eval")[:40_000])
    soundfile.write(tmp_path / "clip.wav", samples, RATE, "PCM_16")
    found = listen(run, tmp_path / "clip.wav", 0.5)
    model = load_model(run, run.record(), torch.device("cpu")).eval()
    expected = measure_blocks(model, torch.from_numpy(samples[8_000:24_000].astype(np.float32) / 32_768))
    assert found.power.shape[0] == 257
    for block, known in zip(found.blocks, expected, strict=True):
        np.testing.assert_array_equal(block.maps, known.maps)


def test_a_pretrainings_chunk_is_as_long_as_what_it_heard(run, packed, sound):
    changed = {"task": "contrast", "task_settings": {"seconds": 0.5}}
    spec = RunSpec(**make_spec(packed).model_dump() | {"config": run.record().spec.config} | changed)
    run.record_file.write_text(run.record().model_copy(update={"spec": spec, "hash": spec.hash}).model_dump_json())
    found = listen(run, sound, 2)
    assert (found.seconds, found.blocks[0].tokens) == (0.5, 20)


def test_the_last_second_of_the_message_may_be_given(run, tmp_path):
    soundfile.write(tmp_path / "odd.wav", noise(39_999).numpy(), RATE, "PCM_16")
    with pytest.raises(UserError, match=r"give 0 to 1\.49$"):
        listen(run, tmp_path / "odd.wav", 1.5)
    assert listen(run, tmp_path / "odd.wav", 1.49).seconds == 1


def test_a_short_sound_is_repeated_as_packs_repeat_it(run, tmp_path):
    soundfile.write(tmp_path / "short.wav", noise(6_400).numpy(), RATE, "PCM_16")
    (first, _) = listen(run, tmp_path / "short.wav").blocks
    # its 16 tokens, again and again
    np.testing.assert_allclose(first.received.shape, (2, 40))
    with pytest.raises(UserError, match=r"--second 0.1: .*short.wav lasts 0.40 s, .* give 0 to 0.00"):
        listen(run, tmp_path / "short.wav", 0.1)


def test_the_figure_is_as_wide_as_a_text_and_legible_there(run, sound, monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))
    attention_figure(listen(run, sound), tmp_path / "attention")
    (figure,) = kept
    assert (figure.get_figwidth(), figure.get_figheight() < 9.5) == (FULL, True)
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= SMALL
    plt.close(figure)


def test_numbers_are_shown_a_line_a_block(run, sound):
    lines = describe(found := listen(run, sound, 1)).splitlines()
    assert [line.split(":")[0].strip() for line in lines if line.startswith("  block")] == ["block 1", "block 2"] * 2
    assert f"{table_of(found)['entropy_bits'][0]:.2f}" in lines[-2]
    assert lines[2].split()[-3:] == ["head", "2", "even"]
    # of heads that may see other tokens, such as a pattern's, each has its own even weights
    block = replace(found.blocks[0], even_entropy=np.array([5.0, 1.0]))
    lines = describe(replace(found, blocks=[block])).splitlines()
    assert lines[-1].split() == ["even", "5.00", "1.00"]


@pytest.mark.parametrize("second", ["-1", "1.6", "nan", "inf"])
def test_a_chunk_outside_the_file_is_told(run, sound, second, bench):
    done = bench("attention", run.path, sound, f"--second={second}")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "sound.wav lasts 2.50 s, of which the model hears 1 s at once; give 0 to 1.50" in done.err


def test_what_is_no_sound_and_no_run_is_one_line(run, sound, bench, tmp_path):
    for arguments, message in (
        ((run.path, tmp_path / "none.wav"), "none.wav: no such file"),
        ((run.path, run.record_file), "cannot be read as audio"),
        ((tmp_path / "nowhere", sound), "no finished run"),
    ):
        done = bench("attention", *arguments)
        assert (done.code, message in done.err, len(done.err.splitlines())) == (2, True, 1), done.err
    run.weights_file.unlink()
    with pytest.raises(UserError, match="no weights"):
        listen(run, sound)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "vgg_like",
            {"stage_widths": [[4], [4]], "hidden_dim": 4},
            "cnn is a VGGLike: `bench attention` works for the",
        ),
        # it has the same heads, but takes codes
        ("sample_transformer_3", {}, "whose model takes no waveforms"),
    ],
)
def test_what_is_no_audio_transformer_is_refused(run, packed, sound, name, fields, message):
    config = config_values(configure(name, **fields))
    spec = RunSpec(**make_spec(packed).model_dump() | {"name": "cnn", "architecture": name, "config": config})
    save_file(build(spec, torch.device("cpu")).state_dict(), run.weights_file)
    run.record_file.write_text(run.record().model_copy(update={"spec": spec, "hash": spec.hash}).model_dump_json())
    with pytest.raises(UserError, match=message) as caught:
        listen(run, sound)
    assert "\n" not in str(caught.value)
