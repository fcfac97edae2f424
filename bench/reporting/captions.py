"""The captions of printed tables: sentences with the data, clips, seeds, intervals and tests that numbers rest on."""

from collections import Counter
from collections.abc import Sequence

from bench.reporting.analysis import Analysis, Claim
from bench.reporting.basis import asked, basis, beginning, is_tagging
from bench.reporting.marks import KINDS, NO_BETTER
from bench.reporting.tables.table import Column, Table
from bench.reporting.text import without_zero

__all__ = ["table_caption"]

_TESTED = "bold: significant (p of .05 or less, corrected by Holm)"
_CHECKPOINTS = (
    "bold: these checkpoints differ (p of .05 or less, clips resampled alone; another seed may turn it around)"
)
_COSTS = {
    "parameters": "Params: parameters in millions",
    "receptive_field": "Field: how much an output sees at most, in windows of this context",
    "macs": "MMAC/s: millions of multiply-accumulates a second of a clip",
    "train_seconds": "Train: seconds of training, from the fastest seed to the slowest",
    "latency_seconds": "Latency: the least for a clip of 10 s",
    "train_memory_bytes": "Memory: the most that tensors take in a step of training",
    "front": "Unbeaten in P, M, T: no other system with no more parameters, MACs, or time of training is significantly "
    "better",
}


def table_caption(analysis: Analysis, table: Table, columns: Sequence[Column]) -> str:
    """Return what a reader of a paper has to know of a table with these columns."""
    sentences = {
        "scores": _scores,
        "floors": _floors,
        "over_floor": _over_floor,
        "cost": _costs,
        "starts": _starts,
        "contrasts": _contrasts,
        "ablations": _ablations,
        "differences": _differences,
        "tuning": _tuning,
        "ensembles": _ensembles,
        "published": _published,
    }[table.name](analysis, columns)
    data = "" if table.name == "published" else f" ({basis(analysis)})"
    first, *others = sentences
    return ". ".join([first + data, *others]) + "."


def _scores(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    label, fields = analysis.primary.label, {column.field for column in columns}
    spread = any(len(standing.system.runs) > 1 for standing in analysis.standings)
    sentences = ["Scores on eval, means over seeds"]
    if analysis.primary.name in fields and spread:
        sentences.append(f"{beginning(label)}: ± is the standard deviation over seeds")
    if f"{analysis.primary.name}_low" in fields:
        sentences.append(f"In brackets: 95% interval of {label}, {_resampled(analysis)}")
    if fields & {f"published_{analysis.results.published_metric.name}", "published_parameters"}:
        on = "on all of FSD50K" if is_tagging(analysis.results.task) else "on other data"
        sentences.append(f"Published: by the papers' own protocols, {on}")
    return [*sentences, *_asked(analysis), *_emphasis(analysis), *_marks(analysis)]


def _asked(analysis: Analysis) -> list[str]:
    return [text] if (text := asked(analysis)) else []


def _costs(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    fields = {column.field for column in columns}
    told = [text for field, text in _COSTS.items() if field in fields]
    return [f"{beginning(analysis.primary.label)} and costs", *told, *_emphasis(analysis), *_marks(analysis)]


def _starts(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    fields = {column.field for column in columns}
    tasks = {standing.system.first.init.get("task") for standing in analysis.standings}
    copied = "Eval clips heard: at most; all that are, to the sample, in train or val"
    codes = "The codes of next_patch are made before, by an autoencoder and k-means: that training is in no column"
    return [
        f"{beginning(analysis.primary.label)}, and what each system's weights were before its training",
        f"Examples{', steps' * ('start_steps' in fields)} and seconds before: of the training that the start is from, "
        "its fastest seed; labels used: share of the train clips whose labels are read",
        *([codes] if "next_patch" in tasks else []),
        *([copied] if "start_copied_clips" in fields else []),
    ]


def _emphasis(analysis: Analysis) -> list[str]:
    """Return what bold and underlined scores are."""
    if len(analysis.standings) < 2:
        return []
    if not analysis.pairs:
        return ["Bold: the best"]
    generalises = {pair.primary.difference.generalises for pair in analysis.pairs}
    worse = f"not significantly worse (Holm over {len(analysis.pairs)} pairs)"
    if not all(generalises):
        worse = "not shown to be worse (clips resampled alone: about these checkpoints only)"
    ablations = ", ablations aside" if analysis.ablations else ""
    return [f"Bold: the best; underlined: {worse}{ablations}"]


def _marks(analysis: Analysis) -> list[str]:
    """Return what the marks at names stand for."""
    systems = analysis.results.systems
    marked = [kind for kind in KINDS if any(getattr(system.spec, kind.name) for system in systems)]
    told = [f"{kind.symbol} {'inferred' if kind.name == 'inferred' else 'second-hand'}" for kind in marked]
    sentences = [f"Some settings are {', '.join(told)}"] if told else []
    if any(not each.is_better for each in analysis.over_floor):
        sentences.append(f"{NO_BETTER} not shown to beat {analysis.best_floor.name}, which learns nothing")
    return sentences


def _floors(analysis: Analysis, _: Sequence[Column]) -> list[str]:
    return ["Floors: predictors that learn nothing, on the same clips as the systems, best first", *_asked(analysis)]


def _over_floor(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    best, label = analysis.best_floor, analysis.primary.label
    first = (
        f"Each system against {best.name}, the best predictor that learns nothing "
        f"({_short(best.scores[analysis.primary.name])} {label}): differences in {label}, the system's less the floor's"
    )
    claims = [each.claim for each in analysis.over_floor]
    return [first, *_direction(analysis), *_claimed(analysis, claims, columns)]


def _direction(analysis: Analysis) -> list[str]:
    """Return which sign is whose, where it is not the usual one."""
    return [] if analysis.primary.higher_is_better else ["Lower is better: below 0 what comes first is ahead"]


def _contrasts(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    claims = [contrast.claim for contrast in analysis.contrasts if contrast.claim]
    first = f"Declared contrasts: weighted differences in {analysis.primary.label}"
    return [first, *_direction(analysis), *_claimed(analysis, claims, columns)]


def _ablations(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    ablations = analysis.ablations
    main = Counter(each.base.label for each in ablations).most_common(1)[0][0]
    score = next(each.base.score for each in ablations if each.base.label == main)
    first = (
        f"Ablations of {main} ({analysis.primary.label} {_short(score)}), unless another base is named: what they "
        f"change, and what that changes in {analysis.primary.label}"
    )
    return [
        first,
        "Params: as multiples of the base's",
        *_claimed(analysis, [each.claim for each in ablations], columns),
    ]


def _differences(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    first = f"All pairs of systems, exploratory: differences in {analysis.primary.label}, first less second"
    return [first, *_direction(analysis), *_claimed(analysis, [pair.primary for pair in analysis.pairs], columns)]


def _tuning(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    first = (
        f"Best recipe that a search found against the default one, retrained on fresh seeds: {analysis.primary.label}"
    )
    claims = [pair.primary for pair in analysis.pairs]
    return [first, *_claimed(analysis, claims, columns)]


def _claimed(analysis: Analysis, claims: Sequence[Claim], columns: Sequence[Column]) -> list[str]:
    """Return what intervals, bold numbers and equivalence mean."""
    headers = {column.header for column in columns}
    generalises = {claim.difference.generalises for claim in claims}
    sentences = [f"In brackets: 95% interval, {_resampled(analysis, claims)}"] if claims else []
    if generalises:
        told = " or ".join([_TESTED] * (True in generalises) + [_CHECKPOINTS] * (False in generalises))
        sentences.append(told[0].upper() + told[1:])
    if "Eq." in headers:
        sentences.append(f"Eq.: whether equivalent within {_short(analysis.margin)} (90% interval; ?: inconclusive)")
    return sentences


def _resampled(analysis: Analysis, claims: Sequence[Claim] = ()) -> str:
    clips = "uploaders" if analysis.units.by_group else "clips"
    generalises = {claim.difference.generalises for claim in claims} or {True}
    seeds = " and seeds" if all(generalises) else ""
    some = ", and seeds where there are enough" if len(generalises) > 1 else ""
    return f"{clips}{seeds} resampled{some}"


def _short(value: float) -> str:
    """Return a number as tables print it: .193."""
    return without_zero(f"{value:.3g}")


def _ensembles(analysis: Analysis, _: Sequence[Column]) -> list[str]:
    return [
        f"Ensembles, whose scores are averaged: {analysis.primary.label} of one checkpoint, of all seeds together with "
        "what that gains, and of two seeds",
        "Best partner: the system with which one checkpoint each gains most over two checkpoints of the better of the "
        "two; of these checkpoints only",
    ]


def _published(analysis: Analysis, _: Sequence[Column]) -> list[str]:
    return [
        f"Published {analysis.results.published_metric.label} on "
        f"{'FSD50K' if is_tagging(analysis.results.task) else 'other data'}, each by its own protocol",
        *(f"{kind.symbol}: {kind.legend}" for kind in KINDS),
    ]
