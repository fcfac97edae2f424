"""The report's page in a real browser: Debian's chromium, without a network."""

import shutil
import time

import pytest

from bench.reporting.report import Sampling, write_report
from tests.conftest import needs

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # selenium's, of its pipes


@pytest.fixture(scope="module")
def page(small_results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "out"
    shutil.copytree(small_results, folder)
    write_report(folder, Sampling(resamples=200))
    alone = tmp_path_factory.mktemp("alone") / "index.html"  # nothing beside it
    shutil.copy(folder / "index.html", alone)
    return alone


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
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page):
    browser.set_window_size(1200, 900)
    browser.get(page.as_uri())
    return browser


def all_of(browser, css):
    return browser.find_elements("css selector", css)


def column(browser, table, number):
    return [cell.text for cell in all_of(browser, f"[data-name={table}] tbody tr td:nth-child({number})")]


def test_it_needs_nothing_but_itself(opened):
    asked = [
        entry["message"] for entry in opened.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    outside = [message for message in asked if '"url":"http' in message]
    assert not outside
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_figures_are_shown(opened):
    images = all_of(opened, "figure img")
    assert len(images) >= 6
    for image in images:
        assert int(opened.execute_script("return arguments[0].naturalWidth", image)) > 300
        assert image.get_attribute("alt")


def test_a_click_sorts_and_another_turns_it_around(opened):
    button = all_of(opened, "[data-name=scores] thead th:nth-child(4) button")[0]
    assert button.text.startswith("mAP")
    button.click()
    down = [float(text.split(" ")[0]) for text in column(opened, "scores", 4)]
    button.click()
    up = [float(text.split(" ")[0]) for text in column(opened, "scores", 4)]
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
    field.send_keys(Keys.BACKSPACE * 3)
    assert len([row for row in all_of(opened, "[data-name=scores] tbody tr") if row.is_displayed()]) == 2
    button = all_of(opened, "[data-name=cost] thead button")[0]
    button.send_keys(Keys.ENTER)
    names = column(opened, "cost", 1)
    assert names == sorted(names)
    summary = all_of(opened, "#runs ~ details summary")[0]
    summary.send_keys(Keys.SPACE)
    assert all_of(opened, "details[open] dl")[0].is_displayed()


def test_every_run_shows_its_settings_origin_and_history(opened):
    assert len(all_of(opened, "#runs ~ details")) == 4
    for details in all_of(opened, "#runs ~ details"):
        text = details.get_attribute("textContent")
        for word in ("learning_rate", "commit", "torch", "fingerprint", "val_score", "front_end_dim|stage_widths"):
            assert any(part in text for part in word.split("|")), word


@pytest.mark.parametrize("width", [360, 768])
def test_it_fits_a_phone(browser, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_light_and_dark(opened):
    def colours(scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        time.sleep(0.1)
        script = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        return [brightness(colour) for colour in opened.execute_script(script)]

    ink, paper = colours("light")
    assert paper - ink > 150
    ink, paper = colours("dark")
    assert ink - paper > 150


def brightness(colour):
    return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


def test_markup_in_a_name_stays_text(small_results, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})  # figures take seconds
    folder = tmp_path / "out"
    shutil.copytree(small_results, folder)
    (folder / "suite.json").write_text('{"title": "<script>alert(1)</script>", "planned": []}')
    write_report(folder, Sampling(resamples=100))
    assert "<script>alert" not in (folder / "index.html").read_text()
