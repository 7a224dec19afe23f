"""The pages in a browser, from disk and from the server: clicks, keys and what then shows."""

import dataclasses
import shutil
import time

import pytest

from simloop.harness.viewing import shelf
from simloop.results.figures import style
from simloop.results.records.explanations import explanation_path
from simloop.results.report.html_report import write_report
from simloop.results.report.site import PAGE_ASSETS
from tests.helpers.explanations import STORED
from tests.helpers.run_folders import EPISODE, episodes, write_run
from tests.helpers.viewed_run import HOSTILE, images

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open pages with")]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright to drive a browser with")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(params=[1200, 375])
def page(browser, request):
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.set_default_timeout(60_000)
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            errors.append(f"{message.text} {message.location}") if message.type == "error" else None
        ),
    )
    yield opened
    assert errors == []
    opened.close()


def too_wide(page):
    """Elements that reach beyond the screen, other than those that scroll."""
    script = """[...document.querySelectorAll("body *")].filter((one) => !one.closest(".scroll, .lane")
      && one.getBoundingClientRect().right > innerWidth + 1).map((one) => `${one.tagName}.${one.className}`)"""
    return page.evaluate(script)


def until(page, expression):
    """Wait until an expression of JavaScript holds; the page itself may evaluate no text."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.1)


def test_a_report_opens_from_disk_and_leads_from_the_matrix_to_steps(run, tmp_path, page, monkeypatch):
    monkeypatch.setattr(style, "FORMATS", ("svg",))
    file = write_report([run], tmp_path / "report", read_images=images)
    page.goto(file.as_uri(), wait_until="commit")
    page.wait_for_selector("#losses video")
    assert page.locator("#matrix a.cell").count() == 13
    assert page.locator("#matrix a.cell.failure").count() == 4
    assert page.title() == "run – simloop", "hostile names are texts"
    page.check("#disagree")
    assert page.locator("#count").text_content() == "8 of 13 episodes"
    page.uncheck("#disagree")
    assert too_wide(page) == []

    page.locator("#matrix a.cell.failure").first.click()
    page.wait_for_selector(".timeline")
    assert "step limit" in page.locator(".side").text_content()
    until(page, "document.querySelector('.inputs canvas').width === 16")
    page.keyboard.press("ArrowRight")
    assert "step 1 of 12" in page.locator("output").text_content()
    page.keyboard.press("Shift+ArrowRight")
    assert "query 1" in page.locator("output").text_content()
    assert too_wide(page) == []
    first = page.evaluate("location.hash")
    page.keyboard.press("n")
    until(page, f"location.hash !== {first!r}")
    page.keyboard.press("Escape")
    page.wait_for_selector("#matrix")


def test_an_episode_plays_in_step_with_its_video(served, run, page):
    page.goto(served, wait_until="commit")
    page.click("#runs a")
    page.wait_for_selector("#matrix a.cell.failure")
    page.locator("#matrix a.cell.failure").first.click()
    until(page, "document.querySelector('video')?.duration > 0")
    page.locator("input[type=range]").evaluate(
        "(slider) => { slider.value = 6; slider.dispatchEvent(new Event('input')); }"
    )
    until(
        page,
        "Math.abs(document.querySelector('video').currentTime - document.querySelector('video').duration / 2) < 0.1",
    )
    page.locator("body").press(" ")
    until(page, "document.querySelector('output').textContent.includes('step 12')")


DRAWN = """(canvas, [u, v]) => {
  const {width, height} = canvas;
  const near = canvas.getContext("2d").getImageData(u * width - 2, v * height - 2, 5, 5).data;
  return [...near].some((value, i) => i % 4 < 3 && Math.abs(value - near[i - (i % 4) + 1]) > 40);
}"""
"""Whether a canvas has colours other than greys near a point."""


def test_trajectories_are_drawn_where_the_gripper_is_projected(served, page):
    page.goto(served, wait_until="commit")
    page.click("#runs a")
    page.locator("#matrix a.cell.failure").first.click()
    until(page, "document.querySelector('.inputs canvas')?.width === 16")
    until(page, "document.querySelector('video')?.duration > 0")
    film, shown = page.locator(".film canvas"), page.locator(".inputs canvas")
    assert not film.evaluate(DRAWN, [0.15, 0.5])
    page.check("text=trajectories of the gripper")
    until(page, "document.querySelector('.overlays').textContent.includes('predicted')")
    assert film.evaluate(DRAWN, [0.15, 0.5])
    assert shown.evaluate(DRAWN, [0.15, 0.5])
    assert not film.evaluate(DRAWN, [0.9, 0.5])
    page.keyboard.press("End")
    assert film.evaluate(DRAWN, [0.95, 0.5])
    page.uncheck("text=trajectories of the gripper")
    assert not film.evaluate(DRAWN, [0.95, 0.5])


def test_attention_is_drawn_onto_the_images_and_switched_off_and_spread_around_the_chunk(served, run, page):
    record = dataclasses.replace(EPISODE, policy="b", task="push-v3", episode=1)
    file = run / explanation_path(record.key, STORED.query)
    file.parent.mkdir(parents=True)
    file.write_text(STORED.to_json())
    page.goto(served, wait_until="commit")
    page.click("#runs a")
    page.wait_for_selector("#matrix a.cell")
    page.evaluate("location.hash = '#episode=b/push-v3/1'")
    until(page, "document.querySelector('.inputs canvas')?.width === 16")
    assert "query 0 is not explained; explained: 1" in page.locator(".attention").text_content()
    page.keyboard.press("Shift+ArrowRight")
    assert "top 75.0 %" in page.locator(".attention").text_content()
    told = page.locator(".distances").text_content()
    assert "top 100.0 % of training, 1.5 times its largest distance" in told
    corner = (
        "document.querySelector('.inputs canvas').getContext('2d').getImageData({0}, {0}, 1, 1).data.join()"
    )
    first, last = (page.evaluate(corner.format(at)) for at in (1, 14))
    assert first != last, "patches differ in their weight"
    assert page.locator("path.band").first.get_attribute("d").endswith("Z")
    page.uncheck(".attention input")
    assert page.evaluate(corner.format(1)) == page.evaluate(corner.format(14))
    page.check(".attention input")
    assert page.evaluate(corner.format(1)) == first
    assert too_wide(page) == []


def test_two_episodes_open_at_their_first_difference(served, page):
    page.goto(served, wait_until="commit")
    page.click("#runs a")
    page.wait_for_selector("#matrix a.cell.failure")
    page.locator("#matrix a.cell.failure").first.click()
    page.click("text=side by side")
    page.wait_for_selector(".side >> nth=1")
    assert "up to step 4" in page.locator(".statement").first.text_content()
    assert "step 4 of 12" in page.locator("output").text_content()


def test_an_error_shows_its_message_as_text(served, page):
    page.goto(served, wait_until="commit")
    page.click("#runs a")
    page.wait_for_selector("#matrix a.cell.error")
    page.locator("#matrix a.cell.error").click()
    page.wait_for_selector(".notice")
    assert HOSTILE in page.locator("pre").first.text_content()
    assert "broken" not in page.title().split(" – ")[-1]


def test_runs_appear_in_the_list_by_themselves(served, run, page):
    page.goto(served, wait_until="commit")
    page.click("#runs a")
    page.wait_for_selector("#matrix a.cell")
    write_run(run.parent / "later", [EPISODE])
    page.goto(served, wait_until="commit")
    until(page, "document.querySelectorAll('#runs tbody tr').length === 2")
    write_run(run.parent / "third", [EPISODE])
    until(page, "document.querySelectorAll('#runs tbody tr').length === 3")


def test_2000_episodes_of_five_policies_are_drawn_within_two_seconds_of_processor_time(tmp_path, browser):
    counts = ((1960, 40), (1200, 800), (1300, 700), (1000, 1000), (50, 1950))
    records = [record for i, count in enumerate(counts) for record in episodes(*count, policy=f"p{i}")]
    runs = shelf.Shelf([write_run(tmp_path / "run", records)])
    (folder,) = runs.runs().values()
    before = time.thread_time()
    runs.warm(folder)
    print(f"server: {time.thread_time() - before:.2f} s")
    for path in ("index.html", "data/overview.js", *PAGE_ASSETS):
        content, file = runs.site(folder).content(path), tmp_path / "site" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    page = browser.new_page(viewport={"width": 1300, "height": 950})
    page.set_default_timeout(120_000)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto((tmp_path / "site" / "index.html").as_uri(), wait_until="commit")
    page.wait_for_selector("a.cell")
    spent = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    assert page.locator("a.cell").count() == 10_000
    print(f"main thread: {spent['TaskDuration']:.2f} s")
    assert spent["TaskDuration"] < 2
    page.close()
