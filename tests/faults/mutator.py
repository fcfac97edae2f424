"""Damage of every kind, drawn from a seed: what disks, networks, editors and enemies make of a file.

`damaged` changes bytes, wherever they stand. `rewritten` changes values instead, within formats that protect theirs by
checksums or sizes, so that what is behind those is reached, too.
"""

import io
import json
import random
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

import pandas as pd
import pyarrow as pa

__all__ = ["damaged", "rewritten"]

# Bytes at the start of a file that most headers lie in.
_HEADER = 256
# What a field of a header may say to whoever believes it.
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF,
             0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308, float("nan"), float("inf"), "", "0", "nan",
    "../../x", "/etc/passwd", "a\nb", "\x00", "\x1b[2J", "\u2028", "\ud800", "=1+1", "x" * 5000, [], [[]], {}, {"": 0},
    [None], ["a", "a"],
)  # fmt: skip
_CELLS = ("", "0", "-1", "1e999", "nan", "inf", "1.5", "true", "None", "'", '"', "x" * 3000, "=1+1", "a,b", "\x00",
          "\r", "\n", "\u2028", "é", "../x", "99999999999999999999")  # fmt: skip


def damaged(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return a file's bytes with one to three damages; parts of other files may come in."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_DAMAGES)(data, rng, others)
    return data


def rewritten(name: str, data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return a file whose values are others and whose form is whole, where its format is known; else a damaged one."""
    suffix = name.rpartition(".")[2]
    try:
        return _REWRITERS[suffix](data, rng) if suffix in _REWRITERS else damaged(data, rng, others)
    # a file that is no longer what its name says, as after a damage before
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, struct.error, sqlite3.Error, pa.ArrowException):
        return damaged(data, rng, others)


# --- bytes


def _place(data: bytes, rng: random.Random) -> int:
    """Return a place, every other time in what is probably the header."""
    return rng.randrange(max(1, min(_HEADER, len(data)) if rng.random() < 0.5 else len(data)))


def _flip(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    found = bytearray(data or b"\0")
    for _i in range(rng.choice((1, 1, 2, 8))):
        found[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(found)


def _truncate(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: _place(data, rng)]


def _insert(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 7, 100, 4096))) + data[at:]


def _drop(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 7, 100, 4096)) :]


def _zero(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at, count = _place(data, rng), rng.choice((1, 4, 64, 512, 4096))
    return data[:at] + bytes(len(data[at : at + count])) + data[at + count :]


def _extreme(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    width = rng.choice((1, 2, 4, 4, 4, 8))
    # fields are mostly aligned
    at = _place(data, rng) // 2 * 2
    value = rng.choice(_EXTREMES) & (1 << 8 * width) - 1
    return data[:at] + value.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def _repeat(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = sorted((_place(data, rng), _place(data, rng)))
    return data[:end] + data[start:end] + data[end:]


def _splice(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Go on, from some place, as another file does from some place."""
    other = rng.choice(others) if others else data[::-1]
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _swap(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return rng.choice(others) if others else data + data


_DAMAGES: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    _flip, _flip, _flip, _truncate, _insert, _drop, _zero, _extreme, _extreme, _extreme, _repeat, _splice, _swap,
)  # fmt: skip


# --- values


def _rewrite_json(data: bytes, rng: random.Random) -> bytes:
    """Change, drop or add a value at a random depth; or nest beyond any."""
    if rng.random() < 0.03:
        return b'{"a":' * 3000 + b"1" + b"}" * 3000
    root = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = _descend(root, rng)
        if holder is None:
            root = rng.choice(_VALUES)
            break
        how = rng.random()
        if how < 0.2:
            del holder[key]
        elif how < 0.3 and isinstance(holder[key], int | float):
            holder[key] *= rng.choice((-1, 2, 10, 1e9))
        elif how < 0.4 and isinstance(holder, dict):
            holder[rng.choice(("", "x", "format", "__class__", "\u2028"))] = holder[key]
        else:
            holder[key] = rng.choice(_VALUES)
    return json.dumps(root, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _descend(root: Any, rng: random.Random) -> tuple[Any, Any]:
    """Return a place in a JSON value: what holds it, and its key or index; None if the value holds nothing."""
    holder = key = None
    value = root
    while isinstance(value, dict | list) and value:
        holder, key = value, rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = value[key]
        if rng.random() < 0.35:
            break
    return holder, key


def _rewrite_csv(data: bytes, rng: random.Random) -> bytes:
    """Change lines and cells, without regard to quotes, as an editor or a script does."""
    lines = data.decode("utf-8").splitlines(keepends=True)
    if not lines:
        return b","
    at, how = rng.randrange(len(lines)), rng.random()
    if how < 0.1:
        del lines[at]
    elif how < 0.2:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif how < 0.3:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        cells = lines[at].rstrip("\r\n").split(",")
        cell = rng.randrange(len(cells))
        if how < 0.4:
            del cells[cell]
        elif how < 0.5:
            cells.insert(cell, cells[cell])
        else:
            cells[cell] = rng.choice(_CELLS)
        lines[at] = ",".join(cells) + "\n"
    return "".join(lines).encode("utf-8", "surrogatepass")


def _rewrite_toml(data: bytes, rng: random.Random) -> bytes:
    """Change a value, or the place of a line."""
    lines = data.decode("utf-8").splitlines()
    at = rng.randrange(len(lines))
    values = ("0", "-1", "1e308", "nan", "inf", "true", '""', '"a\\nb"', "[]", "{}", '["all"]', "[[[]]]", '"../x"',
              "1979-05-27", "99999999999999999999", '"\\u2028"', '"demo"', "1_000_000_000", "'" + "x" * 3000 + "'",
              "[" * 2000 + "]" * 2000)  # fmt: skip
    key, equals, _ = lines[at].partition("=")
    how = rng.random()
    if equals and how < 0.6:
        lines[at] = f"{key}= {rng.choice(values)}"
    elif how < 0.7:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif how < 0.8:
        del lines[at]
    elif how < 0.9:
        lines.insert(at, f"{rng.choice(('title', 'seeds', 'x', 'base', 'architecture'))} = {rng.choice(values)}")
    else:
        lines.insert(at, rng.choice(("[train]", "[space]", "[grid]", "[budget]", "[[runs]]", "[[contrasts]]", "[x]")))
    return "\n".join(lines).encode()


def _rewrite_npy(data: bytes, rng: random.Random) -> bytes:
    """Change what the header says of type and shape, or the numbers."""
    size = struct.unpack("<H", data[8:10])[0]
    header, body = data[10 : 10 + size].decode("latin-1"), data[10 + size :]
    how = rng.random()
    if how < 0.5:
        for kind in ("<f4", "<i2", "|b1", "<f8", "<i8"):
            header = header.replace(kind, rng.choice(("<f8", "<i8", "|b1", "|O", "<U9", ">i2", "<f2", "<c16", "|S0")))
    elif how < 0.8:
        start, end = header.index("(") + 1, header.index(")")
        shapes = ("0,", "1,", "-1,", "10000000000,", "2, 2", "", "1000000, 1000000", "True,")
        header = header[:start] + rng.choice(shapes) + header[end:]
    else:
        body = damaged(body, rng)
    text = header.rstrip().encode("latin-1") + b"\n"
    text = text.rjust(len(text) + -(10 + len(text)) % 64)
    return data[:8] + struct.pack("<H", len(text)) + text + body


def _rewrite_zip(data: bytes, rng: random.Random) -> bytes:
    """Change a member, or names, or how often there is one; checksums and sizes are those of what is there."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen, how = rng.randrange(len(members)), rng.random()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for i, (info, content) in enumerate(members):
            if i == chosen:
                if how < 0.6:
                    content = rewritten(info.filename, content, rng, [content for _, content in members])
                elif how < 0.7:
                    continue
                elif how < 0.8:
                    names = ("../x", "/x", "a\\b", "x" * 300, "CON", "a\x00b", "a/../../b", "\u202e", "x\n", "C:x")
                    info = zipfile.ZipInfo(rng.choice(names))
                elif how < 0.9:
                    content = bytes(3_000_000)
                    info.compress_type = zipfile.ZIP_DEFLATED
                else:
                    info.compress_type = rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED))
            archive.writestr(info, content)
    return made.getvalue()


def _rewrite_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Change what the header says of a tensor's type, shape and place, or the numbers."""
    (size,) = struct.unpack("<Q", data[:8])
    if rng.random() < 0.2:
        return data[: 8 + size] + damaged(data[8 + size :], rng)
    header = _rewrite_json(data[8 : 8 + size].rstrip(), rng)
    for kind in (b'"F32"', b'"I64"'):
        if rng.random() < 0.3:
            header = header.replace(kind, rng.choice((b'"F64"', b'"I8"', b'"BF16"', b'"F16"', b'"BOOL"', b'"F32"')), 1)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def _rewrite_db(data: bytes, rng: random.Random) -> bytes:
    """Change a value in a table, or drop rows or a table; the database stays a whole one."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(data)
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        names = [name for (name,) in tables if database.execute(f"select count(*) from {name}").fetchone()[0]]
        name, how = rng.choice(names), rng.random()
        if how < 0.1:
            database.execute(f"drop table {name}")
        elif how < 0.25:
            database.execute(f"delete from {name} where rowid % 2 = ?", (rng.randrange(2),))
        else:
            columns = [row[1] for row in database.execute(f"pragma table_info({name})")]
            plain = [value for value in _VALUES if isinstance(value, int | float | str | None) and value != "\ud800"]
            value = rng.choice([value for value in plain if not isinstance(value, int) or abs(value) < 2**63])
            with suppress(sqlite3.IntegrityError):
                database.execute(f"update {name} set {rng.choice(columns)} = ?", (value,))
        database.commit()
        return database.serialize()


def _rewrite_parquet(data: bytes, rng: random.Random) -> bytes:
    """Change a cell, a column or a row of a table."""
    table = pd.read_parquet(io.BytesIO(data))
    column, row, how = rng.choice(list(table)), rng.randrange(len(table)), rng.random()
    if how < 0.15:
        table = table.drop(columns=column)
    elif how < 0.3:
        table = table.drop(index=row)
    elif how < 0.4:
        table = pd.concat([table, table.iloc[[row]]])
    elif how < 0.55:
        table[column] = rng.choice((0, 0.5, "x", None, True))
    elif how < 0.7:
        table[column] = list(rng.sample(list(table[column]), len(table)))
    elif column == "labels":
        at = [*table[column]]
        at[row] = rng.choice(([-1], [99], [0, 0], [1, 0], [2**40], []))
        table[column] = at
    elif pd.api.types.is_numeric_dtype(table[column]):
        table.loc[row, column] = rng.choice((-1, 0, 1, 2**40, 2**62))
    else:
        table.loc[row, column] = rng.choice(("", "train", "a\nb", "x" * 5000, "\x1b[2J"))
    made = io.BytesIO()
    table.to_parquet(made, index=rng.random() < 0.1)
    return made.getvalue()


_REWRITERS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _rewrite_json, "jsonl": _rewrite_csv, "csv": _rewrite_csv, "toml": _rewrite_toml, "npy": _rewrite_npy,
    "npz": _rewrite_zip, "zip": _rewrite_zip, "pt": _rewrite_zip, "safetensors": _rewrite_safetensors,
    "db": _rewrite_db, "parquet": _rewrite_parquet,
}  # fmt: skip
