"""Optimizers of one flat buffer, and schedules: a row maps the experiment's knobs to torch's own kernels."""

import inspect
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, optim

from lnres.layers import Weights
from lnres.registry import Registry

OPTIMIZERS = Registry("optimizer")
SCHEDULES = Registry("schedule")

# torch's own wrappers around these methods import its compiler, a second of every start, to say that it is to
# leave them alone. Nothing is compiled here, so they go without.
for _method in vars(optim.Optimizer).values():
    if plain := getattr(_method, "__wrapped__", None):
        plain.__dynamo_disable = plain


def stepper(optimizer: optim.Optimizer) -> Callable[[], None]:
    """The optimizer's ``step``, for the same reason without torch's wrappers."""
    optimizer._warned_capturable_if_run_uncaptured = True  # as it is, before a graph is captured
    return partial(torch.no_grad()(inspect.unwrap(type(optimizer).step)), optimizer)


def descend(p: Tensor, direction: Tensor, lr: float | Tensor) -> None:
    """Take lr times the direction off p; where the device has to find the learning rate it is a tensor ()."""
    if isinstance(lr, Tensor):
        p.sub_(lr * direction)
    else:
        p.add_(direction, alpha=-lr)


@OPTIMIZERS.add(
    "sgd", "SGD", r"v\leftarrow\mu v+g,\ \theta\leftarrow\theta-\eta v", paper="Robbins & Monro 1951"
)
def sgd(weights: Weights, e) -> optim.Optimizer:
    """Gradient descent with heavy-ball momentum (momentum 0: plain)."""
    return optim.SGD([weights.leaf], e.lr, momentum=e.momentum, weight_decay=e.weight_decay, fused=True)


@OPTIMIZERS.add(
    "adam", "Adam", r"\theta\leftarrow\theta-\eta\,\hat m/(\sqrt{\hat v}+\epsilon)", paper="Kingma & Ba 2015"
)
def adam(weights: Weights, e) -> optim.Optimizer:
    """A step size of its own for every weight, from running means of the gradient and its square."""
    return optim.Adam([weights.leaf], e.lr, weight_decay=e.weight_decay, fused=True)


@OPTIMIZERS.add(
    "adamw", "AdamW", r"\theta\leftarrow(1-\eta\lambda)\theta-\eta\,\hat m/(\sqrt{\hat v}+\epsilon)",
    paper="Loshchilov & Hutter 2019",
)  # fmt: skip
def adamw(weights: Weights, e) -> optim.Optimizer:
    """Adam whose weight decay does not pass through the running means."""
    return optim.AdamW([weights.leaf], e.lr, weight_decay=e.weight_decay, fused=True)


@OPTIMIZERS.add(
    "nesterov",
    "Nesterov",
    r"v\leftarrow\mu v+g,\ \theta\leftarrow\theta-\eta(g+\mu v)",
    paper="Nesterov 1983",
)
def nesterov(weights: Weights, e) -> optim.Optimizer:
    """Momentum that looks ahead: the gradient counts once more on top of the velocity."""
    made = optim.SGD([weights.leaf], e.lr, e.momentum, weight_decay=e.weight_decay, fused=True)
    made.param_groups[0]["nesterov"] = True  # torch refuses it for a momentum of 0, which may change later
    return made


@OPTIMIZERS.add(
    "rmsprop",
    "RMSprop",
    r"\theta\leftarrow\theta-\eta g/(\sqrt{\hat v}+\epsilon)",
    paper="Tieleman & Hinton 2012",
)
class RMSprop(optim.Optimizer):
    """The gradient over the root of its running mean square, with momentum on top."""

    # torch's own takes the learning rate for a number, and the host would have to wait for it
    def __init__(self, weights: Weights, e):
        super().__init__([weights.leaf], {"lr": e.lr, "momentum": e.momentum, "weight_decay": e.weight_decay})
        zeros = {name: torch.zeros_like(weights.flat) for name in ("square_avg", "momentum_buffer")}
        self.state[weights.leaf] = zeros

    @torch.no_grad()
    def step(self) -> None:
        """One update, as torch.optim.RMSprop makes it."""
        for group in self.param_groups:
            (p,), lr, momentum = group["params"], group["lr"], group["momentum"]
            square, velocity = (self.state[p][name] for name in ("square_avg", "momentum_buffer"))
            slope = p.grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else p.grad
            square.mul_(0.99).addcmul_(slope, slope, value=1 - 0.99)
            size = square.sqrt().add_(1e-8)
            if momentum:
                descend(p, velocity.mul_(momentum).addcdiv_(slope, size), lr)
            else:
                p.addcdiv_(slope * -lr, size)


@OPTIMIZERS.add(
    "lion",
    "Lion",
    r"\theta\leftarrow\theta-\eta(\mathrm{sign}(\beta_1m+(1-\beta_1)g)+\lambda\theta)",
    paper="Chen et al. 2023",
)
class Lion(optim.Optimizer):
    """Only the sign of the averaged gradient counts: every weight moves by the learning rate, up or down."""

    def __init__(self, weights: Weights, e):
        super().__init__([weights.leaf], {"lr": e.lr, "betas": (0.9, 0.99), "weight_decay": e.weight_decay})
        self.state[weights.leaf] = {"mean": torch.zeros_like(weights.flat)}

    @torch.no_grad()
    def step(self) -> None:
        """One update, as in algorithm 2 of the paper."""
        for group in self.param_groups:
            (p,), (first, second), lr = group["params"], group["betas"], group["lr"]
            mean = self.state[p]["mean"]
            direction = torch.lerp(p.grad, mean, first).sign_()
            descend(p.mul_(1 - lr * group["weight_decay"]), direction, lr)
            mean.lerp_(p.grad, 1 - second)


def orthogonalized(x: Tensor) -> Tensor:
    """Matrices (..., n, m) whose singular values are all brought near 1, by five Newton-Schulz steps.

    Each maps a singular value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵ (Jordan et al. 2024).
    """
    y = x if x.shape[-2] <= x.shape[-1] else x.mT
    y = y / torch.linalg.vector_norm(x.flatten(-2), dim=-1)[..., None, None].clamp_min(1e-7)
    for _ in range(5):
        square = y @ y.mT
        y = 3.4445 * y + (2.0315 * square @ square - 4.775 * square) @ y
    return y if x.shape[-2] <= x.shape[-1] else y.mT


@OPTIMIZERS.add(
    "muon",
    "Muon",
    r"W\leftarrow(1-\eta\lambda)W-0.2\,\eta\sqrt{\max(n_{in},n_{out})}\,UV^\top,\ g+\mu v=U\Sigma V^\top",
    about="A matrix of the blocks moves equally far in all directions that its averaged gradient has; "
    "everything else moves by AdamW. The factor 0.2 √max makes both updates equally large (Liu et al. 2025).",
    paper="Jordan et al. 2024",
)
class Muon(optim.AdamW):
    """Nesterov momentum, orthogonalized; what stands side by side in one matrix counts as one."""

    def __init__(self, weights: Weights, e):
        super().__init__([weights.leaf], e.lr, weight_decay=e.weight_decay, fused=True)
        self.param_groups[0]["momentum"] = e.momentum
        self.weights, self.places = weights, weights.matrices("blocks")

    @torch.no_grad()
    def step(self) -> None:
        """AdamW for all, then for the matrices from where they were."""
        for group in self.param_groups:
            (p,), lr, momentum = group["params"], group["lr"], group["momentum"]
            before = p.clone()
            inspect.unwrap(optim.AdamW.step)(self)
            state = self.state[p]
            if "mean" not in state:  # not before AdamW has made its own, of which it takes any for a sign
                state["mean"] = torch.zeros_like(p)
            mean = state["mean"].lerp_(p.grad, 1 - momentum)
            flats = p, before, torch.lerp(p.grad, mean, momentum)
            groups = [self.weights.groups(flat) for flat in flats]
            for k, rows, _ in self.places:
                now, old, ahead = (parts[k] for parts in groups)
                size = 0.2 * lr * max(now.shape[2:]) ** 0.5
                shorter = old[rows] * (1 - lr * group["weight_decay"])
                now[rows] = shorter - size * orthogonalized(ahead[rows])


# A schedule maps (step, experiment) to the factor on the learning rate, after the linear warm-up.
@SCHEDULES.add("constant", "constant", r"\eta_t=\eta")
def constant(step: int, e) -> float:
    """The learning rate stays."""
    return 1.0


@SCHEDULES.add("cosine", "cosine", r"\eta_t=\eta\,(1+\cos(\pi t/T))/2", paper="Loshchilov & Hutter 2017")
def cosine(step: int, e) -> float:
    """Half a cosine from the full learning rate to zero at the last step."""
    return (1 + math.cos(math.pi * min(step / e.steps, 1))) / 2


@SCHEDULES.add("step", "in steps", r"\eta/10\ (t\geq T/2),\ \eta/100\ (t\geq 3T/4)", paper="He et al. 2015")
def steps(step: int, e) -> float:
    """A tenth from half of the steps on, a hundredth from three quarters on."""
    return 0.1 ** ((2 * step >= e.steps) + (4 * step >= 3 * e.steps))


def learning_rate(step: int, e) -> float:
    """The learning rate of a step: schedule times linear warm-up."""
    return e.lr * SCHEDULES[e.schedule].make(step, e) * min(1.0, (step + 1) / max(e.warmup, 1))
