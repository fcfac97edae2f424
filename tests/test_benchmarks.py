"""What `python -m benchmarks` measures is what it says: turns, both sides doing the same work, and the record of it."""

import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from architectures import create
from architectures.attention import Pattern, sparse_attention
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.protocol.optim import optimizer_of
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import train_step
from benchmarks import __main__ as command
from benchmarks import attention, gpu, made, notes, simulation
from benchmarks.growth import POINTS, _point, exponent
from benchmarks.machine import measure_machine
from benchmarks.roofline import count_bytes
from benchmarks.rows import Pair, markdown, row, table
from benchmarks.run import EVERY, PARTS, _keep, write_speed
from benchmarks.setup import Setup
from benchmarks.simulation import COVERAGE
from benchmarks.turns import Turns, in_turns

ROOT = Path(__file__).parent.parent
ROWS = [
    row(Pair("a part", "one", "other", "ours", target=2.5), Turns([4.0, 6.0, 8.0], [2.0, 2.0, 2.0]), "the limit"),
    row(Pair("a part", "two", "other", "ours", target=2.5), Turns([2.0], [1.0]), "another limit"),
    row(Pair("a price", "it", "bare", "whole", target=1.3, at_most=True), Turns([1.0, 1.0], [1.1, 1.2]), "itself"),
]


@pytest.fixture
def benchmarks(monkeypatch, capsys):
    """`python -m benchmarks`, in this process: its exit code and what it prints."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            command.main()
        return int(exit_.value.code or 0), *capsys.readouterr()

    return run


def test_turns_alternate_and_each_is_done_once_before():
    done = []
    turns = in_turns(lambda: done.append("A"), lambda: done.append("B"), seconds=0.0, least=2)
    assert "".join(done) == "ABABAB"
    assert len(turns.other) == len(turns.ours) == 2


def test_what_is_twice_as_slow_is_seen_as_twice_as_slow():
    turns = in_turns(lambda: time.sleep(0.04), lambda: time.sleep(0.02), seconds=0.3)
    assert 1.6 < turns.ratio < 2.2
    assert turns.per_unit(2, 1).ratio == pytest.approx(turns.ratio / 2)


def test_ratios_are_medians_over_turns_and_prices_are_inverted():
    first, _, price = ROWS
    assert (first.ratio, first.met) == (3.0, True)
    assert (first.low, first.high) == (2.0, 4.0)
    assert first.ours_seconds == 2.0
    assert price.ratio == pytest.approx(2 / (1 / 1.1 + 1 / 1.2))
    assert price.met
    assert price.low == pytest.approx(1.1)


def test_the_table_has_a_line_a_part_and_names_what_was_missed():
    lines = markdown(table(ROWS)).splitlines()
    assert len(lines) == 4
    assert "| 2 to 3 | 2 to 4 | at least 2.5 | not: two | the limit |" in lines[2]
    assert "| at most 1.3 | met | itself |" in lines[3]


def test_the_exponent_is_that_of_the_power():
    points = pd.DataFrame({"value": [0.1, 1.0, 10.0, 100.0], "seconds": [5.0, 0.03, 3.0, 300.0]})
    assert exponent(points, "seconds") == pytest.approx(2.0), "of the three largest"
    assert math.isnan(exponent(points.tail(2), "seconds")), "through two points goes any"


def test_bytes_are_those_that_operations_take_and_give():
    x = torch.ones(1000)
    assert count_bytes(lambda: x + x) == 3 * 4000
    assert count_bytes(lambda: x.view(10, 100).t()) == 0


@pytest.mark.parametrize("name", ["transformer_small", "resnet18"])
def test_both_sides_train_the_same(name):
    """In fp32 one step of ours is one of the other's, but for the last digits."""
    x, y = 0.1 * torch.randn(4, 16_000, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 200)
    y[:, 3] = 1.0
    models, task = [], get_task("tagging")
    for _ in range(2):
        torch.manual_seed(0)
        models.append(create(name).train())
    recipe = Recipe(learning_rate=1e-3, loss="bce")
    ours = train_step(models[0], optimizer_of(models[0], recipe), x, y, task, recipe)
    other = notes.step(models[1], torch.optim.Adam(models[1].parameters(), lr=1e-3), x, y)
    assert torch.allclose(ours, other, rtol=1e-5)
    for (key, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        # Adam moves by the sign of a gradient first: where that is nothing but rounding, it is no one's
        assert (a - b).abs().median() < 1e-6, key


def test_the_other_way_sees_the_same_sound(dataset, packed):
    clips = notes.Clips(dataset, 16_000)
    assert (len(clips), clips.classes) == (len(packed.clips("train")), len(packed.labels))
    x, y = next(notes.batches(clips, 8, workers=0))
    assert (x.shape, y.shape) == ((8, 16_000), (8, clips.classes))
    assert (y.sum(dim=1) > 0).all()
    names = [file.stem for file in clips.files]
    index = packed.clips("train")
    for i in (0, 5, 11):
        place = index.index[index["clip"] == names[i]][0]
        start = index["start"][place]
        ours = packed.samples("train")[start : start + 16_000] / 32768
        other = clips[i][0].numpy()
        assert clips[i][1].nonzero().flatten().tolist() == sorted(index["labels"][place])
        # shorter ones are repeated by us, and padded by the other
        if index["length"][place] > 16_000:
            # by another resampler
            assert np.corrcoef(ours, other)[0, 1] > 0.99


def test_made_recordings_and_packs_are_real_ones(tmp_path):
    packed = pack(made.recordings(tmp_path / "set", 0.05), tmp_path / "packed")
    assert sum(packed.manifest["clips"].values()) == 12
    silent = Pack(made.silent_pack(tmp_path / "silent", clips=30, classes=20, seconds=2.0))
    data = get_task("tagging").data(silent, "train", Recipe())
    assert len(data) == 60
    assert data.targets.sum(dim=0).min() >= 1


@pytest.mark.slow
def test_a_pack_larger_than_memory_trains(tmp_path):
    """With 1.5 GB for what a process may write to, and 6 GB of sound; reading it all in is refused."""
    made.silent_pack(tmp_path / "pack", clips=187_500)
    script = f"""
import resource
import numpy as np, torch
torch.set_num_threads(1)
from pathlib import Path
from architectures import create
from architectures.attention import Pattern, sparse_attention
from bench.data.pack import Pack
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import train
folder = Path({str(tmp_path / "pack")!r})
resource.setrlimit(resource.RLIMIT_DATA, (1_500_000_000, 1_500_000_000))
try:
    np.load(folder / "train.npy")
except MemoryError:
    print("refused")
pack, task = Pack(folder), get_task("tagging")
recipe = Recipe(max_steps=3, batch_size=16, evaluations=1, loss="bce")
data, val = task.data(pack, "train", recipe), task.data(pack, "val", recipe, clips=20)
train(create("transformer_small"), data, val, task, recipe, seed=0)
print("trained")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.split() == ["refused", "trained"], done.stderr


@pytest.mark.slow
def test_parts_measure_and_are_kept(benchmarks, dataset, packed, tmp_path, monkeypatch):
    """The quick ones, for real."""
    monkeypatch.setattr("bench.api.datasets.DEMO", dataset)
    monkeypatch.setattr("bench.api.datasets.demo_pack", lambda sample_rate, display: packed.folder)
    monkeypatch.chdir(ROOT)
    out = tmp_path / "speed"
    code, printed, notices = benchmarks("speed", "--quick", "--only", "startup", "--out", out)
    assert code == 0, notices
    assert "bench --help" in printed
    assert "measuring: startup" in notices
    _, printed, _ = benchmarks("speed", "--quick", "--only", "metrics", "--out", out)
    # measured before, and kept
    assert "bench --help" in printed
    (path,) = out.glob("speed-torch-*-quick.csv")
    frame = pd.read_csv(path)
    assert set(frame["key"]) == {"startup", "metrics"}
    assert "values apart by" in frame.loc[frame["key"] == "metrics", "limit"].iloc[0]
    assert not list(out.glob("scratch-*"))


def test_a_part_that_is_gone_is_left_out_and_replaced_ones_take_their_places(tmp_path):
    frame = table(ROWS)
    frame.insert(0, "key", ["startup", "seeds", "data"])
    frame.to_csv(tmp_path / "speed.csv", index=False)
    _keep(tmp_path / "speed.csv", "pack", table([ROWS[0]]))
    assert list(pd.read_csv(tmp_path / "speed.csv")["key"]) == ["data", "pack", "startup"]


@pytest.mark.parametrize("machine", sorted((ROOT / "results" / "speed").glob("machine-*.json")), ids=lambda p: p.stem)
def test_what_was_measured_before_can_be_read(machine, tmp_path):
    name = machine.stem.removeprefix("machine-")
    for path in (ROOT / "results" / "speed").glob(f"*-{name}.*"):
        shutil.copy(path, tmp_path)
    text = write_speed(tmp_path, name)
    frame = pd.read_csv(tmp_path / f"speed-{name}.csv")
    for _, pair in frame[frame["key"].isin(PARTS)].iterrows():
        assert f"| {pair['ours']} | {pair['other']} |" in text
    assert "seeds at once" not in text


@pytest.mark.parametrize("folder", sorted((ROOT / "results" / "speed").glob("gpu-*")), ids=lambda path: path.name)
def test_the_table_of_a_gpu_is_what_was_measured_on_it(folder, tmp_path):
    """It stands in the documentation, too."""
    kept = tmp_path / folder.name
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("*-s?-*"))
    text = gpu.write_gpu(kept)
    assert text == (folder / "table.md").read_text("utf-8")
    docs = (ROOT / "docs" / "speed.md").read_text("utf-8")
    steps, _, differences = (part.splitlines()[2:] for part in text.split("\n\n")[1:])
    assert all(line in docs for line in [*steps, *differences])


def test_steps_are_timed_in_turns(monkeypatch):
    now, done = [0.0], []
    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def work(name, seconds):
        def run():
            done.append(name)
            now[0] += seconds

        return run

    found = gpu._by_turns({"a": work("a", 0.01), "b": work("b", 0.1)}, 0.02, rounds=3)
    assert found == pytest.approx({"a": 0.01, "b": 0.1})
    # each once untimed, then as often as fits into a turn
    assert "".join(done) == "ab" + 3 * "aab"


def test_what_cannot_be_compiled_is_left_out(monkeypatch):
    """Of one architecture, tiny, on the CPU: the columns of the table, but for what only a GPU has."""
    monkeypatch.setattr(gpu, "_CLASSES", 4)
    told = []
    found = gpu._steps("transformer_small", torch.device("cpu"), 2, math.nan, told.append)
    assert told == []
    assert found.keys() == {"eager_ms", "fp32_ms", "tf32_ms", "bf16_ms", "compile_seconds", "evaluation_ms"}
    assert min(found[f"{way}_ms"] for way in ("eager", "fp32", "tf32", "bf16", "evaluation")) > 0


def test_mistakes_are_one_line_and_nothing_prints_help(benchmarks):
    code, printed, _ = benchmarks()
    assert code == 0
    assert "speed" in printed
    assert "simulation" in printed
    code, _, error = benchmarks("speed", "--only", "map")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("bench: error: --only map: use one of data, ")
    assert "--only map: use one of steps, cost, precision" in benchmarks("gpu", "--only", "map")[2]
    code, _, error = benchmarks("speed", "--slow")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("bench: error: ")


def test_the_simulation_is_written(benchmarks, tmp_path, monkeypatch):
    """The command, with fewer repeats of less: what it says is tested with the statistics."""
    few = [simulation.Scenario("small", 200, seeds=3, classes=5, repeats=2)]
    for name, value in {"SCENARIOS": few, "COVERAGE": tmp_path / "coverage.csv", "FIGURE": tmp_path / "x.png"}.items():
        monkeypatch.setattr(simulation, name, value)
    code, _, error = benchmarks("simulation", "--out", str(tmp_path / "blocks"), "--workers", "1")
    assert code == 0, error
    frame = pd.read_csv(tmp_path / "coverage.csv", comment="#")
    assert list(frame.columns) == list(pd.read_csv(COVERAGE, comment="#").columns)
    assert (frame["repeats"] == 2).all()
    assert (tmp_path / "x.png").is_file()


def test_figures_are_drawn_from_what_is_kept(tmp_path):
    machine = measure_machine(torch.device("cpu"))
    (tmp_path / "machine-here.json").write_text(pd.Series(machine.as_dict()).to_json())
    pair = Pair("step, cnns", "vgg_like", "a", "b")
    steps = [row(pair, Turns([1.0], [0.5]), "x", flops=1e9, bytes=1e8)]
    frame = table(steps)
    frame.insert(0, "key", "step")
    frame.to_csv(tmp_path / "speed-here.csv", index=False)
    grown = {"value": [10, 100, 1000], "seconds": [1.0, 10.0, 100.0], "megabytes": [100.0, 105.0, 110.0]}
    points = pd.concat(
        pd.DataFrame(grown).head(count).assign(what=what, unit=what, work="w")
        for what, count in (("clips", 3), ("classes", 2))
    )
    points.to_csv(tmp_path / "growth-here.csv", index=False)
    text = write_speed(tmp_path, "here")
    # the ticks of matplotlib's logarithmic axes are formulas, which figures show as text
    assert not any("mathdefault" in svg.read_text() for svg in tmp_path.glob("*.svg"))
    assert "| clips, 10 to 1000 | w | 1.0 | 100 to 110 |" in text
    assert "| classes, 10 to 100 | w |  | 100 to 105 |" in text, "two points have no exponent"
    svg = (tmp_path / "growth-here.svg").read_text()
    assert (svg.count("exponent 1.0"), svg.count("exponent")) == (1, 1)
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"roofline-here", "growth-here"}


def test_every_part_has_a_name_and_every_growth_a_quick_look():
    assert set(EVERY) == {*PARTS, "attention", "growth"}
    assert all(len(set(growth.quick)) >= 2 for growth in POINTS.values())


@pytest.mark.parametrize(
    ("what", "value"), [("clips", 100), ("scored", 300), ("classes", 20), ("seconds", 1), ("batch", 2), ("hours", 0.04)]
)
def test_growth_gives_points(what, value, tmp_path):
    point = _point(what, value, tmp_path)
    assert point["seconds"] > 0
    assert point["megabytes"] > 0


def test_attention_is_measured_in_each_way_and_grows_as_it_says(monkeypatch):
    monkeypatch.setattr(attention, "QUICK", (9, 16, 36))
    monkeypatch.setattr(attention, "_ROUNDS", 1)
    points = attention.measure_attention(torch.device("cpu"), quick=True, progress=lambda part: None)
    ways = ["full", "fixed, by a mask", "local", "strided", "fixed"]
    assert [*zip(points["tokens"], points["way"], strict=True)] == [(t, way) for t in (9, 16, 36) for way in ways]
    assert points[["milliseconds", "megabytes"]].gt(0).all(axis=None)
    text = attention.markdown(points.assign(milliseconds=points["tokens"] ** 1.5, megabytes=points["tokens"]))
    assert "| strided, fp32 | 27 ms | 64 ms | 216 ms | 1.50 | 9 | 16 | 36 | 1.00 |" in text


def test_the_mask_beside_sparse_attention_is_that_of_its_pattern():
    pattern = Pattern(kind="fixed", span=5, summary=2, causal=False)
    q, k, v = torch.randn(3, 1, 1, 17, 4, generator=torch.Generator().manual_seed(0))
    mask = attention.dense_mask(pattern, 17, torch.device("cpu"))
    masked = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(sparse_attention(q, k, v, pattern), masked)


def test_the_mask_is_made_in_the_step_that_is_measured(monkeypatch):
    step, made = attention._steps(torch.randn(3, 1, 2, 36, 4))["fixed, by a mask"], []
    dense_mask = attention.dense_mask
    monkeypatch.setattr(attention, "dense_mask", lambda *given: made.append(dense_mask(*given)) or made[-1])
    step()
    assert [mask.shape for mask in made] == [(36, 36)]


@pytest.mark.parametrize("part", ["data", "resample", "evaluation", "bootstrap", "variants", "generation"])
def test_a_part_gives_rows(part, dataset, packed, tmp_path, monkeypatch):
    from benchmarks import parts

    monkeypatch.setattr(Setup, "seconds", 0.0)
    monkeypatch.setattr(Setup, "batch_size", 2)
    monkeypatch.setattr(parts, "in_turns", lambda a, b, **_: in_turns(a, b, seconds=0.0, least=1))
    cpu = torch.device("cpu")
    setup = Setup(measure_machine(cpu), cpu, dataset, packed.folder, tmp_path, quick=True)
    rows = list(PARTS[part](setup))
    assert rows
    assert all(r.other_seconds > 0 and r.ours_seconds > 0 and r.ratio > 0 for r in rows)
