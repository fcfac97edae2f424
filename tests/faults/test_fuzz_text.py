"""Tables, suites, options and names as Hypothesis invents them: taken exactly as they are, or refused in a line.

Each property is tried on a few examples in tox and on many in tox -e full, the same ones each time. A failure shows the
smallest example that fails.
"""

import csv
import io
import json
import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from bench.data.dataset import SPLITS
from bench.data.readers.fsd50k import read_dataset
from bench.data.readers.tables import clip_name, unfit
from bench.disk import write_json
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.reporting.text import code_span, figure_text, latex_text, markdown_text
from bench.store import RunFolder
from bench.store.databases import sqlite_url
from bench.store.files import read_json, read_table, write_table
from bench.suites.grid import point_name
from bench.suites.suite import Entry, Suite, load_suite, parse_overrides
from bench.text import csv_cell, csv_value, hide_secrets, printable

FEW, MANY = 15, 200
PROPERTIES: dict[str, tuple[Callable[..., None], Any]] = {}


def holds_for(*strategies: Any, examples: tuple[Any, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a property, of all that the strategies draw."""

    def register(body: Callable[..., None]) -> Callable[..., None]:
        PROPERTIES[body.__name__] = body, (strategies, examples)
        return body

    return register


def try_out(name: str, count: int) -> None:
    body, (strategies, examples) = PROPERTIES[name]
    asked = given(*strategies)(body)
    for values in examples:
        asked = example(*values)(asked)
    settings(max_examples=count, derandomize=True, deadline=None, database=None,
             suppress_health_check=list(HealthCheck))(asked)()  # fmt: skip


# Each example is in a folder that others were in: to make one anew would take longer than most.
FOLDER = Path(tempfile.gettempdir())


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FOLDER", tmp_path)


@contextmanager
def refused() -> Iterator[None]:
    """Let UserError pass, if it is one line of characters that can be shown."""
    with suppress(UserError):
        try:
            yield
        except UserError as error:
            check_line(error)
            raise


def check_line(error: Exception) -> None:
    assert str(error)
    assert str(error) == printable(str(error))


# what people write, what spreadsheets and shells take for something else, and what is none of it
odd = st.sampled_from([
    "", " ", "1", "01", "1.wav", "./1", "a,b", 'say "no"', "'", "=1+1", "-0.5", "+x", "@x", "NA", "nan", "None", "null",
    "true", "1e5", "inf", "\ufeff", "\u2028", "\x00", "\x1b[2J", "\r", "\n", "\t", "\u202e", "é", "犬", "a" * 300, "..",
    "../x", "/x", "C:x", "CON", "<script>", "# x", "$\\frac{$", "%20", "?", "a;b", "{", "[", "\\", "|", "`",
])  # fmt: skip
texts = st.one_of(odd, st.text(max_size=12), st.lists(odd, max_size=3).map("".join))
# a library may have told the processor to do without those nearest to zero
floats = st.floats(allow_subnormal=False)
words = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters=","), min_size=1, max_size=8)


# --- the tables of a data set


def write_csv(
    path: Path, rows: list[list[Any]], *, quotes: Any = csv.QUOTE_MINIMAL, end: str = "\n", bom: str = ""
) -> None:
    made = io.StringIO(newline="")
    csv.writer(made, quoting=quotes, lineterminator=end).writerows(rows)
    path.write_bytes((bom + made.getvalue()).encode("utf-8", "surrogatepass"))


def data_set() -> Path:
    """Return a data set's folder, of which the tables are still to be written."""
    folder = FOLDER / "data"
    for name in ("FSD50K.ground_truth", "FSD50K.dev_audio", "FSD50K.eval_audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    truth = folder / "FSD50K.ground_truth"
    write_csv(truth / "vocabulary.csv", [[0, "Bark", "/m/0"], [1, "Rain", "/m/1"], [2, "Siren", "/m/2"]])
    dev = [[1, "Bark", "/m/0", "train"], [2, "Rain", "/m/1", "val"]]
    write_csv(truth / "dev.csv", [["fname", "labels", "mids", "split"], *dev])
    write_csv(truth / "eval.csv", [["fname", "labels", "mids"], [3, "Bark", "/m/0"]])
    return folder


styles = st.fixed_dictionaries({
    "quotes": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    "end": st.sampled_from(["\n", "\r\n"]),
    "bom": st.sampled_from(["", "\ufeff"]),
})  # fmt: skip
label_lists = st.lists(st.sampled_from(["Bark", "Rain", "Siren"]), max_size=3)


@holds_for(st.lists(st.tuples(words, label_lists, st.sampled_from(["train", "val"])), max_size=8), styles)
def every_label_comes_back(rows: list[tuple[str, list[str], str]], style: dict[str, Any]) -> None:
    """However a table is quoted, ended and marked, and whatever clips are called."""
    folder = data_set()
    lines = [["a1", "Bark", "", "train"], ["a2", "Rain", "", "val"]]
    lines += [[name, ",".join(labels), "", split] for name, labels, split in rows]
    write_csv(folder / "FSD50K.ground_truth" / "dev.csv", [["fname", "labels", "mids", "split"], *lines], **style)
    with refused():
        found = {clip.name: clip for clip in read_dataset(folder).clips if clip.split != "eval"}
        assert len(found) == len(lines)
        for name, labels, _, split in lines:
            clip = found[clip_name(name.strip())]
            assert [("Bark", "Rain", "Siren")[i] for i in clip.labels] == sorted({*filter(None, labels.split(","))})
            assert clip.split == split


@holds_for(st.lists(st.lists(texts, max_size=6), max_size=6), styles, st.sampled_from(["dev", "eval", "vocabulary"]))
def a_table_of_anything(rows: list[list[str]], style: dict[str, Any], name: str) -> None:
    folder = data_set()
    head = {"dev": [["fname", "labels", "mids", "split"]], "eval": [["fname", "labels"]], "vocabulary": []}[name]
    write_csv(folder / "FSD50K.ground_truth" / f"{name}.csv", head + rows, **style)
    with refused():
        found = read_dataset(folder)
        assert {clip.split for clip in found.clips} == set(SPLITS)
        for clip in found.clips:
            assert unfit(clip.name) == ""
            assert ".." not in clip.name.split("/")
            assert not clip.name.startswith("/")


@holds_for(st.binary(max_size=200) | st.text(alphabet='fnamelbsplit,mids"\n\r 1', max_size=200).map(str.encode))
def a_table_of_any_bytes(data: bytes) -> None:
    folder = data_set()
    for name in ("dev", "vocabulary"):
        (folder / "FSD50K.ground_truth" / f"{name}.csv").write_bytes(data)
        with refused():
            read_dataset(folder)


@holds_for(st.lists(texts, min_size=1, max_size=6))
def a_vocabulary(labels: list[str]) -> None:
    folder = data_set()
    truth = folder / "FSD50K.ground_truth"
    write_csv(truth / "vocabulary.csv", [[i, label, f"/m/{i}"] for i, label in enumerate(labels)])
    write_csv(truth / "dev.csv", [["fname", "labels", "split"], [1, labels[0], "train"], [2, labels[-1], "val"]])
    write_csv(truth / "eval.csv", [["fname", "labels"], [3, labels[0]]])
    with refused():
        found = read_dataset(folder)
        assert found.labels == tuple(label.strip() for label in labels)
        if not found.problem_count:
            assert [clip.labels for clip in found.clips] == [(0,), (len(labels) - 1,), (0,)]


# --- tables and records of results


@holds_for(st.one_of(texts, floats, st.integers(), st.none(), st.booleans()), examples=(("'=1",), ("''-x",), ("'",)))
def a_cell_comes_back_and_is_no_formula(value: Any) -> None:
    cell = csv_cell(value)
    if isinstance(value, str):
        assert csv_value(cell) == value
        if cell[:1] in "=+-@\t\r" and cell:
            float(cell)
    else:
        assert cell is value


@holds_for(st.lists(st.tuples(texts, floats.filter(math.isfinite), st.integers(-(2**53), 2**53)), min_size=1))
def a_table_is_read_as_it_was_written(rows: list[tuple[str, float, int]]) -> None:
    path = FOLDER / "table.csv"
    # a column of numbers, of text in which each cell has a letter, as names have, and of whole numbers
    rows = [(f"a{''.join(c for c in name if c == printable(c))}", *rest) for name, *rest in rows]
    write_table(path, pd.DataFrame(rows, columns=["name", "score", "step"]))
    found = read_table(path, "name", numbers=["score", "step"])
    assert found["name"].tolist() == [name for name, *_ in rows]
    assert np.allclose(found["score"], [score for _, score, _ in rows], rtol=1e-12, atol=0)
    assert found["step"].tolist() == [step for *_, step in rows]


@holds_for(st.lists(st.lists(texts, min_size=2, max_size=5), max_size=5), st.lists(texts, max_size=3))
def a_history_of_anything(rows: list[list[str]], more: list[str]) -> None:
    folder = RunFolder(FOLDER)
    write_csv(folder.history_file, [["step", "val_score", *more], *rows])
    with refused():
        found = folder.history()
        assert all(kind.kind in "iufb" for kind in found.dtypes)


@holds_for(st.binary(max_size=100))
def a_history_of_any_bytes(data: bytes) -> None:
    folder = RunFolder(FOLDER)
    folder.history_file.write_bytes(b"step,val_score\n" + data)
    with refused():
        folder.history()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@holds_for(st.dictionaries(texts, values, max_size=4))
def json_comes_back(value: dict[str, Any]) -> None:
    """But for numbers that are not finite, which are null."""
    path = FOLDER / "x.json"
    write_json(path, value)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    assert read_json(path) == plain(value)


@holds_for(st.dictionaries(st.sampled_from([*"abcd", "format", "spec", "metrics", "val_score", "hash"]), values))
def a_record_of_anything(value: dict[str, Any]) -> None:
    folder = RunFolder(FOLDER)
    folder.record_file.write_text(json.dumps(value))
    with refused():
        folder.record()


# --- suites and options

fields = st.sampled_from([*Recipe.model_fields, "x", "max_updates", "train"])
toml_values = st.one_of(
    st.integers().map(str), floats.map(repr), st.sampled_from([
        "true", "false", '"x"', "''", "[]", "{}", "[1, 2]", "{ a = 1 }", "1979-05-27", "0x10", "1_000", ".5", "5.",
        "nan", "1e400", "bce", "a b", "1\nseeds = 5", "1 # x", '"""\nx"""', "[" * 400 + "]" * 400, "9" * 5000,
        "\u2028", "\ud800",
    ]), texts,
)  # fmt: skip


@holds_for(fields, toml_values)
def an_option_sets_one_field(field: str, value: str) -> None:
    with refused():
        found = parse_overrides([f"train.{field}={value}"])
        assert len(found) == 1
        ((name, taken),) = found.items()
        assert name in Recipe.model_fields
        # of the type that it has in a recipe: true is no number
        default = Recipe.model_fields[name].default
        if isinstance(default, bool):
            assert isinstance(taken, bool)
        elif isinstance(default, int | float):
            assert not isinstance(taken, bool)
        assert math.isfinite(taken) if isinstance(taken, float) else True


@holds_for(texts)
def an_option_of_anything(option: str) -> None:
    with refused():
        parse_overrides([option])


def quoted(value: str) -> str:
    """Return a text as TOML has it, in which Python's JSON escapes halves of surrogate pairs, too."""
    return json.dumps(value)


@holds_for(texts, texts, texts, texts)
def a_suite_with_names_of_anything(title: str, name: str, question: str, other: str) -> None:
    path = FOLDER / "suite.toml"
    path.write_text(
        f"title = {quoted(title)}\n[[runs]]\nname = {quoted(name)}\narchitecture = 'vgg_like'\nquestion = "
        f"{quoted(question)}\n[[runs]]\nname = {quoted(other)}\nbase = {quoted(name)}\n"
    )
    with refused():
        found = load_suite(path)
        assert (found.title, [entry.name for entry in found.runs], found.runs[0].question) == (
            title, [name, other], question,
        )  # fmt: skip
        for entry in found.runs:
            # a folder of its own below the results, on any system
            assert (FOLDER / f"{entry.name}-s0-00000000").parent == FOLDER
            assert entry.name not in (".", "..")
            assert len(entry.name) <= 80
        assert name.casefold() != other.casefold()


lines = st.tuples(
    st.sampled_from([*Suite.model_fields, *Entry.model_fields, "[train]", "[space]", "[grid]", "[budget]", "[[runs]]",
                     "[[contrasts]]", "[family.cnn]", "lr", "learning_rate", "train.max_steps", "low", "choices"]),
    toml_values,
).map(lambda pair: pair[0] if pair[0].startswith("[") else " = ".join(pair))  # fmt: skip


@holds_for(st.lists(lines, max_size=10))
def a_suite_of_anything(found: list[str]) -> None:
    path = FOLDER / "suite.toml"
    path.write_bytes("\n".join(['title = "x"', *found]).encode("utf-8", "surrogatepass"))
    with refused():
        load_suite(path)


@holds_for(st.dictionaries(st.sampled_from(["train.learning_rate", "config.depth"]),
                           st.one_of(st.integers(), floats, st.booleans(), texts), min_size=1))  # fmt: skip
def a_point_of_a_grid_has_a_name(point: dict[str, Any]) -> None:
    with refused():
        name = point_name(point)
        assert name


# --- names and secrets


@holds_for(texts, st.booleans())
def what_is_shown_does_not_act(value: str, lines: bool) -> None:
    found = printable(value, lines=lines)
    assert printable(found, lines=lines) == found
    found.encode()
    assert not any(ord(c) < 32 and not (lines and c in "\n\t") for c in found)


@holds_for(
    st.sampled_from(["postgresql", "http", "https", "sqlite", "mysql+pymysql"]),
    st.text("abcXYZ019", min_size=1, max_size=5),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x17F), min_size=4, max_size=12),
    st.sampled_from(["{}", "error: {}", "could not open '{}': no such host", "{} {}", "(see {})", "a@b.c, {}"]),
)
def a_password_does_not_show(scheme: str, user: str, password: str, around: str) -> None:
    url = f"{scheme}://{user}:{password}@host.example/database"
    # else it would be found in what is not secret
    assume(password not in around.format("", "") + url.replace(f":{password}@", ":@"))
    assert password not in hide_secrets(around.format(url, url))
    # of a query, white space is the end
    secret = "".join(c for c in password if not c.isspace() and c not in "&\x1c\x1d\x1e\x1f\x85").rstrip("'\":;,.)")
    assume(len(secret) > 3)
    assert secret not in hide_secrets(around.format(*[f"{scheme}://host.example/database?password={secret}"] * 2))


@holds_for(texts)
def a_name_in_a_report_stays_in_its_line(value: str) -> None:
    for shown in (markdown_text(value), code_span(value), latex_text(value), figure_text(value)):
        assert "\n" not in shown
        assert "\x1b" not in shown
        shown.encode()
    assert "<script" not in markdown_text(value)


file_names = texts.map(lambda name: name.replace("/", "").replace("\0", "").strip(".")[:60]).filter(
    lambda name: 0 < len(name.encode("utf-8", "surrogatepass")) < 200
)


@holds_for(file_names)
def a_database_is_the_file_that_was_named(name: str) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / name
        with refused():
            engine = create_engine(sqlite_url(path))
            with engine.begin() as connection:
                connection.execute(text("create table t (x)"))
            engine.dispose()
            assert [each.name for each in Path(folder).iterdir()] == [name]
            with closing(sqlite3.connect(path)) as made:
                assert made.execute("select name from sqlite_master").fetchall() == [("t",)]


@holds_for(texts)
def a_clip_has_one_name(value: str) -> None:
    try:
        name = clip_name(value)
    except ValueError as error:
        check_line(error)
        return
    assert not name.startswith("/")
    if not name.lower().endswith(".wav") and name.strip("."):
        assert clip_name(name) == clip_name(f"./{name}") == clip_name(f"{name}.wav") == name


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_few(name: str) -> None:
    try_out(name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_many(name: str) -> None:
    try_out(name, MANY)
