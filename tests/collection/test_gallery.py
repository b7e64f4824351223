"""The gallery as a reader meets it: in a real browser, from file://. The explorer's JavaScript against wnlib.laws."""

import fcntl
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

from wnlib import claims, laws, problems, stiefel
from wnlib.collection import gallery, jobs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FIGURES = jobs.PROFILES["paper"][0]
STEMS = [s for s in jobs.stems() if all((FIGURES / name.format(s)).is_file() for name in jobs.OUTPUTS)]
PAGES = ["index.html", "laws.html", "explorer.html", *(f"{stem}.html" for stem in STEMS)]


@pytest.fixture(scope="module")
def site(tmp_path_factory, request):
    """Built once, by the worker that comes first."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if hasattr(request.config, "workerinput") else folder) / "site"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
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
    if name.removesuffix(".html") in STEMS:  # a figure keeps its size on the phone, and scrolls
        figure = page.locator(".zoom").evaluate("zoom => [zoom.scrollWidth, zoom.clientWidth]")
        assert figure[0] > 700 > 390 > figure[1]
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


SHORTEST = min(STEMS, key=lambda stem: (jobs.NOTEBOOKS / f"{stem}.ipynb").stat().st_size)


@pytest.mark.parametrize("name", [*PAGES[:3], f"{SHORTEST}.html"])  # one of each kind
def test_accessibility(browser, site, name):
    """No serious fault by axe-core; in the dark, colours only: nothing else differs."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    faults = []
    for scheme, width, options in [("light", 1200, {}), ("dark", 390, {"runOnly": ["color-contrast"]})]:
        with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 850}) as context:
            page = context.new_page()
            page.goto((site / name).as_uri())
            # axe knows nothing of MathML and takes long to find out; the claims of seven notebooks show every kind.
            checked = {"exclude": [["math"], [".claims tbody:nth-of-type(n+8)"]]}
            options |= {"preload": False, "resultTypes": ["violations"]}
            found = axe.run(page, checked, options).response["violations"]
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
                assert not fragment or "=" in fragment or fragment in pages[path or name].ids, f"{name}: {target}"
        assert all("alt" in image for image in page.images), name


def test_a_page_shows_what_the_record_says(site):
    for stem in STEMS:
        record = json.loads((FIGURES / f"{stem}.json").read_text(encoding="utf-8"))
        text = (site / f"{stem}.html").read_text(encoding="utf-8")
        [image] = Links(text).images
        assert len(image["alt"]) > 30
        for value in ("make figures/" + stem, record["environment"]["numpy"], f"{record['cost']['seconds']:g} s"):
            assert value in text
        table = text[text.index('<th scope="col">Verdict') :]
        for claim in record["claims"]:
            row = table.split(f"<code>{claim['id']}</code>")[1].split("</tr>")[0]
            assert claim["verdict"] in row and f"{claim['measured']['value'][0]:.4g}" in row
        for name, value in record["parameters"].items():
            assert f"<code>{name}</code></th><td><code>{value}</code>" in text
    index = (site / "index.html").read_text(encoding="utf-8")
    assert [index.find(f'href="{stem}.html"') > 0 for stem in STEMS] == [True] * len(STEMS)


def test_the_front_page_tells_every_notebook_in_its_part(page, site):
    page.goto((site / "index.html").as_uri())
    assert page.locator("main h2").all_inner_texts()[:4] == ["The paper", "The theorem", "Methods", "Beyond"]
    assert page.locator(".cards li").count() == len(STEMS)
    assert all(len(line) > 20 for line in page.locator(".cards .finding").all_inner_texts())
    assert "$" not in "".join(page.locator(".cards").all_inner_texts())


def test_the_front_page_shows_what_is_asked_for(page, site):
    records = [json.loads((FIGURES / f"{stem}.json").read_text(encoding="utf-8")) for stem in STEMS]
    page.goto((site / "index.html").as_uri())
    for label, key, value in [
        ("what the paper says", "tier", "paper"),
        ("laws derived here", "tier", "law"),
        ("not observed", "verdict", "not observed"),
    ]:
        page.get_by_label(label, exact=True).check()
        wanted = [sum(claim[key] == value for claim in record["claims"]) for record in records]
        assert page.locator(".cards li:visible").count() == sum(map(bool, wanted))
        assert page.locator(".claims tbody tr.filtered:visible").count() == sum(wanted)
    page.get_by_label("all", exact=True).check()
    assert page.locator(".cards li:visible").count() == len(STEMS)


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
    assert got["burnIn"] == pytest.approx(laws.escape_law(m, r, rank, sigma[-1], eta).mean(), rel=1e-12)
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


def test_gradient_descent_is_that_of_wnlib(reduction):
    """The whole matrix's runs from Y_0 = X_0, in population, against the r_A×r_A recursion."""
    m, r, sigma, eta, steps = 30, 7, problems.spectrum(3, 4.0, "geometric"), 0.3, 300
    rng = np.random.default_rng(3)
    A = np.zeros((m, m))
    A[:3, :3] = np.diag(sigma)
    Y = stiefel.random(m, r, rng)
    P = Y[:3] @ Y[:3].T
    wanted = [np.sum((Y @ Y.T - A) ** 2)]
    for _ in range(steps):
        Y = Y - eta * (Y @ Y.T - A) @ Y
        wanted.append(np.sum((Y @ Y.T - A) ** 2))
    got = reduction.evaluate(
        """([P, sigma, eta, spare, steps]) => {
             let state = gdStart(P);
             const errors = [gdError(state, sigma, spare)];
             for (let t = 0; t < steps; t++) {
               state = gdStep(state, sigma, eta);
               errors.push(gdError(state, sigma, spare));
             }
             return errors; }""",
        [P.tolist(), sigma.tolist(), eta, r - 3, steps],
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


@pytest.mark.parametrize("rho", [1.5, 40.0, 3e5])
def test_the_bound_is_that_of_wnlib(reduction, rho):
    sigma, eta = problems.spectrum(3, 10.0, "geometric"), 0.7
    burn_in = float(laws.burn_in_bound(rho, sigma, eta))
    times = [0.0, 0.5 * burn_in, burn_in, burn_in + 500, 5 * burn_in + 1e5]
    got = reduction.evaluate(
        """([times, rho, sigma, eta]) =>
             [burnInBound(rho, sigma, eta), ...times.map((t) => tangentBound(t, rho, sigma, eta))]""",
        [times, rho, sigma.tolist(), eta],
    )
    np.testing.assert_allclose(got, [burn_in, *laws.tangent_bound(times, rho, sigma, eta)], rtol=1e-9)


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


def opened(page, site, setting=""):
    page.goto((site / "explorer.html").as_uri() + setting)
    return done(page)


def wait(page, condition):
    """Until the JavaScript `condition` is true; Playwright's own waiting evaluates text, which the page forbids."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not in 30 s: {condition}")


SETTING = ("m", "rank", "r", "kappa", "eta")


def done(page):
    """What the page shows once its run is over: the setting and the readings."""
    wait(page, "document.getElementById('plot').dataset.done === 'true'")
    shown = {name: displayed(page, name) for name in SETTING}
    readings = {name: page.locator(f"#{name}").inner_text() for name in ("escapes", "mean", "burn-in", "bound", "seed")}
    return shown | readings


def displayed(page, name):
    return float(page.locator(f"#{name}-value").inner_text().replace(",", ""))


def press(page, label, key, times=1):
    page.get_by_label(label).focus()
    for _ in range(times):
        page.keyboard.press(key)
    return done(page)


def test_the_explorer_follows_its_sliders(page, site):
    """More columns bring the predictions down; the run ends where they say; what is proved holds; a draw is a start."""
    first = opened(page, site)
    assert len(first["escapes"].split(", ")) == 3
    more = press(page, "columns of X", "ArrowRight", 30)
    assert more["r"] == 50 and float(more["mean"]) < float(first["mean"])
    assert float(more["mean"]) == pytest.approx(laws.escape_law(200, 50, 3, 0.1, 1.0).mean(), rel=5e-3)
    assert float(more["burn-in"].replace(",", "")) <= float(more["bound"].replace(",", ""))
    status = page.get_by_role("status").inner_text()
    assert "was found at step" in status and "gradient descent's" in status
    for curve, count in {"wn": 1, "gd": 1, "level": 3, "theory": 2}.items():
        assert page.locator(f"#plot path.{curve}").count() == count
    page.get_by_role("button", name="New draw").click()
    drawn = done(page)
    assert drawn["escapes"] != more["escapes"] and drawn["seed"] == "2"
    lone = press(page, "rank of the truth", "Home")  # a lone direction has no condition number
    assert (lone["rank"], lone["kappa"]) == (1, 1)
    assert press(page, "step size", "End")["bound"] == "none for η > 1"


def test_a_slider_moves_itself_alone_and_stops_where_the_problem_ends(page, site):
    page.goto((site / "explorer.html").as_uri())
    start = page.evaluate("setting")
    for label, name, ends in [
        ("size of the matrix", "m", (23, 1e6)),
        ("rank of the truth", "rank", (1, 6)),
        ("condition number", "kappa", (1.5, 100)),
        ("columns of X", "r", (3, 190)),  # 197 to two digits
    ]:
        for key, end in zip(("Home", "End"), ends, strict=True):
            page.get_by_label(label).focus()
            page.keyboard.press(key)
            assert page.evaluate("setting") == start | {name: end}
            assert (
                displayed(page, name) == page.evaluate(f"VALUES.{name}[document.getElementById('{name}').value]") == end
            )
        page.get_by_role("link", name="Reset").click()
        wait(page, f"setting.{name} === {start[name]}")


def test_a_key_changes_what_is_displayed(page, site):
    page.goto((site / "explorer.html").as_uri())
    for label, name, values in [
        ("columns of X", "r", [21, 22, 23]),
        ("size of the matrix", "m", [210, 220, 230]),
        ("condition number", "kappa", [11, 12, 13]),
        ("rank of the truth", "rank", [4, 5, 6]),
        ("step size", "eta", [1.05, 1.1, 1.15]),
    ]:
        page.get_by_label(label).focus()
        for key, wanted in zip(["ArrowRight"] * 3 + ["ArrowLeft"] * 2, [*values, *values[1::-1]], strict=True):
            page.keyboard.press(key)  # and not to the end of the run, which every key starts anew
            assert displayed(page, name) == wanted


def test_a_link_reproduces_the_run(page, site):
    opened(page, site)
    page.get_by_role("button", name="New draw").click()
    wanted = press(page, "columns of X", "ArrowRight", 5)
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert done(page) == wanted
    for link in page.locator(".presets a").all():
        link.click()
        asked = {k: float(v) for k, v in urllib.parse.parse_qsl(link.get_attribute("href")[1:])}
        wait(page, f"location.hash === '{link.get_attribute('href')}'")
        assert {name: displayed(page, name) for name in SETTING} == {name: asked[name] for name in SETTING}
    page.go_back()  # every preset is a place to come back to
    wait(page, f"{json.dumps(SETTING)}.some((name) => setting[name] !== ({json.dumps(asked)})[name])")


@pytest.mark.parametrize(
    "setting", ["#m=5&r=900&rank=6", "#m=-1&kappa=nan&eta=1e9&seed=x", "#<b>", "#m=1e99&r=0&rank=0"]
)
def test_a_wrong_link_is_a_setting_all_the_same(page, site, setting):
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    shown = opened(page, site, setting)
    assert shown["rank"] <= shown["r"] <= shown["m"] - shown["rank"] and faults == []


def test_a_resize_keeps_the_run(page, site):
    endless = "#m=1000000&rank=3&r=10&kappa=100&eta=0.05&seed=1"  # within the limit of 400000 steps
    page.goto((site / "explorer.html").as_uri() + endless)
    wait(page, "run.t > 1000")
    before = page.evaluate("run.t")
    page.set_viewport_size({"width": 390, "height": 850})
    wait(page, "document.querySelector('#plot svg').getAttribute('width') < 390")
    assert page.evaluate("run.t") >= before
    page.evaluate("run.t = 399000")  # the rest of the way takes long
    ended = done(page)
    page.set_viewport_size({"width": 1200, "height": 850})
    wait(page, "document.querySelector('#plot svg').getAttribute('width') > 390")
    assert done(page) == ended and page.evaluate("run.t") == 400000


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


@pytest.mark.parametrize(
    "formula", [r"$\unheardof{x}$", r"$$\left( x$$", r"$x^$", r"$\text{<script>alert(1)</script>}$"]
)
def test_a_formula_that_cannot_be_shown_ends_the_build(tmp_path, formula):
    output = tmp_path / "site"
    with pytest.raises(jobs.Problem, match=rf"{STEMS[0]}, cell \S+: formula \$.*\$: ") as problem:
        gallery.build(spoiled(tmp_path / "figures", f"\n\nThis is {formula}."), output)
    assert problem.value.status == 1 and not output.exists()


PLANTED = """

<script>document.title = "taken"</script> <img src="x" onerror="document.title = 'taken'">
[one](javascript:document.title='taken') [two](JaVaScript&#58;document.title='taken') [three](<java\tscript:1>)
<iframe srcdoc="<script>parent.document.title='taken'</script>"></iframe>

<div onclick="document.title = 'taken'" style="color: red">a planted box</div>
"""


def test_html_and_scripts_of_a_notebook_stay_text(page, tmp_path):
    """Planted in a notebook they are shown; planted in the page behind the templates' back the policy holds them."""
    gallery.build(spoiled(tmp_path / "figures", PLANTED), tmp_path / "site")
    path = tmp_path / "site" / f"{STEMS[0]}.html"
    page.goto(path.as_uri())
    title = page.title()
    assert page.locator("script, iframe, [onclick], [onerror], [style]").count() == 0
    assert [a for a in page.eval_on_selector_all("a", "all => all.map(a => a.protocol)") if a != "file:"] == []
    assert "<script>" in page.locator("main").inner_text()
    for link in ("one", "two"):
        page.get_by_role("link", name=link, exact=True).click()
    page.get_by_text("a planted box").click()
    assert page.title() == title
    bare = (
        "<script>document.title = 'taken'</script><i style='position: fixed' onclick=\"document.title = 'taken'\">x</i>"
    )
    path.write_text(path.read_text(encoding="utf-8").replace("</main>", f"{bare}</main>"), encoding="utf-8")
    page.goto(path.as_uri())
    page.locator("main > i").click()
    assert page.title() == title
    assert page.locator("main > i").evaluate("i => getComputedStyle(i).position") == "static"


@pytest.mark.parametrize("there", ["thesis.tex", "explorer.js", "index.html"])
def test_a_folder_that_no_gallery_made_is_not_replaced(tmp_path, capsys, there):
    (tmp_path / there).write_text("years of work")
    assert gallery.main(["--output", str(tmp_path)]) == 2
    assert "holds something that no gallery made" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_its_own_folder_is_replaced(tmp_path):
    figures = spoiled(tmp_path / "figures", "")
    for _ in range(2):
        gallery.build(figures, tmp_path / "site")
        assert not (tmp_path / "site" / "old.html").exists()
        (tmp_path / "site" / "old.html").touch()


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
