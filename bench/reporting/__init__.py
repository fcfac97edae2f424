"""Tables, figures and a page from a results folder alone; no torch, so that they can be made on any machine."""

from collections.abc import Callable
from pathlib import Path

from bench.reporting.analysis import Sampling, analyse
from bench.reporting.figures.ablations import draw_ablations
from bench.reporting.figures.filters import filters_figure
from bench.reporting.figures.scores import draw_all
from bench.reporting.figures.search import draw_search
from bench.reporting.formats import csv_text, latex, markdown, markdown_table
from bench.reporting.page import page
from bench.reporting.systems import load_results
from bench.reporting.tables.ablations import ablation_table
from bench.reporting.tables.scores import class_table, tables
from bench.reporting.tables.search import tuning_table

__all__ = ["Sampling", "write_report"]


def write_report(
    folder: Path,
    sampling: Sampling | None = None,
    *,
    mixed: bool = False,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> str:
    """Write tables, figures and index.html into a results folder.

    The tables are table.md, .csv and .tex; differences.csv, classes.csv, tuning.csv if there was a search, and
    ablations.csv if rows have bases.
    Returns the Markdown of the scores and differences. The same results give the same bytes.

    Raises:
        UserError: the folder holds no finished run, a damaged one, or runs that should not be compared.
    """
    analysis = analyse(load_results(folder, mixed=mixed), sampling or Sampling(), progress)
    made = tables(analysis)
    if analysis.results.search:
        made.insert(1, tuning_table(analysis, analysis.results.search))
    if analysis.ablations:
        made.insert(0, ablation_table(analysis.ablations))
    by_name = {table.name: table for table in made}
    (folder / "table.md").write_text(markdown(analysis, made), "utf-8")
    (folder / "table.csv").write_text(csv_text(by_name["scores"].records), "utf-8")
    (folder / "table.tex").write_text(latex(analysis, [t for t in made if t.name != "published"]), "utf-8")
    if analysis.classes:
        by_name["classes"] = class_table(analysis.classes)
    for name in ("differences", "classes", "tuning", "ablations"):
        path = folder / f"{name}.csv"
        if name in by_name:
            path.write_text(csv_text(by_name[name].records), "utf-8")
        else:  # of an earlier report with more rows
            path.unlink(missing_ok=True)
    figures = draw_ablations(analysis, folder) | draw_search(folder) | draw_all(analysis, folder)
    for run in analysis.results.runs:
        if (run["folder"] / "filters.csv").is_file():
            filters_figure(run["folder"])
    (folder / "index.html").write_text(page(analysis, list(by_name.values()), figures, folder), "utf-8")
    shown = [by_name[name] for name in ("ablations", "scores", "tuning", "cost") if name in by_name]
    return "\n".join("\n".join(["", *markdown_table(table)]) for table in shown).strip() + "\n"
