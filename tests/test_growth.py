"""`bench growth`: what chunks of several lengths cost, by which power that grows, and the scores beside it."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import bench as api
from architectures import create
from bench.api import growing
from bench.errors import UserError
from bench.protocol.task import get_task
from bench.reporting.figures import growth as figure
from bench.reporting.growth import COLUMNS, Growth, exponent
from bench.runner.cost import count_macs
from bench.runner.display import Display
from bench.store import ResultsFolder
from bench.suites.suite import load_suite
from tests.conftest import START
from tests.test_cli import one_line

SIZES = "depth = 1, front_end_dim = 4, embed_dim = 16, num_heads = 2, head_dim = 4, mlp_dim = 8"
SUITE = f"""
title = "lengths"
[train]
max_steps = 2

[[runs]]
name = "whole"
architecture = "transformer_small"
config = {{ {SIZES} }}

[[runs]]
name = "whole_short"
architecture = "transformer_small"
config = {{ {SIZES} }}
train = {{ chunk_seconds = 0.5, hop_seconds = 0.5 }}

[[runs]]
name = "near"
architecture = "transformer_small"
config = {{ {SIZES}, attention = "local", span = 8 }}
"""


PRETRAINED = f"""{SUITE}
[[runs]]
name = "heard"
architecture = "transformer_small"
task = "contrast"
task_settings = {{ seconds = 0.5 }}
config = {{ {SIZES} }}
"""


def points_of(costs, seconds=(1, 10, 30)):
    rows = [
        [entry, "transformer", second, 1000, *3 * [cost(second)], math.nan, 0]
        for entry, cost in costs.items()
        for second in seconds
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS])


def test_the_exponent_is_that_of_the_power():
    points = points_of({"a": lambda seconds: 3 * seconds**1.5})
    assert exponent(points, "macs") == pytest.approx(1.5)
    assert math.isnan(exponent(points.head(1), "macs"))


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "lengths.toml"
    path.write_text(SUITE)
    return path


def test_the_table_has_each_architecture_once_at_each_length(bench, suite, packed, tmp_path):
    out = tmp_path / "out"
    asked = ("growth", suite, "--data", packed.folder, "--out", out, "--seconds", 0.5, "--seconds", 2, "--seconds", 1)
    done = bench(*asked)
    assert (done.code, done.out.count("exponent\n")) == (0, 3), done.err
    table = pd.read_csv(out / "growth.csv")
    assert [*zip(table["entry"], table["seconds"], strict=True)] == [
        (entry, seconds) for entry in ("whole", "near") for seconds in (0.5, 1, 2)
    ]
    model = create("transformer_small", depth=1, front_end_dim=4, embed_dim=16, num_heads=2, head_dim=4, mlp_dim=8,
                   num_classes=len(packed.labels))  # fmt: skip
    assert [*table["macs"][:3]] == [count_macs(model, torch.zeros(1, n)) for n in (8000, 16_000, 32_000)]
    assert table["parameters"].eq(sum(p.numel() for p in model.parameters())).all()
    assert table[["latency_seconds", "train_memory_bytes"]].gt(0).all(axis=None)
    slope = np.polyfit(np.log([0.5, 1, 2]), np.log(table["macs"][:3]), 1)[0]
    assert table["macs_exponent"][0] == pytest.approx(slope)
    assert table["score"].isna().all()
    assert {path.name for path in out.glob("growth*.*")} >= {"growth.csv", "growth.png", "growth_column.pdf"}


def test_scores_are_those_of_runs_with_chunks_as_long(small_results, packed, tmp_path):
    out = shutil.copytree(small_results, tmp_path / "out")
    given = {"data": packed.folder, "out": out, "only": "transformer_small", "device": "cpu", "display": Display()}
    points = api.growth(str(small_results.with_suffix(".toml")), seconds=(0.5, 1), **given).points
    records = [folder.record() for folder in ResultsFolder(out).finished()]
    scores = [record.metrics["map"] for record in records if record.spec.name == "transformer_small"]
    assert points["seeds"].tolist() == [0, 2]
    assert points["score"].tolist()[1] == pytest.approx(sum(scores) / 2)
    assert math.isnan(points["score"][0])
    # two ways of training have no score in common
    path = next(out.glob("transformer_small-s0-*")) / "run.json"
    record = json.loads(path.read_text())
    record["spec"]["recipe"]["learning_rate"] = 0.5
    path.write_text(json.dumps(record))
    points = api.growth(str(small_results.with_suffix(".toml")), seconds=(1,), **given).points
    assert points["seeds"].tolist() == [0]
    # nor have two starts
    for seed, start in enumerate(("scratch", "heard")):
        path = next(out.glob(f"transformer_small-s{seed}-*")) / "run.json"
        record = json.loads(path.read_text())
        record["spec"]["recipe"]["learning_rate"] = 1e-3
        record["spec"]["init"], record["init"] = f"0000000{seed}", START | {"entry": start, "system": start}
        path.write_text(json.dumps(record))
    points = api.growth(str(small_results.with_suffix(".toml")), seconds=(1,), **given).points
    assert points["seeds"].tolist() == [0]


def test_pretrainings_are_left_out(bench, suite, packed, tmp_path, monkeypatch):
    """Their windows are as long at every length, so that they would seem to cost nothing more."""
    monkeypatch.setattr(growing, "draw_growth", lambda *_: {})
    suite.write_text(PRETRAINED)
    asked = ("growth", suite, "--data", packed.folder, "--out", tmp_path / "out", "--seconds", 0.5, "--seconds", 1)
    done = bench(*asked)
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "out" / "growth.csv")
    assert [*table["entry"]] == ["whole", "whole", "near", "near"]
    assert table["macs_exponent"].gt(0.5).all()
    one_line(bench(*asked, "--only", "heard"), "--only: heard: pre-trainings, which are given no chunks of some length")


def test_what_cannot_be_measured_is_named_and_the_others_are_done(bench, suite, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "draw_growth", lambda *_: {})
    suite.write_text(SUITE.replace("span = 8", "span = 30"))
    done = bench("growth", suite, "--data", packed.folder, "--out", tmp_path / "out", "--seconds", 0.5, "--seconds", 1)
    assert done.code == 1
    assert "near at 0.5 s: could not be measured: attention='local' has span=30, of 20 tokens in all: " in done.out
    table = pd.read_csv(tmp_path / "out" / "growth.csv").set_index(["entry", "seconds"])
    assert [*table.index] == [("whole", 0.5), ("whole", 1.0), ("near", 1.0)]
    assert math.isnan(table["macs_exponent"]["near", 1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (["long", f"--seconds={given}"], f"--seconds {given}: no length that a chunk may have; give 0.1 to 30")
            for given in ("31.0", "nan", "0.0", "-1.0")
        ),
        (["generation"], "suite 'generation': task next_sample is given windows, no chunks of some length"),
        (["longer"], "no suite 'longer' (did you mean 'long'?)"),
        (["long"], "needs a pack at 16000 Hz, given: none"),
    ],
)
def test_mistakes_are_one_line(bench, arguments, message):
    done = bench("growth", *arguments)
    one_line(done, message)
    assert "hop_seconds" not in done.err


def test_an_entry_that_lacks_a_length_has_no_exponent_and_moves_no_column():
    points = [points_of({"late": lambda s: s**2}, seconds=(10, 30)), points_of({"flat": lambda s: s**-0.001})]
    growth = Growth("lengths", "cpu", 2, get_task("tagging").primary, pd.concat(points, ignore_index=True))
    head, late, flat = repr(growth).splitlines()[1:4]
    assert head.split() == ["1", "s", "10", "s", "30", "s", "exponent"]
    assert (late.split()[1], late.split()[-1], flat.split()[-1]) == ("-", "-", "0.00")
    assert growth.table.groupby("entry")["macs_exponent"].count().to_dict() == {"flat": 3, "late": 0}
    drawn = figure._growth(growth)
    assert {text.get_text() for text in drawn.axes[0].texts} == {"late -", "flat 0.00"}


def test_names_in_the_figure_stand_in_the_order_of_the_ends():
    costs = {"dear": lambda seconds: 100 * seconds**2, "cheap": lambda seconds: seconds, "middling": lambda s: 10 * s}
    growth = Growth("lengths", "cpu", 2, get_task("tagging").primary, points_of(costs))
    drawn = figure._growth(growth)
    axes = drawn.axes[0]
    names = sorted(axes.texts, key=lambda text: -text.get_position()[1])
    assert [text.get_text() for text in names] == ["dear 2.00", "middling 1.00", "cheap 1.00"]
    heights = [text.get_position()[1] for text in names]
    low, high = np.log(axes.get_ylim())
    ends = [
        (np.log(cost(30) * 1e-9) - low) / (high - low) for cost in (costs["dear"], costs["middling"], costs["cheap"])
    ]
    assert heights == pytest.approx(ends, abs=0.02)
    assert figure._growth(Growth("", "cpu", 2, growth.metric, points_of(costs, seconds=(1,)))) is None


def test_a_suite_without_any_point_says_why():
    empty = Growth(
        "lengths", "cpu", 2, get_task("tagging").primary, pd.DataFrame(columns=[*COLUMNS]), {"a at 1 s": "no"}
    )
    assert repr(empty) == "a at 1 s: could not be measured: no"
    assert empty.table.empty
    with pytest.raises(UserError, match=r"give 0\.1 to 30"):
        api.growth("long", seconds=[0], display=Display())


def test_the_table_of_the_docs_is_counted():
    text = (Path(__file__).parents[1] / "docs/long.md").read_text("utf-8")
    for entry in load_suite("long").runs:
        if not entry.name.endswith("_1s"):
            model = create(entry.architecture, **entry.config)
            macs = [count_macs(model, torch.zeros(1, 16_000 * seconds)) for seconds in (1, 10, 30)]
            power = exponent(pd.DataFrame({"seconds": (1, 10, 30), "macs": macs}), "macs")
            assert f"| {entry.name} | {' | '.join(f'{count / 1e9:.3g}' for count in macs)} | {power:.2f} |" in text
