"""Send to MLflow what a results folder holds and the server lacks."""

import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.data.dataset import Progress
from bench.errors import UserError, one_line
from bench.protocol.task import get_task
from bench.store import ResultsFolder
from bench.tracking.records import Record, read_records, readable_files

if TYPE_CHECKING:  # mlflow takes seconds to import, and reads the environment
    from bench.tracking.server import RemoteSuite

__all__ = ["SyncOutcome", "local_store", "sync", "without_password"]

_DEFAULTS = {
    # one attempt, and no long one: what is missing goes with the next sync, and a request that is repeated because
    # its answer was lost would do its work twice
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass
class SyncOutcome:
    uri: str
    # runs that the server lacked, and how many it has now
    sent: list[str] = field(default_factory=list)
    there: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def server(self) -> str:
        """The URI as it may be shown."""
        return without_password(self.uri)


def local_store(folder: Path) -> str:
    """Return the URI of a file beside the results folder: nothing to start."""
    return f"sqlite:///{folder.absolute().parent / 'mlflow.db'}"


def sync(folder: Path, uri: str | None = None, progress: Progress = lambda done, total: None) -> SyncOutcome:
    """Send a folder's runs, files and best model, each once; two at the same time take turns.

    Without `uri` to MLFLOW_TRACKING_URI, or else `local_store`. UserError if there are no runs, one is damaged, or the
    server does not take them; what was sent till then stays sent.
    """
    results = ResultsFolder(folder)
    # what is wrong with them is said before anything is written
    read_records(results)
    outcome = SyncOutcome(uri or os.environ.get("MLFLOW_TRACKING_URI") or local_store(folder))
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with results.lock("tracking"):
            _send_all(results, outcome, progress)
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        failed = f"{outcome.server}: tracking failed: {without_password(one_line(error))[:200]}"
        raise UserError(f"{failed}; `bench track sync {folder}` sends what is missing") from None
    return outcome


def without_password(text: str) -> str:
    """Return a text in whose URIs nothing stands before the host."""
    return re.sub("//[^/@ ]*@", "//", text)


def _send_all(results: ResultsFolder, outcome: SyncOutcome, progress: Progress) -> None:
    from mlflow import MlflowClient

    from bench.tracking.server import RemoteSuite

    folder, records, plan = results.path, read_records(results), results.plan()
    # a search writes its record before any run is planned
    search = None if results.plan_file.exists() else results.search()
    title = search["title"] if search else plan.title
    # without this a store in a file keeps artifacts in ./mlruns, wherever that is
    artifacts = folder.absolute().with_name("mlartifacts").as_uri() if outcome.uri == local_store(folder) else None
    remote = RemoteSuite(MlflowClient(outcome.uri), results.identity(), title, artifacts)
    for done, record in enumerate(records.values()):
        progress(done, len(records))
        if remote.send(record):
            outcome.sent.append(record.name)
        remote.send_files(remote.children[record.name], readable_files(record.folder.path) if record.folder else [])
    remote.send_files(remote.parent, readable_files(folder))
    remote.set_parent_status("RUNNING" if set(plan.planned) - records.keys() else "FINISHED")
    _send_best(remote, records, outcome)
    outcome.there = len(remote.children)


def _send_best(remote: "RemoteSuite", records: dict[str, Record], outcome: SyncOutcome) -> None:
    """Send the model of the run with the best score on val: eval selects nothing."""
    scored = [record for record in records.values() if "metrics" in record.content]
    if scored:
        best = min(scored, key=lambda record: get_task(record.spec["task"]).primary.key(record.content["val_score"]))
        uri = remote.model_of(best.name) or _send_model(remote, best, outcome)
        remote.set_parent_tags({"best_run": best.name, "best_model": uri})


def _send_model(remote: "RemoteSuite", best: Record, outcome: SyncOutcome) -> str:
    """Send a model; return its URI, or nothing where there is no such model to send."""
    with TemporaryDirectory() as temporary:
        try:
            # and with it the architectures, one of which may be broken
            from bench.tracking.model import save_model

            path, pickled = save_model(best, Path(temporary))
        except (UserError, OSError, ValueError, RuntimeError) as error:
            outcome.warnings.append(f"{best.name}: its model was not sent: {one_line(error)[:400]}")
            return ""
        if pickled:
            outcome.warnings.append(f"{best.name}: its model was pickled, since torch.export failed: {pickled}")
        return remote.send_model(best.name, path)
