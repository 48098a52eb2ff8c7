"""`reticent account`, `calibrate`, `compare` and `risk` say what the library says."""

import json

import pytest

from reticent.accounting import SubsampledGaussian

RUN = ["--noise-multiplier", "1", "--sampling-rate", "0.05", "--steps", "100"]
TEXT = "noise_multiplier=1,sampling_rate=0.05,steps=100"


def said(ended):
    assert ended.code == 0, ended
    return json.loads(ended.printed)


def assert_refused(ended, *parts):
    assert ended.code == 2, ended
    message = ended.err[ended.err.index("error: ") :].strip()
    assert len(message.splitlines()) <= 2
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in message


def test_account_prints_one_object_with_every_number_as_bounds_and_kind(reticent):
    found = said(reticent("account", *RUN, "--delta", "1e-6", "--alpha", "0.01", "--alpha", "1e-4", "--json"))
    profile = SubsampledGaussian(1, 0.05, 100).profile()
    assert found["epsilon"] == profile.epsilon(1e-6).to_dict() | {"delta": 1e-6}
    assert found["delta"] == profile.delta(1.0).to_dict() | {"epsilon": 1.0}
    assert found["advantage"] == profile.advantage().to_dict()
    assert found["reconstruction"] == profile.reconstruction(1e-4).to_dict() | {"prior": 1e-4}
    assert found["mu"]["alpha_min"] == 1e-10
    assert [point["alpha"] for point in found["tradeoff"]] == [1e-4, 0.01]
    assert found["tradeoff"][1]["beta"] == profile.tradeoff(0.01).to_dict()
    assert found["mechanism"] == SubsampledGaussian(1, 0.05, 100).to_dict()
    assert found["neighbouring_relation"] == "add-or-remove-one"
    assert found["gdp"]["mu"]["lower"] <= found["gdp"]["mu"]["upper"]


def test_a_mechanism_is_the_same_by_options_text_file_and_run_folder(reticent, tmp_path):
    by_options = said(reticent("account", *RUN, "--json"))
    assert said(reticent("account", TEXT, "--json")) == by_options
    (tmp_path / "run" / "release").mkdir(parents=True)
    statement = tmp_path / "run" / "release" / "privacy.json"
    statement.write_text(json.dumps({"mechanism": SubsampledGaussian(1, 0.05, 100).to_dict()}))
    assert said(reticent("account", statement, "--json")) == by_options
    assert said(reticent("account", tmp_path / "run", "--json")) == by_options


def test_account_shows_a_table_with_the_statement_and_draws_it(reticent):
    ended = reticent("account", *RUN, "--plot", "curves.png")
    assert ended.code == 0
    assert "epsilon at delta = 1e-05" in ended.out
    assert "-GDP down to delta = 1e-10" in ended.out
    with open("curves.png", "rb") as picture:
        assert picture.read(8) == b"\x89PNG\r\n\x1a\n"


def test_a_shuffled_loader_is_told_that_nothing_is_certified_and_why(reticent):
    found = said(reticent("account", *RUN, "--sampling", "shuffle", "--json"))
    assert found["epsilon"]["kind"] == "unbounded"
    assert "shuffled" in found["reason"]
    assert (
        "No certified bound: batches cut from a shuffled cohort" in reticent("risk", *RUN, "--sampling", "shuffle").out
    )


def test_fixed_size_sampling_and_groups_are_accounted_as_what_they_are(reticent):
    found = said(reticent("account", *RUN, "--sampling", "fixed-size", "--population", "1000", "--json"))
    assert found["neighbouring_relation"] == "replace-one"
    assert found["mechanism"]["sample_size"] == 50
    group = said(reticent("account", *RUN, "--group", "2", "--json"))
    assert group["group"] == 2
    assert group["epsilon"]["upper"] > said(reticent("account", *RUN, "--json"))["epsilon"]["upper"]


@pytest.mark.parametrize(
    ("target", "name", "bound"),
    [
        (["--epsilon", "2", "--delta", "1e-5"], "epsilon", 2),
        (["--mu", "0.8"], "mu", 0.8),
        (["--advantage", "0.2"], "advantage", 0.2),
        (["--tpr", "0.05", "--fpr", "0.01"], None, 0.05),
        (["--precision", "0.5", "--prior", "0.1", "--fpr", "0.01"], None, 0.5),
        (["--reconstruction", "0.01", "--prior", "1e-4"], "reconstruction", 0.01),
    ],
)
def test_calibrate_meets_every_kind_of_target_on_the_safe_side(reticent, target, name, bound):
    found = said(reticent("calibrate", *target, "--sampling-rate", "0.05", "--steps", "100", "--json"))
    assert 0.99 * bound <= found["achieved"]["upper"] <= bound
    assert found["violating"] < found["noise_multiplier"] < found["violating"] * 1.001
    if name:
        assert found[name]["upper"] <= bound
    if name not in ("epsilon", "mu"):
        assert found["two_step"]["noise_multiplier"] > found["noise_multiplier"]


def test_calibrate_finds_steps_and_rates_and_says_the_price_of_the_detour(reticent):
    steps = said(reticent("calibrate", "--epsilon", "2", "--knob", "steps", *RUN[:4], "--json"))
    assert steps["steps"] + 1 == steps["violating"]
    rate = said(reticent("calibrate", "--epsilon", "2", "--knob", "sampling-rate", *RUN[:2], *RUN[4:], "--json"))
    assert rate["sampling_rate"] < rate["violating"]
    assert "By way of epsilon" in reticent("calibrate", "--advantage", "0.2", *RUN[2:]).out


def test_compare_names_the_more_vulnerable_and_where(reticent):
    found = said(reticent("compare", TEXT, "noise_multiplier=1,sampling_rate=0.1,steps=100", "--json"))
    assert found["verdict"] == "the first is at least as private"
    assert found["second_over_first"]["lower"] > 0.05
    assert found["first_over_second"]["upper"] <= 1e-4
    ended = reticent("compare", TEXT, "noise_multiplier=1,sampling_rate=0.1,steps=100", "--plot", "both.svg")
    assert "percentage points" in ended.out


def test_compare_ranks_designs_of_the_same_epsilon(reticent):
    rates = [part for rate in ("0.01", "0.1", "1") for part in ("--sampling-rate", rate)]
    found = said(reticent("compare", "--epsilon", "4", "--steps", "200", *rates, "--json"))
    advantages = [design["advantage"]["upper"] for design in found["designs"]]
    assert advantages == sorted(advantages)
    assert found["designs"][0]["excess"]["upper"] <= 1e-4
    assert found["designs"][2]["excess"]["lower"] > 0.01


def test_risk_speaks_of_accused_members_guesses_and_images(reticent):
    ended = reticent("risk", *RUN, "--pixels", "784", "--members", "0.1")
    for part in ("of the accused, members", "If 10 % of the candidates", "best unbiased attack", "no guarantee"):
        assert part in ended.out
    found = said(reticent("risk", *RUN, "--pixels", "784", "--json"))
    assert [row["alpha"] for row in found["membership"]] == [1e-4, 1e-3, 1e-2, 0.1]
    assert all(row["relaxed"]["kind"] == "estimate" for row in found["membership"])
    assert found["images"]["observations"] == 100


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["account"], ["--noise-multiplier"]),
        (["account", "--noise-multiplier", "0"], ["noise_multiplier is 0.0"]),
        (["account", "--noise-multiplier", "1", "--sampling-rate", "1.5"], ["sampling_rate is 1.5"]),
        (["account", *RUN, "--steps", "0"], ["steps is 0"]),
        (["account", *RUN, "--delta", "0"], ["delta is 0.0"]),
        (["account", *RUN, "--delta", "nan"], ["delta is nan"]),
        (["account", *RUN, "--alpha", "2"], ["alpha is 2.0"]),
        (["account", *RUN, "--prior", "0"], ["prior is 0.0"]),
        (["account", *RUN, "--sampling", "lottery"], ["--sampling lottery"]),
        (["account", *RUN, "--sampling", "fixed-size"], ["--population"]),
        (["account", *RUN, "--plot", "nowhere/curves.png"], ["--plot nowhere/curves.png"]),
        (["account", "missing"], ["missing"]),
        (["account", "Lapland:noise_multiplier=1"], ["Lapland"]),
        (["account", "Laplace:noise=1"], ["noise"]),
        (["account", "noise_multiplier=1", *RUN], ["leave out"]),
        (["calibrate", *RUN[2:]], ["exactly one"]),
        (["calibrate", "--epsilon", "1", "--mu", "1", *RUN[2:]], ["exactly one"]),
        (["calibrate", "--tpr", "0.01", "--fpr", "0.05"], ["tpr is 0.01"]),
        (["calibrate", "--epsilon", "1", *RUN], ["--noise-multiplier is what is looked for"]),
        (["calibrate", "--epsilon", "1", "--knob", "volume"], ["--knob volume"]),
        (["calibrate", "--epsilon", "1e-9", *RUN[2:]], ["out of reach"]),
        (["compare", TEXT], ["name two mechanisms"]),
        (
            ["compare", TEXT, "FixedSizeGaussian:noise_multiplier=1,sample_size=5,population=9,steps=1"],
            ["neighbouring"],
        ),
        (["compare", "--epsilon", "1", "--sampling-rate", "0.1"], ["--steps"]),
        (["risk", "Laplace:noise_multiplier=1 + noise_multiplier=2", "--pixels", "9"], ["--pixels"]),
        (["risk", *RUN, "--members", "1.5"], ["prior"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_silly_input_ends_with_2_and_a_line_that_names_it(reticent, arguments, parts):
    assert_refused(reticent(*arguments), *parts)


def test_a_broken_file_is_named(reticent, tmp_path):
    (tmp_path / "privacy.json").write_text("{")
    assert_refused(reticent("account", tmp_path / "privacy.json"), "privacy.json", "no mechanism")
    (tmp_path / "privacy.json").write_text('{"mechanism": {"type": "Wish", "version": 1}}')
    assert_refused(reticent("account", tmp_path / "privacy.json"), "Wish")
