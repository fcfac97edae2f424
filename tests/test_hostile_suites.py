"""Suites, --set and names that no one should write: refused in one line, at once, and never trained."""

import dataclasses
import os
import time

import numpy as np
import pytest

import bench as api
from architectures import ConfigError, create, list_architectures
from architectures._registry import get_architecture
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.runner.display import Display
from bench.schema import validated
from bench.store import ResultsFolder
from bench.suites.plan import Selection, entries, plan
from bench.suites.suite import load_suite, parse_overrides
from tests.test_cli import one_line

SUITE = 'title = "x"\narchitectures = ["crnn"]\n'


def write(tmp_path, text, name="x.toml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(call, message):
    """Check that a call ends in one printable line with this message within seconds."""
    started = time.process_time()
    with pytest.raises(UserError) as raised:
        call()
    text = str(raised.value)
    assert message in text, text
    assert text.isprintable(), text
    assert len(text) < 1000, f"{len(text)} characters"
    assert time.process_time() - started < 10
    return text


# --- how many


@pytest.mark.parametrize(
    ("text", "selection", "count"),
    [
        (SUITE, Selection(seeds=1_000_000_000), "1 entry x 1,000,000,000 seeds"),
        (SUITE + "seeds = 1_000_000_000", Selection(), "1 entry x 1,000,000,000 seeds"),
        (SUITE + "seeds = 2501", Selection(["crnn", "vgg_like", "resnet18", "densenet121"]), "4 entries x 2,501 seeds"),
        (
            SUITE + "[grid]\n" + "\n".join(f"config.f{i} = {list(range(1000))}" for i in range(5)), Selection(),
            "1,000,000,000,000,000 entries",
        ),
        (SUITE + f"[grid]\ntrain.max_steps = {list(range(1, 1001))}", Selection(seeds=11), "1,000 entries x 11 seeds"),
    ],
)  # fmt: skip
def test_more_runs_than_anyone_trains_are_refused(packed, tmp_path, text, selection, count):
    suite = load_suite(write(tmp_path, text))

    def planned():
        plan(suite, [packed], ResultsFolder(tmp_path), selection)

    refused(planned, f"suite 'x': {count} are more than 10,000 runs: fewer seeds, entries or values in [grid]")


def test_the_command_refuses_them_before_it_makes_any_data(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(bench("run", "demo", "--seeds", 10**9), "8 entries x 1,000,000,000 seeds are more than 10,000 runs")
    one_line(bench("run", "demo", "--seeds", 10**9, "--dry-run"), "are more than 10,000 runs")
    one_line(bench("cost", "demo", "--seeds", 10**9), "are more than 10,000 runs")
    assert list(tmp_path.iterdir()) == []


def chain(length):
    links = [f'[[runs]]\nname = "b{i}"\nbase = "b{i - 1}"\ntrain = {{ max_steps = {i} }}\n' for i in range(1, length)]
    return f'title = "x"\n[[runs]]\nname = "b0"\narchitecture = "crnn"\n{"".join(links)}'


def test_bases_have_an_end(tmp_path):
    refused(
        lambda: load_suite(write(tmp_path, chain(2000))), "b101: its bases are more than 100: name one that is nearer"
    )
    suite = load_suite(write(tmp_path, chain(101)))
    assert [entry.train["max_steps"] for entry in entries(suite)[1:]] == list(range(1, 101))
    circle = chain(50).replace('architecture = "crnn"', 'base = "b49"')
    refused(lambda: load_suite(write(tmp_path, circle)), "b0: is its own base, by b0 and b49 and")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SUITE + "first_seed = 10000000000000000000000", "first_seed=10000000000000000000000: Input should be less"),
        (f'title = "{"x" * 201}"', "at most 200 characters"),
        (SUITE + f'description = "{"x" * 1001}"', "at most 1000 characters"),
        (SUITE + "search_seed = 5000000000", "search_seed=5000000000: Input should be less"),
        (SUITE + "[train]\nevaluations = 1_000_000_000", "evaluations=1000000000: Input should be less"),
        (SUITE + "[train]\nmax_steps = 1_000_000_000_000_000", "max_steps=1000000000000000: Input should be less"),
        (SUITE + f"[grid]\ntrain.max_steps = {list(range(1, 100_000))}", "List should have at most 1000 items"),
        (SUITE + f"seeds = {'9' * 5000}", "not valid TOML: Exceeds the limit"),
        (SUITE + f"description = '{'x' * 5_000_000}'", "is no suite: more than 4 MB"),
        (SUITE + "".join(f'[[runs]]\nname = "r{i}"\narchitecture = "crnn"\n' for i in range(10_001)), "runs="),
    ],
)
def test_numbers_have_bounds(tmp_path, text, message):
    refused(lambda: load_suite(write(tmp_path, text)), message)


@pytest.mark.parametrize(
    "text",
    [
        f"x = {'[' * 3000}{']' * 3000}",
        f"x = {'{a = ' * 3000}1{'}' * 3000}",
        f"{'.'.join('a' * 3000)} = 1",
        f"[{'.'.join('a' * 3000)}]",
        f"[train]\nloss = {'[' * 60}{']' * 60}",
        f"[[runs]]\nname = 'x'\narchitecture = 'crnn'\nconfig = {{ depth = {'[' * 300}{']' * 300} }}",
    ],
)
def test_nesting_has_an_end(bench, tmp_path, text):
    suite = write(tmp_path, SUITE + text)
    refused(lambda: load_suite(suite), f"{suite}: nested more than 32 deep")
    one_line(bench("run", suite, "--dry-run"), "nested more than 32 deep")
    value = f"train.loss={'[' * 3000}{']' * 3000}"
    one_line(bench("run", "demo", "--dry-run", "--set", value), "nested more than 32 deep")


# --- files


def test_what_is_no_file_is_no_suite(bench, tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe.toml", "folder.toml", "none.toml"):
        one_line(bench("run", tmp_path / name, "--dry-run"), f"{tmp_path / name}: no such file")
        one_line(bench("suites", "show", tmp_path / name), f"{tmp_path / name}: no such file")
    one_line(bench("run", "x\x00.toml", "--dry-run"), "no such file")
    suite = write(tmp_path, b'title = "\xff"')
    one_line(bench("run", suite, "--dry-run"), f"{suite}: not valid TOML: 'utf-8' codec can't decode")
    one_line(bench("suites", "show", suite), "not valid TOML")


@pytest.mark.parametrize("name", ["..toml", "...toml"])
def test_results_are_never_kept_above_runs(bench, tmp_path, monkeypatch, packed, name):
    """The folder is called after the file, which may be called '..'."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SUITE, name)
    one_line(bench("run", name, "--data", packed.folder, "--dry-run"), f"can't call a folder after {name}: give --out")


def test_results_go_into_a_folder(bench, tmp_path, packed):
    suite = write(tmp_path, SUITE)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for out in (tmp_path / "pipe", tmp_path / "file", tmp_path / "file" / "sub"):
        done = bench("run", suite, "--data", packed.folder, "--out", out, "--set", "train.max_steps=1")
        one_line(done, f"{out}: is no folder, and results need one: choose another")
    assert (tmp_path / "file").read_bytes() == b""


# --- names and texts


@pytest.mark.parametrize("text", ["a\\nb", "a\\u0000b", "a\\u2028b", "a\\u001b[31mb", "a\\u202eb", "\\u0085", ""])
@pytest.mark.parametrize("where", ["title", "description", "question", "name", "reason", "contrast", "architecture"])
def test_texts_are_one_printable_line(tmp_path, text, where):
    if not text and where in ("description", "question", "reason"):
        return
    texts = dict.fromkeys(["title", "description", "question", "name", "reason", "contrast"], "x")
    texts = {**texts, "architecture": "crnn", where: text}
    suite = """
title = "{title}"
description = "{description}"
inferred = {{ "train.max_steps" = "{reason}" }}
[[runs]]
name = "{name}"
architecture = "{architecture}"
question = "{question}"
[[runs]]
name = "other"
architecture = "crnn"
[[contrasts]]
name = "{contrast}"
entries = {{ x = 1, other = -1 }}
""".format(**texts)
    refused(lambda: entries(load_suite(write(tmp_path, suite))), "")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a\\\\b", "-x", "x" * 81, "ä", "a b", "", "a:b"])
def test_names_can_be_folders_anywhere(tmp_path, name):
    text = f'title = "x"\n[[runs]]\nname = "{name}"\narchitecture = "crnn"\n'
    refused(lambda: load_suite(write(tmp_path, text)), "runs.0.name=")


def test_names_differ_in_more_than_case(tmp_path):
    two = 'title = "x"\n[[runs]]\nname = "{}"\narchitecture = "crnn"\n[[runs]]\nname = "{}"\narchitecture = "crnn"\n'
    message = "two entries are called 'Crnn' and 'crnn', which is one folder where case does not count"
    refused(lambda: load_suite(write(tmp_path, two.format("Crnn", "crnn"))), message)
    text = 'title = "x"\narchitectures = ["crnn"]\n[[runs]]\nname = "CRNN"\narchitecture = "crnn"\n'
    refused(lambda: load_suite(write(tmp_path, text)), "'crnn' and 'CRNN'")
    assert len(entries(load_suite(write(tmp_path, two.format("a", "b"))))) == 2


@pytest.mark.parametrize("name", ["timm:", "timm:../x", "timm:a/b", "timm:hf-hub:a/b", "timm:\x00", "\n", "\ud800"])
def test_names_of_architectures_are_one_line(tmp_path, packed, name):
    suite = load_suite(write(tmp_path, SUITE))
    refused(lambda: plan(suite, [packed], ResultsFolder(tmp_path), Selection([name])), "")


# --- types


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_steps", True), ("max_steps", 3.0), ("max_steps", "3"), ("batch_size", False), ("learning_rate", True),
        ("learning_rate", "1e-3"), ("mixup", False), ("channels_last", 1), ("channels_last", "true"), ("loss", 1),
        ("warmup", None), ("warmup", float("nan")), ("gain_db", float("inf")), ("hop_seconds", [1.0]),
        ("eval_hop_seconds", True), ("schedule", 0), ("patience", 2.5),
    ],
)  # fmt: skip
def test_a_field_of_the_recipe_takes_its_own_type_alone(packed, tmp_path, field, value):
    refused(lambda: validated(Recipe, {field: value}, "here"), f"here: {field}={value!r}: Input should be")
    suite = str(write(tmp_path, SUITE))
    with pytest.raises(UserError, match=rf"overrides: {field}="):
        api.run(suite, data=packed.folder, out=tmp_path, overrides={field: value}, dry_run=True, display=Display())


def test_whole_numbers_are_numbers_and_numpys_are_too():
    recipe = validated(Recipe, {"warmup": 0, "max_steps": np.int64(7), "learning_rate": np.float32(0.5)}, "here")
    assert (recipe.warmup, recipe.max_steps, recipe.learning_rate) == (0.0, 7, 0.5)
    assert type(recipe.max_steps) is int
    with pytest.raises(UserError, match="channels_last"):
        validated(Recipe, {"channels_last": np.int64(1)}, "here")


@pytest.mark.parametrize(
    "line",
    [
        "seeds = true", "seeds = 2.0", 'seeds = "2"', "first_seed = false", "sample_rate = true", "title = 3",
        "fold = true", "search_seed = true", "architectures = [1]", "runs = [1]", "grid = 3",
        "[budget]\ntrials = true", "[budget]\nhours = true", '[budget]\ntrials = "3"',
        "[space]\nmixup = { low = false, high = true }", "[space]\nmixup = { low = 0.1, high = 0.2, log = 1 }",
        "[[contrasts]]\nname = 'x'\nentries = { a = true, b = -1 }",
    ],
)  # fmt: skip
def test_a_field_of_a_suite_takes_its_own_type_alone(tmp_path, line):
    text = SUITE if not line.startswith(("title", "architectures")) else "" if "title" in line else 'title = "x"\n'
    refused(lambda: load_suite(write(tmp_path, text + line)), "Input should be")


def test_a_spec_takes_its_own_types_alone():
    fields = {"name": "a", "architecture": "crnn", "config": {}, "recipe": {}, "seed": 1, "pack": "0"}
    assert RunSpec.model_validate(fields).seed == 1
    wrong = [("seed", True), ("seed", "1"), ("seed", 1.0), ("name", 1), ("pack", 0), ("recipe", {"mixup": "1"})]
    for name, value in wrong:
        with pytest.raises(ValueError, match="Input should be"):
            RunSpec.model_validate({**fields, name: value})


@pytest.mark.parametrize("architecture", [n for n in list_architectures() if not get_architecture(n).source])
def test_a_field_of_a_config_takes_its_own_type_alone(architecture):
    """Of every architecture, every field: what would have been taken for a number is none."""
    for field in dataclasses.fields(config := get_architecture(architecture).config):
        value = getattr(config, field.name)
        wrong = {bool: [1, 0.0, "true"], int: [True, 3.0, "3"], float: [True, "0.1", float("nan")], str: [1, True]}
        for other in wrong.get(type(value), ["1", True]):
            with pytest.raises(ConfigError, match=rf"^{architecture}: {field.name}"):
                create(architecture, **{field.name: other})


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("transformer_small", {"patch_seconds": 1e308}, "OverflowError: cannot convert float infinity to integer"),
        ("crnn", {"pools": ((0, 2), (4, 2), (2, 2))}, "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_what_a_config_fails_on_is_one_line(architecture, fields, message):
    with pytest.raises(ConfigError) as caught:
        create(architecture, **fields)
    (name,) = fields
    assert str(caught.value).startswith(f"{architecture}: can't be made with {name}={fields[name]!r}: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"[train]\nbatch_size = 1{'0' * 400}", "batch_size=1"),
        (f"seeds = 1{'0' * 400}", "seeds=1"),
        ("[train]\ngain_db = 1e300", "gain_db=1e+300: Input should be less than or equal to 120"),
    ],
)
def test_no_number_is_too_large_to_be_told(tmp_path, line, message):
    refused(lambda: load_suite(write(tmp_path, SUITE + line)), message)


# --- --set


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.max_steps=300", {"max_steps": 300}),
        (" train.max_steps = 0x10 ", {"max_steps": 16}),
        ("train.learning_rate=.001", {"learning_rate": 0.001}),
        ("train.learning_rate=1.", {"learning_rate": 1.0}),
        ("train.learning_rate=1e-3", {"learning_rate": 0.001}),
        ("train.loss=huber", {"loss": "huber"}),
        ("train.loss='huber'", {"loss": "huber"}),
        ("train.channels_last=true", {"channels_last": True}),
    ],
)
def test_set_takes_a_toml_value_or_a_bare_word(text, value):
    assert parse_overrides([text]) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.max_steps=3\nlearning_rate=1", "one TOML value in one line"),
        ("train.max_steps=3\n[other]\nx=1", "one TOML value in one line"),
        ("train.max_steps=3\rx=1", "one TOML value in one line"),
        ("train.max_steps=3\u2028", "one TOML value in one line"),
        ("train.loss='''\nhuber'''", "one TOML value in one line"),
        ("train.loss=\x1b[31mred", "one TOML value in one line"),
        ("train.max_steps\nx=3", "write --set train.FIELD=VALUE"),
        ("train.=3", "write --set train.FIELD=VALUE"),
        ("train.a.b=3", "write --set train.FIELD=VALUE"),
        ("train.'max_steps'=3", "write --set train.FIELD=VALUE"),
        ("train=3", "write --set train.FIELD=VALUE"),
        ("=", "write --set train.FIELD=VALUE"),
        ("config.depth=3", "write --set train.FIELD=VALUE"),
        ("train.max_steps=", "max_steps=''"),
        ("train.max_steps=true", "max_steps=True"),
        ("train.max_steps=3.0", "max_steps=3.0"),
        ("train.max_steps=1, 2", "max_steps='1, 2'"),
        ("train.learning_rate=1e999", "learning_rate=inf"),
        ("train.learning_rate=nan", "learning_rate=nan"),
        ("train.channels_last=1", "channels_last=1"),
        ("train.channels_last=True", "channels_last='True'"),
        ("train.max_steps={a=1}", "max_steps={'a': 1}"),
        (f"train.max_steps={'9' * 5000}", "max_steps"),
        (f"train.loss={'[' * 40}{']' * 40}", "nested more than 32 deep"),
        ("train.loss=\udcff", "one TOML value in one line"),
    ],
)
def test_set_takes_nothing_else(text, message):
    refused(lambda: parse_overrides([text]), message)


def test_set_on_the_command_line_is_one_line(bench):
    done = bench("run", "demo", "--dry-run", "--set", "train.max_steps=1\nlearning_rate=1")
    one_line(done, "--set 'train.max_steps=1\\nlearning_rate=1': write one TOML value in one line")


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 0}, {"seeds": -1}, {"seeds": True}, {"seeds": 1.0}, {"seeds": "1"}, {"heartbeat": 0},
        {"heartbeat": 10**12}, {"trials": True}, {"trials": 0}, {"trials": 10**12}, {"hours": True},
        {"hours": float("nan")}, {"hours": float("inf")},
    ],
)  # fmt: skip
def test_options_from_python_take_their_own_types_alone(packed, tmp_path, options):
    (name,) = options
    suite = tmp_path / "x.toml"
    suite.write_text(SUITE + "[space]\nmixup = { low = 0.0, high = 0.5 }\n")
    given = {"data": packed.folder, "out": tmp_path / "o", "dry_run": True, "display": Display(), **options}
    refused(lambda: api.search(str(suite), **given), f"{name}=")
