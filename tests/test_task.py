"""A task is one file: a second one, and its mirror image, go through everything without an edit outside of it."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.protocol.task import get_task, list_tasks
from bench.runner.display import Display
from bench.store import ResultsFolder

# as a user would write it: one label a clip, another loss, accuracy; and a variant in which lower is better
PLUGIN = """
import numpy as np

from bench.protocol.task import Metric, Task, register_task


class SingleLabel(Task):
    name = "single_label"
    metrics = (Metric("accuracy", "accuracy"),)
    losses = ("cross_entropy",)

    def targets(self, labels):
        return np.eye(labels.shape[1], dtype=bool)[labels.argmax(axis=1)]

    def loss(self, recipe, logits, targets):
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets)

    def activation(self, logits):
        return logits.softmax(dim=-1)

    def clip_metrics(self, targets, scores):
        return {"accuracy": (scores.argmax(axis=1) == targets.argmax(axis=1)).astype(float)}

    def floors(self, targets):
        return {"chance": 1 / targets.shape[1], "majority": float(targets.mean(axis=0).max())}


class ErrorRate(SingleLabel):
    name = "error_rate"
    metrics = (Metric("error", "error rate", higher_is_better=False),)

    def clip_metrics(self, targets, scores):
        return {"error": 1 - super().clip_metrics(targets, scores)["accuracy"]}


register_task(SingleLabel())
register_task(ErrorRate())
"""
SUITE = """
title = "one label a clip"
task = "TASK"
seeds = 1
[train]
max_steps = 20
batch_size = 8
evaluations = 4
learning_rate = 3e-3
[[runs]]
name = "small"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 32, embed_dim = 16, num_heads = 2, head_dim = 8, mlp_dim = 32 }
[[runs]]
name = "one_step"
base = "small"
train = { max_steps = 1, evaluations = 1 }
[[runs]]
name = "other"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 8, embed_dim = 14, num_heads = 1, head_dim = 8, mlp_dim = 8 }
[space]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "single_label.py"
    path.write_text(PLUGIN)
    return path


def suite(task, folder, *, space=False):
    path = folder / f"{task}.toml"
    path.write_text((SUITE if space else SUITE.partition("[space]")[0]).replace("TASK", task))
    return path


class Interrupted(Display):
    """Presses Ctrl-C at a step."""

    def __init__(self, step):
        self.step = step

    def training(self, status):
        if status.step >= self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("task", "metric", "best"), [("single_label", "accuracy", max), ("error_rate", "error", min)])
def test_a_task_of_a_plugin_runs_resumes_compares_and_reports(task, metric, best, plugin, packed, tmp_path, bench):
    out, path = tmp_path / "out", suite(task, tmp_path)
    given = {"data": [packed.folder], "plugins": [plugin], "device": "cpu"}
    import bench as api

    with pytest.raises(KeyboardInterrupt):
        api.run(str(path), display=Interrupted(10), out=out, **given)
    assert len(list(out.glob("*/checkpoint.pt"))) == 1
    done = bench("run", path, "--data", packed.folder, "--plugin", plugin, "--out", out)
    assert done.code == 0, done.err
    api.run(str(path), out=tmp_path / "whole", report=False, **given)
    for folder in ResultsFolder(out).finished():
        record, history = folder.record(), folder.history()
        whole = tmp_path / "whole" / folder.name
        assert (folder.path / "scores.npz").read_bytes() == (whole / "scores.npz").read_bytes(), "resumed, the same"
        assert record.val_score == best(history["val_score"]), "the better direction selects"
        assert record.spec.recipe.loss == "cross_entropy"
        assert set(record.floors) == {"chance", "majority"}

    table = pd.read_csv(out / "table.csv")
    assert list(table["rank"]) == [1, 2, 3]
    assert table[metric].is_monotonic_decreasing if best is max else table[metric].is_monotonic_increasing
    assert (out / f"{metric}_vs_parameters.png").is_file()
    assert not (out / "map_vs_parameters.png").exists()
    assert not (out / "class_ap.png").exists()
    label = get_task(task).primary.label
    assert f"| {label} |" in done.out
    assert "mAP" not in done.out + (out / "index.html").read_text().partition('<h2 id="runs">')[0]

    compared = bench("compare", out / "small", out / "other", "--plugin", plugin, "--resamples", 200)
    assert compared.code == 0, compared.err
    difference = float(table.set_index("entry")[metric]["small"] - table.set_index("entry")[metric]["other"])
    (line,) = [line for line in compared.out.splitlines() if line.startswith(label)]
    assert f"{difference:+.3f}" in line


def test_a_search_goes_in_the_better_direction(plugin, packed, tmp_path, bench):
    out, path = tmp_path / "out", suite("error_rate", tmp_path, space=True)
    done = bench(
        "search", "small", "--suite", path, "--data", packed.folder, "--plugin", plugin, "--out", out, "--trials", 3
    )
    assert done.code == 0, done.err
    lines = pd.read_csv(out / "trials.csv")
    (entry,) = json.loads((out / "search.json").read_text())["entries"]
    assert entry["best"]["val_score"] == lines["val_score"].min()
    assert "val error rate" in done.out


def test_it_is_one_line_that_a_report_lacks_the_task(plugin, packed, tmp_path, bench, monkeypatch):
    out = tmp_path / "out"
    import bench as api
    from bench.protocol import task

    given = {"out": out, "data": [packed.folder], "plugins": [plugin], "seeds": 1, "display": Display()}
    api.run(str(suite("single_label", tmp_path)), only=["other"], **given)
    monkeypatch.setattr(task, "_tasks", {"tagging": get_task("tagging")})
    done = bench("report", out)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no task 'single_label'" in done.err
    assert "--plugin" in done.err


def test_unknown_tasks_and_losses_are_one_line(packed, tmp_path, bench):
    for old, new, message in (
        ('"TASK"', '"tasting"', "no task 'tasting' (known: "),
        ("batch_size = 8", 'batch_size = 8\nloss = "hinge"', "loss='hinge': task tagging has 'bce', 'huber'"),
    ):
        path = tmp_path / "suite.toml"
        path.write_text(SUITE.partition("[space]")[0].replace(old, new).replace("TASK", "tagging"))
        done = bench("run", path, "--data", packed.folder, "--out", tmp_path / "out")
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert message in done.err
    assert not (tmp_path / "out").exists()


def test_tagging_is_registered_and_asks_metrics_for_its_numbers(packed):
    assert "tagging" in list_tasks()
    tagging, targets = get_task("tagging"), packed.targets("eval")
    scores = np.random.default_rng(0).random(targets.shape)
    metrics = tagging.evaluate(targets, scores, packed.leaf)
    assert tagging.primary.name == "map"
    assert (
        metrics["map"] == tagging.selection_score(targets, scores) == np.nanmean(tagging.class_scores(targets, scores))
    )
    once = np.ones((len(targets), 1), np.uint8)
    resampled = tagging.statistic(targets, scores, packed.leaf)(once)
    for metric in tagging.metrics:
        assert resampled[metric.name][0] == pytest.approx(metrics[metric.name], abs=1e-12)
