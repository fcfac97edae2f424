"""SIGKILL at random changes of files, over all commands that write: called again, they end in the same numbers."""

import random
import signal
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, Inputs, Reference, assert_whole
from tests.faults.processes import Fault, Processes

# one of each kind of resuming, and few of what takes long
QUICK = ("pack", "suite", "predict")
KILLS = 2  # before the command is let to its end
# else 1
ROUNDS = {"pack": 6, "demo": 3, "run": 4, "suite": 3, "compare": 3, "predict": 6, "fetch": 6, "fetch --pack": 3}


def cases(quick: bool) -> list[object]:
    return [
        pytest.param(name, number, id=f"{name}-{number}", marks=[] if quick else pytest.mark.slow)
        for name in COMMANDS
        for number in range(ROUNDS.get(name, 1))
        if quick == (name in QUICK and number == 0)
    ]


@pytest.mark.parametrize(("name", "number"), cases(quick=True) + cases(quick=False))
def test_killed_it_ends_in_the_same_numbers(
    name: str, number: int, processes: Processes, inputs: Inputs, reference: Reference, tmp_path: Path
) -> None:
    command, folder = COMMANDS[name], tmp_path / "w"
    changes, expected = reference(command)
    command.prepare(inputs, folder)
    draw = random.Random(f"{name} {number}")
    finished: dict[str, object] = {}
    killed_at = []
    for _ in range(KILLS):
        killed_at.append(draw.randint(1, changes))
        ended = command.run(processes, inputs, folder, fault=Fault(folder, "kill", killed_at[-1]))
        assert ended.code in (0, -signal.SIGKILL), ended.err
        published = command.published(folder)
        assert finished.items() <= published.items(), "what was finished is lost"
        finished = dict(published)
        if command.published(folder):
            assert_whole(folder)
    ended = command.run(processes, inputs, folder)
    assert (ended.code, ended.error[:13] == "bench: error:") == (0, False), (killed_at, ended.err)
    assert command.result(folder) == expected, killed_at
    assert_whole(folder)
    assert [str(path) for path in folder.rglob("*.partial*")] == [], "left behind"
    result = command.published(folder)
    assert finished.items() <= result.items()
