"""Data, views, streams and shifts: each row does what it says, and its draws depend on the seed alone."""

import dataclasses

import numpy as np
import pytest
import torch
from rows import fitting
from sklearn import preprocessing
from torch.nn import functional as F

from lnres.data import DATA, SCALERS, SHIFTS, STREAMS, VIEWS, Batches
from lnres.experiment import Experiment
from lnres.models import MODELS
from lnres.record import PLANE_LEVELS, Record
from lnres.train import Run

SMALL = {"depth": 2, "width": 8, "batch": 16, "seeds": 2, "record_every": 0}


def run_of(steps=0, /, **settings):
    run = Run(Experiment(**fitting(SMALL | settings)))
    for _ in range(steps):
        next(run)
    return run


def same(a, b):
    return torch.equal(a.weights.flat, b.weights.flat)


# Noise of labels and inputs


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_label_noise_draws_its_share_anew_for_every_norm_alike(share):
    clean = Batches(Experiment(seeds=2))
    noisy = [Batches(Experiment(seeds=2, label_noise=share, norm=norm)) for norm in ("layer", "none")]
    changed = (noisy[0].y != clean.y).float().mean()
    assert float(changed) == pytest.approx(share * 0.9, abs=0.02)  # one in ten draws its old label
    assert torch.equal(noisy[0].y, noisy[1].y)
    assert torch.equal(noisy[0].test_y, clean.test_y)
    assert torch.equal(Batches(Experiment(seed=1, seeds=1, label_noise=share)).y[0], noisy[0].y[1])
    assert torch.equal(noisy[0].x, clean.x)


def test_input_noise_has_its_size_and_spares_the_test_set():
    b = Batches(Experiment(seeds=2))
    (clean, y), (noisy, same_y) = b(3, 400), b(3, 400, 0.5)
    added = noisy - clean
    assert torch.equal(y, same_y)
    assert float(added.std()) == pytest.approx(0.5, rel=0.02)
    assert abs(float(added.mean())) < 0.01
    assert not torch.equal(added[0], added[1])
    assert not torch.equal(added, b(4, 400, 0.5)[0] - b(4, 400)[0])
    assert torch.equal(run_of(noise=2.0).batches.test_x, run_of().batches.test_x)


# Data

SIZES = {  # training and test examples, features, classes
    "digits": (1297, 500, 64, 10),
    "wine": (120, 58, 13, 3),
    "wine_km": (120, 58, 13, 3),
    "identity": (4096, 512, 32, 0),
    "spirals": (700, 300, 2, 2),
    "moons": (700, 300, 2, 2),
    "circles": (700, 300, 2, 2),
    "xor": (700, 300, 2, 2),
}


@pytest.mark.parametrize("data", DATA)
def test_every_data_row_has_its_size_and_every_class(data):
    b, table = Batches(Experiment(data=data, seeds=2)), DATA[data].make
    train, test, features, classes = SIZES[data]
    assert (b.x.shape, b.test_x.shape) == ((2, train, features), (2, test, features))
    assert (table.train, table.test, table.features, table.classes) == SIZES[data]
    assert (b.features, b.outputs) == (features, classes or features)
    for y in (*b.y, *b.test_y) if classes else ():
        assert y.unique().tolist() == list(range(classes))
        assert y.bincount().min() > 0.6 * len(y) / classes


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("data", DATA)
def test_scalers_know_the_training_split_alone(data, scaler):
    """Against scikit-learn, fitted on the training split."""
    raw = Batches(Experiment(data=data, scaler="none", seeds=2))
    b = Batches(Experiment(data=data, scaler=scaler, seeds=2))
    slack = 0.01 if data == "digits" else 0.0
    fitted = {
        "none": preprocessing.FunctionTransformer,
        "unit": lambda: preprocessing.FunctionTransformer(lambda x: x / np.abs(train).max()),
        "z": preprocessing.StandardScaler,
        "minmax": preprocessing.MinMaxScaler,
        "robust": preprocessing.RobustScaler,
        "row": preprocessing.Normalizer,
    }[scaler]
    for k in range(2):
        train = raw.x[k].double().numpy()
        theirs = fitted().fit(train)
        for ours, x in ((b.x[k], train), (b.test_x[k], raw.test_x[k].double().numpy())):
            expected = theirs.transform(x)
            if scaler == "z":
                expected *= (train.std(0) > 0) * theirs.scale_ / (theirs.scale_ + slack)
            assert torch.isfinite(ours).all()
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("data", ["wine", "wine_km", "moons"])
def test_z_scores_have_mean_0_and_deviation_1(data):
    b = Batches(Experiment(data=data, seeds=2))
    torch.testing.assert_close(b.x.mean(1), torch.zeros_like(b.x[:, 0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(b.x.std(1, correction=0), torch.ones_like(b.x[:, 0]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_and_named(bad, monkeypatch):
    x, y = DATA["moons"].make()
    x[4, 1] = bad
    broken = dataclasses.replace(
        DATA["moons"], make=dataclasses.replace(DATA["moons"].make, func=lambda: (x, y))
    )
    monkeypatch.setitem(DATA._choices, "moons", broken)
    with pytest.raises(
        ValueError, match=f"data='moons': feature 2 of example 5 is {bad}; every value must be"
    ):
        run_of(data="moons")


def test_the_wines_in_other_units_are_the_same_wines():
    wine, other = (Batches(Experiment(data=data, scaler="none", seeds=1)) for data in ("wine", "wine_km"))
    factors = torch.tensor([1e-3, 1e6] + [1.0] * 11)
    torch.testing.assert_close(other.x, wine.x * factors)
    assert torch.equal(other.y, wine.y)


@pytest.mark.parametrize("data", DATA)
def test_a_network_learns_every_data_row(data):
    run = run_of(150, data=data, depth=4, width=32, batch=64, optimizer="adam", lr=5e-3)
    (loss, accuracy), (x, y) = run.test(), run.batches.test()
    run.weights.training = False
    with torch.no_grad():
        outputs = run.model(x)
    if data == "identity":
        assert float(loss.max()) < 0.3  # from about 2
        assert accuracy.isnan().all()
        losses = torch.stack([F.mse_loss(*pair) for pair in zip(outputs, x, strict=True)])
    else:
        assert float(accuracy.min()) > {"spirals": 0.75}.get(data, 0.85)
        losses = F.cross_entropy(outputs.transpose(1, 2), y, reduction="none").mean(1)
    torch.testing.assert_close(loss, losses, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaler", SCALERS)
def test_the_identity_is_of_what_the_network_sees(scaler):
    run = run_of(data="identity", scaler=scaler, noise=0.5)
    (clean, _), (x, y) = run.batches(0, 16), run.batches(0, 16, noise=0.5)
    assert torch.equal(y, clean)
    assert not torch.equal(x, y)
    assert torch.equal(*run.batches.test())
    assert np.isnan(next(run)[0]["acc_train"]).all()


# Views

CUT = {
    "vector": lambda x: x,
    "image": lambda x: x.view(-1, 64, 1),
    "rows": lambda x: torch.stack([x[:, 8 * i : 8 * i + 8] for i in range(8)], 1),
    "pixels": lambda x: x.view(-1, 64, 1),
    "patches": lambda x: F.unfold(x.view(-1, 1, 8, 8), 2, stride=2).mT,
}
SIGHTS = [(model, view) for model in MODELS for view in MODELS[model].make.views]


@pytest.mark.parametrize(("model", "view"), SIGHTS)
def test_a_view_cuts_the_same_examples(model, view):
    """Noise and all: what differs is only how they are looked at."""
    flat, cut = Batches(Experiment(seeds=2)), Batches(Experiment(model=model, view=view, seeds=2))
    for ours, theirs in ((cut(3, 5, 0.5), flat(3, 5, 0.5)), (cut.test(noise=0.5), flat.test(noise=0.5))):
        for k in range(2):
            assert torch.equal(ours[0][k], CUT[view](theirs[0][k]))
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize(("model", "view"), SIGHTS)
def test_every_model_trains_on_every_view_of_its_own(model, view):
    both = run_of(3, model=model, view=view, batch=4)
    alone = run_of(3, model=model, view=view, batch=4, seed=1, seeds=1).weights.named()
    assert all(torch.equal(v[1], alone[name][0][0]) for name, (v, _) in both.weights.named().items())
    own = run_of(3, model=model, batch=4)
    assert same(both, own) == (view == MODELS[model].make.views[0])
    sight = VIEWS[view].make
    assert both.experiment.positions == sight.positions
    h = both.model.enter(both.batches(0, 4)[0])
    assert h.shape == ((2, 4, sight.positions, 8) if sight.positions else (2, 4, 8))


# Streams


def labels_of(seed=3):
    return Batches(Experiment(seed=seed, seeds=1)).y[0]


@pytest.mark.parametrize("stream", STREAMS)
def test_a_member_sees_its_stream_whoever_else_there_is(stream):
    many, one = (Batches(Experiment(stream=stream, seed=s, seeds=n)) for s, n in ((2, 3), (3, 1)))
    for step in (0, 5, 300):
        (x, y), (x1, y1) = many(step, 16), one(step, 16)
        assert torch.equal(x[1], x1[0])
        assert torch.equal(y[1], y1[0])
        assert not torch.equal(x[0], x[1])


@pytest.mark.parametrize("size", [1, 8, 64, 1000, 1297])
def test_an_epoch_is_every_example_once(size):
    pick, labels = STREAMS["epochs"].make.pick, labels_of()
    steps = -(-2 * len(labels) // size)
    seen = torch.cat([pick(labels, 3, step, size) for step in range(steps)])
    first, second = seen[: len(labels)], seen[len(labels) : 2 * len(labels)]
    for order in (first, second):
        assert torch.equal(order.sort().values, torch.arange(len(labels)))
    assert not torch.equal(first, second)


def test_classes_come_four_batches_at_a_time():
    b = Batches(Experiment(stream="sorted", seeds=2))
    for step in (0, 3, 4, 39, 40, 163):
        assert (b(step, 8)[1] == step // 4 % 10).all()
    assert not torch.equal(b(0, 8)[0], b(1, 8)[0])
    labels = torch.tensor([0, 0, 2, 2, 2])  # a class that the training split lacks is left out
    assert set(STREAMS["sorted"].make.pick(labels, 0, 4, 50).tolist()) == {2, 3, 4}


def test_a_drifting_gain_waves_and_leaves_the_rest_alone():
    steady, drift = (Batches(Experiment(stream=stream, seeds=1)) for stream in ("random", "drift"))
    for step in (0, 37, 100, 150, 220):
        (x, y), (grown, same_y) = steady(step, 8), drift(step, 8)
        torch.testing.assert_close(grown, x * np.exp(1.5 * np.sin(2 * np.pi * step / 150)))
        assert torch.equal(y, same_y)
    assert torch.equal(steady.test()[0], drift.test()[0])


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_online_streams_are_predicted_before_they_are_learnt_from(stream, norm):
    run = run_of(3, stream=stream, norm=norm, dropout=0.3)
    x, y = run.batches(3, 16)
    loss, accuracy = run.judged(x, y)
    buffers = {name: value.clone() for name, value in run.weights.buffers.items()}
    run.judged(x, y)
    assert all(torch.equal(value, run.weights.buffers[name]) for name, value in buffers.items())
    seen = next(run)[0]
    assert ("acc_online" in seen) == STREAMS[stream].make.online
    if STREAMS[stream].make.online:
        np.testing.assert_array_equal(seen["acc_online"][0], accuracy)
        np.testing.assert_array_equal(seen["loss_online"][0], loss)
        assert not np.array_equal(seen["loss_online"], seen["loss_train"])  # which drops units
    assert same(run, run.fork(4))


def test_predicting_first_does_not_change_a_run():
    assert same(run_of(5, stream="iid", norm="batch"), run_of(5, norm="batch"))


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_diverged_run_goes_on_telling_its_online_loss():
    run, record = run_of(norm="none", lr=100, stream="iid", init="he", record_every=1), Record()
    for _ in range(40):
        record.extend(*next(run))
    assert all(run.diverged)
    assert record["loss_online"].shape == record["acc_online"].shape == record["loss_train"].shape
    assert np.isnan(record["loss_online"][-1]).all()


# Noise, contrast, brightness

SHIFTED = [{"noise": 0.3}, {"contrast": 5.0}, {"contrast_spread": 0.7}, {"brightness": 0.5}]


@pytest.mark.parametrize("where", SHIFTS)
@pytest.mark.parametrize("settings", SHIFTED, ids=str)
def test_a_shift_falls_on_the_inputs_it_is_for(settings, where):
    clean, run = run_of(), run_of(shift=where, **settings)
    train = run.batches(0, 16, **run.experiment.shifts("train"))[0]
    test = run.batches.test(**run.experiment.shifts("test"))[0]
    assert torch.equal(train, clean.batches(0, 16)[0]) == (where == "test")
    assert torch.equal(test, clean.batches.test()[0]) == (where == "train")
    assert torch.equal(test, run.batches.test(**run.experiment.shifts("test"))[0])
    assert torch.equal(run.test()[0], clean.test()[0]) == (where == "train")
    next(clean), next(run)
    assert same(clean, run) == (where == "test")


def test_contrast_and_brightness_are_a_factor_and_an_offset():
    b = Batches(Experiment(scaler="unit", seeds=2))
    x, _ = b(0, 400)
    torch.testing.assert_close(b(0, 400, contrast=5.0, brightness=0.5)[0], 5 * x + 0.5)
    ratio = (b(0, 400, contrast_spread=0.7)[0] / x).nan_to_num()
    factor = ratio.amax(-1, keepdim=True)  # the same for all pixels of an example
    torch.testing.assert_close(torch.where(x > 0, ratio, factor), factor.expand_as(x))
    assert float(factor.log().std()) == pytest.approx(0.7, rel=0.1)
    assert abs(float(factor.log().mean())) < 0.1
    assert not torch.equal(factor[0], factor[1])


@pytest.mark.parametrize("settings", SHIFTED, ids=str)
def test_arms_share_what_is_random_in_a_shift(settings):
    one, other = (
        Batches(Experiment(norm=norm, seed=s, seeds=n)) for norm, s, n in (("layer", 0, 2), ("none", 1, 1))
    )
    assert torch.equal(one(4, 8, **settings)[0][1], other(4, 8, **settings)[0][0])
    assert torch.equal(one.test(**settings)[0][1], other.test(**settings)[0][0])


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_an_unknown_gain_is_undone_by_a_layer_norm_behind_the_first_layer(norm):
    """K52: where no bias stands before it, LayerNorm cannot tell an example from a fifth of it."""
    run = run_of(norm=norm, placement="inner", residual="none", layers=1, scaler="unit", eps=1e-12)
    loss, _ = run.test()
    run.experiment = run.experiment.replace(contrast=0.2, shift="test")
    assert torch.allclose(run.test()[0], loss, rtol=1e-4) == (norm == "layer")


# The plane


@pytest.mark.parametrize("data", DATA)
def test_only_points_of_the_plane_are_drawn(data):
    seen = next(run_of(data=data, record_every=10))[0]
    assert ("regions" in seen) == ("point_x" in seen) == (DATA[data].make.features == 2)


@pytest.mark.parametrize("data", [data for data in DATA if DATA[data].make.drawable])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_regions_are_what_the_first_member_answers(data, norm):
    run, record = run_of(data=data, norm=norm, record_every=10, optimizer="adam", lr=0.01), Record()
    plain = run_of(51, data=data, norm=norm, optimizer="adam", lr=0.01)
    for _ in range(50):
        record.extend(*next(run))
    x, y = (torch.from_numpy(record[name][0]) for name in ("plane_x", "plane_y"))
    i, j = torch.arange(0, 32, 5), torch.arange(1, 32, 5)
    points = torch.cartesian_prod(x[i], y[j])
    with torch.no_grad(), run.mode(training=False):
        chance = run.model(points.expand(2, -1, -1))[0].softmax(-1)[:, 1].view(len(i), len(j)).numpy()
    record.extend(*next(run))
    assert same(run, plain)
    assert record["regions"].shape == (4, 32, 32)  # at steps 0, 10, 20 and 50
    cells = record["regions"][-1][i][:, j]
    assert ((cells >= PLANE_LEVELS) == (chance > 0.5)).all()
    sure = cells % PLANE_LEVELS / PLANE_LEVELS
    np.testing.assert_allclose(sure, abs(2 * chance - 1), atol=1 / PLANE_LEVELS)
    assert len(record["point_x"]) == 1
    shown = np.stack([record["point_x"][0], record["point_y"][0]], 1)
    np.testing.assert_array_equal(shown, run.batches.x[0, : len(shown)])
    np.testing.assert_array_equal(record["point_class"][0], run.batches.y[0, : len(shown)])
    assert (shown > [x.min(), y.min()]).all()
    assert (shown < [x.max(), y.max()]).all()


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_diverged_network_still_draws_a_plane():
    run = run_of(60, data="moons", norm="none", lr=100, init="he", record_every=10)
    assert run.diverged[0]
    assert not run._draw()["regions"].any()
