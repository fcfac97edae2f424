"""The Python API: what the commands do, with DataFrames, and the same errors."""

import dataclasses
import importlib
import inspect
import shutil
import subprocess
import sys
import typing

import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench.api.options import Options, RunOptions
from bench.api.planning import PowerPlan
from bench.api.results import Comparison, Report
from bench.api.runs import SearchOutcome, SuiteCost, SuiteOutcome
from bench.data.pack import Pack
from bench.inspect.gallery import Gallery
from bench.reporting.growth import Growth
from bench.runner.display import Display
from bench.store import ResultsFolder
from tests.conftest import SMALL_SUITE
from tests.test_imports import modules, room

QUIET = Display()


@pytest.fixture(scope="module")
def results(small_results, tmp_path_factory):
    return shutil.copytree(small_results, tmp_path_factory.mktemp("api") / "out")


@pytest.fixture(scope="module")
def reported(results):
    return bench.report(results, resamples=200, display=QUIET)


def calls(results, packed, dataset, tmp_path):
    """Every name of the API with what it is called with, and the type that comes back."""
    suite, sound = tmp_path / "small.toml", next((dataset / "FSD50K.eval_audio").iterdir())
    suite.write_text(SMALL_SUITE)
    given = {"data": packed.folder, "only": "transformer_small", "device": "cpu", "display": QUIET}
    run, other = sorted(path.parent for path in results.glob("transformer_small-*/run.json"))
    return {
        "Display": ((), {}, Display),
        "UserError": (("text",), {}, Exception),
        "attention": ((run / "none", sound), {}, bench.UserError),
        "compare": ((run, other), {"resamples": 100, "display": QUIET}, Comparison),
        "compare_filters": ((run, run), {"out": tmp_path / "front_ends"}, bench.UserError),
        "cost": ((str(suite),), given, SuiteCost),
        "create": (("vgg_like",), {"num_classes": 3}, torch.nn.Module),
        "duplicates": ((packed.folder,), {"display": QUIET}, pd.DataFrame),
        "filters": ((run / "none",), {}, bench.UserError),
        "gallery": ((packed.folder, tmp_path / "gallery"), {"split": "val", "display": QUIET}, Gallery),
        "generate": ((run,), {"display": QUIET}, bench.UserError),
        "growth": ((str(suite),), {**given, "out": tmp_path / "out", "seconds": [0.1]}, Growth),
        "hardest": ((run, packed.labels[0]), {"display": QUIET}, pd.DataFrame),
        "list_architectures": ((), {}, list),
        "load": ((run,), {}, torch.nn.Module),
        "merge": ((results, results), {"display": QUIET}, bench.UserError),
        "missing": ((str(suite),), {**given, "out": tmp_path / "out"}, list),
        "pack": ((dataset, tmp_path / "pack"), {"display": QUIET}, Pack),
        "plan": ((str(suite), 0.01), {"seed_sd": 0.01, "clip_sd": 0.004, "clips": 300, "display": QUIET}, PowerPlan),
        "predict": ((run, sound), {"display": QUIET}, pd.DataFrame),
        "report": ((results,), {"resamples": 100, "display": QUIET}, Report),
        "reproduce": ((run / "none",), {"display": QUIET}, bench.UserError),
        "run": ((str(suite),), {**given, "out": tmp_path / "out", "dry_run": True}, SuiteOutcome),
        "search": (("tuned",), {**given, "out": tmp_path / "out", "dry_run": True}, SearchOutcome),
        "synth": (("additive",), {"seconds": 0.1}, np.ndarray),
    }


def test_every_function_can_be_called_twice_whatever_was_imported(results, packed, dataset, tmp_path):
    """A submodule of the same name would take a function's place at its first import; what takes long may refuse."""
    for module in (name for name, _ in modules() if room(name) != "__main__"):
        importlib.import_module(module)
    known = calls(results, packed, dataset, tmp_path)
    assert set(known) == set(bench.__all__)
    for name, (positional, named, kind) in known.items():
        for again in range(2):
            # a pack's folder may not be there yet
            place = (positional[0], f"{positional[1]}{again}") if name == "pack" else positional
            if kind is bench.UserError and name != "UserError":
                with pytest.raises(bench.UserError):
                    getattr(bench, name)(*place, **named)
            else:
                assert isinstance(getattr(bench, name)(*place, **named), kind), name


def test_importing_takes_no_time_and_no_library():
    script = "import sys, bench\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "pydantic"} & set(done.stdout.split())


def test_it_says_which_version_it_is():
    assert bench.__version__ == importlib.metadata.version("audio-cnn-transformer-bench")
    with pytest.raises(AttributeError, match="nothing"):
        bench.nothing  # noqa: B018
    assert set(bench.__all__) <= set(dir(bench))


def test_the_options_are_written_down_once_more_only():
    assert set(typing.get_type_hints(RunOptions)) == {f.name for f in dataclasses.fields(Options)}
    # each of them is documented where an editor looks
    source = inspect.getsource(RunOptions)
    assert source.count('    """') == len(dataclasses.fields(Options)) + 2


def test_a_run_ends_in_dataframes(packed, tmp_path, capsys):
    suite = tmp_path / "small.toml"
    suite.write_text(SMALL_SUITE)
    out = tmp_path / "out"
    outcome = bench.run(
        str(suite), data=str(packed.folder), out=str(out), only="transformer_small", seeds=1,
        overrides={"max_steps": 2}, device="cpu",
    )  # fmt: skip
    assert (outcome.folder, len(outcome.done), outcome.skipped, outcome.failed) == (out, 1, [], [])
    assert outcome.planned == outcome.done
    assert list(outcome.report.scores["entry"]) == ["transformer_small"]
    assert outcome.report.differences.empty
    assert "<table" in outcome._repr_html_()
    captured = capsys.readouterr()
    # progress is shown, but results are returned, not printed
    assert captured.out == ""
    assert "transformer_small seed 0: mAP" in captured.err
    command = ResultsFolder(out).finished()[0].record().provenance.command
    assert command.startswith("bench.run('")
    assert "overrides={'max_steps': 2}" in command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "vgg_lik"}, "did you mean 'vgg_like'"),
        ({"overrides": {"max_step": 3}}, "overrides: unknown field 'max_step'"),
        ({"data": "nowhere"}, "nowhere is no pack"),
        ({"device": "gpu9"}, "gpu9"),
        ({"trials": 3}, "has no \\[space\\]"),
        ({"plugins": "nothing.py"}, "nothing.py: No such file"),
    ],
)
def test_mistakes_are_user_errors(packed, tmp_path, options, message):
    suite = tmp_path / "small.toml"
    suite.write_text(SMALL_SUITE)
    with pytest.raises(bench.UserError, match=message):
        bench.run(str(suite), **{"data": packed.folder, "out": tmp_path / "out", "display": QUIET, **options})
    assert not (tmp_path / "out").exists()


def test_an_option_that_there_is_not_is_a_type_error():
    with pytest.raises(TypeError, match="sedes"):
        bench.run("demo", sedes=3)


def test_a_report_has_the_tables_of_its_files(reported, results):
    csv = pd.read_csv(results / "table.csv")
    pd.testing.assert_series_equal(reported.scores["map"], csv["map"])
    assert list(reported.scores["rank"]) == [1, 2]
    pd.testing.assert_series_equal(reported.costs["parameters"], csv["parameters"])
    assert not {"macs", "front"} & set(reported.scores)
    differences = pd.read_csv(results / "differences.csv")
    assert list(reported.differences["map_verdict"]) == list(differences["map_verdict"])
    assert len(reported.classes) == len(pd.read_csv(results / "classes.csv"))
    assert reported.ablations.empty


def test_a_report_shows_itself_in_a_notebook(reported):
    html = reported._repr_html_()
    assert "transformer_small" in html
    assert "data:image/svg+xml;base64," in html
    figure = reported.figures["map_vs_parameters"]
    assert all(path.is_file() for path in (figure.png, figure.svg, figure.pdf))
    assert "<img" in figure._repr_html_()
    assert "<figcaption>" in figure._repr_html_()


def test_a_comparison_has_tables_and_shows_itself(results):
    sides = [results / name for name in ("vgg_like", "transformer_small")]
    found = bench.compare(*sides, resamples=200, display=QUIET)
    metrics = found.metrics.set_index("metric")
    assert list(metrics.index) == ["mAP", "leaf mAP", "lwlrap"]
    row = metrics.loc["mAP"]
    assert row["difference"] == pytest.approx(row["first"] - row["second"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert found.generalises_to == "these checkpoints only"
    assert "verdict" in found.classes
    assert "these checkpoints" in found._repr_html_().lower()


def test_a_loaded_model_scores_as_the_run_did(results, packed):
    run = ResultsFolder(results).find("transformer_small-s0")
    model = bench.load(run.path)
    assert not model.training
    with torch.inference_mode():
        assert model(torch.zeros(1, 16_000)).shape == (1, len(packed.labels))


@pytest.mark.parametrize("live", [False, True])
def test_a_notebook_gets_bars_where_it_can_draw_them(live, monkeypatch):
    from bench.api import console

    monkeypatch.setattr(console._console, "is_jupyter", True)
    monkeypatch.setattr(console, "find_spec", lambda _: object() if live else None)
    assert console.ConsoleDisplay().live.disable is not live
