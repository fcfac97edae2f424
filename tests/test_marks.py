"""Documented, second-hand (‡), inferred (†): every setting that follows a paper is of one kind, with a source."""

import dataclasses
import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from architectures import ArchitectureConfig, ConfigError, Published, get_architecture, list_architectures, register
from architectures._registry import forget
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.reporting.analysis import analyse
from bench.reporting.formats import markdown
from bench.reporting.latex import latex_files
from bench.reporting.marks import KINDS, symbols
from bench.reporting.page import page
from bench.reporting.sampling import Sampling
from bench.reporting.systems import load_results
from bench.reporting.tables.printed import printed_tables
from bench.reporting.tables.scores import tables
from bench.reporting.text import latex_text
from bench.searching.search import Search
from bench.store import ResultsFolder
from bench.suites.marks import CHOICES, Marks
from bench.suites.plan import Selection, plan
from bench.suites.suite import Entry, known_suites, load_suite

ROOT = Path(__file__).parent.parent
NAMES = list_architectures(task="tagging", in_all_only=True)
SOURCES = (ROOT / "docs/sources.md").read_text("utf-8")
# an arXiv id, a DOI, a link, or a repository of GitHub
CITATION = re.compile(r"arXiv:\d{4}\.\d{4,5}|\b10\.\d{4,}/\S+|https://\S+\.\S+|github\.com/[\w-]+/[\w.-]+")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)+\w")
# what a run's data decides
OF_PACK = {field.name for field in dataclasses.fields(ArchitectureConfig)}


def kinds_of(marked):
    """Return the kind of each setting; one that is of two is listed twice."""
    return [(name, kind) for kind in Marks.model_fields for name in getattr(marked, kind)]


def cites(reason):
    return bool(CITATION.search(reason)) or any((ROOT / path).is_file() for path in FILE.findall(reason))


def reasons_of(marked):
    return [f"{name}: {reason}" for kind in Marks.model_fields for name, reason in getattr(marked, kind, {}).items()]


def settings_of_paper(family):
    return load_suite("paper").settings(Entry(name="any", architecture="crnn"), family, {})[2]


# --- nothing is left unsaid, and readers can look it up


@pytest.mark.parametrize("name", list_architectures(in_all_only=True))
def test_every_field_of_a_registered_architecture_is_of_one_kind(name):
    entry = get_architecture(name)
    fields = [field.name for field in dataclasses.fields(entry.config) if field.name not in OF_PACK]
    found = [key for key, _ in kinds_of(entry)]
    assert sorted(key for key in found if key in fields) == sorted(fields)


def test_the_paper_suite_has_seeds_enough_for_claims_about_architectures():
    assert load_suite("paper").seeds == 5


@pytest.mark.parametrize("family", ["cnn", "transformer"])
def test_every_setting_of_the_paper_suite_is_of_one_kind(family):
    found = sorted(key for key, _ in kinds_of(settings_of_paper(family)))
    assert found == sorted([*(f"train.{field}" for field in Recipe.model_fields), "sample_rate", *CHOICES])


def test_what_the_code_decides_is_marked_too():
    """None of these is a field of a config."""
    kinds = {name: dict(kinds_of(get_architecture(name))) for name in NAMES}
    for name in ("crnn", "vgg_like", "resnet18", "densenet121"):
        assert {kinds[name][key] for key in ("window", "mel_scale", "log_offset", "band_norm")} == {"inferred"}
    assert kinds["crnn"]["readout"] == "inferred"
    for name in NAMES[4:]:
        of_code = ("front_end_activation", "positions", "final_norm", "readout")
        assert {kinds[name][key] for key in of_code} == {"inferred"}
    assert (kinds["transformer_large"]["front_end_dim"], kinds["transformer_small"]["front_end_dim"]) == (
        "second_hand",
        "inferred",
    )
    assert kinds["transformer_multiscale"]["multiscale_windows"] == "inferred"
    transformers = dict(kinds_of(settings_of_paper("transformer")))
    assert {transformers[key] for key in ("train.aggregate", "train.short_clips", "selection")} == {"inferred"}
    assert {transformers[key] for key in ("train.loss", "optimizer")} == {"second_hand"}


def test_every_reason_names_a_source_that_a_reader_has():
    reasons = []
    for entry in map(get_architecture, list_architectures()):
        reasons += reasons_of(entry) + reasons_of(entry.published or Marks())
    for name in known_suites():
        suite = load_suite(name)
        for marked in (suite, *suite.family.values(), *suite.runs):
            reasons += reasons_of(marked)
    assert len(reasons) > 150
    assert [reason for reason in reasons if not cites(reason)] == []
    assert not cites("crnn: not documented")
    assert not cites("crnn: see docs/nothing_like_it.md")


@pytest.mark.parametrize(
    ("heading", "marked"),
    [
        ("FSD50K's baselines", [*map(get_architecture, NAMES[:4]), settings_of_paper("cnn")]),
        ("Audio Transformers", [*map(get_architecture, NAMES[4:]), settings_of_paper("transformer")]),
    ],
)
def test_the_page_on_sources_has_them_all(heading, marked):
    section = SOURCES.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:3]] for line in section.splitlines() if line.startswith("| `")]
    told = {(name, kind.replace("-", "_")) for names, kind in lines for name in re.findall(r"`(\w+)`", names)}
    used = {(key.removeprefix("train."), kind) for each in marked for key, kind in kinds_of(each)}
    assert told == used


# --- one kind a setting, and only settings


class Model:
    """Never built."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ArchitectureConfig):
    width: int = 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inferred": {"width": "x"}, "second_hand": {"width": "y"}}, "width is both second_hand and inferred"),
        ({"documented": {"width": "x"}, "inferred": {"width": "y"}}, "width is both documented and inferred"),
        ({"second_hand": {"depth": "x"}}, "second_hand names what is no field: depth"),
        ({"inferred": {"readout": "x"}}, "inferred names what is no field: readout"),
        ({"choices": ["width"]}, "choices are what no field sets, but the config has width"),
    ],
)
def test_a_wrong_mark_is_refused_where_an_architecture_is_registered(given, message):
    with pytest.raises(ConfigError, match=f"^marked: {message}"):
        register("marked", family="cnn", config=Config(), **given)(Model)
    assert "marked" not in list_architectures()


def test_a_choice_that_is_named_can_be_marked():
    try:
        register("marked", family="cnn", config=Config(), inferred={"readout": "x"}, choices=["readout"])(Model)
        assert get_architecture("marked").inferred == {"readout": "x"}
    finally:
        forget(["marked"])


def test_a_wrong_mark_of_a_published_figure_is_refused():
    figures = {"map": 0.5, "parameters": 1.0, "source": "", "sample_rate": 8000}
    figures |= dict.fromkeys(("chunks", "aggregation", "selection"), "")
    assert Published(**figures, second_hand={"map": "x"}).inferred == {}
    with pytest.raises(ConfigError, match="published: inferred names what is no field: mapp"):
        Published(**figures, inferred={"mapp": "x"})
    with pytest.raises(ConfigError, match="published: map is both second_hand and inferred"):
        Published(**figures, second_hand={"map": "x"}, inferred={"map": "y"})


SUITE = """
title = "marked"
architectures = ["vgg_like"]
[train]
max_steps = 4
[second_hand]
"train.loss" = "Yadav's"
"train.max_steps" = "Yadav's"
"selection" = "Yadav's"
[inferred]
"train.batch_size" = "guessed"
[family.cnn]
sample_rate = 16000
[family.cnn.inferred]
"train.loss" = "guessed"
[family.cnn.second_hand]
"sample_rate" = "Yadav's"

[[runs]]
name = "base"
architecture = "vgg_like"
train = { warmup = 0.1, mixup = 0.5 }
config = { n_mels = 64 }
second_hand = { "train.warmup" = "Green's", "train.mixup" = "Green's" }

[[runs]]
name = "ablation"
base = "base"
train = { mixup = 0.2, batch_size = 8 }
inferred = { "train.warmup" = "guessed" }
"""


def planned(tmp_path, packed, text=SUITE, **selected):
    path = tmp_path / "marked.toml"
    path.write_text(text, "utf-8")
    runs = plan(load_suite(path), [packed], ResultsFolder(tmp_path / "out"), Selection(**selected))
    return {run.spec.name: run for run in runs}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"train.batch_size" = "guessed"', '"train.loss" = "x"', "marked.toml: train.loss is both second_hand and inf"),
        (
            'inferred = { "train.warmup" = "guessed" }',
            'second_hand = { "train.mixup" = "x" }\ninferred = { "train.mixup" = "y" }',
            "[[runs]] ablation: train.mixup is both second_hand and inferred",
        ),
        ('"selection"', '"selektion"', "second_hand names 'selektion', which is no field of [train] (write train.FIE"),
        ('"sample_rate" =', '"train.sample_rate" =', "[family.cnn]: second_hand names 'train.sample_rate'"),
    ],
)
def test_a_wrong_mark_in_a_suite_is_one_line(tmp_path, packed, old, new, message):
    assert old in SUITE
    with pytest.raises(UserError, match=r"^[^\n]+$") as raised:
        planned(tmp_path, packed, SUITE.replace(old, new))
    assert message in str(raised.value)


def test_what_is_changed_is_marked_no_more(tmp_path, packed):
    specs = {name: run.spec for name, run in planned(tmp_path, packed).items()}
    plain, base, ablation = (specs[name] for name in ("vgg_like", "base", "ablation"))
    of_suite = {"train.max_steps": "Yadav's", "selection": "Yadav's", "sample_rate": "Yadav's"}
    of_network = get_architecture("vgg_like").second_hand
    assert plain.second_hand == of_suite | of_network
    assert plain.inferred["train.loss"] == "guessed", "the family knows better than the suite"
    assert base.second_hand.items() >= {"train.warmup": "Green's", "train.mixup": "Green's"}.items()
    assert "n_mels" in of_network
    assert "n_mels" not in base.second_hand
    assert "train.mixup" not in ablation.second_hand | ablation.inferred
    assert ("train.warmup" in ablation.second_hand, ablation.inferred["train.warmup"]) == (False, "guessed")
    assert ("train.batch_size" in base.inferred, "train.batch_size" in ablation.inferred) == (True, False)
    overridden = planned(tmp_path, packed, overrides={"max_steps": 2})["vgg_like"].spec
    assert overridden.second_hand == {k: v for k, v in plain.second_hand.items() if k != "train.max_steps"}


def test_what_a_search_changes_is_marked_no_more(tmp_path, packed):
    run = planned(tmp_path, packed)["vgg_like"]
    found = Search(run.spec, run.pack, {}, 0).variant({"loss": "huber", "drop_rate": 0.1})
    assert {"train.loss", "drop_rate"} <= run.spec.inferred.keys()
    assert found.inferred == {k: v for k, v in run.spec.inferred.items() if k not in ("train.loss", "drop_rate")}
    assert found.second_hand == run.spec.second_hand


# --- what a reader sees


def test_the_symbols():
    assert [symbols(kinds) for kinds in ([], ["inferred"], ["second_hand"], ["second_hand", "inferred"])] == [
        "", "†", "‡", "†‡",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def analysed(small_results):
    return analyse(load_results(small_results), Sampling(resamples=20))


@pytest.fixture(scope="module")
def formats(analysed):
    made = tables(analysed)
    files = latex_files(analysed, printed_tables(analysed, made), {})
    tex = "".join(files.values()).replace(r"\allowbreak{}", "")
    return {"md": markdown(analysed, made), "html": unescape(page(analysed, made, {})).replace("<wbr>", ""), "tex": tex}


def test_marks_stand_at_names_and_published_figures_in_every_format(formats):
    for name in ("vgg_like", "transformer_small"):
        assert f"| {name} †‡ |" in formats["md"]
        assert f">{name} †‡</td>" in formats["html"]
        assert rf"{name}~\textdagger{{}}\textdaggerdbl{{}} &".replace("_", r"\_") in formats["tex"]
    assert (
        "| vgg_like | 0.434 | 0.27M ‡ | 22,050 Hz ‡ | 1 s, half overlapping, shorter clips repeated ‡ |"
        in formats["md"]
    )
    assert "| transformer_small | 0.469 ‡ | 0.90M ‡ | 16,000 Hz | 1 s |" in formats["md"]
    assert "| not documented | not documented, perhaps on eval † |" in formats["md"]
    assert ">0.27M ‡</td>" in formats["html"]
    assert r"& .27M \textdaggerdbl{} &" in formats["tex"]
    # what is sorted by, and computed with, stays a number
    assert 'data-value="270000.0">0.27M ‡</td>' in formats["html"]


def test_every_mark_is_footnoted_in_every_format(analysed, formats):
    for kind in KINDS:
        plain = rf"\{'textdagger' if kind.symbol == '†' else 'textdaggerdbl'}{{}} {kind.heading}"
        assert f"\n{kind.symbol} {kind.heading}\n" in formats["md"]
        assert f"<p>{kind.symbol} {kind.heading}</p>" in formats["html"]
        assert plain in formats["tex"]
        for text, mark in (("md", kind.symbol), ("html", kind.symbol), ("tex", plain.partition(" ")[0])):
            assert f"{mark} marks {kind.legend}" in formats[text]
        for system in analysed.results.systems:
            marked = getattr(system.spec, kind.name)
            assert marked, "or the rest of this shows nothing"
            for field, reason in marked.items():
                setting = f"{field} = {system.settings[field]}" if field in system.settings else field
                assert f"- `{setting}`: {reason} (" in formats["md"]
                assert f"<li><code>{setting}</code>: {reason} (" in formats["html"]
                assert rf"\item \texttt{{{latex_text(setting)}}}: {latex_text(reason)} (" in formats["tex"]
    assert "- `readout`: the mean over tokens" in formats["md"]
    assert "- `published sample_rate`: github.com/SarthakYadav/fsd50k-pytorch, a re" in formats["md"]


def test_tables_in_numbers_say_what_is_marked(analysed):
    (scores,) = [table for table in tables(analysed) if table.name == "scores"]
    (vgg,) = [record for record in scores.records if record["entry"] == "vgg_like"]
    assert (vgg["inferred"], vgg["second_hand"]) == (True, True)
    assert vgg["published_second_hand"] == "parameters sample_rate chunks aggregation selection"
    assert vgg["published_inferred"] is None


def test_runs_of_before_print_as_they_did(small_results, tmp_path):
    """Their run.json has neither `second_hand` nor marks of published figures."""
    shutil.copytree(small_results, tmp_path / "out")
    for path in tmp_path.glob("out/*/run.json"):
        record = json.loads(path.read_text())
        del record["spec"]["second_hand"], record["published"]["second_hand"], record["published"]["inferred"]
        path.write_text(json.dumps(record))
    analysis = analyse(load_results(tmp_path / "out"), Sampling(resamples=20))
    text = markdown(analysis, tables(analysis))
    assert "| vgg_like † |" in text
    assert "| vgg_like | 0.434 | 0.27M | 22,050 Hz |" in text
    assert "‡" not in text


def test_show_says_it_of_a_run(small_results, bench):
    folder = next(path for path in small_results.glob("vgg_like-s0-*"))
    shown = [line.strip() for line in bench("show", folder).out.splitlines()]
    second_hand, inferred = (getattr(get_architecture("vgg_like"), kind) for kind in ("second_hand", "inferred"))
    assert f"n_mels                96   ‡ {second_hand['n_mels']}" in shown
    assert f"drop_rate             0.0   † {inferred['drop_rate']}" in shown
    choices = shown[shown.index("choices") + 1 :]
    assert f"pooling               ‡ {second_hand['pooling']}" in choices
    assert f"log_offset            † {inferred['log_offset']}" in choices


def test_list_says_it_of_an_architecture(bench):
    assert [line.split()[2:6] for line in bench("list").out.splitlines() if line.startswith("crnn")] == [
        ["0.417", "0.96M", "‡", "arXiv:2010.00475;"]
    ]
    listed = {entry["name"]: entry for entry in json.loads(bench("list", "--json").out)}
    for name in NAMES:
        for kind in Marks.model_fields:
            assert listed[name][kind] == getattr(get_architecture(name), kind)
