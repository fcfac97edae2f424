"""Any body with any front end at any level; the suites that take them apart."""

from itertools import pairwise, product
from math import fsum
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchaudio.transforms import MelSpectrogram

from architectures import ConfigError, config_values, configure, create, get_architecture, register
from architectures._registry import forget
from architectures.checks import failed_checks
from architectures.layers import LogMel, at_level
from bench.inspect.filters import first_layer
from bench.runner.cost import count_parameters
from bench.store import ResultsFolder
from bench.suites.plan import Selection, contrasts, plan
from bench.suites.suite import load_suite
from tests.conftest import TINY

RATE = 16_000
# as small as they get, and with the shape that a second has before the body
SMALL = {
    "vgg_like": {"stage_widths": [[4], [4]], "hidden_dim": 4},
    "crnn": {"conv_widths": [4, 4, 4], "rnn_width": 4},
    "resnet18": {},
    "densenet121": {},
    "timm:resnet10t": {},
    "transformer_small": {**TINY, "embed_dim": 64},
}
IMAGES = {"log_mel": (1, 96, 101), "learned": (1, 64, 40), "random": (1, 64, 40)}
TOKENS = {"log_mel": (50, 64), "learned": (40, 64), "random": (40, 64)}


def small(name, **fields):
    torch.manual_seed(0)
    return create(name, num_classes=7, **SMALL[name], **fields)


def noise(b=2, n=RATE, seed=0):
    return 0.1 * torch.randn(b, n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("level", ["raw", "unit"])
@pytest.mark.parametrize("front_end", IMAGES)
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_every_body_takes_every_front_end(name, front_end, level):
    model = small(name, front_end=front_end, input_level=level)
    shape = (TOKENS if name == "transformer_small" else IMAGES)[front_end]
    assert model.front_end(noise()).shape == (2, *shape)
    assert model(noise()).shape == (2, 7)
    assert model.eval()(noise(n=3 * RATE + 1)).shape == (2, 7)


@pytest.mark.parametrize("front_end", IMAGES)
@pytest.mark.parametrize("name", ["vgg_like", "transformer_small"])
@torch.no_grad()
def test_a_model_at_unit_level_is_deaf_to_level_and_one_at_raw_level_is_not(name, front_end):
    quiet, loud = noise(), noise() * 10 ** (12 / 20)
    unit, raw = (small(name, front_end=front_end, input_level=level).eval() for level in ("unit", "raw"))
    torch.testing.assert_close(unit(loud), unit(quiet), atol=1e-4, rtol=0)
    assert (raw(loud) - raw(quiet)).abs().max() > 1e-3


def test_unit_level_keeps_silence_and_what_is_nearly_silent():
    x = noise()
    torch.testing.assert_close(at_level(x, "unit").square().mean(dim=1), torch.ones(2), atol=1e-4, rtol=0)
    assert at_level(torch.zeros(1, 100), "unit").abs().max() == 0
    assert at_level(1e-5 * x / x.std(), "unit").abs().max() < 1
    assert at_level(x, "raw") is x


@pytest.mark.parametrize("sample_rate", [16_000, 22_050])
def test_a_transformers_log_mel_is_the_cnns_two_frames_a_token(sample_rate):
    model = create("transformer_small", front_end="log_mel", input_level="raw", sample_rate=sample_rate, **TINY)
    log_mel, projection = model.front_end
    x = noise(n=sample_rate)
    window, hop = round(0.030 * sample_rate), round(0.010 * sample_rate)
    bands = torch.log(MelSpectrogram(sample_rate, 1024, window, hop, n_mels=96)(x) + 1e-6)  # (b, f, frames)
    mean, variance = bands.mean(dim=(0, 2), keepdim=True), bands.var(dim=(0, 2), correction=0, keepdim=True)
    bands = (bands - mean) / (variance + 1e-5).sqrt()
    tokens = [projection(torch.cat([bands[..., 2 * i], bands[..., 2 * i + 1]], dim=1)) for i in range(50)]
    torch.testing.assert_close(model.front_end(x), torch.stack(tokens, dim=1), atol=1e-4, rtol=1e-4)
    # the same layer, not a copy of it
    assert type(log_mel) is type(create("vgg_like", **SMALL["vgg_like"]).front_end) is LogMel


@torch.no_grad()
def test_learned_patches_are_the_same_for_both_kinds_of_body():
    image = small("vgg_like", front_end="learned", input_level="unit", front_end_dim=TINY["front_end_dim"]).front_end
    tokens = small("transformer_small").front_end
    assert image.state_dict().keys() == tokens.state_dict().keys()
    # both are drawn first, from the same seed
    torch.testing.assert_close(image(noise())[:, 0], tokens(noise()).transpose(1, 2))


def test_random_filters_of_a_cnn_stay_and_its_projection_learns():
    learned, random = (small("vgg_like", front_end=kind) for kind in ("learned", "random"))
    assert torch.equal(learned.front_end[0].weight, random.front_end[0].weight), "drawn alike"
    frozen = {name for name, p in random.named_parameters() if not p.requires_grad}
    assert frozen == {"front_end.0.weight", "front_end.0.bias"}
    assert count_parameters(learned) - count_parameters(random) == 400 * 256 + 256


def test_the_filters_of_a_cnn_are_found_too():
    name, layer = first_layer(small("vgg_like", front_end="learned", input_level="unit"), RATE)
    assert (name, layer.weight.shape) == ("front_end.0", (256, 400))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("vgg_like", {"front_end": "learned"}),
        ("vgg_like", {"input_level": "unit"}),
        ("crnn", {"front_end": "random", "input_level": "unit"}),
        ("transformer_small", {"front_end": "log_mel", "input_level": "raw"}),
    ],
)
def test_they_keep_the_contract(name, fields):
    entry = get_architecture(name)
    config = configure(name, **SMALL[name], **fields)
    register("fronted", family=entry.family, config=config, in_all=False)(entry.model)
    try:
        assert failed_checks("fronted") == {}
    finally:
        forget(["fronted"])


# --- configs


NEW_OF_CNNS = {"front_end", "input_level", "patch_seconds", "front_end_dim", "embed_dim"}
NEW_OF_TRANSFORMERS = {"n_mels", "n_fft", "win_seconds", "hop_seconds"}


@pytest.mark.parametrize(
    ("name", "new"), [(name, NEW_OF_TRANSFORMERS if name == "transformer_small" else NEW_OF_CNNS) for name in SMALL]
)
def test_runs_of_before_keep_their_settings_and_so_their_hash(name, new):
    config, registered = configure(name), get_architecture(name).config
    assert new <= set(vars(config)), "each is a field"
    assert not new & set(config_values(config, registered)), "and left out as long as it is what it was"


def test_what_is_not_as_before_is_kept():
    values = config_values(configure("vgg_like", front_end="learned", front_end_dim=64))
    assert (values["front_end"], values["front_end_dim"]) == ("learned", 64)
    assert "input_level" not in values


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("vgg_like", {"front_end": "mfcc"}, "front_end: Input should be 'log_mel', 'learned' or 'random'"),
        ("vgg_like", {"front_end": "learned", "patch_seconds": 0.0}, "patch_seconds=0.0 is less than a sample"),
        ("resnet18", {"front_end": "random", "front_end_dim": 0}, "front_end_dim=0 must be at least 1"),
        ("crnn", {"front_end": "learned", "embed_dim": 32}, "leave nothing of 32 bands"),
        ("crnn", {"n_mels": 32}, "leave nothing of 32 bands"),
        ("transformer_small", {"front_end": "log_mel", "n_mels": 0}, "n_mels=0 must be 1 to"),
        ("transformer_small", {"embed_dim": 63}, "embed_dim=63 must be even"),
        ("transformer_small", {"front_end": "log_mel", "embed_dim": 0}, "embed_dim=0 must be at least 1"),
    ],
)
def test_what_can_not_be_is_one_line(name, fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        configure(name, **fields)
    assert "\n" not in str(caught.value)


def test_fields_of_the_other_front_end_do_nothing():
    configure("vgg_like", patch_seconds=0.0, front_end_dim=0)
    configure("transformer_small", n_mels=0, hop_seconds=0.0)


def test_a_chunk_of_less_than_a_token_is_said():
    model = create("transformer_small", front_end="log_mel", hop_seconds=0.5, **TINY)
    with pytest.raises(ValueError, match="1 frame is less than one token of 2"):
        model(noise(n=1600))


# --- the suites


def planned(name):
    pack = SimpleNamespace(folder="pack", sample_rate=RATE, labels=range(7), fingerprint="pack", dataset="")
    return [run.spec for run in plan(load_suite(name), [pack], ResultsFolder(Path("nowhere")), Selection(seeds=1))]


@pytest.mark.parametrize(("name", "free"), [("factors", set()), ("rates", {"learning_rate"})])
def test_the_recipe_is_that_of_the_controlled_suite(name, free):
    suite, controlled = load_suite(name), load_suite("controlled")
    assert suite.family == controlled.family
    assert suite.train == {field: value for field, value in controlled.train.items() if field not in free}


def test_factors_crosses_bodies_front_ends_and_levels():
    specs, suite = planned("factors"), load_suite("factors")
    corners = {
        (s.architecture, s.config.get("front_end", "log_mel"), s.config.get("input_level", "raw")) for s in specs
    }
    bodies = ("vgg_like", "resnet18", "transformer_small")
    assert len(specs) == 12
    assert corners == set(product(bodies, ("log_mel", "learned"), ("raw", "unit")))
    assert suite.seeds == 5
    # each as the suite `controlled` has it is among them
    for spec in planned("controlled"):
        if spec.architecture in bodies:
            assert sum(other.config == spec.config and other.recipe == spec.recipe for other in specs) == 1


def test_the_gap_between_the_published_corners_is_the_sum_of_the_four_contrasts():
    weights = {contrast.name: contrast.weights for contrast in contrasts(load_suite("factors"))}
    shares = ("body", "front end", "level", "all three together")
    assert set(weights) == {"published corners", *shares, "body x front end"}
    for entry in {entry for of_contrast in weights.values() for entry in of_contrast}:
        total = fsum(weights[share].get(entry, 0) for share in shares)
        assert total == weights["published corners"].get(entry, 0), entry


def test_each_contrast_of_factors_is_what_it_is_called():
    """On scores that are drawn: by means over the cube's sides, which know nothing of weights."""
    weights = {contrast.name: contrast.weights for contrast in contrasts(load_suite("factors"))}
    scores = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(1)).double()  # VGG, ResNet, transformer
    names = product(("vgg_like", "resnet18", "transformer_small"), ("log_mel", "learned"), ("raw", "unit"))
    by_entry = {f"{b}-front_end_{f}-input_level_{lv}": s for (b, f, lv), s in zip(names, scores.flatten(), strict=True)}
    found = {name: sum(w * by_entry[entry] for entry, w in of.items()).item() for name, of in weights.items()}
    cube = torch.stack([scores[:2].mean(dim=0), scores[2]])  # (body, front end, level)
    for axis, name in enumerate(("body", "front end", "level")):
        assert found[name] == pytest.approx((cube.select(axis, 0).mean() - cube.select(axis, 1).mean()).item())
    gains = (cube[:, 0] - cube[:, 1]).mean(dim=1)  # of log-mel, by body
    assert found["body x front end"] == pytest.approx((gains[0] - gains[1]).item())
    assert found["published corners"] == pytest.approx((cube[0, 0, 0] - cube[1, 1, 1]).item())
    # what is left of the gap: 0 where the three add up
    assert found["all three together"] == pytest.approx(
        found["published corners"] - found["body"] - found["front end"] - found["level"]
    )


def test_rates_are_about_even_in_the_logarithm_and_have_that_of_the_controlled_suite():
    suite, specs = load_suite("rates"), planned("rates")
    rates = suite.grid["train.learning_rate"]
    assert (rates[0], rates[-1], len(rates), suite.seeds) == (1e-4, 4e-3, 5, 2)
    assert all(2 <= high / low <= 3 for low, high in pairwise(rates))
    assert len(specs) == 8 * 5
    for spec in planned("controlled"):
        assert sum(other.config == spec.config and other.recipe == spec.recipe for other in specs) == 1
