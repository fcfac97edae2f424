"""A server of files for tests: it can misbehave in every way that a real one has, and counts its connections."""

import hashlib
import itertools
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """To one request; by default, what was asked for."""

    status: int = 0  # instead of the file
    headers: dict[str, str] = field(default_factory=dict)  # instead of those that would be right
    ranges: bool = True  # or the file from its start, whatever was asked for
    etag: str | None = None  # instead of a strong one; "" for none
    length: bool = True  # declared in advance
    change: Callable[[bytes], bytes] = bytes  # of what is served
    shift: int = 0  # of the range that is sent
    drop: int | None = None  # bytes of the body after which the connection ends
    reset: bool = False  # by a reset, instead of an orderly end
    hold: bool = False  # the connection, silently, where it would end
    drip: float = 0  # seconds between bytes


class FileServer(ThreadingHTTPServer):
    """Serves a folder's files; `faults` are the answers to the next requests of a file."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        os.environ["no_proxy"] = "127.0.0.1"
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: dict[str, Iterator[Answer]] = {}
        self.requests: list[tuple[str, str | None, float]] = []  # name, range, time
        self.sent = 0  # bytes of bodies
        self.connections = 0
        self.most_connections = 0
        self.changed = threading.Condition()

    def misbehave(self, name: str, *answers: Answer, always: Answer | None = None) -> None:
        """The next answers to requests of a file; then right ones, or `always` the same."""
        self.faults[name] = itertools.chain(answers, itertools.repeat(always or Answer()))

    def ranges(self, name: str) -> list[str | None]:
        return [asked for requested, asked, _ in self.requests if requested == name]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed, or hangs up, is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def setup(self) -> None:
        with self.server.changed:
            # a connection that the client has closed is noticed here a moment later
            self.server.changed.wait_for(lambda: self.server.connections == 0, timeout=1)
            self.server.connections += 1
            self.server.most_connections = max(self.server.most_connections, self.server.connections)
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            with self.server.changed:
                self.server.connections -= 1
                self.server.changed.notify_all()

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.server.requests.append((name, self.headers["Range"], time.monotonic()))
        answer = next(self.server.faults.get(name, iter(())), Answer())
        path = self.server.folder / name
        if answer.status or not path.is_file():
            self.send_response(answer.status or 404)
            for key, value in {"Content-Length": "0", **answer.headers}.items():
                self.send_header(key, value)
            self.end_headers()
        else:
            self.send_file(answer.change(path.read_bytes()), answer)

    def send_file(self, data: bytes, answer: Answer) -> None:
        etag = f'"{hashlib.md5(data).hexdigest()}"' if answer.etag is None else answer.etag
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(asked[1]) if asked and answer.ranges and self.headers["If-Range"] in (None, etag) else 0
        if start >= len(data):
            self.send_error(416)
            return
        start += answer.shift
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        headers |= {"ETag": etag} if etag else {}
        headers |= {"Content-Length": str(len(data) - start)} if answer.length else {}
        self.send_response(206 if start else 200)
        for key, value in (headers | answer.headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.close_connection = True
        body = data[start:][: answer.drop]
        self.server.sent += len(body)
        for byte in body if answer.drip else b"":
            self.wfile.write(bytes([byte]))
            time.sleep(answer.drip)
        self.wfile.write(b"" if answer.drip else body)
        if answer.hold:
            self.connection.recv(1)  # until the client is gone
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    with FileServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
