"""Tables as Markdown to read, CSV to compute with, and LaTeX to print."""

import csv
import io
import re
from collections.abc import Sequence

import pandas as pd

from bench.reporting.analysis import Analysis
from bench.reporting.marks import KINDS, Footnote, footnotes
from bench.reporting.notes import origin, reading_notes
from bench.reporting.tables.scores import unfinished
from bench.reporting.tables.table import Record, Table

__all__ = ["csv_text", "escaped", "html_table", "latex", "markdown", "markdown_table"]

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "<": r"$<$", ">": r"$>$",
})  # fmt: skip
_PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\usepackage[margin=2cm]{geometry}
\setlength{\belowcaptionskip}{4pt}
\begin{document}"""


def markdown(analysis: Analysis, made: Sequence[Table]) -> str:
    results = analysis.results
    lines = [f"# {results.title}"]
    for table in made:
        lines += ["", f"## {table.title}", "", *markdown_table(table)]
    lines += ["", "## How to read this", ""]
    for note in reading_notes(analysis):
        lines += [f"**{note}**" if note.startswith("Caution") else note, ""]
    sentence, commands = origin(results)
    lines += [sentence, "", *(f"    {command}" for command in commands)]
    for kind in KINDS:
        if notes := footnotes(results, kind):
            lines += ["", f"{kind.symbol} {kind.heading}", ""]
            lines += [f"- `{note.setting}`: {note.reason} ({', '.join(note.systems)})" for note in notes]
    if left_out := unfinished(results):
        lines += ["", "Not in the tables:", "", *(f"- {line}" for line in left_out)]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[c.header for c in table.columns], rule, *table.cells]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def html_table(table: Table) -> str:
    """Return a table for a notebook, numbers rounded as in print."""
    frame = pd.DataFrame(table.cells, columns=[column.header for column in table.columns])
    return str(frame.to_html(index=False, border=0))


def csv_text(records: Sequence[Record]) -> str:
    """Return a line a record; numbers unrounded, empty where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def latex(analysis: Analysis, made: Sequence[Table]) -> str:
    """Return a document that compiles as it is; its tables can be copied out (with booktabs and graphicx)."""
    lines = [_PREAMBLE]
    for table in made:
        lines += ["", *_latex_table(table, f"{analysis.results.title}: {table.title[0].lower()}{table.title[1:]}")]
    for note in reading_notes(analysis):
        lines += ["", r"\noindent " + escaped(note)]
    for kind in KINDS:
        if notes := footnotes(analysis.results, kind):
            lines += ["", r"\noindent " + escaped(f"{kind.symbol} {kind.heading}"), r"\begin{itemize}\raggedright"]
            lines += [rf"\item {_latex_footnote(note)}" for note in notes]
            lines.append(r"\end{itemize}")
    return "\n".join([*lines, "", r"\end{document}"]) + "\n"


def _latex_footnote(note: Footnote) -> str:
    return rf"\texttt{{{escaped(note.setting)}}}: {escaped(note.reason)} ({escaped(', '.join(note.systems))})"


def _latex_table(table: Table, caption: str) -> list[str]:
    alignment = "".join("r" if column.numeric else "l" for column in table.columns)
    rows = [[column.header for column in table.columns], *table.cells]
    header, *body = (" & ".join(escaped(cell) for cell in row) + r" \\" for row in rows)
    resize = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    return [
        r"\begin{table}[htbp]", r"\centering", rf"\caption{{{escaped(caption)}}}", rf"\label{{tab:{table.name}}}",
        resize, rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", header, r"\midrule", *body,
        r"\bottomrule", r"\end{tabular}}", r"\end{table}",
    ]  # fmt: skip


def escaped(text: str) -> str:
    """Return a text for LaTeX; a hyphen before a number is a minus."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text.translate(_LATEX))
