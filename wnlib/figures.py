"""Style, drawing and saving. Theory is drawn black and dashed over coloured data; bands are quartiles over seeds."""

import importlib
import io
import json
import os
import pathlib
import platform
import weakref
from importlib.metadata import version

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from wnlib import backend, fits

COLUMN, PAGE = 3.5, 7.2  # inches: one column, full page

# Waskom's "colorblind" palette (seaborn, BSD-3), written out: importing seaborn takes longer than a quick notebook.
COLORS = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"]
WN, GD, PWN, PWN1 = (COLORS[k] for k in (0, 1, 2, 4))  # the same colours in every figure
RECOVER = "#00594f"  # wnlib.recover: none of the palette's, dark
TICKS = {"major.size": 4.8, "major.width": 1.0, "minor.size": 3.2, "minor.width": 0.8}


def style():
    """Return rcParams for use in `with matplotlib.rc_context(figures.style()):`; nothing global is changed."""
    return {
        **{f"{name}color": ".15" for name in ("text.", "axes.label", "axes.edge", "xtick.", "ytick.")},
        **dict.fromkeys(("patch.force_edgecolor", "axes.axisbelow", "figure.constrained_layout.use"), True),
        **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
        **dict.fromkeys(("axes.titlesize", "axes.labelsize", "font.size"), 8),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7),
        **{f"{axis}.{ticks}": size for axis in ("xtick", "ytick") for ticks, size in TICKS.items()},
        "patch.edgecolor": "w",
        "patch.linewidth": 0.8,
        "lines.solid_capstyle": "round",
        "lines.markersize": 4.8,
        "lines.linewidth": 1.2,
        "axes.linewidth": 1.0,
        "axes.prop_cycle": matplotlib.cycler(color=COLORS),
        "axes.titley": 1.0,  # no ticks above the axes: nothing to look for, which takes a third of the layout
        "figure.dpi": 130,
        "savefig.dpi": 200,
        "pdf.fonttype": 42,
    }


def band(axes, x, values, color, label=None, **line):
    """Draw values (T, seeds) against x (T,): the median as a line, the quartiles over seeds as a band."""
    median, low, high = fits.band(values, axis=-1)
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    return axes.plot(x, median, color=color, label=label, **line)[0]


def law(axes, x, y, label=None, **line):
    """Draw a prediction: black, dashed, over the data."""
    line = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 5} | line
    return axes.plot(x, y, label=label, **line)[0]


def show(figure):
    """Show `figure` in the notebook: the very picture that `save` writes, laid out and drawn once."""
    from IPython.display import Image, display

    display(Image(picture(figure), width=round(figure.get_figwidth() * figure.dpi)))
    plt.close(figure)  # or it would be drawn once more at the end of the cell


def picture(figure):
    """Return `figure` as the bytes of a PNG, and leave it the layout found for that: all its files have the same."""
    if figure not in _pictures or figure.stale:
        png = io.BytesIO()
        with matplotlib.rc_context(style()):
            if layout := figure.get_layout_engine():  # which savefig would find at the price of a whole drawing
                for _ in range(1 + any(axes.get_label() == "<colorbar>" for axes in figure.axes)):
                    layout.execute(figure)  # twice beside a colour bar: the first leaves no room
            figure.set_layout_engine("none")
            figure.savefig(png, format="png", metadata={"Software": None})
        figure.stale = False
        _pictures[figure] = png.getvalue()
    return _pictures[figure]


_pictures = weakref.WeakKeyDictionary()


def save(stem, figure, data, claims, xp, machine=()):
    """Write stem.pdf, stem.png, stem.npz (the numbers drawn) and stem.json (claims, environment).

    Into the folder that the runner names (WNLIB_FIGURES), else build/interactive: reading a notebook never
    touches the published figures. The same numbers give the same bytes; all four files are made before the first
    is written. `machine` names the claims and the data that say as much of the machine as of the mathematics (times,
    memory, ratios of them): `make verify` does not compare them. Raises ValueError for an empty `claims`, for data that
    is not numeric, and for a name in `machine` that is neither a claim's nor one of data's.
    """
    if not claims:
        raise ValueError(f"claims = [] of {stem!r}: must hold at least one; see wnlib.claims.check")
    arrays = {name: _plain(name, value) for name, value in data.items()}
    if unknown := [name for name in machine if name not in {*arrays, *(claim["id"] for claim in claims)}]:
        raise ValueError(f"machine = {unknown}: must be names of claims or of data")
    record = {"claims": claims, "environment": environment(xp)} | ({"machine": list(machine)} if machine else {})
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    png, pdf, npz = picture(figure), io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(style()):  # resolution and fonts are settings of saving, not of drawing
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    np.savez_compressed(npz, **arrays)
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(os.environ.get("WNLIB_FIGURES") or root / "build" / "interactive")
    folder.mkdir(parents=True, exist_ok=True)
    for kind, content in {"pdf": pdf.getvalue(), "png": png, "npz": npz.getvalue(), "json": text.encode()}.items():
        (folder / f"{stem}.{kind}").write_bytes(content)


def _plain(name, value):
    """`value` as the NumPy array that goes into the npz, or one line that says why it cannot."""
    try:
        array = backend.to_numpy(value)
    except (TypeError, ValueError):  # ragged lists
        array = np.asarray(None)
    if array.dtype.kind not in "biufU":
        raise ValueError(f"data[{name!r}] has dtype {array.dtype}: must be numbers or text, in the shape of an array")
    return array


def environment(xp):
    """Return what a number may depend on: versions, the array backend, and the processor or device."""
    names = ("numpy", "scipy", "matplotlib", "array-api-compat")
    record = {"python": platform.python_version(), **{name: version(name) for name in names}}
    library = backend.name(xp)
    record |= {library: importlib.import_module(library).__version__}
    return record | {"backend": library, "device": backend.device(xp)}
