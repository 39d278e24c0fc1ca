"""The page in a real browser: it opens from disk without a network, draws, and does what its controls say."""

import json
import re
import shutil

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from cppo.report.__main__ import main
from cppo.report.comparison import compare
from cppo.report.page import Film, write_page
from cppo.report.records import Record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of the system."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(stories, tmp_path_factory):
    """The page of a small story."""
    output = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cppo.report.__main__.write_figures", lambda *_: [])  # they stand beside the page
        main([*map(str, stories), str(output / "<nowhere>"), "--output", str(output)])
    return output / "index.html"


@pytest.fixture
def open_page(browser, report):
    """Open the page without a network in a window of a size and a colour scheme; complaints fail the test."""
    complaints, contexts = [], []

    def open_it(width: int = 1200, scheme: str = "light", **kwargs):
        context = browser.new_context(
            viewport={"width": width, "height": 850}, color_scheme=scheme, offline=True, **kwargs
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith("file:") else None)
        page.goto(report.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []


def curves(page, section: str = "#curve") -> int:
    return page.locator(f"{section} path.curve").count()


def test_the_page_holds_its_data_and_refers_to_nothing_outside(report):
    page = report.read_text()
    assert re.findall(r"""(?:src|href)\s*=\s*["'][^"']*["']|url\((?!#)[^)]*\)|@import""", page) == []
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(text)
    assert [(method["name"], len(method["runs"])) for method in data["methods"]] == [
        ("ppo", 2),
        ("ppo-l2", 2),
        ("cppo-l2", 2),
    ]
    assert "<nowhere>" in data["leftOut"][0]


def test_every_section_is_drawn(open_page):
    page = open_page()
    assert page.locator("h1").inner_text() == "SlipperyAnt-v0, nature"
    assert "6 runs of 3 methods" in page.locator("#subtitle").inner_text()
    assert curves(page) == 3
    assert page.locator("#curve line.phase").count() == 3  # between four phases
    assert page.locator("#phases circle.mean").count() == 3 * 4
    assert page.locator("#superiority td small:not(.few)").count() == 6
    assert page.locator("#insides h3").all_inner_texts() == ["actor.0", "actor.1", "critic.0", "critic.1"]
    assert curves(page, "#insides") == 4 * 3
    assert not page.locator("#films").is_visible()
    assert "Left out: " in page.locator("#notes li").first.inner_text()


def test_intervals_of_few_runs_carry_a_warning_wherever_they_stand(open_page):
    """Of two runs: two aggregates of three methods, their four phases, and which of them beats which."""
    page = open_page()
    for section, number in {"#aggregates": 2 * 3, "#phases": 3 * 4, "#superiority": 6}.items():
        assert page.locator(f"{section} small.few").all_text_contents() == ["n=2 ⚠ too few"] * number


def test_settings_versions_and_commands_stand_in_it(open_page):
    page = open_page()
    page.locator("#notes summary").click()
    words = page.locator("#notes table.settings").first.inner_text()
    assert re.search(r"setting of ppo \(n=2, too few\)\s+value", words)
    assert re.search(r"\ntorch\s+\d+\.", words) and re.search(r"\nseed\s+0, 1\n", words)
    assert page.locator("#notes table").last.locator("td.long").all_inner_texts() == ["train.py"] * 6


def test_axes_have_names(open_page):
    page = open_page()
    assert page.locator("#curve svg text.name").all_text_contents() == ["environment steps", "return"]
    assert page.locator("#phases svg text.name").all_text_contents() == ["phase", "return"]
    assert page.locator("#insides svg text.name").all_text_contents() == ["environment steps", "dead share"] * 4


def test_a_curve_joins_the_points_that_were_measured(open_page):
    # 40 rows, and every second one has measured the inside
    page = open_page()
    assert page.locator("#curve path.curve").first.get_attribute("d").count("L") == 39
    assert page.locator("#insides path.curve").first.get_attribute("d").count("L") == 19
    page.locator("#insides svg").first.scroll_into_view_if_needed()
    box = page.locator("#insides svg").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 80)
    assert "ppo-l2 0." in page.locator("#tip").inner_text()


def test_films_are_inside_the_page_and_play_together(stories, tmp_path, browser):
    imageio = pytest.importorskip("imageio_ffmpeg")
    from cppo.report.film import write_film

    assert imageio
    film = tmp_path / "film.mp4"
    write_film(film, (np.full((48, 64, 3), 5 * level, np.uint8) for level in range(30)), 10.0)
    comparison = compare([Record.read(path) for path in stories])
    write_page(tmp_path / "index.html", comparison, [Film("ppo", "ppo, seed 0", film), Film("cppo-l2", "x", film)])
    page = browser.new_page(bypass_csp=True)  # the page's policy forbids waiting for an expression
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_function("[...document.querySelectorAll('video')].every((video) => video.readyState >= 2)")
    page.get_by_role("button", name="Play all from the start").click()
    page.wait_for_function("[...document.querySelectorAll('video')].every((video) => video.currentTime > 0.1)")
    assert page.locator("figcaption").all_inner_texts() == ["ppo, seed 0", "x"]
    page.close()


def test_a_method_is_toggled_in_every_chart(open_page):
    page = open_page()
    page.get_by_role("button", name="ppo-l2", exact=True).click()
    assert (curves(page), curves(page, "#insides"), page.locator("#phases circle.mean").count()) == (2, 8, 8)
    page.get_by_role("button", name="ppo-l2", exact=True).click()
    assert curves(page) == 3


def test_hovering_tells_the_values_at_the_step(open_page):
    page = open_page()
    box = page.locator("#curve svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    tip = page.locator("#tip").inner_text()
    assert re.match(r"step \d+k, phase [12], friction [\d.]+", tip)
    assert all(re.search(rf"\n?{name} [\d,]+ \[[\d,]+, [\d,]+\]", tip) for name in ("ppo", "ppo-l2", "cppo-l2"))
    page.mouse.move(5, 5)
    assert not page.locator("#tip").is_visible()


def test_dragging_zooms_all_curves_and_the_button_takes_it_back(open_page):
    page = open_page()
    box = page.locator("#curve svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + 120, steps=3)
    page.mouse.up()
    assert page.locator("#curve line.phase").count() == page.locator("#insides line.phase").count() == 0
    page.get_by_role("button", name="Reset zoom").click()
    assert page.locator("#curve line.phase").count() == 3
    assert not page.get_by_role("button", name="Reset zoom").is_visible()


def test_single_runs_and_other_measures_are_shown_when_asked_for(open_page):
    page = open_page()
    page.get_by_label("Show single runs").check()
    assert page.locator("#curve path[opacity='0.45']").count() == 6
    page.locator("#insides select").select_option("cbp/age_median")
    assert (page.locator("#insides h3").all_inner_texts(), curves(page, "#insides")) == (["policy_net.0"], 1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_systems_colours_until_the_button_says_otherwise(open_page, scheme):
    page = open_page(scheme=scheme)
    brightness = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert (page.evaluate(brightness) > 128) is (scheme == "light")
    page.locator("#theme").click()
    assert (page.evaluate(brightness) > 128) is (scheme == "dark")


def test_a_phone_shows_everything_without_scrolling_sideways(open_page):
    page = open_page(width=360, has_touch=True)
    box = page.locator("#curve svg").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 100)
    tip = page.locator("#tip").bounding_box()
    assert tip["x"] >= 0 and tip["x"] + tip["width"] <= 360
    page.locator("#notes summary").click()
    for width in (360, 320):
        page.set_viewport_size({"width": width, "height": 850})
        assert page.evaluate("document.documentElement.scrollWidth") == width
