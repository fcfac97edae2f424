"""Every command that writes, as the tests of faults run it: what it starts from, its call, and what it must come to."""

import csv
import io
import json
import shutil
import sqlite3
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from safetensors.numpy import load

from tests.faults.processes import Ended, Processes, Started

# no figures: they take longer than all else, and what is drawn says nothing of what is trained
NO_FIGURES = (
    "from bench.api import runs\n"
    "from bench.reporting import report\n"
    "runs.draw_search = report.draw_search = report.draw_scores = lambda _: {}\n"
)
# where that falls among the changes of files depends on what else is written
KILLED_AFTER_A_CHECKPOINT = """
import os, signal
from bench.protocol.checkpoint import Checkpoint
save = Checkpoint.save
Checkpoint.save = lambda *values: (save(*values), os.kill(os.getpid(), signal.SIGKILL))
"""
# of a run: seconds, and where and by what command it was made
_OF_ONE_TIME = {"cost", "provenance"}
_TIMES = {"seconds", "spent_seconds", "train_seconds", "latency_seconds", "samples_per_second", "started", "worker"}


@dataclass(frozen=True)
class Inputs:
    """What was made without faults: a data set, its pack, a suite, its results, a search, and archives on a server."""

    data: Path
    pack: Path
    suite: Path
    results: Path
    search: Path
    archives: Path
    url: str


@dataclass(frozen=True)
class Command:
    """A command that writes into a folder of its own.

    Args:
        arguments: of `bench`, for the inputs and the folder.
        code: Python that is run before it, for the folder.
        copies: what of the inputs lies in the folder before, by the names there.
        result: what it comes to, of which two ways there must be equal.
        published: what a reader of the folder would take as whole, by name; each is to be as in the result.
    """

    name: str
    arguments: Callable[[Inputs, Path], Sequence[object]]
    result: Callable[[Path], Mapping[str, object]]
    published: Callable[[Path], Mapping[str, object]]
    code: Callable[[Inputs, Path], str] = lambda inputs, folder: ""
    copies: Callable[[Inputs], Mapping[str, Path]] = lambda inputs: {}

    def prepare(self, inputs: Inputs, folder: Path) -> Path:
        """Make the folder anew, with what the command starts from."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, source in self.copies(inputs).items():
            shutil.copytree(source, folder / name)
        return folder

    def start(self, processes: Processes, inputs: Inputs, folder: Path, **options: Any) -> Started:
        return processes.start(*self.arguments(inputs, folder), code=self.code(inputs, folder), **options)

    def run(self, processes: Processes, inputs: Inputs, folder: Path, **options: Any) -> Ended:
        return self.start(processes, inputs, folder, **options).wait()


# of a command: how many changes of files it makes when nothing happens, and its result
Reference = Callable[[Command], tuple[int, object]]


# --- what a folder comes to


def files(folder: Path) -> dict[str, bytes]:
    """Return all files as they are, by name; locks hold nothing."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def whole_files(folder: Path) -> dict[str, bytes]:
    """Return all files that do not say by their names that they are partial."""
    return {name: data for name, data in files(folder).items() if ".partial" not in name}


def nothing(_: Path) -> dict[str, object]:
    """Return what is taken as whole where whoever reads it looks himself at what is there."""
    return {}


def runs(folder: Path) -> dict[str, object]:
    """Return the finished runs of all results folders below, as far as two of the same settings are equal."""
    return {f"{path.parent.name}": _run(path.parent) for path in sorted(folder.rglob("run.json"))}


def _run(folder: Path) -> dict[str, object]:
    record = json.loads((folder / "run.json").read_text())
    values: dict[str, object] = {name: value for name, value in record.items() if name not in _OF_ONE_TIME}
    with np.load(folder / "scores.npz") as scores:
        values["scores"] = scores["scores"].tobytes()
    values["weights"] = (folder / "model.safetensors").read_bytes()
    return values | {"history": table(folder / "history.csv")}


def results(folder: Path) -> dict[str, object]:
    """Return finished runs, plan, labels, and which files there are."""
    (out,) = (path.parent for path in folder.rglob("labels.npz"))
    # training times are drawn only where a busy machine has left them steady
    others = ("tracking", "mlflow", "map_vs_train_seconds")
    names = {name for name in files(out) if not name.startswith(others)}
    plan = json.loads((out / "suite.json").read_text())
    with np.load(out / "labels.npz") as labels:
        arrays = {name: labels[name].tobytes() for name in labels.files}
    return {"names": names, "plan": plan, "labels": arrays, **runs(folder)}


def tracked(folder: Path) -> dict[str, object]:
    """Return what the store in a file knows of the runs, each once, as far as no clock is in it."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        runs = store.execute(
            "select run_uuid, value from tags join runs using (run_uuid) "
            "where key = 'bench.run' and lifecycle_stage = 'active'"
        ).fetchall()
        names = dict(runs)
        assert len(set(names.values())) == len(names), "sent twice"
        known: dict[str, object] = {}
        sent = "tags where key = 'bench.sent' and run_uuid not in (select run_uuid from tags where value = '.')"
        for values in ("metrics where key not like '%second%'", "params", sent):
            step = "step" if values.startswith("metrics") else "0"
            rows = store.execute(f"select run_uuid, key, {step}, value from {values}").fetchall()
            known |= {f"{names[run]} {key} {step}": value for run, key, step, value in rows if run in names}
    artifacts = {path.name for path in (folder / "mlartifacts").rglob("*") if path.is_file()}
    return known | {"runs": sorted(names.values()), "artifacts": artifacts}


def table(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV without what a clock says."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in _TIMES} for row in csv.DictReader(file)]


def search(folder: Path) -> dict[str, object]:
    """Return the trials, as far as two searches with one worker are equal, and the best recipes."""
    out = folder / "out"
    of_trials = ("trial", "state", "val_score", "best_seen", "default", "evaluations", "learning_rate", "mixup")
    lines = [{name: row[name] for name in of_trials} for row in table(out / "trials.csv")]
    kept = json.loads((out / "trials.json").read_text())
    whole = {"trials.json": len(kept["trials"]), "best": tomllib.loads((out / "best.toml").read_text())["runs"]}
    return {"trials": lines, **whole}


# --- whether a file is whole


def assert_whole(folder: Path) -> None:
    """Fail where a file that does not call itself partial is cut off, or damaged in another way."""
    for name, data in whole_files(folder).items():
        suffix = Path(name).suffix
        if suffix in _CHECKS:
            try:
                assert data, "empty"
                _CHECKS[suffix](data)
            except Exception as error:
                raise AssertionError(f"{name} is not whole: {error}") from error


def _ends(ending: bytes) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        assert data.rstrip().endswith(ending), data[-40:]

    return check


def _check_csv(data: bytes) -> None:
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert data.endswith(b"\n")
    assert {len(row) for row in rows} == {len(rows[0])}


def _check_npz(data: bytes) -> None:
    with np.load(io.BytesIO(data)) as file:
        assert [file[name].shape for name in file.files]


_CHECKS: dict[str, Callable[[bytes], Any]] = {
    ".json": json.loads,
    ".toml": lambda data: tomllib.loads(data.decode()),
    ".csv": _check_csv,
    ".npz": _check_npz,
    ".npy": lambda data: np.load(io.BytesIO(data)),
    ".parquet": lambda data: pyarrow.parquet.read_table(io.BytesIO(data)),
    ".safetensors": load,
    ".svg": ET.fromstring,
    ".png": _ends(b"IEND\xaeB`\x82"),
    ".pdf": _ends(b"%%EOF"),
    ".html": _ends(b"</html>"),
    ".md": _ends(b""),
}


# --- the commands

# the command has no option for how many
_DEMO = (
    "from functools import partial\n"
    "from bench.data.synthetic import demo\n"
    "demo.write_demo = partial(demo.write_demo, dev_clips=28, eval_clips=14)\n"
)
_FETCH = (
    "from pathlib import Path\n"
    "from bench.data.download import fetch, http\n"
    "from bench.data.download.fsd50k_files import read_archives\n"
    "http._LONGEST_PAUSE = 0\n"
    "table = read_archives(Path({files!r}))\n"
    "fetch.official_archives = lambda: table\n"
)


def _run_arguments(*more: object) -> Callable[[Inputs, Path], list[object]]:
    return lambda i, folder: ["run", i.suite, "--data", i.pack, "--out", folder / "out", *more]


def _of_fetch(folder: Path) -> dict[str, object]:
    """Return what was unpacked, and the pack; what the command notes for itself has times."""
    return {name: data for name, data in files(folder).items() if not name.endswith("fetch.json")}


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "demo",
            lambda i, folder: ["data", "demo", folder / "data"],
            files,
            whole_files,
            code=lambda i, folder: _DEMO,
        ),
        Command("pack", lambda i, folder: ["data", "pack", i.data, "--out", folder / "pack"], files, whole_files),
        Command(
            "run", _run_arguments("--only", "two", "--seeds", 1), results, runs, code=lambda i, folder: NO_FIGURES
        ),
        Command("suite", _run_arguments(), results, runs, code=lambda i, folder: NO_FIGURES),
        Command(
            "report",
            lambda i, folder: ["report", folder / "out", "--resamples", 100],
            files,
            whole_files,
            copies=lambda i: {"out": i.results},
        ),
        Command(
            "compare",
            lambda i, folder: [
                "compare", i.results / "one", i.results / "two", "--classes", folder / "classes.csv", "--resamples",
                100,
            ],
            files,
            whole_files,
        ),
        Command(
            "predict",
            lambda i, folder: [
                "predict", next(i.results.glob("one-s0-*")), i.data / "FSD50K.eval_audio",
                "--csv", folder / "heard.csv",
            ],
            files,
            nothing,
        ),
        Command(
            "filters",
            lambda i, folder: ["filters", next((folder / "out").glob("one-s0-*"))],
            files,
            whole_files,
            copies=lambda i: {"out": i.results},
        ),
        Command(
            "attention",
            lambda i, folder: [
                "attention", next((folder / "out").glob("one-s0-*")),
                min((i.data / "FSD50K.eval_audio").iterdir()),
            ],
            files,
            whole_files,
            copies=lambda i: {"out": i.results},
        ),
        Command(
            "search",
            lambda i, folder: [
                "search", "one", "--suite", i.suite.with_name("search.toml"), "--data", i.pack, "--out", folder / "out",
                "--export", "--heartbeat", 1,
            ],
            search,
            nothing,
            code=lambda i, folder: NO_FIGURES,
        ),
        Command(
            "fetch",
            lambda i, folder: ["data", "fetch", folder / "FSD50K", "--mirror", i.url],
            _of_fetch,
            nothing,
            code=lambda i, folder: _FETCH.format(files=str(i.archives / "files.csv")),
        ),
        Command(
            "fetch --pack",
            lambda i, folder: ["data", "fetch", folder / "FSD50K", "--mirror", i.url, "--pack", folder / "pack"],
            _of_fetch,
            nothing,
            code=lambda i, folder: _FETCH.format(files=str(i.archives / "files.csv")),
        ),
        Command("merge", lambda i, folder: ["merge", folder / "out", i.results], files, runs),
        Command(
            "track",
            lambda i, folder: ["track", "sync", folder / "out"],
            tracked,
            nothing,
            copies=lambda i: {"out": i.results},
        ),
    )
}  # fmt: skip
