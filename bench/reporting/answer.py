"""What results say, in two or three sentences: for the top of a page, a table, an abstract.

The verbs are the verdicts': nothing is said to be better that no test says so of.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.reporting.analysis import CLAIMED, Ablation, Analysis, Claim, Contrast, OverFloor, Pair
from bench.reporting.basis import FAMILY_NAMES, beginning, setting
from bench.reporting.contrasts import totals
from bench.reporting.grids import grid_ranking
from bench.reporting.notes import leaders
from bench.reporting.systems import System
from bench.reporting.text import without_zero
from bench.text import printable

__all__ = ["answer"]

Item = TypeVar("Item")

_AVERAGE = " on average"
# what a list names before it only counts
_MOST_NAMED = 4
_ANOTHER_SEED = "these checkpoints only: another seed may turn it around"


def answer(analysis: Analysis) -> list[str]:
    """Return what the declared contrasts say, and the ablations; without either, what pairs of systems do. Where a task
    has floors, also which systems beat them.

    Plain text; the first sentence names the data, the number of clips, and that of seeds.
    """
    sentences = [*_of_contrasts(analysis), *_of_ablations(analysis)] or [*_of_grid(analysis), *_of_pairs(analysis)]
    first, *others = sentences or _of_one(analysis)
    # the names of systems, which others begin with, stay as they are
    others = [beginning(text) if text.startswith("of ") else text for text in others]
    return [f"On {setting(analysis)}, {first}", *_of_floors(analysis), *others]


def _of_contrasts(analysis: Analysis) -> list[str]:
    computed = [(each, each.claim) for each in analysis.contrasts if each.claim]
    judged = [_Judged(each, claim, analysis) for each, claim in computed if math.isfinite(claim.difference.value)]
    if not judged:
        return []
    significant, of_checkpoints, untold = _by_verdict(judged, lambda each: each.claim)
    lacking = [_quoted(each) for each in analysis.contrasts if each.claim is None]
    lacks = [f"Not computed, since runs are missing: {_listed(lacking)}."] if lacking else []
    if not (significant or of_checkpoints):
        return [f"{_none_of(judged)}: {_listed([each.difference for each in untold])}.", *lacks]
    first = [*significant, *of_checkpoints][0]
    parts = _parts(first, judged)
    told = [first, *parts]
    lists = (
        ("It is the sum of these", [each.part for each in parts]),
        ("Also significant", [each.summary for each in significant if each not in told]),
        ("These checkpoints differ", [each.summary for each in of_checkpoints if each not in told]),
        ("Could not be told apart", [each.difference for each in untold if each not in told]),
    )
    made = [f"{start}: {_listed(items, '; ')}." for start, items in lists if items]
    return [f"{first.sentence}, {_verdict(first.claim)}.", *made, *lacks]


def _parts(total: "_Judged", judged: Sequence["_Judged"]) -> list["_Judged"]:
    """Return the contrasts that a suite has declared as parts of another one, where they add up to it."""
    count = totals([each.contrast.weighed.planned for each in judged]).get(total.contrast.weighed.planned.name, 0)
    place = judged.index(total) + 1
    return [*judged[place : place + count]]


def _by_verdict(items: Sequence[Item], claim: Callable[[Item], Claim]) -> tuple[list[Item], list[Item], list[Item]]:
    """Return those that differ significantly, those of which only these checkpoints do, and the others."""
    significant, of_checkpoints = ([each for each in items if claim(each).verdict == verdict] for verdict in CLAIMED)
    return significant, of_checkpoints, [each for each in items if claim(each).verdict not in CLAIMED]


def _none_of(judged: Sequence["_Judged"]) -> str:
    if len(judged) == 1:
        return "the one difference that was asked for in advance is not significant"
    return f"none of the {len(judged)} differences that were asked for in advance is significant"


def _verdict(claim: Claim) -> str:
    return "which is significant" if claim.verdict == "significant" else f"of {_ANOTHER_SEED}"


@dataclass(frozen=True, eq=False)
class _Judged:
    """A contrast with its claim, to be put in words."""

    contrast: Contrast
    claim: Claim
    analysis: Analysis

    @property
    def sides(self) -> tuple[str, str] | None:
        """What is weighed against what, the side of positive weights first; None where it takes the contrast's name."""
        weighed = self.contrast.weighed
        if weighed.chosen:
            positive = [group for group, choice in weighed.planned.best_of.items() if choice.weight > 0]
            return self._best(positive) if len(weighed.chosen) == 2 and len(positive) == 1 else None
        sides = [{name for name, weight in weighed.weights.items() if weight * sign > 0} for sign in (1, -1)]
        if not all(math.isclose(abs(weight) * len(sides[weight < 0]), 1) for weight in weighed.weights.values()):
            return None
        words = [self._side(side) for side in sides]
        if not (words[0] and words[1]) and not self.analysis.primary.higher_is_better:
            # a sign alone does not tell who is ahead where lower is better
            words = [word or name for word, name in zip(words, self._named_sides(sides), strict=True)]
        return (words[0], words[1]) if words[0] and words[1] else None

    def _named_sides(self, sides: Sequence[set[str]]) -> list[str]:
        """Return what a contrast that is called 'A - B' calls its sides."""
        named = printable(self.contrast.weighed.planned.name).split(" - ")
        if len(named) != 2:
            return ["", ""]
        return [name + (_AVERAGE if len(side) > 1 else "") for name, side in zip(named, sides, strict=True)]

    def _best(self, positive: Sequence[str]) -> tuple[str, str]:
        groups = sorted(self.contrast.weighed.chosen.items(), key=lambda chosen: chosen[0] not in positive)
        first, second = (f"the best {_one_of(group)} ({printable(entry)})" for group, entry in groups)
        return first, second

    def _side(self, names: set[str]) -> str:
        """Return a system's name, or what a whole family is called; '' for other sets of systems."""
        if len(names) == 1:
            return printable(next(iter(names)))
        families = {s.name: s.first.family for s in (standing.system for standing in self.analysis.compared)}
        of_names = {families.get(name, "") for name in names}
        family = next(iter(of_names))
        whole = {name for name, its in families.items() if its == family}
        is_whole = len(of_names) == 1 and family in FAMILY_NAMES and names == whole
        return FAMILY_NAMES[family] + _AVERAGE if is_whole else ""

    @property
    def sentence(self) -> str:
        """It as a clause: 'a scored .073 mAP higher than b (95% interval .028 to .117)'."""
        if self.sides:
            return _higher(*self.sides, self.claim, self.analysis)
        planned, size = self.contrast.weighed.planned, _signed(self.claim, self.analysis)
        question = printable(planned.question)
        asked = f'the answer to "{question}" is' if question else f"{_quoted(self.contrast)} is"
        return f"{asked} {size} (95% interval {_span(self.claim)})"

    @property
    def summary(self) -> str:
        """It as an item of a list, with its interval."""
        if not self.sides:
            return f"{_quoted(self.contrast)}, {_signed(self.claim, self.analysis)} ({_span(self.claim)})"
        is_ahead = not self.analysis.primary.better(0, float(self.claim.difference.value))
        first, second = self.sides if is_ahead else reversed(self.sides)
        value = _number(abs(float(self.claim.difference.value)))
        return f"{_joined(first, 'over', second)}, by {value} ({_span(self.claim, upwards=True)})"

    @property
    def part(self) -> str:
        """It as a part of a sum, under its own name, with its interval and whether that is significant."""
        unsure = "" if self.claim.verdict in CLAIMED else ", not significant"
        return f"{_quoted(self.contrast)}, {_signed(self.claim, self.analysis)} ({_span(self.claim)}{unsure})"

    @property
    def difference(self) -> str:
        """It as an item of what could not be told apart, with its difference, and what is known of equivalence."""
        notes = [_number(float(self.claim.difference.value), "+")]
        if self.claim.equivalence == "equivalent":
            notes.append(f"equivalent within {_number(self.analysis.margin, digits=None)}")
        if self.claim.verdict == "undecided":
            notes.append("undecided: it takes more resamples")
        name = _joined(self.sides[0], "and", self.sides[1]) if self.sides else _quoted(self.contrast)
        return f"{name} ({', '.join(notes)})"


def _of_ablations(analysis: Analysis) -> list[str]:
    made = analysis.ablations
    if not made:
        return []
    significant, of_checkpoints, rest = _by_verdict(made, lambda each: each.claim)
    generalises = any(each.claim.difference.generalises for each in made)
    told = significant if generalises else of_checkpoints
    better = [each for each in told if analysis.primary.key(float(each.claim.difference.value)) < 0]
    worse = [each for each in told if each not in better]
    how = "significantly " if generalises else ""
    counts = (
        f"of {len(made)} ablation{'' if len(made) == 1 else 's'} {len(worse)} scored {how}worse than their base and"
    )
    counts += f" {len(better)} {how}better"
    if not generalises:
        counts += f" ({_ANOTHER_SEED})"
    elif of_checkpoints:
        counts += f"; of {len(of_checkpoints)} only these checkpoints differ"
    counts += f"; {len(rest)} could not be told apart from it"
    if equivalent := sum(each.claim.equivalence == "equivalent" for each in made):
        within = _number(analysis.margin, digits=None)
        counts += f", {equivalent} {'is' if equivalent == 1 else 'are'} equivalent to it within {within}"
    kinds = (("hurt", worse), ("helped", better))
    return [f"{counts}.", *(_largest(f"What {verb} most", each, analysis) for verb, each in kinds if each)]


def _largest(which: str, ablations: Sequence[Ablation], analysis: Analysis) -> str:
    """Return the ablation of the largest effect, and what it changed."""
    most = max(ablations, key=lambda each: abs(float(each.claim.difference.value)))
    changes = [f"{name} {old} -> {new}" for name, (old, new) in most.changed.items()]
    changed = printable(f" ({_listed(changes)})") if changes else ""
    clause = _higher(f"{most.system.label}{changed}", most.base.label, most.claim, analysis)
    return f"{which}: {clause}."


def _of_floors(analysis: Analysis) -> list[str]:
    """Return which systems beat the best predictor that learns nothing, by how much at most, and which do not."""
    if not analysis.over_floor:
        return []
    floor, systems = analysis.best_floor, len(analysis.over_floor)
    beat = [each for each in analysis.over_floor if each.is_better]
    worse = [each for each in analysis.over_floor if each.is_told_apart and not each.is_better]
    untold = [each for each in analysis.over_floor if not each.is_told_apart]
    which = f"the best predictor that learns nothing ({floor.name}, "
    which += f"{_number(floor.scores[analysis.primary.name])} {analysis.primary.label})"
    text = f"{_share(beat, systems)} {which}{_by_at_most(beat)}"
    groups = ((worse, "scored worse"), (untold, "could not be told apart from it"))
    rest = [f"{_all_or_listed(of, systems)} {what}" for of, what in groups if of]
    if rest and systems > 1:
        text += f": {'; '.join(rest)}"
    sure = all(each.claim.difference.generalises for each in analysis.over_floor)
    return [f"{text}.{'' if sure else f' That is of {_ANOTHER_SEED}.'}"]


def _all_or_listed(some: Sequence[OverFloor], systems: int) -> str:
    return "all" if len(some) == systems else _listed([each.system.label for each in some])


def _share(beat: Sequence[OverFloor], systems: int) -> str:
    if systems == 1:
        return "It beats" if beat else "It is not shown to beat"
    if len(beat) in (0, systems):
        return f"All {systems} systems beat" if beat else f"None of the {systems} systems is shown to beat"
    if len(beat) == 1:
        return f"Of {systems} systems {beat[0].system.label} alone beats"
    return f"{len(beat)} of {systems} systems beat"


def _by_at_most(beat: Sequence[OverFloor]) -> str:
    """Return by how much the one that is furthest ahead is, with its interval."""
    if not beat:
        return ""
    most = max(beat, key=lambda each: abs(float(each.claim.difference.value)))
    size = f"by {_number(abs(float(most.claim.difference.value)))} (95% interval {_span(most.claim, upwards=True)})"
    return f", {size}" if len(beat) == 1 else f", {most.system.label} {size}"


def _of_grid(analysis: Analysis) -> list[str]:
    """Return who leads at the points of a grid."""
    ranking = grid_ranking(analysis.results)
    if not (ranking and ranking.leaders):
        return []
    return [f"of {ranking.entries} entries over a grid of {' and '.join(ranking.fields)} {leaders(ranking)}."]


def _of_pairs(analysis: Analysis) -> list[str]:
    if not analysis.pairs:
        return []
    best = analysis.compared[0].system
    couples = [pair for pair in analysis.pairs if best in (pair.first, pair.second)]
    if len(couples) == 1:
        return [_of_two(couples[0], analysis)]
    significant, of_checkpoints, rest = _by_verdict(couples, lambda pair: pair.primary)
    if any(pair.primary.difference.generalises for pair in couples):
        counts = f"significantly better than {len(significant)} of the other {len(couples)}"
        counts += f", in these checkpoints only than {len(of_checkpoints)}" if of_checkpoints else ""
    else:
        counts = f"better than {len(of_checkpoints)} of the other {len(couples)} ({_ANOTHER_SEED})"
    names = _listed([_other(pair, best).label for pair in rest])
    apart = f"; {names} could not be told apart from it" if names else ""
    score = f"{best.label} scored best, {_number(best.score)} {analysis.primary.label}"
    return [f"{score}: {counts}{apart}.", *_of_families(analysis)]


def _other(pair: Pair, system: System) -> System:
    return pair.second if pair.first is system else pair.first


def _of_families(analysis: Analysis) -> list[str]:
    """Return how the best of two families compare, which were chosen on val."""
    chosen = analysis.classes
    if chosen is None or chosen.first.first.family == chosen.second.first.family:
        return []
    for pair in analysis.pairs:
        if {pair.first.label, pair.second.label} == {chosen.first.label, chosen.second.label}:
            return [f"Of the two that are best on val in their families, {_of_two(pair, analysis)}"]
    return []


def _of_two(pair: Pair, analysis: Analysis) -> str:
    claim = pair.primary
    clause = _higher(pair.first.label, pair.second.label, claim, analysis)
    if claim.verdict in CLAIMED:
        return f"{clause}, {_verdict(claim)}."
    if not claim.difference.generalises:
        return f"{clause}, which is not shown of {_ANOTHER_SEED}."
    within = _number(analysis.margin, digits=None)
    equivalent = f"; the two are equivalent within {within}" if claim.equivalence == "equivalent" else ""
    return f"{clause}, which is not significant{equivalent}."


def _of_one(analysis: Analysis) -> list[str]:
    system, floors = analysis.standings[0].system, analysis.results.floors
    spread = system.spread("metrics", analysis.primary.name)
    deviation = "" if spread is None else f" ± {_number(spread)}"
    floor = "".join(f"; {name} is {_number(value)}" for name, value in floors.items() if not analysis.over_floor)
    return [f"{system.label} scored {_number(system.score)}{deviation} {analysis.primary.label}{floor}."]


# --- words for numbers and sides ---


def _higher(first: str, second: str, claim: Claim, analysis: Analysis) -> str:
    """Return which side scored higher or lower than the other, and by how much."""
    value = float(claim.difference.value)
    way = "higher" if value >= 0 else "lower"
    if not analysis.primary.higher_is_better:
        way += " (worse)" if value > 0 else " (better)" if value < 0 else ""
    size = f"{_number(abs(value))} {analysis.primary.label}"
    return f"{_joined(first, f'scored {size} {way} than', second)} (95% interval {_span(claim, upwards=True)})"


def _joined(first: str, link: str, second: str) -> str:
    """Return two sides with what links them; that either is an average is said once, behind both."""
    average = _AVERAGE if any(side.endswith(_AVERAGE) for side in (first, second)) else ""
    return f"{first.removesuffix(_AVERAGE)} {link} {second.removesuffix(_AVERAGE)}{average}"


def _signed(claim: Claim, analysis: Analysis) -> str:
    return f"{_number(float(claim.difference.value), '+')} {analysis.primary.label}"


def _span(claim: Claim, *, upwards: bool = False) -> str:
    """Return a difference's interval; upwards, that of the difference the way round in which it is above 0."""
    found = claim.difference.turned if upwards and float(claim.difference.value) < 0 else claim.difference
    return f"{_number(float(found.low))} to {_number(float(found.high))}"


def _number(value: float, sign: str = "-", digits: int | None = 3) -> str:
    """Return a number as the field prints scores: .379, -.017; without digits, as it was given."""
    return without_zero(f"{value:{sign}g}" if digits is None else f"{value:{sign}.{digits}f}")


def _one_of(family: str) -> str:
    return FAMILY_NAMES[family].removesuffix("s") if family in FAMILY_NAMES else f"of {printable(family)}"


def _quoted(contrast: Contrast) -> str:
    return f'"{printable(contrast.weighed.planned.name)}"'


def _listed(items: Sequence[str], between: str = ", ") -> str:
    """Return a list in words, of a long one the first, and how many more there are."""
    if len(items) > _MOST_NAMED + 1:
        items = [*items[:_MOST_NAMED], f"{len(items) - _MOST_NAMED} more"]
    if len(items) < 2:
        return "".join(items)
    return f"{between.join(items[:-1])}{between if between == '; ' else ' '}and {items[-1]}"
