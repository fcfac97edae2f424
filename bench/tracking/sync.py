"""Send to MLflow what a results folder holds and the server lacks."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from bench.errors import UserError, one_line
from bench.tracking.records import Record, identity, read_object, read_records, readable_files

if TYPE_CHECKING:  # mlflow takes seconds to import, and reads the environment
    from bench.tracking.server import RemoteSuite

DEFAULTS = {
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
    sent: list[str] = field(default_factory=list)  # runs that the server lacked
    there: int = 0  # runs that it has now
    warnings: list[str] = field(default_factory=list)

    @property
    def server(self) -> str:
        """The URI as it may be shown."""
        return without_password(self.uri)


def local_store(folder: Path) -> str:
    """A file beside the results folder: nothing to start."""
    return f"sqlite:///{folder.absolute().parent / 'mlflow.db'}"


def sync(
    folder: Path, uri: str | None = None, progress: Callable[[float, float], None] = lambda done, total: None
) -> SyncOutcome:
    """Send runs, files and best model, each once; two at the same time take turns.

    Args:
        folder: a results folder.
        uri: of the tracking server or store; None is MLFLOW_TRACKING_URI, or else `local_store`.

    Raises:
        UserError: no runs, a damaged one, or the server does not take them. What was sent till then stays sent.
    """
    read_records(folder)  # what is wrong with them is said before anything is written
    outcome = SyncOutcome(uri or os.environ.get("MLFLOW_TRACKING_URI") or local_store(folder))
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with FileLock(folder / "tracking.lock"):
            _send_all(folder, outcome, progress)
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        reason = without_password(one_line(error))[:200]
        raise UserError(
            f"{outcome.server}: tracking failed: {reason}; `bench track sync {folder}` sends what is missing"
        ) from None
    return outcome


def without_password(text: str) -> str:
    """URIs in a text without what stands before their host."""
    return re.sub("//[^/@ ]*@", "//", text)


def _send_all(folder: Path, outcome: SyncOutcome, progress: Callable[[float, float], None]) -> None:
    from mlflow import MlflowClient

    from bench.tracking.server import RemoteSuite

    records = read_records(folder)
    declared: dict[str, Any] = {}
    for name in ("search.json", "suite.json"):
        if (folder / name).exists():
            declared |= read_object(folder / name, "title")
    # without this a store in a file keeps artifacts in ./mlruns, wherever that is
    artifacts = folder.absolute().with_name("mlartifacts").as_uri() if outcome.uri == local_store(folder) else None
    remote = RemoteSuite(MlflowClient(outcome.uri), identity(folder), declared.get("title", folder.name), artifacts)
    for done, record in enumerate(records.values()):
        progress(done, len(records))
        if remote.send(record):
            outcome.sent.append(record.name)
        remote.send_files(remote.children[record.name], record.files)
    remote.send_files(remote.parent, readable_files(folder))
    unfinished = set(declared.get("planned", [])) - records.keys()
    remote.set_parent_status("RUNNING" if unfinished else "FINISHED")
    _send_best(remote, records, outcome)
    outcome.there = len(remote.children)


def _send_best(remote: "RemoteSuite", records: dict[str, Record], outcome: SyncOutcome) -> None:
    """The model of the run with the best mAP on val: eval selects nothing."""
    scored = [record for record in records.values() if "metrics" in record.content]
    if not scored:
        return
    best = max(scored, key=lambda record: record.content["val_map"])
    uri = remote.model_of(best.name) or _send_model(remote, best, outcome)
    remote.set_parent_tags({"best_run": best.name, "best_model": uri})


def _send_model(remote: "RemoteSuite", best: Record, outcome: SyncOutcome) -> str:
    """Returns its URI, or nothing where there is no such model to send."""
    with TemporaryDirectory() as temporary:
        try:
            from bench.tracking.model import save_model  # and with it the contestants, one of which may be broken

            path, pickled = save_model(best, Path(temporary))
        except (UserError, OSError, ValueError, RuntimeError) as error:
            outcome.warnings.append(f"{best.name}: its model was not sent: {one_line(error)[:200]}")
            return ""
        if pickled:
            outcome.warnings.append(f"{best.name}: its model was pickled, since torch.export failed: {pickled}")
        return remote.send_model(best.name, path)
