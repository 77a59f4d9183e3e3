"""Options of training and of data: each does what it says, per member, and replays exactly."""

import numpy as np
import pytest
import torch
from rows import fitting
from torch.nn import functional as F
from torch.optim import lr_scheduler as torch_schedules

from lnres.experiment import FIELDS, Experiment
from lnres.layers import Dropout, Weights
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.optim import SCHEDULES, learning_rate
from lnres.train import KEEP_EVERY, Run

SMALL = {"depth": 2, "width": 8, "batch": 16, "seeds": 2, "record_every": 0}
RANDOM = [
    {"dropout": 0.3},
    {"drop_path": 0.3},
    {"noise": 0.5},
    {"contrast_spread": 0.7},
    {"label_noise": 0.3},
]


def run_of(steps=0, /, **settings):
    run = Run(Experiment(**fitting(SMALL | settings)))
    for _ in range(steps):
        next(run)
    return run


def weights_of(run):
    return {name: value.detach().clone() for name, (value, _) in run.weights.named().items()}


def same(a, b):
    return torch.equal(a.weights.flat, b.weights.flat)


# Evaluation


@pytest.mark.parametrize("running", [True, False])
def test_a_run_is_tested_with_the_statistics_it_is_told(running):
    """Running ones, or those of the whole test split as one batch, as in training."""
    run = run_of(5, norm="batch", running=running)
    loss = run.test()[0]
    run.weights.training = True
    logits = run.model(run.batches.test_x)
    as_trained = F.cross_entropy(logits.transpose(1, 2), run.batches.test_y, reduction="none").mean(1)
    assert torch.allclose(loss, as_trained.detach(), rtol=1e-5) != running


# Schedules


def of_torch(e, optimizer):
    """torch's schedulers for schedule and warm-up; all act on the rate as it stands, so they multiply."""
    milestones = [-(-e.steps // 2), -(-3 * e.steps // 4)]
    schedule = {
        "constant": lambda: torch_schedules.ConstantLR(optimizer, 1.0),
        "cosine": lambda: torch_schedules.CosineAnnealingLR(optimizer, e.steps),
        "step": lambda: torch_schedules.MultiStepLR(optimizer, milestones),
    }[e.schedule]()
    if e.warmup < 2:
        return schedule
    warmup = torch_schedules.LinearLR(optimizer, 1 / e.warmup, total_iters=e.warmup - 1)
    return torch_schedules.ChainedScheduler([schedule, warmup])


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("steps", [20, 31])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_torchs(schedule, steps, warmup):
    e = Experiment(schedule=schedule, steps=steps, warmup=warmup, lr=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], e.lr)
    theirs = of_torch(e, optimizer)
    for step in range(steps):
        assert learning_rate(step, e) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_follows_its_schedule_and_its_changes(schedule):
    run = run_of(schedule=schedule, steps=12, warmup=3, momentum=0, norm="none")
    for step in range(12):
        if step == 6:
            run.change(lr=0.01)
        before = weights_of(run)
        next(run)
        rate = learning_rate(
            step, Experiment(schedule=schedule, steps=12, warmup=3, lr=0.05 if step < 6 else 0.01)
        )
        for name, (value, gradient) in run.weights.named().items():
            torch.testing.assert_close(value.detach(), before[name] - rate * gradient)


def test_beyond_its_last_step_a_cosine_stays_at_zero():
    assert learning_rate(25, Experiment(schedule="cosine", steps=20)) == 0


# Clipping


def test_clipping_is_torchs_for_each_member_and_leaves_the_small_alone():
    run, plain = run_of(seeds=3), run_of(seeds=3)
    next(plain)
    norms = [torch.cat([g[k].flatten() for _, g in plain.weights.named().values()]).norm() for k in range(3)]
    limit = float(sorted(norms)[1])  # one member lies above, one at it, one below
    run.change(clip=limit)
    next(run)
    for k in range(3):
        named = plain.weights.named()
        theirs = [torch.nn.Parameter(torch.zeros_like(g[k])) for _, g in named.values()]
        for p, (_, g) in zip(theirs, named.values(), strict=True):
            p.grad = g[k].clone()
        torch.nn.utils.clip_grad_norm_(theirs, limit)
        for p, (_, ours) in zip(theirs, run.weights.named().values(), strict=True):
            torch.testing.assert_close(ours[k], p.grad, rtol=1e-5, atol=1e-8)
    low = int(torch.stack(norms).argmin())
    for name, (_, gradient) in run.weights.named().items():
        assert torch.equal(gradient[low], plain.weights.named()[name][1][low])


def test_clipping_is_told_once_when_it_bites():
    run = run_of(clip=1e-3)
    told = [event for _ in range(4) for event in next(run)[1]["events"]]
    assert [(event["kind"], event["step"]) for event in told] == [("clip", 0)]
    assert "clipping begins at step 0" in told[0]["text"]
    assert "cut to 0.001" in told[0]["text"]
    assert next(Run(run.first).restore(*run.checkpoint()))[1]["events"] == []
    assert run_of(1, clip=1e6)._clipped is False


def test_a_member_that_diverged_does_not_silence_the_clipping_of_others():
    run = run_of(seeds=2, norm="none", clip=1e-3)
    run.weights.named()["blocks.0.first.weight"][0].data[0] = torch.inf
    assert {event["kind"] for event in next(run)[1]["events"]} == {"clip", "diverged"}


def test_a_clipped_member_equals_its_single_run():
    both, alone = run_of(5, clip=0.1), run_of(5, clip=0.1, seed=1, seeds=1)
    assert all(torch.equal(v[1], weights_of(alone)[name][0]) for name, v in weights_of(both).items())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("settings", [{"optimizer": "sgd"}, {"optimizer": "rmsprop", "lr": 1e-3}], ids=str)
def test_a_clipped_member_of_a_crowd_equals_its_single_run(settings, model):
    settings = settings | {"model": model, "width": 20, "batch": 9, "clip": 1.0, "norm": "scale"}
    many, alone = run_of(12, **settings, seeds=5), run_of(12, **settings, seed=3, seeds=1)
    assert all(torch.equal(v[3], weights_of(alone)[name][0]) for name, v in weights_of(many).items())


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "rmsprop"])
def test_momentum_may_begin_later(optimizer):
    """From rest at step 3, as torch's optimizer from the weights of that step."""
    run = run_of(3, optimizer=optimizer, momentum=0, lr=1e-3)
    run.change(momentum=0.9)
    nesterov = {"nesterov": True} if optimizer == "nesterov" else {}
    kind = torch.optim.RMSprop if optimizer == "rmsprop" else torch.optim.SGD
    p = torch.nn.Parameter(run.weights.flat.detach().clone())
    theirs = kind([p], 1e-3, momentum=0.9, **nesterov)
    if optimizer == "rmsprop":  # which remembers the squares of steps 0 to 2
        state = run.optimizer.state_dict()["state"][0]
        theirs.state[p] = {name: value.clone() for name, value in state.items()} | {"step": torch.zeros(())}
    for _ in range(3):
        next(run)
        p.grad = run.weights.grad.clone()
        theirs.step()
    torch.testing.assert_close(run.weights.flat.detach(), p.detach(), rtol=1e-5, atol=1e-7)
    twin = Run(run.first).restore(*run.checkpoint())
    next(run), next(twin)
    assert same(run, twin)


# Dropout and drop path


def dropped(knob, share, training=True):
    weights = Weights(range(3))
    weights.live, weights.training, weights.step = {knob: share}, training, 4
    layer = Dropout(weights, "layer", knob, tuple if knob == "dropout" else lambda s: (s[0], 1))
    return layer(torch.ones(3, 200, 300))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_takes_its_share_and_scales_the_rest(share):
    y = dropped("dropout", share)
    assert float((y == 0).float().mean()) == pytest.approx(share, abs=0.01)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - share)))
    assert not torch.equal(y[0], y[1])


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_c31_dropout_shifts_the_variance_between_training_and_testing(share):
    """Of ReLU(N(0, 1)), which BatchNorm's running statistics remember from training."""
    x = torch.relu(torch.randn(1, 1000, 1000, generator=torch.Generator().manual_seed(0)))
    weights = Weights([0])
    weights.live, drop = {"dropout": share}, Dropout(weights, "layer", "dropout")
    trained = drop(x).var()
    weights.training = False
    mean = 1 / (2 * torch.pi)
    expected = (0.5 - mean) / (0.5 / (1 - share) - mean)
    assert float(drop(x).var() / trained) == pytest.approx(expected, rel=0.015)


def test_drop_path_takes_whole_examples():
    y = dropped("drop_path", 0.4)
    assert torch.equal(y, y[..., :1].expand_as(y))
    assert float((y == 0).float().mean()) == pytest.approx(0.4, abs=0.08)
    assert float(y.max()) == pytest.approx(1 / 0.6)


@pytest.mark.parametrize("knob", ["dropout", "drop_path"])
def test_nothing_is_dropped_in_evaluation(knob):
    assert torch.equal(dropped(knob, 0.5, training=False), torch.ones(3, 200, 300))
    run = run_of(3, **{knob: 0.5})
    expected = run.test()[0]
    run.weights.live = {}
    assert torch.equal(run.test()[0], expected)


def test_a_dropped_branch_without_a_skip_leaves_nothing():
    run = run_of(drop_path=0.5, batch=64, residual="none")
    run.weights.live = {"drop_path": 0.5}
    h = run.model.blocks[0](run.model.enter(run.batches(0, 64)[0]))
    gone = (h == 0).all(-1)
    assert 0.3 < float(gone.float().mean()) < 0.7
    assert "without a skip" in FIELDS["drop_path"].metadata["about"]


def test_a_dropped_branch_leaves_its_skip():
    """An example whose branch is dropped keeps its state, the others' branches count more."""
    run = run_of(drop_path=0.5, batch=64)
    run.weights.live = {"drop_path": 0.5}
    h = run.model.enter(run.batches(0, 64)[0])
    block = run.model.blocks[0]
    moved = block(h) - h
    run.weights.live = {}
    whole = block(h) - h
    gone = (moved == 0).all(-1)
    assert 0.3 < float(gone.float().mean()) < 0.7
    torch.testing.assert_close(moved[~gone], 2 * whole[~gone], rtol=1e-4, atol=1e-5)


def test_every_block_and_step_has_a_mask_of_its_own():
    weights = Weights([0])
    weights.live, seen = {"dropout": 0.5}, set()
    for name in ("blocks.0", "blocks.1"):
        for weights.step in (0, 1):
            seen.add(tuple(Dropout(weights, name, "dropout")(torch.ones(1, 1, 40)).flatten().tolist()))
    assert len(seen) == 4


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("settings", RANDOM, ids=str)
def test_a_member_equals_its_single_run_and_a_replay_its_original(settings, model):
    both, alone = run_of(6, **settings, model=model), run_of(6, **settings, model=model, seed=1, seeds=1)
    assert all(torch.equal(v[1], weights_of(alone)[name][0]) for name, v in weights_of(both).items())
    assert same(both, both.fork(6))
    assert same(both, run_of(6, **settings, model=model, record_every=1))
    assert not same(both, run_of(6, model=model))


@pytest.mark.parametrize("settings", RANDOM[:4], ids=str)
def test_a_live_change_takes_effect_at_the_next_step_and_replays(settings):
    run, plain = run_of(4), run_of(4)
    run.change(**settings)
    assert same(run, plain)
    ((name, value),) = settings.items()
    (event,) = next(run)[1]["events"]
    assert (event["kind"], event["name"], event["value"], event["step"]) == ("change", name, value, 4)
    next(plain)
    assert not same(run, plain)
    assert same(run.fork(5), run)


def test_a_fork_from_a_checkpoint_drops_what_the_original_dropped():
    run = run_of(KEEP_EVERY + 6, dropout=0.2, depth=1)
    assert same(run.fork(KEEP_EVERY + 6), run)


# What cannot be


REFUSED = [
    ({"data": "wine", "batch": 121}, r"batch=121: wine has 120 training examples; choose at most 120"),
    ({"data": "moons", "batch": 1024}, r"batch=1024: moons has 700 training examples; choose at most 700"),
    ({"norm": "group", "groups": 3}, r"groups=3: width=8 .*choose one of 1, 2, 4, 8"),
    ({"model": "transformer", "heads": 3}, r"heads=3: width=8 .*choose one of 1, 2, 4, 8"),
    (
        {"norm": "instance", "model": "mlp"},
        r"norm='instance': model=mlp has no positions .*choose model=conv",
    ),
    ({"model": "conv", "data": "wine"}, r"model='conv': wine has 13 features, .*choose data=digits"),
    (
        {"model": "transformer", "data": "xor"},
        r"model='transformer': xor has 2 features, .*choose data=digits",
    ),
    ({"view": "rows"}, r"view='rows': model=mlp does not look at it so; choose one of auto, vector"),
    (
        {"data": "identity", "label_noise": 0.1},
        r"label_noise=0.1: identity has no classes; choose data=digits",
    ),
    (
        {"data": "identity", "stream": "sorted"},
        r"stream='sorted': identity has no classes; choose data=digits",
    ),
    (
        {"model": "lstm", "norm": "instance", "placement": "inner"},
        r"norm='instance': inside a recurrence \(placement=inner\) .*choose placement=pre, post",
    ),
    (
        {"model": "gru", "norm": "rms", "placement": "activated", "zero_last": True},
        r"zero_last=true: the branch starts at zero, .*1/√ε at every time step; choose placement=pre",
    ),
    (
        {"model": "conv", "stages": 3, "depth": 3, "width": 512},
        r"stages=3: width=512 doubles to 2048 features; the limit is 1024: choose width=256 or less",
    ),
    ({"model": "gru", "data": "wine"}, r"model='gru': wine has 13 features, .*choose data=digits"),
]


@pytest.mark.parametrize(("settings", "said"), REFUSED, ids=str)
def test_what_does_not_fit_is_refused_in_one_sentence(settings, said):
    with pytest.raises(ValueError, match=said) as caught:
        Run(Experiment(**(SMALL | settings)))
    assert "\n" not in str(caught.value)


def test_a_batch_cannot_grow_beyond_the_data_while_a_run_goes_on():
    run = run_of(2, data="wine")
    with pytest.raises(ValueError, match="batch=500: wine has 120 training examples; choose at most 120"):
        run.change(batch=500)
    assert run.experiment.batch == 16


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", ["conv", "transformer"])
def test_models_of_images_learn(model, norm):
    """A single step down the gradient of one batch lowers that batch's loss."""
    run = run_of(model=model, norm=norm, seeds=2, lr=0.02, momentum=0, placement="pre")
    x, y = run.batches(0, 16)
    before = next(run)[0]["loss_train"][0]
    after = F.cross_entropy(run.model(x).transpose(1, 2), y, reduction="none").mean(1).detach().numpy()
    assert (after < before).all()


# Skips and norms that are weakened while a run goes on


def test_a_cut_skip_lets_no_gradient_by_and_the_others_do():
    run = Run(Experiment(depth=4, width=8, batch=8, seeds=1, changes="1.cut.3--2.cut.1_3--3.cut.0"))
    through = [next(run)[0]["skip_grad_norm"][0, :, 0] > 0 for _ in range(4)]
    assert [list(np.flatnonzero(~seen) + 1) for seen in through] == [[], [3], [1, 3], []]


def test_one_block_after_the_other_is_changed_and_each_change_is_an_event():
    run = Run(Experiment(depth=4, width=8, batch=8, seeds=1))
    told = []
    for change in ({"cut": 3}, {"drop_branch": "2"}, {"placements": "4-post"}, {"skip_gains": "1-0.5"}):
        run.change(**change)
        arrays, header = next(run)
        told += [event["text"] for event in header["events"]]
    assert run.first.changes == "0.cut.3--1.drop_branch.2--2.placements.4-post--3.skip_gains.1-0.5"
    assert told == ["cut = 3 from step 0 on", "drop_branch = 2 from step 1 on",
                    "placements = 4-post from step 2 on", "skip_gains = 1-0.5 from step 3 on"]  # fmt: skip
    skip, branch = arrays["skip_grad_norm"][0, :, 0], arrays["branch_grad_norm"][0, :, 0]
    assert skip[2] == branch[1] == 0
    assert skip[0] == pytest.approx(arrays["grad_norm"][0, 1, 0] / 2, rel=1e-4)
    np.testing.assert_allclose(arrays["act_rms"][0, 4], 1, atol=0.1)  # behind a norm on the sum


@pytest.mark.parametrize("knob", ["norm_gain", "skip_gain"])
def test_a_gain_multiplies_what_it_says(knob):
    e = Experiment(depth=1, width=8, batch=8, seeds=2, final_norm=False)
    run = Run(e.replace(**{knob: 3.0}))
    next(run)
    block, x = run.model.blocks[0], torch.randn(2, 5, 8)
    normed = F.layer_norm(x, (8,)) * block.before.gain + block.before.shift
    fx = block.branch((3 if knob == "norm_gain" else 1) * normed)
    torch.testing.assert_close(block(x), (3 if knob == "skip_gain" else 1) * x + fx)


@pytest.mark.parametrize(
    "changes", ["2.cut.1_2", "2.skip_gain.0.5", "2.norm_gain.2", "2.placements.2-post--3.placements.0"]
)
def test_members_and_forks_stay_exact_under_a_live_gain(changes):
    e = Experiment(depth=2, width=8, batch=8, seeds=2, changes=changes)
    run, single = Run(e), Run(e.replace(seed=1, seeds=1))
    for _ in range(5):
        both, alone = next(run)[0], next(single)[0]
        assert np.array_equal(both["loss_train"][:, 1:], alone["loss_train"])
    assert np.array_equal(next(run.fork(4))[0]["loss_train"], run_again(e, 4))


def run_again(e, step):
    run = Run(e)
    for _ in range(step):
        next(run)
    return next(run)[0]["loss_train"]
