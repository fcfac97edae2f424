"""A file arrives whole and right, or one line says why not, from a server that does all that servers do."""

import hashlib
import random
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from bench.data.download import http
from bench.data.download.http import download
from bench.errors import UserError
from tests.file_server import Answer, serving

DATA = random.Random(0).randbytes(300_000)
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "x.bin").write_bytes(DATA)
    with serving(folder) as running:
        yield running
    assert running.most_connections <= 1


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(http, "_LONGEST_PAUSE", 0)


@pytest.fixture
def get(server, tmp_path):
    """Download x.bin; return the notices of what went wrong."""

    def run(url="", data=DATA, md5=MD5):
        notices, seen = [], []
        path = tmp_path / "x.bin"
        url = url or f"{server.url}/x.bin?download=1"
        download(url, path, size=len(data), md5=md5, progress=seen.append, notice=notices.append)
        assert path.read_bytes() == data
        assert not (tmp_path / "x.bin.partial").exists()
        assert max(seen, default=len(data)) == len(data)
        return notices

    return run


def wrong_byte(data):
    return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


def test_a_file_arrives(server, get):
    assert get() == []
    assert server.ranges("x.bin") == [None]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("length", [False, True])
def test_a_broken_connection_is_resumed(server, get, length, reset):
    server.misbehave("x.bin", *[Answer(drop=70_000, length=length, reset=reset)] * 3)
    assert len(get()) == 3
    starts = [int(asked[6:-1]) for asked in server.ranges("x.bin")[1:]]
    assert starts == sorted(starts)
    if not reset:  # which may take the last bytes with it
        assert starts == [70_000, 140_000, 210_000]
        assert server.sent == len(DATA)


def test_a_server_that_stands_still_is_left(server, get, monkeypatch):
    monkeypatch.setattr(http, "_TIMEOUT_SECONDS", 0.3)
    server.misbehave("x.bin", Answer(drop=70_000, hold=True))
    assert get() == ["x.bin: timed out; trying again in 0 s"]
    assert server.ranges("x.bin") == [None, "bytes=70000-"]


def test_a_server_without_ranges_starts_anew(server, get):
    server.misbehave("x.bin", Answer(drop=70_000), Answer(drop=50_000, ranges=False), Answer(ranges=False))
    assert len(get()) == 2
    assert server.ranges("x.bin") == [None, "bytes=70000-", "bytes=50000-"]
    assert server.sent == len(DATA) + 120_000


def test_a_file_that_changes_while_it_is_fetched_is_noticed_by_its_etag(server, get):
    server.misbehave("x.bin", Answer(drop=70_000, change=wrong_byte))
    assert len(get()) == 1
    assert server.sent == len(DATA) + 70_000  # from the start, and not twice


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_the_md5_notices(server, get, etag):
    server.misbehave("x.bin", Answer(drop=70_000, change=wrong_byte, etag=etag))
    assert "MD5" in get()[-1]
    assert server.ranges("x.bin") == [None, "bytes=70000-", None]


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Answer(429, {"Retry-After": "1"}), 1),
        (Answer(503, {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(days=-1), usegmt=True)}), 0),
        (Answer(503, {"Retry-After": "tomorrow, maybe"}), 0),
        (Answer(500), 0),
        (Answer(408), 0),
    ],
)
def test_a_busy_server_is_given_time(server, get, answer, seconds):
    server.misbehave("x.bin", Answer(drop=70_000), answer)
    assert f"HTTP {answer.status} " in get()[1]
    (_, _, before), (_, asked, after) = server.requests[-2:]
    assert asked == "bytes=70000-"
    assert seconds <= after - before < seconds + 5


def test_a_date_to_come_back_is_kept(server, get, monkeypatch):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.misbehave("x.bin", Answer(503, {"Retry-After": date}))
    get()
    assert 90 < pauses[0] <= 100


def test_pauses_double_up_to_a_limit_and_start_anew_with_every_byte(server, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(http, "_LONGEST_PAUSE", 5)
    server.misbehave("x.bin", *[Answer(503)] * 5, Answer(drop=10), *[Answer(drop=0)] * 2)
    get()
    assert pauses == [1, 2, 4, 5, 5, 1, 2, 4]


def test_redirects_are_followed_with_the_range(server, get, tmp_path):
    (server.folder / "moved.bin").write_bytes(DATA)
    (tmp_path / "x.bin.partial").write_bytes(DATA[:100_000])
    server.misbehave("moved.bin", always=Answer(302, {"Location": f"{server.url}/x.bin"}))
    get(f"{server.url}/moved.bin")
    assert server.ranges("x.bin") == ["bytes=100000-"]


@pytest.mark.parametrize("name", ["x.bin", "x.bin.partial"])
@pytest.mark.parametrize(
    ("there", "requests"),
    [
        (DATA, []),
        (DATA[:1000], ["bytes=1000-"]),
        (DATA + b"x", [None]),
        (wrong_byte(DATA), [None]),
        (wrong_byte(DATA)[:2000], ["bytes=2000-", None]),
        (b"", [None]),
    ],
    ids=["whole", "beginning", "too long", "wrong", "wrong beginning", "empty"],
)
def test_what_is_there_is_used_if_it_is_right(server, get, tmp_path, name, there, requests):
    (tmp_path / name).write_bytes(there)
    get()
    assert server.ranges("x.bin") == requests


WRONG = {
    "MD5 .* should be": Answer(change=wrong_byte),
    "299990 bytes, should be 300000": Answer(change=lambda data: data[:-10]),
    "300010 bytes, should be 300000": Answer(change=lambda data: data + bytes(10)),
    "27 bytes": Answer(change=lambda data: b"<html>try again later</html>"[:27]),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_file_is_fetched_once_more(server, get, tmp_path, message):
    server.misbehave("x.bin", WRONG[message])
    assert len(get()) == 1
    (tmp_path / "x.bin").unlink()
    server.requests.clear()
    server.misbehave("x.bin", always=WRONG[message])
    with pytest.raises(UserError, match=message) as caught:
        get()
    assert "\n" not in str(caught.value)
    assert server.ranges("x.bin") == [None, None]
    assert list(tmp_path.glob("x.bin*")) == []


@pytest.mark.parametrize(
    ("answer", "causes"),
    [
        (Answer(change=lambda data: data[:50_000]), ["shorter than what is here"]),
        (Answer(shift=1), ["asked for bytes from 100000 on, answered 'bytes 100001-299999/300000'"]),
    ],
)
def test_a_resumed_file_that_does_not_fit_is_started_anew(server, get, tmp_path, answer, causes):
    (tmp_path / "x.bin.partial").write_bytes(DATA[:100_000])
    server.misbehave("x.bin", answer)
    notices = get()
    assert [line.removeprefix("x.bin: ").partition(";")[0] for line in notices] == causes
    assert server.ranges("x.bin") == ["bytes=100000-", None]


STUBBORN = {
    r"HTTP 404 Not Found; another server can be named with --mirror": (Answer(404), 1),
    r"HTTP 403 Forbidden": (Answer(403), 1),
    r"HTTP 503 .*, 10 times in a row; run the same command again to resume": (Answer(503), 10),
    r"asks to wait for 86400 s": (Answer(429, {"Retry-After": "86400"}), 1),
    r"the connection broke after 0 of 300000 bytes, 10 times": (Answer(drop=0), 10),
    r"the connection broke after 70000 of 300000 bytes, 10 times": (Answer(drop=70_000, ranges=False), 10),
}


@pytest.mark.parametrize("message", STUBBORN)
def test_a_server_that_will_not_is_one_line(server, get, tmp_path, message):
    answer, requests = STUBBORN[message]
    server.misbehave("x.bin", always=answer)
    with pytest.raises(UserError, match=message) as caught:
        get()
    assert "\n" not in str(caught.value)
    assert len(server.requests) == requests
    if answer.drop:
        assert (tmp_path / "x.bin.partial").read_bytes() == DATA[: answer.drop]  # kept for the next call


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/x.bin", "Connection refused, 10 times in a row"),
        ("http://127.0.0.1:port/x.bin", "nonnumeric port"),
        ("http://127.0.0.1/a b", "can't contain control characters"),
    ],
)
def test_a_server_that_is_not_there_is_one_line(get, url, message):
    with pytest.raises(UserError, match=message) as caught:
        get(url)
    assert "\n" not in str(caught.value)
