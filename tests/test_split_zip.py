"""Archives cut into pieces read like whole ones, whoever cut them; damaged ones are named."""

import io
import os
import random
import stat
import struct
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.data.download.archive import ArchiveFolder, require_harmless, unpack
from bench.data.download.split_zip import DamagedArchive, open_zip
from bench.errors import UserError
from tests.conftest import needs

TIME = 1_601_000_001  # an odd second, which the zip format's own field cannot hold
MEMBERS = {
    "data/": b"",
    "data/noise.bin": random.Random(0).randbytes(70_000),
    "data/text.txt": b"the same words again and again\n" * 3000,
    "data/empty": b"",
    "data/more/bytes.bin": random.Random(1).randbytes(20_000),
    "other.txt": b"x",
}


def write_split_zip(path, members, piece, *, zip64=False):
    """An archive as `zip -s` cuts it: NAME.z01, ..., NAME.zip of `piece` bytes each, less in the last one.

    Every second member is stored; with `zip64`, whatever can be is in zip64 fields. Returns the pieces' paths.
    """
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compresslevel=1) as archive:
        for number, (name, content) in enumerate(members.items()):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_STORED if number % 2 else zipfile.ZIP_DEFLATED
            info.extra = struct.pack("<2HBL", 0x5455, 5, 1, TIME)
            archive.writestr(info, content)
    whole = whole.getvalue()
    size, start = struct.unpack("<2L", whole[-10:-2])
    data, directory = b"PK\7\b" + whole[:start], whole[start : start + size]
    entries = [place_anew(entry, piece, zip64) for entry in split_entries(directory)]
    count, size, place = len(entries), sum(map(len, entries)), divmod(len(data), piece)
    data += b"".join(entries)
    parts = [data[at : at + piece] for at in range(0, len(data), piece)]
    if len(parts[-1]) + 98 > piece:
        parts.append(b"")  # the last records are never cut
    last, offset = len(parts) - 1, len(parts[-1])
    if zip64:
        parts[-1] += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, last, place[0], count, count, size, place[1])
        parts[-1] += struct.pack("<4sLQL", b"PK\6\7", last, offset, last + 1)
        count, size, place = 0xFFFF, 2**32 - 1, (0xFFFF, 2**32 - 1)
    parts[-1] += struct.pack("<4s4H2LH", b"PK\5\6", last, place[0], count, count, size, place[1], 0)
    paths = [path.with_suffix(f".z{number:02}") for number in range(1, last + 1)] + [path]
    for part, content in zip(paths, parts, strict=True):
        part.write_bytes(content)
    return paths


def split_entries(directory):
    while directory:
        end = 46 + sum(struct.unpack_from("<3H", directory, 28))
        yield directory[:end]
        directory = directory[end:]


def place_anew(entry, piece, zip64):
    """An entry with its piece and the offset in it, instead of the offset in the whole."""
    packed, size, name_length, extra_length = struct.unpack_from("<2L2H", entry, 20)
    number, offset = divmod(struct.unpack_from("<L", entry, 42)[0] + 4, piece)  # 4 of the mark at the start
    entry = bytearray(entry)
    if zip64:
        field = struct.pack("<2H3QL", 1, 28, size, packed, offset, number)
        entry[46 + name_length : 46 + name_length] = field
        struct.pack_into("<2L2H", entry, 20, 2**32 - 1, 2**32 - 1, name_length, extra_length + len(field))
        number, offset = 0xFFFF, 2**32 - 1
    struct.pack_into("<H", entry, 34, number)
    struct.pack_into("<L", entry, 42, offset)
    return bytes(entry)


def contents(archive):
    return {info.filename: archive.read(info) for info in archive.infolist()}


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("piece", [1000, 4096, 30_011, 10_000_000])
def test_pieces_read_like_one_archive(tmp_path, piece, zip64):
    paths = write_split_zip(tmp_path / "x.zip", MEMBERS, piece, zip64=zip64)
    assert (len(paths) == 1) == (piece == 10_000_000)
    with open_zip(tmp_path / "x.zip") as archive:
        assert contents(archive) == MEMBERS


def test_an_ordinary_archive_reads_as_ever(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"as some have it"
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    with open_zip(tmp_path / "x.zip") as archive:
        assert contents(archive) == MEMBERS


@pytest.mark.parametrize("options", [[], ["-0"], ["-fz"], ["-X"]], ids=["deflated", "stored", "zip64", "plain"])
def test_what_info_zip_cuts(tmp_path, options):
    """Also its times: unpacked, a file has that of the original, without -X to the second and in any time zone."""
    needs("zip")
    for name, content in MEMBERS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)
            os.utime(path, (TIME, TIME))
    noise = random.Random(2).randbytes(200_000)
    (tmp_path / "data" / "noise.bin").write_bytes(noise)
    os.utime(tmp_path / "data" / "noise.bin", (TIME, TIME))
    command = ["zip", "-q", "-r", "-s", "65536", *options, "x.zip", "data", "other.txt"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert len(list(tmp_path.glob("x.z*"))) >= 4
    with open_zip(tmp_path / "x.zip") as archive:
        found = contents(archive)
        unpack(archive, tmp_path / "out", lambda done, total: None)
    assert {name: found[name] for name in MEMBERS} == MEMBERS | {"data/noise.bin": noise}
    assert abs((tmp_path / "out" / "other.txt").stat().st_mtime - TIME) <= (1 if "-X" in options else 0)


def test_threads_read_at_the_same_time(tmp_path):
    members = {f"{number}": random.Random(number).randbytes(5000) for number in range(60)}
    write_split_zip(tmp_path / "x.zip", members, 40_000)
    with open_zip(tmp_path / "x.zip") as archive, ThreadPoolExecutor(8) as pool:
        folder = ArchiveFolder(archive, "")
        assert list(pool.map(archive.read, list(members) * 20)) == list(members.values()) * 20
        assert str(folder).endswith("x.zip/")


def test_a_member_is_inflated_no_further_than_it_is_read(tmp_path):
    content = bytes(10_000_000)
    write_split_zip(tmp_path / "x.zip", {"a/zeros": content}, 10_000_000)
    with open_zip(tmp_path / "x.zip") as archive:
        member = ArchiveFolder(archive, "a") / "zeros"
        with member.open("rb") as file:
            assert file.seek(0, io.SEEK_END) == len(content)
            file.seek(100)
            assert file.read(10) == bytes(10)
            assert len(file.raw.inflated) < 20_000
            file.seek(-5, io.SEEK_END)
            assert file.read(10) == bytes(5)
        assert member.read_bytes() == content
        assert (member.stat().st_size, member.stat().st_mtime_ns) == (len(content), TIME * 10**9)
        for gone in (ArchiveFolder(archive, "b"), ArchiveFolder(archive, "a/zer")):
            assert not gone.is_dir()
        with pytest.raises(FileNotFoundError):
            (ArchiveFolder(archive, "a") / "ones").stat()


def test_unpacking_resumes_and_distinguishes_half_written_files_from_whole_ones(tmp_path):
    write_split_zip(tmp_path / "x.zip", MEMBERS, 50_000)
    out, calls = tmp_path / "out", []
    with open_zip(tmp_path / "x.zip") as archive:
        sizes = unpack(archive, out, lambda done, total: calls.append((done, total)))
        assert sizes == {name: len(content) for name, content in MEMBERS.items() if not name.endswith("/")}
        assert calls[-1] == (sum(sizes.values()),) * 2
        whole, half = out / "data" / "noise.bin", out / "data" / "text.txt"
        inode = whole.stat().st_ino, whole.stat().st_ctime_ns
        half.write_bytes(b"?" * half.stat().st_size)  # the size is right already, the time is that of writing
        (out / "other.txt").unlink()
        unpack(archive, out, lambda done, total: None)
    assert (whole.stat().st_ino, whole.stat().st_ctime_ns) == inode
    for name in sizes:
        assert (out / name).read_bytes() == MEMBERS[name]
        assert (out / name).stat().st_mtime == TIME


def test_an_archive_may_be_longer_than_4_gib(tmp_path):
    """Two pieces of 3 GiB, as FSD50K has: nearly all holes, which take no disk."""
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as archive:
        archive.writestr("far", b"away")
    small, size = (tmp_path / "small.zip").read_bytes(), 3 << 30
    length, start = struct.unpack("<2L", small[-10:-2])
    entry = bytearray(small[start : start + length])
    struct.pack_into("<H", entry, 34, 1)
    struct.pack_into("<L", entry, 42, 2 << 30)
    for name in ("x.z01", "x.z02"):
        with (tmp_path / name).open("wb") as file:
            file.seek(2 << 30)
            file.write(small[:start] if name == "x.z02" else b"")
            file.truncate(size)
    (tmp_path / "x.zip").write_bytes(entry + struct.pack("<4s4H2LH", b"PK\5\6", 2, 2, 1, 1, length, 0, 0))
    with open_zip(tmp_path / "x.zip") as archive:
        assert contents(archive) == {"far": b"away"}
        assert archive.infolist()[0].header_offset == 5 << 30


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "no directory at its end": lambda paths: paths[-1].write_bytes(b"<html>try again later</html>"),
    "x.z02: no such file": lambda paths: paths[1].unlink(),
    "Bad CRC-32": lambda paths: flip(paths[1], 5000),
    "x.zip: data/noise.bin: not readable": lambda paths: os.truncate(paths[1], 10),
    "5 entries of 6 in its directory": lambda paths: flip(paths[-1], paths[-1].read_bytes().rfind(b"PK\1\2")),
    "not readable": lambda paths: os.truncate(paths[-1], 22),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_one_line(tmp_path, message):
    DAMAGE[message](write_split_zip(tmp_path / "x.zip", MEMBERS, 20_000))
    with pytest.raises(UserError, match=message) as caught, open_zip(tmp_path / "x.zip") as archive:
        unpack(archive, tmp_path / "out", lambda done, total: None)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DamagedArchive) == ("no such file" not in message)


def write_members(path, *members):
    """An archive with these members: their names as they are, with kinds of files in the upper half of a field."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, kind in members:
            info = zipfile.ZipInfo("x" * len(name))
            info.filename = name  # as no constructor would leave it
            info.external_attr = (kind | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)


HOSTILE = {
    "../outside/x": "leaves its folder",
    "a/../../outside/x": "leaves its folder",
    "a/./x": "leaves its folder",
    "a//x": "leaves its folder",
    "../outside/": "leaves its folder",
    "/outside/x": "is no relative path",
    "//host/share/x": "is no relative path",
    "C:/outside/x": "is no relative path",
    "c:x": "is no relative path",
    "..\\outside\\x": "is no relative path",
    "a/\\x": "is no relative path",
    "a/NUL": "names a device",
    "con.wav": "names a device",
    "a\0b": "is no name for a file",
    "a\x1b[2Jb": "is no name for a file",
    "a\nb": "is no name for a file",
    "a\u202eb": "is no name for a file",
    "x" * 300: "is no name for a file",
    "d/" * 2000 + "x": "is no name for a file",
    "a/fine.partial": "is named like a file that is not whole yet",
}


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_member_that_leads_elsewhere_makes_nothing(tmp_path, name):
    inside = tmp_path / "below" / "folder"
    inside.mkdir(parents=True)
    write_members(tmp_path / "x.zip", ("a/fine", b"1", 0), (name, b"2", stat.S_IFREG))
    before = sorted(tmp_path.rglob("*"))
    with open_zip(tmp_path / "x.zip") as archive, pytest.raises(UserError) as caught:
        unpack(archive, inside, lambda done, total: None)
    assert f"x.zip: {name.removesuffix('/')!r} {HOSTILE[name]}; this is no archive of recordings" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_member_that_is_no_file_makes_nothing(tmp_path, kind):
    write_members(tmp_path / "x.zip", ("a", b"/etc", kind), ("a2/x", b"", 0))
    with open_zip(tmp_path / "x.zip") as archive, pytest.raises(UserError, match="'a' is a link or a device"):
        unpack(archive, tmp_path / "out", lambda done, total: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/x", "a/x"], "'a/x' is there twice"),
        (["a/x", "A/X"], "'A/X' is there twice"),
        (["a/x", "a/x/"], "'a/x' is there twice"),
        (["a", "a/x"], "'a' is both a file and a folder"),
        (["a/x", "A"], "'a' is both a file and a folder"),
    ],
)
def test_two_members_of_one_name_make_nothing(tmp_path, names, message):
    write_members(tmp_path / "x.zip", *[(name, b"", 0) for name in names])
    with open_zip(tmp_path / "x.zip") as archive, pytest.raises(UserError, match=message):
        unpack(archive, tmp_path / "out", lambda done, total: None)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_inflates_beyond_measure_is_refused(tmp_path):
    write_members(tmp_path / "x.zip", *[(f"a/{number}.wav", bytes(2 * 10**7), 0) for number in range(11)])
    assert (tmp_path / "x.zip").stat().st_size < 300_000
    with open_zip(tmp_path / "x.zip") as archive:
        require_harmless(archive)
        require_harmless(archive, 2 * 10**8)
        with pytest.raises(UserError, match=r"x.zip: unpacks to 0.22 GB, should be about 0.01 GB"):
            require_harmless(archive, 10**7)


def test_a_member_is_never_longer_than_it_declares(tmp_path):
    write_members(tmp_path / "x.zip", ("a", bytes(10**6), 0))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for field in (22, data.rfind(b"PK\1\2") + 24):
        struct.pack_into("<L", data, field, 100)
    (tmp_path / "x.zip").write_bytes(data)
    with open_zip(tmp_path / "x.zip") as archive, pytest.raises(DamagedArchive, match="Bad CRC-32"):
        unpack(archive, tmp_path / "out", lambda done, total: None)
    assert (tmp_path / "out" / "a.partial").stat().st_size <= 100
    assert not (tmp_path / "out" / "a").exists()


def test_a_file_of_the_user_in_the_way_is_kept(tmp_path):
    write_split_zip(tmp_path / "x.zip", MEMBERS, 50_000)
    out, notices = tmp_path / "out", []
    (out / "data").mkdir(parents=True)
    (out / "data" / "text.txt").write_bytes(b"mine")
    (out / "data" / "noise.bin").write_bytes(MEMBERS["data/noise.bin"])  # right, but of another time
    with open_zip(tmp_path / "x.zip") as archive:
        unpack(archive, out, lambda done, total: None, notices.append)
    assert notices == [f"{out}/data/text.txt: another file was here, and is kept as text.txt.aside"]
    assert (out / "data" / "text.txt.aside").read_bytes() == b"mine"
    assert (out / "data" / "text.txt").read_bytes() == MEMBERS["data/text.txt"]
    assert sorted(path.name for path in out.glob("data/*.*")) == ["noise.bin", "text.txt", "text.txt.aside"]


@pytest.mark.parametrize("name", ["text.txt", "text.txt.partial"])
@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_unpacking_writes_through_nothing(tmp_path, name, kind):
    write_split_zip(tmp_path / "x.zip", MEMBERS, 50_000)
    (tmp_path / "mine").write_bytes(b"mine")
    path = tmp_path / "out" / "data" / name
    path.parent.mkdir(parents=True)
    {"link": lambda: path.symlink_to(tmp_path / "mine"), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with open_zip(tmp_path / "x.zip") as archive, pytest.raises(UserError, match=f"{name}: is .*; move it away"):
        unpack(archive, tmp_path / "out", lambda done, total: None)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert os.path.lexists(path)


def test_a_file_where_a_folder_is_to_be_is_kept(tmp_path):
    write_split_zip(tmp_path / "x.zip", MEMBERS, 50_000)
    (tmp_path / "data").write_bytes(b"mine")
    with open_zip(tmp_path / "x.zip") as archive, pytest.raises(UserError, match="/data: a file is where a folder is"):
        unpack(archive, tmp_path, lambda done, total: None)
    assert (tmp_path / "data").read_bytes() == b"mine"


def test_a_comment_is_not_taken_for_the_end_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"1")
        archive.comment = b"PK\5\6" + bytes(30)
    with open_zip(tmp_path / "x.zip") as archive:
        assert archive.read("a") == b"1"


def test_bytes_changed_anywhere_are_damage_and_nothing_else(tmp_path):
    """What zipfile makes of them is any of a dozen errors; whatever it is, nothing is written outside."""
    paths = write_split_zip(tmp_path / "x.zip", MEMBERS, 30_000)
    good = paths[-1].read_bytes()
    start = good.find(b"PK\1\2")
    dice, told = random.Random(0), []
    for number in range(200):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(start, len(data))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        paths[-1].write_bytes(data)
        try:
            with open_zip(tmp_path / "x.zip") as archive:
                unpack(archive, tmp_path / "in" / str(number), lambda done, total: None)
        except UserError as error:
            told.append(str(error))
    assert len(told) > 100
    assert not [line for line in told if "\n" in line]
    assert {path.name for path in tmp_path.iterdir()} == {"in", *(path.name for path in paths)}
