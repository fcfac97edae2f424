"""A file arrives whole and right, or one line says why not, from a server that does all that servers do."""

import gzip
import hashlib
import os
import random
import threading
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


# --- answers that no server should give


ODD_HEADERS = {
    "a length in other digits": {"Content-Length": "\xb2"},
    "a length below nothing": {"Content-Length": "-5"},
    "a length of many digits": {"Content-Length": "9" * 5000},
    "a length that is none": {"Content-Length": "3e5"},
}


@pytest.mark.parametrize("headers", ODD_HEADERS)
def test_a_length_that_is_no_number_is_passed_over(server, get, headers):
    server.misbehave("x.bin", Answer(headers=ODD_HEADERS[headers]))
    assert get() == []


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        ({"Content-Encoding": "gzip"}, "compressed by gzip, which was not asked for"),
        ({"Content-Range": "bytes \xb2-9/10"}, "asked for bytes from 1000 on, answered 'bytes \xb2-9/10'"),
        ({"Content-Range": "bytes 1000-1/" + "9" * 5000}, "asked for bytes from 1000 on, answered"),
        ({"Content-Range": ""}, "asked for bytes from 1000 on, answered ''"),
    ],
)
def test_an_odd_answer_is_asked_for_once_more(server, get, tmp_path, headers, cause):
    (tmp_path / "x.bin.partial").write_bytes(DATA[:1000])
    server.misbehave("x.bin", Answer(headers=headers))
    (notice,) = get()
    assert cause in notice
    assert server.ranges("x.bin") == ["bytes=1000-", None]


def test_a_compressed_body_is_never_kept(server, get, tmp_path):
    answer = Answer(change=gzip.compress, headers={"Content-Encoding": "gzip"}, length=False)
    server.misbehave("x.bin", always=answer)
    with pytest.raises(UserError, match="compressed by gzip, which was not asked for; that is not the file"):
        get()
    assert list(tmp_path.glob("x.bin*")) == []


@pytest.mark.parametrize("wait", ["\xb2", "9" * 400, "-1", "Mon, 99 Foo 99999999 00:00:00 GMT"])
def test_a_wait_that_is_none_is_passed_over(server, get, wait):
    server.misbehave("x.bin", Answer(503, {"Retry-After": wait}))
    assert get() == ["x.bin: HTTP 503 Service Unavailable; trying again in 0 s"]


LEADS_ASTRAY = {
    "http://[bad/x": "HTTP 302 it redirects to no address: Invalid IPv6 URL",
    "http://a..b/x": "HTTP 302 it redirects to http://a..b/x, which is not followed",
    "http://host:port/x": "HTTP 302 it redirects to http://host:port/x, which is not followed",
    "http://" + "a" * 300 + "/x": "which is not followed",
    "file:///etc/passwd": "HTTP 302",
    "ftp://127.0.0.1/x": "HTTP 302 it redirects to ftp://127.0.0.1/x, which is not followed",
    "data:text/plain,x": "HTTP 302",
    "/x.bin": "HTTP 302",  # to itself
}


@pytest.mark.parametrize("where", LEADS_ASTRAY)
def test_a_redirect_to_nowhere_is_one_line(server, get, tmp_path, where):
    server.misbehave("x.bin", always=Answer(302, {"Location": where}))
    with pytest.raises(UserError) as caught:
        get()
    assert LEADS_ASTRAY[where] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("x.bin*")) in ([], [tmp_path / "x.bin.partial"])


def test_a_safe_connection_is_not_left_for_another():
    request, redirects = http.Request("https://host/x"), http._Redirects()
    with pytest.raises(http.HTTPError, match="it redirects to http://host/x, which is not followed"):
        redirects.redirect_request(request, None, 302, "Found", {}, "http://host/x")
    assert redirects.redirect_request(request, None, 302, "Found", {}, "https://h/y").full_url == "https://h/y"


def test_a_server_that_sends_a_byte_a_minute_is_left(server, get, tmp_path, monkeypatch):
    monkeypatch.setattr(http, "_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(http, "_SLOWEST", 10_000)
    server.misbehave("x.bin", always=Answer(drip=0.03))
    with pytest.raises(UserError, match=r"bytes in 0 s, 10 times in a row; run the same command again to resume"):
        get()
    kept = (tmp_path / "x.bin.partial").read_bytes()
    assert len(kept) >= 10
    assert DATA.startswith(kept)


def test_a_token_in_an_address_shows_nowhere(server, get):
    server.misbehave("x.bin", always=Answer(404))
    with pytest.raises(UserError, match=r"token=\*\*\*: HTTP 404") as caught:
        get(f"{server.url}/x.bin?a=1&token=abc")
    assert "abc" not in str(caught.value)


def test_an_empty_file_arrives(server, get):
    assert get(data=b"", md5=hashlib.md5(b"").hexdigest()) == []
    assert server.requests == []


# --- what was there before


@pytest.mark.parametrize("mine", [b"mine", DATA[:-1] + b"x", DATA + b"and more"], ids=["short", "wrong", "long"])
def test_another_file_by_that_name_is_never_lost(server, get, tmp_path, mine):
    path = tmp_path / "x.bin"
    path.write_bytes(mine)
    with pytest.raises(UserError, match="Connection refused"):
        get("http://127.0.0.1:1/x.bin")
    assert path.read_bytes() == mine
    server.misbehave("x.bin", always=Answer(change=wrong_byte))
    with pytest.raises(UserError, match="not the file of the record"):
        get()
    assert path.read_bytes() == mine

    server.misbehave("x.bin")
    notices = get()
    assert notices[-1] == f"{path}: another file was here, and is kept as x.bin.aside"
    assert (tmp_path / "x.bin.aside").read_bytes() == mine
    path.write_bytes(b"a second one")
    get()
    assert (tmp_path / "x.bin.aside2").read_bytes() == b"a second one"
    assert (tmp_path / "x.bin.aside").read_bytes() == mine


def test_the_beginning_of_the_file_itself_is_not_kept_twice(get, tmp_path):
    (tmp_path / "x.bin").write_bytes(DATA[:1000])
    assert get() == []
    assert [path.name for path in tmp_path.glob("x.bin*")] == ["x.bin"]


@pytest.mark.parametrize("content", [DATA, DATA[:1000], b"mine"], ids=["whole", "beginning", "other"])
def test_a_link_is_not_written_through(get, tmp_path, content):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(content)
    (tmp_path / "x.bin").symlink_to(elsewhere)
    get()
    assert elsewhere.read_bytes() == content


def timely(function):
    """In a thread, as what hangs would hang the tests."""
    caught = []

    def run():
        try:
            function()
        except UserError as error:
            caught.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=5)
    assert not thread.is_alive(), "it hangs"
    return caught


@pytest.mark.parametrize("name", ["x.bin", "x.bin.partial"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "dangling"])
def test_what_is_no_file_is_told_and_stays(server, get, tmp_path, name, kind):
    path, mine = tmp_path / name, tmp_path / "mine"
    mine.write_bytes(b"mine")
    make = {
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(mine),
        "dangling": lambda: path.symlink_to(tmp_path / "made"),
    }
    make[kind]()
    caught = timely(get)
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "made").exists()
    if name == "x.bin" and kind in ("link", "dangling"):
        assert caught == []  # moved aside
        assert (tmp_path / "x.bin.aside").is_symlink()
    else:
        (line,) = caught
        assert line.startswith(f"{path}: is ")
        assert line.endswith("move it away")
        assert server.requests == []
        assert os.path.lexists(path)
