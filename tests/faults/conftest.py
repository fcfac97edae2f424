"""What the tests of faults share: the processes, and a data set, its pack, results and a server, made once each."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.data.packing import pack
from bench.data.synthetic.demo import write_demo
from tests.conftest import needs
from tests.faults.commands import NO_FIGURES, Command, Inputs, Reference, assert_whole
from tests.faults.processes import Fault, Processes
from tests.file_server import serving
from tests.test_fetch import release

SUITE = """
title = "faults"
seeds = 2
[train]
max_steps = 6
batch_size = 4
evaluations = 3
loss = "bce"
learning_rate = 1e-3
[[runs]]
name = "one"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 32, embed_dim = 16, num_heads = 2, head_dim = 8, mlp_dim = 32 }
[[runs]]
name = "two"
base = "one"
config = { depth = 2 }
"""
SEARCH = """
[budget]
trials = 4
[space]
learning_rate = { low = 1e-5, high = 1e-2, log = true }
mixup = { choices = [0.0, 0.5] }
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile faults.c."""
    if not sys.platform.startswith("linux"):
        pytest.skip("faults.c stands before Linux's calls")
    needs("cc")
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture(scope="session")
def processes(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    started = Processes(tmp_path_factory.mktemp("processes"), library)
    yield started
    started.close()


@pytest.fixture(scope="session")
def inputs(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    """All that commands start from, made by commands without faults."""
    folder = tmp_path_factory.mktemp("inputs")
    data, archives, suite, out = (folder / name for name in ("data", "archives", "faults.toml", "out"))
    write_demo(data, dev_clips=28, eval_clips=14)
    packed = pack(data, folder / "pack").folder
    archives.mkdir()
    release(data, archives, {"FSD50K.dev_audio": 1_200_000})
    suite.write_text(SUITE)
    (folder / "search.toml").write_text(SUITE.replace("[train]", "first_seed = 100\n[train]") + SEARCH)
    made = processes.run("run", suite, "--data", packed, "--out", out, code=NO_FIGURES)
    assert made.code == 0, made.err
    # the record alone: its report was made without figures
    for path in out.iterdir():
        if path.is_file() and path.name not in ("labels.npz", "suite.json"):
            path.unlink()
    with serving(archives) as server:
        yield Inputs(data, packed, suite, out, folder / "search", archives, server.url)


@pytest.fixture(scope="session")
def reference(processes: Processes, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Return how many changes of files and reads an uninterrupted command makes, and what it comes to."""
    known: dict[str, tuple[int, object]] = {}

    def find(command: Command) -> tuple[int, object]:
        if command.name not in known:
            folder = command.prepare(inputs, tmp_path_factory.mktemp("reference") / "w")
            ended = command.run(processes, inputs, folder, fault=Fault(folder))
            assert ended.code == 0, ended.err
            assert_whole(folder)
            known[command.name] = processes.changes(), command.result(folder)
        return known[command.name]

    return find
