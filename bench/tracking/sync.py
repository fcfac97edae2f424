"""Send to MLflow what a results folder holds and the server lacks."""

import logging
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.data.dataset import Progress
from bench.disk import machine_fault, write_json
from bench.errors import UserError, one_line
from bench.protocol.task import get_task
from bench.store import ResultsFolder
from bench.store.databases import sqlite_url
from bench.store.files import read_json
from bench.text import hide_secrets
from bench.tracking.overview import read_overview
from bench.tracking.records import Record, has_records, read_records, readable_files

if TYPE_CHECKING:  # mlflow takes seconds to import, and reads the environment
    from bench.tracking.server import RemoteSuite

__all__ = ["SyncOutcome", "local_store", "missing", "sync", "tracking_uri"]

# as for any user of MLflow; without it the experiment is called as the suite's title
_EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
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
        return hide_secrets(self.uri)


def local_store(folder: Path) -> str:
    """Return the URI of a file beside the results folder: nothing to start.

    Beside the suite's, for results of a pre-training, which lie within these.
    """
    url = sqlite_url(_outer(folder).parent / "mlflow.db")
    # MLflow would make the folder that it reads in a URI, escapes and all, but for one that names the driver
    driver = "sqlite" if str(url) == f"sqlite:///{url.database}" else "sqlite+pysqlite"
    return str(url.set(drivername=driver))


def tracking_uri(folder: Path) -> str:
    """Return where a folder's results go: what MLFLOW_TRACKING_URI names, or else `local_store`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_store(folder)


def _outer(folder: Path) -> Path:
    """Return the folder of the suite's results, absolute: that one, or the one that it lies in."""
    folder = folder.absolute()
    return folder.parent if ResultsFolder(folder.parent).plan_file.is_file() else folder


def _parts(folder: Path) -> list[ResultsFolder]:
    """Return results, and those of pre-trainings within them, but for such as nothing has ended in."""
    results = ResultsFolder(folder)
    plans = sorted(folder.glob(f"*/{results.plan_file.name}")) if results.plan_file.is_file() else []
    inner = [ResultsFolder(plan.parent) for plan in plans]
    # of pre-trainings that were run alone there may be nothing else
    return [part for part in (results, *inner) if has_records(part)] or [results]


def missing(folder: Path) -> tuple[int, int]:
    """Return how many of a folder's runs and trials its server lacks, as far as is known here, and of how many.

    Those of pre-trainings, which lie within it, are counted with them.
    """
    left, total = zip(*(_missing(part, tracking_uri(folder)) for part in _parts(folder)), strict=True)
    return sum(left), sum(total)


def _missing(results: ResultsFolder, uri: str) -> tuple[int, int]:
    total = len(read_records(results))
    known = read_json(results.identity_file) if results.identity_file.is_file() else {}
    there = known.get("there") if known.get("server") == hide_secrets(uri) else 0
    return max(0, total - there) if isinstance(there, int) else total, total


def sync(folder: Path, uri: str | None = None, progress: Progress = lambda done, total: None) -> SyncOutcome:
    """Send a folder's runs, files and best model, each once; two at the same time take turns.

    Results of pre-trainings, which lie within it, go to the same place, after it. Without `uri` to MLFLOW_TRACKING_URI,
    or else `local_store`. UserError if there are no runs, one is damaged, or the server does not take them; what was
    sent till then stays sent.
    """
    parts = _parts(folder)
    # what is wrong with them is said before anything is written
    for part in parts:
        read_records(part)
    outcome = SyncOutcome(uri or tracking_uri(folder))
    _require_uri(outcome)
    # without this a store in a file keeps artifacts in ./mlruns, wherever that is
    artifacts = _outer(folder).with_name("mlartifacts").as_uri() if outcome.uri == local_store(folder) else None
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        for number, part in enumerate(parts):
            with part.lock("tracking"):
                _send_all(part, outcome, artifacts, partial(_share, progress, number, len(parts)))
    except (MlflowException, RequestException, SQLAlchemyError, CommandError) as error:
        if fault := machine_fault(error, Path(outcome.server.removeprefix("sqlite:///"))):
            raise fault from None
        failed = f"{outcome.server}: tracking failed: {one_line(error)[:200]}"
        raise UserError(f"{failed}; `bench track sync {folder}` sends what is missing") from None
    if not outcome.warnings:
        ResultsFolder(folder).tracking_log.unlink(missing_ok=True)
    return outcome


def _require_uri(outcome: SyncOutcome) -> None:
    """Raise UserError for what is no URI: MLflow would say so with its password, or make a folder of that name."""
    try:
        parts = urlsplit(outcome.uri)
        parts.port  # noqa: B018  (raises ValueError)
    except ValueError:
        reason = "no URI; write http://HOST:PORT, with %40 for an @ and %2F for a / in a password"
        raise UserError(f"MLFLOW_TRACKING_URI={outcome.server}: {reason}") from None


def _share(progress: Progress, number: int, parts: int, done: float, total: float) -> None:
    progress(number + done / total, parts)


def _send_all(results: ResultsFolder, outcome: SyncOutcome, artifacts: str | None, progress: Progress) -> None:
    from mlflow import MlflowClient

    from bench.tracking.server import RemoteSuite

    folder, records, plan = results.path, read_records(results), results.plan()
    # a search writes its record before any run is planned
    search = None if results.plan_file.exists() else results.search()
    title = search["title"] if search else plan.title
    client, suite = MlflowClient(outcome.uri), results.identity()
    remote = RemoteSuite(client, suite, title, experiment=os.environ.get(_EXPERIMENT, ""), artifacts=artifacts)
    outcome.warnings += [f"{folder}: {line}" for line in remote.warnings]

    def note() -> None:
        there = sum(remote.has(record) for record in records.values())
        write_json(results.identity_file, {"suite": suite, "server": outcome.server, "there": there})

    note()
    for done, record in enumerate(records.values()):
        progress(done, len(records))
        if remote.send(record):
            outcome.sent.append(record.name)
            note()
        remote.send_files(remote.children[record.name], readable_files(record.folder.path) if record.folder else [])
    remote.send_overview(read_overview(results))
    for name in remote.send_report(readable_files(folder)):
        outcome.warnings.append(f"{folder}: {name}, of an earlier report, stays in MLflow: its store deletes no files")
    remote.set_parent_status("RUNNING" if set(plan.planned) - records.keys() else "FINISHED")
    _send_best(remote, records, outcome)
    outcome.there += len(remote.children)


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
