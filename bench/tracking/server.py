"""What is asked of a tracking server, and the one rule by which nothing stands there twice.

Every run that is sent gets the tag `bench.sent` last, with the digest of what it was made from. A run without it was
being sent when the server, or the process that sent it, died: it is deleted, and sent anew.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, Run
from mlflow.utils import get_results_from_paginated_fn
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME

from bench.tracking.records import Record

SUITE, NAME, SENT, FILES, MODEL = "bench.suite", "bench.run", "bench.sent", "bench.files", "bench.model"
# the name of the results folder itself
PARENT = "."
# MLflow takes no more than 1000 metrics at once
BATCH = 500


class RemoteSuite:
    """A results folder as a server knows it: a parent run, and its children by name.

    `title` and `artifacts` (a place for files, or None for the server's) are of a folder that it doesn't know yet.
    """

    def __init__(self, client: MlflowClient, suite: str, title: str, artifacts: str | None) -> None:
        self.client, self.suite = client, suite
        self.children = self._sent_whole()
        # a suite that was given another title since stays where it is
        self.parent = self.children.pop(PARENT) if PARENT in self.children else self._send_parent(title, artifacts)
        self.experiment = self.parent.info.experiment_id

    def _sent_whole(self) -> dict[str, Run]:
        """Return what was sent of this suite, by name; what was sent by half is deleted."""
        experiments = [experiment.experiment_id for experiment in _all(self.client.search_experiments)]
        whole = {}
        for run in _all(partial(self.client.search_runs, experiments, f"tags.`{SUITE}` = '{self.suite}'")):
            if SENT in run.data.tags:
                whole[run.data.tags[NAME]] = run
            else:
                self._delete(run)
        return whole

    def _send_parent(self, title: str, artifacts: str | None) -> Run:
        known = self.client.get_experiment_by_name(title)
        experiment = known.experiment_id if known else self.client.create_experiment(title, artifacts)
        run = self.client.create_run(experiment, run_name=title, tags={SUITE: self.suite, NAME: PARENT})
        self.client.set_tag(run.info.run_id, SENT, self.suite)
        return run

    def send(self, record: Record) -> bool:
        """Send a run unless it is there; return whether it was not. One run again takes the place of the other."""
        if known := self.children.get(record.name):
            if known.data.tags[SENT] == record.digest:
                return False
            self._delete(known)
        tags = {SUITE: self.suite, NAME: record.name, MLFLOW_SOURCE_NAME: "bench", **record.tags()}
        tags[MLFLOW_PARENT_RUN_ID] = self.parent.info.run_id
        if "commit" in tags:
            tags[MLFLOW_GIT_COMMIT] = tags["commit"]
        run = self.client.create_run(self.experiment, _ms(record.started), tags, record.name)
        run_id = run.info.run_id
        self.client.log_batch(run_id, params=[Param(name, value) for name, value in record.params().items()])
        metrics = [Metric(name, value, _ms(record.started + at), step) for name, value, step, at in record.points()]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        self.client.set_terminated(run_id, record.status, _ms(record.ended))
        self.client.set_tag(run_id, SENT, record.digest)
        self.children[record.name] = run
        return True

    def send_files(self, run: Run, paths: Sequence[Path]) -> None:
        """Send these files as the run's artifacts, if they are not what was sent last."""
        contents = (path.name.encode() + b"\0" + sha256(path.read_bytes()).digest() for path in paths)
        digest = sha256(b"".join(contents)).hexdigest()
        if run.data.tags.get(FILES) == digest:
            return
        for path in paths:
            self.client.log_artifact(run.info.run_id, str(path))
        self.client.set_tag(run.info.run_id, FILES, digest)

    def model_of(self, name: str) -> str | None:
        """Return a run's model's URI, if it was sent whole."""
        return self.children[name].data.tags.get(MODEL)

    def send_model(self, name: str, folder: Path) -> str:
        """Send a saved model as this run's; return its URI."""
        run = self.children[name]
        # an upload that was cut off
        self._delete_models(run)
        model = self.client.create_logged_model(self.experiment, "model", source_run_id=run.info.run_id)
        self.client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        uri = f"models:/{model.model_id}"
        self.client.set_tag(run.info.run_id, MODEL, uri)
        return uri

    def set_parent_tags(self, tags: dict[str, str]) -> None:
        for name, value in tags.items():
            if self.parent.data.tags.get(name) != value:
                self.client.set_tag(self.parent.info.run_id, name, value)

    def set_parent_status(self, status: str) -> None:
        if self.parent.info.status != status:
            change = self.client.update_run if status == "RUNNING" else self.client.set_terminated
            change(self.parent.info.run_id, status)

    def _delete(self, run: Run) -> None:
        self._delete_models(run)
        self.client.delete_run(run.info.run_id)

    def _delete_models(self, run: Run) -> None:
        query = f"source_run_id = '{run.info.run_id}'"
        for model in self.client.search_logged_models([run.info.experiment_id], query):
            self.client.delete_logged_model(model.model_id)


def _all(search: Callable[..., Any]) -> list[Any]:
    # every page, before anything is changed
    return get_results_from_paginated_fn(lambda size, token: search(max_results=size, page_token=token), 1000)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
