"""The whole report of a results folder."""

from pathlib import Path

from bench.data.dataset import Progress
from bench.reporting.analysis import Sampling, analyse
from bench.reporting.figures.ablations import draw_ablations
from bench.reporting.figures.filters import filters_figure
from bench.reporting.figures.scores import draw_scores
from bench.reporting.figures.search import draw_search
from bench.reporting.formats import csv_text, latex, markdown, markdown_table
from bench.reporting.page import page
from bench.reporting.systems import load_results
from bench.reporting.tables.scores import class_table, tables
from bench.reporting.tables.search import tuning_table

__all__ = ["Sampling", "write_report"]


def write_report(
    folder: Path, sampling: Sampling | None = None, *, mixed: bool = False, progress: Progress = lambda *_: None
) -> str:
    """Write tables, figures and index.html into a results folder; return the Markdown of scores and cost.

    The tables are table.md, .csv and .tex; differences.csv, classes.csv, tuning.csv if there was a search, and
    ablations.csv if entries have bases. The same results give the same bytes. Raises UserError where the folder holds
    no finished run, a damaged one, or runs that should not be compared.
    """
    results = load_results(folder, mixed=mixed)
    analysis = analyse(results, sampling or Sampling(), progress)
    made = tables(analysis)
    if results.search:
        # behind the scores
        made.insert(2 if analysis.ablations else 1, tuning_table(analysis, results.search))
    by_name = {table.name: table for table in made}
    store = results.folder
    store.report_file("table.md").write_text(markdown(analysis, made), "utf-8")
    store.report_file("table.csv").write_text(csv_text(by_name["scores"].records), "utf-8")
    printed = [table for table in made if table.name != "published"]
    store.report_file("table.tex").write_text(latex(analysis, printed), "utf-8")
    if analysis.classes:
        by_name["classes"] = class_table(analysis.classes)
    for name in ("differences", "classes", "tuning", "ablations"):
        path = store.report_file(f"{name}.csv")
        if name in by_name:
            path.write_text(csv_text(by_name[name].records), "utf-8")
        else:
            # of an earlier report with more systems
            path.unlink(missing_ok=True)
    figures = draw_ablations(analysis) | draw_search(store) | draw_scores(analysis)
    for run in results.runs:
        if run.folder.has_filters:
            filters_figure(run.folder)
    store.page.write_text(page(analysis, list(by_name.values()), figures), "utf-8")
    shown = [by_name[name] for name in ("ablations", "scores", "tuning", "cost") if name in by_name]
    return "\n".join("\n".join(["", *markdown_table(table)]) for table in shown).strip() + "\n"
