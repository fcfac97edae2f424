"""Disks that are full, fail, or answer in pieces, and few file handles: one line, and then the same numbers."""

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, Command, Inputs, Reference
from tests.faults.processes import Ended, Fault, Processes

FULL = re.compile(
    r"bench: error: .+: the disk is full; free some space and run the same command again"
    # where SQLite can't even begin its journal
    r"|bench: error: .+/search.db does not answer \(.*unable to open database file.*\); the same command resumes"
)
ROUNDS = {
    "pack": 4,
    "run": 4,
    "suite": 2,
    "predict": 4,
    "fetch": 4,
    "fetch --pack": 2,
    "compare": 2,
    "demo": 2,
}  # else 1


def ends_in(command: Command, folder: Path, processes: Processes, inputs: Inputs, expected: object) -> None:
    """Check that the same command, on a whole disk again, comes to what it always does."""
    ended = command.run(processes, inputs, folder)
    assert (ended.code, ended.error.startswith("bench: error:")) == (0, False), ended.err
    assert command.result(folder) == expected


def told(ended: Ended, line: str | re.Pattern[str], *, each_file: bool = False) -> None:
    """Check that the process ended with one line of error, or one for each file, and with exit code 2."""
    lines = [each for each in ended.err.splitlines() if "error:" in each] or [ended.error]
    assert (ended.code, [each for each in lines if not re.fullmatch(line, each)]) == (2, []), (ended.code, ended.err)
    assert each_file or len(lines) == 1, ended.err


def cases(names: dict[str, int], quick: set[str]) -> list[object]:
    """Return (name, number) for so many rounds of each command; the first of those named is quick."""
    slow = pytest.mark.slow
    return [
        pytest.param(name, number, id=f"{name}-{number}", marks=() if name in quick and not number else slow)
        for name, rounds in names.items()
        for number in range(rounds)
    ]


@pytest.mark.parametrize(
    ("name", "number"), cases({name: ROUNDS.get(name, 1) for name in COMMANDS}, quick={"pack", "run", "predict"})
)
def test_a_full_disk_is_one_line_and_nothing_is_lost(
    name: str, number: int, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    command, folder = COMMANDS[name], tmp_path / "w"
    changes, expected = reference(command)
    command.prepare(inputs, folder)
    # not so late that nothing is left to be written
    at = random.Random(f"full {name} {number}").randint(1, max(1, changes * 9 // 10))
    ended = command.run(processes, inputs, folder, fault=Fault(folder, "full", at))
    assert ended.code in (0, 2), ended.err
    if ended.code == 2:
        told(ended, FULL)
    published = command.published(folder)
    ends_in(command, folder, processes, inputs, expected)
    assert published.items() <= command.published(folder).items(), "what was whole on the full disk is lost"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["run", "fetch"])
def test_on_a_real_disk_that_is_full(
    name: str, small_disk: Path, processes: Processes, inputs: Inputs, reference: Reference
) -> None:
    command, folder = COMMANDS[name], small_disk / "w"
    _, expected = reference(command)
    command.prepare(inputs, folder)
    filler = small_disk / "filler"
    room = {"run": 150_000, "fetch": 600_000}[name]
    filler.write_bytes(bytes(2**20 - room))
    ended = command.run(processes, inputs, folder)
    assert (ended.code, "the disk" in ended.error) == (2, True), ended.err
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    ends_in(command, folder, processes, inputs, expected)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("pack", 100_000), *(pytest.param(name, 5_000, marks=pytest.mark.slow) for name in ("run", "predict", "fetch"))],
)
def test_a_file_may_not_grow_that_large(
    name: str, limit: int, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    command, folder = COMMANDS[name], tmp_path / "w"
    _, expected = reference(command)
    command.prepare(inputs, folder)
    ended = command.run(processes, inputs, folder, limits={"FSIZE": limit})
    told(ended, r"bench: error: .+: no file may grow that large here; .+")
    ends_in(command, folder, processes, inputs, expected)


@pytest.mark.parametrize("handles", [6, 8, 9, 10, 11, 12, 14, 16, 20, 24])
@pytest.mark.parametrize(
    "name",
    ["pack", *(pytest.param(name, marks=pytest.mark.slow) for name in ("run", "predict", "compare", "fetch"))],
)
def test_few_file_handles(
    name: str, handles: int, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """With few of them a command ends in the same numbers, or in a line that says so; never in other numbers."""
    command, folder = COMMANDS[name], tmp_path / "w"
    _, expected = reference(command)
    command.prepare(inputs, folder)
    ended = command.run(processes, inputs, folder, limits={"NOFILE": handles})
    if ended.code == 0:
        assert command.result(folder) == expected
    else:
        told(ended, r"bench: error: .+(?i:too many open files).+")
        ends_in(command, folder, processes, inputs, expected)


READ = {"pack": "data", "predict": "data", "report": "out", "compare": "results", "run": "pack", "filters": "out"}


def read_from(command: Command, inputs: Inputs, folder: Path) -> Path:
    """Return the folder that a command reads from."""
    what = READ[command.name]
    return folder / what if what == "out" else getattr(inputs, what)


@pytest.mark.parametrize("do", ["eio", "dying"])
@pytest.mark.parametrize(
    ("name", "number"),
    cases({"pack": 5, "predict": 3, "report": 1, "compare": 3, "run": 3, "filters": 1}, quick={"pack", "predict"}),
)
def test_a_disk_that_cannot_be_read(
    name: str, number: int, do: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """EIO at one of the reads, or at all from then on: no recording is left out for it, and no file called damaged."""
    command, folder = COMMANDS[name], tmp_path / "w"
    _, expected = reference(command)
    under = read_from(command, inputs, command.prepare(inputs, folder))
    command.run(processes, inputs, folder, fault=Fault(under))
    reads = processes.reads()
    assert reads
    command.prepare(inputs, folder)
    at = random.Random(f"{do} {name} {number}").randint(1, reads)
    ended = command.run(processes, inputs, folder, fault=Fault(under, do, at))
    if ended.code == 0:
        # read again, and better
        assert command.result(folder) == expected
    else:
        told(ended, r"bench: error: .+(?i:input/output error).*", each_file=name == "predict")
        ends_in(command, folder, processes, inputs, expected)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("pack", "predict") else pytest.mark.slow) for name in READ]
)
def test_reads_that_return_less_than_was_asked_for(
    name: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """As the system may do at any time, and network file systems do."""
    command, folder = COMMANDS[name], tmp_path / "w"
    _, expected = reference(command)
    under = read_from(command, inputs, command.prepare(inputs, folder))
    ended = command.run(processes, inputs, folder, fault=Fault(under, "short"))
    assert ended.code == 0, ended.err
    assert command.result(folder) == expected
