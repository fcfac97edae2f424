"""The report's page in a real browser: Debian's chromium, without a network."""

import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.reporting.analysis import analyse
from bench.reporting.figures.style import draw, hover, new_figure
from bench.reporting.page import page as page_of
from bench.reporting.report import Sampling, write_report
from bench.reporting.svg import inline_svg
from bench.reporting.systems import load_results
from bench.reporting.tables.scores import class_table, tables
from tests.conftest import needs

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # selenium's, of its pipes

ROOT = Path(__file__).parents[1]
# where .ci/run puts it: npm install --prefix .tox/axe axe-core
AXE = Path(os.environ.get("AXE_CORE", ROOT / ".tox/axe/node_modules/axe-core/axe.min.js"))
QUICK = Sampling(resamples=100)
NARROW, WIDE = 400, 1400


@pytest.fixture(scope="module")
def page(small_results, tmp_path_factory):
    """A whole report's page, two systems of two seeds each, with nothing beside it."""
    folder = tmp_path_factory.mktemp("page") / "out"
    shutil.copytree(small_results, folder)
    write_report(folder, Sampling(resamples=200))
    alone = tmp_path_factory.mktemp("alone") / "index.html"
    shutil.copy(folder / "index.html", alone)
    return alone


@pytest.fixture(scope="module")
def analyses():
    """Eight systems of five seeds with contrasts; 41 ablations; and forty systems, as a grid makes them."""
    eight, ablations = (analyse(load_results(ROOT / "results" / name), QUICK) for name in ("demo", "ablations"))
    return {"contrasts": eight, "ablations": ablations, "forty": forty(eight)}


def forty(analysis):
    """The same systems five times over, the others called as those of a grid are."""
    behind = ("", *(f"-learning_rate_{rate}" for rate in ("0.0001", "0.0002", "0.0015", "0.004")))
    standings = [
        replace(each, system=replace(each.system, label=f"{each.system.label}{rate}"))
        for each in analysis.standings
        for rate in behind
    ]
    results = replace(analysis.results, systems=tuple(each.system for each in standings))
    return replace(analysis, results=results, standings=tuple(standings))


def written(analysis, figures=None):
    of_classes = [class_table(analysis.classes)] if analysis.classes else []
    return page_of(analysis, [*tables(analysis), *of_classes], figures or {})


@pytest.fixture(scope="module")
def kept(analyses, tmp_path_factory):
    """Pages of kept results, without figures, by kind."""
    paths = {kind: tmp_path_factory.mktemp(kind) / "index.html" for kind in analyses}
    for kind, path in paths.items():
        path.write_text(written(analyses[kind]))
    return paths


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    needs("chromium", "chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(600)
    yield driver
    driver.quit()


def opened_at(browser, path, width, scheme="light"):
    """A page on a screen that is so wide: a phone's below 800 pixels."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    prefer(browser, scheme)
    browser.get(path.as_uri())
    return browser


def prefer(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture
def opened(browser, page):
    return opened_at(browser, page, 1200)


def all_of(browser, css):
    return browser.find_elements("css selector", css)


def column(browser, table, number):
    return [cell.text for cell in all_of(browser, f"[data-name={table}] tbody tr td:nth-child({number})")]


# --- what it holds


def test_it_needs_nothing_but_itself(opened):
    asked = [
        entry["message"] for entry in opened.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    outside = [message for message in asked if '"url":"http' in message]
    assert not outside
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_it_opens_with_the_answer_then_the_figure_of_the_title(opened):
    answer, figure, table = (
        all_of(opened, css)[0] for css in (".answer p", "#map_vs_parameters svg", "[data-name=scores]")
    )
    assert answer.text.startswith("On data other than FSD50K (40 eval clips, 2 seeds), ")
    assert re.search(r"run on 20\d\d-\d\d-\d\d.*, commit", all_of(opened, ".basis")[0].text)
    tops = [element.location["y"] for element in (answer, figure, table)]
    assert tops == sorted(tops)
    assert tops[1] < 900, "in sight without scrolling"


def test_figures_are_drawn_named_and_linked_to_their_files(opened):
    shown = [svg for svg in all_of(opened, "figure svg") if svg.is_displayed()]
    assert len(shown) >= 5
    for svg in shown:
        assert svg.size["width"] > 300
        assert svg.get_attribute("role") == "img"
        assert svg.get_attribute("aria-label")
        assert all_of(opened, f"#{svg.get_attribute('aria-describedby')}")[0].text
    links = {link.get_attribute("href").rsplit("/", 1)[1] for link in all_of(opened, "#map_vs_parameters figcaption a")}
    assert {"map_vs_parameters.png", "map_vs_parameters.svg", "map_vs_parameters.pdf"} <= links


def test_ids_are_unique(page):
    ids = re.findall(r'(?<= id=")[^"]+', page.read_text())
    assert [name for name, times in Counter(ids).items() if times > 1] == []


def test_of_an_svg_only_the_figure_stays(tmp_path):
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1])
    figure.savefig(tmp_path / "line.svg")
    one, other = (inline_svg(tmp_path / "line.svg", prefix, "a line") for prefix in ("one", "other"))
    assert not re.search("<style|<metadata|<!DOCTYPE|<!--", one)
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert {*re.findall(r'(?:href="#|url\(#)([^")]+)', one)} <= ids[0]


def test_every_run_shows_its_settings_origin_and_history(opened):
    everywhere = all_of(opened, "#runs + details")[0].get_attribute("textContent")
    for word in ("learning_rate", "commit", "torch", "fingerprint"):
        assert word in everywhere, "said once, since all runs are alike in it"
    systems = all_of(opened, "#runs ~ details")[1:]
    assert len(systems) == 2
    for system in systems:
        text = system.get_attribute("textContent")
        assert text.count("val_score") == 4, "of two runs: the score, and a column of the history"
        assert any(name in text for name in ("front_end_dim", "stage_widths"))
        assert "learning_rate1e-3" not in text
    assert len(all_of(opened, "#runs ~ details details")) == 4


@pytest.mark.parametrize("kind", ["contrasts", "ablations"])
def test_what_215_runs_take(analyses, kind):
    """Five seeds of each entry, 20 evaluations; figures, which are not drawn here, take less than 1.5 MB."""
    analysis = analyses[kind]
    systems = {
        each.label: replace(each, runs=(each.runs * 5)[: 215 // len(analysis.standings)])
        for each in analysis.results.systems
    }
    results = replace(analysis.results, systems=tuple(systems.values()))
    standings = tuple(replace(each, system=systems[each.system.label]) for each in analysis.standings)
    assert len(written(replace(analysis, results=results, standings=standings)).encode()) < 1_500_000


def test_markup_in_a_name_stays_text(analyses):
    analysis, evil = analyses["contrasts"], "<script>alert(1)</script>"
    results = replace(analysis.results, title=evil, sources={analysis.results.labels.dataset: evil})
    text = written(replace(analysis, results=results))
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3, "as title, in the answer, and beside it"


# --- on screens


OVERFLOW = """
return [...document.querySelectorAll('table[data-name]')].map(table => {
  const folded = table.closest('details');
  if (folded) folded.open = true;
  const box = table.closest('.scroll').getBoundingClientRect();
  const heads = [...table.tHead.rows[0].cells];
  return {
    name: table.dataset.name,
    inside: [...table.querySelectorAll('th, td')].filter(cell => cell.scrollWidth > cell.clientWidth + 1).length,
    cut: heads.filter(head => head.getBoundingClientRect().right > box.right + 1).map(head => head.innerText.trim()),
    heads: heads.map(head => head.innerText.trim()),
    first: heads[0].getBoundingClientRect().width / box.width,
  };
})
"""


@pytest.mark.parametrize("kind", ["contrasts", "ablations", "forty"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_no_number_is_cut_off(browser, kept, kind, width):
    opened_at(browser, kept[kind], width)
    found = {table["name"]: table for table in browser.execute_script(OVERFLOW)}
    prefer(browser, "dark")
    assert {table["name"]: table for table in browser.execute_script(OVERFLOW)} == found
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for name, table in found.items():
        assert table["inside"] == 0, name
        if width == WIDE:
            assert table["cut"] == [], name
        # the name, and the first number with what it is uncertain by
        needed = 3 if name in ("scores", "contrasts", "ablations", "classes", "differences", "cost") else 2
        assert not {*table["heads"][:needed]} & {*table["cut"]}, name
        assert table["first"] < 0.4, name


# of figures, what they are called; their thousands of strokes hold nothing
CHECK = """
const done = arguments[0];
axe.run({exclude: [["svg g"]]}, {resultTypes: ["violations"]}).then(
  found => done(found.violations.map(each => [each.id, each.impact, each.nodes[0].html])))
"""


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_axe_finds_no_serious_fault(browser, page, kept, width):
    if not AXE.is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("not installed: axe-core, see .ci/run")
    for path in (page, kept["contrasts"]):
        opened_at(browser, path, width)
        # of the runs one is enough
        browser.execute_script("for (const e of document.querySelectorAll('details.folded')) e.open = true")
        browser.execute_script("document.querySelectorAll('#runs ~ details')[1].open = true")
        browser.execute_script(AXE.read_text())
        for scheme in ("light", "dark"):
            prefer(browser, scheme)
            faults = browser.execute_async_script(CHECK)
            assert [fault for fault in faults if fault[1] in ("serious", "critical")] == [], (path.parent.name, scheme)


@pytest.mark.parametrize("width", [360, 768])
def test_it_fits_a_phone(browser, page, width):
    opened_at(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_narrow_screen_shows_the_narrow_figure(browser, page):
    for width, css in ((NARROW, ".narrow svg"), (WIDE, ".plot:not(.narrow) svg")):
        opened_at(browser, page, width)
        (shown,) = [svg for svg in all_of(browser, "#map_vs_parameters svg") if svg.is_displayed()]
        assert shown == all_of(browser, f"#map_vs_parameters {css}")[0]
        assert shown.size["width"] <= width


def test_long_tables_are_folded_and_a_link_opens_one(browser, kept):
    opened_at(browser, kept["contrasts"], WIDE)
    folded = [table for table in all_of(browser, "table[data-name]") if not table.is_displayed()]
    assert {table.get_attribute("data-name") for table in folded} == {"differences", "published", "classes"}
    summary = all_of(browser, "details.folded summary")[0]
    assert re.search(r"\(\d+ lines\)", summary.text)
    all_of(browser, "nav a[href='#differences-table']")[0].click()
    assert all_of(browser, "[data-name=differences]")[0].is_displayed()


def test_what_is_alike_in_all_lines_is_said_once(browser, kept):
    opened_at(browser, kept["contrasts"], WIDE)
    heads = [head.text for head in all_of(browser, "[data-name=contrasts] thead th")]
    assert not [head for head in heads if head.startswith(("generalises to", "seeds paired"))]
    said = all_of(browser, ".alike")[1].text
    assert "generalises to: architectures (seeds resampled)" in said
    assert "seeds paired: 5 of 5" in said


def test_light_and_dark(browser, page):
    def colours(scheme):
        opened_at(browser, page, WIDE, scheme)
        script = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        return [brightness(colour) for colour in browser.execute_script(script)]

    ink, paper = colours("light")
    assert paper - ink > 150
    ink, paper = colours("dark")
    assert ink - paper > 150


def brightness(colour):
    return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


# --- by pointer, tap and keyboard


def test_a_click_sorts_and_another_turns_it_around(opened):
    button = all_of(opened, "[data-name=scores] thead th:nth-child(2) button")[0]
    assert button.text.startswith("mAP")
    button.click()
    down = [float(text.split(" ")[0]) for text in column(opened, "scores", 2)]
    button.click()
    up = [float(text.split(" ")[0]) for text in column(opened, "scores", 2)]
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert all_of(opened, "[data-name=scores] th[aria-sort=ascending]")


def test_the_keyboard_sorts_filters_and_opens(opened):
    from selenium.webdriver.common.keys import Keys

    field = all_of(opened, "#filter")[0]
    field.send_keys("vgg")
    shown = [row for row in all_of(opened, "[data-name=scores] tbody tr") if row.is_displayed()]
    assert len(shown) == 1
    assert "vgg_like" in shown[0].text
    assert "of" in all_of(opened, "#matches")[0].text
    assert all_of(opened, "[data-name=differences]")[0].is_displayed(), "a folded table with a match opens"
    field.send_keys(Keys.BACKSPACE * 3)
    assert len([row for row in all_of(opened, "[data-name=scores] tbody tr") if row.is_displayed()]) == 2
    assert not all_of(opened, "[data-name=differences]")[0].is_displayed()
    button = all_of(opened, "[data-name=cost] thead button")[0]
    button.send_keys(Keys.ENTER)
    names = column(opened, "cost", 1)
    assert names == sorted(names)
    summary = all_of(opened, "#runs ~ details summary")[0]
    summary.send_keys(Keys.SPACE)
    assert all_of(opened, "details[open] dl")[0].is_displayed()


@pytest.fixture(scope="module")
def plotted(analyses, tmp_path_factory):
    """A page with a figure of two points that say what they are."""
    folder = tmp_path_factory.mktemp("plotted")
    shutil.copy(ROOT / "results/demo/labels.npz", folder)
    analysis = analyses["contrasts"]
    analysis = replace(analysis, results=replace(analysis.results, folder=type(analysis.results.folder)(folder)))

    def points(*, width):
        figure, axes = new_figure(width)
        for x, text in ((0, "crnn <seed 0>\nmAP 0.265"), (1, "crnn, seed 1")):
            (point,) = axes.plot([x], [x], "o")
            hover(point, text)
        return figure

    path = folder / "index.html"
    path.write_text(written(analysis, draw({"points": (points, "Two points.")}, analysis.results.folder)))
    return path


def tapped(browser, element, x=0, y=0):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).move_to_element_with_offset(element, x, y).click().perform()
    tip = all_of(browser, "#tip")[0]
    return tip.text if tip.is_displayed() else None


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_point_tells_its_run_by_pointer_tap_and_keyboard(browser, plotted, width):
    from selenium.webdriver.common.keys import Keys

    assert "<title>crnn &lt;seed 0&gt;" in plotted.read_text(), "also without the script"
    opened_at(browser, plotted, width)
    (svg,) = [svg for svg in all_of(browser, "#points svg") if svg.is_displayed()]
    first, second = svg.find_elements("css selector", "[data-tip]")
    assert tapped(browser, first) == "crnn <seed 0>\nmAP 0.265"
    assert tapped(browser, second, x=-12) == "crnn, seed 1", "a finger is wider than a point"
    tip = all_of(browser, "#tip")[0].rect
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= width
    assert tapped(browser, all_of(browser, "h1")[0]) is None
    svg.send_keys(Keys.ARROW_RIGHT)
    assert all_of(browser, "#tip")[0].text.startswith("crnn <seed 0>")
    svg.send_keys(Keys.ARROW_RIGHT)
    assert all_of(browser, "#tip")[0].text == "crnn, seed 1"
    svg.send_keys(Keys.ESCAPE)
    assert not all_of(browser, "#tip")[0].is_displayed()


def test_a_header_says_what_it_means(browser, kept):
    from selenium.webdriver.common.keys import Keys

    opened_at(browser, kept["contrasts"], WIDE)
    headers = {button.text.split("\n")[0].strip(" \u2195\xa0"): button for button in all_of(browser, "thead button")}
    assert headers["mAP"].get_attribute("title").startswith("mAP is the macro mean over 59 classes")
    assert "rank" in headers["lwlrap"].get_attribute("title")
    all_of(browser, "[data-name=scores] thead button")[0].send_keys(Keys.TAB)
    assert all_of(browser, "#tip")[0].text == headers["mAP"].get_attribute("title"), "also to those without a pointer"
