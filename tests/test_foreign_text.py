"""Names, titles and classes that hold anything: each format shows them as text, and numbers that do not exist."""

import csv
import html.parser
import io
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from bench.protocol.task import get_task
from bench.reporting.formats import csv_text, html_table, markdown_table
from bench.reporting.report import Sampling, write_report
from bench.reporting.tables.table import Table, number, words
from bench.reporting.text import code_span, figure_text, latex_text, markdown_text
from bench.store import Labels, ResultsFolder, RunFolder
from tests.conftest import needs
from tests.test_contrasts import write_results

QUICK = Sampling(resamples=100)
EVIL = {
    "formula": "=HYPERLINK(1)",
    "markup": "<script>alert(1)</script>",
    "heading": "x\n\n# heading\n\n| a | b |",
    "mathtext": r"$\frac{$ 100% #1 & {x} ~ ^ \input{/etc/passwd}",
    "controls": "a\0b\x1b[31mred\u2028\u202eevil",
    "scripts": "Ünïcode 中文 עברית Ω [x](http://y) `c` *b* _i_ |p|",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two systems, one of which is called by each of the above in turn."""
    strengths = {"a": ("cnn", 2.0, 0.9), "b": ("transformer", 1.0, 0.7)}
    return write_results(tmp_path_factory.mktemp("text") / "out", strengths, seeds=(0, 1), clips=80).path


def called(folder, name, title):
    """Give the system a, a class and the plan names; a name decides no number, so the hashes stay."""
    for run in ResultsFolder(folder).finished():
        values = json.loads(run.record_file.read_text())
        if values["spec"]["name"] == "a":
            values["spec"] |= {"name": name, "question": name, "second_hand": {name: name}}
        scores = {name if key == "w" else key: value for key, value in values["class_scores"].items()}
        values |= {"class_scores": scores}
        run.record_file.write_text(json.dumps(values))
    labels = ResultsFolder(folder).labels()
    classes = [name if label == "w" else label for label in labels.classes]
    Labels(**vars(labels) | {"classes": classes}).write(folder / "labels.npz")
    plan = {"title": title, "planned": ["missing-s0-01234567"], "contrasts": []}
    (folder / "suite.json").write_text(json.dumps(plan))
    return folder


class Reader(html.parser.HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, _):
        self.elements.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("kind", EVIL)
def test_every_format_shows_a_name_as_text(made, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_ensembles", lambda results, found: {})
    usual = tmp_path / "usual"
    shutil.copytree(made, usual)
    write_report(called(usual, "n", "usual"), QUICK)
    folder = Path(shutil.copytree(made, tmp_path / "odd"))
    report = write_report(called(folder, EVIL[kind], EVIL[kind]), QUICK)
    texts = {
        name: (folder / name).read_text()
        for name in ("table.md", "table.csv", "table_scores.tex", "captions.tex", "report.tex", "index.html")
    }
    # nothing that acts, but line ends, and as many of these as a usual name makes
    for name, text in texts.items():
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text), name
    lines = {name: len((usual / name).read_text().splitlines()) for name in texts if name != "index.html"}
    assert {name: len(texts[name].splitlines()) for name in lines} == lines
    headings = [line for line in texts["table.md"].splitlines() if line.startswith("#")]
    assert len(headings) == len([line for line in (usual / "table.md").read_text().splitlines() if line[:1] == "#"])
    assert "<script>a" not in re.sub("`[^`]+`", "", texts["table.md"])
    assert Reader(texts["index.html"]).elements.count("script") == 1
    for name in ("table.csv", "differences.csv", "classes.csv", "ensembles.csv"):
        for row in csv.reader(io.StringIO((folder / name).read_text())):
            for cell in row:
                assert not cell.startswith(("=", "@", "\t", "\r")), (name, cell)
                assert not cell.startswith(("-", "+")) or np.isfinite(float(cell)), (name, cell)
    assert report.markdown
    assert report._repr_html_().encode()


@pytest.mark.parametrize("kind", EVIL)
def test_the_latex_of_any_name_compiles(made, tmp_path, monkeypatch, kind):
    needs("pdflatex", "xelatex", "siunitx.sty")
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_ensembles", lambda results, found: {})
    folder = Path(shutil.copytree(made, tmp_path / "odd"))
    write_report(called(folder, f"[{EVIL[kind]}" * 2, EVIL[kind]), QUICK)
    for engine in ("pdflatex", "xelatex"):
        command = [engine, "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.slow
def test_figures_hold_any_name(made, tmp_path):
    folder = Path(shutil.copytree(made, tmp_path / "odd"))
    name = "_" + "".join(EVIL.values()) + "long " * 200
    report = write_report(called(folder, name, name), QUICK)
    assert len(report.figures) >= 6
    for figure in report.figures.values():
        assert ET.parse(figure.svg).getroot().tag.endswith("svg")
        assert figure.png.stat().st_size > 1_000
        assert figure.pdf.read_bytes().startswith(b"%PDF")


def test_a_dollar_in_a_figure_is_one(tmp_path):
    from bench.reporting.figures.style import new_figure, save

    figure, axes = new_figure()
    axes.set_title(r"$\frac{$ and $x^2$")
    save(figure, tmp_path / "x")
    svg = (tmp_path / "x.svg").read_text()
    assert r"<!-- $\frac{$ and $x^2$ -->" in svg


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("vgg_like", "vgg_like"),
        ("a -> b, 0.5 < 1, p (Holm)", "a -> b, 0.5 < 1, p (Holm)"),
        ("_x_ __y__", r"\_x\_ \_\_y\_\_"),
        ("<b>&amp;</b>", "&lt;b>&amp;amp;&lt;/b>"),
        ("[a](b) ![c][d] [e]: f [^g]", r"[a\](b) ![c\][d] [e\]: f \[^g]"),
        ("[1, 2] -> []", "[1, 2] -> []"),
        ("`a` *b* ~~c~~ $d$ \\e", r"\`a\` \*b\* \~\~c\~\~ \$d\$ \\e"),
        ("a|b\n# c", r"a\|b\\n# c"),
        ("title ##", r"title \##"),
    ],
)
def test_markdown_shows_text_as_it_is(text, shown):
    assert markdown_text(text) == shown


def test_code_in_markdown_ends_where_it_should():
    assert code_span("depth = 3") == "`depth = 3`"
    assert code_span("a `` b") == "```a `` b```"
    assert code_span("`") == "`` ` ``"
    assert code_span("a\nb") == r"`a\nb`"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 5% -0.3", r"a\_b \& 5\% $-$0.3"),
        ("Größe, œuvre, café", "Größe, œuvre, café"),
        ("cafe\u0301", "café"),
        ("中文 Ω", r"{}[U+4E2D U+6587] \ensuremath{\Omega}"),
        (
            "≥ \u2212 ∞ ά Γ",
            r"\ensuremath{\geq} $-$ \ensuremath{\infty} \ensuremath{\acute{\alpha}} \ensuremath{\Gamma}",
        ),
        ("depth 3 -> 1, a - b", r"depth 3 $\to$ 1, a -- b"),
        ("[x] y", "{}[x] y"),
        ("a\nb", r"a\textbackslash{}nb"),
    ],
)
def test_latex_shows_text_as_it_is(text, shown):
    assert latex_text(text) == shown


def test_a_figure_shortens_what_is_long():
    assert figure_text("crnn") == "crnn"
    assert figure_text("_x\n") == r" _x\n"
    assert figure_text("a" * 50 + "b" * 50) == "a" * 28 + "..." + "b" * 28


# --- numbers that do not exist


def test_a_number_that_does_not_exist_is_empty_in_csv_and_a_dash_in_print():
    table = Table("t", "T", (words("name"), number("score", "score")), ({"name": "a", "score": float("nan")},))
    assert csv_text(table.records) == "name,score\na,\n"
    assert markdown_table(table)[2] == "| a | - |"
    assert "<td>-</td>" in html_table(table)
    assert csv_text([{"name": "-a", "score": -0.5, "text": "-0.5"}]) == "name,score,text\n'-a,-0.5,-0.5\n"


def test_a_mean_over_no_class_is_null_empty_and_a_dash(made, tmp_path, monkeypatch, bench):
    """Of classes that are all parents there is no leaf mAP."""
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_ensembles", lambda results, found: {})
    folder = Path(shutil.copytree(made, tmp_path / "out"))
    results, task = ResultsFolder(folder), get_task("tagging")
    labels = Labels(**vars(results.labels()) | {"leaf": np.zeros(4, bool)})
    labels.write(results.labels_file)
    for run in results.finished():
        scores = run.scores(labels.targets.shape)
        metrics = task.evaluate(labels.targets, scores, labels.leaf)
        assert np.isnan(metrics["leaf_map"])
        run.write(run.record().model_copy(update={"metrics": metrics}), run.history(), scores, b"")
        text = run.record_file.read_text()
        assert json.loads(text, parse_constant=pytest.fail)["metrics"]["leaf_map"] is None
    done = bench("report", folder, "--resamples", 100)
    assert done.code == 0, done.err
    assert "warning" not in done.err.lower()
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert [row["leaf_map"] for row in rows] == ["", ""]
    (pair,) = csv.DictReader((folder / "differences.csv").read_text().splitlines())
    assert {name: pair[name] for name in pair if name.startswith("leaf_map")} == {
        name: "" for name in pair if name.startswith("leaf_map")
    }
    (line, *_) = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("| a |")]
    assert "nan" not in (folder / "table.md").read_text()
    assert " - |" in line
    assert not [path for path in folder.glob("table_*.tex") if "nan" in path.read_text()]
    document = json.loads(bench("report", folder, "--resamples", 100, "--json").out, parse_constant=pytest.fail)
    assert document["scores"][0]["leaf_map"] is None
    compared = bench("compare", folder / "a", folder / "b", "--resamples", 100)
    assert compared.code == 0, compared.err
    assert re.search(r"leaf mAP +- +- +- ", compared.out), compared.out


def test_a_perfect_score_has_no_finite_dprime(recwarn):
    targets = np.array([[True, False], [False, True], [False, False]])
    metrics = get_task("tagging").evaluate(targets, targets.astype(np.float32), np.ones(2, bool))
    assert (metrics["map"], metrics["auc"], metrics["dprime_of_mean_auc"]) == (1.0, 1.0, float("inf"))
    assert not recwarn.list


def test_classes_as_csv_hold_no_formula(made, tmp_path, bench):
    folder = called(Path(shutil.copytree(made, tmp_path / "out")), "=1+1", "x")
    out = tmp_path / "classes.csv"
    done = bench("compare", folder / "=1+1", folder / "b", "--resamples", 100, "--classes", out)
    assert done.code == 0, done.err
    assert [row["class"] for row in csv.DictReader(out.read_text().splitlines())] == ["'=1+1", "x", "y", "z"]


def test_the_reader_of_names_that_are_not_utf8(made, tmp_path, bench):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    shutil.copytree(made, odd)
    (odd / "suite.json").unlink(missing_ok=True)
    assert bench("compare", odd / "a", odd / "b", "--resamples", 100).code == 0
    assert RunFolder(odd).name == "\udcff"
