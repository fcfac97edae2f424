"""Look into a sound file's structure: is all there that it declares, and which parts of it are decoded one by one?

libsndfile takes a truncated file for a shorter one, and of files that were joined it hears the first alone. So what a
container declares is compared with the bytes that are there, here, before anything is decoded. All is read from the
file's own structure, in memory that does not grow with it.

Sources: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0" (RIFF); EBU Tech 3306 (RF64);
Apple, "AIFF-C" and "Core Audio Format"; EA IFF 85; RFC 3533 (Ogg); RFC 9639 (FLAC); ISO/IEC 11172-3 (MPEG audio); and,
for the others, the headers as libsndfile 1.2 writes them.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from typing import IO, TypeVar

from bench.data.dataset import AudioError
from bench.data.mpeg import mpeg_parts, skip_tags, starts_mpeg

__all__ = ["Part", "Plain", "parts_of"]

T = TypeVar("T")
_MOST_PARTS = 1_000


@dataclass(frozen=True)
class Part:
    """A part of a file that is a sound file of its own: from the byte `start` up to `end`.

    Attributes:
        is_counted: Whether the length that libsndfile finds in it is true, so that it need not be decoded to be known.
        is_mpeg: Whether it is MPEG audio, which has been looked through.
        plain: What the samples are, if they are 16 bits each as they lie there, as in most WAV files.
        total_at: The byte of the file whose lower half and the four behind it tell FLAC how many frames it has.
    """

    start: int
    end: int
    is_counted: bool = True
    is_mpeg: bool = False
    plain: "Plain | None" = None
    total_at: int | None = None


@dataclass(frozen=True)
class Plain:
    """Samples of 16 bits without any encoding, in an order of bytes (< or >)."""

    order: str
    channels: int
    sample_rate: int


def parts_of(file: IO[bytes], size: int) -> list[Part]:
    """Return the parts of a file of `size` bytes that make up its sound; most files are one part.

    Raises AudioError if a file is shorter than it declares, if its header was never completed, or if another file
    follows that would not be heard.
    """
    start = skip_tags(file, 0, size)
    magic = _at(file, start, 4)
    if magic == b"fLaC":
        return _flac_parts(file, start, size)
    if starts_mpeg(file, start, size):
        return _mpeg(file, 0, size)
    if start:
        # of a tag in front libsndfile takes the length off the sound
        inner = parts_of(_Behind(file, start), size - start)  # type: ignore[arg-type]
        return [replace(part, start=part.start + start, end=part.end + start) for part in inner]
    if magic == b"OggS":
        return _ogg_parts(file, size)
    look = next((look for mark, look in _LOOKS.items() if magic.startswith(mark)), None)
    # MATLAB 4 has no mark, but the name of its first matrix
    if _at(file, 20, 11) == b"samplerate\0":
        look = _mat4
    if look is None:
        return [Part(0, size)]
    declared = look(file, size)
    _require_complete(file, size, declared)
    if declared.mpeg:
        return _mpeg(file, declared.data_start, min(size, declared.data_end))
    if declared.plain and declared.data_start:
        return [Part(declared.data_start, declared.data_end, plain=declared.plain)]
    return [Part(0, min(size, declared.end) if declared.is_cut else size)]


class _Behind:
    """A file without its first bytes."""

    def __init__(self, file: IO[bytes], start: int) -> None:
        self._file, self._start, self.read = file, start, file.read

    def seek(self, at: int) -> int:
        return self._file.seek(self._start + at)


@dataclass
class _Declared:
    """What a container says of itself; 0 where it says nothing."""

    data_start: int = 0
    data_end: int = 0  # the first byte behind the sound
    end: int = 0  # the first byte behind the whole of it
    mpeg: bool = False  # the sound is MPEG audio
    plain: Plain | None = None  # the sound is samples of 16 bits
    is_unclosed: bool = False  # it was written as a stream: sound may follow, which no size covers
    is_cut: bool = False  # libsndfile would take for sound what follows the end


def _require_complete(file: IO[bytes], size: int, declared: _Declared) -> None:
    needed = max(declared.data_end, declared.data_start)
    if size < needed:
        raise AudioError(f"truncated: {size} bytes of {needed}")
    declared_end = declared.end or declared.data_end
    # padding to an even size may be missing or not
    for end in (declared_end, declared_end + declared_end % 2):
        if 12 <= end < size and _at(file, end, 4) == _at(file, 0, 4) != bytes(4):
            raise _joined(end)
    # not from the end that it declares, which many writers get wrong
    if declared.data_end:
        _refuse_another(file, declared.data_end, size)
    if declared.is_unclosed:
        sound = max(0, declared.data_end - declared.data_start)
        raise AudioError(
            f"its header says {sound} bytes of sound, but {size - needed} follow: written as a stream, "
            "never completed; convert it (a WAV file by `ffmpeg -ignore_length 1 -i OLD.wav NEW.wav`)"
        )


def _refuse_another(file: IO[bytes], at: int, size: int, marks: re.Pattern[bytes] | None = None) -> None:
    """Raise AudioError if from byte `at` on, behind the sound, another sound file begins, which would not be heard.

    It is known by its `marks`, of all formats if none are given, and then MPEG audio is one of them.
    """
    for place in _found(file, at, size, marks or _STARTS_ANY):
        raise _joined(place)
    if marks is None and at < size:
        padding = _at(file, at, min(_BLOCK, size - at))
        behind = skip_tags(file, at + len(padding) - len(padding.lstrip(b"\0")), size)
        if behind < size and starts_mpeg(file, behind, size):
            raise _joined(behind)


def _joined(place: int) -> AudioError:
    return AudioError(f"another file follows at byte {place}: files were joined; convert or split it")


def _riff(file: IO[bytes], size: int) -> _Declared:
    """RIFF, RIFX (big-endian) and RF64, whose sizes stand in a chunk of 64 bits that comes first."""
    order = ">" if _at(file, 0, 4) == b"RIFX" else "<"
    kind, total, wave = struct.unpack(f"{order}4sI4s", _at(file, 0, 12))
    if wave != b"WAVE":
        return _Declared()
    found, long_size = _Declared(), None
    # 0, and sizes near 2 or 4 GiB, stand for a length that was not known yet when a stream was written
    if 4 < total < _UNKNOWN and kind != b"RF64":
        found.end = 8 + total
    for name, length, at in _chunks(file, size, 12, order):
        if name == b"ds64" and kind == b"RF64" and length >= 16:
            total, long_size = struct.unpack("<QQ", _at(file, at, 16))
            found.end = 8 + total
        if name == b"fmt " and length >= 16:
            body = _at(file, at, 26)
            (tag,) = struct.unpack(f"{order}H", body[:2])
            # the general format has the tag at the start of an identifier
            tag = struct.unpack(f"{order}H", body[24:26])[0] if tag == 0xFFFE and length >= 40 else tag
            found.mpeg = tag in _MPEG_TAGS
            channels, rate, width, bits = struct.unpack(f"{order}HI4xHH", body[2:16])
            if (tag, bits, width) == (1, 16, 2 * channels) and channels:
                found.plain = Plain(order, channels, rate)
        if name == b"data":
            length, unknown = (length, _UNKNOWN) if long_size is None else (long_size, _UNKNOWN_64)
            found.data_start, found.data_end = at, at + length
            if length >= unknown:
                found.data_end = max(size, at)
            found.is_unclosed = _hides_sound(file, size, found.data_end, length, order, name)
            break
    return found


def _hides_sound(file: IO[bytes], size: int, at: int, length: int, order: str, mark: bytes) -> bool:
    """Return whether what follows a chunk of sound of `length` bytes, up to byte `at`, is more of it: no chunks.

    Behind a chunk that has sound, something small may follow, or zeros. Raises AudioError for another chunk of sound.
    """
    end = at = at + at % 2
    for name, more, body in _chunks(file, size, at, order):
        if name == mark and more:
            raise AudioError("its sound is in several chunks, of which the first alone would be heard; convert it")
        end = body + more + more % 2
    if length and size - at <= max(length, _SPARE):
        return False
    return end > size + 1 or bool(_at(file, end, min(size - end, _BLOCK)).strip(b"\0") if end < size else False)


def _iff(file: IO[bytes], size: int) -> _Declared:
    """AIFF, AIFF-C and the Amiga's 8SVX and 16SV."""
    total, kind = struct.unpack(">I4s", _at(file, 4, 8))
    if kind not in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return _Declared()
    found = _Declared(end=8 + total if total else 0)
    for name, length, at in _chunks(file, size, 12, ">"):
        if name in (b"SSND", b"BODY"):
            # AIFF has a header of 8 bytes in front of the sound
            head = 8 * (name == b"SSND")
            found.data_start, found.data_end = at + head, at + length
            found.is_unclosed = _hides_sound(file, size, at + length, max(0, length - head), ">", name)
            break
    return found


def _au(file: IO[bytes], size: int) -> _Declared:
    """AU, of either order of bytes; a stream says 0xffffffff."""
    order = ">" if _at(file, 0, 4) == b".snd" else "<"
    start, length = struct.unpack(f"{order}II", _at(file, 4, 8))
    if length == 0xFFFFFFFF:
        return _Declared(data_start=start)
    rest = size - start - length
    return _Declared(start, start + length, start + length, is_unclosed=rest > (length and max(length, _SPARE)))


def _w64(file: IO[bytes], size: int) -> _Declared:
    """Sony's Wave64: names are identifiers of 16 bytes, sizes of 64 bits count their own chunk's header."""
    (total,) = struct.unpack("<Q", _at(file, 16, 8))
    found, at = _Declared(end=total if 40 < total < _UNKNOWN_64 else 0), 40
    for _ in range(_MOST_CHUNKS):
        if at + 24 > size:
            break
        name, length = struct.unpack("<4s12xQ", _at(file, at, 24))
        if name == b"data":
            found.data_start = at + 24
            found.data_end = at + max(24, length) if length < _UNKNOWN_64 else 0
            found.is_unclosed = length <= 24 and size > max(at + 24, total)
            found.end, found.is_cut = max(found.end, found.data_end), found.data_end > 0
            break
        # padded to 8 bytes
        at += max(24, length + -length % 8)
    return found


def _caf(file: IO[bytes], size: int) -> _Declared:
    """Core Audio: a chunk of sound that runs to the end of the file says -1."""
    at, found = 8, _Declared()
    for _ in range(_MOST_CHUNKS):
        if at + 12 > size:
            break
        name, length = struct.unpack(">4sq", _at(file, at, 12))
        at += 12
        if name == b"caff":
            break
        if name == b"data":
            found.data_start, found.data_end = at, at + max(0, length)
            found.is_unclosed = not length and size > at + 12
        if length < 0:
            break
        at += length
        found.end = at if found.data_start else 0
    return found


def _voc(file: IO[bytes], size: int) -> _Declared:
    """Creative Voice: blocks with a type and 24 bits of size; a block of type 0 is the last."""
    (at,) = struct.unpack("<H", _at(file, 20, 2))
    start = at
    while at < size and (kind := _at(file, at, 1)) != b"\0":
        at += 4 + int.from_bytes(_at(file, at + 1, 3), "little")
        if kind in (b"\1", b"\2", b"\x09") and at > size:
            break
    return _Declared(start, at, at + 1, is_cut=True)


def _nist(file: IO[bytes], _size: int) -> _Declared:
    """NIST SPHERE: lines of text, of which the second is the header's size."""
    text = _at(file, 0, 1024).decode("latin-1")
    fields = dict(re.findall(r"^(\w+) -(?:i|s\d+) (\d{1,15})\s*$", text, re.MULTILINE))
    start = text[8:16].strip()
    if not start.isdecimal() or not {"sample_count", "sample_n_bytes"} <= fields.keys():
        return _Declared()
    width = int(fields.get("channel_count", 1)) * int(fields["sample_n_bytes"])
    return _Declared(int(start), int(start) + int(fields["sample_count"]) * width)


def _sds(file: IO[bytes], size: int) -> _Declared:
    """MIDI Sample Dump: packets of 127 bytes, 120 of them sound in bytes of 7 bits."""
    head = _at(file, 0, 21)
    words = head[10] | head[11] << 7 | head[12] << 14
    each = 120 // min(max(1, -(-head[6] // 7)), 120)
    found = _Declared(21, 21 + 127 * -(-words // each))
    # libsndfile goes on without a packet's mark, and prints a line for each
    for at in range(21, min(found.data_end, size), 127):
        if _at(file, at, 2) != b"\xf0\x7e":
            raise AudioError(f"damaged: no packet of sound where one should be, at byte {at}")
    return found


def _avr(file: IO[bytes], _size: int) -> _Declared:
    stereo, bits, frames = struct.unpack(">HH10xI", _at(file, 12, 18))
    return _Declared(128, 128 + frames * (1 + (stereo != 0)) * (bits // 8))


def _mpc(file: IO[bytes], _size: int) -> _Declared:
    stereo, frames = struct.unpack("<B8xI", _at(file, 21, 13))
    return _Declared(42, 42 + 2 * frames * (1 + (stereo != 0)))


def _wve(file: IO[bytes], _size: int) -> _Declared:
    (length,) = struct.unpack(">I", _at(file, 18, 4))
    return _Declared(32, 32 + length)


def _xi(file: IO[bytes], _size: int) -> _Declared:
    samples, length = struct.unpack("<HI", _at(file, 296, 6))
    return _Declared(298, 298 + 40 * samples + length) if samples else _Declared()


def _mat4(file: IO[bytes], size: int) -> _Declared:
    """MATLAB 4: the sample rate and the sound, a matrix each."""
    order, at = ("<" if _at(file, 0, 4) == bytes(4) else ">"), 0
    for _ in range(2):
        kind, rows, columns, imaginary, name = struct.unpack(f"{order}5I", _at(file, at, 20))
        width = (8, 4, 4, 2, 2, 1)[kind // 10 % 10] if kind // 10 % 10 < 6 else 0
        start = at + 20 + name
        at = start + rows * columns * width * (1 + (imaginary != 0))
        if at > size:
            break
    return _Declared(start, at, at)


def _mat5(file: IO[bytes], size: int) -> _Declared:
    """MATLAB 5: elements, a matrix each, made of elements themselves; the sound is the last one of the last."""
    order, at, last = ("<" if _at(file, 126, 2) == b"IM" else ">"), 128, 0
    for _ in range(_MOST_CHUNKS):
        if at + 8 > size:
            break
        last, at = at, at + 8 + struct.unpack(f"{order}I", _at(file, at + 4, 4))[0]
    inner, end = last + 8, at
    # not by the matrix's own size: some writers count its header
    for _ in range(_MOST_CHUNKS):
        if not last or inner + 8 > min(end, size):
            break
        kind, length = struct.unpack(f"{order}II", _at(file, inner, 8))
        # up to 4 bytes lie in the header itself
        at = inner + 8 + (0 if kind >> 16 else length)
        inner = at + -at % 8
    return _Declared(last, at)


_Look = Callable[[IO[bytes], int], _Declared]
# By a file's first bytes.
_LOOKS: dict[bytes, _Look] = {
    b"RIFF": _riff, b"RIFX": _riff, b"RF64": _riff, b"FORM": _iff, b".snd": _au, b"dns.": _au, b"riff": _w64,
    b"caff": _caf, b"Crea": _voc, b"NIST": _nist, b"2BIT": _avr, b"\x01\x04": _mpc, b"ALaw": _wve, b"Exte": _xi,
    b"\xf0\x7e": _sds, b"MATL": _mat5,
}  # fmt: skip
# More than a file that means well has; a hostile one may be made of empty ones.
_MOST_CHUNKS = 100_000
# A stream's size in a RIFF file lies from here on, near 2 or 4 GiB; where sizes have 64 bits, near half of their range.
_UNKNOWN = 0x7FFFF000
_UNKNOWN_64 = 1 << 62
# MPEG audio (layers I and II), and MP3.
_MPEG_TAGS = (0x50, 0x55)


def _chunks(file: IO[bytes], size: int, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, length and place of the chunks from byte `at` on; they are padded to an even length."""
    for _ in range(_MOST_CHUNKS):
        if at + 8 > size:
            break
        name, length = struct.unpack(f"{order}4sI", _at(file, at, 8))
        yield name, length, at + 8
        at += 8 + length + length % 2


def _flac_parts(file: IO[bytes], first: int, size: int) -> list[Part]:
    """Return the files that were joined into a FLAC file whose first mark is at byte `first`."""
    starts = _few(chain([0], _found(file, first + 1, size, _STARTS_FLAC)))
    parts = [Part(start, end, total_at=max(start, first) + 21) for start, end in pairwise([*starts, size])]
    for part in parts:
        _refuse_another(file, _behind_metadata(file, max(part.start, first), part.end), part.end, _STARTS_OTHER)
    return parts


def _behind_metadata(file: IO[bytes], at: int, size: int) -> int:
    """Return where FLAC's blocks of metadata end: they may hold the header of the WAV file that it was made of."""
    at, is_last = at + 4, False
    while not is_last and at + 4 <= size:
        head = _at(file, at, 4)
        is_last, at = head[0] >= 0x80, at + 4 + int.from_bytes(head[1:], "big")
    return at


def _ogg_parts(file: IO[bytes], size: int) -> list[Part]:
    """Ogg: streams may be chained, one behind the other, each from a page that says so up to one that says so."""
    starts, at, is_first, flags = [0], 0, True, 0
    while at + 27 <= size and (head := _at(file, at, 27))[:4] == b"OggS":
        # several first pages in a row are streams side by side
        if head[5] & 2 and not is_first:
            _require_end(flags)
            starts = _few([*starts, at])
        flags, count = head[5], head[26]
        is_first = bool(flags & 2)
        at += 27 + count + sum(_at(file, at + 27, count, short=True))
    if at > size or (at < size and _at(file, at, 4, short=True) == b"OggS"[: size - at]):
        raise AudioError(f"truncated: {size} bytes of {max(at, size + 1)}")
    # a tag at the end is no page
    if any(_found(file, at, size, _PAGE)):
        raise AudioError(f"damaged: no page of Ogg where one should be, at byte {at}")
    _require_end(flags)
    _refuse_another(file, at, size)
    return [Part(start, end) for start, end in pairwise([*starts, size])]


def _require_end(flags: int) -> None:
    if not flags & 4:
        raise AudioError("truncated: the stream's last page is missing")


def _found(file: IO[bytes], at: int, size: int, marks: re.Pattern[bytes]) -> Iterator[int]:
    """Yield the places of marks of at most _MARK bytes from byte `at` on."""
    before, least = b"", at
    while at < size and (data := _at(file, at, min(_BLOCK, size - at), short=True)):
        # a mark may lie across two blocks
        text, start = before + data, at - len(before)
        for mark in marks.finditer(text):
            if start + mark.start() >= least:
                yield start + mark.start()
                least = start + mark.end()
        before, at = text[-_MARK:], at + len(data)


def _few(parts: Iterable[T]) -> list[T]:
    """Return the parts of a file. Raises AudioError for more than anybody joins, before they take memory and time."""
    found = list(islice(parts, _MOST_PARTS + 1))
    if len(found) > _MOST_PARTS:
        raise AudioError(f"joined of more than {_MOST_PARTS:,} files")
    return found


def _mpeg(file: IO[bytes], start: int, end: int) -> list[Part]:
    found = _few(mpeg_parts(file, start, end))
    parts = [Part(first, behind, told, is_mpeg=True) for first, behind, told in found]
    _refuse_another(file, parts[-1].end, end)
    return parts


# Bytes read at a time in search of a mark, and of a mark.
_BLOCK, _MARK = 1 << 20, 32
_PAGE = re.compile(rb"OggS")
# FLAC's mark and the header of the block that comes first, of 34 bytes.
_STARTS_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
# How files of other formats begin, as far as that can't be by chance.
_STARTS_OTHER = re.compile(
    rb"(?s)R(?:IFF|IFX|F64).{4}WAVE|FORM.{4}(?:AIF[FC]|8SVX|16SV)|OggS\x00[\x02\x06]|\.snd\x00\x00|dns\...\x00\x00"
    rb"|riff\x2e\x91\xcf\x11|caff\x00[\x01\x02]\x00\x00|Creative Voice File\x1a|NIST_1A\n"
)
_STARTS_ANY = re.compile(_STARTS_OTHER.pattern + b"|" + _STARTS_FLAC.pattern)
# Bytes that may follow the sound without being taken for more of it: tags, notes, what fills up a block of a disk.
_SPARE = 1 << 12


def _at(file: IO[bytes], at: int, count: int, *, short: bool = False) -> bytes:
    """Read `count` bytes at a place: zeros where the file ends before, unless it may be `short`."""
    file.seek(at)
    data = file.read(count)
    return data if short else data.ljust(count, b"\0")
