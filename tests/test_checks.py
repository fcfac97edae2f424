"""The checks, over the registry: a new file in architectures/ is tested without an edit here."""

import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from architectures import (
    ArchitectureConfig,
    ConfigError,
    config_values,
    configure,
    create,
    get_architecture,
    later,
    list_architectures,
    register,
)
from architectures.checks import CHECKS, CheckFailed, checks_of, failed_checks
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.runner.cost import count_parameters
from bench.runner.preflight import check_runs
from bench.runner.run import execute
from bench.runner.weights import load_model
from bench.store import ResultsFolder
from bench.suites.plan import Run

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


@pytest.mark.parametrize(
    ("name", "check"), [(name, check) for name in list_architectures() for check in checks_of(name)]
)
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
        ("crnn", {"pools": [[50, 2], [4, 2], [2, 2]]}, "leave nothing of 96 bands"),
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


class Linear(torch.nn.Module):
    """A filter bank and a linear layer, sound; the classes below change one thing each."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.filters = torch.nn.Conv1d(1, 8, kernel_size=400, stride=160)
        self.head = torch.nn.Linear(8, config.num_classes)

    def forward(self, x):
        return self.head(self.features(x))

    def features(self, x):
        return self.filters(x[:, None]).relu().mean(dim=-1)


class Tied(Linear):
    """The head twice, as one weight under two names."""

    def __init__(self, config):
        super().__init__(config)
        self.again = torch.nn.Linear(8, config.num_classes)
        self.again.weight = self.head.weight

    def forward(self, x):
        features = self.features(x)
        return self.head(features) + self.again(features.square())


class Views(Linear):
    """Parameters and buffers that share memory, lie in other orders, are empty, or of other types."""

    def __init__(self, config):
        super().__init__(config)
        both = torch.randn(2, config.num_classes, 8)
        self.first, self.second = (torch.nn.Parameter(part) for part in both)
        self.turned = torch.nn.Parameter(torch.randn(8, config.num_classes).T)
        self.empty = torch.nn.Parameter(torch.zeros(0, 3))
        self.wide = torch.nn.Parameter(torch.randn(config.num_classes, dtype=torch.float64))
        self.register_buffer("one", torch.ones(8))
        self.register_buffer("same", self.one)

    def forward(self, x):
        features = self.features(x) * self.one * self.same
        weight = self.first + self.second + self.turned
        return self.head(features) + features @ weight.T + self.empty.sum() + self.wide.float()


class Complex(Linear):
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("phases", torch.ones(8, dtype=torch.complex128))


class Expanded(Linear):
    """A buffer that can be read and not written."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("one", torch.ones(1).expand(8))


class Extra(Linear):
    def get_extra_state(self):
        return {"calls": 1}

    def set_extra_state(self, state):
        pass


class Lazy(Linear):
    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.LazyLinear(config.num_classes)


class MadeInForward(Linear):
    def forward(self, x):
        if not hasattr(self, "gain"):
            self.gain = torch.nn.Parameter(torch.ones(1))
        return super().forward(x) * self.gain


class NotSaved(Linear):
    """Learns the level of its input, where no state dict has it."""

    level = 1.0

    def forward(self, x):
        if self.training:
            self.level = 0.9 * self.level + 0.1 * x.std().item()
        return super().forward(x) * self.level


class PythonsNoise(Linear):
    def forward(self, x):
        noise = random.random() if self.training else 0.0
        return super().forward(x * (1 + noise))


class DropoutInEval(Linear):
    def features(self, x):
        return torch.nn.functional.dropout(super().features(x), 0.5)


class CountsInEval(Linear):
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class ChangesItsInput(Linear):
    def forward(self, x):
        x -= x.mean(dim=1, keepdim=True)
        return super().forward(x)


class LabelsInEval(Linear):
    def forward(self, x):
        logits = super().forward(x)
        return logits if self.training else (logits > 0).long()


class Pair(Linear):
    def forward(self, x):
        return super().forward(x), x


class FewerInEval(Linear):
    def forward(self, x):
        return super().forward(x)[:, : None if self.training else 3]


class NaNInEval(Linear):
    def forward(self, x):
        logits = super().forward(x)
        return logits if self.training else logits * (0 / x.std(dim=1, keepdim=True))


class Gaps(Linear):
    """A fused optimiser would change what lies between, and not the parameter."""

    def __init__(self, config):
        super().__init__(config)
        self.gain = torch.nn.Parameter(torch.ones(config.num_classes, 2)[:, 0])

    def forward(self, x):
        return super().forward(x) * self.gain


class SharesAPlace(Gaps):
    """A fused optimiser would write behind its end."""

    def __init__(self, config):
        super().__init__(config)
        self.gain = torch.nn.Parameter(torch.ones(1).expand(config.num_classes))


class Exits(Linear):
    def forward(self, x):
        sys.exit(len(x) - len(x))


class ExitsAtOnce(Linear):
    def __init__(self, config):
        super().__init__(config)
        os._exit(0)


class Silent(Linear):
    def forward(self, x):
        raise NotImplementedError


class Frozen(Linear):
    def __init__(self, config):
        super().__init__(config)
        self.requires_grad_(False)


SAVED = "round-trips its state dict and its config"
SHAPE = "takes (b, n) waveforms and returns (b, k) logits"
AGAIN = "gives the same logits again in eval mode, and changes nothing by it"


@pytest.mark.usefixtures("empty_registry")
@pytest.mark.parametrize("model", [Linear, Tied, Views])
def test_weights_that_a_run_can_keep_pass(model):
    """Tied ones passed before, and failed when they were to be saved."""
    register("mine", family="cnn", config=ArchitectureConfig())(model)
    assert failed_checks("mine") == {}


@pytest.mark.usefixtures("empty_registry")
@pytest.mark.parametrize(
    ("model", "check", "reason"),
    [
        (Complex, SAVED, "weights of type torch.complex128 can't be saved"),
        (Expanded, SAVED, "its weights can't be loaded into a new model: Error(s) in loading state_dict for Expanded"),
        (Extra, SAVED, "_extra_state is a dict, not a tensor, and can't be saved"),
        (Lazy, SAVED, "head.weight has no size before the first forward: give it one, instead of nn.Lazy..."),
        (MadeInForward, SAVED, "its weights can't be loaded into a new model: weights are of no layer: 'gain'"),
        (NotSaved, SAVED, "a copy of the weights gives other logits"),
        (
            PythonsNoise,
            "trains to the same weights from the same seed",
            "use torch's generator only, and keep no state",
        ),
        (DropoutInEval, AGAIN, "the second time"),
        (CountsInEval, AGAIN, "changed by an evaluation: calls"),
        (ChangesItsInput, AGAIN, "the waveforms that it is given are changed"),
        (LabelsInEval, SHAPE, "eval mode gives int64, should be floats"),
        (Pair, SHAPE, "16000 samples at 16000 Hz give a tuple, should be a tensor of logits"),
        (FewerInEval, SHAPE, "eval mode gives (2, 3), should be (2, 7)"),
        (Gaps, SHAPE, "WeightsError: gain is part of another tensor, or expanded: give it memory of its own, by"),
        (SharesAPlace, SHAPE, "WeightsError: gain is part of another tensor, or expanded: give it memory of its own"),
        (Exits, SHAPE, "SystemExit: 0"),
        (ExitsAtOnce, SHAPE, "SystemExit: os._exit(0)"),
        (NaNInEval, "stays finite on silence, full scale, a click and a constant", "eval mode gives [[nan"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_would_go_wrong_in_a_run_fails_a_check(model, check, reason):
    register("mine", family="cnn", config=ArchitectureConfig())(model)
    failed = failed_checks("mine")
    assert reason in failed[check]
    assert "\n" not in failed[check]


@pytest.mark.usefixtures("empty_registry")
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Complex, "WeightsError: weights of type torch.complex128 can't be saved"),
        (Lazy, "WeightsError: head.weight has no size before the first forward"),
        (MadeInForward, "weights are of no layer: 'gain'"),
        (LabelsInEval, "ValueError: logits are torch.int64, should be floats"),
        (Pair, "ValueError: the output is a tuple, should be a tensor of logits"),
        (FewerInEval, "ValueError: logits have shape (2, 3), should have (2, 7)"),
        (NaNInEval, "ValueError: logits are not finite, on silence or on noise"),
        (Frozen, "ValueError: no parameter to learn"),
        (Gaps, "WeightsError: gain is part of another tensor, or expanded: give it memory of its own, by .clone()"),
        (SharesAPlace, "WeightsError: gain is part of another tensor, or expanded"),
        (Exits, ": SystemExit: 0, on chunks of 1 s"),
        (ExitsAtOnce, ": SystemExit: os._exit(0), on chunks of 1 s"),
        (Silent, ": NotImplementedError, on chunks of 1 s"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_it_is_refused_before_anything_trains_too(packed, tmp_path, model, reason):
    register("mine", family="cnn", config=ArchitectureConfig())(model)
    with pytest.raises(UserError) as caught:
        check_runs([run_of_mine(packed, tmp_path)], ResultsFolder(tmp_path))
    assert str(caught.value).startswith("mine does not run: ")
    assert reason.replace("7", str(len(packed.labels))) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("empty_registry")
@pytest.mark.parametrize("model", [Tied, Views])
def test_a_run_of_such_weights_ends_and_is_read_again(packed, tmp_path, model):
    """It was trained to the end, and failed there every time."""
    register("mine", family="cnn", config=ArchitectureConfig())(model)
    run = run_of_mine(packed, tmp_path)
    check_runs([run], ResultsFolder(tmp_path))
    record = execute(run, torch.device("cpu"))
    loaded = load_model(run.folder, record, torch.device("cpu"))
    data = run.task.data(packed, "eval", run.spec.recipe)
    np.testing.assert_array_equal(run.task.score(loaded, data), run.folder.scores(tuple(data.targets.shape)))
    if model is Tied:
        assert loaded.again.weight is loaded.head.weight


def run_of_mine(packed, out):
    config = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels)}
    recipe = Recipe(loss="bce", max_steps=2, batch_size=8, evaluations=1)
    source = get_architecture("mine").source
    spec = RunSpec(
        name="mine", architecture="mine", config=config, recipe=recipe, seed=0, pack=packed.fingerprint, source=source
    )
    return Run(spec, packed, ResultsFolder(out).run(spec))


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
    bands = model.front_end.mel.mel_scale.fb  # (bins, f)
    assert (bands.sum(dim=0) > 0).all(), "an empty band"
    assert model(torch.randn(2, sample_rate)).isfinite().all()
