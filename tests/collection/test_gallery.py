"""The gallery as a reader meets it: in a real browser, from file://. The explorer's JavaScript against wnlib.laws."""

import html.parser
import json
import re
import shutil
import urllib.parse
from pathlib import Path

import nbformat
import numpy as np
import pytest
import scipy.stats

from wnlib import claims, laws, problems
from wnlib.collection import gallery, jobs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FIGURES = jobs.PROFILES["paper"][0]
STEMS = [s for s in jobs.stems() if all((FIGURES / name.format(s)).is_file() for name in jobs.OUTPUTS)]
PAGES = ["index.html", "laws.html", "explorer.html", *(f"{stem}.html" for stem in STEMS)]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery") / "site"
    assert gallery.build(FIGURES, folder) == PAGES
    return folder


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no Chromium on PATH: apt-get install chromium, or the like, and these tests run")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    with browser.new_context(viewport={"width": 1200, "height": 1000}) as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def reduction(browser, site):
    """A page on which the functions of explorer.js can be called."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((site / "explorer.html").as_uri())
        yield page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_the_browser(page, site, name):
    """No error, no request outside the folder, every image there, no sideways scrolling on a phone; all formulas."""
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((site / name).as_uri())
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 850})
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    if name.removesuffix(".html") in STEMS:
        mathematics(page, name.removesuffix(".html"))
    assert faults == []
    root = site.as_uri() + "/"
    assert {url for url in requests if not url.startswith((root, "data:"))} == set()


def mathematics(page, stem):
    """As many formulas as the notebook has, each of some size; no dollar or backslash left over."""
    cells = nbformat.read(FIGURES / "executed" / f"{stem}.ipynb", as_version=4).cells
    dollars = sum(cell.source.replace("$$", "$").count("$") for cell in cells if cell.cell_type == "markdown")
    boxes = page.evaluate(
        "[...document.querySelectorAll('math')].map(m => [m.getBoundingClientRect(), m.namespaceURI])"
        ".map(([box, space]) => [box.width, box.height, space])"
    )
    assert len(boxes) == dollars / 2 > 0
    assert {space for _, _, space in boxes} == {"http://www.w3.org/1998/Math/MathML"}
    assert min(min(width, height) for width, height, _ in boxes) > 3
    prose = page.evaluate("[...document.querySelectorAll('main p, main li, figcaption')].map(e => e.innerText).join()")
    assert "$" not in prose and "\\" not in prose


@pytest.mark.parametrize("name", [*PAGES[:3], PAGES[-1]])  # one of each kind
def test_accessibility(browser, site, name):
    """No serious fault by axe-core; in the dark, colours only: nothing else differs."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    faults = []
    for scheme, width, options in [("light", 1200, {}), ("dark", 390, {"runOnly": ["color-contrast"]})]:
        with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 850}) as context:
            page = context.new_page()
            page.goto((site / name).as_uri())
            # axe knows nothing of MathML and takes long to find out.
            found = axe.run(
                page, {"exclude": [["math"]]}, options | {"preload": False, "resultTypes": ["violations"]}
            ).response["violations"]
        grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
        faults += [(fault["id"], scheme, node["html"]) for fault in grave for node in fault["nodes"]]
    assert faults == []


class Links(html.parser.HTMLParser):
    """The targets of a page's links, the ids in it, and its images."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.ids, self.images = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.targets += [attributes[name] for name in ("href", "src") if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes] if tag == "img" else []


def test_every_link_leads_somewhere(site):
    pages = {path.name: Links(path.read_text(encoding="utf-8")) for path in site.glob("*.html")}
    assert sorted(pages) == sorted(PAGES)
    for name, page in pages.items():
        assert len(set(page.ids)) == len(page.ids), name
        for target in page.targets:
            if not target.startswith("data:"):
                path, _, fragment = urllib.parse.unquote(target).partition("#")
                assert (site / path).is_file() if path else fragment, f"{name}: {target}"
                assert not fragment or fragment in pages[path or name].ids, f"{name}: {target}"
        assert all("alt" in image for image in page.images), name


def test_a_page_shows_what_the_record_says(site):
    for stem in STEMS:
        record = json.loads((FIGURES / f"{stem}.json").read_text(encoding="utf-8"))
        text = (site / f"{stem}.html").read_text(encoding="utf-8")
        [image] = Links(text).images
        assert len(image["alt"]) > 30
        for value in ("make figures/" + stem, record["environment"]["numpy"], f"{record['cost']['seconds']:g} s"):
            assert value in text
        for claim in record["claims"]:
            row = text.split(f"<code>{claim['id']}</code>")[1].split("</tr>")[0]
            assert claim["verdict"] in row and f"{claim['measured']['value'][0]:.4g}" in row
        for name, value in record["parameters"].items():
            assert f"<code>{name}</code></th><td><code>{value}</code>" in text
    index = (site / "index.html").read_text(encoding="utf-8")
    assert [index.find(f'href="{stem}.html"') > 0 for stem in STEMS] == [True] * len(STEMS)


# --- the explorer ------------------------------------------------------------------------------------------------

CASES = [(2, 1, 1.0, 0.7), (40, 8, 10.0, 1.0), (60, 12, 50.0, 1.9), (10**6, 40, 5.0, 0.3)]


@pytest.mark.parametrize(("m", "r", "kappa", "eta"), CASES)
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_reduction_is_that_of_wnlib(reduction, m, r, kappa, eta, rank):
    r, m = max(r, rank), max(m, 2 * rank, r + rank)
    sigma = problems.spectrum(rank, kappa if rank > 1 else 1.0, "geometric")
    [P], [Q] = laws.random_alignment(m, r, rank, 1, np.random.default_rng(m + rank))
    got = reduction.evaluate(
        """([P, Q, sigma, eta, m, r, kappa]) => ({
             sigma: spectrum(P.length, kappa), next: step(P, Q, sigma, eta), error: squaredError(Q, sigma),
             escapes: escapeTimes(P, sigma, eta), burnIn: expectedBurnIn(m, r, P.length, sigma[P.length - 1], eta),
             tail: r > P.length ? gdTail(100, m, r, P.length, eta) : null})""",
        [P.tolist(), Q.tolist(), sigma.tolist(), eta, m, r, kappa],
    )
    np.testing.assert_allclose(got["sigma"], sigma, rtol=1e-14)
    for mine, theirs in zip(got["next"], laws.reduced_step(P, Q, sigma, eta), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-13 * np.max(np.abs(theirs)))
    np.testing.assert_allclose(got["error"], laws.reduced_error(Q, sigma), rtol=1e-12)
    np.testing.assert_allclose(got["escapes"], laws.escape_times(P, sigma, eta), rtol=1e-10)
    assert got["burnIn"] == pytest.approx(laws.expected_burn_in(m, r, rank, sigma[-1], eta), rel=1e-12)
    if r > rank:
        assert got["tail"] == pytest.approx(float(laws.gd_tail(100, m, r, rank, eta)), rel=1e-12)


def test_a_whole_trajectory_is_that_of_wnlib(reduction):
    """Through the plateaus and down to 1e-200, where 1 − P would long be rounding."""
    sigma, eta, steps = problems.spectrum(3, 4.0, "geometric"), 0.8, 5000
    [P], [Q] = laws.random_alignment(50, 8, 3, 1, np.random.default_rng(5))
    got = reduction.evaluate(
        """([P, Q, sigma, eta, steps]) => {
             const errors = [squaredError(Q, sigma)];
             for (let t = 0; t < steps; t++) { [P, Q] = step(P, Q, sigma, eta); errors.push(squaredError(Q, sigma)); }
             return errors; }""",
        [P.tolist(), Q.tolist(), sigma.tolist(), eta, steps],
    )
    wanted = [laws.reduced_error(Q, sigma)]
    for _ in range(steps):
        P, Q = laws.reduced_step(P, Q, sigma, eta)
        wanted.append(laws.reduced_error(Q, sigma))
    assert wanted[-1] < 1e-200
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_starts_have_the_law_of_uniform_ones_and_a_seed_means_one_start(reduction):
    """Each P_ℓℓ is Beta(r/2, (m − r)/2), and so is the last Schur complement, with r − r_A + 1 for r."""
    m, r, rank, draws = 30, 5, 3, 1000
    draw = """([m, r, rank, draws]) => { const random = generator(7);
              return Array.from({ length: draws }, () => randomAlignment(m, r, rank, random)); }"""
    got = np.array(reduction.evaluate(draw, [m, r, rank, draws]))
    P, Q = got[:, 0], got[:, 1]
    np.testing.assert_allclose(P + Q, np.broadcast_to(np.eye(rank), P.shape), atol=1e-12)
    laws = [(P[:, k, k], r / 2) for k in range(rank)]
    laws.append((np.linalg.cholesky(P)[:, -1, -1] ** 2, (r - rank + 1) / 2))
    for values, a in laws:
        assert scipy.stats.kstest(values, scipy.stats.beta(a, (m - r) / 2).cdf).pvalue > 0.01
    np.testing.assert_array_equal(got, reduction.evaluate(draw, [m, r, rank, draws]))


def test_the_explorer_follows_its_sliders(page, site):
    """Keys move a slider; more columns bring the predictions down; the run ends where the prediction says."""
    page.goto((site / "explorer.html").as_uri())

    def reading():
        page.wait_for_function("document.getElementById('plot').dataset.done === 'true'")
        escapes = page.locator("#escapes").inner_text().replace(",", " ").split()
        return float(page.locator("#mean").inner_text().replace(",", "")), escapes

    mean, escapes = reading()
    assert len(escapes) == 3 or len("".join(escapes)) > 3
    page.get_by_label("columns of X").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    more, _ = reading()
    r = int(page.locator("#r-value").inner_text())
    assert more < mean and r > 20
    assert more == pytest.approx(laws.expected_burn_in(200, r, 3, 0.1, 1.0), rel=5e-3)
    assert "was found at step" in page.get_by_role("status").inner_text()
    assert page.locator("#plot path.wn").count() == 1 and page.locator("#plot path.level").count() == 3
    before = page.locator("#escapes").inner_text()
    page.get_by_role("button", name="New draw").click()
    reading()
    assert page.locator("#escapes").inner_text() != before and page.locator("#seed").inner_text() == "2"
    page.get_by_label("rank of the truth").fill("1")  # a lone direction has no condition number
    reading()
    assert page.locator("#kappa-value").inner_text() == "1"


# --- what is refused ---------------------------------------------------------------------------------------------


def spoiled(folder, source):
    """A folder of results of one notebook, whose title cell says `source` as well."""
    stem = STEMS[0]
    (folder / "executed").mkdir(parents=True)
    for name in jobs.OUTPUTS:
        shutil.copy(FIGURES / name.format(stem), folder / name.format(stem))
    path = folder / "executed" / f"{stem}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] += source
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@pytest.mark.parametrize("formula", [r"$\unheardof{x}$", r"$$\left( x$$", r"$x^$"])
def test_a_formula_that_cannot_be_shown_ends_the_build(tmp_path, formula):
    output = tmp_path / "site"
    with pytest.raises(jobs.Problem, match=rf"{STEMS[0]}, cell \S+: formula \$.*\$: ") as problem:
        gallery.build(spoiled(tmp_path / "figures", f"\n\nThis is {formula}."), output)
    assert problem.value.status == 1 and not output.exists()


def test_a_folder_of_something_else_is_not_replaced(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert gallery.main(["--output", str(tmp_path)]) == 2
    assert "holds something else than a gallery" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_without_results_there_is_no_gallery(tmp_path):
    with pytest.raises(jobs.Problem, match="has no results of any notebook"):
        gallery.build(tmp_path, tmp_path / "site")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("max_i |1 − ησ_i²|", "max<sub>i</sub> |1 − ησ<sub>i</sub>²|"),
        ("σ_{r_A} of X_0X_0ᵀ", "σ<sub>r<sub>A</sub></sub> of X<sub>0</sub>X<sub>0</sub>ᵀ"),
        ("‖A_ℓ − A_(ℓ−1)‖_F", "‖A<sub>ℓ</sub> − A<sub>ℓ−1</sub>‖<sub>F</sub>"),
        (
            "(I + B)^{-1/2} < `noise_std` and noise_std",
            "(I + B)<sup>-1/2</sup> &lt; <code>noise_std</code> and noise_std",
        ),
        ("U_⊥ᵀ, [P]_ℓℓ, 1e-06", "U<sub>⊥</sub>ᵀ, [P]<sub>ℓℓ</sub>, 1e-06"),
    ],
)
def test_plain_text_is_typeset(text, wanted):
    assert str(gallery.typeset(text)) == wanted


def test_every_law_has_a_place_with_its_domain_and_its_code(site):
    page = (site / "laws.html").read_text(encoding="utf-8")
    text = gallery.LAWS.read_text(encoding="utf-8")
    assert page.count('<section class="law"') == text.count("\n### ") > 10
    assert text.count("*Domain.*") == text.count("\n### ") - 1 and text.count("*Tested.*") == text.count("*Domain.*")
    named = set(re.findall(r"`laws\.(\w+)`", text))
    for name in ("contraction", "escape_times", "gd_tail", "reduced_step", "local_rate", "tangents_step"):
        assert name in named and page.count(f"As code: <code>laws.{name}</code>") >= 1
    assert page.count("<math") > 40


def test_the_laws_claims_are_those_of_the_notebooks():
    text = gallery.LAWS.read_text(encoding="utf-8")
    tested = " ".join(re.findall(r"\*Tested\.\* ([^*]*)", text))
    claimed = {claim["id"] for stem in STEMS for claim in json.loads((FIGURES / f"{stem}.json").read_text())["claims"]}
    assert set(re.findall(r"`([a-z0-9-]+)`", tested)) <= claimed


def test_verdict_marks_do_not_rely_on_colour(site):
    template = (gallery.SITE / "macros.html").read_text(encoding="utf-8")
    for verdict in claims.VERDICTS:
        assert f'"{verdict}": "' in template
    assert Path(site / "index.html").read_text(encoding="utf-8").count('aria-hidden="true">✓</span> confirmed') > 5
