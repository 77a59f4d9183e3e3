"""A block against the same block composed by hand from ``torch.nn``."""

import pytest
import torch
from rows import WITHIN, fitting
from torch.nn import functional as F

from lnres.blocks import PLACEMENTS, Block
from lnres.experiment import Experiment
from lnres.layers import ACTIVATIONS, INITS, Linear, Weights, generator
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.residuals import RESIDUALS
from lnres.train import Run

SEEDS = 2
RECURRENT = [name for name in MODELS if MODELS[name].make.recurrent]


def random(*shape, key):
    return torch.randn(shape, generator=generator(key))


def shaken(weights):
    """Every parameter moved away from where it starts, γ, β and biases too."""
    for name, (value, _) in weights.named().items():
        value += 0.3 * random(*value.shape, key=name)


def check(e, by_hand, torch_names, positions=None, moved=None, **made):
    """Output, gradient of the input and gradient of every parameter of a block, member by member."""
    weights = Weights(e.member_seeds)
    weights.live = {"placements": {1: moved} if moved else {}}
    block = Block(weights, "blocks.0", e, **made)
    weights.pack()
    shaken(weights)
    positions = positions or (16 if e.norm == "instance" else None)
    shape = (SEEDS, 9, positions, e.width) if positions else (SEEDS, 9, e.width)
    x, cotangent = random(*shape, key="x").requires_grad_(), random(*shape, key="g")
    y = block(x)
    y.backward(cotangent)
    parameter, as_torch = torch_names
    for k in range(SEEDS):
        reference = by_hand(weights, e, k, "blocks.0.")
        if moved:
            reference.stand(moved)
        x_k = x[k].detach().requires_grad_()
        expected = reference(x_k)
        expected.backward(cotangent[k])
        torch.testing.assert_close(y[k], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.grad[k], x_k.grad, rtol=1e-4, atol=5e-5)
        for name, (_, gradient) in weights.named().items():
            expected = parameter(reference, name.removeprefix("blocks.0.")).grad
            ours = as_torch(name, gradient, k, expected)  # a norm of few features enlarges its rounding
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_block_equals_torch_composed_by_hand(placement, residual, norm, by_hand, torch_names):
    dials = fitting({"placement": placement, "residual": residual, "norm": norm, "width": 8})
    check(Experiment(depth=4, activation="gelu", seeds=SEEDS, **dials), by_hand, torch_names)


@pytest.mark.parametrize("norm", [name for name in NORMS if set(NORMS[name].make.over) != {"w"}][1:])
@pytest.mark.parametrize("moved", [name for name in PLACEMENTS if len(PLACEMENTS[name].make) == 1])
@pytest.mark.parametrize("placement", ["pre", "post", "inner"])
def test_a_block_whose_norm_moved_equals_torch_composed_by_hand(placement, moved, norm, by_hand, torch_names):
    dials = fitting({"placement": placement, "norm": norm, "residual": "highway", "width": 8})
    check(Experiment(depth=4, activation="gelu", seeds=SEEDS, **dials), by_hand, torch_names, moved=moved)


def test_norms_move_there_and_back_with_what_they_learnt():
    e = Experiment(depth=4, width=8, seeds=1)
    weights = Weights(e.member_seeds)
    block, x = Block(weights, "blocks.0", e), random(1, 9, 8, key="x")
    weights.pack()
    shaken(weights)
    norm, first = block.before, block(x)
    for place in ("post", "inner", "activated", "branch"):
        weights.live = {"placements": {1: place}}
        assert not torch.equal(block(x), first)
        assert norm in (block.after, block.between, block.branch.inner, block.branch.activated)
    weights.live = {"placements": {2: "post"}}  # another block's
    assert torch.equal(block(x), first)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_block_of_one_layer_equals_torch_composed_by_hand(placement, norm, by_hand, torch_names):
    dials = fitting({"placement": placement, "norm": norm, "width": 7, "layers": 1})
    check(Experiment(depth=4, activation="gelu", seeds=SEEDS, **dials), by_hand, torch_names)


@pytest.mark.parametrize(
    ("norm", "placement"),
    [(n, p) for n in NORMS for p in PLACEMENTS if n != "instance" or p not in WITHIN],
)
@pytest.mark.parametrize("model", RECURRENT)
def test_recurrent_block_equals_torch_composed_by_hand(model, norm, placement, by_hand, torch_names):
    """Norms within the recurrence on Wx + Uh for the one half of the norms, on Wx and Uh for the other."""
    dials = {"model": model, "norm": norm, "placement": placement, "joint": list(NORMS).index(norm) % 2}
    e = Experiment(width=8, activation="gelu", groups=2, forget=0.7, eps=0.1, seeds=SEEDS, **dials)
    check(e, by_hand, torch_names, positions=4, branch=MODELS[model].make.cell)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("model", RECURRENT)
def test_both_forms_of_the_norm_in_a_recurrence(model, joint, norm, by_hand, torch_names):
    e = Experiment(model=model, width=8, norm=norm, placement="inner", joint=joint, seeds=SEEDS)
    check(e, by_hand, torch_names, positions=4, branch=MODELS[model].make.cell)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_block_equals_torch_for_every_activation(activation, placement, by_hand, torch_names):
    check(Experiment(width=8, placement=placement, activation=activation, seeds=SEEDS), by_hand, torch_names)


@pytest.mark.parametrize(
    "settings", [{"alpha": 0.3}, {"alpha": 0.0, "depth": 9}, {"affine": False}, {"eps": 0.1}], ids=str
)
def test_block_equals_torch_for_its_other_knobs(settings, by_hand, torch_names):
    check(Experiment(width=8, residual="scaled", seeds=SEEDS, **settings), by_hand, torch_names)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_two_blocks_of_the_transformer_are_torchs_encoder_layer(placement, activation):
    e = Experiment(model="transformer", depth=1, width=12, heads=3, norm="layer", placement=placement,
                   activation=activation, seeds=SEEDS)  # fmt: skip
    run = Run(e)
    shaken(run.weights)
    named = run.weights.named()
    x = random(SEEDS, 5, 16, 12, key="x").requires_grad_()
    y = run.model.stream(x)
    cotangent = random(*y.shape, key="g")
    y.backward(cotangent)
    slot = {"pre": "before", "post": "after"}[placement]
    ours = {
        "self_attn.in_proj": "0.first", "self_attn.out_proj.": "0.last.", "linear1.": "1.first.",
        "linear2.": "1.last.", "norm1.": f"0.{slot}.", "norm2.": f"1.{slot}.",
    }  # fmt: skip
    for k in range(SEEDS):
        layer = torch.nn.TransformerEncoderLayer(
            12, 3, dim_feedforward=24, dropout=0, activation=activation, batch_first=True,
            norm_first=placement == "pre",
        )  # fmt: skip
        pairs = {}
        for name, theirs in layer.named_parameters():
            (prefix,) = (prefix for prefix in ours if name.startswith(prefix))
            kind = name.removeprefix(prefix).strip("_.")
            if "norm" in name:
                kind = {"weight": "gain", "bias": "shift"}[kind]
            pairs[name] = named[f"blocks.{ours[prefix].strip('.')}.{kind}"]
            value = pairs[name][0][k].detach()
            theirs.data.copy_(value.T if theirs.ndim == 2 else value[0])
        x_k = x[k].detach().requires_grad_()
        expected = layer(x_k)
        expected.backward(cotangent[k])
        torch.testing.assert_close(y[k], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.grad[k], x_k.grad, rtol=1e-4, atol=1e-5)
        for name, theirs in layer.named_parameters():
            gradient = pairs[name][1][k]
            gradient = gradient.T if theirs.ndim == 2 else gradient[0]
            torch.testing.assert_close(gradient, theirs.grad, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("norm", ["layer", "batch", "group", "instance"])
def test_block_of_convolutions_equals_torchs(norm, layers, by_hand):
    e = Experiment(model="conv", depth=1, width=6, norm=norm, groups=3, placement="inner",
                   layers=layers, seeds=SEEDS)  # fmt: skip
    run = Run(e)
    shaken(run.weights)
    x = random(SEEDS, 4, 25, 6, key="x").requires_grad_()  # 5 x 5 pixels
    y = run.model.stream(x)
    cotangent = random(*y.shape, key="g")
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    for k in range(SEEDS):
        x_k = x[k].detach().requires_grad_()
        expected = by_hand(run.weights, e, k).blocks[0](x_k)
        torch.testing.assert_close(y[k], expected, rtol=1e-4, atol=2e-5)
        (wanted,) = torch.autograd.grad(expected, x_k, cotangent[k])
        torch.testing.assert_close(gradient[k], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("residual", ["rezero", "skipinit"])
def test_c34_rezero_starts_as_the_identity_and_only_its_number_learns(residual, layers):
    e = Experiment(width=6, residual=residual, norm="layer", activation="tanh", layers=layers, seeds=1)
    weights = Weights(e.member_seeds)
    block = Block(weights, "blocks.0", e)
    weights.pack()
    x = random(6, key="x")
    jacobian = torch.autograd.functional.jacobian(lambda v: block(v[None, None])[0, 0], x)
    assert torch.equal(jacobian, torch.eye(6))
    block(random(1, 5, 6, key="y")).backward(random(1, 5, 6, key="g"))
    for name, (_, gradient) in weights.named().items():
        assert bool(gradient.any()) == (name == "blocks.0.alpha"), name


@pytest.mark.parametrize("depth", [2, 25])
def test_deepnorm_of_a_transformer_leaves_queries_and_keys_alone(depth):
    """C25: β scales values, output and MLP; N counts encoder layers, each of two blocks."""
    settings = {"model": "transformer", "width": 8, "depth": depth, "placement": "post", "seeds": 1}
    plain, deep = (
        {
            name: value[0]
            for name, (value, _) in Run(Experiment(residual=r, **settings)).weights.named().items()
        }
        for r in ("identity", "deepnorm")
    )
    beta, names = (8 * depth) ** -0.25, {name: value for name, value in plain.items() if "blocks" in name}
    for name, value in names.items():
        factor = torch.full(value.shape[-1:], beta if name.endswith("weight") else 1.0)
        if value.shape[-1] == 24:
            factor[:16] = 1
        torch.testing.assert_close(deep[name], value * factor, msg=name)
    skips = [block.skip.alpha for block in Run(Experiment(residual="deepnorm", **settings)).model.blocks]
    assert skips == pytest.approx([(2 * depth) ** 0.25] * 2 * depth)


@pytest.mark.parametrize("residual", ["scaled", "fixup"])
def test_a_transformer_layer_counts_as_the_two_branches_it_has(residual):
    """Where the constant is made for the number of branches that are summed."""
    run = Run(Experiment(model="transformer", width=8, depth=8, residual=residual, init="he", seeds=4))
    block = run.model.blocks[1]
    if residual == "scaled":
        assert block.skip.alpha == 0.25
    else:
        std = float(block.branch.first.weight.detach().std())
        assert std == pytest.approx((2 / 8) ** 0.5 / 4, rel=0.2)


def test_skipinit_may_start_small_where_rezero_starts_at_zero():
    for residual, alpha, start in [("skipinit", 0.0, 0.0), ("skipinit", 0.25, 0.25), ("rezero", 0.25, 0.0)]:
        run = Run(Experiment(residual=residual, alpha=alpha, width=6, depth=2, seeds=2))
        assert torch.equal(run.model.blocks[1].skip.alpha, torch.full((2, 1, 1), start))


@pytest.mark.parametrize(("layers", "depth"), [(1, 4), (2, 4), (2, 25)])
def test_where_fixup_and_deepnorm_start(layers, depth):
    """C25, C26: the weights of one init times the paper's factors, number by number."""
    settings = {"width": 6, "depth": depth, "layers": layers, "norm": "none", "init": "xavier", "seeds": 1}
    starts = {
        r: Run(Experiment(residual=r, **settings)).weights.named() for r in ("identity", "fixup", "deepnorm")
    }
    beta = (8 * depth) ** -0.25
    factors = {"deepnorm": (beta, beta), "fixup": (depth**-0.5, 0.0)}
    for residual, (inner, last) in factors.items():
        wanted = {"first": inner, "last": last} if layers == 2 else {"first": last}
        for part, factor in wanted.items():
            name = f"blocks.0.{part}.weight"
            torch.testing.assert_close(starts[residual][name][0], starts["identity"][name][0] * factor)


@pytest.mark.parametrize("model", MODELS)
def test_a_branch_that_starts_at_zero_is_silent(model):
    run = Run(Experiment(model=model, depth=3, width=8, zero_last=True, norm="layer", residual="identity"))
    h = run.model.enter(run.batches(0, 4)[0])
    assert torch.equal(run.model.stream(h), h)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (8, 24), (24, 8)])
def test_orthogonal_weights_are_orthogonal(rows, columns, power):
    e = Experiment(init="orthogonal")
    weights = Weights(range(2))
    layer = Linear(weights, "layer", rows, columns, INITS["orthogonal"].make(e, rows, columns, power))
    weights.pack()
    for w in layer.weight.detach():
        gram = w @ w.T if rows <= columns else w.T @ w
        torch.testing.assert_close(gram, torch.eye(8) / power, rtol=0, atol=1e-5)


@pytest.mark.parametrize("final_norm", [True, False])
@pytest.mark.parametrize(
    ("model", "norm"), [(m, n) for m in MODELS for n in NORMS if (m, n) != ("mlp", "instance")]
)
def test_model_equals_torch_composed_by_hand(model, norm, final_norm, by_hand):
    run = Run(
        Experiment(model=model, depth=3, width=8, norm=norm, groups=2, final_norm=final_norm, seeds=SEEDS)
    )
    shaken(run.weights)
    x, _ = run.batches(0, 16)
    logits = run.model(x)
    for k in range(SEEDS):
        expected = by_hand(run.weights, run.experiment, k)(x[k])
        rounding = 2e-6 * max(10, float(expected.detach().abs().max()))
        torch.testing.assert_close(logits[k], expected, rtol=1e-4, atol=rounding)


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_silent_branch_leaves_the_skip_alone(placement, residual):
    e = Experiment(width=8, norm="none", placement=placement, residual=residual, seeds=1, gain=0.0)
    weights = Weights(e.member_seeds)
    block = Block(weights, "blocks.0", e)
    weights.pack()
    x = random(1, 5, 8, key="x")
    expected = {
        "none": lambda: torch.zeros_like(x),
        "deepnorm": lambda: x * (2 * e.depth) ** 0.25,
        "highway": lambda: x * (1 - torch.sigmoid(block.skip.gate(x))),
    }.get(residual, lambda: x)()
    torch.testing.assert_close(
        block(x), expected, rtol=1e-6 if residual in ("deepnorm", "highway") else 0, atol=0
    )


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("layers", [1, 2])
def test_convnet_that_halves_its_images_equals_torchs(layers, placement):
    """Stages of 4, 8 and 16 features; where they change, the skip is a 1 x 1 convolution of stride 2."""
    e = Experiment(model="conv", depth=4, width=4, stages=3, layers=layers, placement=placement, seeds=SEEDS)
    run = Run(e)
    shaken(run.weights)
    named = run.weights.named()
    x, _ = run.batches(0, 6)
    logits = run.model(x)
    logits.square().sum().backward()
    for k in range(SEEDS):
        theirs = {name: value[k].detach().clone().requires_grad_() for name, (value, _) in named.items()}

        def conv(h, name, size=3, stride=1, theirs=theirs):
            weight = theirs[f"{name}.weight"].unflatten(0, (size, size, -1)).permute(3, 2, 0, 1)
            return F.conv2d(h, weight, theirs[f"{name}.bias"][0], stride, padding=size // 2)

        def norm(h, name, theirs=theirs):
            gain, shift = theirs[f"{name}.gain"][0], theirs[f"{name}.shift"][0]
            return F.layer_norm(h.movedim(1, -1), gain.shape, gain, shift).movedim(-1, 1)

        h = conv(x[k].mT.unflatten(2, (8, 8)), "stem")
        for i, stride in enumerate([1, 1, 2, 2]):
            name = f"blocks.{i}"
            fx = norm(h, f"{name}.before") if placement == "pre" else h
            fx = conv(fx, f"{name}.first", 3, stride).relu()
            fx = conv(fx, f"{name}.last") if layers == 2 else fx
            h = (conv(h, f"{name}.projection", 1, stride) if stride == 2 else h) + fx
            h = norm(h, f"{name}.after") if placement == "post" else h
        assert h.shape == (6, 16, 2, 2)
        expected = norm(h, "final").mean((2, 3)) @ theirs["head.weight"] + theirs["head.bias"]
        torch.testing.assert_close(logits[k], expected, rtol=1e-4, atol=2e-5)
        expected.square().sum().backward()
        for name, (_, gradient) in named.items():
            torch.testing.assert_close(gradient[k], theirs[name].grad, rtol=1e-3, atol=1e-3, msg=name)


def test_more_stages_than_blocks_are_refused():
    with pytest.raises(ValueError, match="stages=3: depth=2 has fewer blocks; choose at most 2"):
        Run(Experiment(model="conv", depth=2, width=4, stages=3))
