"""A search's database: where it is, whether this version can use it, and whether what it holds can be believed."""

import itertools
import math
import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import inspect
from sqlalchemy.engine import URL, create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bench.disk import machine_fault
from bench.errors import UserError, one_line
from bench.protocol.task import Metric
from bench.store.databases import sqlite_url
from bench.suites.space import Dimension

__all__ = ["check_trials", "does_not_answer", "open_database"]

_ATTEMPTS = 5
# seconds that SQLite waits for other workers, which may be writing
_PATIENCE = 60
_ANEW = "move it away to search anew, or name another --storage"
# a failed trial may have died before it had them
_WITH_PARAMS = (TrialState.COMPLETE, TrialState.PRUNED)
# words in the names of what a URL's query may hold
_SECRET = ("pass", "secret", "token", "key")


def open_database(
    place: str | Path, heartbeat: int, missed: int, do_again: Callable[[Study, FrozenTrial], None]
) -> RDBStorage:
    """Open a database of studies, a file or by its URL, and make what it lacks.

    Raises UserError if there is none, no driver, or if it is another program's, damaged, or another version's.

    Args:
        heartbeat: Seconds between two signs of life of a worker.
        missed: As many without which it is taken for dead.
        do_again: Is given the trial of a dead one.
    """
    # JournalStorage would have no heartbeat
    url = sqlite_url(place) if isinstance(place, Path) else _parsed(place)
    is_file = url.get_backend_name() == "sqlite"
    if is_file:
        _check_file(url)
    # others: a connection may have been dropped in the hours of a trial
    options = {"connect_args": {"timeout": _PATIENCE}} if is_file else {"pool_pre_ping": True}
    try:
        _refuse_other_tables(url, options)
        return _with_tables(url, engine_kwargs=options, heartbeat_interval=heartbeat, grace_period=missed * heartbeat,
                            heartbeat_stale_trial_callback=do_again)  # fmt: skip
    except UserError:
        raise
    except ImportError:
        raise UserError(f"--storage {url.drivername}: no driver for it; pip install -e .[postgres]") from None
    except Exception as error:  # a database that is not as Optuna left it has it raise nearly anything
        raise machine_fault(error, Path(_name(url))) or _not_as_expected(url, error) from None


def _with_tables(url: URL, **options: Any) -> RDBStorage:
    """Open a database and make the tables that it lacks; two workers that do so at once get in each other's way."""
    for attempt in itertools.count(1):
        try:
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                storage = RDBStorage(url.render_as_string(hide_password=False), **options)
            # Optuna makes an index only when it makes its table: a process that was killed between the two leaves a
            # database in which two studies may have one name
            for table in BaseModel.metadata.sorted_tables:
                for index in table.indexes:
                    index.create(storage.engine, checkfirst=True)
            return storage
        except (SQLAlchemyError, StorageInternalError):
            if attempt == _ATTEMPTS:
                raise
        time.sleep(0.2 * attempt)
    raise AssertionError("a count has no end")


def does_not_answer(storage: RDBStorage, error: Exception) -> UserError:
    """Return what to tell of a database that fails in the middle of a search."""
    name = _name(storage.engine.url)
    lost = f"{name} does not answer ({_reason(storage.engine.url, error)}); the same command resumes"
    return machine_fault(error, Path(name)) or UserError(lost)


def check_trials(
    storage: RDBStorage,
    study: str,
    space: Mapping[str, Dimension],
    recorded: Sequence[Mapping[str, Any]],
    metric: Metric,
) -> list[FrozenTrial]:
    """Return a study's trials, none if there is no such study, once all of them are what a search of this space leaves.

    Args:
        recorded: What trials.json says of earlier trials. Those of this study must be in the database: another one, or
            an emptied one, would begin the search anew and forget them.
        metric: What is searched for.

    Raises UserError if a trial is missing, says what no trial can, or other than its record.
    """
    name = _name(storage.engine.url)
    try:
        trials = _trials(storage, study, metric)
        wrong = next(filter(None, (_wrong(place, trial, space, metric) for place, trial in enumerate(trials))), "")
    except Exception as error:  # of values that are NULL, or rows that are gone, Optuna raises nearly anything
        if fault := machine_fault(error, Path(name)):
            raise fault from None
        wrong = f"{type(error).__name__}: {_reason(storage.engine.url, error)}".removesuffix(": ")
    if wrong:
        raise UserError(f"{name}: damaged ({study}: {wrong}); {_ANEW}")
    known = {trial.number: trial.value for trial in trials}
    recorded = [each for each in recorded if each.get("study") == study]
    lost = [each for each in recorded if each.get("number") not in known]
    if lost:
        has = f"lacks {len(lost)} trials of {study} that are on record in trials.json"
        fix = "name the --storage that holds them, or move trials.json and search.json away to search anew"
        raise UserError(f"{name}: {has}; {fix}")
    for each in recorded:
        number, score = each["number"], each.get("val_score")
        if score is not None and score != known[number]:
            differs = f"trial {number} of {study} scored {known[number]!r}, but trials.json has {score!r}"
            fix = "restore the two from one copy, or move trials.json and search.json away"
            raise UserError(f"{name}: {differs}; {fix}")
    return trials


def _trials(storage: RDBStorage, study: str, metric: Metric) -> list[FrozenTrial]:
    try:
        number = storage.get_study_id_from_name(study)
    except KeyError:
        return []
    directions = [direction.name.lower() for direction in storage.get_study_directions(number)]
    if len(directions) != 1:
        raise ValueError("without a direction")
    if directions != [wanted := "maximize" if metric.higher_is_better else "minimize"]:
        raise ValueError(f"its direction is {directions[0]}, not {wanted}")
    return sorted(storage.get_all_trials(number, deepcopy=False), key=lambda trial: trial.number)


def _wrong(place: int, trial: FrozenTrial, space: Mapping[str, Dimension], metric: Metric) -> str:
    """Return what is wrong with a study's trial at this place, of which none can be; '' for nothing."""
    if trial.number != place:
        return f"trial {place} is missing"
    found = _odd_value(trial, metric) or (_odd_params(trial, space) if trial.state in _WITH_PARAMS else "")
    return f"trial {place}: {found}" if found else ""


def _odd_value(trial: FrozenTrial, metric: Metric) -> str:
    for name in ("seconds", "steps"):
        spent = trial.user_attrs.get(name, 0)
        if not isinstance(spent, int | float) or not 0 <= spent < math.inf:
            return f"{name}={spent!r}"
    curve = list(trial.intermediate_values.values())
    if odd := [value for value in curve if not _is_finite(value)]:
        return f"a score of {odd[0]!r}"
    is_complete = trial.state == TrialState.COMPLETE
    if is_complete and not _is_finite(trial.value):
        return f"complete, with a score of {trial.value!r}"
    scores = [*curve, *([trial.value] if trial.value is not None and is_complete else [])]
    if odd := [value for value in scores if not metric.lowest <= value <= metric.highest]:
        return f"a score of {odd[0]!r}, not {metric.lowest:g} to {metric.highest:g}"
    # a trial scores what the best of its evaluations does
    if is_complete and curve and trial.value not in curve:
        return f"complete, with a score of {trial.value!r}, not one of its evaluations"
    return ""


def _odd_params(trial: FrozenTrial, space: Mapping[str, Dimension]) -> str:
    if different := sorted(trial.params.keys() ^ space.keys()):
        return f"{'without' if different[0] in space else 'with'} {different[0]}"
    outside = (f"{name}={value!r}" for name, value in trial.params.items() if not space[name].holds(value))
    return next((f"{text} lies outside of the space" for text in outside), "")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    # of a port that is none, and what it says may be part of a password
    except (ArgumentError, ValueError):
        # where a password may be, nothing of it is shown
        shown = "" if set(text) & set("@?=") else f" {text}"
        raise UserError(f"--storage{shown}: write postgresql://USER@HOST/DATABASE or sqlite:///FILE") from None
    if url.host and "@" in url.host:
        raise UserError("--storage: user name or password hold an @: write %40 for it, or keep it in PGPASSWORD")
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise UserError("--storage: a database in memory is lost with its process: write sqlite:///FILE")
        # else the file would be the one whose name ends there
        if "?" in text and not url.query:
            raise UserError(f"--storage {text}: a ? in a path is written %3F")
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url


def _check_file(url: URL) -> None:
    """Raise UserError if a file is no SQLite database, or a damaged one; one that is not there yet is good."""
    path = Path(str(url.database))
    # of a URI of SQLite's own, what it names is SQLite's to say
    if "uri" in url.query or not path.exists():
        return
    if not path.is_file():
        raise UserError(f"{path}: no file, and so no database; {_ANEW}")
    with path.open("rb") as file:
        begins = file.read(16)
    if begins not in (b"", b"SQLite format 3\0"):
        raise UserError(f"{path}: no SQLite database; {_ANEW}")
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
            ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        if fault := machine_fault(error, path):
            raise fault from None
        found = str(error)
    if found != "ok":
        raise UserError(f"{path}: damaged ({' '.join(str(found).split())}); {_ANEW}")


def _refuse_other_tables(url: URL, options: dict[str, Any]) -> None:
    """Raise UserError if a database is another program's: Optuna would write its tables beside those."""
    engine = create_engine(url, **options)
    try:
        tables = sorted(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if tables and not {"studies", "version_info"} & set(tables):
        raise UserError(f"{_name(url)}: holds what is no search's (tables {', '.join(tables[:3])}, ...); {_ANEW}")


def _not_as_expected(url: URL, error: Exception) -> UserError:
    """Return why a database can't be opened, and what helps."""
    if isinstance(error, ArgumentError):
        return UserError(f"--storage {url.drivername}: no database that is known; write postgresql:// or sqlite:///")
    text = str(error)
    # Optuna's words, of the version of its tables
    if isinstance(error, RuntimeError) and "table schema" in text:
        older = "storage upgrade" in text
        fix = "upgrade it (optuna storage upgrade --storage URL)" if older else "install that (pip install -U optuna)"
        made = f"made by {'an older' if older else 'a newer'} version of Optuna than this, {optuna.__version__}"
        return UserError(f"{_name(url)}: {made}: {fix}, or {_ANEW}")
    fix = f"; {_ANEW}" if url.get_backend_name() == "sqlite" else ""
    return UserError(f"{_name(url)}: {_reason(url, error)}{fix}")


def _name(url: URL) -> str:
    """Return what a database is called in messages: a file by its path, another by its URL, without passwords."""
    return str(url.database) if url.get_backend_name() == "sqlite" else f"--storage {_without_secrets(url)}"


def _without_secrets(url: URL) -> str:
    hidden = {name: "***" for name in url.query if any(word in name.lower() for word in _SECRET)}
    return url.update_query_dict(hidden).render_as_string().replace("=%2A%2A%2A", "=***")


def _reason(url: URL, error: Exception) -> str:
    """Return an error's words, in which no password of the URL shows."""
    # of Optuna's errors, what they were raised from: the database's own
    text = one_line(error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error)
    values = [url.query[name] for name in url.query if any(word in name.lower() for word in _SECRET)]
    for secret in (url.password, *values):
        if isinstance(secret, str) and secret:
            text = text.replace(secret, "***")
    return text[:300]
