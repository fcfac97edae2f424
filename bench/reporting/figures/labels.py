"""Names beside points, each where it hides least; without chance or clock, for the same bytes from the same points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from bench.reporting.figures.style import SMALL

__all__ = ["Name", "Obstacle", "place_names"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# All in points. From a point to its name; names that are farther are joined to it by a line.
_GAPS, _JOINED = (4.0, 7.0, 11.0, 16.0, 22.0, 30.0, 40.0, 52.0, 66.0), 6.0
# directions around a point in the order in which they are liked, in degrees: right, left, above, below, between
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)
# places along a line, as shares of the panel's width
_ALONG = (1.0, 0.0, 0.5, 0.75, 0.25)
# around a name, between it and a line that it names, between it and the panel's edge
_MARGIN, _OFF_LINE, _EDGE = 1.2, 2.0, 2.0
# What is worse than all else: two names on each other, a name that is cut off. Then lines that cross, what a line runs
# through, and a point of distance.
_FORBIDDEN, _CROSSING, _THROUGH, _DISTANCE = 1e4, 12.0, 4.0, 0.3
# names of points so close (in points) stand in the points' order, from top to bottom
_CLOSE, _DISORDER = 14.0, 4.0
_ROUNDS = 6


@dataclass(frozen=True)
class Name:
    """A text and the point that it names, in data coordinates; or the horizontal line through it."""

    text: str
    x: float
    y: float
    colour: str
    is_of_line: bool = False


@dataclass(frozen=True)
class Obstacle:
    """Points (n, 2) that names should not cover, in data coordinates: how much each counts; its radius in points."""

    points: Floats
    weight: float
    radius: float = 1.0


def place_names(axes: Axes, names: Sequence[Name], obstacles: Sequence[Obstacle], size: float = SMALL) -> list[Name]:
    """Write names of `size` points into a panel whose limits are set; return those for which there was no room.

    One that cannot stand without hiding another, or being cut off, is not written.
    """
    figure = axes.figure.figure
    # what is where is known after the layout
    figure.draw_without_rendering()
    board = _Board(axes, obstacles, 72 / figure.dpi)
    choices = {name: board.places(name, size) for name in dict.fromkeys(names)}
    fitting = {name: places for name, places in choices.items() if places.costs.min() < _FORBIDDEN}
    written: dict[Name, _Places] = {}
    for name, place in zip(fitting, _choose([*fitting.values()]), strict=True):
        if place.costs[0] < _FORBIDDEN and not any(place.overlap(other)[0] for other in written.values()):
            written[name] = place
            _write(axes, name, place, size)
    return [name for name in names if name not in written]


@dataclass(frozen=True)
class _Places:
    """Places (n) that a name may have, in points from the figure's corner."""

    # (n, 4): left, bottom, right, top
    boxes: Floats
    # (2,), what is named; of a line, somewhere on it
    point: Floats
    is_of_line: bool
    # (n,), by itself
    costs: Floats

    @cached_property
    def ends(self) -> Floats:
        """Where a line from the point would end, (n, 2)."""
        return np.clip(self.point, self.boxes[:, :2], self.boxes[:, 2:])

    @cached_property
    def joined(self) -> Bools:
        """Whether there is such a line, (n,)."""
        return np.full(len(self.boxes), not self.is_of_line) & (np.hypot(*(self.ends - self.point).T) > _JOINED)

    @cached_property
    def middles(self) -> Floats:
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def only(self, i: int) -> "_Places":
        return _Places(self.boxes[[i]], self.point, self.is_of_line, self.costs[[i]])

    def overlap(self, one: "_Places") -> Bools:
        """Return which of these lie on one other."""
        (box,) = one.boxes
        below = (self.boxes[:, :2] < box[2:] + _MARGIN).all(axis=1)
        return np.asarray(below & (box[:2] < self.boxes[:, 2:] + _MARGIN).all(axis=1))

    def conflicts(self, one: "_Places") -> Floats:
        """Return what each of these costs, (n,), beside one other that is in its place."""
        (box,) = one.boxes
        cost: Floats = np.where(self.overlap(one), _FORBIDDEN, 0.0)
        steps = np.linspace(0, 1, 9)[:, None]
        lines = self.point + steps * (self.ends - self.point)[:, None]
        cost += _THROUGH * self.joined * _inside(lines, box[None]).any(axis=1)
        if one.joined[0]:
            line = one.point + steps * (one.ends[0] - one.point)
            cost += _THROUGH * _inside(line[None], self.boxes).any(axis=1)
            cost += _CROSSING * self.joined * _cross(self.point, self.ends, one.point, one.ends[0])
        if not (self.is_of_line or one.is_of_line) and np.hypot(*(self.point - one.point)) < _CLOSE:
            cost += _DISORDER * ((self.point[1] - one.point[1]) * (self.middles[:, 1] - one.middles[0, 1]) < 0)
        return cost


class _Board:
    """A panel and what stands in it, in points from the figure's corner."""

    def __init__(self, axes: Axes, obstacles: Sequence[Obstacle], scale: float) -> None:
        self._axes, self._scale = axes, scale
        self._panel = np.array(axes.bbox.extents) * scale + np.array([1, 1, -1, -1]) * _EDGE
        self._points = np.concatenate([np.empty((0, 2)), *(self._to_points(each.points) for each in obstacles)])
        counts = [len(each.points) for each in obstacles]
        self._weights = np.repeat([each.weight for each in obstacles], counts)
        self._radii = np.repeat([each.radius for each in obstacles], counts)

    def places(self, name: Name, size: float) -> _Places:
        """Return where a name may stand, and what each place costs by what it covers."""
        (point,) = self._to_points(np.array([[name.x, name.y]]))
        extent = self._extent(name.text, size)
        boxes, costs = self._along(point, extent) if name.is_of_line else self._around(point, extent)
        outside = (boxes[:, :2] < self._panel[:2]).any(axis=1) | (boxes[:, 2:] > self._panel[2:]).any(axis=1)
        covered = _inside(self._points[None], boxes, self._radii + _MARGIN) @ self._weights
        places = _Places(boxes, point, name.is_of_line, costs + _FORBIDDEN * outside + covered)
        return _Places(boxes, point, name.is_of_line, places.costs + places.joined * self._run_through(places))

    def _around(self, point: Floats, extent: Floats) -> tuple[Floats, Floats]:
        angles = np.radians(_ANGLES)
        ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        # beside a point its name is centred on its height, above it on its width
        offsets = np.clip(2 * ways, -1, 1) * extent / 2
        middles = point + (np.multiply.outer(_GAPS, ways) + offsets).reshape(-1, 2)
        costs = np.add.outer(_DISTANCE * np.array(_GAPS), 0.1 * np.arange(len(_ANGLES))).ravel()
        return np.concatenate([middles - extent / 2, middles + extent / 2], axis=1), costs

    def _along(self, point: Floats, extent: Floats) -> tuple[Floats, Floats]:
        left = self._panel[0] + np.array(_ALONG) * (self._panel[2] - self._panel[0] - extent[0])
        corners = np.array([(x, y) for x in left for y in (point[1] + _OFF_LINE, point[1] - _OFF_LINE - extent[1])])
        costs = np.add.outer(0.3 * np.arange(len(_ALONG)), [0.0, 0.2]).ravel()
        return np.concatenate([corners, corners + extent], axis=1), costs

    def _run_through(self, places: _Places) -> Floats:
        """Return how much lies on the lines that join names to their points, (n,), which counts half."""
        ways = (places.ends - places.point)[:, None]
        lengths = np.maximum((ways**2).sum(axis=2), 1e-9)
        from_point = self._points - places.point
        shares = np.clip((from_point * ways).sum(axis=2) / lengths, 0, 1)
        distances = np.linalg.norm(from_point - shares[..., None] * ways, axis=2)
        # what is at the point itself is none
        others = np.linalg.norm(from_point, axis=1) > self._radii
        return np.asarray(((distances < self._radii) & others) @ self._weights / 2)

    def _to_points(self, data: Floats) -> Floats:
        return np.asarray(self._axes.transData.transform(data.reshape(-1, 2))) * self._scale

    def _extent(self, text: str, size: float) -> Floats:
        """Return width and height of a text."""
        probe = self._axes.text(0, 0, text, fontsize=size)
        extent = probe.get_window_extent()
        probe.remove()
        return np.array([extent.width, extent.height]) * self._scale


def _choose(choices: Sequence[_Places]) -> list[_Places]:
    """Return a place for each: the best of what three orders lead to."""
    crowded = sorted(range(len(choices)), key=lambda i: -float(np.sort(choices[i].costs)[:8].mean()))
    found = [_improve(choices, order) for order in (crowded, crowded[::-1], range(len(choices)))]
    return min(found, key=_total) if choices else []


def _improve(choices: Sequence[_Places], order: Sequence[int]) -> list[_Places]:
    """Return a place for each: first in this order, each beside those before it; then again, seeing all others."""
    chosen: dict[int, _Places] = {}
    for _ in range(_ROUNDS):
        before = dict(chosen)
        for i in order:
            places, others = choices[i], (other for j, other in chosen.items() if j != i)
            best = int((places.costs + sum(places.conflicts(other) for other in others)).argmin())
            chosen[i] = places.only(best)
        if before and all((before[i].boxes == chosen[i].boxes).all() for i in order):
            break
    return [chosen[i] for i in range(len(choices))]


def _total(chosen: Sequence[_Places]) -> float:
    pairs = combinations(chosen, 2)
    return sum(float(each.costs[0]) for each in chosen) + sum(float(a.conflicts(b)[0]) for a, b in pairs)


def _inside(points: Floats, boxes: Floats, margin: float | Floats = _MARGIN) -> Bools:
    """Return which of (n or 1, k, 2) points are inside (n or 1, 4) boxes that are larger by a margin, (n, k)."""
    margins = np.broadcast_to(margin, points.shape[1])[:, None]
    low, high = boxes[:, None, :2] - margins, boxes[:, None, 2:] + margins
    return np.asarray(((points > low) & (points < high)).all(axis=2))


def _cross(start: Floats, ends: Floats, other: Floats, other_end: Floats) -> Bools:
    """Return which lines from `start` to (n, 2) ends cross another line."""

    def side(a: Floats, b: Floats, point: Floats) -> Floats:
        way, to = b - a, point - a
        return np.asarray(np.sign(way[..., 0] * to[..., 1] - way[..., 1] * to[..., 0]))

    apart = side(start, ends, other) * side(start, ends, other_end) < 0
    return np.asarray(apart & (side(other, other_end, start) * side(other, other_end, ends) < 0))


def _write(axes: Axes, name: Name, place: _Places, size: float) -> None:
    at: dict[str, Any] = {"xy": (name.x, name.y), "textcoords": "offset points", "annotation_clip": False}
    look: dict[str, Any] = {"color": name.colour, "fontsize": size, "ha": "center", "va": "center"}
    axes.annotate(name.text, xytext=tuple(place.middles[0] - place.point), **at, **look).set_in_layout(False)
    if place.joined[0]:
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": name.colour, "alpha": 0.7, "shrinkA": 0, "shrinkB": 2.5}
        end = tuple(place.ends[0] - place.point)
        axes.annotate("", xytext=end, arrowprops=line, zorder=2.5, **at).set_in_layout(False)
