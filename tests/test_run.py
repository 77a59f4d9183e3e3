"""A run replays bit for bit, whoever else trains, looks, pauses or forks."""

import math

import numpy as np
import pytest
import torch
from rows import PAIRS, RATES, fitting
from torch.nn import functional as F

from lnres import train
from lnres.data import DATA, SCALERS, Batches
from lnres.experiment import Experiment
from lnres.layers import ACTIVATIONS, generator
from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS
from lnres.residuals import RESIDUALS
from lnres.train import KEEP_EVERY, Run
from tests.bench.gpu import gpu

SMALL = {"depth": 2, "width": 8, "batch": 16}
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def experiment(**settings):
    rate = RATES.get(settings.get("optimizer", "sgd"), 1e-3)
    return Experiment(**({"lr": rate, "seeds": 2, "record_every": 0} | fitting(SMALL | settings)))


def trained(e, steps):
    run = Run(e)
    for _ in range(steps):
        next(run)
    return run


ROWS = [{"residual": name} for name in RESIDUALS] + [{"activation": name} for name in ACTIVATIONS]


def losses(run, steps):
    return np.concatenate([next(run)[0]["loss_train"] for _ in range(steps)])


def state(run):
    """Everything that training has changed."""
    weights = {name: value.clone() for name, (value, _) in run.weights.named().items()}
    return weights | {name: value.clone() for name, value in run.weights.buffers.items()}


def same(a, b):
    a, b = state(a), state(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def part(run, member):
    return {name: value[member] for name, value in state(run).items()}


def spoil(run, member, name="blocks.0.first.weight"):
    run.weights.named()[name][0][member] = math.inf


# Members


def check_members(together, steps=30, members=None):
    curves = losses(together, steps)
    assert np.isfinite(curves).all()
    e = together.experiment
    for k in members or range(e.seeds):
        alone = Run(e.replace(seed=e.seed + k, seeds=1))
        assert np.array_equal(curves[:, k], losses(alone, steps)[:, 0])
        mine, whole = part(alone, 0), part(together, k)
        assert all(torch.equal(mine[name], whole[name]) for name in mine)


@pytest.mark.parametrize(("optimizer", "norm"), PAIRS)
def test_a_member_equals_the_run_of_its_seed_alone(optimizer, norm):
    check_members(Run(experiment(optimizer=optimizer, norm=norm, seed=5, seeds=8)), members=(0, 3, 7))


@pytest.mark.parametrize(("optimizer", "norm"), PAIRS)
def test_a_member_equals_the_run_of_its_seed_alone_at_the_labs_width(optimizer, norm):
    rate, size = min(0.01, RATES.get(optimizer, 1e-3)), 4 if norm == "instance" else 64
    e = experiment(optimizer=optimizer, norm=norm, lr=rate, seeds=8, depth=4, width=64, batch=size)
    check_members(Run(e), 12, members=(0, 5))


@pytest.mark.parametrize(("width", "batch"), [(3, 5), (7, 16), (10, 33), (17, 1), (33, 64), (50, 20)])
def test_a_member_equals_the_run_of_its_seed_alone_at_odd_shapes(width, batch):
    check_members(Run(experiment(width=width, batch=batch, seeds=8)), members=(0, 3, 7))


@pytest.mark.parametrize("settings", ROWS, ids=str)
def test_a_member_equals_the_run_of_its_seed_alone_for_every_row(settings):
    check_members(Run(experiment(seeds=3, **settings)))


@pytest.mark.parametrize("model", ["mlp", "conv"])
@pytest.mark.parametrize("settings", ROWS, ids=str)
def test_no_function_of_a_member_depends_on_where_the_member_lies(settings, model):
    """Where neither a member nor a batch fills whole vectors."""
    e = experiment(model=model, width=5, batch=7, seeds=3, **{"activation": "gelu"} | settings)
    check_members(Run(e), steps=3, members=(0, 2))


@pytest.mark.parametrize("norm", NORMS)
def test_a_diverged_member_leaves_the_others_alone(norm):
    healthy, sick = (Run(experiment(norm=norm, seeds=3)) for _ in range(2))
    spoil(sick, 1)
    a, b = losses(healthy, 12), losses(sick, 12)
    assert np.isfinite(a).all()
    assert np.isnan(b[:, 1]).all()
    assert np.array_equal(a[:, [0, 2]], b[:, [0, 2]])


@pytest.mark.parametrize("block", [1, 2])
def test_divergence_is_an_event_that_names_seed_step_and_first_block(block):
    run = trained(experiment(seed=7, seeds=3, norm="none"), 4)
    spoil(run, 2, f"blocks.{block - 1}.first.weight")
    (event,) = next(run)[1]["events"]
    assert (event["kind"], event["step"], event["member"], event["block"]) == ("diverged", 4, 2, block)
    assert all(word in event["text"] for word in ("seed 9", "step 4", f"block {block}"))
    assert next(run)[1]["events"] == []


@pytest.mark.parametrize(("name", "place"), [("stem.weight", "the stem"), ("head.weight", "the head")])
def test_divergence_outside_the_blocks_is_named_too(name, place):
    run = Run(experiment(final_norm=False))
    spoil(run, 0, name)
    (event,) = next(run)[1]["events"]
    assert place in event["text"]


def test_a_rate_that_is_too_high_diverges_by_itself():
    run = Run(experiment(lr=100, norm="none", activation="identity"))
    frames = [next(run) for _ in range(60)]
    events = [event for _, header in frames for event in header["events"]]
    assert sorted(event["member"] for event in events) == [0, 1]
    assert np.isnan(frames[-1][0]["loss_train"]).all()
    assert run.step == 60


# Replay


@pytest.mark.parametrize(("optimizer", "norm"), PAIRS)
def test_a_new_run_replays_exactly(optimizer, norm):
    e = experiment(optimizer=optimizer, norm=norm)
    assert same(trained(e, 10), trained(e, 10))


@pytest.mark.parametrize("norm", NORMS)
def test_recording_does_not_change_a_run(norm):
    every, never = (trained(experiment(norm=norm, record_every=k), 25) for k in (1, 0))
    assert same(every, never)


def test_looking_at_the_test_set_does_not_change_a_run():
    a, b = (Run(experiment(norm="batch")) for _ in range(2))
    for _ in range(5):
        next(a), a.test()
        next(b)
    assert same(a, b)


def test_other_runs_and_random_draws_do_not_change_a_run():
    alone = trained(experiment(), 10)
    run, other = Run(experiment()), Run(experiment(seed=9, norm="batch", optimizer="adam"))
    for step in range(10):
        torch.manual_seed(step)
        torch.randn(10)
        np.random.default_rng(step).normal()
        next(other)
        next(run)
    assert same(run, alone)


@pytest.mark.parametrize(("optimizer", "norm"), PAIRS)
def test_a_checkpoint_goes_on_bit_for_bit(optimizer, norm):
    e = experiment(optimizer=optimizer, norm=norm, weight_decay=0.01)
    run = trained(e, 7)
    twin = Run(e).restore(*run.checkpoint())
    assert twin.step == 7
    assert np.array_equal(losses(run, 8), losses(twin, 8))
    assert same(run, twin)


def test_a_checkpoint_is_a_copy():
    run = trained(experiment(optimizer="adam"), 3)
    arrays, _ = run.checkpoint()
    before = {name: array.copy() for name, array in arrays.items()}
    next(run)
    assert all(np.array_equal(arrays[name], before[name]) for name in before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_survives_being_restored_and_used(optimizer):
    e = experiment(optimizer=optimizer)
    kept = trained(e, 3).checkpoint()
    once, twice = (Run(e).restore(*kept) for _ in range(2))
    next(once)
    next(twice)
    assert same(once, twice)
    assert same(Run(e).restore(*kept), trained(e, 3))


# Forks and changes


@pytest.mark.parametrize("step", [0, 1, KEEP_EVERY - 1, KEEP_EVERY, KEEP_EVERY + 30])
def test_a_fork_without_changes_equals_the_original(step):
    e = experiment(optimizer="adam", norm="batch")
    run = trained(e, KEEP_EVERY + 30)
    fork = run.fork(step)
    assert fork.step == step
    assert same(fork, trained(e, step))
    for _ in range(run.step - step):
        next(fork)
    assert same(fork, run)


def test_a_fork_of_an_unround_rate_equals_the_original():
    e = experiment(lr=0.0123456789)
    run = trained(e, 30)
    assert same(run.fork(30), run)


def test_a_fork_replays_the_changes_made_on_the_way():
    run = trained(experiment(), 5)
    run.change(lr=0.2)
    for _ in range(5):
        next(run)
    assert same(run.fork(10), run)
    assert run.fork(10).experiment == run.experiment


def test_a_fork_behind_a_change_knows_nothing_of_it():
    run = trained(experiment(), 5)
    run.change(lr=0.2)
    next(run)
    assert run.fork(3).experiment == experiment()


def test_a_fork_leaves_the_original_alone():
    run = trained(experiment(), 6)
    fork = run.fork(3, lr=0.5)
    losses(fork, 5)
    assert same(run, trained(experiment(), 6))
    assert run.experiment == experiment()


def test_a_fork_goes_its_own_way_from_its_step_on():
    run = trained(experiment(), 6)
    fork = run.fork(4, lr=0.5)
    assert same(fork, trained(experiment(), 4))
    assert [event["name"] for event in next(fork)[1]["events"]] == ["lr"]
    next(fork)
    assert not same(fork, run)


@pytest.mark.parametrize("step", [-1, 7])
def test_a_fork_from_where_the_run_has_not_been_is_refused(step):
    with pytest.raises(ValueError, match=rf"step={step}: choose a step from 0 to 6"):
        trained(experiment(), 6).fork(step)


def test_a_long_run_keeps_little_and_forks_anywhere(monkeypatch):
    e = experiment(depth=1, width=2, batch=2, seeds=1)
    size = sum(array.nbytes for array in trained(e, 1).checkpoint()[0].values())
    monkeypatch.setattr(train, "KEEP_BYTES", 3 * size)
    run = trained(e, 850)
    assert len(run.kept) == 3
    for step in (40, 420, 830):
        assert same(run.fork(step), trained(e, step))


def test_a_fork_of_a_fork_equals_the_original():
    run = trained(experiment(), KEEP_EVERY + 20)
    assert same(run.fork(KEEP_EVERY + 10).fork(5), trained(experiment(), 5))


def test_a_checkpoint_of_a_changed_run_goes_on_with_the_change():
    run = trained(experiment(), 5)
    run.change(lr=0.2)
    next(run)
    twin = Run(run.first).restore(*run.checkpoint())
    assert twin.experiment == run.experiment
    assert np.array_equal(losses(run, 5), losses(twin, 5))


def test_a_change_is_told_once_however_often_it_is_restored():
    run = trained(experiment(), 5)
    run.change(lr=0.2)
    next(run)
    assert next(Run(run.first).restore(*run.checkpoint()))[1]["events"] == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_change_of_rate_takes_effect_at_the_next_step(optimizer):
    run, slow = (trained(experiment(optimizer=optimizer), 3) for _ in range(2))
    before = state(run)
    run.change(lr=0.0)
    (event,) = next(run)[1]["events"]
    assert all(torch.equal(value, before[name]) for name, value in state(run).items())
    next(slow)
    assert not same(run, slow)
    assert (event["step"], event["kind"], event["name"], event["value"]) == (3, "change", "lr", 0.0)
    assert event["text"] == "lr = 0 from step 3 on"


def test_a_change_of_momentum_reaches_the_optimizer():
    run = trained(experiment(momentum=0.9), 3)
    run.change(momentum=0.0)
    before = state(run)
    next(run)
    for name, value in state(run).items():
        torch.testing.assert_close(value, before[name] - 0.05 * run.weights.named()[name][1])


def test_a_change_of_batch_size_takes_effect_at_the_next_step():
    run = trained(experiment(), 3)
    run.change(batch=4)
    x, y = run.batches(3, 4)
    expected = F.cross_entropy(run.model(x)[0], y[0])
    assert float(next(run)[0]["loss_train"][0, 0]) == pytest.approx(float(expected.detach()), abs=1e-5)


@pytest.mark.parametrize(("name", "value"), [("depth", 3), ("norm", "rms"), ("seed", 1), ("nonsense", 1)])
def test_only_live_knobs_can_change(name, value):
    run = Run(experiment())
    with pytest.raises(ValueError, match=rf"only .*lr.* can change while a run goes on, not {name}"):
        run.change(**{name: value})


def test_a_refused_change_changes_nothing():
    run = Run(experiment())
    with pytest.raises(ValueError, match="lr"):
        run.change(momentum=0.5, lr=-1)
    assert run.experiment == experiment()
    assert next(run)[1]["events"] == []


# Against torch


@pytest.mark.parametrize(("optimizer", "norm"), PAIRS)
def test_losses_equal_a_loop_written_by_hand(optimizer, norm, by_hand, torch_optimizers):
    """Without the final norm: a bias that it erases has a gradient of rounding noise, which Adam blows up."""
    run = Run(experiment(optimizer=optimizer, norm=norm, weight_decay=0.02, final_norm=False))
    e = run.experiment
    nets = [by_hand(run.weights, e, k) for k in range(e.seeds)]
    steppers = [torch_optimizers[optimizer](net, e) for net in nets]
    for step in range(10):
        x, y = run.batches(step, e.batch)
        arrays, _ = next(run)
        for k, (net, stepper) in enumerate(zip(nets, steppers, strict=True)):
            logits = net(x[k])
            loss = F.cross_entropy(logits, y[k])
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            assert float(arrays["loss_train"][0, k]) == pytest.approx(float(loss.detach()), abs=1e-5)
            right = (logits.argmax(1) == y[k]).float().mean()
            assert float(arrays["acc_train"][0, k]) == pytest.approx(float(right))


@pytest.mark.parametrize("norm", NORMS)
def test_the_test_loss_is_torchs_in_evaluation_mode(norm, by_hand):
    run = trained(experiment(norm=norm), 5)
    (loss, accuracy), (x, y) = run.test(), run.batches.test()
    for k in range(2):
        net = by_hand(run.weights, run.experiment, k)
        for name, buffer in run.weights.buffers.items():
            path, kind = name.rsplit(".", 1)
            getattr(net.get_submodule(path), kind).copy_(buffer[k, 0])
        logits = net.eval()(x[k]).detach()
        assert float(loss[k]) == pytest.approx(float(F.cross_entropy(logits, y[k])), abs=1e-5)
        right = (logits.argmax(1) == y[k]).float().mean()
        assert float(accuracy[k]) == pytest.approx(float(right), abs=1 / 400)


def test_it_learns():
    run = Run(Experiment(depth=4, width=32, seeds=2, optimizer="adam", lr=3e-3, record_every=0))
    losses(run, 80)
    assert run.test()[1].min() > 0.85


# Frames, limits, data


def test_a_run_counts_its_updates():
    run = Run(experiment(record_every=10))
    steps = [int(next(run)[0]["step"][0]) for _ in range(5)]
    assert steps == [0, 1, 2, 3, 4]
    assert run.step == 5


def test_early_steps_are_recorded_densely_and_later_ones_every_so_often():
    run = Run(experiment(record_every=10))
    seen = [int(a["probe_step"][0]) for a, _ in (next(run) for _ in range(61)) if "probe_step" in a]
    assert seen == [*range(20), 20, 30, 40, 50, 60]


def test_what_costs_too_much_is_refused_with_the_number_and_the_limit():
    limit = r"one step would take [\d,]+ GFLOP and [\d.]+ GiB; the limit is 200 GFLOP and 4 GiB"
    with pytest.raises(ValueError, match=limit):
        Run(Experiment(depth=1000, width=1024, seeds=64))


def test_a_change_that_costs_too_much_is_refused():
    run = Run(Experiment(depth=1000, width=32, batch=2, seeds=16, layers=1))
    with pytest.raises(ValueError, match="the limit is"):
        run.change(batch=1024)
    assert run.experiment.batch == 2


@NO_GPU
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="device='cuda': this machine has no GPU"):
        Run(experiment(device="cuda"))


@NO_GPU
def test_the_bench_of_a_gpu_says_that_there_is_none():
    assert gpu() == {"device": "no GPU that torch can use: nothing was measured"}


@pytest.mark.parametrize("data", DATA)
def test_batches_depend_on_seed_and_step_alone(data):
    many = Batches(Experiment(data=data, seed=4, seeds=3))
    one = Batches(Experiment(data=data, seed=6, seeds=1, norm="none", depth=3))
    torch.manual_seed(0)
    for step in (0, 7):
        x, y = many(step, 16)
        assert torch.equal(x[2], one(step, 16)[0][0])
        assert torch.equal(y[2], one(step, 16)[1][0])
    assert not torch.equal(many(0, 16)[1], many(1, 16)[1])
    assert not torch.equal(many(0, 16)[1][0], many(0, 16)[1][1])


def test_the_split_is_a_split():
    raw, labels = DATA["digits"].make()
    b = Batches(Experiment(scaler="none", seeds=2))
    assert (b.x.shape, b.test_x.shape) == ((2, 1297, 64), (2, 500, 64))
    for k in range(2):
        whole = np.concatenate([np.c_[b.x[k], b.y[k]], np.c_[b.test_x[k], b.test_y[k]]])
        assert np.array_equal(np.unique(whole, axis=0), np.unique(np.c_[raw, labels], axis=0))
        assert len(whole) == len(raw)
    assert not torch.equal(b.test_y[0], b.test_y[1])


@pytest.mark.parametrize("scaler", SCALERS)
def test_scaling_looks_at_training_data_only(scaler):
    train, x = np.random.default_rng(0).uniform(1, 5, (30, 4)), np.full((2, 4), 1000.0)
    scale = SCALERS[scaler].make
    assert np.array_equal(scale(train, x), scale(train, np.concatenate([x, train]))[:2])


def test_z_scores_of_the_digits():
    b = Batches(Experiment(scaler="z", seeds=1))
    constant = b.x[0].std(0) == 0
    assert b.x[0].mean(0).abs().max() < 1e-4
    assert b.x[0][:, ~constant].std(0).max() < 1.001
    assert not b.x[0][:, constant].any()
    assert torch.isfinite(b.test_x).all()


def test_every_seed_draws_its_own_batches():
    picked = torch.randint(1297, (16,), generator=generator(3, "batch", 5))
    b = Batches(Experiment(seed=3, seeds=1))
    assert torch.equal(b(5, 16)[1][0], b.y[0][picked])


def test_a_run_ends_with_its_steps_and_can_go_on():
    run = Run(experiment(steps=3))
    assert [int(arrays["step"][0]) for arrays, _ in run] == [0, 1, 2]
    assert next(run)[0]["step"] == 3
