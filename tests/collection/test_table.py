"""figures/claims.md and the README's counts, from records."""

import json
import os

import pytest

from wnlib import claims
from wnlib.collection import table


def check(id, tier="law", measured=1.0, **options):
    return claims.check(tier, id, "a statement", "here", measured, "= 1 ± 0.1", **options)


@pytest.fixture
def project(tmp_path):
    """A README with the markers, and records with and without a cost."""
    (tmp_path / "figures").mkdir()
    records = {
        "10_last": {"claims": [check("last", measured=9), check("sharper", refines="a sharper statement")]},
        "02_first": {"claims": [check("first", "paper")], "cost": {"seconds": 63.0, "peak_gib": 0.21}},
    }
    for stem, record in records.items():
        (tmp_path / "figures" / f"{stem}.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "figures" / "notes.json").write_text("[]", encoding="utf-8")
    (tmp_path / "README.md").write_text(f"# Ÿ\n{table.BEGIN}\nold\n{table.END}\nafter\n", encoding="utf-8")
    return tmp_path


def test_the_readme_gets_counts_by_tier_and_claims_md_all_claims(project):
    assert table.main(project) == 0
    text = (project / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Ÿ\n{table.BEGIN}\n") and text.endswith(f"{table.END}\nafter\n") and "old" not in text
    first = "1 confirmed |  | 63 s | 0.21 GiB |"
    assert f"|  | [02_first](figures/executed/02_first.ipynb) | {first}" in text
    assert "|  | [10_last](figures/executed/10_last.ipynb) |  | 1 refined; not `last` |  |  |" in text
    every = (project / "figures" / "claims.md").read_text(encoding="utf-8")
    paper, law = (every.index(claims.TIERS[tier]) for tier in ("paper", "law"))
    assert paper < every.index("`first`: a statement") < law < every.index("`last`: a statement")


def test_what_is_up_to_date_is_left_untouched_and_no_other_file_behind(project):
    table.main(project)
    written = [project / "README.md", project / "figures" / "claims.md"]
    for path in written:
        os.utime(path, ns=(1, 1))
    files = sorted(project.rglob("*"))
    assert table.main(project) == 0
    assert [path.stat().st_mtime_ns for path in written] == [1, 1] and sorted(project.rglob("*")) == files


@pytest.mark.parametrize("text", ["no markers", table.BEGIN, table.END + table.BEGIN, (table.BEGIN + table.END) * 2])
def test_a_readme_without_one_pair_of_markers_is_refused(project, capsys, text):
    (project / "README.md").write_text(text, encoding="utf-8")
    assert table.main(project) == 2
    assert "put them, once, around the claims table" in capsys.readouterr().err
    assert (project / "README.md").read_text(encoding="utf-8") == text


BROKEN = ["{", "[]", "{}", "null", '{"claims": [{}]}', '{"claims": [], "cost": {"seconds": "x"}}', '{"claims": 3}']


@pytest.mark.parametrize("record", BROKEN)
def test_a_broken_record_is_named_in_one_line_and_everything_kept(project, capsys, record):
    before = (project / "README.md").read_bytes()
    (project / "figures" / "03_broken.json").write_text(record, encoding="utf-8")
    assert table.main(project) == 1
    error = capsys.readouterr().err
    assert "03_broken.json cannot be read (" in error and "): it is no record of a notebook's claims; make" in error
    assert error.count("\n") == 1
    assert (project / "README.md").read_bytes() == before
