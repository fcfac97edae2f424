"""Searches from the command, with real databases and real processes: killed, resumed, shared."""

import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.api.options import Options
from bench.data.pack import Pack
from bench.reporting.figures.search import draw_search
from bench.reporting.report import Sampling, write_report
from bench.searching import search as searching
from bench.store import ResultsFolder
from bench.suites.plan import plan
from bench.suites.space import Budget
from bench.suites.suite import load_suite
from tests.conftest import make_spec, needs, no_tables
from tests.tiny_data import hash_anew

SUITE = """
title = "toy"
architectures = ["transformer_small", "vgg_like"]
seeds = 2
first_seed = 100
[train]
max_steps = 3
batch_size = 4
evaluations = 3
learning_rate = 1e-3
[family.cnn.train]
precision = "auto"
channels_last = true
[budget]
finalists = 1
trials = 3
[space]
learning_rate = { low = 1e-6, high = 1e-2, log = true }
batch_size = { choices = [2, 4, 8] }
drop_rate = { low = 0.0, high = 0.5 }
mixup = { choices = [0.0, 0.5] }
"""
PARAMS = ["learning_rate", "batch_size", "drop_rate", "mixup"]
FIGURES = ["best_so_far", "search_history", "search_slices"]  # and search_importance, where trials are enough for it


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def no_figures(monkeypatch):
    """Where they are not what is tested: three seconds each time."""
    monkeypatch.setattr("bench.api.runs.draw_search", lambda folder: {})


def command(*arguments):
    """The real one, in a process of its own, but for the figures."""
    code = (
        "from bench import cli\n"
        "from bench.api import runs\n"
        "from bench.reporting import report\n"
        "runs.draw_search = report.draw_search = report.draw_costs = report.draw_scores = lambda _: {}\n"
        "cli.main()"
    )
    return [sys.executable, "-c", code, *map(str, arguments)]


def start(*arguments):
    return subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trials(out):
    return pd.read_csv(out / "trials.csv")


def states(database):
    """Of all trials that a database holds, and how many evaluations each has had."""
    if not database.exists():
        return []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        try:
            return connection.execute(
                "select state, (select count(*) from trial_intermediate_values v where v.trial_id = t.trial_id) "
                "from trials t order by trial_id"
            ).fetchall()
        except sqlite3.OperationalError:  # being made
            return []


def kill_when(process, ready, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.usefixtures("no_figures")
def test_a_killed_search_ends_in_the_same_trials(suite, packed, tmp_path, bench):
    """SIGKILL in the middle of a trial, one worker: to the bit what an uninterrupted search comes to."""

    def search(out):
        return ("search", "transformer_small", "--suite", suite, "--data", packed.folder, "--out", out,
                "--trials", 8, "--heartbeat", 1)  # fmt: skip

    assert bench(*search(tmp_path / "whole")).code == 0
    whole = trials(tmp_path / "whole")
    assert whole["default"].tolist() == [True] + [False] * 7
    assert {"complete", "pruned"} == set(whole["state"])
    assert whole["val_score"].isna().eq(whole["state"] == "pruned").all(), "pruned trials have no score"

    out = tmp_path / "killed"

    def running():
        now = states(out / "search.db")
        complete = sum(state in ("COMPLETE", "PRUNED") for state, _ in now)
        return complete >= 3 and any(state == "RUNNING" and steps for state, steps in now)

    kill_when(start(*search(out)), running)
    subprocess.run(command(*search(out)), check=True, capture_output=True)
    resumed = trials(out)
    assert sum(state == "FAIL" for state, _ in states(out / "search.db")) == 1
    same = ["trial", "state", "val_score", "best_seen", "default", "evaluations", *PARAMS]
    pd.testing.assert_frame_equal(whole[same], resumed[same], check_exact=True)


@contextmanager
def postgresql(folder):
    """A server of this test's own, on loopback, under a user other than root, as whom it refuses to run."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        needs("postgres")  # not on the path either
    tool = str(binaries[-1]) + "/" if binaries else ""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data = Path(folder) / "pg"
    data.mkdir()
    if user:
        shutil.chown(data, "postgres")
        for parent in data.parents:  # pytest's folders are root's alone
            if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"

    def call(*arguments):
        done = subprocess.run([*user, *arguments], check=False, capture_output=True, text=True, cwd="/")
        return done.returncode == 0 or f"{done.stdout}{done.stderr}"

    assert call(f"{tool}initdb", "-D", data, "-U", "bench", "-A", "trust", "--no-sync") is True
    assert call(f"{tool}pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start") is True
    try:
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"
    finally:
        # now and then it says that a server which it has just stopped does not stop
        assert (
            call(f"{tool}pg_ctl", "-D", data, "-m", "fast", "stop") is True
            or call(f"{tool}pg_ctl", "-D", data, "status") is not True
        )


@pytest.mark.slow
def test_four_workers_on_postgresql_one_killed(suite, packed, tmp_path):
    """As many finished trials as asked for, none twice, and the killed one's parameters among them."""
    import psycopg

    with postgresql(tmp_path) as url:

        def search(out):
            return ("search", "transformer_small", "--suite", suite, "--data", packed.folder, "--out", tmp_path / out,
                    "--trials", 6, "--storage", url, "--heartbeat", 1)  # fmt: skip

        # first and alone: of four that start at once, the others may have done all trials before it begins one
        victim = start(*search("out0"))

        connection = psycopg.connect(url, autocommit=True)

        def query(text):
            try:
                return connection.execute(text).fetchall()
            except psycopg.errors.UndefinedTable:  # the workers make them
                return []

        of_victim = f"a.key = 'worker' and a.value_json like '%:{victim.pid}\"'"

        def busy():
            time.sleep(0.02)
            return query(
                "select trial_id from trials join trial_user_attributes a using (trial_id) "
                f"where state = 'RUNNING' and {of_victim}"
            )

        kill_when(victim, busy)
        workers = [start(*search(f"out{i}")) for i in range(1, 4)]
        assert [worker.wait(timeout=200) for worker in workers] == [0, 0, 0]
        lost = query(
            "select trial_id from trials join trial_user_attributes a using (trial_id) "
            f"where state = 'FAIL' and {of_victim}"
        )
        again = query("select count(*) from trial_system_attributes where key = 'origin'")
        assert len(lost) == 1
        assert again == [(1,)]
        params = query(f"select param_name, param_value from trial_params where trial_id = {lost[0][0]} order by 1")
        twins = query(
            "select count(*) from trials t where state in ('COMPLETE', 'PRUNED') and not exists (select 1 from "
            f"trial_params l where l.trial_id = {lost[0][0]} and not exists (select 1 from trial_params p where "
            "p.trial_id = t.trial_id and p.param_name = l.param_name and p.param_value = l.param_value))"
        )
        assert len(params) == 4
        assert twins == [(1,)]
        connection.close()
    records = [trials(tmp_path / f"out{i}") for i in (1, 2, 3)]
    for record in records:
        assert len(record) == 6
        assert set(record["state"]) <= {"complete", "pruned"}
        assert record["default"].sum() == 1
        assert not record.duplicated(PARAMS).any(), "two workers never draw the same"
        assert not record["number"].duplicated().any()
    assert records[0].equals(records[1])


@pytest.mark.usefixtures("no_figures")
def test_eval_is_never_read(suite, packed, tmp_path, bench, monkeypatch):
    """The same trials where eval's sounds and labels are other ones, and none of it is asked for."""
    other = tmp_path / "other"
    shutil.copytree(packed.folder, other)
    eval_samples = np.load(other / "eval.npy")
    np.save(other / "eval.npy", np.random.default_rng(0).permutation(eval_samples))
    index = pd.read_parquet(other / "index.parquet")
    of_eval = index["split"] == "eval"
    index.loc[of_eval, "labels"] = index.loc[of_eval, "labels"].to_numpy()[::-1]
    index.to_parquet(other / "index.parquet")
    hash_anew(other)
    for folder in (packed.folder, other):
        out = tmp_path / f"out-{folder.name}"
        arguments = ("search", "transformer_small", "--suite", suite, "--data", folder, "--out", out, "--trials", 3)
        if folder == other:
            for name in ("targets", "samples"):
                monkeypatch.setattr(Pack, name, refusing_eval(getattr(Pack, name)))
        assert bench(*arguments, "--export").code == 0
        assert not (out / "labels.npz").exists()
    same = ["val_score", "best_seen", *PARAMS]
    one, two = (trials(tmp_path / f"out-{folder.name}")[same] for folder in (packed.folder, other))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def refusing_eval(original):
    """Opening a pack compares it with its hashes; nothing asks for eval."""

    def method(self, split):
        assert split != "eval", "eval was read"
        return original(self, split)

    return method


@pytest.mark.usefixtures("no_figures")
def test_a_failed_trial_is_recorded_with_its_cause_and_counted(suite, packed, tmp_path, bench, monkeypatch):
    train = searching.train

    def breaking(model, data, val, task, recipe, **rest):
        if recipe.batch_size != 4:
            raise RuntimeError("out of memory,\nsaid the device")
        return train(model, data, val, task, recipe, **rest)

    monkeypatch.setattr(searching, "train", breaking)
    arguments = ("--suite", suite, "--data", packed.folder, "--out", tmp_path / "out", "--trials", 6)
    assert bench("search", "transformer_small", *arguments).code == 0
    record = trials(tmp_path / "out")
    assert len(record) == 6, "a failed trial is spent like any other"
    failed = record[record["batch_size"] != 4]
    assert 0 < len(failed) < 6
    assert set(failed["state"]) == {"failed"}
    assert set(failed["cause"]) == {"RuntimeError: out of memory, said the device"}
    assert failed["val_score"].isna().all()
    assert set(record[record["batch_size"] == 4]["state"]) <= {"complete", "pruned"}
    found = json.loads((tmp_path / "out" / "search.json").read_text())["entries"][0]
    assert (found["finished"], found["failed"]) == (6, len(failed))
    assert found["best"]["recipe"]["batch_size"] == 4


@pytest.mark.usefixtures("no_figures")
def test_hours_are_seconds_of_compute_over_all_workers(suite, packed, tmp_path, bench):
    arguments = ("--suite", suite, "--data", packed.folder, "--out", tmp_path / "out", "--hours", 3 / 3600)
    arguments += ("--set", "train.learning_rate=3.0e-2")  # what is set is not searched, so it may lie outside the space
    assert bench("search", "transformer_small", *arguments).code == 0
    record = trials(tmp_path / "out")
    assert record["state"][0] == "complete"
    assert "learning_rate" not in record
    spent = record["seconds"].sum()
    assert spent >= 3
    assert record["spent_seconds"].iloc[-1] == pytest.approx(spent, abs=0.01)
    assert spent - record["seconds"].iloc[-1] < 3, "no trial begins when the budget is spent"
    assert json.loads((tmp_path / "out" / "search.json").read_text())["budget"] == f"{3 / 3600:g} hours of compute"


@pytest.mark.usefixtures("no_figures")
def test_steps_are_those_of_training_over_all_trials(suite, packed, tmp_path, bench):
    """A trial takes six of the default's batch, or fewer of a larger one; a pruned one spends less."""
    suite.write_text(SUITE.replace("max_steps = 3", "max_steps = 6"))
    out = tmp_path / "out"
    arguments = ("transformer_small", "--suite", suite, "--data", packed.folder, "--out", out, "--steps", 45)
    assert bench("search", *arguments).code == 0
    record, found = trials(out), json.loads((out / "search.json").read_text())
    (entry,) = found["entries"]
    complete, pruned = record[record["state"] == "complete"], record[record["state"] == "pruned"]
    assert set(complete["batch_size"]) > {4}
    assert set(complete["steps"]) == {6}
    assert len(pruned)
    assert (pruned["steps"] <= 6).all()
    assert pruned["steps"].min() < 6
    assert record["spent_steps"].tolist() == record["steps"].cumsum().tolist()
    assert entry["steps"] == record["steps"].sum() >= 45
    assert record["spent_steps"].iloc[-2] < 45, "no trial begins when the budget is spent"
    assert found["budget"] == "45 steps"
    assert bench("search", *arguments).code == 0
    assert trials(out).equals(record)


@pytest.mark.parametrize("given", [{"trials": 7}, {"steps": 9}, {"hours": 1.0}, {"quick": True}])
def test_how_the_winner_is_chosen_is_the_suites_whatever_the_budget(suite, given):
    budget = Options.of(given).budget(load_suite(str(suite)))
    assert (budget.finalists, budget.finalist_seeds) == (1, 3)
    assert not given.items() - budget.model_dump().items() - {("quick", True)}


def test_a_best_recipe_is_named_by_its_budget():
    names = [Budget(trials=30).name, Budget(steps=10**9).name, Budget(hours=1.5).name]
    assert names == ["of_30", "at_1000000000", "in_1.5h"]


def test_a_record_without_what_was_added_later_is_shown(tuned, tmp_path, monkeypatch):
    """As before steps, finalists and dimensions without effect were on record."""
    out = shutil.copytree(tuned[0], tmp_path / "out")
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    search = json.loads((out / "search.json").read_text())
    old = [trial for trial in ResultsFolder(out).trials() if "retrains" not in trial]
    for trial in old:
        del trial["cost"]["steps"]
    (out / "trials.json").write_text(json.dumps({"format": 2, "trials": old}))
    for entry in search["entries"]:
        for name in ("steps", "finalists", "chosen_by", "without_effect", "pruner"):
            del entry[name]
        del entry["best"]["mean_val_score"]
        scores = [trial["val_score"] for trial in old if trial["study"] == entry["study"]]
        entry["best"]["val_score"] = max(score for score in scores if score is not None)
    del search["sampler"]
    (out / "search.json").write_text(json.dumps(search))
    trials(out).drop(columns=["steps", "spent_steps"]).to_csv(out / "trials.csv", index=False)
    made = write_report(out, Sampling(resamples=300))
    assert [record["steps"] for record in made.tables["tuning"].records] == [None, None]
    headers = [column.header for column in made.tables["tuning"].columns]
    assert {"steps", "chosen by", "without effect"}.isdisjoint(headers)
    assert set(FIGURES) <= set(made.figures)


@pytest.fixture(scope="module")
def tuned(packed, tmp_path_factory):
    """bench run of a suite with a space, killed in the search and in the retraining, and started again."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "toy.toml").write_text(SUITE.replace("finalists = 1", "finalists = 2\nfinalist_seeds = 2"))
    out = folder / "out"
    arguments = ("run", folder / "toy.toml", "--data", packed.folder, "--out", out, "--heartbeat", 1)
    kill_when(start(*arguments), lambda: sum(state == "COMPLETE" for state, _ in states(out / "search.db")) >= 2)
    assert not (out / "best.toml").exists()
    kill_when(start(*arguments), lambda: len(list(out.glob("*/run.json"))) >= 2)
    done = subprocess.run(command(*arguments), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done.stdout, arguments


def test_run_tuned_goes_from_nothing_to_the_report_however_often_it_is_killed(tuned):
    out, printed, _ = tuned
    record, found = trials(out), json.loads((out / "search.json").read_text())
    assert record["entry"].value_counts().to_dict() == {"transformer_small": 3, "vgg_like": 3}
    entries = {entry["entry"]: entry for entry in found["entries"]}
    names = {entry[kind]["name"] for entry in entries.values() for kind in ("default", "best")}
    runs = [json.loads(path.read_text()) for path in out.glob("*/run.json")]
    assert sorted((run["spec"]["name"], run["spec"]["seed"]) for run in runs) == sorted(
        (name, seed) for name in names for seed in (100, 101)
    )
    assert len(names) > 2, "some search found better than the default"
    for run in runs:
        entry = entries[run["spec"]["architecture"]]
        result = next(entry[kind] for kind in ("default", "best") if entry[kind]["name"] == run["spec"]["name"])
        assert run["spec"]["recipe"] == result["recipe"]
        assert run["spec"]["config"]["drop_rate"] == result["params"]["drop_rate"]
    for name, entry in entries.items():
        of_entry = record[record["entry"] == name]
        finalists = entry["finalists"]
        assert [finalist["val_score"] for finalist in finalists] == sorted(of_entry["val_score"].dropna())[:-3:-1]
        assert entry["best"]["mean_val_score"] == max(finalist["mean_val_score"] for finalist in finalists)
        assert entry["best"]["val_score"] in of_entry["val_score"].to_list()
        assert entry["default"]["val_score"] == of_entry["val_score"].iloc[0]
    assert "| vgg_like | 3 trials | 3 |" in printed
    assert "the best of 2 finalists, mean of 2 seeds on val" in printed
    sizes = {run["spec"]["architecture"]: set() for run in runs}
    for run in runs:
        sizes[run["spec"]["architecture"]].add(run["cost"]["parameters"])
    assert all(len(found) == 1 for found in sizes.values()), "the parameter count does not change"


def test_again_it_does_nothing(tuned, bench, monkeypatch):
    out, _, arguments = tuned
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    before = {path: path.read_bytes() for path in [*out.glob("*/run.json"), out / "trials.csv", out / "best.toml"]}
    assert bench(*arguments).code == 0
    assert before == {path: path.read_bytes() for path in before}


def test_the_report_has_the_paired_difference_whatever_its_sign(tuned, monkeypatch):
    out, _, _ = tuned
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})  # not what is tested
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})  # not what is tested
    write_report(out, Sampling(resamples=300))
    with (out / "tuning.csv").open() as file:
        records = {record["entry"]: record for record in csv.DictReader(file)}
    with (out / "table.csv").open() as file:
        maps = {record["entry"]: float(record["map"]) for record in csv.DictReader(file)}
    texts = [(out / name).read_text().replace("$-$", "-") for name in ("table.md", "index.html")]
    compared = 0
    for name, record in records.items():
        assert record["budget"] == "3 trials"
        if not record["difference"]:
            assert (record["best"], record["verdict"]) == (name, "the default was the best")
            continue
        compared += 1
        assert record["best"] == f"{name}_best_of_3"
        difference = float(record["difference"])
        assert difference == pytest.approx(maps[record["best"]] - maps[name], abs=1e-9)
        assert float(record["low"]) < difference < float(record["high"])
        assert all(f"{difference:+.3f}" in text for text in texts)
        assert f"{difference:+.3f}".replace("0.", ".") in (out / "table_tuning.tex").read_text()
    assert compared
    assert all("the same budget (3 trials)" in text for text in texts)


def test_every_run_and_trial_is_tracked(tuned):
    from mlflow import MlflowClient

    from bench.tracking.sync import sync

    out, _, _ = tuned
    outcome = sync(out)
    client, record = MlflowClient(outcome.uri), trials(out)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "toy"]
    sent = {run.info.run_name: run for run in client.search_runs([experiment])}
    every = ResultsFolder(out).trials()
    finals = {f"search/{t['spec']['name']}/{t['retrains']}-s{t['spec']['seed']}" for t in every if "retrains" in t}
    assert len(finals) == 8
    assert finals <= sent.keys()
    assert len(sent) == 1 + len(record) + 8 + len(list(out.glob("*/run.json")))
    specs = {(t["spec"]["name"], t["number"]): t["spec"] for t in every if "retrains" not in t}
    assert len(specs) == len(record)
    for line in record.to_dict("records"):
        run = sent[f"search/{line['entry']}/{line['number']}"]
        assert run.data.tags["mlflow.parentRunId"] == sent["toy"].info.run_id
        assert run.info.status == {"complete": "FINISHED", "pruned": "KILLED"}[line["state"]]
        assert float(run.data.params["train.learning_rate"]) == pytest.approx(line["learning_rate"])
        assert run.data.params["config.drop_rate"] == json.dumps(
            specs[line["entry"], line["number"]]["config"]["drop_rate"]
        )
        points = client.get_metric_history(run.info.run_id, "val_score")
        assert len(points) == line["evaluations"]
        assert max(point.value for point in points) == line["best_seen"]
        assert run.data.tags["commit"]
    assert sync(out).sent == []


def test_figures_come_from_the_folder_alone_and_have_the_same_bytes(tuned, tmp_path):
    out, _, _ = tuned
    for name in ("search.json", "trials.csv", "trials.json"):
        shutil.copy(out / name, tmp_path)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from bench.reporting.figures.search import draw_search\nfrom bench.store import ResultsFolder\n"
        f"draw_search(ResultsFolder(Path({str(tmp_path)!r})))\nassert not {{'optuna', 'torch'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    names = [f"{name}.{suffix}" for name in FIGURES for suffix in ("svg", "png", "pdf")] + ["best_so_far.csv"]
    first = {name: (tmp_path / name).read_bytes() for name in names}
    assert set(FIGURES) <= set(draw_search(ResultsFolder(tmp_path))) <= {*FIGURES, "search_importance"}
    assert first == {name: (tmp_path / name).read_bytes() for name in names}


def test_the_exported_suite_loads_and_plans(tuned, packed):
    out, _, _ = tuned
    runs = plan(load_suite(str(out / "best.toml")), [packed], ResultsFolder(out))
    assert {run.spec.folder for run in runs} == {path.parent.name for path in out.glob("*/run.json")}
    assert {run.spec.seed for run in runs} == {100, 101}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", 3, "--hours", 1], "give only one of --trials, --steps and --hours"),
        (["--trials", 0], "--trials"),
        (["--steps", 0], "--steps"),
        (["--hours", -1], "hours=-1.0"),
        (["--storage", "nonsense"], "--storage nonsense: write postgresql://"),
        (["--storage", "postgresql://me:secret@127.0.0.1:1/nothing"], "me:***@127.0.0.1:1"),
        (["--storage", "mysql://me@127.0.0.1/nothing"], "no driver"),
        (["vgg_lik"], "did you mean 'vgg_like'"),
        (["--suite", "demo"], "has no [space]"),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_a_slip_on_the_command_line_is_one_line(suite, packed, tmp_path, bench, arguments, message):
    where = [] if "--suite" in arguments else ["--suite", suite]
    done = bench("search", *where, "--data", packed.folder, "--out", tmp_path / "out", *arguments)
    assert done.code == 2
    assert message in done.err
    assert "secret" not in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low = 1e-6, high = 1e-2", "low = 1e-2, high = 1e-6", "space.learning_rate"),
        ("low = 1e-6, high = 1e-2", "low = 0.0, high = 1e-2", "low must be above 0"),
        ("low = 1e-6, high = 1e-2", "low = 1e-6, high = 1e-4", "lacks transformer_small's default, 0.001"),
        ("choices = [2, 4, 8]", "choices = [2, 4.5]", "[space]: batch_size=4.5"),
        ("choices = [2, 4, 8]", "choices = []", "space.batch_size"),
        ("high = 0.5 }\nmixup", "high = 0.5, step = 0.1 }\nmixup", "space.drop_rate.step"),
        ("mixup =", "mixupp =", "[space] mixupp: neither a field of [train] nor of transformer_small"),
        (
            "mixup = { choices = [0.0, 0.5] }",
            "max_steps = { choices = [4, 8] }",
            "max_steps is the same for all trials",
        ),
        ("mixup = { choices = [0.0, 0.5] }", "depth = { choices = [2, 3] }", "another architecture"),
        ("high = 0.5 }\nmixup", "high = 5 }\nmixup", "[space] drop_rate=5.0: transformer_small does not run with it: "),
        ("low = 0.0, high = 0.5 }", "low = -1, high = 0.5 }", "[space] drop_rate=-1.0: "),
        ("{ low = 0.0, high = 0.5 }", "{ choices = [0.0, 1.5] }", "[space] drop_rate=1.5: "),
        ("{ low = 0.0, high = 0.5 }", "{ choices = [0.0, true] }", "[space]"),
        ("{ low = 0.0, high = 0.5 }", "{ choices = [0.0, '0.5'] }", "[space]"),
        ("{ low = 0.0, high = 0.5 }", "{ choices = [0.0, 0.5, 0.0] }", "0.0 is among the choices twice: leave one out"),
        ("low = 0.0, high = 0.5 }", "low = nan, high = 0.5 }", "space.drop_rate.low=nan"),
        ("low = 0.0, high = 0.5 }", "low = 0.5, high = 0.5 }", "low below high"),
        ("low = 0.0, high = 0.5 }", "low = true, high = 0.5 }", "space.drop_rate.low=True"),
        ("low = 0.0, high = 0.5 }", "low = 0.0, high = '0.5' }", "space.drop_rate.high='0.5'"),
        ("low = 0.0, high = 0.5 }", "low = 0.0, high = 0.5, log = 1 }", "space.drop_rate.log=1"),
        ("low = 0.0, high = 0.5 }", "low = -1e308, high = 1e308 }", "low below high"),
        ("choices = [2, 4, 8]", "low = 2, high = 8", "[space]: batch_size=2.0"),
        ("choices = [2, 4, 8]", "choices = [2, 4, true]", "batch_size=True"),
        ("mixup = { choices = [0.0, 0.5] }", 'loss = { choices = ["bce", "mse"] }', "[space] loss='mse': task"),
        ("mixup = { choices = [0.0, 0.5] }", "causal = { choices = [false, 1] }", "[space]"),
        ("mixup = { choices = [0.0, 0.5] }", "mixup = 0.5", "space.mixup"),
        ("mixup = { choices = [0.0, 0.5] }", "sample_rate = { choices = [8000, 16000] }", "sample_rate: follows from"),
        ("mixup = { choices = [0.0, 0.5] }", "num_classes = { choices = [3, 59] }", "num_classes: follows from the"),
        ("trials = 3", "trials = true", "budget.trials=True"),
        ("trials = 3", "trials = 3\nhours = 2.0", "give one of trials, steps and hours"),
        ("trials = 3", "trials = 3\nsteps = 9", "give one of trials, steps and hours"),
        ("finalists = 1", "finalists = 0", "budget.finalists=0"),
        ("finalists = 1\ntrials = 3", "finalist_seeds = 51\nhours = 1.0", "153 trainings would choose the winner"),
        ("[budget]\nfinalists = 1\ntrials = 3", "", "has no [budget]"),
    ],
)
def test_a_slip_in_the_space_is_one_line(suite, packed, tmp_path, bench, old, new, message):
    assert old in SUITE
    suite.write_text(SUITE.replace(old, new))
    done = bench("search", "transformer_small", "--suite", suite, "--data", packed.folder, "--out", tmp_path / "out")
    assert (done.code, message in done.err) == (2, True), done.err
    assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s3cr@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:s3/cr@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:s3 cr@host/db", "'postgresql://me:***@host/db'"),
        ("postgresql://me:s3#cr@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:s3'cr@host/db", "'postgresql://me:***@host/db'"),
        ("postgresql://me@host/db?password=s3 cr", "'postgresql://me@host/db?password=***'"),
        ("postgresql://me@host/db?sslmode=require&password=s3%20cr", None),
    ],
)
def test_a_password_is_not_put_on_record(url, shown, packed, monkeypatch):
    from bench.runner.provenance import provenance, python_call

    monkeypatch.setattr(sys, "argv", ["bench", "run", "--storage", url, "--seeds", "2"])
    command = provenance(make_spec(packed), searching.torch.device("cpu")).command
    assert ("s3" in command, "cr" in command.replace("bench", "")) == (False, False)
    if shown:
        assert command.replace("'", "") == f"bench run --storage {shown} --seeds 2".replace("'", "")
    monkeypatch.setattr(sys, "argv", ["notebook.py", f"--url={url}"])
    assert "s3" not in provenance(make_spec(packed), searching.torch.device("cpu")).command
    with python_call(Options.written("run", "tuned", {"storage": url})):
        command = provenance(make_spec(packed), searching.torch.device("cpu")).command
    assert command.startswith("bench.run('tuned', storage='postgresql://me")
    assert ("s3" in command, "cr@" in command) == (False, False)


def test_run_with_a_budget_needs_a_space(packed, tmp_path, bench):
    done = bench("run", "demo", "--data", packed.folder, "--trials", 3, "--out", tmp_path / "out")
    assert (done.code, "suite 'demo' has no [space]" in done.err) == (2, True)


def test_the_tuned_suite_that_comes_with_the_project_searches_all_architectures(packed, tmp_path):
    suite = load_suite("tuned")
    runs = plan(suite, [packed], ResultsFolder(tmp_path))
    found = searching.searches(runs, suite.space, suite.search_seed, {})
    assert [search.spec.name for search in found] == list(dict.fromkeys(run.spec.name for run in runs))
    assert len(found) == 8
    assert len({search.study for search in found}) == 8
    assert {tuple(search.default.items()) for search in found} == {tuple(found[0].default.items())}
    controlled = load_suite("controlled")
    assert (suite.train, suite.family) == (controlled.train, controlled.family)
    assert min(run.spec.seed for run in runs) == 100
