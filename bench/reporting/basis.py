"""What every number of a report rests on, in words for captions, pages and abstracts."""

from bench.protocol.task import Metric, Task
from bench.reporting.analysis import Analysis
from bench.reporting.systems import Results
from bench.text import printable

__all__ = [
    "FAMILY_NAMES", "asked", "axis_label", "basis", "beginning", "commits", "data_name", "is_tagging", "made_on",
    "seed_counts", "seeds", "setting",
]  # fmt: skip

# what the systems of a family are called, in the plural
FAMILY_NAMES = {"cnn": "convolutional networks", "transformer": "transformers"}
_OTHER_DATA = "data other than FSD50K"
# what metrics are beside the primary one, whose task says what that is
_METRICS = {"top5": "Top-5 is how often what comes next is among the five likeliest codes"}


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
    if not is_tagging(results.task):
        # nobody would take them for the whole of a set that others have scored this task on
        kinds = " or ".join(getattr(results.task.settings, "classes", ()))
        return printable((named or "data without a name") + (f", {kinds} only" if kinds else "")), False
    return (printable(named), True) if named else (_OTHER_DATA, False)


def _counts(analysis: Analysis) -> str:
    clips = len(analysis.results.labels.clips)
    return f"{clips:,} eval clip{'' if clips == 1 else 's'}, {seeds(analysis)}"


def seeds(analysis: Analysis) -> str:
    """Return how many seeds systems have: '5 seeds', '1 to 5 seeds'."""
    text = seed_counts(analysis.results)
    return f"{text} seed{'' if text == '1' else 's'}"


def seed_counts(results: Results) -> str:
    """Return the same without a word: '5', '1 to 5'."""
    counts = sorted({len(system.runs) for system in results.systems})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def is_tagging(task: Task) -> bool:
    """Return whether it is the task for which FSD50K, mAP and the literature on both are known."""
    return task.name == "tagging"


def asked(analysis: Analysis, metric: Metric | None = None) -> str:
    """Return what the primary metric is, and another one, without the last full stop; '' for tagging's, all known."""
    results = analysis.results
    if is_tagging(results.task):
        return ""
    other = _METRICS.get(metric.name, "") if metric and metric != analysis.primary else ""
    sentence = results.task.definition(results.systems[0].first.metrics, len(results.labels.clips)).removesuffix(".")
    return f"{other}. {beginning(sentence)}" if other else beginning(sentence)


def beginning(text: str) -> str:
    """Return what a sentence begins with, a capital letter if its first word has none: 'Bits are', but 'mAP is'."""
    first, space, rest = text.partition(" ")
    return (first[:1].upper() + first[1:] if first.islower() else first) + space + rest


def axis_label(analysis: Analysis, text: str = "", metric: Metric | None = None) -> str:
    """Return a metric's label for an axis, the primary one's if no other is named, with `text` and whether lower is
    better: 'bits on eval (lower is better)'."""
    metric = metric or analysis.primary
    return f"{metric.label}{text}{'' if metric.higher_is_better else ' (lower is better)'}"


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
