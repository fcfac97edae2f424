"""One large file over HTTP: one connection at a time, resumed where it broke, checked by size and MD5.

Semantics of ranges, entity tags and Retry-After are those of RFC 9110.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from bench.disk import partial_path, refuse_odd, set_aside
from bench.errors import UserError, one_line

__all__ = ["download", "is_file_of", "require_mirror"]

# Seconds without a byte after which a connection counts as broken.
_TIMEOUT_SECONDS = 60
# In a row, that bring no new byte: about four minutes with the pauses below.
_ATTEMPTS = 10
# Seconds between attempts, which double from one second on.
_LONGEST_PAUSE = 60
# Seconds that a server may ask for. Longer, and the user should know rather than watch a bar that stands still.
_LONGEST_WAIT = 900
# Bytes a second, over that time; a slower one would take a year for a piece of an archive.
_SLOWEST = 100
_BLOCK = 1 << 16


def download(
    url: str, path: Path, *, size: int, md5: str, progress: Callable[[int], None], notice: Callable[[str], None]
) -> None:
    """Make `path` the file of that size and MD5; what is already there is taken for its beginning.

    Until it is complete and right it is called NAME.partial, which a later call resumes. Another file that `path` was
    before stays until then, and is kept as NAME.aside. `progress` takes the bytes that are there, `notice` a line about
    that, or about what went wrong and is tried again. Raises UserError if the server has no such file, another one,
    does not answer, or asks to wait for too long, or if there is something else than a file in its place.
    """
    partial = partial_path(path)
    refuse_odd(partial)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no file, where one is to be downloaded; move it away")
    if path.is_file():
        if is_file_of(path, size, md5):
            progress(size)
            return
        # perhaps put here by hand: used like one that was interrupted, and not touched until there is a right one
        if not partial.exists() and path.stat().st_size < size:
            shutil.copyfile(path, partial)
    transfer = _Transfer(url, partial, size, progress, notice)
    # A wrong file may be due to what was there before, or to a proxy's page in place of the file, so it is fetched once
    # more from the start. A second one is what the server has.
    for chances in (1, 0):
        try:
            transfer.run()
            _check(partial, size, md5)
            break
        except _WrongFile as error:
            partial.unlink(missing_ok=True)
            if not chances:
                raise UserError(f"{url}: {error}; that is not the file of the record: try another --mirror") from None
            notice(f"{path.name}: {error}; fetching it once more from the start")
    set_aside(path, partial, notice)
    partial.replace(path)


def require_mirror(source: str) -> None:
    """Raise UserError, before anything is asked for, if `source` can be no folder's URL, or needs a user's password."""
    is_url = _is_address(source)
    # where a password has a / or # in it, what seems to be the host is not one
    if "@" in (urlsplit(source).netloc if is_url else source):
        raise UserError(f"--mirror {source!r}: user names and passwords are not supported; name one that needs none")
    if not is_url:
        raise UserError(f"--mirror {source!r}: should be the URL of a folder, http://... or https://...")


def _is_address(url: str, schemes: Sequence[str] = ("http", "https")) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        # the port is looked at: one that is no number is an error only then
        return parts.scheme in schemes and bool(host) and parts.port != 0 and not re.search(r"[\s\x00-\x1f\x7f]", url)
    # of a host or port that can be none
    except ValueError:
        return False


def is_file_of(path: Path, size: int, md5: str) -> bool:
    """Return whether a file has this size and MD5; only the second takes as long as reading it."""
    try:
        _check(path, size, md5)
    except _WrongFile:
        return False
    return True


class _Interrupted(Exception):
    """What another attempt may fix; `wait` is for how many seconds the server asks, `slow` that it hardly sends."""

    def __init__(self, cause: str, wait: float = 0, *, slow: bool = False) -> None:
        super().__init__(cause)
        self.wait, self.slow = wait, slow


class _WrongFile(Exception):
    """What came is not the file that was asked for; the message says how that shows."""


@dataclass
class _Transfer:
    url: str
    partial: Path
    size: int
    progress: Callable[[int], None]
    notice: Callable[[str], None]
    etag: str = ""  # of the file that the beginning is from, as far as this process knows

    @property
    def done(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def run(self) -> None:
        # there even where it is empty and nothing is asked for
        self.partial.touch()
        failures, furthest = 0, self.done
        while self.done < self.size:
            try:
                self.attempt()
            except _Interrupted as error:
                # Only new bytes count as success: a server without ranges that always breaks at the same place starts
                # from zero each time, and would be asked for ever. So would one that sends a byte a minute.
                failures = failures + 1 if error.slow or self.done <= furthest else 1
                furthest = max(furthest, self.done)
                again = "run the same command again to resume"
                if failures == _ATTEMPTS:
                    raise UserError(f"{self.url}: {error}, {failures} times in a row; {again}") from None
                if error.wait > _LONGEST_WAIT:
                    raise UserError(f"{self.url}: {error}: asks to wait for {error.wait:.0f} s; then {again}") from None
                seconds = max(error.wait, min(2 ** (failures - 1), _LONGEST_PAUSE))
                self.notice(f"{self.partial.stem}: {error}; trying again in {seconds:.0f} s")
                time.sleep(seconds)

    def attempt(self) -> None:
        with _get(self.url, self.done, self.etag) as response:
            # any other answer is all of it: the server knows no ranges, or the file is not the one whose beginning is
            # here (If-Range)
            if response.status == 206:
                mode, declared = "ab", _size_by_range(response.headers, self.done)
            else:
                mode, declared = "wb", _number(response.headers.get("Content-Length", ""))
            if declared not in (None, self.size):
                raise _WrongFile(f"{declared} bytes, should be {self.size}")
            if (packed := response.headers.get("Content-Encoding", "identity")) != "identity":
                raise _WrongFile(f"compressed by {packed}, which was not asked for")
            # a weak tag does not stand for the very same bytes, and is of no use in If-Range
            etag = response.headers.get("ETag", "")
            self.etag = "" if etag.startswith("W/") else etag
            with self.partial.open(mode) as file:
                self._receive(response, file)

    def _receive(self, response: HTTPResponse, file: IO[bytes]) -> None:
        start, began = file.tell(), time.monotonic()
        done = start
        # never beyond the size: a server that sends without end must not fill the disk
        while done < self.size:
            with _explain_errors(self.url):
                data = response.read1(min(_BLOCK, self.size - done))
            if not data:
                raise _Interrupted(f"the connection broke after {done} of {self.size} bytes")
            done += file.write(data)
            self.progress(done)
            seconds = time.monotonic() - began
            if seconds > _TIMEOUT_SECONDS and done - start < _SLOWEST * seconds and done < self.size:
                raise _Interrupted(f"{done - start} bytes in {seconds:.0f} s", slow=True)


def _check(path: Path, size: int, md5: str) -> None:
    if path.stat().st_size != size:
        raise _WrongFile(f"{path.stat().st_size} bytes, should be {size}")
    # the only checksum that the record lists
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise _WrongFile(f"MD5 {found}, should be {md5}")


def _get(url: str, start: int, etag: str) -> HTTPResponse:
    # unasked, a proxy may compress: then neither sizes nor ranges are those of the file
    headers = {"User-Agent": "audio-cnn-transformer-bench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        # a server that has another file by now answers with all of it, instead of the end of another one
        if etag:
            headers["If-Range"] = etag
    with _explain_errors(url):
        answer: HTTPResponse = build_opener(_Redirects).open(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
        return answer


class _Redirects(HTTPRedirectHandler):
    """To where urllib would follow, less FTP and, from https, http: who asks for a safe connection gets no other."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if not _is_address(newurl, ("https",) if req.type == "https" else ("http", "https")):
            raise HTTPError(req.full_url, code, f"it redirects to {newurl}, which is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        # what urllib finds no host in, before it asks the method above, and leaves the connection open
        except ValueError as error:
            raise HTTPError(req.full_url, code, f"it redirects to no address: {error}", headers, fp) from None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@contextmanager
def _explain_errors(url: str) -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        error.close()
        # a reason may have several lines
        what = f"HTTP {error.code} {one_line(Exception(error.reason))}"
        if error.code == 416:
            raise _WrongFile("shorter than what is here") from None
        # trying again helps with overload and faults of the server, not otherwise
        if error.code in (408, 429) or error.code >= 500:
            raise _Interrupted(what, _retry_after(error.headers)) from None
        raise UserError(f"{url}: {what}; another server can be named with --mirror") from None
    # ValueError: of a host that is none
    except (InvalidURL, ValueError) as error:
        raise UserError(f"{url}: {one_line(error)}") from None
    except (OSError, HTTPException) as error:
        # the shortest message: a URLError wraps the system's error as `reason`
        cause = getattr(error, "reason", error)
        short = getattr(cause, "strerror", None) or one_line(cause) or type(error).__name__
        raise _Interrupted(short) from None


def _retry_after(headers: Message) -> float:
    # a number of seconds, or a date
    value = headers.get("Retry-After", "0").strip()
    if (seconds := _number(value)) is not None:
        return float(seconds)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        # no date, or one without its zone, which cannot be subtracted
        return 0.0


def _number(text: str) -> int | None:
    # not all that Python takes for digits, nor as many
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _size_by_range(headers: Message, start: int) -> int | None:
    """Return the size of the whole file, None if unknown, from an answer that should begin at `start`."""
    answered = headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", answered)
    if not found or int(found[1]) != start:
        raise _WrongFile(f"asked for bytes from {start} on, answered {answered!r}")
    return _number(found[2])
