"""A search's database lies in its folder, whatever that is called; what is not as a search left it is one line."""

import os
import re
import shutil
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from bench.errors import UserError
from bench.protocol.task import get_task
from bench.searching.database import check_trials
from bench.searching.study import Worker, open_storage
from bench.store.databases import sqlite_url
from bench.suites.space import Budget
from tests.test_search import SUITE, no_figures, suite, trials  # noqa: F401
from tests.test_study import SPACE, open_unflushed, study_in, work

NAMES = ["a?b", "a%20b", "a%b", "a#b", "a b", "a;b", "a{b}", "a&b=c", "a@b", "a:b", "?uri=true", "file:x", "ä犬", "%s"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database with a study of three trials."""
    folder = tmp_path_factory.mktemp("made")
    storage = open_unflushed(folder, 1)
    Worker(study_in(storage), storage, SPACE, Budget(trials=3)).run(work)
    close(storage)
    return folder / "search.db"


@pytest.fixture
def database(made, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copy(made, tmp_path / "search.db"))


def close(storage):
    storage.remove_session()
    storage.engine.dispose()


def checked(path, recorded=()):
    storage = open_storage(path, 1)
    try:
        return check_trials(storage, "study", SPACE, recorded, get_task("tagging").primary)
    finally:
        close(storage)


@pytest.mark.parametrize("name", NAMES)
def test_a_database_lies_in_its_folder_whatever_that_is_called(name, tmp_path, monkeypatch):
    folder, other = tmp_path / name, tmp_path / f"{name}2"
    for each in (folder, other):
        each.mkdir()
        close(open_storage(each / "search.db", 1))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == [folder / "search.db", other / "search.db"]
    monkeypatch.chdir(folder)
    assert sqlite_url(folder / "x.db").database == str(folder / "x.db")


def test_what_a_killed_process_had_not_made_yet_is_made(made, tmp_path):
    database = Path(shutil.copy(made, tmp_path / "search.db"))
    connection = sqlite3.connect(database)
    connection.execute("drop index ix_studies_study_name")
    connection.close()
    storage = open_storage(database, 1)
    study_in(storage)
    study_in(storage)
    close(storage)
    connection = sqlite3.connect(database)
    assert connection.execute("select count(*) from studies").fetchone() == (1,)
    connection.close()


def test_a_path_that_is_no_text_is_one_line(tmp_path):
    with pytest.raises(UserError, match="a path that is not UTF-8 can't hold a database; choose another folder"):
        open_storage(tmp_path / os.fsdecode(b"\xff") / "search.db", 1)


@pytest.mark.usefixtures("no_figures")
def test_a_search_reports_its_own_trials_alone(suite, packed, tmp_path, bench):  # noqa: F811
    """Two folders whose names begin alike, up to a ?, once had one database."""
    for name, count in (("out?1", 1), ("out?2", 2)):
        arguments = ("transformer_small", "--suite", suite, "--data", packed.folder, "--out", tmp_path / name)
        assert bench("search", *arguments, "--trials", count).code == 0
        assert len(trials(tmp_path / name)) == count
        with sqlite3.connect(f"{tmp_path}/{name}/search.db") as database:
            assert database.execute("select count(*) from trials").fetchone() == (count,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out?1", "out?2", "toy.toml"]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero_the_middle(path):
    data = bytearray(path.read_bytes())
    data[4096:-4096] = bytes(len(data) - 8192)
    path.write_bytes(data)


def change(*statements):
    def harm(path):
        with sqlite3.connect(path) as database:
            for statement in statements:
                database.execute(statement)
        database.close()

    return harm


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def of_another_program(path):
    path.unlink()
    change("create table experiments (id)", "create table runs (id)")(path)


UNUSABLE = {
    "words": (lambda path: path.write_text("not a database\n" * 99), "no SQLite database"),
    "zeros": (lambda path: path.write_bytes(bytes(8192)), "no SQLite database"),
    "half": (cut, "damaged (database disk image is malformed)"),
    "zeros in the middle": (zero_the_middle, "damaged ("),
    "a folder": (a_folder, "no file, and so no database"),
    "a pipe": (a_pipe, "no file, and so no database"),
    "another program's": (of_another_program, "holds what is no search's (tables experiments, runs, ...)"),
    "older": (
        change("update alembic_version set version_num = 'v3.0.0.a'"),
        f"made by an older version of Optuna than this, {optuna.__version__}: upgrade it (optuna storage upgrade",
    ),
    "newer": (
        change("update alembic_version set version_num = 'v99.0.0.a'"),
        f"made by a newer version of Optuna than this, {optuna.__version__}: install that (pip install -U optuna), or",
    ),
    "without a column": (change("alter table trials drop column number"), ""),
}


@pytest.mark.parametrize("harm", UNUSABLE)
def test_a_database_that_cannot_be_used_is_one_line_with_a_remedy(harm, database):
    damage, message = UNUSABLE[harm]
    damage(database)
    with pytest.raises(UserError) as caught:
        checked(database)
    line = str(caught.value)
    assert line.startswith(f"{database}: {message}")
    assert "\n" not in line
    assert "move it away" in line


WRONG = {
    "update trial_values set value = null": "AssertionError",
    "delete from trial_values where trial_id = 2": "trial 1: complete, with a score of None",
    "update trial_values set value_type = 'INF_POS', value = null": "trial 0: complete, with a score of inf",
    "update trials set state = 'DONE' where trial_id = 2": "",
    "update trials set number = null where trial_id = 2": "",
    "delete from trials where trial_id = 2": "trial 1 is missing",
    "delete from trial_params where trial_id = 2 and param_name = 'x'": "trial 1: without x",
    "update trial_params set param_name = 'y' where trial_id = 2 and param_name = 'x'": "trial 1: without x",
    "update trial_params set param_value = null where trial_id = 2 and param_name = 'x'": "",
    "update trial_params set param_value = 7 where param_name = 'x'": "trial 0: x=7.0 lies outside of the space",
    "update trial_params set distribution_json = null where trial_id = 2": "",
    "update trial_params set distribution_json = '{' where trial_id = 2": "",
    "update trial_user_attributes set value_json = null where key = 'seconds'": "",
    "update trial_user_attributes set value_json = '\"long\"' where key = 'seconds'": "trial 0: seconds='long'",
    "update trial_user_attributes set value_json = '-1.0' where key = 'seconds'": "trial 0: seconds=-1.0",
    "delete from study_directions": "ValueError: without a direction",
    "update study_directions set direction = 'MINIMIZE'": "ValueError: its direction is minimize, not maximize",
    "update trial_values set value = 7.5 where trial_id = 2": "trial 1: a score of 7.5, not 0 to 1",
}  # fmt: skip


@pytest.mark.parametrize("statement", WRONG)
def test_trials_that_no_search_leaves_are_one_line_and_not_counted(statement, database):
    assert [trial.state for trial in checked(database)] == 3 * [TrialState.COMPLETE]
    change(statement)(database)
    with pytest.raises(UserError) as caught:
        checked(database)
    line = str(caught.value)
    assert line.startswith(f"{database}: damaged (study: {WRONG[statement]}")
    assert line.endswith("); move it away to search anew, or name another --storage")
    assert "\n" not in line


def test_trials_that_failed_or_wait_may_have_no_values(tmp_path):
    storage = open_unflushed(tmp_path, 1)
    study = study_in(storage)
    for state, attributes in ((TrialState.FAIL, {"cause": "x"}), (TrialState.WAITING, {})):
        study.add_trial(create_trial(state=state, user_attrs=attributes))
    metric = get_task("tagging").primary
    assert len(check_trials(storage, "study", SPACE, (), metric)) == 2
    assert check_trials(storage, "no such study", SPACE, (), metric) == []
    close(storage)


@pytest.mark.parametrize(
    ("curve", "score", "wrong"),
    [
        ([0.25, 0.5], 0.125, "complete, with a score of 0.125, not one of its evaluations"),
        ([7.5, 0.5], 0.5, "a score of 7.5, not 0 to 1"),
    ],
)
def test_a_trial_scores_what_one_of_its_evaluations_does(tmp_path, curve, score, wrong):
    storage = open_unflushed(tmp_path, 1)
    values = dict(enumerate(curve, start=1))
    study_in(storage).add_trial(create_trial(state=TrialState.COMPLETE, value=score, intermediate_values=values))
    with pytest.raises(UserError, match=re.escape(f"damaged (study: trial 0: {wrong}); move it away")):
        check_trials(storage, "study", SPACE, (), get_task("tagging").primary)
    close(storage)


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(b""), change("drop table studies")])
def test_a_database_that_was_emptied_does_not_begin_the_search_anew(harm, database):
    recorded = [{"study": "study", "number": number} for number in range(3)]
    assert len(checked(database, recorded)) == 3
    harm(database)
    with pytest.raises(UserError, match=r"search\.db: lacks 3 trials of study that are on record in trials"):
        checked(database, recorded)


def test_a_trial_that_differs_from_its_record_is_told(database):
    recorded = [{"study": "study", "number": trial.number, "val_score": trial.value} for trial in checked(database)]
    assert len(checked(database, [*recorded, {"study": "another", "number": 0, "val_score": 0.5}])) == 3
    recorded[1]["val_score"] = 0.75
    with pytest.raises(UserError) as caught:
        checked(database, recorded)
    found = checked(database)[1].value
    assert str(caught.value) == (
        f"{database}: trial 1 of study scored {found!r}, but trials.json has 0.75; restore the two from one copy, or "
        "move trials.json and search.json away"
    )


@pytest.mark.usefixtures("no_figures")
def test_the_command_says_it_before_anything_trains(suite, packed, tmp_path, bench):  # noqa: F811
    out = tmp_path / "out"
    arguments = ("search", "transformer_small", "--suite", suite, "--data", packed.folder, "--out", out, "--trials", 1)
    assert bench(*arguments).code == 0
    database, record = (out / "search.db").read_bytes(), (out / "trials.json").read_bytes()
    for harm, message in (
        (lambda path: path.write_bytes(b""), "lacks 1 trials of transformer_small-"),
        (change("update alembic_version set version_num = 'v99.0.0.a'"), "made by a newer version of Optuna"),
        (change("update trial_values set value = null"), "damaged (transformer_small-"),
        (change("delete from trial_params where param_name = 'mixup'"), ": trial 0: without mixup); move it away"),
    ):
        (out / "search.db").write_bytes(database)
        harm(out / "search.db")
        for dry in ([], ["--dry-run"]):
            done = bench(*arguments[:-1], 2, *dry)
            assert (done.code, len(done.err.splitlines())) == (2, 1)
            assert done.err.startswith(f"bench: error: {out}/search.db: ")
            assert message in done.err
    assert (out / "trials.json").read_bytes() == record
    (out / "search.db").write_bytes(database)
    assert bench(*arguments).code == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://U:s3cr/t@127.0.0.1:1/d", "--storage postgresql+psycopg://U:***@127.0.0.1:1/d: "),
        ("postgresql://U:s3cr t@127.0.0.1:1/d", "--storage postgresql+psycopg://U:***@127.0.0.1:1/d: "),
        ("postgresql://U@127.0.0.1:1/d?password=s3cr+t", "--storage postgresql+psycopg://U@127.0.0.1:1/d?password=***"),
        ("postgresql://U:x@s3crt@127.0.0.1:1/d", "--storage: user name or password hold an @: write %40 for it"),
        ("postgresql://127.0.0.1:s3crt/d?password=s3cr", "--storage: write postgresql://USER@HOST/DATABASE"),
        ("host=127.0.0.1 user=U password=s3crt", "--storage: write postgresql://USER@HOST/DATABASE"),
        ("U:s3crt@127.0.0.1/d", "--storage: write postgresql://USER@HOST/DATABASE"),
        ("redis://U:s3crt@127.0.0.1/d", "--storage redis: no database that is known"),
        ("sqlite://", "--storage: a database in memory is lost with its process"),
        ("sqlite:///:memory:", "--storage: a database in memory is lost with its process"),
        ("sqlite:////tmp/a?b/x.db", "--storage sqlite:////tmp/a?b/x.db: a ? in a path is written %3F"),
    ],
)
def test_a_url_that_is_of_no_use_is_one_line_without_its_password(url, message):
    with pytest.raises(UserError) as caught:
        open_storage(url, 1)
    line = str(caught.value)
    assert line.startswith(message)
    assert ("s3cr" in line, "\n" in line) == (False, False)
