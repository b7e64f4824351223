"""A static web site of the executed notebooks (`make gallery`): build/gallery/index.html.

    python -m wnlib.collection.gallery [--profile paper|quick] [--output DIR]

It needs no network and no server. Templates, style and scripts lie in `site/` beside this file. Mathematics becomes
MathML here; a formula that cannot be converted ends the build. The page of laws is `wnlib/laws/LAWS.md`.

Exit status: 0 made; 1 a notebook cannot be shown; 2 the request was refused. Problems take one line on stderr.
"""

import ast
import functools
import html
import inspect
import io
import json
import re
import shutil
import sys
import tokenize
import unicodedata
from collections import Counter
from pathlib import Path

import jinja2
import latex2mathml.converter
import nbformat
import PIL.Image
import pygments
from markupsafe import Markup
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from wnlib import claims, laws
from wnlib.collection import jobs
from wnlib.collection.jobs import Problem

SITE = Path(__file__).with_name("site")
LAWS = Path(laws.__file__).with_name("LAWS.md")
MARK = ".wnlib-gallery"  # file in a folder that a gallery made and may replace
THUMBNAIL = 960  # pixels across
FOLDED = {"imports", "figure", "claims"}  # cells whose code is shown on request

# --- text ----------------------------------------------------------------------------------------------------


def mathml(latex, display="inline"):
    """Return LaTeX as MathML; ValueError for a formula, or a command in it, that cannot be converted."""
    try:
        made = latex2mathml.converter.convert(latex.replace("<", r"\lt "), display=display)  # and no tag in \text
    except Exception as error:  # its errors have no common base
        raise ValueError(f"formula ${latex}$: {type(error).__name__} {error}") from None
    if unknown := re.search(r"\\\w+", re.sub("<[^>]*>", "", made)):
        raise ValueError(f"formula ${latex}$: {unknown[0]} is not known to latex2mathml")
    for pattern, replacement in CONVENTIONS.items():
        made = re.sub(pattern, replacement, made)
    return made


def _letter(match):
    style, letter = match[1].upper(), match[2]
    case = "CAPITAL" if letter.isupper() else "SMALL"
    for name in (f"{style} {case} {letter.upper()}", f"MATHEMATICAL {style} {case} {letter.upper()}"):
        try:
            return f"<mi>{unicodedata.lookup(name)}</mi>"
        except KeyError:
            continue
    return match[0]


# Where browsers depart from TeX: alphabets exist as characters only, capital Greek stands upright, / and . close up.
CONVENTIONS = {
    r'<mi mathvariant="(script|double-struck|bold)">(\w)</mi>': _letter,
    r"<mi>(&#x003(?:9[1-9A-F]|A[0-9]);)</mi>": r'<mi mathvariant="normal">\1</mi>',
    r"<mo>(&#x0002[EF];|[./])</mo>": r'<mo lspace="0" rspace="0">\1</mo>',
}


class _Renderer(IPythonRenderer):
    """Jupyter's own Markdown, but mathematics becomes MathML, HTML is shown as text and links lead to pages only."""

    def __init__(self):
        super().__init__(escape=True, allow_harmful_protocols=None, exclude_anchor_links=True)

    def inline_math(self, body):
        return mathml(body)

    def block_math(self, body):
        made = mathml(body, "block")
        return f'<div class="formula" role="group" aria-label="Formula" tabindex="0">{made}</div>'

    def latex_environment(self, name, body):
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


def markdown(source):
    """Return Markdown with mathematics as HTML."""
    made = MarkdownWithMath(renderer=_Renderer()).render(source)
    made = re.sub(r'(<t[dh]) style="text-align:\w+"', r"\1", made)  # the page's policy allows no style in a tag
    # A line must not begin with the full stop after a formula.
    made = re.sub(r"(<math(?:(?!</math>).){,600}</math>)([-.,;:)’]+)", r'<span class="whole">\1\2</span>', made)
    # A wide table scrolls by itself, with the keyboard too.
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="Table">'
    return Markup(made.replace("<table>", f"{scroll}<table>").replace("</table>", "</table></div>"))


# X_{…}, X_(…), X_ℓℓ, X_0 and X_A, but not noise_std; X^{…} and X^2.
SCRIPTS = re.compile(
    r"(?<=[^\s_])([_^])(?:\{((?:[^{}]|\{[^{}]*\})*)\}|\(([^()]*)\)|(ℓℓ|[0-9ℓ⊥*+]|[A-Za-z](?![A-Za-z0-9_])))"
)


def typeset(text):
    """Return plain text in the style of docstrings and claims as HTML: r_A, X^{-1/2} and `code` set as meant."""

    def script(match):
        tag = {"_": "sub", "^": "sup"}[match[1]]
        return f"<{tag}>{SCRIPTS.sub(script, match[2] or match[3] or match[4])}</{tag}>"

    pieces = [html.escape(piece) for piece in re.split(r"`([^`]+)`", text)]
    pieces[::2] = [SCRIPTS.sub(script, piece) for piece in pieces[::2]]
    pieces[1::2] = [f"<code>{piece}</code>" for piece in pieces[1::2]]
    return Markup("".join(pieces))


def code(source):
    """Return Python source as HTML with its tokens marked."""
    return Markup(pygments.highlight(source, PythonLexer(stripall=True), HtmlFormatter(nowrap=True)).rstrip())


# --- what the pages show -----------------------------------------------------------------------------------------


def book(folder, stem):
    """Return all that the page of notebook `stem` shows, from its record, figure and executed copy in `folder`.

    Problem (1) where a formula cannot be converted or the executed notebook departs from the collection's form.
    """
    record = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
    notebook = nbformat.read(folder / "executed" / f"{stem}.ipynb", as_version=4)
    where = "title"
    try:
        first, *cells = notebook.cells
        # A lead that ends in a colon goes on: with its formula, its list.
        heading, claim, rest = [*re.split(r"(?<!:)\n\n", first.source, maxsplit=2), ""][:3]
        title = re.sub(r"^# *(\d\d *· *)?", "", heading)
        page = {
            "stem": stem,
            "number": stem[:2],
            "title": title,
            "short": re.split("[:,]", title)[0],
            "heading": Markup(str(markdown(title)).strip().removeprefix("<p>").removesuffix("</p>")),
            "claim": markdown(claim),
            "alt": f"Figure of notebook {stem[:2]}, {title}. The text below describes it.",
            "caption": "",
            "cells": [],
            "parameters": [],
        }
        shown = [nbformat.v4.new_markdown_cell(rest, id=first.id)] if rest else []
        for cell in [*shown, *cells]:
            where = cell.id
            if cell.id == "figure-first":
                continue  # the page has the figure under its title already
            if cell.id == "caption":
                page["caption"] = markdown(cell.source)
            elif cell.cell_type == "markdown":
                page["cells"].append({"kind": "markdown", "id": cell.id, "html": markdown(cell.source)})
            elif "parameters" in cell.metadata.get("tags", []):
                page["parameters"] = parameters(cell.source, record["parameters"])
            elif "injected-parameters" not in cell.metadata.get("tags", []):
                page["cells"].append(_code_cell(cell))
    except (ValueError, SyntaxError) as error:
        raise Problem(1, f"{stem}, cell {where}: {error}") from None
    cost = record.get("cost")
    page["cost"] = f"{cost['seconds']:g} s, {cost['peak_gib']:g} GiB" if cost else ""
    page["seconds"] = cost["seconds"] if cost else 0
    page["claims"] = [c | {"measured": claims.measured(c).split("; ")} for c in record["claims"]]
    page["verdicts"] = {name: sum(c["verdict"] == name for c in record["claims"]) for name in claims.VERDICTS}
    page["provenance"] = record["environment"] | {"profile": record["profile"]}
    page["calls"] = set(re.findall(r"laws\.(\w+)\(", "\n".join(cell.source for cell in notebook.cells)))
    return page


def _code_cell(cell):
    """A code cell and its printed outputs; the figure and the claims stand at the top of the page."""
    outputs = [output.text for output in cell.outputs if output.output_type == "stream"]
    data = [output.data for output in cell.outputs if output.output_type in ("execute_result", "display_data")]
    outputs += [d["text/plain"] for d in data if "text/plain" in d and not {"image/png", "text/markdown"} & d.keys()]
    folded = cell.id in FOLDED or cell.id.startswith("figure")
    shown = {"kind": "code", "id": cell.id, "html": code(cell.source), "outputs": outputs}
    return shown | {"lines": len(cell.source.splitlines()), "folded": folded}


def parameters(source, values):
    """Return (name, value of this run, comment) for each line of a parameters cell."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    rows = []
    for node in ast.parse(source).body:
        lines = range(node.lineno, node.end_lineno + 1)
        rows.append((node.target.id, values[node.target.id], " ".join(comments[k] for k in lines if k in comments)))
    return rows


def law_groups(books):
    """Return the laws of LAWS.md by group, {title, preface, laws}, each with its code and the notebooks that call it.

    Problem (1) where a formula cannot be converted, or a law names code that is not there.
    """
    groups = []
    for group in re.split(r"^## ", LAWS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        preface, *entries = re.split(r"^### ", group, flags=re.MULTILINE)
        title, _, preface = preface.partition("\n")
        try:
            found = [_law(entry, books) for entry in entries]
            groups.append({"id": _anchor(title), "title": title, "preface": markdown(preface), "laws": found})
        except (ValueError, AttributeError) as error:
            raise Problem(1, f"{jobs.short(LAWS)}, {title}: {error}") from None
    return groups


def _law(entry, books):
    title, _, text = entry.partition("\n")
    without_docstring = functools.partial(re.sub, r'\n    """.*?"""', "", count=1, flags=re.DOTALL)
    names = list(dict.fromkeys(re.findall(r"`laws\.(\w+)`", text)))
    return {
        "id": _anchor(title),
        "title": title,
        "html": markdown(text),
        "code": [(name, code(without_docstring(inspect.getsource(getattr(laws, name))))) for name in names],
        "used": [book for book in books if book["calls"] & set(names)],
    }


def _anchor(title):
    return re.sub(r"\W+", "-", title.lower()).strip("-")


# --- the site ----------------------------------------------------------------------------------------------------


def build(folder, output, profile="paper"):
    """Write the site of all notebooks with results in `folder` to `output`, which is replaced; return the pages' names.

    Problem (2) where there are no results, or `output` holds something else.
    """
    if output.exists() and any(output.iterdir()) and not (output / MARK).is_file():
        raise Problem(2, f"{output} holds something that no gallery made and would be lost; name another --output")
    complete = [s for s in jobs.stems() if all((folder / name.format(s)).is_file() for name in jobs.OUTPUTS)]
    if not complete:
        raise Problem(2, f"{jobs.short(folder)} has no results of any notebook: make figures first")
    books = []
    for stem in complete:
        with jobs.reading(folder / "executed" / f"{stem}.ipynb", "make it again"):
            books.append(book(folder, stem))
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SITE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    templates.filters["typeset"] = typeset
    shutil.rmtree(output, ignore_errors=True)
    (output / "thumbnails").mkdir(parents=True)
    (output / MARK).touch()
    for page in books:
        for name in jobs.OUTPUTS:
            path = output / "figures" / name.format(page["stem"])
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name.format(page["stem"]), path)
        png = folder / f"{page['stem']}.png"
        with jobs.reading(png, "make it again"), PIL.Image.open(png) as image:
            page["size"] = image.size
            image.thumbnail((THUMBNAIL, 2 * THUMBNAIL))
            page["thumbnail"] = image.size
            image.save(output / "thumbnails" / f"{page['stem']}.png")
    verdicts = sum((Counter(page["verdicts"]) for page in books), Counter())
    seconds = sum(page["seconds"] for page in books)
    everything = {
        "profile": profile,
        "books": books,
        "waiting": [stem for stem in jobs.stems() if stem not in complete],
        "total": {"verdicts": {v: verdicts[v] for v in claims.VERDICTS}, "cost": f"{seconds / 60:.2g} minutes in all"},
        "environment": {
            name: " or ".join(sorted({str(page["provenance"][name]) for page in books}))
            for name in books[0]["provenance"]
            if name != "profile"
        },
        "groups": law_groups(books),
    }
    pages = {f"{name}.html": (name, {}) for name in ("index", "laws", "explorer")}
    for k, page in enumerate(books):
        around = {"before": books[k - 1] if k else None, "after": books[k + 1] if k + 1 < len(books) else None}
        pages[f"{page['stem']}.html"] = ("notebook", {"book": page} | around)
    for file, (template, more) in pages.items():
        text = templates.get_template(f"{template}.html").render(here=file, **everything, **more)
        (output / file).write_text(text, encoding="utf-8")
    for name in ("style.css", "explorer.js", "explorer_page.js"):
        shutil.copyfile(SITE / name, output / name)
    return list(pages)


@jobs.command
def main(arguments=None):
    """The command line; returns the exit status."""
    parser = jobs.parser("wnlib.collection.gallery", __doc__)
    parser.add_argument("--output", type=Path, default=jobs.BUILD / "gallery", metavar="DIR", help="where to")
    asked = parser.parse_args(arguments)

    pages = build(jobs.PROFILES[asked.profile][0], asked.output, asked.profile)
    print(f"{jobs.short(asked.output.resolve() / 'index.html')}: {len(pages)} pages")


if __name__ == "__main__":
    sys.exit(main())
