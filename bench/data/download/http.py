"""One large file over HTTP: one connection at a time, resumed where it broke, checked by size and MD5.

Semantics of ranges, entity tags and Retry-After are those of RFC 9110.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bench.disk import partial_path
from bench.errors import UserError, one_line

__all__ = ["download"]

# Seconds without a byte after which a connection counts as broken.
_TIMEOUT_SECONDS = 60
# In a row, that bring no new byte: about four minutes with the pauses below.
_ATTEMPTS = 10
# Seconds between attempts, which double from one second on.
_LONGEST_PAUSE = 60
# Seconds that a server may ask for. Longer, and the user should know rather than watch a bar that stands still.
_LONGEST_WAIT = 900
_BLOCK = 1 << 16


def download(
    url: str, path: Path, *, size: int, md5: str, progress: Callable[[int], None], notice: Callable[[str], None]
) -> None:
    """Make `path` the file of that size and MD5; what is already there is taken for its beginning.

    Until it is complete and right it is called NAME.partial, which a later call resumes. `progress` takes the bytes
    that are there, `notice` a line about what went wrong and is tried again. Raises UserError if the server has no such
    file, another one, does not answer, or asks to wait for too long.
    """
    partial = partial_path(path)
    # a file that was put here by hand, or was changed since, is checked like one that was interrupted
    if path.exists():
        path.replace(partial)
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
    partial.replace(path)


class _Interrupted(Exception):
    """What another attempt may fix; `wait` is for how many seconds the server asks."""

    def __init__(self, cause: str, wait: float = 0) -> None:
        super().__init__(cause)
        self.wait = wait


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
        failures, furthest = 0, self.done
        while self.done < self.size:
            try:
                self.attempt()
            except _Interrupted as error:
                # Only new bytes count as success: a server without ranges that always breaks at the same place starts
                # from zero each time, and would be asked for ever.
                failures = failures + 1 if self.done <= furthest else 1
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
                mode, declared = "wb", response.headers.get("Content-Length", "")
            if declared.isdigit() and int(declared) != self.size:
                raise _WrongFile(f"{declared} bytes, should be {self.size}")
            # a weak tag does not stand for the very same bytes, and is of no use in If-Range
            etag = response.headers.get("ETag", "")
            self.etag = "" if etag.startswith("W/") else etag
            with self.partial.open(mode) as file:
                done = file.tell()
                # never beyond the size: a server that sends without end must not fill the disk
                while done < self.size:
                    with _explain_errors(self.url):
                        data = response.read1(min(_BLOCK, self.size - done))
                    if not data:
                        raise _Interrupted(f"the connection broke after {done} of {self.size} bytes")
                    done += file.write(data)
                    self.progress(done)


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
        return urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)


@contextmanager
def _explain_errors(url: str) -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        error.close()
        what = f"HTTP {error.code} {error.reason}"
        if error.code == 416:
            raise _WrongFile("shorter than what is here") from None
        # trying again helps with overload and faults of the server, not otherwise
        if error.code in (408, 429) or error.code >= 500:
            raise _Interrupted(what, _retry_after(error.headers)) from None
        raise UserError(f"{url}: {what}; another server can be named with --mirror") from None
    except InvalidURL as error:
        raise UserError(f"{url}: {one_line(error)}") from None
    except (OSError, HTTPException) as error:
        # the shortest message: a URLError wraps the system's error as `reason`
        cause = getattr(error, "reason", error)
        short = getattr(cause, "strerror", None) or one_line(cause) or type(error).__name__
        raise _Interrupted(short) from None


def _retry_after(headers: Message) -> float:
    # a number of seconds, or a date
    value = headers.get("Retry-After", "0").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        # no date, or one without its zone, which cannot be subtracted
        return 0.0


def _size_by_range(headers: Message, start: int) -> str:
    """Return the size of the whole file, '*' if unknown, from an answer that should begin at `start`."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if not found or int(found[1]) != start:
        raise _WrongFile(f"asked for bytes from {start} on, answered {headers.get('Content-Range')!r}")
    return found[2]
