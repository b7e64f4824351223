import json
import os

import numpy as np
import pytest

from wnlib import claims


def check(measured, expected=1, comparison="within", tolerance=0.1, **options):
    return claims.check("an-id", "a statement", "Fig. 9", measured, expected, comparison, tolerance, **options)


HOLDS = [
    (1.05, 1, "within", 0.1),
    (1.25, 1, "within", 0.25),  # the boundary counts
    (0, 0, "within", 0),
    (-2.05, -2, "within relative", 0.03),
    (1.25, 1, "within relative", 0.25),
    (1, 1, "at most", 0),
    (-5, 1, "at most", 0),
    (1, 1, "at least", 0),
    (9, 1, "at least", 0),
]
FAILS = [
    (1.11, 1, "within", 0.1),
    (0.89, 1, "within", 0.1),
    (-2.05, -2, "within relative", 0.02),
    (0.0201, 0.02, "within relative", 0.004),
    (1.01, 1, "at most", 0.1),
    (0.99, 1, "at least", 0.1),
    *(
        (bad, 1, comparison, 9)
        for bad in (np.nan, None, np.inf, -np.inf)
        for comparison in ("within", "within relative")
    ),
    (np.nan, 1, "at most", 0),
    (np.nan, 1, "at least", 0),
    (1, np.nan, "at least", 0),
]


@pytest.mark.parametrize("case", HOLDS)
def test_what_holds_is_confirmed(case):
    assert check(*case)["verdict"] == "confirmed"
    assert check(*case, refines="narrower")["verdict"] == "refined"


@pytest.mark.parametrize("case", FAILS)
def test_what_does_not_hold_is_not_observed(case):
    assert check(*case)["verdict"] == "not observed"
    assert check(*case, refines="narrower")["verdict"] == "not observed"


def test_the_record_holds_what_a_reader_needs():
    assert check(1.05, labels=["κ=5"]) == {
        "id": "an-id",
        "statement": "a statement",
        "source": "Fig. 9",
        "measured": {"labels": ["κ=5"], "median": [1.05], "quartiles": None, "seeds": 1},
        "expected": [1.0],
        "tolerance": "± 0.1",
        "verdict": "confirmed",
    }


def test_a_refined_claim_states_the_refinement_and_a_failed_one_the_claim():
    assert check(1, refines="narrower")["statement"] == "narrower"
    assert check(9, refines="narrower")["statement"] == "a statement"


def test_every_conditions_median_over_its_seeds_must_hold():
    wild = [[1, 1, 99], [1, 1.05, -99]]
    good = check(wild, labels="ab")
    assert good["verdict"] == "confirmed"
    assert good["measured"] == {
        "labels": ["a", "b"],
        "median": [1.0, 1.0],
        "quartiles": [[1.0, -49.0], [50.0, 1.025]],
        "seeds": 3,
    }
    assert check([[1, 1, 1], [1, 2, 2]], labels="ab")["verdict"] == "not observed"
    assert check([[1, 1, 1], [1, np.nan, 1]], labels="ab")["verdict"] == "not observed"


def test_each_condition_may_have_its_own_expectation():
    assert check([1, 2], [1, 2], labels="ab")["verdict"] == "confirmed"
    assert check([1, 2], [2, 1], labels="ab")["verdict"] == "not observed"
    assert check([1, 2], [1, 2], labels="ab")["expected"] == [1.0, 2.0]
    assert check([1, 1], [1, 1], labels="ab")["expected"] == [1.0]


def test_one_row_is_seeds_without_labels_and_conditions_with_them():
    assert check([1, 1, 99])["verdict"] == check([1, 1, 99], labels=["only"])["verdict"] == "confirmed"
    assert check([1, 1, 99], labels="abc")["verdict"] == "not observed"


@pytest.mark.parametrize(
    "options, line",
    [
        ({"labels": "ab", "measured": [1, 2, 3]}, r"labels = \['a', 'b'\]: must name each of the 3 .* 'an-id'"),
        ({"labels": "abc", "measured": np.ones((2, 3))}, "must name each of the 2 measured conditions"),
        ({"comparison": "withn"}, "comparison = 'withn': must be one of .*; did you mean 'within'"),
        ({"tolerance": -0.1}, "tolerance = -0.1: must be a finite number >= 0"),
        ({"tolerance": np.nan}, "tolerance = nan: must be"),
        ({"measured": []}, r"measured of 'an-id' has shape \(0,\): must be"),
        ({"measured": np.ones((2, 2, 2))}, r"measured of 'an-id' has shape \(2, 2, 2\): must be"),
        ({"expected": [1, 2, 3], "measured": [1, 2], "labels": "ab"}, r"expected of 'an-id' has shape \(3,\): must be"),
    ],
)
def test_what_cannot_be_a_claim_is_refused(options, line):
    with pytest.raises(ValueError, match=line) as refusal:
        check(**{"measured": 1.0} | options)
    assert "\n" not in str(refusal.value)


def test_records_are_json_whatever_was_measured():
    for measured in (np.float32(1), [[1, np.inf], [np.nan, 2]], True, None, [np.inf, np.inf, 1]):
        record = check(measured, [1])
        assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_the_table_shows_medians_quartiles_and_bounds():
    table = claims.table(
        [
            check([[1, 1.25, 1.5], [2, 2, 2]], labels=["κ=5", "κ=9"]),
            check(0.5, 2, "within relative", 0.02),
            check(1e-9, 1e-6, "at most"),
            check(np.nan),
        ]
    )
    rows = [row.split(" | ") for row in table.splitlines()]
    assert {len(row) for row in rows} == {7}
    assert rows[2][3:] == ["κ=5: 1.25 [1.125, 1.375]; κ=9: 2 [2, 2]", "1", "± 0.1", "not observed |"]
    assert [row[3:6] for row in rows[3:]] == [["0.5", "2", "± 2%"], ["1e-09", "1e-06", "at most"], ["—", "1", "± 0.1"]]


def test_bars_and_line_ends_do_not_break_the_table():
    record = check(1) | {"statement": "max_i |1 − ησ_i²|\nholds"}
    (row,) = claims.table([record]).splitlines()[2:]
    assert r"| max_i \|1 − ησ_i²\| holds |" in row
    assert row.replace(r"\|", "").count("|") == 8


def test_show_displays_the_table():
    shown = claims.show([check(1)])
    assert shown.data == claims.table([check(1)])


@pytest.fixture
def project(tmp_path):
    """A README with the markers, and records with and without a cost."""
    (tmp_path / "figures").mkdir()
    records = {
        "10_last": {"claims": [check(1) | {"id": "last"}]},
        "02_first": {"claims": [check(1) | {"id": "first"}], "cost": {"seconds": 63.0, "peak_gib": 0.21}},
    }
    for stem, record in records.items():
        (tmp_path / "figures" / f"{stem}.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "figures" / "notes.json").write_text("[]", encoding="utf-8")
    (tmp_path / "README.md").write_text(f"# Ÿ\n{claims.BEGIN}\nold\n{claims.END}\nafter\n", encoding="utf-8")
    return tmp_path


def test_main_rewrites_what_is_between_the_markers_and_nothing_else(project):
    claims.main(project)
    text = (project / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Ÿ\n{claims.BEGIN}\n") and text.endswith(f"{claims.END}\nafter\n")
    assert "old" not in text
    timed, _, first, last = [line for line in text.splitlines() if line.startswith("| [")]
    assert timed == "| [02_first](figures/executed/02_first.ipynb) | 63 s | 0.21 GiB | 1 |  |  |"
    assert first.startswith("| [02_first](figures/executed/02_first.ipynb) | `first`: a statement |")
    assert first.endswith("| 1 | 1 ± 0.1 | confirmed |")
    assert last.startswith("| [10_last](figures/executed/10_last.ipynb) | `last`: ")


def test_the_readme_s_table_names_a_notebook_once_and_gives_ranges_of_many_conditions(project):
    many = claims.check("many", "s", "here", [1.0, 3.0, np.nan, 2.0], 9, "at most", labels=list("abcd"))
    one = claims.check("one", "s", "here", [2.0, 4.0], 1, "at least", labels=["x", "y"])
    (project / "figures" / "03_both.json").write_text(json.dumps({"claims": [many, one]}), encoding="utf-8")
    lines = claims.collect(project / "figures").splitlines()
    assert lines[0].startswith("4 claims: 3 confirmed, 1 not observed. The notebooks' times add up to 1 minutes")
    assert "| [03_both](figures/executed/03_both.ipynb) |  |  | 1 |  | `many` |" in lines
    assert "| [03_both](figures/executed/03_both.ipynb) | `many`: s | 1 … 3, 1 — | ≤ 9 | not observed |" in lines
    assert "|  | `one`: s | x: 2; y: 4 | ≥ 1 | confirmed |" in lines


def test_main_leaves_an_up_to_date_readme_untouched_and_no_other_file_behind(project):
    readme = project / "README.md"
    claims.main(project)
    os.utime(readme, ns=(1, 1))
    files, text = sorted(project.rglob("*")), readme.read_bytes()
    claims.main(project)
    assert (readme.stat().st_mtime_ns, readme.read_bytes(), sorted(project.rglob("*"))) == (1, text, files)


@pytest.mark.parametrize(
    "text", ["no markers", claims.BEGIN, claims.END + claims.BEGIN, (claims.BEGIN + claims.END) * 2]
)
def test_main_refuses_a_readme_without_one_pair_of_markers(project, text):
    (project / "README.md").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="put them, once, around the claims table"):
        claims.main(project)
    assert (project / "README.md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("record", ["{", "[]", "{}", "null"])
def test_a_broken_record_is_named_and_the_readme_kept(project, record):
    before = (project / "README.md").read_bytes()
    (project / "figures" / "03_broken.json").write_text(record, encoding="utf-8")
    with pytest.raises(ValueError, match=r"03_broken.json is no record of a notebook's claims"):
        claims.main(project)
    assert (project / "README.md").read_bytes() == before


def test_the_gpu_record_is_shown_with_its_date_and_its_absence_is_said(tmp_path):
    assert claims.gpu(tmp_path).startswith("Nothing here has been run on a GPU yet")
    record = {
        "device": "NVIDIA X",
        "driver": "580.1",
        "date": "2026-01-02",
        "parity": {"passed": 144},
        "reproduced": 117,
    }
    record |= {"bandwidth": [3.9e12, 4e12], "of_bandwidth": [0.5, 0.71], "gemm_rate": [5e13], "paper_scale_seconds": 12}
    (tmp_path / "gpu.json").write_text(json.dumps(record))
    text = claims.gpu(tmp_path)
    for said in (
        "NVIDIA X",
        "580.1",
        "2026-01-02",
        "144 parity",
        "117 quick",
        "4000 GB/s",
        "71%",
        "50 TFLOP/s",
        "03 in 12 s",
    ):
        assert said in text
