"""The pages in Firefox, from disk and from the server: clicks, keys and what then shows."""

import dataclasses
import shutil

import pytest

from simloop.results.figures import style
from simloop.results.records.explanations import explanation_path
from simloop.results.report.html_report import write_report
from tests.helpers.explanations import STORED
from tests.helpers.firefox import firefox
from tests.helpers.run_folders import EPISODE
from tests.helpers.viewed_run import images

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
FAILED = "#matrix a.cell.failure"
STEP = "document.querySelector('output').textContent"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox; install firefox-esr to open the pages with it"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with firefox(FIREFOX, tmp_path_factory.mktemp("firefox") / "profile") as page:
        yield page


@pytest.fixture(params=[1200, 375])
def page(browser, request):
    browser.resize(request.param, 900)
    browser.problems.clear()
    yield browser
    assert browser.problems == []


def is_within_the_screen(page):
    return page.evaluate(
        """[...document.querySelectorAll("body *")].filter((one) => !one.closest(".scroll, .lane")
        && one.getBoundingClientRect().right > innerWidth + 1).length === 0"""
    )


def colours(page, at):
    canvas = "document.querySelector('.inputs canvas')"
    return page.evaluate(f"[...{canvas}.getContext('2d').getImageData({at}, {at}, 1, 1).data]")


def test_a_report_on_disk_leads_from_the_matrix_to_the_steps_of_an_episode(run, tmp_path, page, monkeypatch):
    monkeypatch.setattr(style, "FORMATS", ("svg",))
    page.open(write_report([run], tmp_path / "report", read_images=images).as_uri())
    page.until("document.querySelectorAll('#matrix a.cell').length === 13")
    assert page.evaluate("document.title") == "run – simloop", "hostile names are texts"
    assert is_within_the_screen(page)
    page.click(FAILED)
    page.until("document.querySelector('.inputs canvas')?.width === 16")
    assert "step limit" in page.evaluate("document.querySelector('.side').textContent")
    page.press("ArrowRight")
    page.until(f"{STEP}.includes('step 1 of 12')")
    page.press("Shift", "ArrowRight")
    page.until(f"{STEP}.includes('query 1')")
    page.press("ArrowLeft")
    page.until(f"{STEP}.includes('query 0')")
    assert is_within_the_screen(page)
    episode = page.evaluate("location.hash")
    page.press("n")
    page.until(f"location.hash !== {episode!r}")
    page.press("Escape")
    page.until("document.querySelector('#matrix') !== null")


def test_a_served_episode_plays_in_step_with_its_video(served, page):
    page.open(served)
    page.click("#runs a")
    page.click(FAILED)
    page.until("document.querySelector('video')?.duration > 0")
    page.press(" ")
    page.until(f"{STEP}.includes('step 12')")
    page.until("document.querySelector('video').currentTime > 0.9 * document.querySelector('video').duration")


def test_attention_is_drawn_onto_the_images_and_switched_off(served, run, page):
    record = dataclasses.replace(EPISODE, policy="b", task="push-v3", episode=1)
    file = run / explanation_path(record.key, STORED.query)
    file.parent.mkdir(parents=True)
    file.write_text(STORED.to_json())
    page.open(served)
    page.click("#runs a")
    page.until("document.querySelector('#matrix a.cell') !== null")
    page.evaluate("location.hash = '#episode=b/push-v3/1'")
    page.until("document.querySelector('.inputs canvas')?.width === 16")
    page.press("Shift", "ArrowRight")
    page.until("document.querySelector('.attention').textContent.includes('top 75.0 %')")
    assert "top 100.0 % of training" in page.evaluate("document.querySelector('.distances').textContent")
    first = colours(page, 1)
    assert first != colours(page, 14), "patches differ in their weight"
    page.click(".attention input")
    assert colours(page, 1) == colours(page, 14)
    page.click(".attention input")
    assert colours(page, 1) == first
    assert is_within_the_screen(page)


def test_trajectories_are_drawn_onto_the_film_when_they_are_switched_on(served, page):
    page.open(served)
    page.click("#runs a")
    page.click(FAILED)
    page.until("document.querySelector('video')?.duration > 0")
    drawn = """(() => { const canvas = document.querySelector('.film canvas'), {width, height} = canvas;
      const near = canvas.getContext('2d').getImageData(0.15 * width - 2, height / 2 - 2, 5, 5).data;
      return [...near].some((value, i) => i % 4 < 3 && Math.abs(value - near[i - (i % 4) + 1]) > 40); })()"""
    assert not page.evaluate(drawn)
    page.click(".overlays input")
    page.until("document.querySelector('.overlays').textContent.includes('predicted')")
    page.until(drawn)
