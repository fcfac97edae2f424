"""What every number of a report rests on, in words for captions, pages and abstracts."""

from bench.reporting.analysis import Analysis
from bench.reporting.systems import Results
from bench.text import printable

__all__ = ["FAMILY_NAMES", "basis", "commits", "data_name", "made_on", "seeds", "setting"]

# what the systems of a family are called, in the plural
FAMILY_NAMES = {"cnn": "convolutional networks", "transformer": "transformers"}
_OTHER_DATA = "data other than FSD50K"


def basis(analysis: Analysis) -> str:
    """Return data, clips and seeds: 'FSD50K, 10,231 eval clips, 5 seeds'."""
    return f"{data_name(analysis)}, {_counts(analysis)}"


def setting(analysis: Analysis) -> str:
    """Return the same for a sentence: 'FSD50K (10,231 eval clips, 5 seeds)', or 'demo (not FSD50K; ...)'."""
    name, is_other = _name(analysis)
    return f"{name} ({'not FSD50K; ' if is_other else ''}{_counts(analysis)})"


def data_name(analysis: Analysis) -> str:
    """Return what the data are called: FSD50K where it is all of it, else the source that the packs name."""
    name, is_other = _name(analysis)
    return f"{name} (not FSD50K)" if is_other else name


def _name(analysis: Analysis) -> tuple[str, bool]:
    """Return what the data are called, and whether it has to be said that this is not FSD50K."""
    results = analysis.results
    if results.labels.is_fsd50k:
        return "FSD50K", False
    named = results.sources.get(results.labels.dataset)
    return (printable(named), True) if named else (_OTHER_DATA, False)


def _counts(analysis: Analysis) -> str:
    clips = len(analysis.results.labels.clips)
    return f"{clips:,} eval clip{'' if clips == 1 else 's'}, {seeds(analysis)}"


def seeds(analysis: Analysis) -> str:
    """Return how many seeds systems have: '5 seeds', '1 to 5 seeds'."""
    counts = sorted({len(system.runs) for system in analysis.results.systems})
    text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{text} seed{'' if counts == [1] else 's'}"


def made_on(results: Results) -> str:
    """Return the days on which the runs began, and of which commits: 'run on 2026-11-28, commit d27cffc41d'."""
    days = sorted({printable(run.record.provenance.date[:10]) for run in results.runs})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    found = commits(results)
    return f"run on {when}, commit{'' if len(found) == 1 else 's'} {', '.join(found)}"


def commits(results: Results) -> list[str]:
    """Return the commits of the runs, each with whether it had been changed since."""
    made = [run.record.provenance for run in results.runs]
    return sorted({f"{(p.commit or 'unknown')[:10]}{' with uncommitted changes' if p.dirty else ''}" for p in made})
