"""The whole report of a results folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import pandas as pd

from bench.data.dataset import Progress
from bench.reporting.analysis import MARGIN, analyse
from bench.reporting.answer import answer
from bench.reporting.ensembles import ensembles
from bench.reporting.figures.ablations import draw_ablations
from bench.reporting.figures.contrasts import draw_contrasts
from bench.reporting.figures.costs import draw_costs
from bench.reporting.figures.ensembles import draw_ensembles
from bench.reporting.figures.filters import filters_figure
from bench.reporting.figures.grid import draw_grid
from bench.reporting.figures.scores import draw_scores
from bench.reporting.figures.search import draw_search
from bench.reporting.figures.sounds import draw_sounds
from bench.reporting.formats import csv_text, html_table, markdown, markdown_table
from bench.reporting.latex import latex_files
from bench.reporting.page import page
from bench.reporting.sampling import Sampling
from bench.reporting.svg import data_uri
from bench.reporting.systems import load_results
from bench.reporting.tables.ensembles import ensemble_pair_table, ensemble_table
from bench.reporting.tables.printed import chosen_columns, printed_tables
from bench.reporting.tables.scores import class_table, tables
from bench.reporting.tables.search import tuning_table
from bench.reporting.tables.table import COSTS, Table
from bench.store import ResultsFolder
from bench.store.files import write_text

__all__ = ["Figure", "Report", "Sampling", "write_report"]

# fields of a record of scores that are its costs; the entry and its score are told in both tables
_COSTS = (*COSTS, "receptive_field", "train_seconds_most", "front")
# CSV files that not every folder has, and the tables whose records they hold
_FILES = {
    **{
        name: name
        for name in ("contrasts", "differences", "classes", "tuning", "ablations", "floors", "over_floor", "starts")
    },
    "ensembles": "ensemble_pairs",
}


@dataclass(frozen=True)
class Figure:
    """A figure of a report, as drawn; it shows itself in a notebook."""

    # without a suffix
    path: Path
    caption: str

    @property
    def png(self) -> Path:
        return self.path.with_suffix(".png")

    @property
    def svg(self) -> Path:
        return self.path.with_suffix(".svg")

    @property
    def pdf(self) -> Path:
        return self.path.with_suffix(".pdf")

    def _repr_html_(self) -> str:
        return f'<figure><img src="{data_uri(self.svg)}"><figcaption>{escape(self.caption)}</figcaption></figure>'


@dataclass(frozen=True, repr=False)
class Report:
    """What a results folder says, as it was written there; it shows itself in a notebook.

    The columns of the DataFrames are those of the CSV files of these names, numbers unrounded.
    """

    folder: Path
    # by name, as far as there are any: scores, floors, over_floor, contrasts, cost, ensembles, differences, published,
    # classes, ablations, tuning, ensemble_pairs
    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    # what they say, in two or three sentences
    answer: Sequence[str]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a system, best first: rank, seeds, every metric with its interval, chance, untrained, published."""
        return self._frame("scores").drop(columns=self._costs)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """A row a system: parameters, multiply-accumulates, seconds, bytes, and by which of them it is not shown to be
        beaten."""
        records = self._frame("cost")
        return records[["entry", "family", "seeds", self.tables["cost"].columns[1].field, *self._costs]]

    @property
    def _costs(self) -> list[str]:
        known = self.tables["scores"].records[0]
        return [field for field in _COSTS if field in known]

    @cached_property
    def floors(self) -> pd.DataFrame:
        """A row a predictor that learns nothing, best first: its metrics, and what it predicts; empty without any."""
        return self._frame("floors")

    @cached_property
    def over_floor(self) -> pd.DataFrame:
        """A row a system, best first: its difference to the best floor, interval, p, verdict, whether it is better."""
        return self._frame("over_floor")

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """A row a declared contrast: weights, weighted difference, interval, p, verdict or why there is none."""
        return self._frame("contrasts")

    @cached_property
    def differences(self) -> pd.DataFrame:
        """A row a pair of systems, the better one first: by metric difference, interval, p, verdict."""
        return self._frame("differences")

    @cached_property
    def classes(self) -> pd.DataFrame:
        """A row a class: the scores of the best systems of two families, their difference and its verdict."""
        return self._frame("classes")

    @cached_property
    def ablations(self) -> pd.DataFrame:
        """A row an entry with a base: what it changes, the difference to the base, interval, p, verdict."""
        return self._frame("ablations")

    @cached_property
    def ensembles(self) -> pd.DataFrame:
        """A row a pair of systems, or a system twice: score of two checkpoints' mean, baseline, gain; best first."""
        return self._frame("ensemble_pairs")

    @property
    def markdown(self) -> str:
        """The tables of scores, contrasts and costs, as the command prints them."""
        return "\n".join("\n".join(["", *markdown_table(table)]) for table in self._shown).strip() + "\n"

    def __repr__(self) -> str:
        return self.markdown

    def _repr_html_(self) -> str:
        parts = [f"<h4>{escape(table.title)}</h4>{html_table(table)}" for table in self._shown]
        first = "ablations" if "ablations" in self.figures else f"{self.tables['cost'].columns[1].field}_vs_parameters"
        said = f"<p>{escape(' '.join(self.answer))}</p>"
        return said + "".join(parts) + (self.figures[first]._repr_html_() if first in self.figures else "")

    @property
    def _shown(self) -> list[Table]:
        shown = ("ablations", "scores", "floors", "over_floor", "contrasts", "tuning", "starts", "cost")
        return [self.tables[name] for name in shown if name in self.tables]

    def _frame(self, name: str) -> pd.DataFrame:
        return pd.DataFrame(self.tables[name].records if name in self.tables else [])


def write_report(
    folder: Path,
    sampling: Sampling | None = None,
    *,
    mixed: bool = False,
    margin: float = MARGIN,
    columns: Sequence[str] = (),
    progress: Progress = lambda *_: None,
) -> Report:
    """Write tables, figures and index.html into a results folder, and return what they say.

    The tables are table.md and .csv; table_NAME.tex each, that of scores with these `columns`, captions.tex, and
    report.tex, which shows them; differences.csv, classes.csv, ensembles.csv, contrasts.csv if a suite declared any,
    tuning.csv if there was a search, ablations.csv if entries have bases, floors.csv and over_floor.csv if the task has
    predictors that learn nothing. The same results give the same bytes. Raises UserError where the folder holds no
    finished run, a damaged one, or runs that should not be compared.
    """
    results = load_results(folder, mixed=mixed)
    # before clips are resampled
    chosen = chosen_columns(results, columns)
    analysis = analyse(results, sampling or Sampling(), progress, margin)
    made = tables(analysis)
    if results.search and results.search["entries"]:
        before_cost = [table.name for table in made].index("cost")
        made.insert(before_cost, tuning_table(analysis, results.search))
    found = ensembles(results)
    if found:
        behind_cost = [table.name for table in made].index("cost") + 1
        made.insert(behind_cost, ensemble_table(found))
    by_name = {table.name: table for table in made}
    store = results.folder
    write_text(store.report_file("table.md"), markdown(analysis, made))
    write_text(store.report_file("table.csv"), csv_text(by_name["scores"].records))
    if analysis.classes:
        by_name["classes"] = class_table(analysis.classes)
    if found:
        by_name["ensemble_pairs"] = ensemble_pair_table(found)
    for name, table in _FILES.items():
        path = store.report_file(f"{name}.csv")
        if table in by_name:
            write_text(path, csv_text(by_name[table].records))
        else:
            # of an earlier report with more systems
            path.unlink(missing_ok=True)
    figures = draw_contrasts(analysis) | draw_grid(analysis) | draw_ablations(analysis) | draw_search(store)
    figures |= draw_costs(analysis) | draw_scores(analysis) | draw_ensembles(analysis, found)
    figures |= draw_sounds(analysis)
    for run in results.runs:
        if run.folder.has_filters:
            filters_figure(run.folder)
    _write_latex(store, latex_files(analysis, printed_tables(analysis, made, chosen), figures))
    write_text(store.page, page(analysis, list(by_name.values()), figures))
    drawn = {name: Figure(store.report_file(name), caption) for name, caption in figures.items()}
    return Report(folder, by_name, drawn, answer(analysis))


def _write_latex(store: ResultsFolder, files: Mapping[str, str]) -> None:
    """Write the files of LaTeX, and remove those of an earlier report which had other tables."""
    for old in [store.report_file("table.tex"), *store.path.glob("table_*.tex")]:
        if old.name not in files:
            old.unlink(missing_ok=True)
    for name, text in files.items():
        write_text(store.report_file(name), text)
