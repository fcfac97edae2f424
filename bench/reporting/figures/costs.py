"""The figures of score against cost: parameters, which the benchmark's title asks about, what a model sees of a sound,
and what computing takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea, VPacker
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

from bench.protocol.task import Metric
from bench.reporting.analysis import Analysis, Standing
from bench.reporting.basis import FAMILY_NAMES, asked, axis_label, basis, beginning, is_tagging
from bench.reporting.figures.labels import Name, Obstacle, place_names
from bench.reporting.figures.style import COLUMN, GREY, INK, SMALL, Figures, colour_of, draw, hover, new_figure
from bench.reporting.grids import GridPoint, grid_points, varied
from bench.reporting.pareto import COSTS, MEASURED, Cost, can_be_beaten, leading, unbeaten
from bench.reporting.systems import FinishedRun, System, ranked_on_val
from bench.reporting.text import figure_text
from bench.suites.grid import value_text
from bench.text import printable

__all__ = ["draw_costs"]

_REFERENCES = Path(__file__).with_name("references.csv")
_SHORT = {"cnn": "CNNs"}
# more names than this would hide each other
_MOST_NAMES = 20
# of a name, in characters
_LONGEST = 40
_MEAN: dict[str, Any] = {"marker": "o", "markersize": 5.0, "markeredgewidth": 0.5, "linestyle": "", "zorder": 4}
_RING = {"markeredgecolor": INK, "markeredgewidth": 0.9}
_SEED: dict[str, Any] = {
    "marker": "o",
    "markersize": 2.2,
    "alpha": 0.6,
    "markeredgewidth": 0,
    "linestyle": "",
    "zorder": 3,
}
_SMALL_MEAN = _SEED | {"markersize": 3.4, "alpha": 0.55}
_HOLLOW: dict[str, Any] = {"marker": "o", "markersize": 5.0, "markerfacecolor": "white", "linestyle": "", "zorder": 3.5}
_ARROW: dict[str, Any] = {
    "arrowstyle": "-|>,head_width=.12,head_length=.25",
    "linewidth": 0.6,
    "shrinkA": 3,
    "shrinkB": 4,
}
_FRONT: dict[str, Any] = {"color": "#c4c4c4", "linewidth": 1.4, "zorder": 1, "solid_joinstyle": "miter"}
# of text that is neither name nor axis
_QUIET = "#5c5c5c"
# the ends of the figures' names, map_vs_..., bits_vs_...
_OF = {
    "parameters": COSTS["P"],
    "macs": COSTS["M"],
    "train_seconds": COSTS["T"],
    "latency": MEASURED["latency"],
    "memory": MEASURED["memory"],
    "field": MEASURED["field"],
}
# the share of the axis from one system to the next of those that have the same field
_APART = 0.045
# so many have a tick each
_MOST_FIELDS = 5
# those that a second metric is drawn against, where floors have it, too
_OF_SECOND = ("parameters", "field")
# of the plot, what there may be below or above the systems to show a floor, and the best one
_ROOM, _ROOM_FOR_BEST = 0.5, 8.0


@dataclass(frozen=True)
class _Shown:
    """What a figure shows of an analysis: systems by label, and what each costs, in the unit of the axis."""

    analysis: Analysis
    cost: Cost
    # with a name, seeds and interval
    named: Mapping[str, Standing]
    # as small dots: ablations, and the other settings of a grid
    others: Mapping[str, Standing]
    x: Mapping[str, float]
    # of those that are compared with each other, whose cost is not known, or not well enough
    left_out: tuple[str, ...]
    metric: Metric

    @classmethod
    def of(cls, analysis: Analysis, cost: Cost, metric: Metric | None = None) -> "_Shown":
        costs = {standing.system.label: cost.of(standing.system) for standing in analysis.standings}
        # where 0 has no logarithm
        x = {label: value * cost.scale for label, value in costs.items() if value}
        known = {standing.system.label: standing for standing in analysis.standings if standing.system.label in x}
        compared = [standing.system for standing in analysis.compared if standing.system.label in x]
        names = _worth_a_name(analysis, compared, x)
        named = {label: standing for label, standing in known.items() if label in names}
        others = {label: standing for label, standing in known.items() if label not in names}
        missing = tuple(each.system.label for each in analysis.compared if each.system.label not in x)
        return cls(analysis, cost, named, others, x, missing, metric or analysis.primary)

    def score(self, system: System) -> float:
        """Return the mean over seeds that is drawn."""
        return system.mean("metrics", self.metric.name)

    @property
    def axis(self) -> str:
        return f"{self.cost.name} ({self.analysis.results.task.unit})" if self.is_of_field else self.cost.axis

    @property
    def is_of_field(self) -> bool:
        """Whether it is of what a model sees, which is no cost, so that nobody is ahead by having less of it."""
        return self.cost is MEASURED["field"]

    @cached_property
    def places(self) -> dict[str, float]:
        """Where each system stands: at its cost; side by side where several have one field, as most have."""
        if not self.is_of_field:
            return dict(self.x)
        alike: dict[float, list[str]] = {}
        for system in self.analysis.results.systems:
            if system.label in self.x:
                alike.setdefault(self.x[system.label], []).append(system.label)
        # in decades; a single field has one to itself
        ends = np.log10(sorted(alike))
        step = _APART * ((ends[-1] - ends[0]) or 1.0)
        if len(alike) > 1:
            step = min(step, 0.8 * np.diff(ends).min() / max(map(len, alike.values())))
        return {
            label: float(field * 10 ** (step * (place - (len(labels) - 1) / 2)))
            for field, labels in alike.items()
            for place, label in enumerate(labels)
        }

    @property
    def front(self) -> list[str]:
        """Which systems lead at their cost or less, by their means, ablations apart."""
        known = [each.system for each in self.analysis.compared if each.system.label in self.x]
        of = {system.label: self.score(system) for system in known}
        return leading({label: self.x[label] for label in of}, of, self.metric)

    @property
    def floors(self) -> dict[str, float]:
        """What is to be had without learning, by name, the best first."""
        known = {floor.name: floor.scores[self.metric.name] for floor in self.analysis.floors}
        if self.metric == self.analysis.primary:
            known = dict(self.analysis.results.floors) | known
        finite = [(name, value) for name, value in known.items() if np.isfinite(value)]
        return dict(sorted(finite, key=lambda found: self.metric.key(found[1])) if self.analysis.floors else finite)

    @property
    def published(self) -> dict[str, tuple[float, float]]:
        """By label, parameters and score as published: of FSD50K, and so on no other data."""
        if self.cost is not COSTS["P"] or not self._is_of_literature:
            return {}
        found = {label: standing.system.published or {} for label, standing in self.named.items()}
        name = self.metric.name
        return {label: (it["parameters"], it[name]) for label, it in found.items() if it.get("parameters")}

    @property
    def references(self) -> pd.DataFrame:
        """Other scores from the literature, of FSD50K as well."""
        table = pd.read_csv(_REFERENCES, comment="#")
        return table if self.cost is COSTS["P"] and self._is_of_literature else table[:0]

    @property
    def _is_of_literature(self) -> bool:
        results = self.analysis.results
        return results.labels.is_fsd50k and is_tagging(results.task)


def draw_costs(analysis: Analysis) -> dict[str, str]:
    """Draw score against each cost that is known, where there are floors a second metric, too: file stem to caption."""
    primary, *others = analysis.results.task.metrics
    shown = {f"{primary.name}_vs_{name}": _Shown.of(analysis, cost) for name, cost in _OF.items()}
    for metric in others[:1] if any(np.isfinite(floor.scores[others[0].name]) for floor in analysis.floors) else ():
        shown |= {f"{metric.name}_vs_{name}": _Shown.of(analysis, _OF[name], metric) for name in _OF_SECOND}
    # what reports of before called them
    old = {f"map_vs_{name}": (_nothing, "") for name in _OF if primary.name != "map"}
    figures: Figures = {name: (partial(_map_vs, each), f"{{{name}}}") for name, each in shown.items()}
    captions = {name: _caption(each) for name, each in shown.items() if each.x}
    return draw({**old, **figures}, analysis.results.folder, **captions)


def _nothing(*, width: float) -> None:  # noqa: ARG001
    return None


def _worth_a_name(analysis: Analysis, systems: Sequence[System], x: Mapping[str, float]) -> set[str]:
    """Return the labels of the systems to name: of a grid the best on val of each entry, of very many those ahead."""
    entries = {point.system.label: point.entry for point in grid_points(analysis.results)}
    of_entry: dict[str, str] = {}
    for system in ranked_on_val(systems):
        of_entry.setdefault(entries.get(system.label, system.label), system.label)
    if len(of_entry) <= _MOST_NAMES:
        return set(of_entry.values())
    return {*leading({s.label: x[s.label] for s in systems}, {s.label: s.score for s in systems}, analysis.primary)}


def _map_vs(shown: _Shown, *, width: float) -> Figure | None:
    if not shown.named:
        return None
    is_narrow = width <= COLUMN
    figure, axes = new_figure(width, 2.75 if is_narrow else 3.9)
    axes.set(xlabel=shown.axis, ylabel=axis_label(shown.analysis, " on eval", shown.metric))
    _limit(axes, shown)
    lines = [*_draw_floors(axes, shown), *_draw_references(axes, shown.references, is_narrow=is_narrow)]
    obstacles = [*([] if shown.is_of_field else [_draw_front(axes, shown)]), *_draw_systems(axes, shown)]
    _key(axes, shown, is_narrow=is_narrow)
    across = np.geomspace(*axes.get_xlim(), 80)
    obstacles += [Obstacle(np.column_stack([across, np.full_like(across, line.y)]), 0.4, 0.3) for line in lines]
    place_names(axes, [*_names(shown), *lines], obstacles, SMALL if is_narrow else 7)
    return figure


def _limit(axes: Axes, shown: _Shown) -> None:
    """Set the axes around all that is shown."""
    published = shown.published.values()
    axes.set_ylim(_limits(shown))
    costs = [*shown.x.values(), *(x for x, _ in published)]
    # a system alone has half a decade to each side
    room = 10 ** (0.09 * np.log10(max(costs) / min(costs)) or 0.5)
    axes.set_xscale("log")
    axes.set_xlim(min(*costs, *shown.places.values()) / room, max(*costs, *shown.places.values()) * room)
    fields = sorted({*shown.x.values()}) if shown.is_of_field else []
    few = fields if len(fields) <= _MOST_FIELDS else []
    axes.xaxis.set_major_locator(FixedLocator(few or _ticks(min(costs), max(costs))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}") if few else EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _limits(shown: _Shown) -> tuple[float, float]:
    """Return the ends of y: from 0, and to floors, where that takes little of the plot."""
    low, high = _heights(shown)
    # what lies far away would press the systems together
    for floor, share in (*_rooms(shown), (0.0, 0.25)):
        if 0 <= low - floor < share * (high - low):
            low = floor
        elif shown.analysis.floors and 0 < floor - high < share * (high - low):
            high = floor
    pad = 0.07 * (high - low) or 0.05
    return low if low == 0 else low - pad, high + pad


def _rooms(shown: _Shown) -> list[tuple[float, float]]:
    """Return each floor, and how far from the systems it may lie, as a share of their range; the best first."""
    rooms = [(floor, _ROOM) for floor in shown.floors.values()]
    if shown.analysis.floors and rooms:
        rooms[0] = rooms[0][0], _ROOM_FOR_BEST
    return rooms


def _heights(shown: _Shown) -> tuple[float, float]:
    """Return the lowest and the highest that is to be seen: means, seeds, intervals, what others published."""
    metric = shown.metric.name
    seeds = [value for each in shown.named.values() for value in each.system.values("metrics", metric)]
    means = [shown.score(each.system) for each in (*shown.named.values(), *shown.others.values())]
    ends = [end for each in shown.named.values() for end in _ends(each, metric) or ()]
    others = [*(score for _, score in shown.published.values()), *shown.references["map"]]
    values = [*seeds, *means, *ends, *others]
    return min(values), max(values)


def _ends(standing: Standing, metric: str) -> tuple[float, float] | None:
    """Return the ends of a system's interval; None where none can be trusted."""
    if not standing.intervals:
        return None
    return float(standing.intervals[metric].low), float(standing.intervals[metric].high)


def _ticks(low: float, high: float) -> list[float]:
    """Return ticks within a range of a logarithmic axis: powers of ten, and as many between as give three or more."""
    if high < 1.001 * low:
        return [low]
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
        ticks = [float(tick) for tick in np.multiply.outer(decades, steps).ravel() if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks
    return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if tick > 0]


def _draw_front(axes: Axes, shown: _Shown) -> Obstacle:
    """Draw the best score at a cost or less, as steps that go on to the right edge."""
    labels = shown.front
    of = {each.system.label: shown.score(each.system) for each in shown.analysis.compared}
    x = [shown.x[label] for label in labels] + [axes.get_xlim()[1]]
    y = [of[label] for label in labels]
    axes.step(x, [*y, y[-1]], where="post", **_FRONT)
    flat = [(each, y[i]) for i in range(len(y)) for each in np.geomspace(x[i], x[i + 1], 30)]
    rising = [(x[i], each) for i in range(1, len(y)) for each in np.linspace(y[i - 1], y[i], 20)]
    return Obstacle(np.array(flat + rising), 0.6, 0.7)


def _draw_floors(axes: Axes, shown: _Shown) -> list[Name]:
    names = []
    low, high = axes.get_ylim()
    for floor, value in shown.floors.items():
        if low <= value <= high:
            axes.axhline(value, color=GREY, linestyle=":", linewidth=0.9, zorder=1)
            names.append(_of_line(axes, f"{floor} {value:.3f}", value))
    best = next(iter(shown.floors.items()), None)
    if shown.analysis.floors and best and not low <= best[1] <= high:
        _point_at(axes, *best, is_below=best[1] < low)
    return names


def _point_at(axes: Axes, floor: str, value: float, *, is_below: bool) -> None:
    """Say where a floor is that lies beyond an end of the axis."""
    text = f"{'↓' if is_below else '↑'} {floor} {value:.3f}, beyond the axis"
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "bottom" if is_below else "top"}
    axes.text(0.01, 0.015 if is_below else 0.985, text, color=_QUIET, fontsize=SMALL, **place)


def _draw_references(axes: Axes, table: pd.DataFrame, *, is_narrow: bool) -> list[Name]:
    names = []
    for _, group in table.groupby(table["map"].round(2)):
        height = float(group["map"].mean())
        axes.axhline(height, color=GREY, linewidth=0.6, zorder=1)
        # in a column there is no room for their scores, which the axis tells
        values = zip(group["name"], group["map"], strict=True)
        models = ", ".join(name if is_narrow else f"{name} {value:.3f}" for name, value in values)
        names.append(_of_line(axes, f"{models} ({group['training'].iloc[0]})", height))
    return names


def _of_line(axes: Axes, text: str, height: float) -> Name:
    return Name(text, axes.get_xlim()[0], height, _QUIET, is_of_line=True)


def _draw_systems(axes: Axes, shown: _Shown) -> list[Obstacle]:
    """Draw every system; return what names should not cover."""
    front = unbeaten(shown.analysis, shown.cost, shown.metric)
    claims = can_be_beaten(shown.analysis) and not shown.is_of_field
    metric = shown.metric.name
    means, seeds, lines = [], [], []
    for label, standing in shown.others.items():
        (dot,) = axes.plot(shown.places[label], shown.score(standing.system), color=_colour(standing), **_SMALL_MEAN)
        hover(dot, _told(standing.system, shown))
        seeds.append((shown.places[label], shown.score(standing.system)))
    # the best in front
    for label, standing in reversed([*shown.named.items()]):
        x, system, colour = shown.places[label], standing.system, _colour(standing)
        score = shown.score(system)
        if ends := _ends(standing, metric):
            axes.plot([x, x], ends, color=colour, linewidth=1.0, alpha=0.8, zorder=2)
            lines += [(x, y) for y in np.linspace(*ends, 15)]
        for run, value in zip(system.runs, system.values("metrics", metric), strict=True):
            if len(system.runs) > 1:
                (dot,) = axes.plot(x, value, color=colour, **_SEED)
                hover(dot, _told(system, shown, run))
                seeds.append((x, value))
        edge = _RING if claims and label in front else {"markeredgecolor": "white"}
        (mean,) = axes.plot(x, score, color=colour, **_MEAN | edge)
        hover(mean, _told(system, shown))
        means.append((x, score))
        if place := shown.published.get(label):
            _draw_published(axes, standing, place, (x, score))
            means.append(place)
            lines += zip(np.geomspace(x, place[0], 15), np.linspace(score, place[1], 15), strict=True)
    groups = ((means, 12.0, 3.5), (seeds, 1.0, 1.2), (lines, 0.4, 0.5))
    return [Obstacle(np.array(points), *rest) for points, *rest in groups if points]


def _draw_published(axes: Axes, standing: Standing, place: tuple[float, float], ours: tuple[float, float]) -> None:
    colour = _colour(standing)
    axes.annotate("", ours, place, arrowprops=_ARROW | {"color": colour, "alpha": 0.7}, zorder=2)
    (point,) = axes.plot(*place, markeredgecolor=colour, **_HOLLOW)
    hover(point, f"{standing.system.label} as published: {place[1]:.3f}, {_amount(place[0])} parameters")


def _names(shown: _Shown) -> list[Name]:
    points = {point.system.label: point for point in grid_points(shown.analysis.results)}
    fields, names = varied([*points.values()]), []
    for label, standing in shown.named.items():
        # of a point of a grid, whose name spells out all fields, what matters
        text = f"{points[label].entry} ({_values(points[label], fields)})" if fields and label in points else label
        names.append(
            Name(figure_text(text, _LONGEST), shown.places[label], shown.score(standing.system), _colour(standing))
        )
    return names


def _values(point: GridPoint, fields: Sequence[str]) -> str:
    return ", ".join(printable(value_text(point.settings[field])) for field in fields)


def _key(axes: Axes, shown: _Shown, *, is_narrow: bool) -> None:
    """Name the colours above the panel, without a box."""
    known = FAMILY_NAMES | (_SHORT if is_narrow else {})
    families = sorted({each.system.first.family for each in (*shown.named.values(), *shown.others.values())})
    words = [(known.get(family, figure_text(family, 24)), colour_of(family)) for family in families]
    if shown.published:
        words.append(("hollow: as published", _QUIET))
    areas: list[Artist] = [
        TextArea(text, textprops={"color": colour, "fontsize": SMALL, "weight": "bold"}) for text, colour in words
    ]
    each = 3 if is_narrow else 6
    rows: list[Artist] = [
        HPacker(children=areas[i : i + each], pad=0, sep=8, align="baseline") for i in range(0, len(areas), each)
    ]
    place: dict[str, Any] = {"bbox_to_anchor": (0, 1), "bbox_transform": axes.transAxes}
    key = VPacker(children=rows, pad=0, sep=3)
    axes.add_artist(AnchoredOffsetbox("lower left", child=key, pad=0.3, borderpad=0, frameon=False, **place))


def _colour(standing: Standing) -> str:
    return colour_of(standing.system.first.family)


def _told(system: System, shown: _Shown, run: FinishedRun | None = None) -> str:
    """Return what a system, or one run of it, is, for readers who point at it."""
    metric, cost = shown.metric, shown.cost
    value = shown.score(system) if run is None else run.record.metrics[metric.name]
    whose = System(system.label, (run,)) if run else system
    amount = cost.of(whose)
    seeds = f"mean of {len(system.runs)} seeds" if len(system.runs) > 1 else f"seed {system.spec.seed}"
    which = f"seed {run.record.spec.seed}" if run else seeds
    folders = run.folder.name if run else ", ".join(each.folder.name for each in system.runs)
    costs = f"{cost.name} {_amount(amount * cost.scale)}{cost.unit and ' '}{cost.unit}\n" if amount else ""
    return f"{system.label}, {which}\n{metric.label} {value:.3f}\n{costs}{folders}"


def _amount(value: float) -> str:
    return EngFormatter(sep="", places=2)(value) if value >= 1000 else f"{value:.3g}"


def _caption(shown: _Shown) -> str:
    """Return what is drawn, on how much, as sentences."""
    analysis, named = shown.analysis, [each.system for each in shown.named.values()]
    metric, several = shown.metric.label, any(len(system.runs) > 1 for system in named)
    devices = sorted({run.record.provenance.device for system in named for run in system.runs})
    parts = [f"{beginning(metric)} on the eval split against {shown.cost.name} ({basis(analysis)})."]
    parts += [f"{asked(analysis, shown.metric)}."] if asked(analysis, shown.metric) else []
    parts.append(
        "A large dot is the mean of a system's seeds, each of which is a small dot." if several else
        "Each large dot is a system with a single seed."
    )  # fmt: skip
    if analysis.standings[0].intervals:
        parts.append(f"Bars are 95% intervals, of {metric} over clips{' and seeds' if several else ''}.")
    parts += [*_caption_of_others(shown), *_caption_of_front(shown), *_caption_of_floors(shown)]
    if shown.published:
        parts.append("Hollow: as published, joined to ours by an arrow.")
    if len(shown.references):
        parts.append("Grey lines: higher scores from the literature, and what their models were pretrained on.")
    if shown.places != shown.x:
        parts.append(f"Systems that see as many {analysis.results.task.unit} stand side by side.")
    if shown.left_out:
        why = "their seeds took too unequal times to train" if shown.cost is COSTS["T"] else "their cost is not known"
        parts.append(f"Not drawn, since {why}: {', '.join(shown.left_out)}.")
    if shown.cost.is_measured:
        parts.append(f"Measured on {' and on '.join(devices)}{', which do not compare' if len(devices) > 1 else ''}.")
    return " ".join(parts)


def _caption_of_others(shown: _Shown) -> list[str]:
    compared = {standing.system.label for standing in shown.analysis.compared}
    settings = len(shown.others.keys() & compared)
    parts = []
    if ablations := len(shown.others) - settings:
        parts.append(f"Small dots without a name are the means of {ablations} ablations.")
    if settings and shown.analysis.results.grid:
        parts.append(
            f"Of each entry the combination of the suite's grid that is best on val has its name; the other {settings} "
            "are small dots."
        )
    elif settings:
        parts.append(f"Those on the grey line have their names; the other {settings} are small dots.")
    return parts


def _caption_of_front(shown: _Shown) -> list[str]:
    if shown.is_of_field:
        unit = shown.analysis.results.task.unit
        return [f"The receptive field is how many {unit} an output sees at most, in windows of this context."]
    parts = [f"The grey steps are the best mean {shown.metric.label} at that cost or less, tested or not."]
    if can_be_beaten(shown.analysis):
        parts.append(
            "A black ring: not shown to be beaten, as no system that costs no more is significantly better (p of .05 "
            "or less, Holm)."
        )
    return parts


def _caption_of_floors(shown: _Shown) -> list[str]:
    """Return what dotted lines are, of a task whose floors are predictors, and which of them lie beyond the axis."""
    if not shown.analysis.floors or not shown.floors:
        return []
    low, high = _limits(shown)
    far = [f"{name} {value:.3f}" for name, value in shown.floors.items() if not low <= value <= high]
    beyond = f" Beyond the axis: {', '.join(far)}." if far else ""
    return [f"Dotted lines: predictors that learn nothing.{beyond}"]
