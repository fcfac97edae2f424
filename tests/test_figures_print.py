"""Every figure of a report, as it is printed: read from its PDF files."""

import json
import math
import shutil
from pathlib import Path

import pytest
from pdfminer.high_level import extract_pages
from pdfminer.layout import LTChar, LTContainer
from pdfminer.pdfdocument import PDFDocument
from pdfminer.pdfpage import PDFPage
from pdfminer.pdfparser import PDFParser
from pdfminer.pdftypes import resolve1

from bench.reporting.report import Sampling, write_report

ROOT = Path(__file__).parents[1]
# points on paper, by which 6.5 may miss for rounding
LEAST = 6.5 - 0.01
TITLE = "Q4 of Zürich"


@pytest.fixture(scope="module")
def small(small_results, tmp_path_factory):
    return reported(small_results, tmp_path_factory)


def reported(kept, tmp_path_factory):
    """The report of a copy of a results folder, under a title that nothing else in it has."""
    folder = tmp_path_factory.mktemp("print") / "out"
    shutil.copytree(kept, folder)
    plan = json.loads((folder / "suite.json").read_text())
    (folder / "suite.json").write_text(json.dumps(plan | {"title": TITLE}))
    return write_report(folder, Sampling(resamples=100))


def characters(item):
    if isinstance(item, LTChar):
        yield item
    elif isinstance(item, LTContainer):
        for part in item:
            yield from characters(part)


def size_on_paper(character):
    """Points, of a text at whatever angle: its box is of its advance and its size, both turned."""
    a, b, *_ = character.matrix
    scale, along, across = math.hypot(a, b), abs(a), abs(b)
    if along >= across:
        return scale * (character.height - character.adv * across) / along
    return scale * (character.width - character.adv * along) / across


def unembedded_fonts(path):
    with path.open("rb") as file:
        fonts = [
            resolve1(font)
            for page in PDFPage.create_pages(PDFDocument(PDFParser(file)))
            for font in resolve1(page.resources.get("Font", {})).values()
        ]
        return [font["BaseFont"] for font in fonts if not is_embedded(font)]


def is_embedded(font):
    parts = [resolve1(each) for each in resolve1(font.get("DescendantFonts", []))] or [font]
    return all("FontFile2" in resolve1(part["FontDescriptor"]) for part in parts)


def check_figures(report):
    for name, figure in report.figures.items():
        for path, width in ((figure.pdf, 6.9), (figure.path.with_name(f"{name}_column.pdf"), 3.3)):
            # one that has no room for itself in a column has no such file
            if path.exists() or width == 6.9:
                check_figure(path, width)


def check_figure(path, width):
    (page,) = extract_pages(path)
    assert page.width / 72 == pytest.approx(width, abs=0.01), path.name
    found = [each for each in characters(page) if each.get_text().strip()]
    text = "".join(each.get_text() for each in found)
    least = min(found, key=size_on_paper)
    assert size_on_paper(least) >= LEAST, f"{path.name}: {least.get_text()!r} of {size_on_paper(least):.2f} pt"
    assert not unembedded_fonts(path), path.name
    assert TITLE.replace(" ", "") not in text, f"{path.name} has a title inside"
    outside = [each.get_text() for each in found if each.x0 < -0.5 or each.x1 > page.width + 0.5 or each.y0 < -0.5]
    assert not outside, f"{path.name}: cut off: {''.join(outside)}"


def test_every_figure_of_a_small_report_is_legible_on_paper(small):
    assert {"map_vs_parameters", "learning_curves", "class_ap"} <= small.figures.keys()
    check_figures(small)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["demo", "ablations"])
def test_every_figure_of_a_kept_report_is_legible_on_paper(kept, tmp_path_factory):
    report = reported(ROOT / "results" / kept, tmp_path_factory)
    assert ("contrasts" if kept == "demo" else "ablations") in report.figures
    check_figures(report)
