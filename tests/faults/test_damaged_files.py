"""Every file of every kind of folder: emptied, cut in half, zeroed, gone. Told in a line by its name, or no matter."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, KILLED_AFTER_A_CHECKPOINT, NO_FIGURES, Inputs, Reference
from tests.faults.processes import Ended, Fault, Processes


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeros(path: Path) -> None:
    """As a file system may leave a file when the power fails: of the right size, and nothing in it."""
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = {"empty": empty, "half": half, "zeros": zeros, "gone": Path.unlink}
damages = pytest.mark.parametrize("damage", DAMAGES)


def one_line(ended: Ended, *names: str) -> None:
    """Check for exit code 2, and one line with one of the names in it."""
    errors = [line for line in ended.err.splitlines() if "error:" in line]
    assert (ended.code, len(errors)) == (2, 1), (ended.code, ended.error, ended.err)
    assert any(name in errors[0] for name in names), errors


def same_or_told(
    ended: Ended, names: Sequence[str], result: Callable[[], object], expected: object, *, must_tell: bool = False
) -> None:
    if ended.code == 0 and not must_tell:
        assert "Traceback" not in ended.err
        assert result() == expected
    else:
        one_line(ended, *names)


# --- a pack


@damages
@pytest.mark.parametrize("name", ["train.npy", "val.npy", "eval.npy", "index.parquet", "manifest.json"])
@pytest.mark.parametrize("command", ["info", "verify", pytest.param("run", marks=pytest.mark.slow)])
def test_a_pack(command: str, name: str, damage: str, processes: Processes, inputs: Inputs, tmp_path: Path) -> None:
    pack = shutil.copytree(inputs.pack, tmp_path / "pack")
    DAMAGES[damage](pack / name)
    arguments = {
        "info": ["data", "info", pack],
        "verify": ["data", "verify", pack],
        "run": ["run", inputs.suite, "--data", pack, "--out", tmp_path / "out"],
    }[command]
    ended = processes.run(*arguments, code=NO_FIGURES)
    if command == "info" and damage == "zeros" and name.endswith(".npy"):
        # its header is told; samples are compared where they are used
        return
    one_line(ended, name, str(pack))
    assert not (tmp_path / "out").exists(), "nothing is left behind"


@damages
@pytest.mark.parametrize("name", ["train.npy", "val.npy", "eval.npy", "journal"])
def test_a_half_made_pack(
    name: str, damage: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """Arrays that lost what the journal lists are decoded again."""
    command, folder = COMMANDS["pack"], tmp_path / "w"
    changes, expected = reference(command)
    command.prepare(inputs, folder)
    command.run(processes, inputs, folder, fault=Fault(folder, "kill", changes * 3 // 4))
    for path in (folder / "pack.partial").glob(f"{name}*"):
        DAMAGES[damage](path)
    ended = command.run(processes, inputs, folder)
    assert ended.code == 0, ended.err
    assert command.result(folder) == expected


# --- results


RUN_FILES = ["run.json", "scores.npz", "history.csv", "model.safetensors"]
REPORTED = ["run.json", "scores.npz", "history.csv", "../labels.npz", "../suite.json"]


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("table.csv", "ablations.csv")}


@pytest.fixture(scope="session")
def reported(processes: Processes, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = shutil.copytree(inputs.results, tmp_path_factory.mktemp("reported") / "out")
    assert processes.run("report", out, "--resamples", 100, code=NO_FIGURES).code == 0
    return tables(out)


@damages
@pytest.mark.parametrize("name", REPORTED)
def test_results_in_a_report(
    name: str, damage: str, processes: Processes, inputs: Inputs, reported: dict[str, bytes], tmp_path: Path
) -> None:
    """No other number than those of the whole folder is printed, but where a run is gone from it."""
    out = shutil.copytree(inputs.results, tmp_path / "out")
    run = next(out.glob("two-s1-*"))
    DAMAGES[damage]((run / name).resolve())
    for path in out.glob("table*"):
        path.unlink()
    ended = processes.run("report", out, "--resamples", 100, code=NO_FIGURES)
    if (name, damage) == ("run.json", "gone"):
        assert ended.code == 0
        assert f"- missing: {run.name}" in (out / "table.md").read_text()
    elif (name, damage) == ("../suite.json", "gone"):
        assert ended.code == 0, ended.err
    else:
        same_or_told(ended, [Path(name).name], lambda: tables(out), reported)


@damages
@pytest.mark.parametrize("name", ["run.json", "scores.npz", "../labels.npz"])
def test_results_in_a_comparison(name: str, damage: str, processes: Processes, inputs: Inputs, tmp_path: Path) -> None:
    out = shutil.copytree(inputs.results, tmp_path / "out")
    DAMAGES[damage]((next(out.glob("two-s1-*")) / name).resolve())
    one_line_or_fewer_seeds = processes.run("compare", out / "one", out / "two", "--resamples", 100)
    if (name, damage) == ("run.json", "gone"):
        assert "traceback" not in one_line_or_fewer_seeds.err.lower()
    else:
        one_line(one_line_or_fewer_seeds, Path(name).name)


@damages
@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("predict", name) for name in ("run.json", "model.safetensors", "../labels.npz")),
        *(("filters", name) for name in ("run.json", "model.safetensors")),
    ],
)
def test_a_model(command: str, name: str, damage: str, processes: Processes, inputs: Inputs, tmp_path: Path) -> None:
    out = shutil.copytree(inputs.results, tmp_path / "out")
    run = next(out.glob("one-s0-*"))
    DAMAGES[damage]((run / name).resolve())
    more = [next((inputs.data / "FSD50K.eval_audio").iterdir())] if command == "predict" else []
    one_line(processes.run(command, run, *more), Path(name).name)


@damages
@pytest.mark.parametrize("name", [*RUN_FILES, "../labels.npz", "../suite.json"])
@pytest.mark.slow
def test_results_when_the_suite_is_run_again(
    name: str, damage: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """A finished run is taken as it is, told to be damaged, or made again; never half taken."""
    command = COMMANDS["suite"]
    _, expected = reference(command)
    out = shutil.copytree(inputs.results, tmp_path / "out")
    run = next(out.glob("two-s1-*"))
    DAMAGES[damage]((run / name).resolve())
    ended = command.run(processes, inputs, tmp_path)
    if name in ("model.safetensors", "history.csv"):
        # what no table is made of is noticed by who reads it
        assert ended.code in (0, 2), ended.err
        assert "Traceback" not in ended.err
    else:
        same_or_told(ended, [Path(name).name], lambda: command.result(tmp_path), expected)


@pytest.mark.parametrize(
    "damage", ["zeros", *(pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES if name != "zeros")]
)
def test_a_checkpoint(damage: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path) -> None:
    """Kept aside, where anything is in it, and the training begun anew: to the same numbers."""
    command, folder = COMMANDS["run"], tmp_path / "w"
    _, expected = reference(command)
    command.prepare(inputs, folder)
    processes.run(*command.arguments(inputs, folder), code=NO_FIGURES + KILLED_AFTER_A_CHECKPOINT)
    (path,) = folder.rglob("checkpoint.pt")
    DAMAGES[damage](path)
    ended = command.run(processes, inputs, folder)
    assert ended.code == 0, ended.err
    names = {name for name in command.result(folder)["names"] if "checkpoint" not in name}
    assert {**command.result(folder), "names": names} == expected


@damages
@pytest.mark.parametrize("name", ["heard.csv.partial", "*journal*"])
def test_scores_that_are_written(
    name: str, damage: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """Rows that are not as the journal says are computed again."""
    command, folder = COMMANDS["predict"], tmp_path / "w"
    changes, expected = reference(command)
    command.prepare(inputs, folder)
    command.run(processes, inputs, folder, fault=Fault(folder, "kill", changes * 2 // 3))
    (path,) = [*folder.glob(name), *folder.glob(f".{name}")]
    DAMAGES[damage](path)
    ended = command.run(processes, inputs, folder)
    assert ended.code == 0, ended.err
    assert command.result(folder) == expected


# --- searches, downloads, tracking


@damages
@pytest.mark.parametrize("name", ["search.json", "trials.csv", "trials.json", "search.db", "best.toml"])
@pytest.mark.slow
def test_a_search(
    name: str, damage: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """The record is written anew from the database; a database that is damaged is told."""
    command, folder = COMMANDS["search"], tmp_path / "w"
    _, expected = reference(command)
    done = tmp_path_factory.getbasetemp() / "searched"
    if not done.exists():
        assert command.run(processes, inputs, command.prepare(inputs, done)).code == 0
    shutil.copytree(done, folder)
    DAMAGES[damage](folder / "out" / name)
    ended = command.run(processes, inputs, folder)
    same_or_told(ended, [name], lambda: command.result(folder), expected)


@damages
@pytest.mark.parametrize("name", ["fetch.json", "FSD50K.dev_audio.z01", "FSD50K.dev_audio.zip", "FSD50K.doc.zip"])
def test_a_download(
    name: str, damage: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """Fetched again, or told; at the latest with the second call the folder is right to the byte."""
    command, folder = COMMANDS["fetch"], tmp_path / "w"
    changes, expected = reference(command)
    command.prepare(inputs, folder)
    command.run(processes, inputs, folder, fault=Fault(folder, "kill", changes * 2 // 3))
    assert list(folder.rglob("FSD50K.doc*"))
    for path in folder.rglob(name):
        DAMAGES[damage](path)
    ended = command.run(processes, inputs, folder)
    if ended.code:
        one_line(ended, name)
        if name == "fetch.json":
            (folder / "FSD50K" / name).unlink()
        ended = command.run(processes, inputs, folder)
    assert ended.code == 0, ended.err
    found = command.result(folder)
    # an archive of which all is unpacked is not looked at again
    assert {path: found[path] for path in expected if "/FSD50K.doc.z" not in path} == {
        path: data for path, data in expected.items() if "/FSD50K.doc.z" not in path
    }


@damages
@pytest.mark.slow
@pytest.mark.parametrize("name", ["out/tracking.json", "mlflow.db"])
def test_tracking(
    name: str, damage: str, processes: Processes, inputs: Inputs, tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    command, folder = COMMANDS["track"], tmp_path / "w"
    done = tmp_path_factory.getbasetemp() / "sent"
    if not done.exists():
        assert command.run(processes, inputs, command.prepare(inputs, done)).code == 0
    shutil.copytree(done, folder)
    DAMAGES[damage](folder / name)
    ended = command.run(processes, inputs, folder)
    assert ended.code in (0, 2), ended.err
    if ended.code == 2:
        one_line(ended, Path(name).name)
