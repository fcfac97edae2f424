"""Colours that all tell apart, looks that are each a system's own, and what files become of a figure."""

import re
from itertools import combinations

import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb

from bench.reporting.figures import style
from bench.reporting.figures.style import COLUMN, FAMILIES, FULL, GREY, INK, colour_of, draw, hover, looks, new_figure
from bench.store import ResultsFolder

COLOURS = {**FAMILIES, "other": colour_of("hybrid")}


def contrast_on_white(colour):
    """WCAG 2: 1 for white, 21 for black."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 1.05 / (np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05)


@pytest.mark.parametrize("colour", [*COLOURS.values(), GREY, INK])
def test_what_is_drawn_has_a_contrast_of_3_to_1_on_white(colour):
    assert contrast_on_white(colour) >= 3


def as_seen(colour, deficiency):
    """As someone sees it who lacks a kind of cones (Machado et al. 2009, severity 100%)."""
    if deficiency is None:
        return np.array(to_rgb(colour))
    space = {"name": "sRGB1+CVD", "cvd_type": deficiency, "severity": 100}
    return np.clip(cspace_convert(to_rgb(colour), space, "sRGB1"), 0, 1)


@pytest.mark.parametrize("deficiency", [None, "deuteranomaly", "protanomaly"])
def test_families_are_told_apart_with_any_eyes(deficiency):
    """By the distance in CAM02-UCS, in which 1 is about what is just seen; 56 and 49 were measured, 28 to dark grey."""
    seen = {name: as_seen(colour, deficiency) for name, colour in COLOURS.items()}
    apart = {pair: deltaE(seen[pair[0]], seen[pair[1]], input_space="sRGB1") for pair in combinations(seen, 2)}
    assert apart["cnn", "transformer"] > 45
    assert min(apart.values()) > 25


def test_looks_of_twenty_systems_are_distinct_and_follow_their_order_alone():
    families = ["cnn", "transformer", "hybrid", "cnn"]
    named = {f"system {i}": families[i % 4] for i in range(20)}
    found = looks(named)
    assert len({(look.colour, look.marker, look.is_filled) for look in found.values()}) == 20
    assert all(look.colour == colour_of(named[name]) for name, look in found.items())
    # other names, and others behind them
    others = {f"crnn_{i}": families[i % 4] for i in range(24)}
    assert [*found.values()] == [*looks(others).values()][:20]
    alone = looks({f"system {i}": "cnn" for i in range(20)})
    assert len({(look.marker, look.is_filled) for look in alone.values()}) == 20
    assert len({look.dashes for look in alone.values()}) == 4


def a_figure(*, width):
    figure, axes = new_figure(width, 1.0)
    (dot,) = axes.plot(1, 1, "o")
    hover(dot, 'a <run> & "more",\nseed \0中')
    return figure


def test_a_figure_has_a_file_for_the_page_and_for_the_column_and_tells_what_is_pointed_at(tmp_path):
    assert draw({"it": (a_figure, "of {what}")}, ResultsFolder(tmp_path), what="{x}") == {"it": "of {x}"}
    files = {path.name for path in tmp_path.iterdir()}
    assert {"it.pdf", "it.svg", "it.png", "it_column.pdf"} <= files
    svg = (tmp_path / "it.svg").read_text()
    assert re.findall("<g><title>(.*?)</title>", svg, re.S) == ["a &lt;run&gt; &amp; &quot;more&quot;,\nseed \\x00中"]


def test_a_figure_that_is_drawn_no_more_leaves_no_file(tmp_path):
    folder = ResultsFolder(tmp_path)
    draw({"it": (a_figure, "")}, folder)
    assert draw({"it": (lambda *, width: a_figure(width=width) if width == FULL else None, "")}, folder) == {"it": ""}
    assert not [*tmp_path.glob("it_column*")]
    assert draw({"it": (lambda *, width: None, "")}, folder) == {}
    assert not [*tmp_path.iterdir()]


def test_text_is_of_a_size_that_print_needs():
    assert (COLUMN, FULL) == (3.3, 6.9)
    figure, axes = new_figure(COLUMN)
    sizes = {label.get_fontsize() for label in (axes.xaxis.label, axes.title, *axes.get_xticklabels())}
    style.plt.close(figure)
    assert min(sizes) >= 6.5
