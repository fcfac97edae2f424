"""Thousands of damaged files: read right or refused in a line, in seconds and little memory, never a traceback.

A case that goes wrong is called KIND:SEED; to run it alone, or others (KIND:FIRST-LAST, last excluded):

    FUZZ=audio:17 pytest tests/faults/test_fuzz_files.py
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import NO_FIGURES
from tests.faults.fuzz import KINDS, MEGABYTES, Case, failures
from tests.faults.originals import write_originals, write_trained
from tests.faults.processes import Processes

# How many cases of each kind, most of what is read most; those of QUICK are part of tox.
QUICK = {"audio": 60, "cut_audio": 20, "tables": 25, "pack": 20, "other_pack": 15, "half_made_pack": 10, "archive": 20,
         "suite": 20, "fetched": 5, "command_verify": 3, "command_pack": 3, "command_info": 3}  # fmt: skip
ALL = {"audio": 600, "cut_audio": 200, "tables": 200, "pack": 150, "other_pack": 150, "half_made_pack": 60,
       "archive": 120, "suite": 120, "fetched": 30, "results": 80, "records": 80, "comparison": 60, "weights": 60,
       "checkpoint": 80, "search": 30, "scores": 40, "filters": 20, "command_verify": 20, "command_pack": 20,
       "command_info": 10, "command_show": 10, "command_plan": 10, "command_report": 10,
       "command_predict": 20}  # fmt: skip
# Cases that one process works on, after another.
TOGETHER = 100
Check = Callable[[list[str]], None]


def cases(kind: str, last: int) -> list[str]:
    """Return the names of the first cases of a kind, or of those that are asked for."""
    if asked := os.environ.get("FUZZ"):
        found = []
        for each in asked.split():
            name, _, seeds = each.partition(":")
            first, dash, end = seeds.partition("-")
            if name == kind:
                found += [f"{kind}:{seed}" for seed in range(int(first), int(end if dash else first) + (not dash))]
        return found or pytest.skip("not asked for")
    return [f"{kind}:{seed}" for seed in range(last)]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_originals(folder)
    return folder


@pytest.fixture(scope="module")
def trained(originals: Path) -> Path:
    write_trained(originals)
    return originals


@pytest.fixture
def check(processes: Processes, originals: Path, tmp_path: Path) -> Check:
    """Work on cases, and fail with a line for each that goes wrong."""

    def run(names: list[str]) -> None:
        wrong = []
        for at in range(0, len(names), TOGETHER):
            some, log = names[at : at + TOGETHER], tmp_path / f"{at}.jsonl"
            log.touch()
            code = (
                "from pathlib import Path; from tests.faults.fuzz import work; "
                f"work({some!r}, Path({str(originals)!r}), Path({str(tmp_path)!r}), Path({str(log)!r}))"
            )
            started = processes.start(code=code)
            ended = processes.ask({"wait": started.pid, "seconds": 600})["code"]
            wrong += failures(log, some, ended)
        if wrong:
            alone = f"to run one alone: FUZZ={wrong[0].partition(': ')[0]} pytest tests/faults/{Path(__file__).name}"
            pytest.fail("\n".join([f"{len(wrong)} of {len(names)} cases went wrong; {alone}", *wrong[:20]]), False)

    return run


@pytest.mark.parametrize("kind", QUICK)
def test_some_damaged_files(kind: str, check: Check) -> None:
    check(cases(kind, QUICK[kind]))


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("kind", ALL)
def test_damaged_files(kind: str, check: Check) -> None:
    check(cases(kind, ALL[kind]))


def test_every_kind_is_tried() -> None:
    assert KINDS.keys() == ALL.keys()
    assert sum(ALL.values()) >= 2000
    assert sum(count for kind, count in ALL.items() if kind.startswith("command")) >= 50


COMMANDS: dict[str, tuple[str, Callable[[Case], list[object]]]] = {
    "verify": ("tables", lambda case: ["data", "verify", case.folder]),
    "pack": ("tables", lambda case: ["data", "pack", case.folder, "--out", case.folder.with_name("packed")]),
    "info": ("pack", lambda case: ["data", "info", case.folder / "pack"]),
    "show": ("command_show", lambda case: ["show", next(case.folder.glob("one-s0-*"))]),
    "report": ("command_report", lambda case: ["report", case.folder, "--resamples", 100]),
    "compare": ("comparison", lambda case: ["compare", case.folder / "one", case.folder / "two", "--resamples", 100]),
    "filters": ("weights", lambda case: ["filters", next(case.folder.glob("one-s0-*"))]),
    "plan": ("suite", lambda case: ["plan", case.path]),
    "dry run": ("suite", lambda case: ["run", case.path, "--data", case.original.parent / "pack" / "pack", "--dry-run",
                                       "--out", case.folder / "out"]),
    "run": ("checkpoint", lambda case: ["run", case.original.parent / "_suite.toml", "--out", case.folder, "--data",
                                        case.original.parent / "pack" / "pack", "--only", "one", "--seeds", 1]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_with_a_damaged_file(command: str, processes: Processes, trained: Path, tmp_path: Path) -> None:
    """As a user meets it: from the outside."""
    kind, arguments = COMMANDS[command]
    for seed in range(4):
        case = Case(kind, seed, trained / kind, tmp_path / str(seed) / "case")
        case.prepare()
        ended = processes.run(*arguments(case), code=NO_FIGURES)
        assert "Traceback" not in ended.out + ended.err, (case.name, ended.err)
        errors = [line for line in ended.err.splitlines() if line.startswith("bench: error:")]
        assert (ended.code, len(errors)) in ((0, 0), (1, 0), (2, 1)), (case.name, ended.code, ended.err)
        shutil.rmtree(tmp_path / str(seed))


def test_a_case_that_hangs_or_eats_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What watches the cases does see."""
    from tests.faults import fuzz

    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "x.wav").write_bytes(b"RIFF" * 100)
    case = Case("audio", 0, tmp_path / "audio", tmp_path / "w" / "case")
    assert fuzz._outcome(case).how == "refused"
    monkeypatch.setitem(KINDS, "audio", lambda _: bytearray(os.urandom(1)) * ((MEGABYTES + 50) << 20))
    found = fuzz._outcome(case)
    assert found.how == "wrong"
    assert found.megabytes > MEGABYTES
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    monkeypatch.setitem(KINDS, "audio", lambda _: os.read(os.pipe()[0], 1))
    assert "Hang" in fuzz._outcome(case).text
