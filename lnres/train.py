"""A run is an iterator: each ``next`` is one optimizer step and returns its frame."""

import contextlib
import ctypes
import gc
import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lnres.data import Batches
from lnres.experiment import DEVICES, MAX_PROBE, Experiment
from lnres.fields import read_changes, text
from lnres.graph import First, Graph, prepare
from lnres.layers import ACTIVATIONS, Still, Weights, generator
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS, learning_rate, stepper
from lnres.plane import Plane
from lnres.probes import Scratch, Tape, Updates, activations, gradients
from lnres.record import DENSE, Frame
from lnres.river import river

RIVER_EVERY = 5
"""Every so many probes, and where something was changed, it is measured who wrote the stream: that costs
as much as half the other probes together."""
FIRST_TESTS, TEST_EVERY, DRAW_EVERY = (0, 10, 20, 50), 100, 50
KEEP_EVERY, KEEP_BYTES = 100, 2**27
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of <malloc.h>


def one_thread() -> None:
    """Settings of every process that trains.

    Two threads collapse when anything else wants a core; denormal gradients of a vanishing network slow a
    step several times; and where malloc hands large blocks back to the system after each step, getting them
    again costs a recorded step a fifth of its time (glibc only; threads take from one and the same store).
    MKL is told, before its first call, that the place of an array in memory must not change a bit: else a
    member of odd width differs from the run of its seed alone.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with contextlib.suppress(AttributeError, OSError):
        for option, value in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**30), (M_ARENA_MAX, 1)):
            ctypes.CDLL(None).mallopt(option, value)


def give_back() -> None:
    """Hand memory that is free back to the system, which ``one_thread`` tells malloc to keep."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def where(device: str) -> str:
    """The device of torch that ``auto``, ``cpu`` or ``cuda`` stands for."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ValueError("device='cuda': this machine has no GPU that torch can use; choose auto or cpu")
    return DEVICES[device].make or ("cuda" if there else "cpu")


class Run:
    """An experiment being trained, S members at once.

    >>> run = Run(Experiment(depth=2, width=8, seeds=2))
    >>> arrays, header = next(run)
    >>> arrays["loss_train"].shape
    (1, 2)

    Member k equals the run of its seed alone; to pause is not to call ``next``; ``step`` counts updates.
    ``waits`` says whether to read a number makes the host wait for the device. Where it does, a step reads
    none: what has to be told is noted on the device, and looked up when frames are ``read``.
    """

    def __init__(self, experiment: Experiment):
        self.first = experiment.affordable()  # with all changes that are to come
        self.experiment = experiment = experiment.at(-1)  # what holds in the step that is next
        self.device = where(experiment.device)
        self.waits = self.device != "cpu"
        if self.device == "cuda":
            prepare()
        self.batches = Batches(experiment, self.device)
        self.plane = Plane(self.batches) if experiment.drawable else None
        self.weights = Weights(experiment.member_seeds, self.device)
        self.weights.feed = self.batches.feed
        self.model = MODELS[experiment.model].make(
            self.weights, experiment, self.batches.features, self.batches.outputs
        )
        self.weights.pack()
        self.optimizer = OPTIMIZERS[experiment.optimizer].make(self.weights, experiment)
        self._step = stepper(self.optimizer)
        self.activation = ACTIVATIONS[experiment.activation].make
        self._updates, self._scratch = Updates(self.weights, experiment.blocks), Scratch()
        self.step = self._told = 0
        self._clipped = False
        self.diverged = [False] * experiment.seeds
        self.graph = Graph(self.batches.feed, self._learn) if self.device == "cuda" else None
        self._broken, self._cut = (First(experiment.seeds, self.device) for _ in range(2))
        self._events: list[dict] = []
        self.kept: dict[int, Frame] = {}  # checkpoints by their steps
        self.room = KEEP_BYTES

    def __iter__(self) -> Iterator[Frame]:
        """Frames until all steps are made; who asks for the ``next`` one may go beyond."""
        while self.step < self.first.steps:
            yield next(self)

    def __next__(self) -> Frame:
        return self.read([self.ahead()])

    def ahead(self) -> dict[str, Tensor]:
        """One step, of which nothing is read yet: what it measured, by name."""
        return self._advance(measure=True)

    def read(self, steps: Sequence[dict[str, Tensor]]) -> Frame:
        """The frame of steps made ``ahead``, a row for each; only here the host waits for the device."""
        if self.waits:
            self._look()
        events = [event for event in self._events if event["step"] >= self._told]
        self._events, self._told = [], self.step
        seen = {name: [step[name] for step in steps if name in step] for step in steps for name in step}
        # one row is not copied
        rows = {name: torch.stack(row) if len(row) > 1 else row[0][None] for name, row in seen.items()}
        arrays = {name: to_numpy(value) for name, value in rows.items()}
        return arrays, {"events": sorted(events, key=lambda event: event["step"])}

    def _advance(self, measure: bool) -> dict[str, Tensor]:
        """One step; what is not measured is not missed by the run."""
        now = [change for change in read_changes(self.first.changes) if change[0] == self.step]
        for _, name, value in now:
            self._apply(name, value)
        if self.step and self.step % KEEP_EVERY == 0:
            self._keep()
        e, t = self.experiment, self.step
        measure = measure and bool(e.record_every)
        seen = measure and (t < DENSE or t % e.record_every == 0)
        arrays: dict[str, Tensor] = {}
        if measure and (t in FIRST_TESTS or t % (DRAW_EVERY if self.plane else TEST_EVERY) == 0):
            loss, accuracy = self.test()
            arrays |= {"test_step": torch.tensor(t), "loss_test": loss, "acc_test": accuracy}
            if "b" in NORMS[e.norm].make.over:
                arrays["loss_batch"], arrays["acc_batch"] = self.test(own_statistics=True)
            arrays |= self._draw() if self.plane else {}
        if all(self.diverged):  # NaN stays NaN: nothing is left to compute
            nothing = torch.full((e.seeds,), torch.nan, device=self.device)
            names = ("train", "online") if self.batches.stream.online else ("train",)
            arrays |= {f"{what}_{name}": nothing for what in ("loss", "acc") for name in names}
        else:
            often = t if t < DENSE else t // (e.record_every or 1)
            arrays |= self._update(Tape() if seen else None, whose=bool(now) or often % RIVER_EVERY == 0)
        arrays |= {"step": torch.tensor(t), "lr": torch.full((e.seeds,), learning_rate(t, e))}
        self.step += 1
        return arrays

    def _update(self, tape: Tape | None, whose: bool) -> dict[str, Tensor]:
        """One optimizer step; with a tape, everything measured on the way, ``whose`` the stream is too."""
        if not tape:
            return self._replayed() if self.graph else self._learn()
        arrays, arrived = self._slope(tape)
        with torch.no_grad():
            self._updates.remember()
            if whose:  # with the parameters that made the stream
                arrays |= {"river": river(tape), "river_step": torch.tensor(self.step)}
        self._step()
        with torch.no_grad():
            arrays |= activations(tape, self.activation.flat, self._scratch)
            arrays |= gradients(tape, arrived, self.experiment.batch, self._scratch)
            arrays |= self._updates.measure()
        arrays["probe_step"] = torch.tensor(self.step)
        return arrays

    def _learn(self) -> dict[str, Tensor]:
        """One optimizer step, of which the losses are told."""
        arrays, _ = self._slope(None)
        self._step()
        return arrays

    def _replayed(self) -> dict[str, Tensor]:
        """The same as a CUDA graph; that a step cannot be one is told once."""
        before, arrays = self.graph.refused, self.graph.step(self.step)
        if self.graph.refused != before:
            said = f"from step {self.step} on each kernel is launched by itself: {self.graph.refused}"
            self._events.append({"step": self.step, "kind": "uncaptured", "text": said})
        return arrays

    def _slope(self, tape: Tape | None) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Fill the gradient that is to be followed; the losses, and what arrives at the tape's roads."""
        e, weights = self.experiment, self.weights
        x, y = self._given(e)
        arrays = {}
        if self.batches.stream.online:
            arrays["loss_online"], arrays["acc_online"] = self.judged(x, y)
        outputs = self.model(x, tape)
        losses = self.batches.loss(outputs, y)
        arrived = weights.backward(losses.sum(), *(tape.roads if tape else ()))
        losses = losses.detach()
        arrays |= {"loss_train": losses, "acc_train": self.batches.accuracy(outputs.detach(), y)}
        if e.clip:
            norms = weights.clip(e.clip)
            if self.waits or not self._clipped:  # a diverged member's NaN is not longer
                self._note(self._cut, norms > e.clip, [norms[None]])
        if self.waits or not math.isfinite(float(losses.sum())):
            self._note(self._broken, ~torch.isfinite(losses), weights.groups(weights.flat))
        rate = weights.feed.number(self.step, lambda t: learning_rate(t, e))
        for group in self.optimizer.param_groups:
            group |= {"lr": rate, "capturable": isinstance(rate, Tensor)}
        return arrays, arrived

    def _given(self, e: Experiment, step: int | None = None) -> tuple[Tensor, Tensor]:
        """The batch of a step, else of the next; layers are told of the step, and of what is set in it."""
        self.weights.step = self.step if step is None else step
        self.weights.live = e.knobs
        return self.batches(self.weights.step, e.batch, **e.shifts("train"))

    @torch.no_grad()
    def _draw(self) -> dict[str, Tensor]:
        """The decision regions of the first member; the first time, with what they are drawn on."""
        with self.mode(training=False):
            regions = self.plane.regions(self.model(self.plane.grid))
        still = self.plane.still() | {"plane_step": torch.tensor(0)} if self.step == 0 else {}
        return {"regions": regions} | still

    def _note(self, first: First, true: Tensor, values: list[Tensor]) -> None:
        """Keep what was there when something first came true of a member; where nobody waits, tell it now."""
        if self.waits or bool((true & (first.step < 0)).any()):
            with torch.no_grad():
                first.note(true, self.weights.feed(self.step, torch.tensor), values)
            if not self.waits:
                self._look()

    def _look(self) -> None:
        """Make events of what was noted: that clipping bites, once, and which members diverged, and where."""
        if not self._clipped and (steps := self._cut.members()):
            self._clipped, step = True, min(steps.values())
            size = max(float(self._cut.kept[0][0, k]) for k, then in steps.items() if then == step)
            limit = self.first.at(step).clip
            said = f"clipping begins at step {step}: a gradient of norm {size:.3g} cut to {limit:g}"
            self._events.append({"step": step, "kind": "clip", "text": said})
        broken = {k: step for k, step in self._broken.members().items() if not self.diverged[k]}
        for step in sorted(set(broken.values())):
            states = self._wreck(step)
            for k in (k for k, then in broken.items() if then == step):
                self.diverged[k] = True
                bad = [i for i, h in enumerate(states) if not torch.isfinite(h[k]).all()]
                place = "the head" if not bad else "the stem" if bad[0] == 0 else f"block {bad[0]}"
                seed = self.experiment.seed + k
                self._events.append({
                    "step": step, "kind": "diverged", "member": k,
                    "block": bad[0] if bad else len(states),
                    "text": f"seed {seed} diverged at step {step}: {place} gave the first non-finite number",
                })  # fmt: skip

    @torch.no_grad()
    def _wreck(self, step: int) -> list[Tensor]:
        """The stream of a step, made again with the weights of those members that did not survive it."""
        flats = self.weights.groups(self.weights.flat)
        now, tape = [flat.clone() for flat in flats], Tape()
        for flat, then in zip(flats, self._broken.kept, strict=True):
            flat.copy_(then)
        x, _ = self._given(self.first.at(step), step)
        with self.mode(training=True, keep=True):
            self.model(x, tape)
        for flat, value in zip(flats, now, strict=True):
            flat.copy_(value)
        return tape.states

    @contextlib.contextmanager
    def mode(self, training: bool, keep: bool = False):
        """Within: training or evaluation mode; ``keep`` puts running statistics back afterwards."""
        buffers = list(self.weights.buffers.values()) if keep else []
        saved = [buffer.clone() for buffer in buffers]
        self.weights.training, was = training, self.weights.training
        try:
            yield
        finally:
            self.weights.training = was
            for buffer, value in zip(buffers, saved, strict=True):
                buffer.copy_(value)

    def test(self, own_statistics: bool = False) -> tuple[Tensor, Tensor]:
        """Loss and accuracy (S,) of each member on its own test split, in evaluation mode.

        With ``own_statistics`` a BatchNorm normalizes the split by its own mean and variance, not by those
        remembered from training: where that is much better, what it remembers is stale.
        """
        e, chance = self.experiment, {"dropout": 0.0, "drop_path": 0.0}  # in neither mode
        self.weights.live = e.knobs | chance
        x, y = self.batches.test(**e.shifts("test"))
        return self.judged(x, y, own_statistics)

    @torch.no_grad()
    def judged(self, x: Tensor, y: Tensor, own_statistics: bool = False) -> tuple[Tensor, Tensor]:
        """Loss and accuracy (S,) of what each member makes of these examples in evaluation mode."""
        with self.mode(training=own_statistics, keep=own_statistics):
            outputs = self.model(x)
        return self.batches.loss(outputs, y), self.batches.accuracy(outputs, y)

    def change(self, step: int | None = None, **values) -> None:
        """Change ``live`` knobs from a step on, else from the next; it is recorded as an event."""
        self.first = self.first.change(self.step if step is None else step, **values)

    def _apply(self, name: str, value, tell: bool = True) -> None:
        """Let the optimizer and the next batches know."""
        self.experiment = self.experiment.replace(**{name: value})
        for group in self.optimizer.param_groups:
            group.update({name: value} if name in group else {})
        if self.graph:
            self.graph.forget()
        if tell:
            told = f"{name} = {text(value)} from step {self.step} on"
            self._events.append(
                {"step": self.step, "kind": "change", "name": name, "value": value, "text": told}
            )

    def checkpoint(self) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays and header from which ``restore`` goes on, bit for bit."""
        if self.waits:
            self._look()
        state = self.optimizer.state_dict()["state"].get(0, {})
        arrays = {"weights": self.weights.flat} | {f"buffer/{k}": v for k, v in self.weights.buffers.items()}
        arrays |= {f"optimizer/{k}": v for k, v in state.items() if v is not None}
        header = {"step": self.step, "diverged": list(self.diverged), "clipped": self._clipped}
        return {name: to_numpy(value, copy=True) for name, value in arrays.items()}, header

    def restore(self, arrays: dict[str, np.ndarray], header: dict) -> "Run":
        """Go on from a checkpoint of the same experiment."""
        with torch.no_grad():
            self.weights.flat.copy_(torch.from_numpy(arrays["weights"]))
            for name, buffer in self.weights.buffers.items():
                buffer.copy_(torch.from_numpy(arrays[f"buffer/{name}"]))
        state = {k.removeprefix("optimizer/"): torch.from_numpy(v.copy()) for k, v in arrays.items()
                 if k.startswith("optimizer/")}  # fmt: skip
        whole = self.optimizer.state_dict()
        whole["state"] = {0: state} if state else {}
        self.optimizer.load_state_dict(whole)
        if self.graph:
            self.graph.forget()
        self.step, self.diverged, self._clipped = header["step"], list(header["diverged"]), header["clipped"]
        self._told = self.step
        for step, name, value in read_changes(self.first.changes):
            if step < self.step:
                self._apply(name, value, tell=False)
        return self

    def _keep(self) -> None:
        """Remember this step for ``fork``: the latest, and ever fewer before it."""
        self.kept[self.step] = self.checkpoint()
        thin(self.kept, self.room)

    def fork(self, step: int, **changes) -> "Run":
        """A new run that equals this one up to ``step`` and then goes its own way."""
        if not 0 <= step <= self.step:
            raise ValueError(f"step={step}: choose a step from 0 to {self.step}, where the run stands")
        twin = self.twin(step, **changes)
        while twin.step < step:
            twin.replay()
        return twin

    def twin(self, step: int, **changes) -> "Run":
        """A ``fork`` that still has to ``replay`` from the last step before ``step`` that is remembered."""
        twin = Run(self.first.fork(step, **changes))
        twin.kept = {t: kept for t, kept in self.kept.items() if t <= step}
        if self.step <= step:
            twin.restore(*self.checkpoint())
        elif twin.kept:
            twin.restore(*twin.kept[max(twin.kept)])
        return twin

    def replay(self) -> None:
        """A step that was seen before: the same, but nothing is measured."""
        self._advance(measure=False)
        self._told = self.step


def thin(kept: dict[int, Frame], room: int) -> None:
    """Forget checkpoints until what is left has at most so many bytes; the latest stays.

    Multiples of large powers of two stay longest.
    """
    size = sum(array.nbytes for arrays, _ in kept.values() for array in arrays.values())
    for step in sorted(sorted(kept)[:-1], key=lambda t: t & -t):
        if size <= room:
            return
        size -= sum(array.nbytes for array in kept.pop(step)[0].values())


def probe(experiment: Experiment, draws: dict | None = None) -> dict[str, np.ndarray]:
    """A network at init, for theory: Gaussian inputs straight into h_0, a Gaussian cotangent from h_L.

    Neither stem nor head takes part; of a recurrent network the cotangent stands on the last time step, all
    that the head would see. Statistics are those of the batch, and dropout and drop path act, as in training.
    Arrays are (L+1, S) or (L, S), ``time_grad_norm`` is (T, S); ``grad_norm`` is the root mean square
    over examples of the norm of what arrives from a cotangent of independent standard normal entries. Probes
    that are given the same ``draws`` need not draw weights again that one of them had.
    """
    e, device = experiment, where(experiment.device)
    if (size := e.cost()[1]) > MAX_PROBE:
        raise ValueError(
            f"this probe would take {size / 2**30:.0f} GiB; the limit is {MAX_PROBE / 2**30:.0f} GiB: "
            "choose a smaller depth, width, batch or number of seeds"
        )
    weights = Still(e.member_seeds, device, {} if draws is None else draws)
    model = MODELS[e.model].make(weights, e, e.seen_as.features or e.width, 1)
    weights.pack()
    weights.live = e.knobs
    start = (e.batch, e.positions, e.width) if e.positions else (e.batch, e.width)

    def normal(name: str, shape: tuple[int, ...]) -> Tensor:
        drawn = [torch.randn(shape, generator=generator(s, name)) for s in e.member_seeds]
        return torch.stack(drawn).to(device)

    tape = Tape()
    seen = model.seen(model.stream(normal("probe input", start).requires_grad_(), tape))
    cotangent = normal("probe cotangent", seen.shape[1:])
    arrived = torch.autograd.grad(seen, tape.roads, cotangent, allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        arrays = activations(tape, ACTIVATIONS[e.activation].make.flat, Scratch())
        arrays |= gradients(tape, arrived, 1, Scratch()) | {"river": river(tape)}
    return {name: to_numpy(value) for name, value in arrays.items()}


def to_numpy(value: Tensor, copy: bool = False) -> np.ndarray:
    """A tensor as float32, int32 (steps, one a row), uint8 or (counts) uint16."""
    array = value.detach().cpu().numpy()
    if array.dtype == np.int64:
        array = array.astype(np.int32 if array.ndim < 2 else np.uint16)
    return array.copy() if copy else array
