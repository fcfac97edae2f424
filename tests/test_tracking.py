"""Tracking against what it is made for: a real MLflow server, killed, slow or absent, and the store in a file."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

import architectures
from architectures import _registry as registry
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.reporting.report import Sampling, write_report
from bench.store import ResultsFolder, RunRecord
from bench.store.record import Provenance
from bench.tracking.overview import read_overview
from bench.tracking.process import Tracker
from bench.tracking.records import read_records
from bench.tracking.sync import missing, sync
from tests.conftest import SMALL_SUITE, no_tables
from tests.test_page import browser  # noqa: F401

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # MLflow's and selenium's, of their own connections
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # MLflow's, of itself
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A real `mlflow server` with a database and artifacts in a folder."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        where = ["--artifacts-destination", self.folder / "artifacts", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *where],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self.folder,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.2)
        pytest.fail("mlflow server does not start")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(server):
    """Stands before the server; slow after `delay` seconds each, and gone after `left` requests."""

    class Proxy(BaseHTTPRequestHandler):
        delay, left = 0.0, 10**9

        def forward(self):
            time.sleep(Proxy.delay)
            Proxy.left -= 1
            if Proxy.left < 0:
                return  # no answer at all
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there = http.client.HTTPConnection("127.0.0.1", server.port)
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            there.request(self.command, self.path, body, headers)
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if Proxy.left == 0:
                return  # the server did it, and the client does not learn of it
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    listening.daemon_threads, listening.block_on_close = True, False
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    Proxy.uri = f"http://127.0.0.1:{listening.server_port}"
    yield Proxy
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def results(small_results, tmp_path):
    folder = tmp_path / "results" / "small"
    shutil.copytree(small_results, folder)
    return folder


def start_suite(packed, out, **environment):
    """`bench run` of two quick runs, tracked, in a process of its own."""
    out.parent.mkdir(parents=True)
    suite = out.with_suffix(".toml")
    suite.write_text(SMALL_SUITE)
    command = ["run", suite, "--only", "transformer_small", "--data", packed.folder, "--out", out]
    env = {name: value for name, value in os.environ.items() if name not in ("BENCH_TRACK", "MLFLOW_TRACKING_URI")}
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *command],
        env=env | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def tracked(packed, tmp_path_factory):
    """The results folder of a suite for whose tracking nothing was said."""
    folder = tmp_path_factory.mktemp("tracked") / "results" / "small"
    suite = start_suite(packed, folder)
    _, said = suite.communicate(timeout=300)
    assert suite.returncode == 0, said
    if "were not sent within 60 s" in said:  # on a machine that is too busy
        sync(folder)
    else:
        assert "warning" not in said
    return folder


def on_server(uri, folder):
    """The parent, and the children by name, of a results folder: those that are not deleted."""
    client = MlflowClient(uri)
    suite = json.loads((folder / "tracking.json").read_text())["suite"]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`bench.suite` = '{suite}'")
    (parent,) = [run for run in runs if run.data.tags["bench.run"] == "."]
    children = [run for run in runs if run is not parent]
    names = [run.data.tags["bench.run"] for run in children]
    assert len(names) == len(set(names)), "a run stands there twice"
    return parent, dict(zip(names, children, strict=True))


def assert_whole(uri, folder):
    """Every run that ended is there once, whole, and below the parent; the best one's model too."""
    client, records = MlflowClient(uri), read_records(ResultsFolder(folder))
    parent, children = on_server(uri, folder)
    assert children.keys() == records.keys()
    for name, record in records.items():
        run = children[name]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["bench.sent"] == record.digest
        assert run.data.params == record.params()
        failed = "traceback" in record.content
        assert run.info.status == ("FAILED" if failed else "FINISHED")
        sent = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert sent == ({"failed.json"} if failed else {"run.json", "history.csv"})
        if not failed:
            assert_history(client, run, folder / name)
    best = max((r for r in records.values() if "metrics" in r.content), key=lambda r: r.content["val_score"])
    query = f"source_run_id = '{children[best.name].info.run_id}'"
    (model,) = client.search_logged_models([parent.info.experiment_id], query)
    assert str(model.status) == "READY"
    assert parent.data.tags["best_run"] == best.name
    assert parent.data.tags["best_model"] == f"models:/{model.model_id}"


def assert_history(client, run, folder):
    for name, column in pd.read_csv(folder / "history.csv").set_index("step").items():
        found = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        assert found == column.to_dict()
    measured = json.loads((folder / "run.json").read_text())
    for name, value in measured["metrics"].items():
        assert run.data.metrics[f"eval.{name}"] == value
    assert run.data.metrics["cost.parameters"] == measured["cost"]["parameters"]
    assert run.data.metrics["best_val_score"] == measured["val_score"]
    assert run.data.metrics["floor.chance"] == measured["floors"]["chance"]


def test_a_suite_is_a_parent_and_every_run_its_child(tracked, bench):
    uri = f"sqlite:///{tracked.parent}/mlflow.db"
    assert_whole(uri, tracked)
    assert bench("track", "sync", tracked).out == f"{tracked}: 0 runs sent, 2 are there: {uri}\n"
    client, (parent, children) = MlflowClient(uri), on_server(uri, tracked)
    assert parent.info.run_name == client.get_experiment(parent.info.experiment_id).name == "small"
    assert parent.info.status == "FINISHED"
    report = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert report == {p.name for p in tracked.iterdir() if p.is_file()} - {"labels.npz", *tracking_files(tracked)}
    assert {"table.md", "table.csv", "report.tex", "index.html", "map_vs_parameters.png", "suite.json"} <= report
    for name, run in children.items():
        made = json.loads((tracked / name / "run.json").read_text())
        tags = run.data.tags
        assert tags["commit"] == tags["mlflow.source.git.commit"] == made["provenance"]["commit"]
        assert (tags["fingerprint"], tags["dataset"]) == (made["data"]["fingerprint"], made["data"]["dataset"])
        assert run.info.end_time - run.info.start_time == pytest.approx(1000 * made["cost"]["seconds"], abs=2)


def tracking_files(folder):
    # and locks, while a process still sends
    return {path.name for path in folder.iterdir() if path.name.startswith(("tracking.", "."))}


def test_settings_are_flat_and_keep_their_types(tracked):
    _, children = on_server(f"sqlite:///{tracked.parent}/mlflow.db", tracked)
    for name, run in children.items():
        spec, found = json.loads((tracked / name / "run.json").read_text())["spec"], run.data.params
        assert (found["architecture"], json.loads(found["seed"])) == (spec["architecture"], spec["seed"])
        for table, prefix in (("config", "config."), ("recipe", "train.")):
            assert {key for key in found if key.startswith(prefix)} == {f"{prefix}{key}" for key in spec[table]}
            for key, value in spec[table].items():
                text = found[f"{prefix}{key}"]
                assert (text if isinstance(value, str) else json.loads(text)) == value


def test_only_what_is_new_or_changed_is_sent_again(results):
    sync(results)
    uri = f"sqlite:///{results.parent}/mlflow.db"
    _, before = on_server(uri, results)
    (results / "suite.json").write_text(json.dumps({"title": "renamed", "planned": sorted(before)}))
    changed, failed = sorted(before)[:2]
    path = results / changed / "run.json"  # as if it had been run again
    values = json.loads(path.read_text())
    values["cost"]["seconds"] += 1
    path.write_text(json.dumps(values))
    values = json.loads((results / failed / "run.json").read_text())
    shutil.rmtree(results / failed)
    (results / failed).mkdir()
    record = {"spec": values["spec"], "error": "TrainingDiverged: the loss is nan", "traceback": "Traceback"}
    (results / failed / "failed.json").write_text(json.dumps(record))
    write_report(results, Sampling(resamples=100))
    shutil.copytree(results / max(before), results / "new")

    outcome = sync(results)
    assert (sorted(outcome.sent), outcome.there) == (sorted([changed, failed, "new"]), 5)
    assert_whole(uri, results)
    parent, after = on_server(uri, results)
    same = before.keys() - {changed, failed}
    assert {name for name in before if before[name].info.run_id == after[name].info.run_id} == same
    assert after[failed].data.tags["error"] == record["error"]
    assert "index.html" in {artifact.path for artifact in MlflowClient(uri).list_artifacts(parent.info.run_id)}
    assert sync(results).sent == []


def test_the_best_model_loads_and_predicts_what_the_run_does(tracked, tmp_path, monkeypatch):
    import mlflow

    parent, _ = on_server(f"sqlite:///{tracked.parent}/mlflow.db", tracked)
    best = parent.data.tags["best_run"]
    spec = json.loads((tracked / best / "run.json").read_text())["spec"]
    model = architectures.create(spec["architecture"], **spec["config"]).eval()
    model.load_state_dict(load_file(tracked / best / "model.safetensors"))
    waves = torch.rand(3, packed_rate := spec["config"]["sample_rate"], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(waves)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked.parent}/mlflow.db")
    loaded = mlflow.pytorch.load_model(parent.data.tags["best_model"])
    with torch.no_grad():
        torch.testing.assert_close(loaded(waves), expected, rtol=0, atol=1e-5)

    model_id = parent.data.tags["best_model"].removeprefix("models:/")
    path = tracked.parent / "mlartifacts" / "models" / model_id / "artifacts"
    assert (path / "data" / "model.pt2").is_file()
    about = mlflow.models.Model.load(path)
    assert about.signature.inputs.inputs[0].shape == (-1, packed_rate)
    assert about.signature.outputs.inputs[0].shape == (-1, spec["config"]["num_classes"])
    assert about.load_input_example(str(path)).shape == (2, packed_rate)
    (tmp_path / "in.json").write_text(json.dumps({"inputs": waves.tolist()}))
    command = ["models", "predict", "--env-manager", "local", "-m", path, "-i", tmp_path / "in.json"]
    subprocess.run(
        [sys.executable, "-m", "mlflow", *command, "-o", tmp_path / "out.json"],
        check=True,
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )
    predicted = json.loads((tmp_path / "out.json").read_text())["predictions"]
    np.testing.assert_allclose(predicted, expected.numpy(), rtol=0, atol=1e-5)


def record_of(folder, architecture, model):
    """A run folder with these weights, as far as its model is concerned."""
    spec = RunSpec(
        name=architecture,
        architecture=architecture,
        config={"sample_rate": 16_000, "num_classes": 59},
        recipe=Recipe(loss="bce", max_steps=1),
        seed=0,
        pack="0",
    )
    made = Provenance(
        commit=None,
        dirty=False,
        source={},
        command="bench run",
        date="2026-01-01T00:00:00+00:00",
        versions={},
        device="",
    )
    record = RunRecord(
        spec=spec, hash=spec.hash, family="hybrid", metrics={"map": 0.5}, untrained={}, val_score=0.5, best_step=1,
        steps=1, data={"dataset": ""}, provenance=made,
        cost={"parameters": 1, "train_seconds": 1.0, "samples_per_second": 1.0, "seconds": 1.0},
    )  # fmt: skip
    run = ResultsFolder(folder).run(spec)
    run.path.mkdir(parents=True)
    run.record_file.write_text(record.model_dump_json())
    save_file({name: w.contiguous() for name, w in model.state_dict().items()}, run.weights_file)
    return read_records(ResultsFolder(folder))[run.name]


@pytest.mark.parametrize("name", ["crnn", "resnet18", "transformer_multiscale"])
def test_an_architecture_becomes_a_graph_for_any_number_of_chunks(name, tmp_path):
    """One each with a recurrence, of timm, and with a cache; the small suite has the other kinds."""
    import mlflow

    from bench.tracking.model import save_model

    model = architectures.create(name, sample_rate=16_000, num_classes=59).eval()
    path, pickled = save_model(record_of(tmp_path / "results", name, model), tmp_path)
    assert pickled is None
    loaded = mlflow.pytorch.load_model(path)
    for chunks in (1, 5):
        waves = torch.rand(chunks, 16_000)
        with torch.no_grad():
            torch.testing.assert_close(loaded(waves), model(waves), rtol=0, atol=1e-5)


class Stubborn(torch.nn.Module):
    """What torch.export refuses: the way depends on the values."""

    def __init__(self, config):
        super().__init__()
        self.head = torch.nn.Linear(config.sample_rate, config.num_classes)

    def forward(self, x):
        return self.head(x) if x.mean() > 0 else self.head(-x)


def test_what_cannot_be_exported_is_pickled_and_says_so(tmp_path, monkeypatch):
    import mlflow

    config = registry.ArchitectureConfig()
    monkeypatch.setitem(
        registry._architectures, "stubborn", registry.Architecture("stubborn", "hybrid", config, Stubborn)
    )
    model = architectures.create("stubborn", num_classes=59).eval()
    results = tmp_path / "results" / "mine"
    record = record_of(results, "stubborn", model)
    (warning,) = sync(results).warnings
    assert warning.startswith(f"{record.name}: its model was pickled, since torch.export failed: ")
    (path,) = results.parent.glob("mlartifacts/models/*/artifacts")
    waves = torch.rand(3, 16_000)
    torch.testing.assert_close(mlflow.pytorch.load_model(path)(waves), model(waves))


def test_a_run_without_weights_is_sent_without_a_model(results):
    """A clone has none: git does not keep them."""
    for path in results.glob("*/model.safetensors"):
        path.unlink()
    outcome = sync(results)
    assert len(outcome.sent) == 4
    assert "its model was not sent" in outcome.warnings[0]
    parent, _ = on_server(outcome.uri, results)
    assert parent.data.tags["best_model"] == ""


def test_no_answer_is_left_to_be_sent_twice(results, proxy, server):
    """The server dies after every so many requests, and each time does the last one without an answer."""
    failures = []
    for requests in range(1, 40, 3):
        proxy.left = requests
        try:
            sync(results, proxy.uri)
        except UserError as error:
            failures.append(str(error))
    assert len(failures) > 4
    for line in failures:
        assert line.startswith(f"{proxy.uri}: tracking failed: ")
        assert line.endswith(f"; `bench track sync {results}` sends what is missing")
        assert "\n" not in line
    sync(results, server.uri)
    assert_whole(server.uri, results)
    assert sync(results, server.uri).sent == []


def results_of(out):
    runs = (json.loads(path.read_text()) for path in sorted(out.glob("*/run.json")))
    return {run["hash"]: (run["metrics"], run["val_score"]) for run in runs}


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_run(results, packed, tmp_path, server, tracked):
    """SIGKILL while one suite trains and another is being sent: nothing is lost, and nothing comes twice."""
    out, client = tmp_path / "killed" / "out", MlflowClient(server.uri)
    suite = start_suite(packed, out, MLFLOW_TRACKING_URI=server.uri)
    wait_for(lambda: list(out.glob("transformer_small-*")))
    suite.send_signal(signal.SIGSTOP)  # in its first run, however quick that is
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(sync, results, server.uri)
        wait_for(lambda: (results / "tracking.json").exists())
        query = f"tags.`bench.suite` = '{ResultsFolder(results).identity()}' and tags.`bench.run` != '.'"
        wait_for(lambda: client.search_runs([e.experiment_id for e in client.search_experiments()], query))
        server.kill()
        assert "tracking failed" in str(sending.exception())
    assert results_of(out) == {}
    suite.send_signal(signal.SIGCONT)
    _, said = suite.communicate(timeout=300)
    assert suite.returncode == 0, said
    (warning,) = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert f"; `bench track sync {out}` sends" in warning
    assert results_of(out) == results_of(tracked)

    server.start()
    for folder in (out, results):
        assert sync(folder, server.uri).sent
        assert_whole(server.uri, folder)
        assert sync(folder, server.uri).sent == []


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_without_a_server_a_sync_is_one_line(bench, results, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{(port := free_port())}")
    done = bench("track", "sync", results)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith(f"bench: error: http://me:***@127.0.0.1:{port}: tracking failed: ")
    assert "secret" not in done.err


def test_a_suite_is_not_tracked_with_no_track(bench, small_suite, packed, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_TRACK", "1")
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    command = ("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out", "--only", "transformer_small")
    done = bench(*command, "--seeds", 1, "--no-track")
    assert (done.code, "tracking" in done.err) == (0, False)
    assert {path.name for path in [*tmp_path.rglob("tracking.*"), *tmp_path.rglob("mlflow.db")]} == set()


def test_a_slow_server_costs_a_bounded_wait_at_the_end_alone(results, proxy, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    proxy.delay = 5.0
    started = time.monotonic()
    with Tracker(results) as tracker:
        for _ in range(3):  # runs that end while the first is being sent
            tracker.news()
        assert time.monotonic() - started < 1
        sender = tracker.sender.process.pid
        assert os.getpriority(os.PRIO_PROCESS, sender) == 19
        assert os.getsid(sender) == os.getsid(0), "between sessions priorities count for nothing"
        assert os.getpgid(sender) != os.getpgid(0), "Ctrl-C would reach it"
        (line,) = tracker.finish(3)
        assert os.getpriority(os.PRIO_PROCESS, sender) == 0, "nothing trains any more"
    assert time.monotonic() - started < 6
    goes_on = f"a process of its own goes on, which tells {results}/tracking.log if it fails"
    again = f"`bench track sync {results}` waits for it, and sends the rest"
    assert line == f"4 of 4 runs were not sent within 3 s: {goes_on}; {again}"
    # which it does, and nothing comes twice
    proxy.delay = 0.0
    sync(results, proxy.uri)
    wait_for(lambda: not (results / ".tracking.lock").exists())
    assert_whole(proxy.uri, results)


def test_a_sender_ends_by_itself(results, proxy, monkeypatch):
    """A command that ends at once, before anything has arrived, and all arrives."""
    for path in results.glob("vgg_like-*"):
        shutil.rmtree(path)
    code = (
        "import sys; from pathlib import Path; from bench.tracking.process import Tracker\n"
        "with Tracker(Path(sys.argv[1])) as tracker: print(*tracker.finish(0))"
    )
    env = os.environ | {"MLFLOW_TRACKING_URI": proxy.uri}
    done = subprocess.run(
        [sys.executable, "-c", code, results], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("2 of 2 runs were not sent within 0 s: a process of its own goes on")
    wait_for(lambda: is_there(proxy.uri, results, 2))
    wait_for(lambda: not (results / "tracking.log").exists())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    assert missing(results) == (0, 2)
    assert sync(results, proxy.uri).sent == []
    assert_whole(proxy.uri, results)


def is_there(uri, folder, count):
    if not (folder / "tracking.json").exists():
        return False
    client, suite = MlflowClient(uri), json.loads((folder / "tracking.json").read_text())["suite"]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`bench.suite` = '{suite}' and tags.`bench.run` = '.'"
    return any("best_model" in run.data.tags for run in client.search_runs(experiments, query)) and count


@pytest.fixture
def light(results):
    """Two runs without their weights, so that no model is exported."""
    for path in results.glob("vgg_like-*"):
        shutil.rmtree(path)
    for path in results.glob("*/model.safetensors"):
        path.unlink()
    return results


def said_of(outcome):
    return [line for line in outcome.warnings if "its model was not sent" not in line]


def experiment_of(uri, folder):
    return MlflowClient(uri).get_experiment(on_server(uri, folder)[0].info.experiment_id).name


def test_an_experiment_that_was_deleted_shuts_no_suite_out(light):
    uri = sync(light).uri
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("small").experiment_id)
    shutil.copytree(light, other := light.with_name("other"), ignore=shutil.ignore_patterns("tracking.*"))
    for folder in (light, other):
        outcome = sync(folder)
        assert said_of(outcome) == [
            f"{folder}: experiment 'small' was deleted in MLflow: the results are in 'small (2)'; "
            "`mlflow experiments restore` brings the old one back"
        ]
        assert (len(outcome.sent), experiment_of(uri, folder)) == (2, "small (2)")
        again = sync(folder)
        assert (again.sent, said_of(again)) == ([], [])
    assert client.get_experiment_by_name("small").lifecycle_stage == "deleted", "what the user did stays done"


def test_children_of_a_parent_that_was_deleted_get_another(light):
    uri = sync(light).uri
    client, (parent, before) = MlflowClient(uri), on_server(uri, light)
    client.delete_run(parent.info.run_id)
    plan = json.loads((light / "suite.json").read_text())
    (light / "suite.json").write_text(json.dumps(plan | {"title": "renamed"}))
    assert sync(light).sent == []
    second, after = on_server(uri, light)
    assert second.info.run_id != parent.info.run_id
    assert second.info.experiment_id == parent.info.experiment_id, "a page shows no children of another experiment"
    assert {run.info.run_id for run in after.values()} == {run.info.run_id for run in before.values()}
    assert {run.data.tags["mlflow.parentRunId"] for run in after.values()} == {second.info.run_id}
    client.restore_run(parent.info.run_id)
    sync(light)
    only, after = on_server(uri, light)
    assert {run.data.tags["mlflow.parentRunId"] for run in after.values()} == {only.info.run_id}
    child = min(after)
    client.delete_run(after[child].info.run_id)
    assert sync(light).sent == [child]


def test_an_experiment_may_be_named_as_for_any_user_of_mlflow(light, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    outcome = sync(light)
    assert (experiment_of(outcome.uri, light), said_of(outcome)) == ("mine", [])
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    outcome = sync(light)
    assert (outcome.sent, experiment_of(outcome.uri, light)) == ([], "mine")
    assert said_of(outcome) == [f"{light}: stays in experiment 'mine'; delete it there to have it sent to 'other'"]
    client = MlflowClient(outcome.uri)
    client.delete_experiment(client.get_experiment_by_name("mine").experiment_id)
    assert (said_of(sync(light)), experiment_of(outcome.uri, light)) == ([], "other")


def test_the_parent_holds_the_report_and_the_scores_of_all_systems(light):
    """In one look: metrics by system, tables as its description, where they are from; and the report's files."""
    (light / "table.md").write_text("# small\n\n## Scores\n\n| transformer_small |\n")
    for name in ("index.html", "table.csv", "table_scores.tex", "map_vs_parameters.png"):
        (light / name).write_text(name)
    uri = sync(light).uri
    client, (parent, children) = MlflowClient(uri), on_server(uri, light)
    assert len({name.rsplit("-s", 1)[0] for name in children}) == 1
    seeds = [run.data.metrics for run in children.values()]
    assert parent.data.metrics == {
        f"{metric.name}/transformer_small": pytest.approx(sum(run[f"eval.{metric.name}"] for run in seeds) / 2)
        for metric in get_task("tagging").metrics
    }
    tags, made = parent.data.tags, next(iter(children.values())).data.tags
    assert (tags["title"], tags["systems"], tags["seeds"], tags["task"]) == ("small", "1", "2", "tagging")
    assert [tags[name] for name in ("dataset", "fingerprint")] == [made[name] for name in ("dataset", "fingerprint")]
    assert tags["commit"] == tags["mlflow.source.git.commit"] == made["commit"]
    assert tags["mlflow.note.content"] == "## Scores\n\n| transformer_small |"
    files = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert {"index.html", "table.md", "table.csv", "table_scores.tex", "map_vs_parameters.png"} <= files


def test_a_new_report_takes_the_place_of_the_old_one(light):
    """Scores are not doubled, figures that are no longer drawn go, and what a user put there stays."""
    (light / "table.md").write_text("# small\n\nas it was\n")
    (light / "gone.png").write_bytes(b"a figure of an earlier report")
    uri = sync(light).uri
    client, parent = MlflowClient(uri), on_server(uri, light)[0].info.run_id
    client.log_text(parent, "mine", "notes.txt")
    (light / "gone.png").unlink()
    (light / "table.md").write_text("# small\n\nas it is\n")
    (first, _) = sorted(light.glob("transformer_small-*"))
    record = json.loads((first / "run.json").read_text())
    record["metrics"]["map"] = 0.5
    (first / "run.json").write_text(json.dumps(record))
    for _ in range(2):
        assert said_of(sync(light)) == []
    run, children = on_server(uri, light)
    files = {artifact.path for artifact in client.list_artifacts(parent)}
    assert (run.info.run_id, "gone.png" in files, "notes.txt" in files) == (parent, False, True)
    assert run.data.tags["mlflow.note.content"] == "as it is"
    name = "map/transformer_small"
    assert run.data.metrics[name] == np.mean([run.data.metrics["eval.map"] for run in children.values()])
    assert len(client.get_metric_history(parent, name)) == 2
    assert len(client.get_metric_history(parent, "lwlrap/transformer_small")) == 1
    client.set_tag(parent, "mlflow.note.content", "my own words")
    (light / "table.md").write_text("# small\n\nas it will be\n")
    sync(light)
    assert on_server(uri, light)[0].data.tags["mlflow.note.content"] == "my own words"


def test_a_parent_without_a_report_has_the_scores_that_there_are(light):
    (light / "labels.npz").unlink()
    found = read_overview(ResultsFolder(light))
    assert set(found.scores) == {f"{metric.name}/transformer_small" for metric in get_task("tagging").metrics}
    assert (found.description, found.tags["data"]) == ("", found.tags["dataset"][:16])
    ResultsFolder(light).add_to_plan("small", [], sources={found.tags["dataset"]: "birds"})
    assert read_overview(ResultsFolder(light)).tags["data"] == "birds"


def test_names_of_systems_are_those_that_mlflow_takes(light):
    """Of two that become one the second is numbered; a long description ends with a section, and says so."""
    for path, name in zip(sorted(light.glob("*/run.json")), ("a,b=[1]", "a;b=[1]"), strict=True):
        record = json.loads(path.read_text())
        record["spec"]["name"] = name
        path.write_text(json.dumps(record))
    lines = "\n".join(f"| {number:9} |" for number in range(300))
    (light / "table.md").write_text(f"# small\n\n## Scores\n\n{lines}\n\n## Cost\n\n{lines}\n")
    found = read_overview(ResultsFolder(light))
    assert [name for name in found.scores if name.startswith("map/")] == ["map/a_b__1_", "map/a_b__1_ 2"]
    assert "## Cost" not in found.description
    assert found.description.splitlines()[-3:-1] == ["|       299 |", ""]
    assert found.description.endswith("has all of it)")
    run, _ = on_server(sync(light).uri, light)
    assert set(run.data.metrics) == set(found.scores)
    (light / "table.md").write_text(f"# small\n\n## Scores\n\n{lines}{lines}\n")
    assert len(read_overview(ResultsFolder(light)).description) <= 5000


def test_a_model_that_was_deleted_is_sent_again(results):
    uri = sync(results).uri
    client, (parent, _) = MlflowClient(uri), on_server(uri, results)
    client.delete_logged_model(parent.data.tags["best_model"].removeprefix("models:/"))
    assert sync(results).sent == []
    assert_whole(uri, results)


@pytest.mark.parametrize("name", ["a?b&c=ä%20d #e;f{g}"])
def test_everything_lies_beside_the_folder_whatever_that_is_called(name, light, tmp_path):
    folder = tmp_path / "of" / name / "small"
    shutil.copytree(light, folder)
    shutil.copytree(light, other := tmp_path / "of" / f"{name}2" / "small")
    for each in (folder, other):
        outcome = sync(each)
        assert len(outcome.sent) == 2
        _, children = on_server(outcome.uri, each)
        for run in children.values():
            assert (each.parent / "mlartifacts" / run.info.run_id / "artifacts" / "run.json").is_file()
    for each in (folder.parent, other.parent):
        assert sorted(path.name for path in each.iterdir()) == ["mlartifacts", "mlflow.db", "small"]
    assert len(list((tmp_path / "of").iterdir())) == 2


@pytest.mark.parametrize(
    "uri", ["http://me:s3/cr@127.0.0.1:1", "http://me:s3 cr@127.0.0.1:1", "http://[::1", "http://me:s3#cr@h:1"]
)
def test_a_uri_that_is_none_is_one_line_without_its_password(uri, bench, light, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    done = bench("track", "sync", light)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "s3" not in done.err
    assert "cr@" not in done.err


def break_version(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("update alembic_version set version_num = 'ffffffffffff'")
        database.commit()


@pytest.mark.parametrize("harm", [lambda path: path.write_text("not a database" * 99), break_version])
def test_a_store_that_cannot_be_used_is_one_line(harm, bench, light):
    sync(light)
    # elsewhere, since MLflow remembers that a store was good
    folder = Path(shutil.copytree(light.parent, light.parent.with_name("copy"))) / light.name
    harm(folder.parent / "mlflow.db")
    done = bench("track", "sync", folder)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert done.err.startswith(f"bench: error: sqlite:///{folder.parent}/mlflow.db: tracking failed: ")


def test_two_at_the_same_time_take_turns(results, server):
    command = [sys.executable, "-m", "bench", "track", "sync", results]
    env = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    other = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    wait_for((results / "tracking.json").exists)
    outcome = sync(results, server.uri)
    said, _ = other.communicate(timeout=200)
    assert (other.returncode, said.split(": ")[1]) == (0, "4 runs sent, 4 are there")
    assert (outcome.sent, outcome.there) == ([], 4)
    assert_whole(server.uri, results)


def test_no_results_is_one_line(bench, tmp_path):
    done = bench("track", "sync", tmp_path)
    assert (done.code, done.err) == (2, f"bench: error: {tmp_path}: no run in it; `bench run` makes them\n")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_text('{"spec": {}}')
    done = bench("track", "sync", tmp_path)
    assert (done.code, f"{tmp_path}/x/run.json: damaged" in done.err) == (2, True)


def test_the_servers_page_shows_the_suite(results, server, browser):  # noqa: F811
    (results / "suite.json").write_text(json.dumps({"title": "on a page of its own", "planned": []}))
    sync(results, server.uri)
    parent, children = on_server(server.uri, results)
    browser.set_window_size(1600, 1000)
    browser.get(f"{server.uri}/#/experiments/{parent.info.experiment_id}/runs")
    assert shown_runs(browser, 1) == {"on a page of its own"}
    browser.find_element("css selector", f".ag-row[row-id='{parent.info.run_id}'] button").click()
    assert shown_runs(browser, 5) == {"on a page of its own", *children}


def shown_runs(browser, count):  # noqa: F811
    """The names in the page's table, once it has so many."""
    deadline, names = time.monotonic() + 60, set()
    while len(names) < count and time.monotonic() < deadline:
        time.sleep(0.2)
        names = {link.text for link in browser.find_elements("css selector", ".ag-row a[href*='/runs/']")}
    return names
