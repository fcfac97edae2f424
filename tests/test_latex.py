"""LaTeX: fragments that a paper inputs, what they emphasise, the columns that are asked for, and any character."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pdfminer.high_level import extract_pages

from bench.reporting.analysis import analyse
from bench.reporting.latex import _captions, _fragment, _words, latex_files
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import load_results
from bench.reporting.tables.printed import _by_theme, chosen_columns, printed_tables
from bench.reporting.tables.scores import tables
from bench.reporting.tables.table import CLAIMED
from bench.reporting.text import latex_text
from bench.store import PlannedContrast
from tests.conftest import needs
from tests.test_contrasts import write_results
from tests.test_figures_print import LEAST, characters, size_on_paper

QUICK = Sampling(resamples=200)
# entry to family, strength, score on val; the middle two are told apart by nothing
STRENGTHS = {
    "transformer_multiscale": ("transformer", 1.6, 0.7),
    "vgg_like": ("cnn", 1.5, 0.9),
    "densenet121": ("cnn", 1.5, 0.8),
    "crnn": ("cnn", 0.4, 0.6),
}
ENGINES = ("pdflatex", "xelatex")
PACKAGES = ("siunitx.sty", "lmodern.sty")


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("latex") / "out", STRENGTHS, seeds=range(5), clips=300)
    contrast = PlannedContrast(name="CNNs - transformers", weights={"vgg_like": 1, "transformer_multiscale": -1})
    folder.add_to_plan("any", [], [contrast])
    return analyse(load_results(folder.path), QUICK)


def files_of(analysis, *columns, figures=()):
    chosen = chosen_columns(analysis.results, columns)
    return latex_files(analysis, printed_tables(analysis, tables(analysis), chosen), {name: name for name in figures})


@pytest.fixture(scope="module")
def files(analysis):
    return files_of(analysis)


def rows(fragment):
    """The cells of a fragment's lines, by the first without marks."""
    body = fragment.split(r"\midrule")[1].split(r"\bottomrule")[0].replace(r"\allowbreak{}", "")
    lines = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines() if " & " in line]
    return {cells[0].replace(r"\_", "_"): cells for cells in lines}


def compiled(folder, name, engine):
    """Compile twice, as references need it; return the log."""
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", name]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    return Path(folder, name).with_suffix(".log").read_text(errors="replace")


# --- what is in a table


def test_fragments_are_tables_alone(files):
    made = {name for name in files if name.startswith("table_")}
    assert made == {f"table_{name}.tex" for name in ("scores", "contrasts", "costs", "differences")}
    for name in made:
        assert not re.search(r"documentclass|begin{document}|begin{table}|\\caption|resizebox", files[name]), name
        assert r"\footnotesize" in files[name], name
        assert not re.search(r"\\(scriptsize|tiny)", files[name]), name
        macro = f"captionTable{name.removeprefix('table_').removesuffix('.tex').capitalize()}"
        assert rf"\def\{macro}{{" in files["captions.tex"]
        assert rf"\input{{{name.removesuffix('.tex')}}}" in files["report.tex"]


def test_the_best_is_bold_and_what_is_not_shown_to_be_worse_underlined(analysis, files):
    found = rows(files["table_scores.tex"])
    for place, metric in enumerate(("map", "leaf_map", "lwlrap")):
        # behind the mean its standard deviation
        column = 1 + place + bool(place)
        scores = {standing.system.label: standing.system.mean("metrics", metric) for standing in analysis.standings}
        best = max(scores, key=scores.__getitem__)
        for name, score in scores.items():
            number = f"{score:.3f}".removeprefix("0")
            tests = [p.claims[metric] for p in analysis.pairs if {p.first.label, p.second.label} == {name, best}]
            worse = all(claim.verdict in CLAIMED for claim in tests)
            shown = rf"\bfseries {number}" if name == best else number if worse else rf"{{\underline{{{number}}}}}"
            assert found[name][column] == shown, (name, metric)
    cells = [cell for line in found.values() for cell in line]
    assert any("underline" in cell for cell in cells)
    assert any(re.fullmatch(r"\.\d{3}", cell) for cell in cells), "or nothing is shown to be worse"


def test_families_stand_together_that_of_the_best_first(analysis, files):
    text = files["table_scores.tex"]
    headings = re.findall(r"\\emph{([^}]+)}", text)
    first = analysis.standings[0].system.first.family
    families = ["Transformers", "Convolutional networks"]
    assert headings == (families if first == "transformer" else families[::-1])
    assert r"\addlinespace" in text
    cnns = text.split(r"\emph{Convolutional networks}")[1].split(r"\emph")[0]
    assert {name in cnns for name in (r"vgg\_like", "densenet121", "crnn")} == {True}


def test_differences_have_intervals_in_brackets_and_no_zero_before_the_point(analysis, files):
    (cells,) = rows(files["table_contrasts.tex"]).values()
    claim = analysis.contrasts[0].claim
    expected = f"{claim.difference.value:+.3f}".replace("0.", ".")
    assert cells[0] == "CNNs -- transformers"
    assert cells[1].removeprefix(r"\bfseries ") == expected
    assert cells[1].startswith(r"\bfseries") == (claim.verdict == "significant")
    low, high = (
        f"{end:+.3f}".replace("0.", ".").replace("-", "$-$") for end in (claim.difference.low, claim.difference.high)
    )
    assert cells[2] == f"[{low}, {high}]"
    for name in ("table_scores.tex", "table_contrasts.tex", "table_differences.tex"):
        body = files[name].split(r"\midrule")[1]
        assert not re.search(r"(?<![\d.])0\.\d", body), name


def test_captions_name_clips_seeds_and_what_bold_is(files):
    (caption,) = re.findall(r"\\def\\captionTableScores{(.*)}", files["captions.tex"])
    assert "300 eval clips, 5 seeds" in caption
    assert "Bold: the best; underlined: not significantly worse (Holm over 6 pairs)" in caption
    assert r"\def\captionMapVsMacs{a \_}" in _captions({"map_vs_macs": "a _"})


def test_a_table_of_many_lines_goes_over_pages(analysis):
    (table,) = (t for t in printed_tables(analysis, tables(analysis)) if t.name == "differences")
    long = replace(table, groups=table.groups * 12)
    assert r"\begin{longtable}" in _fragment(long)
    assert "longtable" not in _fragment(table)


def test_ablations_stand_below_their_themes_others_last():
    systems = [SimpleNamespace(system=SimpleNamespace(name=name)) for name in ("huber", "deep", "odd", "wide")]
    results = SimpleNamespace(themes={"huber": "loss", "deep": "sizes", "wide": "sizes"})
    records = [{"entry": each.system.name} for each in systems]
    groups = _by_theme(SimpleNamespace(results=results, ablations=systems), records)
    found = {heading: [record["entry"] for record in records] for heading, records in groups}
    assert list(found.items()) == [("Loss", ["huber"]), ("Sizes", ["deep", "wide"]), ("Others", ["odd"])]


def test_long_names_may_be_broken_but_not_before_their_marks():
    assert _words("vgg_like †") == r"vgg\_like~\textdagger{}"
    assert _words("timm:convnext_atto - b") == r"timm:\allowbreak{}convnext\_\allowbreak{}atto -- b"


# --- the command


def test_the_columns_of_the_table_of_scores_are_chosen(analysis):
    text = files_of(analysis, "seeds", "map", "parameters", "map")["table_scores.tex"]
    assert r"{Entry} & {Seeds} & \multicolumn{2}{c}{mAP} & {Params (M)} \\" in text
    # others keep theirs
    assert "{Train (s)}" in files_of(analysis, "seeds")["table_costs.tex"]


def test_columns_are_given_with_commas_or_again_and_a_wrong_one_is_one_line(analysis, tmp_path, bench, monkeypatch):
    for name in ("draw_scores", "draw_costs"):
        monkeypatch.setattr(f"bench.reporting.report.{name}", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_ensembles", lambda results, found: {})
    folder = Path(shutil.copytree(analysis.results.folder.path, tmp_path / "out"))
    (folder / "table.tex").write_text("of an earlier release")
    (folder / "table_ablations.tex").write_text("of an earlier report")
    done = bench("report", folder, "--resamples", 100, "--columns", "map,auc", "--columns", "rank")
    assert done.code == 0, done.err
    header = r"{Entry} & \multicolumn{2}{c}{mAP} & {auc} & {Rank} \\"
    assert header in (folder / "table_scores.tex").read_text()
    assert not (folder / "table.tex").exists()
    assert not (folder / "table_ablations.tex").exists()
    done = bench("report", folder, "--columns", "mAP")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "--columns mAP: no column of the table of scores; known are family, rank, seeds, map, interval" in done.err


# --- compiled


# blocks that titles may be of, and those that no font has
BLOCKS = (
    range(0x20, 0x250), range(0x2B0, 0x600), range(0x900, 0x980), range(0xE00, 0xE60), range(0x1E00, 0x2C00),
    range(0x3000, 0x3100), range(0x4E00, 0x4E20), range(0xD7F0, 0xD805), range(0xE000, 0xE008), range(0xFE00, 0x10000),
    range(0x1D400, 0x1D420), range(0x1F300, 0x1F700), (0xE0001, 0x10FFFF),
)  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_every_character_compiles_and_none_is_lost(engine, files, tmp_path):
    needs(engine, *PACKAGES)
    characters = [chr(code) for block in BLOCKS for code in block]
    lines = []
    for start in range(0, len(characters), 30):
        some = characters[start : start + 30]
        # at a line's begin, within a word, and under an accent
        lines += [latex_text(c) for c in some[:1]] + [" ".join(latex_text(f"x{c}y {c}\u0301") for c in some), ""]
    preamble = files["report.tex"].split(r"\input{captions}")[0]
    text = "\n".join([preamble, r"\begin{document}", *lines, r"\end{document}"])
    (tmp_path / "all.tex").write_text(text)
    assert "Missing character" not in compiled(tmp_path, "all.tex", engine)


PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{iftex}
\ifpdftex\usepackage[T1]{fontenc}\usepackage{lmodern}\fi
\usepackage[width=6.9in,height=9.2in,columnsep=.3in]{geometry}
\usepackage{booktabs,graphicx,siunitx,tabularx}
\input{out/captions}
\begin{document}
Tables~\ref{tab:scores} and~\ref{tab:contrasts}.
\begin{table}\caption{\captionTableScores}\label{tab:scores}\input{out/table_scores}\end{table}
\begin{table}\caption{\captionTableContrasts}\label{tab:contrasts}\input{out/table_contrasts}\end{table}
\begin{table*}\caption{\captionTableCosts}\input{out/table_costs}\end{table*}
FIGURES
\end{document}
"""


@pytest.mark.slow
def test_a_paper_of_two_columns_takes_three_tables_and_three_figures(analysis, tmp_path):
    needs(*ENGINES, *PACKAGES)
    folder = Path(shutil.copytree(analysis.results.folder.path, tmp_path / "out"))
    report = write_report(folder, QUICK)
    narrow = sorted(name for name in report.figures if (folder / f"{name}_column.pdf").exists())[:2]
    assert len(narrow) == 2
    column = [rf"\begin{{figure}}\includegraphics{{out/{name}_column}}\caption{{x}}\end{{figure}}" for name in narrow]
    wide = r"\begin{figure*}\includegraphics[width=\linewidth]{out/map_vs_parameters}"
    wide += r"\caption{\captionMapVsParameters}\end{figure*}"
    (tmp_path / "paper.tex").write_text(PAPER.replace("FIGURES", "\n".join([*column, wide])))
    for engine in ENGINES:
        log = compiled(tmp_path, "paper.tex", engine)
        assert "Missing character" not in log
        assert "undefined" not in log
        assert [w for w in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(w) > 1] == []
        printed = [character for page in extract_pages(tmp_path / "paper.pdf") for character in characters(page)]
        assert len(printed) > 500
        assert min(map(size_on_paper, printed)) >= LEAST
        compiled(folder, "report.tex", engine)
