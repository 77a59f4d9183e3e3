"""What the verdict says of nets whose truth is known, and that its numbers, steps and changes are true."""

import dataclasses
import re

import numpy as np
import pytest

from lnres.experiment import FIELDS, Experiment
from lnres.models import MODELS
from lnres.reading import Reading, bounded, mean_log, times
from lnres.record import CLOCK_OF, Record
from lnres.train import Run
from lnres.verdict import VERDICTS, Healthy, sentence, verdict, verdicts
from tests.bench.verdict import CASES, JUDGED, confusion

# The quickest case of each kind, a few networks of it: the whole table is behind the slow marker.
QUICK = {
    "diverged": "SGD, steps of 100",
    "dead": "biases of -10",
    "saturated": "tanh, weights 6 times",
    "exploding": "weights twice He's",
    "vanishing": "tanh, torch's default",
    "collapsed": "60 layers of LayerNorm, wider",
    "too_high": "Adam",
    "too_low": "shallow, no norm",
    "stale": "nothing remembered",
    "overfitting": "wine, half the labels drawn",
    "not_learning": "drowned in noise",
    "healthy": "pre-LN",
}
SEEDS = 3


@pytest.fixture(scope="module")
def record_of():
    """The record of a quick case, trained once."""
    records = {}

    def record(kind):
        if kind not in records:
            (case,) = (case for case in CASES if (case.kind, case.name) == (kind, QUICK[kind]))
            records[kind] = case.record(JUDGED, SEEDS)
        return records[kind]

    return record


def numbers(loss=2.3, accuracy=0.1, below=1.0, cosine=0.1, seeds=2, steps=30, start=2.3):
    """A made-up record of a net of three blocks, ``below`` times as much gradient below as at the top."""
    curve = np.linspace(start, loss, steps)[:, None].repeat(seeds, 1)
    right = np.minimum(np.linspace(0.1, 2 * accuracy - 0.1, steps), accuracy)[:, None].repeat(seeds, 1)
    gradient = np.geomspace(below, 1, 4)[None, :, None].repeat(seeds, 2)
    record = Record()
    record.extend(
        {
            "step": np.arange(steps),
            "loss_train": curve,
            "acc_train": right,
            "probe_step": np.array([0]),
            "grad_norm": gradient,
            "act_rms": np.ones((1, 4, seeds)),
            "cosine": np.array([0.1, cosine, cosine, cosine])[None, :, None].repeat(seeds, 2),
            "dead": np.zeros((1, 3, seeds)),
            "saturated": np.full((1, 3, seeds), 0.5),
            "update_ratio": np.full((1, 3, seeds), 1e-3),
        }
    )
    return record


def test_every_kind_has_a_quick_case_and_several_others():
    assert set(QUICK) == set(VERDICTS)
    for kind in VERDICTS:
        assert sum(case.kind == kind for case in CASES) >= 4


@pytest.mark.parametrize("kind", QUICK)
def test_nets_whose_trouble_is_known(kind, record_of):
    record = record_of(kind)
    assert [verdict(record, member=k).kind for k in range(SEEDS)] == [kind] * SEEDS
    said = verdict(record)
    assert (said.kind, said.seeds) == (kind, (SEEDS, SEEDS))
    assert sentence(record) == said.sentence
    assert len(said.sentence) < 125
    assert "nan" not in said.sentence


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_networks_of_every_model_are_judged(model, activation):
    """Also where no activation can be looked at: gates have two."""
    e = Experiment(model=model, activation=activation, depth=2, width=8, batch=8, seeds=SEEDS, lr=0.01)
    run, record = Run(e), Record({"experiment": e.link()})
    for _ in range(4):
        record.extend(*next(run))
    for step in (0, 3):
        for said in verdicts(record, step):
            assert said.seeds[1] == SEEDS
            assert "nan" not in f"{said.sentence} {[number.value for number in said.numbers]}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [JUDGED])
def test_at_least_95_of_100_nets_of_each_kind_are_judged_rightly(seed):
    table = confusion(seed)
    assert {kind: row for kind, row in table.items() if row["networks"] < 20 or row["right"] < 0.95} == {}
    assert "exploding" not in table["vanishing"]["else"]


@pytest.mark.parametrize("kind", QUICK)
def test_the_numbers_that_decided_are_told_with_their_thresholds(kind, record_of):
    said = verdict(record_of(kind))
    assert said.numbers
    for number in said.numbers:
        assert number.name
        assert np.isfinite([number.value, number.spread, number.threshold or 0]).all()
    assert said.numbers[0].threshold is not None


@pytest.mark.parametrize("kind", QUICK)
def test_one_change_is_offered_for_every_trouble(kind, record_of):
    record = record_of(kind)
    e, change = Experiment.parse(record.header["experiment"]), verdict(record).change
    assert bool(change) == (kind != "healthy")
    assert set(change) <= set(FIELDS)
    assert not change or e.replace(**change) != e


@pytest.mark.parametrize("kind", ["saturated", "vanishing", "too_high", "stale", "not_learning"])
def test_the_change_helps(kind, record_of):
    (case,) = (case for case in CASES if (case.kind, case.name) == (kind, QUICK[kind]))
    assert verdict(case.record(JUDGED, 2, **verdict(record_of(kind)).change)).kind == "healthy"


@pytest.mark.parametrize("kind", ["healthy", "too_high", "diverged", "stale", "overfitting"])
def test_the_past_is_judged_as_it_was_then(kind, record_of):
    whole = record_of(kind)
    for step in (0, 4, 17, 25, 49, 59):
        then = Record(whole.header)
        for name in whole:
            then.extend({name: whole[name][whole[CLOCK_OF[name]] <= step]})
        then.events = [event for event in whole.events if event["step"] <= step]
        assert verdicts(whole, step) == verdicts(then)


@pytest.mark.parametrize("kind", ["vanishing", "dead", "diverged"])
def test_a_member_is_judged_as_if_it_were_alone(kind, record_of):
    (case,) = (case for case in CASES if (case.kind, case.name) == (kind, QUICK[kind]))
    alone = verdicts(case.record(JUDGED + 1, 1))
    assert verdicts(record_of(kind), member=1) == alone


def test_a_net_that_diverges_says_when_and_where_and_how_far_to_go_back():
    run, record = Run(Experiment(norm="none", width=32, batch=32, seeds=3, depth=8, lr=100)), Record()
    for _ in range(30):
        record.extend(*next(run))
    said = verdict(record)
    assert re.match(r"Diverged: all seeds, first at step \d+ in (block \d|the stem|the head)", said.sentence)
    twin = run.fork(said.rewind)
    assert np.isfinite(next(twin)[0]["loss_train"]).all()
    assert not np.isfinite(next(twin)[0]["loss_train"]).all()


def test_a_net_that_learns_says_how_far_it_is(record_of):
    record = record_of("healthy")
    assert sentence(record).startswith("Learns: ")
    assert sentence(record, 30).startswith("Learning: ")
    assert sentence(record, 2).startswith("Healthy so far: ")


def test_a_net_that_names_no_class_is_judged_by_its_loss():
    settings = {"data": "identity", "depth": 2, "width": 32, "seeds": 2, "optimizer": "adam", "lr": 3e-3}
    run, record = Run(Experiment(**settings)), Record()
    for _ in range(60):
        record.extend(*next(run))
    assert sentence(record).startswith(("Learns: loss 0.", "Learning: loss from "))
    assert "right" not in sentence(record)


def test_a_record_without_anything_waits():
    assert sentence(Record()) == "Waiting for the first step."
    assert verdict(Record()) is None


def test_a_record_that_was_never_probed_waits():
    run, record = Run(Experiment(depth=2, width=8, seeds=1, record_every=0)), Record()
    record.extend(*next(run))
    assert sentence(record) == "Waiting for the first step."


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (numbers(0.1, 0.97), "Learns: 97%"),
        (numbers(below=1e-5), "Vanishing gradient: block 1 receives 1·10⁻⁵"),
        (numbers(below=1e5), "Exploding gradient: 1·10⁵ times"),
        (numbers(below=1e-60), "Vanishing gradient: block 1 receives less than 10⁻³⁷"),
        (numbers(1.0, 0.6), "Learning: loss from 2.3 to"),
        (numbers(cosine=0.995), "Collapsed: at the top all examples look alike (cosine 0.995)"),
        (numbers(), "Not learning yet: loss 2.30, 10% right"),
        (numbers(steps=5), "Healthy so far: block 1 receives 1 times"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_made_up_numbers_are_told(record, said):
    assert sentence(record).startswith(said)


@pytest.mark.parametrize("kind", [{"accuracy": 0.97}, {"below": 1e-5}, {"below": 1e5}, {"cosine": 0.995}, {}])
def test_seeds_that_diverged_are_counted(kind):
    record = numbers(seeds=3, **kind)
    record["loss_train"][15:, 1] = np.nan
    assert "1 of 3 seeds diverged." in sentence(record)
    assert verdict(record, member=1).kind == "diverged"


def test_a_run_is_judged_by_most_of_its_seeds_and_its_first_trouble_is_told_first():
    record = numbers(below=1e-5, cosine=0.99, seeds=4)
    record["grad_norm"][:, :, 0] = 1
    assert [said.kind for said in verdicts(record)] == ["vanishing", "collapsed"]
    assert verdict(record).seeds == (3, 4)
    record["grad_norm"][:, :, :3] = 1
    assert [said.kind for said in verdicts(record)] == ["collapsed"]


def test_what_stood_at_the_start_is_told_before_what_training_brought_about():
    record = numbers(cosine=0.99)
    record.extend(
        {name: record[name].copy() for name in record if name not in ("step", "loss_train", "acc_train")}
    )
    record["probe_step"][1] = 20
    record["grad_norm"][1] *= np.geomspace(1e-5, 1, 4)[:, None]
    assert [said.kind for said in verdicts(record)] == ["collapsed", "vanishing"]
    assert [said.kind for said in verdicts(record, 10)] == ["collapsed"]


@pytest.mark.parametrize(("batch", "said"), [(64, "overfitting"), (2, "healthy")])
def test_a_few_small_batches_do_not_tell_overfitting(batch, said):
    record = numbers(0.5, 0.8)
    record.header["experiment"] = f"batch={batch}"
    record.extend(
        {"test_step": np.array([29]), "loss_test": np.ones((1, 2)), "acc_test": np.full((1, 2), 0.62)}
    )
    assert verdict(record).kind == said


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_slope_is_that_of_a_geometric_sequence(factor):
    record = numbers()
    record["grad_norm"][0] = (factor ** np.arange(4))[:, None]
    now = Reading(record)
    assert np.exp(now.slope) == pytest.approx(factor)
    assert now.reach == pytest.approx(factor**-3)


def test_a_live_change_counts_from_its_step_on():
    record = numbers(below=1e-5)
    record.header["experiment"] = "lr=0.01"
    record.events.append({"step": 10, "kind": "change", "name": "lr", "value": 0.5, "text": ""})
    assert Reading(record, 5).settings == Experiment(lr=0.01)
    assert Reading(record).settings == Experiment(lr=0.5)


@pytest.mark.parametrize("activation", FIELDS["activation"].metadata["registry"])
def test_an_activation_is_bounded_if_it_stays_finite_for_all_inputs(activation):
    import torch

    f = FIELDS["activation"].metadata["registry"][activation].make()
    ends = f(torch.tensor([-1e4, 1e4]))
    assert bounded(activation) == bool((ends.abs() < 2).all())


def test_a_new_kind_is_one_row():
    @VERDICTS.add("calm", "calm")
    class Calm(Healthy):
        """Nothing ever happens."""

        rank = 0

    try:
        assert verdict(numbers()).kind == "calm"
        assert verdict(numbers()).label == "calm"
    finally:
        del VERDICTS._choices["calm"]


@pytest.mark.parametrize("seed", range(6))
def test_numbers_that_are_missing_break_nothing(seed):
    """NaN and infinity anywhere still give one sentence."""
    rng, record = np.random.default_rng(seed), numbers(seeds=3)
    for name in (
        "loss_train",
        "acc_train",
        "grad_norm",
        "act_rms",
        "cosine",
        "dead",
        "saturated",
        "update_ratio",
    ):
        array = record[name]
        array[rng.random(array.shape) < [0.3, 1.0][seed % 2]] = [np.nan, np.inf, -np.inf][seed % 3]
    said = sentence(record)
    assert said.endswith(".")
    assert "nan" not in said


SMALL = {"norm": "batch", "depth": 2, "width": 8, "seeds": 2, "batch": 8}


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_tests_with_the_batch_s_own_statistics_are_recorded_where_a_norm_remembers_others(norm):
    settings = SMALL | {"norm": norm, "dropout": 0.3}
    run, own = Run(Experiment(**settings)), Run(Experiment(**settings, running=False))
    for _ in range(11):
        arrays, own_arrays = next(run)[0], next(own)[0]
    if norm == "layer":
        assert "acc_batch" not in arrays
    else:
        assert np.array_equal(arrays["acc_batch"], own_arrays["acc_test"])
        assert np.allclose(arrays["loss_batch"], own_arrays["loss_test"], rtol=1e-6)
        assert not np.array_equal(arrays["loss_batch"], arrays["loss_test"])


def test_one_test_between_two_that_went_well_is_not_all_that_is_told():
    """As on a stream that drifts in waves: what BatchNorm remembers fits every other test."""
    record = numbers(0.1, 0.97, steps=300)
    tests = np.array([0, 20, 50, 100, 200])
    right = np.array([0.1, 0.1, 0.96, 0.36, 0.96])[:, None].repeat(2, 1)
    record.extend({"test_step": tests, "acc_test": right, "acc_batch": np.full((5, 2), 0.96)})
    for step in (100, 200):
        assert verdict(record, step).kind == "stale"
    assert verdict(record).sentence.startswith("Stale BatchNorm: 76% right in the last tests, 96% with")
    assert verdict(record, 60).kind == "healthy"


def test_tests_leave_what_a_norm_remembers_alone():
    watched, blind = Run(Experiment(**SMALL)), Run(Experiment(**SMALL, record_every=0))
    for _ in range(12):
        next(watched), next(blind)
    for a, b in zip(watched.weights.buffers.values(), blind.weights.buffers.values(), strict=True):
        assert a.equal(b)


def test_a_verdict_is_a_value(record_of):
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict(record_of("healthy")).kind = "dead"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "less than 10⁻³⁷"),
        (1e-38, "less than 10⁻³⁷"),
        (3.2e-7, "3·10⁻⁷"),
        (0.031, "0.031"),
        (1, "1"),
        (24.4, "24"),
        (123.4, "123"),
        (1234, "1·10³"),
        (5e12, "5·10¹²"),
    ],
)
def test_factors_are_written_as_people_read_them(value, said):
    assert times(value) == said


@pytest.mark.parametrize("value", [96, 99.6, 250, 0.01, 0.5, 1, 3.14159])
def test_a_written_factor_is_the_factor(value):
    assert float(times(value)) == pytest.approx(value, rel=0.05)


def test_a_geometric_mean_skips_what_has_no_logarithm():
    assert mean_log(np.array([1.0, 100, 0, np.nan, np.inf])) == pytest.approx(10)
    assert mean_log(np.array([0.0, np.nan])) == 0
