"""Tables as Markdown to read, and CSV to compute with."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.reporting.analysis import Analysis
from bench.reporting.answer import answer
from bench.reporting.basis import basis, made_on
from bench.reporting.marks import KINDS, footnotes
from bench.reporting.notes import origin, reading_notes
from bench.reporting.tables.scores import unfinished
from bench.reporting.tables.table import Record, Table
from bench.reporting.text import code_span, markdown_text
from bench.text import csv_cell, printable

__all__ = ["csv_text", "html_table", "markdown", "markdown_table"]


def markdown(analysis: Analysis, made: Sequence[Table]) -> str:
    results = analysis.results
    lines = [f"# {markdown_text(results.title)}", "", markdown_text(" ".join(answer(analysis))), ""]
    lines.append(markdown_text(f"{basis(analysis)}; {made_on(results)}"))
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
