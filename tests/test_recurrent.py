"""Recurrent layers: torch's own cells, what a step may know, and gradients along time."""

import numpy as np
import pytest
import torch
from torch import nn

from lnres.blocks import PLACEMENTS
from lnres.experiment import Experiment
from lnres.layers import generator
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.train import Run, probe

SEEDS, STEPS = 3, 5
TORCH = {
    "rnn": lambda n, e: nn.RNN(n, n, batch_first=True, nonlinearity=e.activation),
    "gru": lambda n, e: nn.GRU(n, n, batch_first=True),
    "lstm": lambda n, e: nn.LSTM(n, n, batch_first=True),
}
PLAIN = {"norm": "none", "residual": "none"}


def test_every_recurrent_model_has_torchs_own_beside_it():
    assert [name for name in MODELS if MODELS[name].make.recurrent] == list(TORCH)


def random(*shape, key):
    return torch.randn(shape, generator=generator(key))


def run_of(**settings):
    run = Run(Experiment(**{"depth": 2, "width": 8, "seeds": SEEDS, "batch": 16} | settings))
    for name, (value, _) in run.weights.named().items():  # biases start at zero, which would hide them
        value += 0.3 * random(*value.shape, key=name)
    return run


def as_torch(model, named, i, e):
    """The names of torch's parameters, and ours (S, ...) laid out like them; biases stand in bias_ih."""
    bias = named[f"blocks.{i}.input.bias"][:, 0].clone()
    hidden = torch.zeros_like(bias)
    if model == "lstm":
        bias[:, e.width : 2 * e.width] += e.forget
    if model == "gru":
        hidden[:, 2 * e.width :] = named[f"blocks.{i}.recurrent.bias"][:, 0]
    weights = {"ih": named[f"blocks.{i}.input.weight"].mT, "hh": named[f"blocks.{i}.recurrent.weight"].mT}
    return {f"weight_{k}_l0": w for k, w in weights.items()} | {"bias_ih_l0": bias, "bias_hh_l0": hidden}


@pytest.mark.parametrize(
    ("model", "settings"),
    [("rnn", {"activation": "tanh"}), ("rnn", {"activation": "relu"}), ("gru", {}),
     ("lstm", {"forget": 0.0}), ("lstm", {"forget": 1.5})], ids=str,
)  # fmt: skip
def test_a_stack_of_layers_equals_torchs_own(model, settings):
    """Outputs, and the gradients of input, weights and biases, of two layers."""
    run = run_of(model=model, **PLAIN, **settings)
    e, values = run.experiment, {k: v.detach() for k, (v, _) in run.weights.named().items()}
    x = random(SEEDS, 9, STEPS, 8, key="x").requires_grad_()
    cotangent = random(SEEDS, 9, STEPS, 8, key="g")
    y = run.model.stream(x)
    y.backward(cotangent)
    grads = {name: grad for name, (_, grad) in run.weights.named().items()}
    for k in range(SEEDS):
        theirs = nn.ModuleList([TORCH[model](8, e) for _ in range(2)])
        expected = x_k = x[k].detach().requires_grad_()
        for i, layer in enumerate(theirs):
            layer.load_state_dict({name: v[k] for name, v in as_torch(model, values, i, e).items()})
            expected = layer(expected)[0]
        expected.backward(cotangent[k])
        torch.testing.assert_close(y[k], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.grad[k], x_k.grad, rtol=1e-4, atol=1e-5)
        for i, layer in enumerate(theirs):
            ours = as_torch(model, grads, i, e.replace(forget=0.0))
            if model == "gru":  # torch's two biases of a gate have one gradient
                ours["bias_hh_l0"][:, : 2 * e.width] = ours["bias_ih_l0"][:, : 2 * e.width]
            else:
                ours["bias_hh_l0"] = ours["bias_ih_l0"]
            for name, parameter in layer.named_parameters():
                torch.testing.assert_close(ours[name][k], parameter.grad, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("placement", ["inner", "activated"])
@pytest.mark.parametrize("model", TORCH)
def test_within_a_recurrence_the_past_does_not_know_the_future(model, placement, joint):
    run = run_of(model=model, placement=placement, norm="layer", joint=joint)
    x = random(SEEDS, 4, STEPS, 8, key="x")
    other = x.clone()
    other[:, :, 3:] += 1
    before, after = run.model.stream(x), run.model.stream(other)
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.isclose(before[:, :, 3:], after[:, :, 3:]).all(-1).any()


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("model", TORCH)
def test_one_running_statistic_serves_all_time_steps(model, joint, by_hand):
    """Buffers equal those of torch's BatchNorm that is called at every time step."""
    run = run_of(model=model, norm="batch", placement="inner", joint=joint, momentum=0.0, lr=0.0)
    nets = [by_hand(run.weights, run.experiment, k) for k in range(SEEDS)]
    for step in range(2):
        x, _ = run.batches(step, 16)
        run.model(x)
        [net(x[k]) for k, net in enumerate(nets)]
    theirs = [dict(net.named_buffers()) for net in nets]
    assert run.weights.buffers.keys() == {n for n in theirs[0] if not n.endswith("tracked")}
    for name, ours in run.weights.buffers.items():
        for k in range(SEEDS):
            torch.testing.assert_close(ours[k, 0], theirs[k][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "dials",
    [{"model": model} for model in TORCH]
    + [{"model": "lstm", "norm": norm, "placement": "inner"} for norm in NORMS if norm != "instance"]
    + [{"model": "rnn", "placement": placement} for placement in PLACEMENTS],
    ids=str,
)
def test_gradient_over_time_equals_autograd_by_hand(dials, by_hand):
    """Of an example's own loss, with respect to the last layer's state at each time step."""
    run = run_of(**{"groups": 2} | dials, record_every=1)
    x, y = run.batches(0, 16)
    nets = [by_hand(run.weights, run.experiment, k) for k in range(SEEDS)]
    seen = next(run)[0]["time_grad_norm"][0]
    assert seen.shape == (8, SEEDS)
    for k, net in enumerate(nets):
        loss = nn.functional.cross_entropy(net(x[k]), y[k], reduction="sum")
        found = torch.autograd.grad(loss, net.blocks[-1].walk)
        expected = [float(g.square().sum(-1).mean() ** 0.5) for g in found]
        np.testing.assert_allclose(seen[:, k], expected, rtol=1e-4, atol=1e-7)


def test_only_recurrent_networks_have_gradients_over_time():
    assert "time_grad_norm" not in next(run_of(model="transformer", record_every=1))[0]
    assert "time_grad_norm" not in next(run_of(model="lstm", record_every=0))[0]


@pytest.mark.parametrize("model", TORCH)
def test_a_probe_sends_its_cotangent_from_where_the_head_reads(model):
    """Through a stack without skips, the last state's gradient is the cotangent itself."""
    e = Experiment(model=model, depth=2, width=8, batch=16, seeds=2, **PLAIN)
    cotangent = [torch.randn(16, 8, generator=generator(seed, "probe cotangent")) for seed in e.member_seeds]
    seen = probe(e)
    expected = [float(c.square().sum(-1).mean() ** 0.5) for c in cotangent]
    np.testing.assert_allclose(seen["time_grad_norm"][-1], expected, rtol=1e-5)
    np.testing.assert_allclose(seen["grad_norm"][-1], expected, rtol=1e-5)


def test_each_gate_of_an_orthogonal_memory_is_a_rotation():
    named = run_of(model="lstm", init="orthogonal", gain=1.0, depth=1).experiment
    weight = Run(named).weights.named()["blocks.0.recurrent.weight"][0].detach()
    for gate in weight.unflatten(2, (4, 8)).unbind(2):
        torch.testing.assert_close(gate @ gate.mT, torch.eye(8).expand(SEEDS, 8, 8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", TORCH)
def test_a_recurrent_network_learns_the_digits(model):
    settings = {
        "model": model,
        "norm": "layer",
        "placement": "inner",
        "residual": "none",
        "activation": "tanh",
    }
    run = Run(Experiment(depth=1, width=16, optimizer="adam", lr=0.01, seeds=2, record_every=0, **settings))
    for _ in range(120):
        next(run)
    assert float(run.test()[1].min()) > 0.8
