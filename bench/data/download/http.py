"""One large file over HTTP: one connection at a time, resumed where it broke, checked by size and MD5."""

import hashlib
import re
import time
from collections.abc import Callable
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

TIMEOUT_SECONDS = 60  # without a byte
ATTEMPTS = 10  # in a row that bring no new byte
LONGEST_PAUSE = 60  # seconds between attempts, which doubles from one second on
LONGEST_WAIT = 900  # seconds that a server may ask for
BLOCK = 1 << 16


class Interrupted(Exception):
    """What another attempt may mend; `wait` is for how many seconds the server asks."""

    def __init__(self, cause: str, wait: float = 0) -> None:
        super().__init__(cause)
        self.wait = wait


class WrongFile(Exception):
    """The file is not the one that was asked for; the message tells by what."""


def download(
    url: str,
    path: Path,
    *,
    size: int,
    md5: str,
    progress: Callable[[int], None],
    notice: Callable[[str], None],
) -> None:
    """Make `path` the file of that size and MD5; what is there already is taken for its beginning.

    Until it is whole and right it is called NAME.partial, which a later call goes on with.

    Args:
        progress: is told how many bytes there are.
        notice: is told, in a line, what went wrong and is tried again.

    Raises:
        UserError: the server has no such file, another one, does not answer, or asks to wait for too long.
    """
    partial = partial_path(path)
    if path.exists():
        path.replace(partial)
    transfer = Transfer(url, partial, size, progress, notice)
    for chances in (1, 0):
        try:
            transfer.run()
            _check(partial, size, md5)
            break
        except WrongFile as error:
            partial.unlink(missing_ok=True)
            if not chances:
                raise UserError(f"{url}: {error}; that is not the file of the record: try another --mirror") from None
            notice(f"{path.name}: {error}; fetching it once more from the start")
    partial.replace(path)


def _check(path: Path, size: int, md5: str) -> None:
    if path.stat().st_size != size:
        raise WrongFile(f"{path.stat().st_size} bytes, should be {size}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise WrongFile(f"MD5 {found}, should be {md5}")


@dataclass
class Transfer:
    """A file on its way."""

    url: str
    partial: Path
    size: int
    progress: Callable[[int], None]
    notice: Callable[[str], None]
    etag: str = ""  # of what the file's beginning is from, as far as this process knows

    @property
    def done(self) -> int:
        """Bytes there are."""
        return self.partial.stat().st_size if self.partial.exists() else 0

    def run(self) -> None:
        """Attempt after attempt until no byte is missing. Raises UserError or WrongFile."""
        failures, furthest = 0, self.done
        while self.done < self.size:
            try:
                self.attempt()
            except Interrupted as error:
                failures = failures + 1 if self.done <= furthest else 1
                furthest = max(furthest, self.done)
                self.pause(error, failures)

    def pause(self, error: Interrupted, failures: int) -> None:
        """Wait before the next attempt. Raises UserError if there should be none."""
        if failures == ATTEMPTS:
            raise UserError(f"{self.url}: {error}, {failures} times in a row; the same command goes on from here")
        if error.wait > LONGEST_WAIT:
            raise UserError(f"{self.url}: {error}: asks to wait for {error.wait:.0f} s; then the same command goes on")
        seconds = max(error.wait, min(2 ** (failures - 1), LONGEST_PAUSE))
        self.notice(f"{self.partial.stem}: {error}; trying again in {seconds:.0f} s")
        time.sleep(seconds)

    def attempt(self) -> None:
        """Append what one connection brings. Raises UserError, WrongFile or Interrupted."""
        with _get(self.url, self.done, self.etag) as response:
            if response.status == 206:
                mode, promised = "ab", _promised_by_range(response.headers, self.done)
            else:  # all of it: the server knows no ranges, or the file is not the one whose beginning is here
                mode, promised = "wb", response.headers.get("Content-Length", "")
            if promised.isdigit() and int(promised) != self.size:
                raise WrongFile(f"{promised} bytes, should be {self.size}")
            etag = response.headers.get("ETag", "")
            self.etag = "" if etag.startswith("W/") else etag  # a weak one does not stand for the very same bytes
            with self.partial.open(mode) as file:
                done = file.tell()
                while done < self.size and (data := _read(response, self.size - done)):
                    file.write(data)
                    done += len(data)
                    self.progress(done)
        if done < self.size:
            raise Interrupted(f"the connection broke after {done} of {self.size} bytes")


def _get(url: str, start: int, etag: str) -> HTTPResponse:
    """The answer to a request for a file's bytes from `start` on."""
    headers = {"User-Agent": "audio-cnn-transformer-bench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag:
            headers["If-Range"] = etag
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
        return response
    except HTTPError as error:
        with error:
            raise _refused(url, error) from None
    except InvalidURL as error:
        raise UserError(f"{url}: {one_line(error)}") from None
    except (OSError, HTTPException) as error:
        raise _interrupted(error) from None


def _refused(url: str, error: HTTPError) -> Exception:
    what = f"HTTP {error.code} {error.reason}"
    if error.code == 416:
        return WrongFile("shorter than what is here")
    if error.code in (408, 429) or error.code >= 500:
        return Interrupted(what, _retry_after(error.headers))
    return UserError(f"{url}: {what}; another server can be named with --mirror")


def _interrupted(error: Exception) -> Interrupted:
    cause = getattr(error, "reason", error)  # of a URLError
    return Interrupted(getattr(cause, "strerror", None) or " ".join(str(cause).split()) or type(error).__name__)


def _retry_after(headers: Message) -> float:
    """Seconds that a server asks to wait, which it says as a number or as a date; 0 if it does not."""
    value = headers.get("Retry-After", "0").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # a date without its zone among them
        return 0.0


def _promised_by_range(headers: Message, start: int) -> str:
    """The whole file's size, by an answer that should begin at `start`."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if not found or int(found[1]) != start:
        raise WrongFile(f"asked for bytes from {start} on, answered {headers.get('Content-Range')!r}")
    return found[2]


def _read(response: HTTPResponse, most: int) -> bytes:
    """What has arrived; nothing at the end."""
    try:
        return response.read1(min(BLOCK, most))
    except (OSError, HTTPException) as error:
        raise _interrupted(error) from None
