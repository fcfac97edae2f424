"""Results folders: report them, compare what is in them. No torch."""

from pathlib import Path

from bench.api.console import shown
from bench.reporting.compare import Comparison
from bench.reporting.compare import compare as compare_systems
from bench.reporting.report import Report, Sampling, write_report
from bench.runner.display import Display
from bench.stats.bootstrap import RESAMPLES
from bench.store import ResultsFolder

__all__ = ["Comparison", "Report", "compare", "report"]


def report(
    folder: str | Path,
    *,
    resamples: int = RESAMPLES,
    by_group: bool = False,
    mixed: bool = False,
    display: Display | None = None,
) -> Report:
    """Write tables, figures and index.html into a results folder, and return what they say.

    With `by_group` the bootstrap resamples whole uploaders instead of clips; `mixed` allows runs of different code.
    Raises UserError if the folder holds no finished run, a damaged one, or runs that should not be compared.
    """
    folder, display = Path(folder), shown(display)
    with display.bar(f"resampling clips for {folder}") as progress:
        made = write_report(folder, Sampling(resamples, by_group), mixed=mixed, progress=progress)
    display.notice(f"the whole report: {ResultsFolder(folder).page}, table.md, table.csv, table.tex, figures")
    return made


def compare(
    first: str | Path,
    second: str | Path,
    *,
    resamples: int = RESAMPLES,
    by_group: bool = False,
    mixed: bool = False,
    display: Display | None = None,
) -> Comparison:
    """Compare two run folders, or RESULTS/ENTRY for all seeds of an entry: paired, on the same clips.

    `by_group` and `mixed` are those of `report`. Raises UserError if there is no such run or entry, or the two should
    not be compared.
    """
    with shown(display).bar("resampling clips") as progress:
        sampling = Sampling(resamples, by_group)
        return compare_systems(Path(first), Path(second), sampling, mixed=mixed, progress=progress)
