"""Two processes of one command at the same time, in one folder: both end well, and nothing is done twice or lost."""

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, Inputs, Reference
from tests.faults.processes import Processes

QUICK = ("pack", "suite")
# of these the second is told that the first is at work; of all others it waits
REFUSED = ("predict", "fetch", "fetch --pack")
DONE = re.compile(r"(\w+) seed (\d+): mAP")


def commands(*names: str) -> list[object]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", commands(*COMMANDS))
def test_two_at_once(name: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path) -> None:
    command, folder = COMMANDS[name], tmp_path / "w"
    _, expected = reference(command)
    command.prepare(inputs, folder)
    both = [command.start(processes, inputs, folder) for _ in range(2)]
    ended = [process.wait() for process in both]
    said = [each.err for each in ended]
    if name in REFUSED and [each.code for each in ended] != [0, 0]:
        assert sorted(each.code for each in ended) == [0, 2], said
        assert re.search("another `bench data fetch` is at work|is being written by process", "".join(said))
    else:
        assert [each.code for each in ended] == [0, 0], said
    if name == "search":
        # which of the two draws a trial decides which one comes next
        assert len(command.result(folder)["trials"]) == len(expected["trials"])
    else:
        assert command.result(folder) == expected
    if name == "suite":
        done = Counter(run for text in said for run in DONE.findall(text))
        assert done == {(entry, seed): 1 for entry in ("one", "two") for seed in "01"}, said
    assert [str(path) for path in folder.rglob("*.partial*")] == []


@pytest.mark.parametrize("name", commands("pack", "predict", "run"))
def test_one_of_two_is_killed(
    name: str, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    """Its lock goes with it: the other takes over, or the next call does."""
    command, folder = COMMANDS[name], tmp_path / "w"
    _, expected = reference(command)
    command.prepare(inputs, folder)
    first, second = (command.start(processes, inputs, folder) for _ in range(2))
    while not [path for path in folder.rglob("*") if path.is_file()]:
        time.sleep(0.002)
    first.kill()
    first.wait()
    ended = second.wait()
    assert ended.code == (2 if name in REFUSED and ended.error else 0), ended.err
    assert command.run(processes, inputs, folder).code == 0
    assert command.result(folder) == expected
