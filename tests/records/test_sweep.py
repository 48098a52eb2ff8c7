"""What a sweep's table expands to, and what is refused in it."""

import pytest

from reticent.errors import InputError
from reticent.records import headline, make_sweep

BASE = {"cohort": {"uri": "clinic"}, "privacy": {"mu": 1.0}, "training": {"ema_decay": 0.5}}
LANGEVIN = {"optimiser": "langevin", "temperature": 0.1, "posterior_samples": 4}


def sweep(table=None, over=None, repeats=None):
    return make_sweep({**BASE, **({"sweep": table} if table else {})}, "study.toml", over or {}, repeats)


def test_without_a_table_there_is_the_study():
    (only,) = sweep().configurations
    assert (only.name, only.options, only.study.training.ema_decay) == ("study", {}, 0.5)
    assert sweep().repeats == 1
    assert sweep(repeats=4).repeats == 4


def test_a_grid_is_every_combination_in_order():
    grid = {"training.learning_rate": [0.1, 0.2], "model.name": ["default", "resnet9"]}
    found = sweep({"grid": grid, "repeats": 3})
    assert [c.name for c in found.configurations] == [
        "learning_rate = 0.1, name = default", "learning_rate = 0.1, name = resnet9",
        "learning_rate = 0.2, name = default", "learning_rate = 0.2, name = resnet9",
    ]  # fmt: skip
    assert [(c.study.training.learning_rate, c.study.model.name) for c in found.configurations] == [
        (0.1, "default"), (0.1, "resnet9"), (0.2, "default"), (0.2, "resnet9"),
    ]  # fmt: skip
    assert all(c.study.training.ema_decay == 0.5 for c in found.configurations)
    assert found.repeats == 3


def test_a_variant_changes_options_together_and_has_a_grid_of_its_own():
    variants = {
        "plain": {},
        "warm": {"training": {"optimiser": "langevin", "ema_decay": 0.0}, "grid": {"training.temperature": [0.1, 1.0]}},
    }
    found = sweep({"variants": variants, "grid": {"privacy.steps": [5]}}).configurations
    assert [c.name for c in found] == [
        "plain, steps = 5",
        "warm, steps = 5, temperature = 0.1",
        "warm, steps = 5, temperature = 1.0",
    ]
    assert [c.study.training.temperature for c in found] == [None, 0.1, 1.0]
    assert {c.study.privacy.steps for c in found} == {5}


def test_options_on_the_command_line_replace_a_grid_of_the_file():
    found = sweep({"grid": {"privacy.steps": [5, 6]}}, over={"privacy.steps": [7]}).configurations
    assert [c.study.privacy.steps for c in found] == [7]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"grid": {"learning_rate": [1]}}, "name an option with its section"),
        ({"grid": {"training.speed": [1]}}, "speed = 1: training.speed: no such option"),
        ({"grid": {"training.views": [1, 0]}}, "views = 0: training.views"),
        ({"variants": {"a": {"models": {}}}}, "sweep.variants.a.models"),
        ({"repeats": 0}, "sweep.repeats"),
        ({"grid": {"training.views": 3}}, "sweep.grid.training.views"),
    ],
)
def test_what_is_wrong_is_named(table, message):
    with pytest.raises(InputError, match=message):
        sweep(table)


@pytest.mark.parametrize(
    ("privacy", "training", "over", "expected"),
    [
        ({"steps": 9, "sampling_rate": 0.3, "batch_size": 5.0}, {}, ("privacy.epochs", 4), ("privacy.steps", 100)),
        ({"epochs": 4}, {}, ("privacy.steps", 7), ("privacy.epochs", None)),
        ({}, {}, ("privacy.advantage", 0.1), ("privacy.mu", None)),
        ({}, LANGEVIN, ("training.learning_rate", 0.3), ("training.temperature", None)),
        ({}, LANGEVIN, ("training.optimiser", "adam"), ("training.temperature", None)),
        ({}, {"schedule": "cosine", "ema_decay": 0.9}, ("training.optimiser", "langevin"), ("training.ema_decay", 0.0)),
        ({"noise": "banded", "bands": 3}, {}, ("privacy.noise", "independent"), ("privacy.bands", None)),
    ],
    ids=str,
)
def test_what_a_stored_study_says_gives_way_to_what_contradicts_it(privacy, training, over, expected):
    base = {"cohort": {"uri": "clinic"}, "privacy": {"mu": 1.0, **privacy}, "training": training}
    (option, value), (other, left) = over, expected
    (only,) = make_sweep(base, "study.toml", {option: [value]}, None).configurations
    found = only.study.model_dump()

    def at(path):
        section, _, name = path.partition(".")
        return found[section][name]

    assert (at(option), at(other)) == (value, left)


def test_a_temperature_is_not_varied_together_with_the_learning_rate_that_it_sets():
    variant = {"training": {"optimiser": "langevin", "temperature": 0.1}, "grid": {"training.learning_rate": [0.1, 1]}}
    with pytest.raises(InputError, match="--temperature sets the learning rate"):
        sweep({"variants": {"warm": variant}})


def test_tables_are_about_the_task_s_own_metric():
    assert headline(["brier", "auroc"]) == "auroc"
    assert headline(["hd95", "dice"]) == "dice"
    assert headline(["vat mae", "vat r2", "asat r2"]) == "vat r2"
    assert headline([]) == "auroc"
