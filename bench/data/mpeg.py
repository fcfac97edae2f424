"""Walk through MPEG audio (MP1, MP2, MP3), frame by frame: no header tells its length, and what does may be wrong.

ISO/IEC 11172-3 and 13818-3. A frame has a header of 4 bytes, from which its size follows. A first frame of silence may
hold how many follow it ("Xing" or "Info"), which is true of one file, not of what is joined to it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from bench.data.dataset import AudioError

__all__ = ["mpeg_parts", "skip_tags", "starts_mpeg"]

# kbit/s, by version (1, or 2 and 2.5) and layer
_KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# What a frame's header can begin with: a version, a layer, kbit/s and a sample rate that there are.
_HEADER = re.compile(
    rb"(?=\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][%s])"
    % b"".join(b"\\x%02x" % byte for byte in range(0x10, 0xF0) if byte & 0x0C != 0x0C)
)
# Bytes before the first frame, or between two, in which one is looked for.
_PATIENCE = 1 << 16


@dataclass(frozen=True)
class _Frame:
    at: int
    size: int
    kind: tuple[int, int, int, bool]  # of frames that one decoder goes through: version, layer, sample rate, mono


def mpeg_parts(file: IO[bytes], start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the first byte of each part, the one behind it, and whether its first frame tells its length.

    A part is what was one file. Raises AudioError if frames are missing, at the end or in between.
    """
    first, count, told, kind = start, 0, 0, None
    at = end_of_frames = start
    while at < end:
        frame = _frame(file, at, end)
        if frame is None:
            at = _next_frame(file, at, end)
            continue
        if at + frame.size > end:
            raise AudioError(f"truncated: it ends within a frame, {end - at} bytes of {frame.size}")
        tells = _frames_told(file, frame)
        # of a file that tells its length no frame is left
        if count and (tells is not None or frame.kind != kind or at > end_of_frames or (told and count > told)):
            yield first, end_of_frames, _check(count, told)
            first, count, told = at, 0, 0
        if tells is not None and not count:
            told = tells
        kind, count, at = frame.kind, count + 1, at + frame.size
        end_of_frames = at
    yield first, max(end_of_frames, first), _check(count, told)


def starts_mpeg(file: IO[bytes], at: int, end: int) -> bool:
    """Return whether MPEG audio begins here: with two frames, or with one that is all there is."""
    frame = _frame(file, at, end)
    return frame is not None and (at + frame.size >= end or _frame(file, at + frame.size, end) is not None
                                  or skip_tags(file, at + frame.size, end) > at + frame.size)  # fmt: skip


def skip_tags(file: IO[bytes], at: int, end: int) -> int:
    """Return the first byte that is no part of a tag (ID3 of either version, APE)."""
    while at < end:
        head = _read(file, at, 32)
        if head[:3] == b"ID3" and len(head) >= 10:
            size = 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
            size += 10 * bool(head[5] & 0x10)
        elif head[:3] == b"TAG" and head[3:4] != b"+":
            size = 128
        elif head[:8] == b"APETAGEX" and len(head) >= 24:
            # the size is that of the items and of the footer; the header, if this is one, comes on top
            size = int.from_bytes(head[12:16], "little") + 32
        else:
            break
        at += size
    return min(at, end)


def _check(count: int, told: int) -> bool:
    """Return whether the number of frames that a file tells is true; the one that tells may count itself."""
    if told and count - 1 < told - 1:
        raise AudioError(f"truncated: {count} frames of MPEG audio of {told + 1}")
    return bool(told) and count - 1 == told


def _frame(file: IO[bytes], at: int, end: int) -> _Frame | None:
    """Return the frame at a place, or None if there is none, or one whose size can't be known."""
    head = _read(file, at, 4)
    if at + 4 > end or len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits, hertz = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or kbits in (0, 15) or hertz == 3:
        return None
    rate, pad = _HERTZ[version][hertz], head[2] >> 1 & 1
    bits = 1000 * _KBITS[1 if version == 3 else 2, layer][kbits - 1]
    if layer == 1:
        size = (12 * bits // rate + pad) * 4
    else:
        size = (72 if layer == 3 and version != 3 else 144) * bits // rate + pad
    return _Frame(at, size, (version, layer, rate, head[3] >> 6 == 3))


def _frames_told(file: IO[bytes], frame: _Frame) -> int | None:
    """Return how many frames follow one that tells it, 0 if it begins a file without telling; None for other frames."""
    version, layer, _, mono = frame.kind
    if layer != 3:
        return None
    # behind the header and what it says of its two halves
    offset = 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))
    body = _read(file, frame.at, min(frame.size, 48))
    if body[offset : offset + 4] in (b"Xing", b"Info"):
        has_count = body[offset + 7 : offset + 8] and body[offset + 7] & 1
        return int.from_bytes(body[offset + 8 : offset + 12], "big") if has_count else 0
    return 0 if body[36:40] == b"VBRI" else None


def _next_frame(file: IO[bytes], at: int, end: int) -> int:
    """Return where frames go on behind what is no frame, or `end` if none follow."""
    behind = skip_tags(file, at, end)
    if behind > at:
        return behind
    data = _read(file, at, min(_PATIENCE, end - at))
    for mark in _HEADER.finditer(data):
        frame = _frame(file, at + mark.start(), end)
        if frame and _frame(file, at + mark.start() + frame.size, end):
            raise AudioError(f"damaged: no frame of MPEG audio where one should be, at byte {at}")
    # three bytes may be the start of a frame
    return min(at + max(1, len(data) - 3), end)


def _read(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
