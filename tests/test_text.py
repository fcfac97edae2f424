"""Nothing that stems from a file, a name or a server drives a terminal or shows a password, wherever it is printed."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.api.console import ConsoleDisplay
from bench.cli import output
from bench.errors import UserError, one_line
from bench.text import csv_cell, csv_value, hide_secrets, printable
from tests.conftest import make_spec

ROOT = Path(__file__).parent.parent
# sets a title, clears the screen, colours, rings, hides what follows
HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x1b[31mb\u202egnp.exe\x9b5n"
SHOWN = r"a\x1b]0;owned\x07\x1b[2J\x1b[31mb\u202egnp.exe\x9b5n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Häuser ‡ 日本 𝄞 👍", "Häuser ‡ 日本 𝄞 👍"),
        (HOSTILE, SHOWN),
        ("a\r\nb\tc\x00\x7f", r"a\r\nb\tc\x00\x7f"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\u200fאב\u2066x\u2069\u061c\ufeff\u200b", r"\u200fאב\u2066x\u2069\u061c\ufeff\u200b"),
        ("\U000e0041", r"\U000e0041"),
        (os.fsdecode(b"caf\xe9.wav"), r"caf\xe9.wav"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_obeys_is_shown_instead(text, shown):
    assert printable(text) == shown
    assert printable(printable(text)) == shown


def test_lines_of_our_own_stay_lines():
    assert printable("a\n\tb\x1b\r", lines=True) == "a\n\tb\\x1b\\r"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        # options within a value of the query, in either escape for a space
        ("postgresql://h/d?options=-c%20password%3Dpw&x=1", "postgresql://h/d?options=-c%20password%3D***&x=1"),
        ("postgresql+psycopg://h/d?options=-c+password%3Dpw", "postgresql+psycopg://h/d?options=-c+password%3D***"),
        ("mssql://h/?odbc_connect=UID%3Dme%3BPWD%3Dpw", "mssql://h/?odbc_connect=UID%3Dme%3BPWD%3D***"),
        ("mysql://U:p/w@H/db", "mysql://U:***@H/db"),
        ("postgresql://U:p w@H/db: no such host", "postgresql://U:***@H/db: no such host"),
        ("http://U:p#w@H", "http://U:***@H"),
        ("http://U:p?w@H", "http://U:***@H"),
        ("http://U:p@w@H", "http://U:***@H"),
        ("http://U:p:w@H", "http://U:***@H"),
        ("redis://U:p://w@H", "redis://U:***@H"),
        ("redis://:pw@H", "redis://:***@H"),
        ("postgresql+psycopg://me@mail.org:pw@H/x", "postgresql+psycopg://me@mail.org:***@H/x"),
        ("'http://U:p\\nw@H': no", "'http://U:***@H': no"),
        ("https://ghp_token@github.com/a", "https://***@github.com/a"),
        ("postgresql://H/db?user=me&password=pw&x=1", "postgresql://H/db?user=me&password=***&x=1"),
        (
            "https://H/f?download=1&X-Amz-Signature=abc: HTTP 403",
            "https://H/f?download=1&X-Amz-Signature=***: HTTP 403",
        ),
        ("(https://H/f?token=abc), https://H/g?api_key=abc", "(https://H/f?token=***), https://H/g?api_key=***"),
        ("http://U:a@H/x then http://V:b@H/y", "http://U:***@H/x then http://V:***@H/y"),
        ("one http://U:a@H\ntwo a@b", "one http://U:***@H\ntwo a@b"),
    ],
)
def test_passwords_are_hidden(text, shown):
    assert hide_secrets(text) == shown
    assert hide_secrets(shown) == shown
    assert str(UserError(text)) == printable(shown)
    if "\n" not in text:
        assert one_line(ValueError(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me/search.db",
        "postgresql+psycopg://passuser@host/db?x=1",
        "postgresql://me@host:5432/db",
        "http://127.0.0.1:8080/FSD50K.doc.zip: HTTP 404 Not Found; another server can be named with --mirror",
        "https://zenodo.org/records/4060432/files/FSD50K.doc.zip?download=1",
        "write to a@b: x",
    ],
)
def test_what_is_no_password_stays(text):
    assert hide_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    ["://" * 100_000, "@" + "a://b:" * 50_000, "?key" * 100_000, " a" * 150_000 + "://@", "x://?key=" + ":" * 9**6],
)
def test_long_texts_take_no_time(text):
    began = time.process_time()
    hide_secrets(text)
    printable(text)
    assert time.process_time() - began < 2


# the command line; who waits for a lock, which needs no display
PLACES = ("bench/cli/output.py", "bench/locks.py")


def test_only_one_place_prints():
    """Else the next line that somebody adds prints what is in a file as it is."""
    prints = re.compile(r"typer\.(echo|secho)\(|(?<![.\w])print\(|sys\.std(out|err)\.write")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "bench").rglob("*.py"))
        for line in path.read_text("utf-8").splitlines()
        if prints.search(line) and not line.lstrip().startswith("#")
    ]
    assert all(line.split(":")[0] in PLACES for line in found), found


def test_a_name_in_an_error_is_shown_escaped(bench, tmp_path):
    done = bench("report", tmp_path / (HOSTILE + "\nbench: all is well"))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert SHOWN + r"\nbench: all is well: no such folder" in done.err


def test_what_a_command_prints_is_shown_escaped(capsys):
    output.echo(f"{HOSTILE} http://U:pw@H\nnext", lines=True)
    output.echo(f"{HOSTILE}\nbench: all is well", err=True)
    captured = capsys.readouterr()
    assert captured.out == f"{SHOWN} http://U:***@H\nnext\n"
    assert captured.err == f"{SHOWN}\\nbench: all is well\n"


def test_json_holds_no_escape_and_no_password(capsys):
    output.print_json({"name": HOSTILE, "url": "http://U:pw@H", "file": Path(os.fsdecode(b"\xe9"))})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert '"url": "http://U:***@H"' in out


def test_the_display_shows_names_escaped(packed, capsys):
    display = ConsoleDisplay()
    display.notice(f"a\nb {HOSTILE} http://U:p w@H")
    display.started(f"[1/2] {HOSTILE}", make_spec(packed))
    display.ended("mAP 0.5")
    err = capsys.readouterr().err
    assert err.splitlines() == [f"a\\nb {SHOWN} http://U:***@H", f"[1/2] {SHOWN}: mAP 0.5"]


TERMINAL = """if True:
    import sys
    from bench.api import console
    console._console._force_terminal = True
    display = console.ConsoleDisplay()
    with display, display.bar(sys.argv[1]) as report:
        report(1, 2)
        display.live.refresh()
"""


def test_a_bar_on_a_terminal_shows_names_escaped():
    done = subprocess.run([sys.executable, "-c", TERMINAL, HOSTILE], capture_output=True, text=True, check=True)
    assert SHOWN in done.stderr
    assert "\x07" not in done.stderr
    assert "\x1b[2J" not in done.stderr


# --- the streams themselves


def bench_process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], stderr=subprocess.PIPE, text=True, check=False, **options
    )


def test_a_reader_that_has_seen_enough_ends_nothing():
    read, write = os.pipe()
    os.close(read)
    try:
        done = bench_process("list", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_output_onto_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = bench_process("list", stdout=full)
    assert done.returncode == 2
    assert done.stderr == (
        "bench: error: standard output: the disk is full; free some space and run the same command again\n"
    )


def test_any_name_can_be_printed_anywhere():
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    done = bench_process("report", b"/no/caf\xe9\xff", env=environment, stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith(r"bench: error: /no/caf\xe9\xff: no such folder")
    done = bench_process("list", env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cell_that_looks_like_an_escaped_one_comes_back():
    cells = {"=1": "'=1", "'=1": "''=1", "''-x": "'''-x", "'tis": "'tis", "'": "'", "-0.5": "-0.5", "'-0.5": "''-0.5"}
    assert {text: csv_cell(text) for text in cells} == cells
    assert [csv_value(cell) for cell in cells.values()] == [*cells]
