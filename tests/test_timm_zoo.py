"""Any of timm's models by name: its size, its family, its entry; and nothing is downloaded."""

import socket

import pytest
import torch

from architectures import ConfigError, configure, create, get_architecture, list_architectures
from architectures.checks import checks_of
from architectures.timm_zoo import _CNNS, _TRANSFORMERS, timm_architecture
from bench.errors import UserError
from bench.runner.cost import count_macs
from bench.store import ResultsFolder
from bench.suites.plan import Selection, entries, plan
from bench.suites.suite import load_suite
from tests.conftest import SMALL_SUITE

MODELS = [  # family, and how many rows and columns a second becomes
    ("convnext_atto", "cnn", 96),
    ("efficientnet_lite0", "cnn", 96),
    ("ghostnet_050", "cnn", 96),
    ("hrnet_w18_small", "cnn", 96),
    ("mobilenetv3_small_050", "cnn", 96),
    ("regnetx_002", "cnn", 96),
    ("repvgg_a0", "cnn", 96),
    ("resnet10t", "cnn", 96),
    ("deit_tiny_distilled_patch16_224", "transformer", 96),
    ("pvt_v2_b0", "transformer", 96),
    ("swin_tiny_patch4_window7_224", "transformer", 96),
    ("vit_tiny_patch16_224", "transformer", 96),
    ("eva02_tiny_patch14_224", "transformer", 112),  # 96 rows would leave out 12
    ("crossvit_9_240", "transformer", 240),  # takes its own size alone
    ("edgenext_xx_small", "hybrid", 96),
    ("efficientformer_l1", "hybrid", 224),
    ("levit_128s", "hybrid", 96),
    ("mixer_s32_224", "hybrid", 96),
    ("mobilevit_xxs", "hybrid", 96),
    ("poolformer_s12", "hybrid", 96),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection is made")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(("body", "family", "size"), MODELS)
def test_a_batch_through_models_of_all_kinds(body, family, size):
    entry = get_architecture(f"timm:{body}")
    assert (entry.family, entry.config.size) == (family, size)
    assert not entry.in_all
    model = create(f"timm:{body}", num_classes=7, drop_rate=0.1)
    logits = model(0.1 * torch.randn(2, 16_000))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("check", checks_of("vgg_like"))
@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "timm:vit_tiny_patch16_224"])
def test_they_pass_all_checks(name, check):
    checks_of(name)[check](name)


def test_looking_a_model_up_draws_no_random_numbers():
    def weights():
        torch.manual_seed(0)
        return torch.cat([p.detach().flatten() for p in create("timm:mobilenetv3_small_050").parameters()])

    timm_architecture.cache_clear()
    assert torch.equal(weights(), weights())


def test_a_sound_is_the_mean_of_its_seconds():
    model = create("timm:mobilenetv3_small_050", num_classes=7).eval()
    spectra = []
    model.body.register_forward_hook(lambda _, inputs, output: spectra.append((inputs[0], output)))
    with torch.no_grad():
        logits = model(torch.randn(2, 48_000))
    ((spectrum, of_seconds),) = spectra
    assert spectrum.shape == (6, 1, 96, 96)
    torch.testing.assert_close(logits, torch.stack([of_seconds[:3].mean(dim=0), of_seconds[3:].mean(dim=0)]))
    assert count_macs(model, torch.zeros(1, 16_000)) > 1e6


def test_families_go_by_timms_modules():
    import timm

    assert not set(_CNNS) & set(_TRANSFORMERS)
    modules = {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()}
    assert set(_CNNS + _TRANSFORMERS) <= modules, "what is misspelt here would be a hybrid"
    assert {get_architecture(f"timm:{name}").family for name in ("vgg11", "densenet121", "xception41")} == {"cnn"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:convnext_ato", "(did you mean timm:convnext_atto, timm:"),
        ("timm:resnet18.a1_in1k", "(did you mean timm:resnet18, timm:"),
        ("timm:hf-hub:someone/model", "no architecture"),
        ("timm:qqqqq", "timm.list_models()"),
        ("tim:resnet18", "no architecture 'tim:resnet18'"),
    ],
)
def test_an_unknown_model_is_one_line(name, message):
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as raised:
        get_architecture(name)
    assert message in str(raised.value)
    with pytest.raises(UserError, match="no architecture"):
        entries(load_suite("demo"), [name])


def test_a_models_fields_are_checked_like_any_others():
    with pytest.raises(ConfigError, match="did you mean 'drop_rate'"):
        configure("timm:resnet10t", drop_rat=0.1)


def test_entries_of_timms_models_have_names_for_folders(tmp_path, packed):
    path = tmp_path / "suite.toml"
    wide = '[[runs]]\nname = "wide"\narchitecture = "timm:resnet10t"\nconfig = { n_mels = 64 }\n'
    path.write_text(SMALL_SUITE.replace('["transformer_small"', '["timm:vit_tiny_patch16_224"') + wide)
    suite = load_suite(str(path))
    runs = plan(suite, [packed], ResultsFolder(tmp_path), Selection(seeds=1))
    specs = {run.spec.name: run.spec for run in runs}
    assert list(specs) == ["timm-vit_tiny_patch16_224", "vgg_like", "wide"]
    assert specs["timm-vit_tiny_patch16_224"].architecture == "timm:vit_tiny_patch16_224"
    assert specs["timm-vit_tiny_patch16_224"].source == ""
    assert specs["wide"].recipe.channels_last, "its family's recipe"
    only = ["timm:vit_tiny_patch16_224", "timm-vit_tiny_patch16_224", "timm:resnet10t", "wide"]
    assert [entry.name for entry in entries(suite, only)] == ["timm-vit_tiny_patch16_224", "timm-resnet10t", "wide"]
    assert not any(name.startswith("timm") for name in list_architectures())


def test_a_suite_runs_a_model_by_name(bench, small_suite, packed, tmp_path, monkeypatch):
    # they take most of a report's seconds, and are tested elsewhere
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    out = tmp_path / "out"
    options = ("--data", packed.folder, "--out", out, "--seeds", 1, "--only", "timm:mobilenetv3_small_050")
    done = bench("run", small_suite, *options)
    assert done.code == 0, done.err
    assert "| timm-mobilenetv3_small_050 |" in done.out
    assert len(list(out.glob("timm-mobilenetv3_small_050-s0-*/run.json"))) == 1
    assert "1 of 1 runs were finished before" in bench("run", small_suite, *options).err
