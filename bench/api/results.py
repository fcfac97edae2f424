"""Results folders: report them, compare what is in them, send them to a tracking server. No torch."""

from pathlib import Path

from bench.reporting.compare import Comparison
from bench.reporting.compare import compare as compare_systems
from bench.reporting.report import Sampling, write_report
from bench.runner.display import Display
from bench.store import ResultsFolder

__all__ = ["Sampling", "compare", "report"]


def report(
    folder: Path,
    display: Display | None = None,
    *,
    resamples: int = Sampling.resamples,
    by_group: bool = False,
    mixed: bool = False,
) -> str:
    """Write tables, figures and index.html into a results folder; return the Markdown of the scores.

    With `by_group` the bootstrap resamples whole uploaders instead of clips; `mixed` allows runs of different code.
    Raises UserError if the folder holds no finished run, a damaged one, or runs that should not be compared.
    """
    display = display or Display()
    with display.bar(f"resampling clips for {folder}") as progress:
        text = write_report(folder, Sampling(resamples, by_group), mixed=mixed, progress=progress)
    display.show(text)
    display.notice(f"the whole report: {ResultsFolder(folder).page}, table.md, table.csv, table.tex, figures")
    return text


def compare(
    first: Path, second: Path, sampling: Sampling | None = None, display: Display | None = None, *, mixed: bool = False
) -> Comparison:
    """Compare two run folders, or RESULTS/ENTRY for all seeds of an entry: paired, on the same clips.

    Raises UserError if there is no such run or entry, or the two should not be compared.
    """
    with (display or Display()).bar("resampling clips") as progress:
        return compare_systems(first, second, sampling or Sampling(), mixed=mixed, progress=progress)
