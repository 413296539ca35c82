"""The page of a review in a real browser, with the keyboard only and scripts off. Slow, and needs Chromium."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import Browser
from make_run import add_rollouts, make_run

from regard.cli.review import store
from regard.review import review
from regard.runlog.reader import read_run

pytestmark = pytest.mark.slow

ATTACK = (
    "</p></div></article><script>document.title = 'pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    "<style>body{display:none}</style><iframe src=javascript:alert(1)></iframe> \"double\" 'single' &lt; &amp;"
    "\x00\x07\x1b[31m \u202eright to left\u2067 " + "W" * 900
)
WIDTHS = pytest.mark.parametrize("width", [1280, 400])
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])

DETAILS = "[...document.querySelectorAll('summary')]"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A failed run whose rollouts, recipe name and metric names attack the page."""
    path = make_run(tmp_path_factory.mktemp("browser") / "run", collapse=True, nan_steps=(17,))
    add_rollouts(path, 1, ["It was fine.", ATTACK], [0.2, 0.1])
    add_rollouts(path, 40, ["great " * 60, ATTACK], [2.0, 3.0])
    with (path / "stages/ppo/metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "metrics": {"<script>document.title=1</script>' + "k" * 300 + '": 1.0}}\n')
    page = store(review(read_run(path)))
    assert page is not None
    return page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@WIDTHS
@SCHEMES
@pytest.mark.parametrize("scripts", [False, True], ids=["scripts off", "scripts on"])
def test_page_opens_from_disk_loads_nothing_and_fits(
    browser: Browser, page_file: Path, width: int, dark: bool, scripts: bool
) -> None:
    page = browser.open(page_file.as_uri(), width=width, dark=dark, scripts=scripts)
    requested = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    assert [unquote(url) for url in requested] == [unquote(page_file.as_uri())]
    assert page.events("Log.entryAdded") == []  # the security policy blocks nothing that the page wants
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing scrolls sideways
    outside = """[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('svg, .scroll') &&
        e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)"""
    assert page.evaluate(outside) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")


@WIDTHS
def test_hostile_text_is_shown_and_does_nothing(browser: Browser, page_file: Path, width: int) -> None:
    page = browser.open(
        page_file.as_uri(), width=width, scripts=True
    )  # with scripts allowed, or it would prove nothing
    assert page.evaluate("document.title") == "Failed: fixture – review"
    assert page.evaluate("document.querySelectorAll('script, img, iframe, main style').length") == 0
    answers = "[...document.querySelectorAll('.answer p')].map(p => p.innerText)"
    shown = [text for text in page.evaluate(answers) if "pwned" in text]
    assert len(shown) == 2  # at the start and at the end
    for text in shown:
        assert "<script>document.title = 'pwned'</script><img src=x onerror=" in text
        assert "\"double\" 'single' &lt; &amp;" in text
        assert "⟦U+0000⟧⟦U+0007⟧⟦U+001B⟧[31m ⟦U+202E⟧right to left⟦U+2067⟧ WWW" in text
    # The article that holds the attack ends where it should: the sections after it are still there and in order.
    order = page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)")
    assert order == ["causes", "findings", "rollouts", "curves", "stages", "clear", "not-checked", "notes", "json"]


@WIDTHS
@SCHEMES
def test_tab_reaches_every_link_and_detail_in_order_and_shows_where_it_is(
    browser: Browser, page_file: Path, width: int, dark: bool
) -> None:
    page = browser.open(page_file.as_uri(), width=width, dark=dark)
    focusable = "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility())"
    count = page.evaluate(f"({focusable}).length")
    assert count > 30
    reached: list[int] = []
    for _ in range(count + 2):
        page.press("Tab")
        at = page.evaluate(f"({focusable}).indexOf(document.activeElement)")
        if at < 0 or at in reached:
            break
        reached.append(at)
        visible = """(e => {
            const r = e.getBoundingClientRect(), s = getComputedStyle(e);
            return r.left >= 0 && r.right <= innerWidth + 1 && r.bottom > 0 && r.top < innerHeight
                && parseFloat(s.outlineWidth) >= 2 && s.outlineStyle != 'none' })(document.activeElement)"""
        assert page.evaluate(visible), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    assert reached == list(range(count))


def test_details_open_and_the_skip_link_skips_by_keyboard(browser: Browser, page_file: Path) -> None:
    page = browser.open(page_file.as_uri(), width=400)
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    page.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    closed = page.evaluate(f"{DETAILS}.filter(s => s.checkVisibility() && !s.parentElement.open).length")
    assert closed > 5
    for _ in range(400):  # open each closed one as it is reached; what opens may hold further ones
        if page.evaluate("document.activeElement.tagName === 'SUMMARY' && !document.activeElement.parentElement.open"):
            page.press("Enter")
            assert page.evaluate("document.activeElement.parentElement.open")
        page.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    assert page.evaluate(f"{DETAILS}.filter(s => !s.parentElement.open).length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 400  # all tables open, still nothing sideways
    text = page.evaluate("document.body.innerText")
    assert '"verdict": "failed"' in text and "What to do." in text


@SCHEMES
def test_words_have_contrast_enough_for_weak_eyes(browser: Browser, page_file: Path, dark: bool) -> None:
    """WCAG 2.2, success criterion 1.4.3: at least 4.5 to 1 between text and what is behind it."""
    page = browser.open(page_file.as_uri(), width=1280, dark=dark)
    page.evaluate(f"{DETAILS}.forEach(s => s.parentElement.open = true)")
    low = page.evaluate(
        """(() => {
        const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
        const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
            return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 }); return .2126*r + .7152*g + .0722*b };
        const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
            if (c.length && (c.length < 4 || c[3] > 0)) return c } return [255, 255, 255] };
        const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) { const e = walk.currentNode.parentElement, words = walk.currentNode.data.trim();
            if (!words || !e.checkVisibility()) continue;
            const s = getComputedStyle(e), ink = parse(e.closest('svg') ? s.fill : s.color);
            const a = light(ink), b = light(behind(e));
            const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < 4.5) found.push([words.slice(0, 40), e.className, ratio.toFixed(2)]) }
        return found })()"""
    )
    assert low == []
