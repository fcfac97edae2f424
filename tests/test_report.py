"""The table says what run.json says, whichever format it is in; figures are the same bytes from the same runs."""

import csv
import json
import re
import shutil
import statistics
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from bench.report import write_report
from bench.report.results import load_results
from tests.conftest import SMALL_SUITE


@pytest.fixture(scope="module")
def results(packed, tmp_path_factory):
    """Two contestants, two seeds each, run for real."""
    from bench.config import load_suite
    from bench.progress import SuiteDisplay
    from bench.suite import plan, run_suite

    folder = tmp_path_factory.mktemp("report")
    (folder / "small.toml").write_text(SMALL_SUITE)
    import torch

    runs = plan(load_suite(str(folder / "small.toml")), [packed])
    run_suite(runs, folder / "out", title="small", device=torch.device("cpu"), display=SuiteDisplay())
    return folder / "out"


@pytest.fixture
def copy(results, tmp_path):
    shutil.copytree(results, tmp_path / "out")
    return tmp_path / "out"


def runs_of(folder, name):
    runs = [json.loads(path.read_text()) for path in folder.glob(f"{name}-s*/run.json")]
    return sorted(runs, key=lambda run: run["spec"]["seed"])


def row_of(markdown, name):
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("name", ["transformer_small", "vgg_like"])
def test_markdown_and_csv_hold_the_numbers_of_the_runs(copy, name):
    markdown = write_report(copy)
    runs = runs_of(copy, name)
    maps = [run["metrics"]["map"] for run in runs]
    cells = row_of(markdown, name)
    assert cells[1] == f"{statistics.mean(maps):.3f} ± {statistics.stdev(maps):.3f}"
    assert cells[4] == f"{runs[0]['cost']['parameters']:,}"
    assert cells[7:] == [f"{runs[0]['published']['map']:.3f}", f"{runs[0]['published']['parameters'] / 1e6:.2f}M"]
    with (copy / "table.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["architecture"] == name)
    assert float(row["map"]) == pytest.approx(statistics.mean(maps), rel=1e-12)
    assert float(row["map_sd"]) == pytest.approx(statistics.stdev(maps), rel=1e-12)
    assert int(row["seeds"]) == 2
    untrained = [run["untrained"]["map"] for run in runs]
    assert float(row["untrained_map"]) == pytest.approx(statistics.mean(untrained))
    assert f"Chance (exact expectation of random scores): {runs[0]['chance_map']:.3f}" in markdown


def test_the_figure_is_a_picture_and_the_same_bytes_again(copy):
    write_report(copy)
    names = ("map_vs_parameters.png", "map_vs_parameters.svg", "table.md", "table.csv")
    first = {name: (copy / name).read_bytes() for name in names}
    write_report(copy)
    assert first == {name: (copy / name).read_bytes() for name in names}
    with Image.open(copy / "map_vs_parameters.png") as image:
        assert image.width > 800
        assert len(image.getcolors(1 << 24)) > 20
    assert ET.parse(copy / "map_vs_parameters.svg").getroot().tag.endswith("svg")


def test_runs_that_differ_are_rows_of_their_own(copy):
    folder = next(copy.glob("vgg_like-s0-*"))
    other = copy / "vgg_like-s0-ffffffff"
    shutil.copytree(folder, other)
    run = json.loads((other / "run.json").read_text())
    run["spec"]["recipe"]["updates"] = 99
    (other / "run.json").write_text(json.dumps(run))
    markdown = write_report(copy)
    assert row_of(markdown, "vgg_like (train.updates=99)")
    assert row_of(markdown, "vgg_like (train.updates=4)")


def test_what_is_not_there_is_named(copy):
    folder = next(copy.glob("vgg_like-s1-*"))
    shutil.rmtree(folder)
    markdown = write_report(copy)
    assert f"- missing: {folder.name}" in markdown
    assert re.search(r"seeds a row: 1 to 2", markdown)


def test_every_inferred_setting_is_footnoted_with_its_value(copy):
    markdown = write_report(copy)
    (row,) = [row for row in load_results(copy).rows if row.name == "transformer_small"]
    inferred = row.first["spec"]["inferred"]
    assert {"norm", "input_level", "front_end_dim"} <= set(inferred)
    for name, reason in inferred.items():
        assert f"- `{name} = {row.first['spec']['config'][name]}`: {reason}" in markdown
