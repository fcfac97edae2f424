"""Tables as Markdown to read, CSV to compute with, and LaTeX to print."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.reporting.analysis import Analysis
from bench.reporting.marks import KINDS, Footnote, footnotes
from bench.reporting.notes import origin, reading_notes
from bench.reporting.tables.scores import unfinished
from bench.reporting.tables.table import Record, Table
from bench.reporting.text import code_span, latex_text, markdown_text
from bench.text import csv_cell, printable

__all__ = ["csv_text", "html_table", "latex", "markdown", "markdown_table"]

_PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\usepackage[margin=2cm]{geometry}
\setlength{\belowcaptionskip}{4pt}
\begin{document}"""


def markdown(analysis: Analysis, made: Sequence[Table]) -> str:
    results = analysis.results
    lines = [f"# {markdown_text(results.title)}"]
    for table in made:
        lines += ["", f"## {markdown_text(table.title)}", "", *markdown_table(table)]
    lines += ["", "## How to read this", ""]
    for note in map(markdown_text, reading_notes(analysis)):
        lines += [f"**{note}**" if note.startswith("Caution") else note, ""]
    sentence, commands = origin(results)
    lines += [markdown_text(sentence), "", *(f"    {printable(command)}" for command in commands)]
    for kind in KINDS:
        if notes := footnotes(results, kind):
            lines += ["", f"{kind.symbol} {kind.heading}", ""]
            lines += [
                f"- {code_span(note.setting)}: {markdown_text(note.reason)} ({markdown_text(', '.join(note.systems))})"
                for note in notes
            ]
    if left_out := unfinished(results):
        lines += ["", "Not in the tables:", "", *(f"- {markdown_text(line)}" for line in left_out)]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    header, *body = ([*map(markdown_text, row)] for row in [[c.header for c in table.columns], *table.cells])
    return ["| " + " | ".join(row) + " |" for row in [header, rule, *body]]


def html_table(table: Table) -> str:
    """Return a table for a notebook, numbers rounded as in print."""
    frame = pd.DataFrame(table.cells, columns=[column.header for column in table.columns])
    return str(frame.to_html(index=False, border=0))


def csv_text(records: Sequence[Record]) -> str:
    """Return a line a record; numbers unrounded, empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_csv_value, records[0]))
    writer.writerows([_csv_value(record[name]) for name in records[0]] for record in records)
    return text.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, str):
        return csv_cell(printable(value))
    return None if isinstance(value, float) and math.isnan(value) else value


def latex(analysis: Analysis, made: Sequence[Table]) -> str:
    """Return a document that compiles as it is; its tables can be copied out (with booktabs and graphicx)."""
    lines = [_PREAMBLE]
    for table in made:
        lines += ["", *_latex_table(table, f"{analysis.results.title}: {table.title[0].lower()}{table.title[1:]}")]
    for note in reading_notes(analysis):
        lines += ["", r"\noindent " + latex_text(note)]
    for kind in KINDS:
        if notes := footnotes(analysis.results, kind):
            lines += ["", r"\noindent " + latex_text(f"{kind.symbol} {kind.heading}"), r"\begin{itemize}\raggedright"]
            lines += [rf"\item {_latex_footnote(note)}" for note in notes]
            lines.append(r"\end{itemize}")
    return "\n".join([*lines, "", r"\end{document}"]) + "\n"


def _latex_footnote(note: Footnote) -> str:
    return rf"\texttt{{{latex_text(note.setting)}}}: {latex_text(note.reason)} ({latex_text(', '.join(note.systems))})"


def _latex_table(table: Table, caption: str) -> list[str]:
    alignment = "".join("r" if column.numeric else "l" for column in table.columns)
    rows = [[column.header for column in table.columns], *table.cells]
    header, *body = (" & ".join(latex_text(cell) for cell in row) + r" \\" for row in rows)
    resize = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    return [
        r"\begin{table}[htbp]", r"\centering", rf"\caption{{{latex_text(caption)}}}", rf"\label{{tab:{table.name}}}",
        resize, rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", header, r"\midrule", *body,
        r"\bottomrule", r"\end{tabular}}", r"\end{table}",
    ]  # fmt: skip
