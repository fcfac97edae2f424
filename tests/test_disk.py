"""A disk that is full, over its quota or gone is told with the file and what helps, whichever library met it."""

import errno
import gc
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from architectures.template import write_architecture
from bench.disk import (
    explain_full_disk,
    machine_fault,
    partial_path,
    refuse_odd,
    refuse_target,
    set_aside,
    whole_file,
    write_json,
)
from bench.errors import MachineFault, UserError

LIMIT = 60_000  # bytes that a file may have here


@contextmanager
def file_limit(most=LIMIT):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def fill_database(path):
    connection = sqlite3.connect(path)
    try:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(500000))")
        connection.commit()
    finally:
        connection.close()


NUMBERS = np.random.default_rng(0).random(40_000)
WRITERS = {
    "torch": lambda path: torch.save(torch.from_numpy(NUMBERS), path),
    "safetensors": lambda path: save_file({"x": torch.from_numpy(NUMBERS)}, path),
    "npy": lambda path: np.save(path, NUMBERS),
    "npz": lambda path: np.savez(path, x=NUMBERS),
    "csv": lambda path: pd.DataFrame({"x": NUMBERS}).to_csv(path),
    "parquet": lambda path: pd.DataFrame({"x": NUMBERS}).to_parquet(path),
    "sqlite": fill_database,
    "json": lambda path: path.write_text("x" * 100_000),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("writer", WRITERS)
def test_whatever_library_meets_it_file_and_remedy_are_told(tmp_path, writer):
    path = tmp_path / "file"
    with file_limit(), pytest.raises(MachineFault) as caught, explain_full_disk(path):
        WRITERS[writer](path)
    # what a library leaves open is closed here, and not in a test after this one that would be blamed for it
    gc.collect()
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.endswith(" and run the same command again")
    assert "\n" not in line


AGAIN = "and run the same command again"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, f"the disk is full; free some space {AGAIN}"),
        (errno.EDQUOT, f"the disk quota is used up; free some space {AGAIN}"),
        (errno.EMFILE, f"too many open files in one process; raise the limit (ulimit -n 1024) {AGAIN}"),
        (errno.ENFILE, f"too many open files on this machine; close other programs {AGAIN}"),
        (errno.EROFS, "the disk is read-only; make it writable, or name a folder on another one"),
        (errno.EIO, f"the disk failed (input/output error); check it {AGAIN}"),
    ],
)
def test_each_fault_of_the_machine_has_its_remedy(tmp_path, number, told):
    named = OSError(number, os.strerror(number), str(tmp_path / "b"))
    assert str(machine_fault(OSError(number, os.strerror(number)), tmp_path / "a")) == f"{tmp_path}/a: {told}"
    assert str(machine_fault(named, tmp_path / "a")) == f"{tmp_path}/b: {told}"
    assert str(machine_fault(named)) == f"{tmp_path}/b: {told}"
    fault = machine_fault(named)
    assert machine_fault(fault) is fault


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "no"), ValueError("28"), UserError("the disk is full"), OSError("gone")]
)
def test_what_is_no_fault_of_the_machine_passes(tmp_path, error):
    assert machine_fault(error) is None
    with pytest.raises(type(error)) as caught, explain_full_disk(tmp_path):
        raise error
    assert caught.value is error


def test_few_file_handles_are_one_line(tmp_path):
    code = """if True:
        import resource
        from bench.cli import main
        opened = [open("/dev/null") for _ in range(3)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened[-1].fileno() + 1,) * 2)
        import sys
        sys.argv = ["bench", "suites", "show", "demo"]
        main()
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: error: ")
    assert done.stderr.endswith(f": too many open files in one process; raise the limit (ulimit -n 1024) {AGAIN}\n")
    assert done.stderr.count("\n") == 1


# --- files that are whole or not there


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"kept": 1})
    with file_limit(), pytest.raises(MachineFault):
        write_json(path, "x" * LIMIT)
    with pytest.raises(KeyboardInterrupt):
        stop_halfway(path)
    assert path.read_text() == '{\n "kept": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_architecture_that_finds_no_room_leaves_no_half(tmp_path):
    with file_limit(100), pytest.raises(OSError, match="File too large"):
        write_architecture("mine", tmp_path, ())
    assert list(tmp_path.iterdir()) == []


def stop_halfway(path):
    with whole_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_two_that_write_one_file_take_turns(tmp_path):
    path, order = tmp_path / "x.json", []

    def write(name, begun, go_on):
        with whole_file(path) as temporary:
            order.append(name)
            begun.set()
            assert go_on.wait(20)
            temporary.write_text(name)

    events = {name: (threading.Event(), threading.Event()) for name in ("first", "second")}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(write, "first", *events["first"])
        assert events["first"][0].wait(20)
        second = pool.submit(write, "second", *events["second"])
        assert not events["second"][0].wait(0.3)
        events["second"][1].set()
        events["first"][1].set()
        first.result(20)
        second.result(20)
    assert order == ["first", "second"]
    assert path.read_text() == "second"
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder"])
def test_nothing_is_written_through_what_is_no_file(tmp_path, kind):
    path, mine = tmp_path / "x.json", tmp_path / "mine"
    mine.write_text("mine")
    partial = partial_path(path)
    make = {
        "link": lambda: partial.symlink_to(mine),
        "dangling": lambda: partial.symlink_to(tmp_path / "made"),
        "fifo": lambda: os.mkfifo(partial),
        "folder": partial.mkdir,
    }
    make[kind]()
    caught = []

    def write():
        try:
            write_json(path, 1)
        except UserError as error:
            caught.append(str(error))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(5)
    kinds = {"folder": "a folder", "fifo": "no plain file"}
    assert caught == [
        f"{partial}: is {kinds.get(kind, 'a symbolic link')}, where a file is to be written; move it away"
    ]
    assert mine.read_text() == "mine"
    assert not path.exists()
    assert not (tmp_path / "made").exists()


def test_a_link_to_a_file_is_replaced_and_not_the_file(tmp_path):
    path, mine = tmp_path / "x.json", tmp_path / "mine"
    mine.write_text("mine")
    path.symlink_to(mine)
    write_json(path, 1)
    assert mine.read_text() == "mine"
    assert path.read_text() == "1\n"


@pytest.mark.parametrize(
    ("kind", "named"), [("fifo", "no plain file"), ("folder", "a folder"), ("link to a fifo", "no plain file")]
)
def test_what_is_no_file_is_not_replaced_by_one(tmp_path, kind, named):
    path, fifo = tmp_path / "x.json", tmp_path / "fifo"
    os.mkfifo(fifo)
    make = {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "link to a fifo": lambda: path.symlink_to(fifo)}
    make[kind]()
    before = path.lstat()
    with pytest.raises(UserError) as caught:
        write_json(path, 1)
    where = "where a file is to be written; name another place, or move it away"
    assert str(caught.value) == f"{path}: is {named}, {where}"
    assert path.lstat() == before
    assert {each.name for each in tmp_path.iterdir()} == {"fifo", "x.json"}


def test_a_place_for_no_file_is_told(tmp_path):
    for path, told in (
        (tmp_path / "none" / "x.csv", f"{tmp_path / 'none' / 'x.csv'}: {tmp_path / 'none'} is no folder; make it, or"),
        (Path(), ".: is a folder, where a file is to be written"),
        # a link to a file wherever the output goes to one
        (Path("/dev/stdout"), "/dev/stdout: is no plain file"),
    ):
        with pytest.raises(UserError) as caught:
            refuse_target(path)
        assert str(caught.value).startswith(told)
    refuse_target(tmp_path / "x.csv")


def test_what_is_set_aside_never_takes_another_name_that_is_taken(tmp_path):
    path, new, notices = tmp_path / "x", tmp_path / "new", []
    new.write_text("new content")
    for number, content in enumerate(("one", "two", "three")):
        path.write_text(content)
        set_aside(path, new, notices.append)
        assert not path.exists()
        assert (tmp_path / ("x.aside", "x.aside2", "x.aside3")[number]).read_text() == content
    assert notices[1] == f"{path}: another file was here, and is kept as x.aside2"
    # the beginning of what takes its place is no loss
    path.write_text("new")
    set_aside(path, new, notices.append)
    assert len(notices) == 3
    assert path.exists()


def test_a_plain_file_and_nothing_are_written_over(tmp_path):
    refuse_odd(tmp_path / "x")
    (tmp_path / "x").touch()
    refuse_odd(tmp_path / "x")
