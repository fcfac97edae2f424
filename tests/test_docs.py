"""The docs name commands, options, fields and places that exist. `tox -e docs` builds the pages."""

import ast
import importlib
import re
import shlex
import unicodedata
from functools import reduce
from inspect import Parameter, signature
from pathlib import Path

import pandas as pd
import pytest
import typer.main

import bench
from architectures import create, list_architectures, load_file
from architectures._registry import forget
from architectures.checks import failed_checks
from bench.api.options import RunOptions
from bench.cli.app import _with_address, app
from bench.data.readers.fsd50k import read_dataset
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.tasks.contrast import ContrastSettings
from bench.protocol.tasks.next_patch import NextPatchSettings
from bench.protocol.tasks.next_sample import NextSampleSettings
from bench.store import Labels, RunRecord
from bench.store.record import Provenance
from bench.suites.contrasts import Contrast
from bench.suites.plan import entries
from bench.suites.space import Budget, Dimension
from bench.suites.suite import Entry, Settings, Suite, load_suite

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text("utf-8") for path in sorted(ROOT.glob("docs/*.md"))}
TEXTS = PAGES | {"README.md": (ROOT / "README.md").read_text("utf-8")}
COMMAND = typer.main.get_command(app)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)


def without_code(text):
    return INDENTED.sub("", FENCED.sub("", text))


def headings(text):
    return re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)


def anchor(heading):
    """Return what a heading is linked by, as Python-Markdown has it."""
    plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def section(text, heading):
    """Return what stands below a heading, up to the next one."""
    return re.split(r"^#+ ", text.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text):
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


# --- links


@pytest.mark.parametrize("page", [*PAGES, "../README.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code((ROOT / "docs" / page).read_text("utf-8"))):
        if target.startswith("https://"):
            continue
        file, _, place = target.partition("#")
        path = (ROOT / "docs" / page).parent / file if file else ROOT / "docs" / page
        assert path.exists(), f"{page}: {target}"
        if place:
            assert place in map(anchor, headings(path.read_text("utf-8"))), f"{page}: {target}"


def test_every_page_is_in_the_navigation_once():
    nav = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(nav) == sorted(PAGES)


def test_files_of_the_repository_that_are_named_exist():
    folders = "bench|architectures|benchmarks|docs|examples|tests|results"
    for page, text in PAGES.items():
        for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", text):
            assert (ROOT / name).exists(), f"{page}: {name}"


def test_pages_load_nothing_from_the_network():
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "font: false" in settings
    assert "http" not in settings
    for page, text in PAGES.items():
        assert not re.search(r"!\[[^]]*\]\(http|<(script|img|link|iframe)\b", without_code(text)), page


# --- commands


def commands():
    """Return the command lines that a reader may paste."""
    found = []
    for text in TEXTS.values():
        blocks = [block for language, block in FENCED.findall(text) if language in ("", "bash", "text")]
        for line in "\n".join(blocks + INDENTED.findall(FENCED.sub("", text))).splitlines():
            line = line.strip().removeprefix("$ ")
            found += [part for part in line.split(" && ") if part.startswith("bench ")]
    return list(dict.fromkeys(found))


def find_command(words):
    """Return the command that these words begin with, and the words behind its name."""
    command = COMMAND
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def option_names(command):
    return {"--help"} | {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line):
    command, rest = find_command(shlex.split(line.partition(" >")[0], comments=True)[1:])
    if hasattr(command, "commands"):
        # a group takes options: bench --version
        assert set(rest) <= option_names(command)
    else:
        parsed(command, rest)


def parsed(command, words):
    """Return a command's arguments, converted; raises for what it does not know, and for what it needs and lacks."""
    return command.make_context("bench", _with_address(words)).params


SECOND_COLUMN = "".join(re.findall(r"^\|[^|]+\|([^|]+)\|", PAGES["systems.md"], re.MULTILINE))


@pytest.mark.parametrize("line", re.findall(r"`bench ([^`]+)`", SECOND_COLUMN))
def test_commands_of_the_systems_can_be_pasted(line):
    command, rest = find_command(shlex.split(line))
    given = parsed(command, rest)
    if command.name == "run":
        is_demo, data = given["suite"] == "demo", given["data"]
        # the demo makes its own data; on other data its folder would hold runs of both
        assert given["out"] or not data if is_demo else data


@pytest.mark.parametrize("page", TEXTS)
def test_commands_that_the_text_names_exist(page):
    for line in re.findall(r"`bench ([^`]+)`", without_code(TEXTS[page])):
        command, rest = find_command(line.split())
        options = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert options <= option_names(command), f"{page}: bench {line}"
        assert not hasattr(command, "commands") or options or not rest, f"{page}: bench {line}"


def test_every_command_and_every_option_of_a_suite_is_told():
    text = "\n".join(PAGES.values())

    def told(command, path):
        for name, each in command.commands.items():
            assert f"bench {path}{name}" in text, name
            if hasattr(each, "commands"):
                told(each, f"{path}{name} ")

    told(COMMAND, "")
    for option in sorted(option_names(find_command(["run"])[0])):
        assert option in ("--help", "--report", "--track") or option in text, option


# --- fields


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Fields of a suite", Suite),
        ("Fields of a family", Settings),
        ("Fields of an entry", Entry),
        ("Contrasts", Contrast),
        ("Recipe", Recipe),
        ("Search space", Dimension),
        ("Budget", Budget),
    ],
)
def test_the_fields_of_suites_are_those_of_the_models(heading, model):
    assert first_column(section(PAGES["suites.md"], heading)) == set(model.model_fields)


def test_defaults_of_the_recipe_are_the_documented_ones():
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section(PAGES["suites.md"], "Recipe"), re.MULTILINE)
    for name, text in table:
        default = Recipe.model_fields[name].default
        if isinstance(default, bool):
            assert text == str(default).lower(), name
        elif isinstance(default, int | float):
            assert float(text) == default, name
        elif default is not None:
            assert text == f'`"{default}"`', name


def examples(page, language):
    return [code for found, code in FENCED.findall(PAGES[page]) if found == language]


def test_the_suites_that_are_shown_can_be_run(tmp_path):
    path = tmp_path / "shown.toml"
    shown = [code for page in ("suites.md", "pretraining.md") for code in examples(page, "toml") if "title = " in code]
    assert len(shown) == 4
    for code in shown:
        path.write_text(code)
        assert entries(load_suite(str(path)))
    (search,) = examples("search.md", "toml")
    path.write_text(f'title = "search"\n{search}')
    assert load_suite(str(path)).space.keys() == {"learning_rate", "weight_decay", "drop_rate"}


def test_the_architecture_that_is_shown_passes_all_checks(tmp_path):
    (code,) = (code for code in examples("architectures.md", "python") if "@register" in code)
    path = tmp_path / "my_arch.py"
    path.write_text(code)
    names = load_file(path)
    try:
        assert names == ["my_arch"]
        assert failed_checks("my_arch") == {}
    finally:
        forget(names)


def test_the_data_set_that_is_shown_can_be_read(tmp_path):
    truth, metadata = tmp_path / "FSD50K.ground_truth", tmp_path / "FSD50K.metadata"
    for folder in (truth, metadata, tmp_path / "FSD50K.dev_audio", tmp_path / "FSD50K.eval_audio"):
        folder.mkdir()
    tables = [code for code in examples("fsd50k.md", "text") if "/" not in code]
    for name, code in zip(("vocabulary", "dev", "eval"), tables, strict=True):
        (truth / f"{name}.csv").write_text(code)
    (metadata / "dev_clips_info_FSD50K.json").write_text(examples("fsd50k.md", "json")[0])
    found = read_dataset(tmp_path)
    assert found.labels == ("dog", "car", "speech")
    assert [(clip.key, clip.labels, clip.group) for clip in found.clips] == [
        ("train/a01", (0,), "ann"),
        ("train/a02", (0, 2), "ben"),
        ("val/b01", (1,), None),
        ("eval/c01", (2,), None),
    ]
    assert found.problems == ()


def test_the_settings_of_tasks_are_those_of_the_code():
    assert first_column(section(PAGES["generation.md"], "The task")) == set(NextSampleSettings.model_fields)
    assert first_column(section(PAGES["pretraining.md"], "Settings")) == set(NextPatchSettings.model_fields)
    assert first_column(section(PAGES["pretraining.md"], "Contrast")) == set(ContrastSettings.model_fields)


@pytest.mark.parametrize(
    ("page", "heading"), [("generation.md", "The architectures"), ("architectures.md", "Architectures")]
)
def test_the_sizes_of_predictors_are_told(page, heading):
    cells = re.findall(r"^\| `(\w+)` \| .+? \| ([\d,]+) \| ([\d,]+)", section(PAGES[page], heading), re.MULTILINE)
    told = {name: tuple(int(number.replace(",", "")) for number in numbers) for name, *numbers in cells}
    names = list_architectures(task="next_sample")
    assert set(names) <= set(told)
    for name in names:
        model = create(name)
        assert told[name] == (sum(p.numel() for p in model.parameters()), model.config.receptive_field), name


def test_the_keys_of_run_json_are_documented():
    text = section(PAGES["formats.md"], "run.json")
    for model in (RunRecord, RunSpec, Provenance):
        assert set(model.model_fields) <= first_column(text), model
    kept = next(ROOT.glob("results/demo/*/run.json"))
    costs = pd.read_json(kept, typ="series")["cost"]
    assert set(costs) <= first_column(text)


def test_the_arrays_of_labels_are_documented():
    assert set(Labels.__dataclass_fields__) <= first_column(section(PAGES["formats.md"], "Results folder"))


def test_the_tables_of_coverage_are_the_simulations():
    text = section(PAGES["statistics.md"], "How far to trust them")
    told = [line for line in text.splitlines() if re.match(r"\| (2,000|10,231) \|", line)]
    kept = pd.read_csv(ROOT / "bench/stats/coverage.csv", comment="#").set_index(["scenario", "question", "seeds"])
    assert told == [_of_scenario(kept["significant"], name) for name in _SCENARIOS]
    rates = {
        f"any false call among 28 pairs of eight alike, 5 seeds, Holm (correlation {c})": kept["significant"][
            f"2000-eight{s}", "any of 28 pairs", 5
        ]
        for c, s in ((".5", ""), (".96", "-correlation-0.96"))
    }
    for uploaders, clips in ((200, 10), (20, 50)):
        scenario = f"{uploaders * clips}-uploaders-of-{clips}"
        for how, question in (("clip by clip", "equals"), ("by uploader", "equals, by uploader")):
            name = f"a false call, {uploaders} uploaders of {clips} clips nearly alike, {how}"
            rates[name] = kept["significant"][scenario, question, 5]
    rates["found, of a difference that `bench plan` finds in 80% of cases with 5 seeds"] = kept["significant"][
        "10231-planned", "better", 5
    ]
    told = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+%) \|$", text, re.MULTILINE))
    assert told == {name: f"{rate:.1%}" for name, rate in rates.items()}


_SCENARIOS = {
    f"{clips}-{name}": f"{clips:,} | {words}"
    for clips in (2_000, 10_231)
    for name, words in {
        "correlation-0.0": "nothing",
        "correlation-0.5": "correlation .5",
        "correlation-0.96": "correlation .96",
        "heavy-tails": "correlation .5, heavy tails",
    }.items()
    if clips == 2_000 or name != "heavy-tails"
}


def _of_scenario(rates, name):
    asked = [("equals", seeds) for seeds in (2, 3, 5, 10)] + [("better", seeds) for seeds in (3, 5, 10)]
    cells = [f"{rates[name, *key]:.1%}" if (name, *key) in rates.index else "" for key in asked]
    return f"| {_SCENARIOS[name]} | {' | '.join(cells)} |"


# --- Python


def test_the_names_of_the_python_page_exist_and_all_public_ones_are_on_it():
    names = re.findall(r"^::: (\S+)$", PAGES["api.md"], re.MULTILINE)
    for name in names:
        parts = name.split(".")
        # the longest module that the name begins with: bench.api.runs of bench.api.runs.SuiteOutcome
        for length in range(len(parts) - 1, 0, -1):
            try:
                module = importlib.import_module(".".join(parts[:length]))
                break
            except ModuleNotFoundError:
                continue
        assert reduce(getattr, parts[length:], module) is not None
    assert {f"bench.{name}" for name in bench.__all__} <= set(names)


def calls():
    """Yield the calls of bench's functions in the code that the pages show."""
    for page in PAGES:
        for code in examples(page, "python"):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("bench."):
                    yield node


@pytest.mark.parametrize("call", calls(), ids=ast.unparse)
def test_calls_that_are_shown_are_understood(call):
    function = getattr(bench, call.func.attr)
    given = {keyword.arg: None for keyword in call.keywords}
    signature(function).bind(*call.args, **given)
    if any(parameter.kind == Parameter.VAR_KEYWORD for parameter in signature(function).parameters.values()):
        assert set(given) <= set(RunOptions.__annotations__) | set(signature(function).parameters)
