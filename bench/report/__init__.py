"""Tables and figures from a results folder alone; no torch, so that they can be made on any machine."""

from pathlib import Path

from bench.report.figures import map_vs_parameters
from bench.report.results import load_results
from bench.report.tables import csv_table, markdown_table


def write_report(folder: Path) -> str:
    """Write table.md, table.csv and the figures into a results folder; returns the Markdown.

    Raises:
        UserError: the folder holds no finished run.
    """
    results = load_results(folder)
    markdown = markdown_table(results)
    (folder / "table.md").write_text(markdown, "utf-8")
    (folder / "table.csv").write_text(csv_table(results), "utf-8")
    map_vs_parameters(results, folder / "map_vs_parameters")
    return markdown
