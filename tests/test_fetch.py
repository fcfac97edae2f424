"""`bench data fetch`: from a server that does all that servers do to a folder, or a pack, that is right to the byte."""

import csv
import errno
import filecmp
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import time
import tracemalloc
from contextlib import contextmanager

import pytest

from bench import disk
from bench.api import console
from bench.data import filling
from bench.data.download import fetch, fsd50k_files, http
from bench.data.download.archive import ArchiveFolder, unpack
from bench.data.download.fetch import Fetch
from bench.data.download.fsd50k_files import official_archives, read_archives
from bench.data.download.split_zip import open_zip
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.data.readers.fsd50k import verify
from bench.disk import size_text
from tests.file_server import Answer, serving
from tests.test_cli import one_line
from tests.test_pack import DAMAGE
from tests.test_split_zip import flip, write_split_zip

PIECES = {"FSD50K.dev_audio": 1_700_000, "FSD50K.eval_audio": 2_000_000}  # bytes; the others are not cut


@pytest.fixture(scope="session")
def released(dataset, tmp_path_factory):
    return release(dataset, tmp_path_factory.mktemp("released"), PIECES)


def release(dataset, folder, pieces):
    """Write a data set as FSD50K is released: split archives, and the table of files beside them."""
    sources = sorted(dataset.iterdir(), key=lambda path: (path.name.endswith("audio"), path.name))
    contents = {"FSD50K.doc": {"FSD50K.doc/README.md": b"what it is"}}
    for source in sources:
        files = {f"{source.name}/{path.name}": path.read_bytes() for path in sorted(source.iterdir())}
        contents[source.name] = {f"{source.name}/": b""} | files
    with (folder / "files.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "bytes", "md5", "unpacked"])
        for name, members in contents.items():
            unpacked = sum(map(len, members.values()))
            for piece in write_split_zip(folder / f"{name}.zip", members, pieces.get(name, 10**9)):
                data = piece.read_bytes()
                row = [piece.name, len(data), hashlib.md5(data).hexdigest(), unpacked * (piece.suffix == ".zip")]
                table.writerow(row)
    return folder


@pytest.fixture
def server(released, monkeypatch):
    table = read_archives(released / "files.csv")
    assert all(len(entry.files) > 2 for entry in table if entry.is_audio)
    monkeypatch.setattr(fetch, "official_archives", lambda: table)
    monkeypatch.setattr(http, "_LONGEST_PAUSE", 0)
    with serving(released) as running:
        monkeypatch.setenv("BENCH_FSD50K_URL", running.url)
        yield running
    assert running.most_connections <= 1


def same_folders(first, second):
    """Whether all files are the same, and which there are."""
    names = {str(path.relative_to(first)) for path in first.rglob("*") if path.is_file()}
    return names and all(filecmp.cmp(first / name, second / name, shallow=False) for name in names)


def archives_in(folder):
    return sorted(path.name for path in folder.glob("FSD50K.*.z*"))


def test_the_table_is_that_of_the_record():
    table = official_archives()
    files = [file for entry in table for file in entry.files]
    assert (len(files), sum(file.size for file in files)) == (11, 24_678_734_449)
    assert {len(file.md5) for file in files} == {32}
    assert [len(entry.files) for entry in table] == [1, 1, 1, 6, 2]
    assert 34e9 < sum(entry.unpacked for entry in table) < 35e9
    url = fsd50k_files.url_of(fsd50k_files.ZENODO, "FSD50K.doc.zip")
    assert url == "https://zenodo.org/records/4060432/files/FSD50K.doc.zip?download=1"
    assert fsd50k_files.url_of("http://host/f/", "x.zip") == "http://host/f/x.zip"


def test_whatever_the_server_does_the_folder_is_right(server, bench, dataset, released, tmp_path, monkeypatch):
    def wrong(data):
        return data[:-1] + bytes([data[-1] ^ 1])

    server.misbehave("FSD50K.doc.zip", Answer(503))
    server.misbehave("FSD50K.dev_audio.z01", Answer(drop=10**6), Answer(drop=10**6, reset=True), Answer(429))
    server.misbehave("FSD50K.dev_audio.z02", Answer(change=wrong))
    server.misbehave("FSD50K.dev_audio.z03", Answer(change=lambda data: data[:1000]))
    server.misbehave("FSD50K.dev_audio.zip", Answer(drop=10**5), Answer(ranges=False))
    server.misbehave("FSD50K.eval_audio.z01", Answer(302, {"Location": "/elsewhere/FSD50K.eval_audio.z01"}))
    folder = tmp_path / "FSD50K"
    done = bench("data", "fetch", folder)
    assert done.code == 0
    assert "GB to download, 0.0" in done.err.splitlines()[0]
    assert same_folders(dataset, folder)
    assert archives_in(folder) == archives_in(released)  # they are kept
    assert not list(folder.glob("*.partial"))
    assert bench("data", "verify", folder).code == 0
    assert verify(folder).clips == verify(dataset).clips

    # again: nothing is fetched, read or written
    server.requests.clear()
    for module, name in ((fetch, "download"), (fetch, "unpack"), (fetch, "open_zip")):
        monkeypatch.setattr(module, name, None)
    done = bench("data", "fetch", folder)
    assert done.code == 0
    assert "nothing to do" in done.err
    assert server.requests == []


def test_a_pack_from_archives_is_the_pack_of_the_folder(server, bench, released, packed, tmp_path):
    """Byte for byte, the manifest included, at any sample rate."""
    unpacked, archived = tmp_path / "a" / "FSD50K", tmp_path / "b" / "FSD50K"
    assert bench("data", "fetch", unpacked, "--delete-archives").code == 0
    assert archives_in(unpacked) == []
    for rate in (16_000, 22_050):
        options = ["--sample-rate", rate]
        assert bench("data", "pack", unpacked, "--out", tmp_path / f"a{rate}", *options).code == 0
        done = bench("data", "fetch", archived, "--pack", tmp_path / f"b{rate}", *options)
        assert done.code == 0
        assert "train" in done.err
        assert same_folders(tmp_path / f"a{rate}", tmp_path / f"b{rate}")
    assert not list(archived.rglob("*.wav"))
    assert not list(archived.glob("*_audio"))
    assert (tmp_path / "a16000" / "train.npy").read_bytes() == (packed.folder / "train.npy").read_bytes()
    assert len(server.requests) == 2 * len(archives_in(released))  # nothing was fetched for the second rate

    # a finished pack needs no archives, nor does one of a folder that is unpacked
    assert bench("data", "fetch", archived, "--pack", tmp_path / "b16000", "--delete-archives").code == 0
    assert bench("data", "fetch", archived, "--pack", tmp_path / "b16000").code == 0
    assert bench("data", "fetch", unpacked, "--pack", tmp_path / "c16000").code == 0
    assert same_folders(tmp_path / "a16000", tmp_path / "c16000")
    assert len(server.requests) == 2 * len(archives_in(released))
    one_line(bench("data", "fetch", archived, "--pack", tmp_path / "b16000", "--sample-rate", 8000), "at 16000 Hz")


def test_recordings_that_cannot_be_used_are_left_out_alike(dataset, tmp_path):
    copy, unpacked = tmp_path / "copy", tmp_path / "FSD50K"
    shutil.copytree(dataset, copy)
    wavs = iter(sorted((copy / "FSD50K.dev_audio").iterdir()))
    for damage in DAMAGE.values():
        damage(next(wavs))
    members = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in copy.glob("*_audio/*")}
    write_split_zip(tmp_path / "all.zip", members, 5_000_000)
    shutil.copytree(copy / "FSD50K.ground_truth", unpacked / "FSD50K.ground_truth")
    with open_zip(tmp_path / "all.zip") as opened:
        folders = {name: ArchiveFolder(opened, name) for name in ("FSD50K.dev_audio", "FSD50K.eval_audio")}
        pack(unpacked, tmp_path / "archived", archived=folders)
        unpack(opened, unpacked, lambda done, total: None)
    made = pack(unpacked, tmp_path / "unpacked")
    assert len(made.manifest["left_out"]) == len(DAMAGE)
    assert same_folders(tmp_path / "unpacked", tmp_path / "archived")


PROCESS = """if True:
    import os, signal, sys, time
    from pathlib import Path
    from bench import cli
    from bench.data.download import fetch
    from bench.data.download.fsd50k_files import read_archives
    table = read_archives(Path(sys.argv.pop(1)))
    fetch.official_archives = lambda: table
    done, utime = [], os.utime

    def slow_utime(*args, **options):  # the last step for every file
        utime(*args, **options)
        done.append(args)
        if len(done) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1 if len(done) > 10 else 0)

    os.utime = slow_utime
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test started in the background has not
    cli.main()
"""


def start(released, folder):
    arguments = [sys.executable, "-c", PROCESS, released / "files.csv", "data", "fetch", folder]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_killed_and_interrupted_it_resumes(server, bench, dataset, released, tmp_path):
    folder = tmp_path / "FSD50K"
    half = folder / "FSD50K.dev_audio.z02.partial"
    server.misbehave("FSD50K.dev_audio.z02", Answer(drop=10**6, hold=True))
    process = start(released, folder)
    wait_for(lambda: half.exists() and half.stat().st_size == 10**6, process)
    process.kill()
    process.communicate()
    assert half.exists()
    server.requests.clear()

    process = start(released, folder)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "bench: stopped; the same command resumes from here"
    assert server.ranges("FSD50K.dev_audio.z01") == []  # whole before it was killed
    assert server.ranges("FSD50K.dev_audio.z02") == ["bytes=1000000-"]
    assert len(list(folder.glob("FSD50K.dev_audio/*.wav"))) < 70
    server.requests.clear()

    assert bench("data", "fetch", folder).code == 0
    assert server.requests == []
    assert same_folders(dataset, folder)


@pytest.mark.usefixtures("server")
def test_packing_from_archives_resumes(bench, packed, tmp_path, monkeypatch):
    decoded, decode = [], filling.pieces

    def interrupted(recording, *args):
        if len(decoded) == 60:
            raise KeyboardInterrupt
        decoded.append(recording.name)
        return decode(recording, *args)

    command = ["data", "fetch", tmp_path / "FSD50K", "--pack", tmp_path / "out"]
    monkeypatch.setattr(filling, "pieces", interrupted)
    assert bench(*command).code == 130
    monkeypatch.setattr(
        filling, "pieces", lambda recording, *args: (decoded.append(recording.name), decode(recording, *args))[1]
    )
    assert bench(*command).code == 0
    assert len(set(decoded)) == len(packed.index)
    assert len(decoded) < len(packed.index) + 5  # what was in the works is done again
    assert Pack(tmp_path / "out").fingerprint == packed.fingerprint
    samples = (tmp_path / "out" / "eval.npy", packed.folder / "eval.npy")
    assert samples[0].read_bytes() == samples[1].read_bytes()


def failed(done, message):
    """One line, behind that of what would be done."""
    assert done.code == 2
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if "trying again in" not in line]
    assert len(lines) == 2, done.err
    assert lines[1].startswith("bench: error: ")
    assert message in lines[1]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (900, "900 bytes"),
        (5000, "0.01 MB"),
        (334_701, "0.33 MB"),
        (5e6, "0.01 GB"),
        (24.678e9, "24.68 GB"),
    ],
)
def test_no_size_is_told_as_nothing(size, text):
    assert size_text(size) == text


def test_too_small_a_disk_is_noticed_before_anything_is_fetched(server, bench, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000_000))
    failed(bench("data", "fetch", tmp_path / "x"), "the disk has 0.02 GB free")  # room for the archives alone
    failed(bench("data", "fetch", tmp_path / "x", "--pack", tmp_path / "y"), "0.02 GB free")
    assert server.requests == []
    monkeypatch.setattr(fetch, "on_one_disk", lambda *_: False)  # room for the archives here, for the pack there
    assert bench("data", "fetch", tmp_path / "x", "--pack", tmp_path / "y").code == 0


@pytest.mark.parametrize("what", ["downloading", "unpacking"])
def test_a_disk_that_fills_up_is_one_line(server, bench, dataset, tmp_path, monkeypatch, what):
    """Files may grow to a limit, which the system tells in the same way, and with it the disk's own words."""
    folder = tmp_path / "x"
    if what == "unpacking":
        assert bench("data", "fetch", folder, "--pack", tmp_path / "out").code == 0
        sizes = sorted(path.stat().st_size for path in dataset.glob("*_audio/*"))
        limit = sizes[len(sizes) // 2]
    else:
        limit = 1_000_000
    with file_limit(limit):
        done = bench("data", "fetch", folder)
    failed(done, ": no file may grow that large here; raise the limit (ulimit -f), or take another disk, and run")
    assert f"error: {folder}/FSD50K." in done.err
    monkeypatch.setitem(disk._FAULTS, errno.EFBIG, disk._FAULTS[errno.ENOSPC])
    with file_limit(limit):
        failed(bench("data", "fetch", folder), ": the disk is full; free some space and run the same command again")
    server.requests.clear()
    assert bench("data", "fetch", folder).code == 0
    assert same_folders(dataset, folder)
    assert "FSD50K.ground_truth.zip" not in [name for name, _, _ in server.requests]  # what was whole is kept


@contextmanager
def file_limit(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("options", [[], ["--pack"]], ids=["unpacking", "packing"])
def test_an_archive_that_was_damaged_since_is_fetched_again(server, bench, dataset, released, tmp_path, options):
    """Its size and time are as they were, so that only its CRCs differ."""
    folder = tmp_path / "x"
    shutil.copytree(released, folder)
    command = ["data", "fetch", folder, *options, *[tmp_path / "out"] * len(options)]
    assert bench(*command).code == 0
    assert server.requests == []  # archives that are there already are taken

    piece = folder / "FSD50K.dev_audio.z02"
    before = piece.stat()
    flip(piece, 1_000_000)
    os.utime(piece, ns=(before.st_atime_ns, before.st_mtime_ns))
    shutil.rmtree(folder / "FSD50K.dev_audio", ignore_errors=True)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    failed(bench(*command), "run the same command again to check the archive and fetch what is wrong")
    assert bench(*command).code == 0
    assert [name for name, _, _ in server.requests] == [piece.name]
    assert options or same_folders(dataset, folder)
    assert piece.read_bytes() == (released / piece.name).read_bytes()


def test_an_archive_that_was_changed_is_checked_again(server, bench, tmp_path):
    folder = tmp_path / "x"
    assert bench("data", "fetch", folder, "--pack", tmp_path / "out").code == 0
    flip(folder / "FSD50K.dev_audio.z02", 1000)
    (folder / "FSD50K.eval_audio.z01").touch()
    server.requests.clear()
    assert bench("data", "fetch", folder, "--pack", tmp_path / "out2").code == 0
    assert server.ranges("FSD50K.dev_audio.z02") == [None]
    assert len(server.requests) == 1


def test_a_recording_that_was_deleted_is_unpacked_again(server, bench, dataset, tmp_path):
    folder = tmp_path / "x"
    assert bench("data", "fetch", folder).code == 0
    next(folder.glob("FSD50K.eval_audio/*.wav")).unlink()
    (folder / "FSD50K.dev_audio" / "notes.txt").write_text("mine")
    server.requests.clear()
    assert bench("data", "fetch", folder).code == 0
    assert same_folders(dataset, folder)
    assert server.requests == []


def test_what_the_user_gets_wrong_is_one_line(server, bench, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    for options, message in (
        (["--mirror", "ftp://host/folder"], "--mirror 'ftp://host/folder': should be the URL of a folder"),
        (["--mirror", f"{server.url}/no\nsuch"], r"/no\nsuch': should be the URL of a folder"),
        (["--pack", tmp_path / "taken"], "taken exists and holds something else"),
        (["--sample-rate", 10], "'--sample-rate'"),
    ):
        one_line(bench("data", "fetch", tmp_path / "x", *options), message)
    assert server.requests == []
    server.misbehave("FSD50K.dev_audio.z02", always=Answer(404))
    failed(bench("data", "fetch", tmp_path / "x"), "FSD50K.dev_audio.z02: HTTP 404 Not Found; another server")
    for text in ("{", "[]", '{"unpacked": {"FSD50K.doc": []}}'):
        (tmp_path / "x" / "fetch.json").write_text(text)
        one_line(bench("data", "fetch", tmp_path / "x"), "fetch.json: damaged; remove it")
    with fetch.exclusive(tmp_path / "x"):
        one_line(bench("data", "fetch", tmp_path / "x"), "another `bench data fetch` is at work here")


@pytest.mark.parametrize(
    "login",
    ["me:PASS@", "me:PA/SS@", "me:PA SS@", "me:PA#SS@", "me:PA?SS@", "me:PA@SS@", ":PASS@", "me@", "me:PA\nSS@"],
)
def test_a_mirror_with_a_password_is_refused_at_once_and_shows_none(server, bench, tmp_path, monkeypatch, login):
    url = server.url.replace("//", f"//{login}")
    for options, environment in ((["--mirror", url], server.url), ([], url)):
        monkeypatch.setenv("BENCH_FSD50K_URL", environment)
        done = bench("data", "fetch", tmp_path / "x", *options)
        one_line(done, "user names and passwords are not supported; name one that needs none")
        assert "PA" not in done.err
        assert "SS" not in done.err
        assert "***" in done.err
    assert server.requests == []


@pytest.mark.parametrize(
    "url", ["http://[bad", "http://host:port/", "http://a..b/", "http:///x", "file:///x", "http://", "x"]
)
def test_a_mirror_that_is_no_address_is_refused_at_once(server, bench, tmp_path, url):
    one_line(bench("data", "fetch", tmp_path / "x", "--mirror", url), "should be the URL of a folder")
    assert server.requests == []


def test_a_token_in_a_mirror_shows_in_no_message(server, bench, tmp_path):
    server.misbehave("FSD50K.ground_truth.zip", Answer(503))
    server.misbehave("FSD50K.dev_audio.z02", always=Answer(404))
    done = bench("data", "fetch", tmp_path / "x", "--mirror", f"{server.url}/NAME?token=SECRET&a=1")
    failed(done, "/FSD50K.dev_audio.z02?token=***&a=1: HTTP 404 Not Found")
    assert "SECRET" not in done.err + (tmp_path / "x" / "fetch.json").read_text()


def test_what_a_server_says_is_shown_escaped(server, bench, tmp_path):
    server.misbehave("FSD50K.doc.zip", always=Answer(302, {"Location": "ftp://host/\x1b[2J\x9b31m"}))
    done = bench("data", "fetch", tmp_path / "x")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "\x9b" not in done.err
    assert "which is not followed" in done.err


def test_a_joined_archive_of_the_user_is_kept(server, bench, dataset, released, tmp_path):
    """It has the name of the last piece, which is fetched; until that is there and right, it is not touched."""
    folder, name = tmp_path / "x", "FSD50K.eval_audio.zip"
    shutil.copytree(released, folder)
    mine = bytes(range(256)) * 20_000  # longer than the piece, as a joined archive is
    (folder / name).write_bytes(mine)
    piece = (released / name).stat().st_size
    fetching = Fetch(folder, source=server.url, archives=read_archives(released / "files.csv"))
    assert fetching.bytes_to_download == piece

    failed(bench("data", "fetch", folder, "--mirror", "http://127.0.0.1:1"), "Connection refused")
    assert (folder / name).read_bytes() == mine
    done = bench("data", "fetch", folder, "--delete-archives")
    assert done.code == 0
    assert f"{size_text(piece)} to download" in done.err.splitlines()[0]
    assert f"{folder / name}: another file was here, and is kept as {name}.aside" in done.err
    assert [requested for requested, _, _ in server.requests] == [name]
    assert archives_in(folder) == [f"{name}.aside"]
    assert (folder / f"{name}.aside").read_bytes() == mine
    assert same_folders(dataset, folder)

    # all is unpacked: what has the name of an archive now is none of ours
    (folder / name).write_bytes(mine)
    done = bench("data", "fetch", folder, "--delete-archives")
    assert done.code == 0
    assert "nothing to do" in done.err
    assert (folder / name).read_bytes() == mine


def test_what_will_be_downloaded_is_known_by_content(server, bench, released, tmp_path):
    """Not by names and sizes; what is right is not asked for again."""
    folder = tmp_path / "x"
    shutil.copytree(released, folder)
    piece = folder / "FSD50K.dev_audio.z01"
    flip(piece, 1000)
    (folder / "FSD50K.doc.zip").unlink()
    rest = (released / "FSD50K.dev_audio.z02").read_bytes()
    (folder / "FSD50K.dev_audio.z02").unlink()
    (folder / "FSD50K.dev_audio.z02.partial").write_bytes(rest[:1_000_000])
    fetching = Fetch(folder, source=server.url, archives=read_archives(released / "files.csv"))
    doc = (released / "FSD50K.doc.zip").stat().st_size
    assert fetching.bytes_to_download == piece.stat().st_size + doc + len(rest) - 1_000_000
    assert bench("data", "fetch", folder, "--pack", tmp_path / "out").code == 0
    assert sorted(name for name, _, _ in server.requests) == [
        "FSD50K.dev_audio.z01",
        "FSD50K.dev_audio.z02",
        "FSD50K.doc.zip",
    ]
    assert server.ranges("FSD50K.dev_audio.z02") == ["bytes=1000000-"]


@pytest.mark.usefixtures("server")
def test_a_table_that_the_user_has_changed_is_kept(bench, dataset, tmp_path):
    folder = tmp_path / "x"
    assert bench("data", "fetch", folder).code == 0
    table = folder / "FSD50K.ground_truth" / "dev.csv"
    table.write_text("fname,labels\n")
    done = bench("data", "fetch", folder)
    assert done.code == 0
    assert f"{table}: another file was here, and is kept as dev.csv.aside" in done.err
    assert table.with_name("dev.csv.aside").read_text() == "fname,labels\n"
    assert same_folders(dataset, folder)


def test_an_archive_of_other_content_is_refused_and_nothing_is_made_outside(server, bench, tmp_path, monkeypatch):
    """As a table of files says it is right, only its members tell."""
    released = tmp_path / "released"
    released.mkdir()
    monkeypatch.setattr(server, "folder", released)
    for members, message in (
        ({"../../outside/x": b"x"}, "'../../outside/x' leaves its folder; this is no archive of recordings"),
        (
            {f"FSD50K.doc/{number}": bytes(2 * 10**7) for number in range(6)},
            "unpacks to 0.12 GB, should be about 1000 bytes",
        ),
    ):
        (made,) = write_split_zip(released / "FSD50K.doc.zip", members, 10**9)
        record = fsd50k_files.File(made.name, made.stat().st_size, hashlib.md5(made.read_bytes()).hexdigest())
        table = (fsd50k_files.Archive("FSD50K.doc", (record,), 1000),)
        monkeypatch.setattr(fetch, "official_archives", lambda table=table: table)
        before = sorted(tmp_path.glob("*"))
        failed(bench("data", "fetch", released / str(len(members)) / "below"), message)
        assert sorted(tmp_path.glob("*")) == before


def test_an_archive_of_empty_files_is_unpacked(server, bench, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "folder", tmp_path)
    monkeypatch.setattr(console, "_LOG_SECONDS", -1)  # every step is a line
    (made,) = write_split_zip(tmp_path / "FSD50K.doc.zip", {"FSD50K.doc/a": b"", "FSD50K.doc/b": b""}, 10**9)
    record = fsd50k_files.File(made.name, made.stat().st_size, hashlib.md5(made.read_bytes()).hexdigest())
    monkeypatch.setattr(fetch, "official_archives", lambda: (fsd50k_files.Archive("FSD50K.doc", (record,), 0),))
    done = bench("data", "fetch", tmp_path / "x")
    assert (done.code, done.err.splitlines()[-1]) == (0, f"{tmp_path / 'x'}: all there")
    assert sorted(path.name for path in (tmp_path / "x").rglob("?")) == ["a", "b"]


def test_a_pipe_by_any_of_its_names_hangs_nothing(server, bench, tmp_path):
    for name in ("fetch.json", "fetch.json.partial", "FSD50K.doc.zip", "FSD50K.doc.zip.partial"):
        folder = tmp_path / name
        folder.mkdir()
        os.mkfifo(folder / name)
        done = bench("data", "fetch", folder)
        assert done.code == 2
        assert f"bench: error: {folder / name}: is " in done.err
        assert (folder / name).is_fifo()
    assert server.requests == []


@pytest.mark.usefixtures("server")
def test_a_server_that_is_gone_is_one_line(bench, tmp_path):
    done = bench("data", "fetch", tmp_path / "x", "--mirror", "http://127.0.0.1:1")
    failed(done, "Connection refused, 10 times in a row; run the same command again to resume")


@pytest.mark.usefixtures("server")
def test_memory_stays_flat(bench, dataset, tmp_path, monkeypatch):
    """Far below the sizes of an archive, of a piece, and of what they hold."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    size = sum(path.stat().st_size for path in dataset.glob("*_audio/*"))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert bench("data", "fetch", tmp_path / "x", "--pack", tmp_path / "out").code == 0
        assert bench("data", "fetch", tmp_path / "x").code == 0
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < size / 3
