"""Banks with known answers are recognised, a real run is measured, and a figure needs neither weights nor torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.text import Text
from PIL import Image
from torch import nn

from architectures import config_values, configure
from bench.errors import UserError
from bench.inspect.filters import band, first_layer, measure, measure_bank, measure_filters, write_filters
from bench.protocol.batches import Batches
from bench.protocol.build import build
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.reporting.figures import filters as figures
from bench.reporting.figures import front_ends as both_figures
from bench.reporting.figures.filters import filters_figure
from bench.reporting.figures.front_ends import front_ends_figure
from bench.reporting.figures.style import FULL, SMALL
from bench.reporting.filters import SCALES, STATES, STEP_DB, describe, fit_scale, load_filters, summarise
from bench.reporting.front_ends import Side, describe_sides, load_sides, table_of
from bench.runner.run import execute
from bench.store import RunFolder
from bench.store.trained import digest_of_weights
from tests.conftest import START, make_run, make_spec

ROOT = Path(__file__).parent.parent
RATE, TAPS = 16_000, 400
BANDS = 200  # of a stored response
FILES = ("filters.csv", "filters.npz", "filters.png", "filters.svg", "filters.pdf")


class Patches(nn.Module):
    """A linear bank on patches of raw samples, as the transformers have it."""

    def __init__(self, weight):
        super().__init__()
        self.bank = nn.Linear(weight.shape[1], len(weight), bias=False)
        self.bank.weight.data = torch.from_numpy(weight).float()

    def forward(self, x):
        patches = x.shape[1] // self.bank.in_features
        return torch.relu(self.bank(x[:, : patches * self.bank.in_features].unflatten(1, (patches, -1)))).mean(dim=1)


class Convolutions(nn.Module):
    """A one-dimensional convolutional bank, behind a layer without parameters."""

    def __init__(self, weight, dilation=1):
        super().__init__()
        self.level = nn.Identity()
        self.offset = nn.Parameter(torch.zeros(1))  # of the model itself: no layer, and not what it begins with
        self.bank = nn.Conv1d(1, len(weight), weight.shape[1], stride=160, padding=50, dilation=dilation)
        self.bank.weight.data = torch.from_numpy(weight).float().unsqueeze(1)

    def forward(self, x):
        return torch.relu(self.bank(self.level(x).unsqueeze(1))).mean(dim=2) + self.offset


def gabors(centres, bandwidths, taps=TAPS):
    """Cosines under a Gaussian with the given -3 dB bandwidth: (filters, taps)."""
    t = (np.arange(taps) - taps / 2) / RATE
    deviation = np.sqrt(np.log(2)) / (np.pi * np.broadcast_to(bandwidths, np.shape(centres)))[:, None]  # s
    return np.exp(-0.5 * (t / deviation) ** 2) * np.cos(2 * np.pi * np.asarray(centres)[:, None] * t)


def spaced(name, filters=48, low=400.0, high=7000.0):
    """Frequencies at equal distances on a scale, in Hz."""
    scale = SCALES[name]
    return scale.inverse(np.linspace(scale.forward(np.array(low)), scale.forward(np.array(high)), filters))


def noise(filters=48, seed=0):
    return np.random.default_rng(seed).normal(size=(filters, TAPS))


def summary_of(folder, bank, before=None):
    table, arrays = measure(Patches(noise(len(bank)) if before is None else before), Patches(bank), RATE)
    write_filters(RunFolder(folder), "known", table, arrays)
    return summarise(RunFolder(folder))


@pytest.mark.parametrize(
    ("name", "hz", "value"),
    # 1000 mel at 1 kHz by construction; a critical band number of 8.53 and an ERB-rate of 15.6 (the papers' tables)
    [("linear", 440, 440), ("mel", 1000, 999.99), ("bark", 1000, 8.527), ("ERB", 1000, 15.621)],
)
def test_scales_have_the_values_of_their_sources_and_are_invertible(name, hz, value):
    scale, f = SCALES[name], np.linspace(0, 22_050, 50)
    assert scale.forward(np.array(float(hz))) == pytest.approx(value, rel=1e-4)
    np.testing.assert_allclose(scale.inverse(scale.forward(f)), f, atol=1e-6)


@pytest.mark.parametrize("name", SCALES)
def test_the_scale_on_which_the_centres_are_even_wins(tmp_path, name):
    centres = spaced(name)
    shuffled = np.random.default_rng(1).permutation(centres)
    trained = summary_of(tmp_path, gabors(shuffled, 120.0))["trained"]
    fits = trained["scales"]
    assert trained["best_scale"] == name
    assert fits[name]["r2"] > 0.9999
    assert fits[name]["rms_hz"] < 5
    assert all(fit["r2"] < fits[name]["r2"] - 1e-4 for other, fit in fits.items() if other != name)
    ends = SCALES[name].inverse(np.array([fits[name]["start"], fits[name]["end"]]))
    np.testing.assert_allclose(ends, [400, 7000], atol=10)


def test_the_straight_line_is_least_squares():
    centres = np.sort(np.random.default_rng(0).uniform(0, 8000, 100))
    fit = fit_scale("linear", centres)
    slope, start = np.polyfit(np.linspace(0, 1, 100), centres, 1)
    assert (fit.start, fit.end) == pytest.approx((start, start + slope), rel=1e-6)
    assert fit.r2 == pytest.approx(np.corrcoef(np.arange(100), centres)[0, 1] ** 2)


@pytest.mark.parametrize("centres", [[], [100.0, 200.0], [300.0] * 9])
def test_what_is_no_curve_fits_no_scale(centres):
    assert all(np.isnan(fit_scale(name, np.array(centres)).r2) for name in SCALES)


@pytest.mark.parametrize(
    ("bandwidths", "exponent", "verdict"),
    [
        (lambda f: 120.0, 0, "constant bandwidth"),
        (lambda f: f / 6, 1, "constant Q"),
        (lambda f: 5 * f**0.5, 0.5, "neither"),
    ],
)
def test_bandwidth_laws_are_recognised(tmp_path, bandwidths, exponent, verdict):
    centres = spaced("mel", high=6000.0)
    trained = summary_of(tmp_path, gabors(centres, bandwidths(centres)))["trained"]
    assert trained["exponent"] == pytest.approx(exponent, abs=0.02)
    assert trained["verdict"] == verdict
    table = load_filters(RunFolder(tmp_path)).of("trained")
    np.testing.assert_allclose(table["peak_hz"], centres, atol=3)
    np.testing.assert_allclose(table["bandwidth_hz"], bandwidths(centres) * np.ones(48), rtol=0.03)
    np.testing.assert_allclose(table["in_band"], 0.76, atol=0.06)  # a Gaussian's energy above its half: erf(.83)


def test_bands_end_at_the_edges_and_between_bins():
    assert band(np.array([4.0, 4.0, 1.0, 0.0])) == pytest.approx((0, 1.5))  # half, 2, halfway from 4 to 1 in dB
    assert band(np.array([0.0, 1.0, 4.0])) == pytest.approx((1.5, 2))
    assert band(np.array([4.0, 4.0])) == (0, 1)
    assert np.isnan(band(np.zeros(3))).all()


def test_dead_and_unmoved_filters_are_counted_and_come_last(tmp_path):
    before = gabors(spaced("linear", 12), 150.0)
    bank = before * 2
    bank[3] *= 1e-4
    bank[7] = 0
    bank[5] = before[5] * 1.001
    summary = summary_of(tmp_path, bank, before)
    assert (summary["untrained"]["dead"], summary["trained"]["dead"], summary["hardly_moved"]) == (0, 2, 1)
    assert summary["median_change"] == pytest.approx(1)
    filters = load_filters(RunFolder(tmp_path))
    lines = filters.of("trained")
    assert set(lines.index[lines["dead"]]) == {3, 7} == set(lines.index[lines["rank"] >= 10])
    assert lines["change"][5] == pytest.approx(0.001, rel=1e-3)
    assert np.isnan(lines["peak_hz"][7])
    assert 3 not in filters.strongest["trained"]
    assert len(filters.shapes["trained"]) == 10
    filters_figure(RunFolder(tmp_path))


def test_the_figure_is_as_wide_as_a_text_and_legible_there(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))
    summary_of(tmp_path, gabors(spaced("mel"), 100.0))
    filters_figure(RunFolder(tmp_path))
    (figure,) = kept
    assert (figure.get_figwidth(), figure.get_figheight() < 9, figure._suptitle) == (FULL, True, None)
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= SMALL
    plt.close(figure)


def test_a_unit_that_never_fires_is_dead():
    lines = measure_bank(noise(4), noise(4), RATE, np.array([0.0, 0.5, 1.0, 0.1]))
    assert lines["dead"].tolist() == [True, False, False, False]
    assert lines["change"].tolist() == [0] * 4


def test_the_image_is_sorted_by_the_frequency_of_the_maximum(tmp_path):
    centres = np.random.default_rng(2).permutation(spaced("linear", 40))
    summary_of(tmp_path, gabors(centres, 150.0))
    filters = load_filters(RunFolder(tmp_path))
    order = filters.live("trained").index.to_numpy()
    np.testing.assert_array_equal(order, np.argsort(centres))
    image = filters.responses["trained"][order]
    assert image.shape == (40, BANDS)
    np.testing.assert_allclose((image.argmax(axis=1) + 0.5) * RATE / 2 / BANDS, np.sort(centres), atol=40)
    assert (image.max(axis=1) == 0).all()
    # on the slope of the first: a Gaussian falls by 3 dB in half a bandwidth, by 12 in a whole one
    f = (np.arange(BANDS) + 0.5) * RATE / 2 / BANDS
    whole = np.argmin(np.abs(f - (centres.min() + 150)))
    assert image[0, whole] == pytest.approx(-3 * ((abs(f[whole] - centres.min()) - 20) / 75) ** 2, abs=1.5 + STEP_DB)


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_convolutional_bank_is_measured(packed, dilation):
    centres = np.array([500.0, 1000.0, 2000.0])
    weight = gabors(centres, 200.0)[:, ::dilation]
    model = Convolutions(weight, dilation)
    model.bank.bias.data = torch.tensor([0.0, 100.0, -100.0])
    assert first_layer(model, RATE) == ("bank", model.bank)
    chunks = Batches(packed, "val", packed.targets("val")[:4], Recipe())
    table, arrays = measure(model, model, RATE, chunks)
    lines = table[table["state"] == "trained"].set_index("filter")
    assert arrays["taps"] == dilation * (weight.shape[1] - 1) + 1
    if dilation == 1:  # with zeros between the taps there are images above half the rate
        np.testing.assert_allclose(lines["peak_hz"], centres, atol=3)
    assert lines["fires"][1] == 1
    assert lines["fires"][2] == 0
    assert 0 < lines["fires"][0] < 1
    assert lines["dead"].tolist() == [False, False, True]
    assert model.training


def test_firing_is_counted_over_all_patches(packed):
    model = Patches(noise(8))
    chunks = Batches(packed, "val", packed.targets("val")[:5], Recipe())
    table, _ = measure(model, model, RATE, chunks)
    x = chunks.waveforms(torch.arange(len(chunks)))
    expected = (model.bank(x.unflatten(1, (-1, TAPS))) > 0).float().mean(dim=(0, 1)).detach().numpy()
    np.testing.assert_allclose(table["fires"][:8], expected, atol=1e-3)


class Begins(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.layer = nn.Conv1d(2, 1, 9) if how == "two channels" else nn.Linear(100, 1)

    def forward(self, x):
        if self.how == "two channels":
            return self.layer(torch.stack([x, x], dim=1))
        if self.how == "levels":
            return self.layer(nn.functional.adaptive_avg_pool1d(x.abs(), 100))
        return x  # nothing that learns is used


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("two channels", r"begins with Conv1d \(layer\): "),
        ("levels", r"begins with Linear \(layer\), which is not given raw samples"),
        ("nothing", "no layer with parameters"),
    ],
)
def test_other_beginnings_are_refused(how, message):
    with pytest.raises(UserError, match=message):
        first_layer(Begins(how), RATE)


@pytest.fixture(scope="module")
def real(packed, tmp_path_factory):
    """A tiny run, trained for real."""
    run = make_run(packed, tmp_path_factory.mktemp("filters"))
    execute(run, torch.device("cpu"))
    return run.folder


@pytest.fixture
def run(real, tmp_path):
    return RunFolder(Path(shutil.copytree(real.path, tmp_path / "run")))


def bytes_of(folder, names=FILES):
    return {name: (folder.path / name).read_bytes() for name in names}


def test_a_real_run_is_measured_and_drawn_again_without_weights_and_without_torch(run, packed):
    summary = measure_filters(run, packed)
    filters_figure(run)
    first = bytes_of(run)
    assert (summary["filters"], summary["taps"], summary["sample_rate"]) == (32, 400, 16_000)
    assert summary["layer"] == "front_end.0"
    table = pd.read_csv(run.filters_table)
    assert len(table) == 64
    assert table["fires"].between(0, 1).all()
    assert table["fires"].between(0.01, 0.99).any()
    of = {state: table[table["state"] == state] for state in STATES}
    assert (of["untrained"]["change"] == 0).all()
    assert (of["trained"]["change"] > 0).all()
    assert summary["untrained"]["best_scale"] == "linear"  # what chance draws is even in Hz
    text = describe(summary)
    assert "tiny, seed 0: 32 filters of 400 taps (25 ms at 16000 Hz) in front_end.0" in text
    assert f"R2 {summary['trained']['scales']['mel']['r2']:.4f}" in text
    with Image.open(run.filters_figure.with_suffix(".png")) as image:
        assert image.width > 1000

    measure_filters(run, packed)
    assert bytes_of(run, FILES[:2]) == {name: first[name] for name in FILES[:2]}

    run.weights_file.unlink()
    for name in FILES[2:]:
        (run.path / name).unlink()
    script = (
        "import sys; from pathlib import Path; from bench.reporting.figures.filters import filters_figure\n"
        "from bench.reporting.filters import summarise; from bench.store import RunFolder\n"
        f"run = RunFolder(Path(r'{run.path}')); filters_figure(run); print(summarise(run)['trained']['best_scale'])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == str(summary["trained"]["best_scale"])
    assert bytes_of(run) == first


def test_weights_are_read_and_the_seed_draws_the_untrained_ones(run, packed):
    from safetensors.numpy import load_file

    measure_filters(run)
    table = pd.read_csv(run.filters_table)
    assert table["fires"].isna().all()
    weight = load_file(run.weights_file)["front_end.0.weight"]
    drawn = build(make_spec(packed), torch.device("cpu")).front_end[0].weight.detach().numpy()
    for state, bank in (("trained", weight), ("untrained", drawn)):
        gain = table.loc[table["state"] == state, "gain"]
        np.testing.assert_allclose(gain, np.linalg.norm(bank, axis=1), rtol=1e-5)
    change = np.linalg.norm(weight - drawn, axis=1) / np.linalg.norm(drawn, axis=1)
    np.testing.assert_allclose(table.loc[table["state"] == "trained", "change"], change, rtol=1e-5)


def refused(folder, message, pack=None):
    with pytest.raises(UserError, match=message) as caught:
        measure_filters(folder, pack)
    assert "\n" not in str(caught.value)
    assert str(folder.path) in str(caught.value)


def test_a_cnn_begins_with_no_bank(run, packed):
    config = configure("vgg_like", stage_widths=[[4], [4]], hidden_dim=4, num_classes=len(packed.labels))
    tiny = make_spec(packed)
    spec = RunSpec(**tiny.model_dump() | {"name": "cnn", "architecture": "vgg_like", "config": config_values(config)})
    from safetensors.torch import save_file

    save_file(build(spec, torch.device("cpu")).state_dict(), run.weights_file)
    run.record_file.write_text(run.record().model_copy(update={"spec": spec, "hash": spec.hash}).model_dump_json())
    refused(run, r"cnn begins with Conv2d \(.*\): `bench filters` works for a Linear or Conv1d layer")
    assert not run.has_filters


def test_missing_and_damaged_weights_are_one_line_with_the_command(run):
    command, weights = run.record().provenance.command, run.weights_file
    whole = weights.read_bytes()
    for damaged in (whole[:1000], b"", whole.replace(b"front_end.0.weight", b"front_end.9.weight")):
        weights.write_bytes(damaged)
        refused(run, "model.safetensors: damaged, or of another version")
    weights.unlink()
    with pytest.raises(UserError, match="no weights") as caught:
        measure_filters(run)
    assert command in str(caught.value)


def test_missing_and_damaged_records_are_one_line(run, tmp_path, packed):
    record = json.loads(run.record_file.read_text())
    refused(RunFolder(tmp_path / "nowhere"), "no finished run")
    for text in ("{", "[]", '{"provenance": {"command": "x"}}', "{}"):
        run.record_file.write_text(text)
        refused(run, "run.json: damaged")
    run.record_file.write_text(json.dumps(record | {"spec": record["spec"] | {"new": 1}}))
    refused(run, r"run.json: damaged \(spec.new: ")
    config = record["spec"]["config"] | {"old_field": 1}
    spec = RunSpec.model_validate(record["spec"] | {"config": config})
    run.record_file.write_text(json.dumps(record | {"spec": spec.model_dump(mode="json"), "hash": spec.hash}))
    refused(run, "its architecture can't be made .*'old_field'")
    spec = RunSpec.model_validate(record["spec"] | {"pack": "other"})
    run.record_file.write_text(json.dumps(record | {"spec": spec.model_dump(mode="json"), "hash": spec.hash}))
    refused(run, "not the pack that", packed)


def test_a_figure_needs_whole_measurements(run):
    with pytest.raises(UserError, match=r"filters.csv: missing; .*`bench filters"):
        filters_figure(run)
    measure_filters(run)
    whole = bytes_of(run, FILES[:2])
    for name, damaged in (
        ("filters.npz", b"x"),
        ("filters.npz", b""),
        ("filters.csv", b"a,b\n1,2\n"),
        ("filters.csv", b""),
    ):
        (run.path / name).write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            summarise(run)
        (run.path / name).write_bytes(whole[name])
    summarise(run)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("filter", 1, "filter: not each of 3[0-9] filters once"),
        ("rank", 0.5, "rank: not each of 3[0-9] filters once"),
        ("state", "other", "filter: not each of 3[0-9] filters once"),
        ("peak_hz", -1.0, "peak_hz: a number that it can't be"),
        ("peak_hz", 0.0, "rank: not in the order of peak_hz"),
        ("bandwidth_hz", np.nan, "peak_hz, bandwidth_hz: missing of a filter that is not dead"),
        ("in_band", 7.5, "in_band: a number that it can't be"),
        ("gain", np.inf, "gain: a number that it can't be"),
        ("change", "much", r"change: not all numbers"),
        ("dead", "no", "dead: neither True nor False"),
    ],
)
def test_a_table_that_no_bank_has_is_damaged(run, column, value, reason):
    measure_filters(run)
    table = pd.read_csv(run.filters_table).astype({column: object})
    # of the filter with the highest maximum
    table.loc[table["peak_hz"].idxmax(), column] = value
    table.to_csv(run.filters_table, index=False)
    with pytest.raises(UserError, match=rf"filters.csv: damaged \((un)?(trained: )?{reason}\); remove both"):
        filters_figure(run)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("sample_rate", lambda x: x * 0, "sample_rate: no number of Hz"),
        ("taps", lambda x: x + 1, r"shapes of shape \(16, \d+\), of 16 filters of \d+ taps"),
        ("title", lambda x: np.array([x, x]), "taps, title, layer: not one of each"),
        ("trained_steps", lambda x: x[1:], r"responses of shape .*, of 32 filters"),
        ("trained_steps", lambda x: x + 100, "responses below the floor"),
        ("trained_strongest", lambda x: x * 0, "strongest: no numbers of filters"),
        ("trained_shapes", lambda x: x * 0, "shapes of no filter"),
    ],
)
def test_arrays_that_no_bank_has_are_damaged(run, name, change, reason):
    measure_filters(run)
    with np.load(run.filters_arrays) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(run.filters_arrays, **arrays | {name: change(arrays[name])})
    with pytest.raises(UserError, match=rf"filters.npz: damaged \((un)?(trained: )?{reason}\); remove both"):
        filters_figure(run)


def test_the_command_prints_the_findings(run, packed, bench):
    done = bench("filters", run.path, "--data", packed.folder)
    assert done.code == 0, done.err
    assert "best scale" in done.out
    assert run.filters_figure.with_suffix(".pdf").is_file()


def test_a_generated_set_may_be_named(run, packed, bench, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.api.models.filters_figure", lambda folder: None)
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/demo-16000").symlink_to(packed.folder)
    done = bench("filters", run.path, "--data", "demo")
    assert done.code == 0, done.err
    assert "patches a filter fires on" in done.out


def changed(folder, **fields):
    """Give a run's record another spec."""
    spec = RunSpec(**folder.record().spec.model_dump() | fields)
    start = START | {"weights": digest_of_weights(folder)} if spec.init else {}
    record = folder.record().model_copy(update={"spec": spec, "hash": spec.hash, "init": start})
    folder.record_file.write_text(record.model_dump_json())
    return folder


def test_a_start_is_named_and_is_what_the_trained_are_held_against(real, run, tmp_path):
    shutil.copytree(real.path, tmp_path / real.path.name)
    tuned = changed(run, name="tuned", init=real.record().hash)
    assert measure_filters(tuned)["title"] == "tuned, seed 0, from tiny"
    # the very weights of its start
    assert (pd.read_csv(run.filters_table)["change"] == 0).all()


def test_a_pretrainings_filters_are_given_what_it_heard(run, packed, monkeypatch):
    sizes = []
    monkeypatch.setattr("bench.inspect.filters._share_of_firing", lambda *given: sizes.append(given[2].size) or 0.5)
    measure_filters(changed(run, task="contrast", task_settings={"seconds": 0.5}), packed)
    assert sizes == [8_000, 8_000]


# --- two runs


def known_side(folder, letter, data, bank, before=None):
    summary_of(folder, bank, before)
    return Side(letter, RunFolder(folder), data, load_filters(RunFolder(folder)))


@pytest.fixture
def known_sides(tmp_path):
    """Constant bandwidths on a mel scale, two of 48 filters dead, beside constant Q on an ERB scale."""
    for name in "ab":
        (tmp_path / name).mkdir()
    first, centres = gabors(spaced("mel"), 120.0), spaced("ERB", high=6000.0)
    first[[3, 7]] = 0
    second = gabors(centres, centres / 6)
    return [known_side(tmp_path / "a", "A", "pitch", first), known_side(tmp_path / "b", "B", "", second, second / 2)]


def test_both_sides_have_the_numbers_of_their_banks(known_sides):
    table = table_of(known_sides)
    assert list(zip(table["side"], table["state"], strict=True)) == [(side, state) for side in "AB" for state in STATES]
    first, second = table.iloc[1], table.iloc[3]
    assert (first["dead"], first["dead_share"], second["dead"]) == (2, pytest.approx(2 / 48), 0)
    assert (first["best_scale"], second["best_scale"]) == ("mel", "ERB")
    assert first["r2"] == first["r2_mel"] == max(first[f"r2_{name}"] for name in SCALES)
    assert (first["exponent"], second["exponent"]) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    assert (first["law"], second["law"]) == ("constant bandwidth", "constant Q")
    assert first["bandwidth_hz"] == pytest.approx(120, rel=0.03)
    assert second["bandwidth_hz"] == pytest.approx(np.median(spaced("ERB", high=6000.0)) / 6, rel=0.03)
    # of itself, halved: as large as what it was
    assert (second["change"], table["change"][2]) == (pytest.approx(1, abs=1e-3), 0)
    text = describe_sides(known_sides)
    assert text.splitlines()[:2] == ["A: known, on pitch", "B: known"]
    assert max(map(len, text.splitlines())) <= 101


def test_the_figure_of_two_has_a_column_each_and_is_legible(tmp_path, known_sides, monkeypatch):
    kept = []
    monkeypatch.setattr(both_figures, "save", lambda figure, path: kept.append(figure))
    front_ends_figure(known_sides, tmp_path / "both")
    (figure,) = kept
    assert (figure.get_figwidth(), figure.get_figheight() < 9) == (FULL, True)
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= SMALL
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles[0] == "A: known, on pitch\nresponses, trained (the last 2 are dead)"
    assert [title[:2] for title in titles] == ["A:", "B:"] * 3
    plt.close(figure)


def test_two_runs_are_compared_by_what_was_measured_of_them(real, run, tmp_path, packed, bench, monkeypatch):
    monkeypatch.setattr("bench.api.models.filters_figure", lambda folder: None)
    other = RunFolder(Path(shutil.copytree(real.path, tmp_path / "other")))
    # the one was measured with its data, and has lost its weights since; the other has not been measured
    measure_filters(run, packed)
    run.weights_file.unlink()
    before = bytes_of(run, FILES[:2])
    done = bench("filters", run.path, other.path, "--out", tmp_path / "both")
    assert done.code == 0, done.err
    assert "A trained" in done.out
    assert bytes_of(run, FILES[:2]) == before
    assert other.has_filters
    made = {path.name for path in (tmp_path / "both").iterdir()}
    assert made == {f"front_ends.{suffix}" for suffix in ("csv", "pdf", "png", "svg")}
    table = pd.read_csv(tmp_path / "both" / "front_ends.csv")
    assert list(table["run"]) == [str(path) for path in (run.path, run.path, other.path, other.path)]
    assert table["change"][1] == table["change"][3] > 0


def test_what_is_of_one_run_or_of_two_is_told(run, packed, bench, tmp_path):
    for arguments, message in (
        ((run.path, run.path), "both are this run; name two"),
        ((run.path, "--out", tmp_path), "is for two runs"),
        ((run.path, run.path, "--data", packed.folder), "is for one run; give it to `bench filters"),
        ((run.path, tmp_path / "nowhere"), "no finished run"),
    ):
        done = bench("filters", *arguments)
        assert (done.code, message in done.err, len(done.err.splitlines())) == (2, True, 1), done.err


def test_what_two_runs_were_trained_on_is_read_beside_them(run, tmp_path):
    measure_filters(run)
    other = RunFolder(Path(shutil.copytree(run.path, tmp_path / "elsewhere" / "other")))
    plan = {"title": "small", "planned": [], "sources": {run.record().dataset: "pitch"}}
    (tmp_path / "suite.json").write_text(json.dumps(plan))
    assert [side.name for side in load_sides([run, other])] == ["A: tiny, seed 0, on pitch", "B: tiny, seed 0"]
