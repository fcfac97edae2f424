"""The checks, over the registry: a new file in architectures/ is tested without an edit here."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from architectures import (
    ArchitectureConfig,
    ConfigError,
    config_values,
    configure,
    create,
    later,
    list_architectures,
    register,
)
from architectures.checks import CHECKS, CheckFailed, failed_checks
from bench.runner.cost import count_parameters

ROOT = Path(__file__).parent.parent
# FACTS: the published sizes are .96M, .27M, 11.3M, 12.5M (a DenseNet-169's), .9M and 2.3M
PARAMETERS = {
    "crnn": 960_200,
    "vgg_like": 265_992,
    "resnet18": 11_272_840,
    "densenet121": 7_152_584,
    "transformer_small": 852_232,
    "transformer_large": 2_282_632,
    "transformer_pooled": 2_282_632,
    "transformer_multiscale": 2_282_632,
    "transformer_notes": 1_166_216,
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", list_architectures())
def test_every_architecture_passes_all_checks(name, check):
    CHECKS[check](name)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name):
    assert count_parameters(create(name)) == PARAMETERS[name]


def test_every_width_is_a_field():
    assert count_parameters(create("vgg_like", stage_widths=[[8], [16]], hidden_dim=4)) < 10_000
    assert count_parameters(create("crnn", conv_widths=[8, 8, 8], rnn_width=4)) < 10_000
    assert count_parameters(create("crnn", merge="concat")) == 973_000


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("vgg", {}, "did you mean 'vgg_like'"),
        ("vgg_like", {"hiden_dim": 3}, "did you mean 'hidden_dim'"),
        ("crnn", {"kernel_size": 4}, "must be odd"),
        ("crnn", {"merge": "max"}, "merge: Input should be 'sum' or 'concat'"),
        ("crnn", {"pools": [[50, 2], [4, 2], [2, 2]]}, "leave nothing of n_mels"),
        ("vgg_like", {"n_fft": 256}, "shorter than the window"),
        ("transformer_large", {"depth": "many"}, "depth: Input should be a valid integer"),
        ("transformer_multiscale", {"causal": True}, "would look ahead"),
        ("transformer_pooled", {"depth": 3}, "outside 1 to depth=3"),
        ("transformer_pooled", {"pool_stride": 3}, "must be 1 to pool_window=2"),
    ],
)
def test_configs_refuse_nonsense_in_one_line(name, fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        configure(name, **fields)
    assert "\n" not in str(caught.value)


class SoftmaxedModel(torch.nn.Module):
    """Fails three checks: probabilities out, rows mixed, a weight unused."""

    def __init__(self, config):
        super().__init__()
        self.used = torch.nn.Linear(1, config.num_classes)
        self.unused = torch.nn.Linear(1, 1)

    def forward(self, x):
        return torch.softmax(self.used((x / x.std()).std(dim=1, keepdim=True)), dim=1)


FAILS = {
    "returns logits, not probabilities": "leave out",
    "gives every parameter a gradient": "unused",
    "treats each clip of a batch alone in eval mode": "differ",
}


@pytest.fixture
def empty_registry(monkeypatch):
    monkeypatch.setattr("architectures._registry._architectures", {})


@pytest.mark.usefixtures("empty_registry")
def test_failed_checks_are_found_with_the_reason():
    register("broken", family="cnn", config=ArchitectureConfig())(SoftmaxedModel)
    for check, reason in FAILS.items():
        with pytest.raises(CheckFailed, match=reason):
            CHECKS[check]("broken")
    assert failed_checks("broken").keys() == FAILS.keys()
    with pytest.raises(ConfigError, match="registered twice"):
        register("broken", family="cnn", config=ArchitectureConfig())(SoftmaxedModel)


@dataclass(frozen=True, kw_only=True)
class GrownConfig(ArchitectureConfig):
    width: int = 4
    dilation: int = later(1)


@pytest.mark.usefixtures("empty_registry")
def test_a_later_field_is_recorded_only_where_it_changes_something():
    before = {"sample_rate": 16_000, "num_classes": 200, "width": 4}
    assert config_values(GrownConfig()) == before, "as before the field existed"
    assert config_values(GrownConfig(dilation=2)) == before | {"dilation": 2}

    register("grown", family="cnn", config=GrownConfig())(SoftmaxedModel)
    register("dilated", family="cnn", config=GrownConfig(dilation=2))(SoftmaxedModel)
    assert configure("grown", **before) == GrownConfig()
    # what the record leaves out must not come back as the variant's value
    config = configure("dilated", dilation=1)
    values = config_values(config, variant=GrownConfig(dilation=2))
    assert configure("dilated", **values) == config
    with pytest.raises(ConfigError, match="dilation: Input should be a valid integer"):
        configure("grown", dilation="wide")


DROPPED_IN = '''
from dataclasses import dataclass
from torch import nn
from architectures._registry import ArchitectureConfig, register

@dataclass(frozen=True, kw_only=True)
class Config(ArchitectureConfig):
    width: int = 4

@register("dropped_in", family="hybrid", config=Config())
class DroppedIn(nn.Module):
    """Two layers on the loudness of each tenth of a second."""
    def __init__(self, config):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, config.width), nn.Tanh(), nn.Linear(config.width, config.num_classes))
    def forward(self, x):
        return self.layers(nn.functional.adaptive_avg_pool1d(x.abs(), 10))
'''


def test_one_file_joins_the_registry_every_suite_and_the_checks(tmp_path, packed):
    shutil.copytree(ROOT / "architectures", tmp_path / "architectures")
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    (tmp_path / "architectures" / "dropped_in.py").write_text(DROPPED_IN)
    script = """if True:
        from pathlib import Path
        from bench.suites.suite import load_suite
        from architectures.checks import failed_checks
        from bench.data.pack import Pack
        from bench.store import ResultsFolder
        from bench.suites.plan import plan
        assert failed_checks("dropped_in") == {}
        for suite in ("demo", "controlled"):
            runs = plan(load_suite(suite), [Pack(Path(r"%s"))], ResultsFolder(Path("out")))
            assert "dropped_in" in {run.spec.name for run in runs}
    """
    done = subprocess.run(
        [sys.executable, "-c", script % packed.folder], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("sample_rate", "length"), [(8_000, 512), (16_000, 1024), (22_050, 1024), (32_000, 2048), (44_100, 2048)]
)
def test_the_spectrogram_fits_the_sample_rate(sample_rate, length):
    config = configure("vgg_like", sample_rate=sample_rate)
    assert config.fft_length == length
    model = create("vgg_like", sample_rate=sample_rate)
    bands = model.log_mel.mel.mel_scale.fb  # (bins, f)
    assert (bands.sum(dim=0) > 0).all(), "an empty band"
    assert model(torch.randn(2, sample_rate)).isfinite().all()
