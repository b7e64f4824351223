import json

import numpy as np
import pytest

from wnlib import claims


def check(measured, holds="= 1 ± 0.1", tier="law", **options):
    return claims.check(tier, "an-id", "a statement", "Fig. 9", measured, holds, **options)


HOLDS = [
    (1.05, "= 1 ± 0.1"),
    (1.25, "= 1 ± 0.25"),  # the boundary counts
    (1.02, "= 1 ± 2%"),
    (0, "= 0"),
    (-2.05, "= -2 ± 3%"),
    (1, "≤ 1"),
    (-5, "≤ 1"),
    (1, "≥1"),
    (9e-13, "≤ 1e-12"),
]
FAILS = [
    (1.11, "= 1 ± 0.1"),
    (0.89, "= 1 ± 0.1"),
    (-2.05, "= -2 ± 2%"),
    (1.0000001, "= 1"),
    (1.01, "≤ 1"),
    (0.99, "≥ 1"),
    *((bad, holds) for bad in (np.nan, None) for holds in ("= 1 ± 9", "≤ 1", "≥ 1")),
    (np.inf, "= 1 ± 9"),
    (-np.inf, "= 1 ± 900%"),
    (1, "≥ nan"),
]


@pytest.mark.parametrize("case", HOLDS)
@pytest.mark.parametrize("statistic", claims.STATISTICS)
def test_what_holds_is_confirmed(case, statistic):
    assert check(*case, statistic=statistic)["verdict"] == "confirmed"
    assert check(*case, statistic=statistic, refines="narrower")["verdict"] == "refined"


@pytest.mark.parametrize("case", FAILS)
@pytest.mark.parametrize("statistic", claims.STATISTICS)
def test_what_does_not_hold_is_not_observed(case, statistic):
    assert check(*case, statistic=statistic)["verdict"] == "not observed"
    assert check(*case, statistic=statistic, refines="narrower")["verdict"] == "not observed"


def test_the_record_holds_what_a_reader_needs():
    assert check({"κ=5": 1.05}, tier="paper") == {
        "tier": "paper",
        "id": "an-id",
        "statement": "a statement",
        "source": "Fig. 9",
        "measured": {"labels": ["κ=5"], "statistic": "median", "value": [1.05], "spread": None, "seeds": 1},
        "expected": 1.0,
        "holds": "= 1 ± 0.1",
        "verdict": "confirmed",
    }


def test_a_refined_claim_states_the_refinement_and_a_failed_one_the_claim():
    assert check(1, refines="narrower")["statement"] == "narrower"
    assert check(9, refines="narrower")["statement"] == "a statement"


def test_each_condition_must_hold_by_its_own_median():
    good = check({"a": [1, 1, 99], "b": [1, 1.05, -99]})
    assert good["verdict"] == "confirmed"
    assert good["measured"]["value"] == [1.0, 1.0]
    assert good["measured"]["spread"] == [[1.0, -49.0], [50.0, 1.025]]
    assert check({"a": [1, 1, 1], "b": [1, 2, 2]})["verdict"] == "not observed"
    assert check({"a": [1, 1, 1], "b": [1, np.nan, 1]})["verdict"] == "not observed"


def test_a_mean_must_hold_with_two_standard_errors_around_it():
    rng = np.random.default_rng(0)
    many, few = 1 + 0.3 * rng.standard_normal(1000), [0.7, 1.3]
    assert check(many, statistic="mean")["verdict"] == "confirmed"
    assert check(few, statistic="mean")["verdict"] == "not observed"  # 1 ± 0.6 says nothing about 1 ± 0.1
    assert check(few)["verdict"] == "confirmed"
    low, high = (ends[0] for ends in check(many, statistic="mean")["measured"]["spread"])
    assert high - low == pytest.approx(4 * many.std(ddof=1) / np.sqrt(1000), rel=1e-3)


@pytest.mark.parametrize("holds, worst", [("≤ 2", 1.5), ("≥ 0", 0.4), ("= 1 ± 9", 0.4)])
def test_the_worst_seed_is_the_one_farthest_off(holds, worst):
    assert check([1, 1.5, 0.4], holds, statistic="worst")["measured"]["value"] == [worst]
    assert check([1, np.nan, 0.4], holds, statistic="worst")["verdict"] == "not observed"


@pytest.mark.parametrize(
    "options, line",
    [
        ({"holds": "1"}, "holds of 'an-id' = '1': must read like"),
        ({"holds": "< 1"}, "must read like"),
        ({"holds": "= 1 ± -0.1 %%"}, "must read like"),
        ({"holds": 1}, "must read like"),
        ({"tier": "papr"}, "tier = 'papr': must be one of .*; did you mean 'paper'"),
        ({"statistic": "max"}, "statistic = 'max': must be one of"),
        ({"measured": []}, r"measured of 'an-id' has shape \(0,\): must be"),
        ({"measured": {"a": np.ones((2, 2))}}, r"measured of 'an-id' at a has shape \(2, 2\): must be"),
        ({"measured": {}}, "must hold at least one condition"),
    ],
)
def test_what_cannot_be_a_claim_is_refused(options, line):
    with pytest.raises(ValueError, match=line) as refusal:
        check(**{"measured": 1.0} | options)
    assert "\n" not in str(refusal.value)


def test_records_are_json_whatever_was_measured():
    for measured in (np.float32(1), {"a": [1, np.inf], "b": [np.nan, 2]}, True, None, [np.inf, np.inf, 1]):
        record = check(measured)
        assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_the_table_shows_values_spreads_and_bounds():
    table = claims.table(
        [check({"κ=5": [1, 1.25, 1.5], "κ=9": [2, 2, 2]}), check([1, 1], statistic="mean"), check(None)]
    )
    rows = [row.split(" | ") for row in table.splitlines()]
    assert {len(row) for row in rows} == {7}
    assert rows[2][4:] == ["κ=5: 1.25 [1.125, 1.375]; κ=9: 2 [2, 2]", "= 1 ± 0.1", "not observed |"]
    assert [row[4] for row in rows[3:]] == ["mean 1 [1, 1]", "—"]
    assert claims.measured(check({k: float(k) for k in "1234"}), 3) == "1 … 4"


def test_bars_and_line_ends_do_not_break_the_table():
    record = check(1) | {"statement": "max_i |1 − ησ_i²|\nholds"}
    (row,) = claims.table([record]).splitlines()[2:]
    assert r"| max_i \|1 − ησ_i²\| holds |" in row
    assert row.replace(r"\|", "").count("|") == 8


def test_show_displays_the_table():
    assert claims.show([check(1)]).data == claims.table([check(1)])
