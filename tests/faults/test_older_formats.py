"""Files as earlier versions wrote them: read for good, and come to the same numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.faults.commands import COMMANDS, KILLED_AFTER_A_CHECKPOINT, NO_FIGURES, Inputs, Reference, runs
from tests.faults.processes import Processes

# of format 1, which named no format
_RECIPE = {"max_steps": "updates", "eval_hop_seconds": "test_hop_seconds", "crops": "chunks"}
_RUN = {"class_scores": "class_ap", "val_score": "val_map", "best_step": "best_update", "steps": "updates"}
_SOURCES = {"protocol": "referee", "architecture": "contestant"}
_HISTORY = {"step": "update", "val_score": "val_map"}
# what the first manifest and index held
_MANIFEST = (
    "format", "sample_rate", "source", "clips", "hours", "left_out", "plan", "dataset", "fingerprint", "classes",
    "leaf",
)  # fmt: skip
_INDEX = ["clip", "split", "start", "length", "seconds", "labels", "group"]


def run_of_format1(folder: Path) -> None:
    """Rewrite run.json and history.csv as format 1 had them."""
    new = json.loads((folder / "run.json").read_text())
    old: dict[str, Any] = {
        _RUN.get(name, name): value for name, value in new.items() if name not in ("format", "floors", "scores")
    }
    recipe = {_RECIPE.get(name, name): value for name, value in new["spec"]["recipe"].items()}
    recipe["chunks"] = "one" if recipe["chunks"] == "one_per_clip" else recipe["chunks"]
    recipe["aggregate"] = "scores" if recipe["aggregate"] == "mean" else recipe["aggregate"]
    old["spec"] = {name: value for name, value in new["spec"].items() if name != "task"} | {"recipe": recipe}
    old["chance_map"] = new["floors"]["chance"]
    source = {_SOURCES[name]: digest for name, digest in new["provenance"]["source"].items()}
    old["provenance"] = new["provenance"] | {"source": source}
    (folder / "run.json").write_text(json.dumps(old))
    history = pd.read_csv(folder / "history.csv").rename(columns=_HISTORY)
    history.to_csv(folder / "history.csv", index=False)


def results_of_format1(inputs: Inputs, folder: Path) -> Path:
    out = shutil.copytree(inputs.results, folder / "out")
    for path in out.glob("*/run.json"):
        run_of_format1(path.parent)
    plan = json.loads((out / "suite.json").read_text())
    (out / "suite.json").write_text(json.dumps({name: plan[name] for name in ("title", "planned")}))
    with np.load(out / "labels.npz") as labels:
        arrays = {name: labels[name] for name in labels.files if name != "format"}
    np.savez_compressed(out / "labels.npz", **arrays)
    return out


def first_pack(inputs: Inputs, folder: Path) -> Path:
    """Return a copy of the pack, as the first version wrote it."""
    pack = shutil.copytree(inputs.pack, folder / "pack")
    manifest = json.loads((pack / "manifest.json").read_text())
    (pack / "manifest.json").write_text(json.dumps({name: manifest[name] for name in _MANIFEST}))
    pd.read_parquet(pack / "index.parquet")[_INDEX].to_parquet(pack / "index.parquet", index=False)
    return pack


def test_a_report_of_format_1(processes: Processes, inputs: Inputs, tmp_path: Path) -> None:
    now, old = shutil.copytree(inputs.results, tmp_path / "now" / "out"), results_of_format1(inputs, tmp_path / "old")
    for out in (now, old):
        ended = processes.run("report", out, "--resamples", 100, code=NO_FIGURES)
        assert ended.code == 0, ended.err
    for name in ("table.csv", "ablations.csv"):
        assert (old / name).read_bytes() == (now / name).read_bytes()


def test_a_suite_over_format_1_trains_nothing_again(processes: Processes, inputs: Inputs, tmp_path: Path) -> None:
    out = results_of_format1(inputs, tmp_path)
    before = {path: path.read_bytes() for path in out.glob("*/*")}
    ended = COMMANDS["suite"].run(processes, inputs, tmp_path)
    assert ended.code == 0, ended.err
    assert "4 of 4 runs were finished before" in ended.err
    assert before == {path: path.read_bytes() for path in out.glob("*/*")}


def test_a_model_and_a_comparison_of_format_1(processes: Processes, inputs: Inputs, tmp_path: Path) -> None:
    old, said = results_of_format1(inputs, tmp_path), []
    for out in (inputs.results, old):
        compared = processes.run("compare", out / "one", out / "two", "--resamples", 100, "--json")
        heard = processes.run("predict", out / "one-s0", inputs.data / "FSD50K.eval_audio")
        assert (compared.code, heard.code) == (0, 0), compared.err + heard.err
        said.append((compared.out.replace(str(out), ""), heard.out))
    assert said[0] == said[1]


def test_the_first_pack(processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path) -> None:
    pack = first_pack(inputs, tmp_path)
    assert processes.run("data", "info", pack).code == 0
    _, expected = reference(COMMANDS["run"])
    out = tmp_path / "w" / "out"
    command = ("run", inputs.suite, "--data", pack, "--out", out, "--only", "two", "--seeds", 1)
    assert processes.run(*command, code=NO_FIGURES).code == 0
    result = COMMANDS["run"].result(tmp_path / "w")
    assert _copies(result) == {None}, "it has no hashes, by which one could know"
    assert _copies(expected) == {0}
    assert _without_copies(result) == _without_copies(expected)


def _copies(result: dict[str, Any]) -> set[int | None]:
    return {run["data"]["copied_eval_clips"] for run in result.values() if "data" in run}


def _without_copies(result: dict[str, Any]) -> dict[str, Any]:
    return {
        name: run | {"data": {**run["data"], "copied_eval_clips": None}} if "data" in run else run
        for name, run in result.items()
    }


@pytest.mark.parametrize("name", ["train.npy", "val.npy", "eval.npy"])
def test_other_samples_in_the_first_pack_are_told(
    name: str, processes: Processes, inputs: Inputs, tmp_path: Path
) -> None:
    pack = first_pack(inputs, tmp_path)
    samples = np.load(pack / name)
    np.save(pack / name, samples[::-1])
    ended = processes.run("run", inputs.suite, "--data", pack, "--out", tmp_path / "out", code=NO_FIGURES)
    assert ended.code == 2
    assert "damaged pack" in ended.error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [None, 1])
def test_a_checkpoint_of_an_older_format_is_kept(
    number: int | None, processes: Processes, inputs: Inputs, tmp_path: Path
) -> None:
    """It is refused with the remedy; with --restart it is kept beside the training that begins anew."""
    command, folder = COMMANDS["run"], tmp_path / "w"
    command.prepare(inputs, folder)
    processes.run(*command.arguments(inputs, folder), code=NO_FIGURES + KILLED_AFTER_A_CHECKPOINT)
    (path,) = folder.rglob("checkpoint.pt")
    age = (
        "import torch\n"
        f"values = torch.load({str(path)!r}, weights_only=True)\n"
        f"values |= {{'format': {number}}}\n"
        f"torch.save({{name: value for name, value in values.items() if value is not None}}, {str(path)!r})\n"
    )
    assert processes.run(code=age).code == 0
    content = path.read_bytes()
    ended = command.run(processes, inputs, folder)
    assert (ended.code, "--restart" in ended.error) == (2, True), ended.err
    assert path.read_bytes() == content
    again = processes.run(*command.arguments(inputs, folder), "--restart", code=NO_FIGURES)
    assert again.code == 0, again.err
    assert path.with_name("checkpoint.old.pt").read_bytes() == content
    assert len(runs(folder)) == 1
