"""Tables as Markdown to read, CSV to compute with, and LaTeX to print."""

import csv
import io
import re
from collections.abc import Sequence

from bench.reporting.analysis import Analysis
from bench.reporting.notes import origin, reading_notes
from bench.reporting.tables.scores import Record, Table, inferred_settings, unfinished

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def markdown(analysis: Analysis, made: Sequence[Table]) -> str:
    """All tables and notes."""
    results = analysis.results
    lines = [f"# {results.title}"]
    for table in made:
        lines += ["", f"## {table.title}", "", *markdown_table(table)]
    lines += ["", "## How to read this", ""]
    for note in reading_notes(analysis):
        lines += [f"**{note}**" if note.startswith("Caution") else note, ""]
    sentence, commands = origin(results)
    lines += [sentence, "", *(f"    {command}" for command in commands)]
    if inferred := inferred_settings(results):
        lines += ["", "(I) Inferred, since no source documents it:", ""]
        lines += [f"- `{field} = {value}`: {why} ({', '.join(rows)})" for field, value, why, rows in inferred]
    if left_out := unfinished(results):
        lines += ["", "Not in the tables:", "", *(f"- {line}" for line in left_out)]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[c.header for c in table.columns], rule, *table.cells]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def csv_text(records: Sequence[Record]) -> str:
    """A line a record; numbers unrounded, empty where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def latex(analysis: Analysis, made: Sequence[Table]) -> str:
    """A document that compiles as it is; its tables can be copied out one by one (they need booktabs and graphicx)."""
    lines = [r"\documentclass{article}", r"\usepackage[utf8]{inputenc}", r"\usepackage[T1]{fontenc}"]
    lines += [
        r"\usepackage{booktabs,graphicx}",
        r"\usepackage[margin=2cm]{geometry}",
        r"\setlength{\belowcaptionskip}{4pt}",
        r"\begin{document}",
    ]
    for table in made:
        lines += ["", *latex_table(table, f"{analysis.results.title}: {table.title[0].lower()}{table.title[1:]}")]
    for note in reading_notes(analysis):
        lines += ["", r"\noindent " + escaped(note)]
    return "\n".join([*lines, "", r"\end{document}"]) + "\n"


def latex_table(table: Table, caption: str) -> list[str]:
    alignment = "".join("r" if column.numeric else "l" for column in table.columns)
    body = [" & ".join(escaped(cell) for cell in row) + r" \\" for row in table.cells]
    return [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(escaped(column.header) for column in table.columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]


def escaped(text: str) -> str:
    """For LaTeX; a hyphen before a number is a minus."""
    text = "".join(LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)
