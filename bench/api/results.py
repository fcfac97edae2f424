"""Results folders: report them, compare what is in them. No torch."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from bench.api.console import shown
from bench.reporting.analysis import MARGIN
from bench.reporting.compare import Comparison
from bench.reporting.compare import compare as compare_systems
from bench.reporting.report import Report, write_report
from bench.reporting.sampling import Sampling
from bench.runner.display import Display
from bench.stats.bootstrap import RESAMPLES
from bench.store import ResultsFolder

__all__ = ["Comparison", "Report", "compare", "report"]


def report(
    folder: str | Path,
    *,
    resamples: int = RESAMPLES,
    by_group: bool | None = None,
    margin: float = MARGIN,
    mixed: bool = False,
    columns: str | Sequence[str] = (),
    display: Display | None = None,
) -> Report:
    """Write tables, figures and index.html into a results folder, and return what they say.

    The bootstrap resamples whole uploaders (`by_group`) or single clips; None takes uploaders where 20 or more are
    known. Differences within `margin`, in the primary metric's unit, are no difference: the tables say which systems
    are equivalent. `mixed` allows runs of different code. `columns` are those of the LaTeX table of scores, by the
    names that the error for a wrong one lists; without any, those that fit into a column of a page. Raises UserError if
    the folder holds no finished run, a damaged one, or runs that should not be compared.
    """
    folder, display = Path(folder), shown(display)
    names = [
        name for given in ([columns] if isinstance(columns, str) else columns) for name in given.split(",") if name
    ]
    # two at once would write each other's files
    lock = ResultsFolder(folder).lock("report", display.notice) if folder.is_dir() else nullcontext()
    with lock, display.bar(f"resampling clips for {folder}") as progress:
        sampling = Sampling(resamples, by_group)
        made = write_report(folder, sampling, mixed=mixed, margin=margin, columns=names, progress=progress)
    display.notice(f"the whole report: {ResultsFolder(folder).page}, table.md, table.csv, report.tex, figures")
    return made


def compare(
    first: str | Path,
    second: str | Path,
    *,
    resamples: int = RESAMPLES,
    by_group: bool | None = None,
    margin: float = MARGIN,
    mixed: bool = False,
    display: Display | None = None,
) -> Comparison:
    """Compare two run folders, or RESULTS/ENTRY for all seeds of an entry: paired, on the same clips.

    `by_group`, `margin` and `mixed` are those of `report`. Raises UserError if there is no such run or entry, or the
    two should not be compared.
    """
    with shown(display).bar("resampling clips") as progress:
        sampling = Sampling(resamples, by_group)
        return compare_systems(Path(first), Path(second), sampling, mixed=mixed, margin=margin, progress=progress)
