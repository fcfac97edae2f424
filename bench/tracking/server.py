"""What is asked of a tracking server, and the one rule by which nothing stands there twice.

Every run that is sent gets the tag `bench.sent` last, with the digest of what it was made from. A run without it was
being sent when the server, or the process that sent it, died: it is deleted, and sent anew.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import (
    Experiment,
    LifecycleStage,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils import get_results_from_paginated_fn
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from bench.tracking.overview import Overview
from bench.tracking.records import Record

SUITE, NAME, SENT, FILES, MODEL = "bench.suite", "bench.run", "bench.sent", "bench.files", "bench.model"
# of a parent: the names of the files that were sent, and the digest of the description, which a user may have changed
FILE_NAMES, NOTE = "bench.file_names", "bench.note"
# the name of the results folder itself
PARENT = "."
# MLflow takes no more than 1000 metrics at once
BATCH = 500


class RemoteSuite:
    """A results folder as a server knows it: a parent run, and its children by name.

    Of a folder that it doesn't know yet: `title`, the name of the `experiment` that it goes to ('': its title), and
    `artifacts`, a place for files, or None for the server's. `warnings` are for the user.
    """

    def __init__(
        self, client: MlflowClient, suite: str, title: str, *, experiment: str = "", artifacts: str | None = None
    ) -> None:
        self.client, self.suite, self.title = client, suite, title
        self.warnings: list[str] = []
        self.children = self._sent_whole()
        parent = self.children.pop(PARENT, None)
        self.parent = parent or self._send_parent(experiment or title, artifacts)
        self.experiment = self.parent.info.experiment_id
        self._adopt()
        # the digests of what was sent, by name
        self.sent = {name: run.data.tags[SENT] for name, run in self.children.items()}
        # a suite that was given another title or experiment since stays where it is
        if experiment and (now := client.get_experiment(self.experiment).name) not in _names_of(experiment):
            self.warnings.append(f"stays in experiment {now!r}; delete it there to have it sent to {experiment!r}")

    def _sent_whole(self) -> dict[str, Run]:
        """Return what was sent of this suite, by name; what was sent by half, or twice, is deleted."""
        experiments = [experiment.experiment_id for experiment in _all(self.client.search_experiments)]
        whole: dict[str, Run] = {}
        # without experiments a server is asked of all
        query = partial(self.client.search_runs, experiments, f"tags.`{SUITE}` = '{self.suite}'")
        # the newest first; an older one of the same name had been deleted by hand, and restored
        for run in _all(query) if experiments else []:
            name = run.data.tags.get(NAME)
            if name and SENT in run.data.tags and name not in whole:
                whole[name] = run
            else:
                self._delete(run)
        return whole

    def _send_parent(self, experiment: str, artifacts: str | None) -> Run:
        # where its children are, if it was deleted by hand
        there = Counter(run.info.experiment_id for run in self.children.values()).most_common(1)
        place = there[0][0] if there else self._experiment(experiment, artifacts)
        run = self.client.create_run(place, run_name=self.title, tags={SUITE: self.suite, NAME: PARENT})
        self.client.set_tag(run.info.run_id, SENT, self.suite)
        return run

    def _experiment(self, name: str, artifacts: str | None) -> str:
        """Return an experiment of this name, or of the next one where it was deleted: then it takes no runs."""
        for called in _names_of(name):
            known = self.client.get_experiment_by_name(called) or self._new_experiment(called, artifacts)
            if known.lifecycle_stage == LifecycleStage.ACTIVE:
                break
        if called != name:
            fix = "`mlflow experiments restore` brings the old one back"
            self.warnings.append(f"experiment {name!r} was deleted in MLflow: the results are in {called!r}; {fix}")
        return str(known.experiment_id)

    def _new_experiment(self, name: str, artifacts: str | None) -> Experiment:
        try:
            self.client.create_experiment(name, artifacts)
        except MlflowException as error:
            # another suite of the same title was faster
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self.client.get_experiment_by_name(name)
        assert made is not None, "it was made just now"
        return made

    def _adopt(self) -> None:
        """Put the children below the parent, which is another one where theirs was deleted by hand."""
        for name, run in list(self.children.items()):
            if run.info.experiment_id != self.experiment:
                self._delete(self.children.pop(name))
            elif run.data.tags.get(MLFLOW_PARENT_RUN_ID) != self.parent.info.run_id:
                self.client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, self.parent.info.run_id)

    def has(self, record: Record) -> bool:
        """Return whether a run is there as it is now."""
        return self.sent.get(record.name) == record.digest

    def send(self, record: Record) -> bool:
        """Send a run unless it is there; return whether it was not. One run again takes the place of the other."""
        if self.has(record):
            return False
        if known := self.children.get(record.name):
            self._delete(known)
        tags = {SUITE: self.suite, NAME: record.name, MLFLOW_SOURCE_NAME: "bench", **record.tags()}
        tags[MLFLOW_PARENT_RUN_ID] = self.parent.info.run_id
        if "commit" in tags:
            tags[MLFLOW_GIT_COMMIT] = tags["commit"]
        run = self.client.create_run(self.experiment, _ms(record.started), tags, record.name)
        run_id = run.info.run_id
        self.client.log_batch(run_id, params=[Param(name, value) for name, value in record.params().items()])
        measured = record.points()
        self._log(run, [Metric(name, value, _ms(record.started + at), step) for name, value, step, at in measured])
        self.client.set_terminated(run_id, record.status, _ms(record.ended))
        self.client.set_tag(run_id, SENT, record.digest)
        self.children[record.name], self.sent[record.name] = run, record.digest
        return True

    def send_overview(self, overview: Overview) -> None:
        """Give the parent its scores, tags and description, of which only what has changed is sent.

        MLflow shows the latest of several values, and keeps those of systems that are gone.
        """
        now, known = _ms(time.time()), self.parent.data.metrics
        changed = [Metric(name, value, now, 0) for name, value in overview.scores.items() if known.get(name) != value]
        self._log(self.parent, changed)
        tags = {MLFLOW_SOURCE_NAME: "bench", **overview.tags}
        if "commit" in tags:
            tags[MLFLOW_GIT_COMMIT] = tags["commit"]
        written = self.parent.data.tags.get(MLFLOW_RUN_NOTE, "")
        # what a user has written there stays
        if overview.description and (not written or _digest(written) == self.parent.data.tags.get(NOTE)):
            tags |= {NOTE: _digest(overview.description), MLFLOW_RUN_NOTE: overview.description}
        self.set_parent_tags(tags)

    def _log(self, run: Run, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])

    def send_report(self, paths: Sequence[Path]) -> list[str]:
        """Send the files of the folder itself; return the names of an earlier report's that could not be deleted.

        What others have put beside them stays.
        """
        names = [path.name for path in paths]
        before = json.loads(self.parent.data.tags.get(FILE_NAMES, "[]"))
        # before they are sent, so that what was cut off is known, too
        self.set_parent_tags({FILE_NAMES: json.dumps(sorted({*before, *names}))})
        self.send_files(self.parent, paths)
        left = [name for name in before if name not in names and not self._delete_file(name)]
        self.set_parent_tags({FILE_NAMES: json.dumps(sorted({*left, *names}))})
        return left

    def _delete_file(self, name: str) -> bool:
        """Delete an artifact of the parent; return False where its store cannot."""
        store = get_artifact_repository(self.parent.info.artifact_uri, tracking_uri=self.client.tracking_uri)
        try:
            store.delete_artifacts(name)
        except (MlflowException, NotImplementedError):
            return False
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
        """Return a run's model's URI, if it was sent whole, and not deleted by hand since."""
        run = self.children[name]
        uri = run.data.tags.get(MODEL)
        return uri if uri in {f"models:/{model.model_id}" for model in self._models(run)} else None

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
        """Set tags, all at once: a description without its digest would be taken for a user's."""
        changed = {name: value for name, value in tags.items() if self.parent.data.tags.get(name) != value}
        if changed:
            self.client.log_batch(self.parent.info.run_id, tags=[RunTag(*tag) for tag in changed.items()])
            self.parent.data.tags.update(changed)

    def set_parent_status(self, status: str) -> None:
        if self.parent.info.status != status:
            change = self.client.update_run if status == "RUNNING" else self.client.set_terminated
            change(self.parent.info.run_id, status)

    def _delete(self, run: Run) -> None:
        self._delete_models(run)
        self.client.delete_run(run.info.run_id)

    def _delete_models(self, run: Run) -> None:
        for model in self._models(run):
            self.client.delete_logged_model(model.model_id)

    def _models(self, run: Run) -> list[LoggedModel]:
        query = f"source_run_id = '{run.info.run_id}'"
        return list(self.client.search_logged_models([run.info.experiment_id], query))


def _names_of(experiment: str) -> Iterator[str]:
    """Yield the names that an experiment may have: its own, and those for where it was deleted."""
    yield experiment
    # as many as anybody deletes
    yield from (f"{experiment} ({number})" for number in range(2, 1000))


def _all(search: Callable[..., Any]) -> list[Any]:
    # every page, before anything is changed
    return get_results_from_paginated_fn(lambda size, token: search(max_results=size, page_token=token), 1000)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
