"""An experiment as a stand-alone PyTorch script, as a textbook would print it."""

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jinja2

from lnres.blocks import PLACEMENTS, ROAD, moves
from lnres.data import DATA, SHIFTS
from lnres.experiment import FIELDS, Experiment
from lnres.export.parts import OWN, PARTS
from lnres.fields import read_blocks, read_changes
from lnres.layers import ACTIVATIONS, second_moment
from lnres.models import MODELS
from lnres.norms import NORMS

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

template = cache(TEMPLATES.from_string)
"""A text of a part, compiled once."""

MANY = 70
"""Characters of an equation that are better said in two lines."""

ZERO = " * 0.0"
WIDEST = 110


def script(e: Experiment) -> str:
    """Python source in plain ``torch.nn`` whose losses are those of the experiment's first seed.

    It imports nothing of this project, draws first weights, minibatches and masks by name as
    ``lnres.layers.generator`` does, and holds only what the experiment uses.
    """
    return shaken(TEMPLATES.get_template("train.py.jinja").render(Words(e).all()))


def doc(*paragraphs: str) -> str:
    """A docstring four columns from the margin."""
    told = "\n\n".join(textwrap.fill(line, WIDEST - 8) for line in paragraphs)
    quoted = f'"""{told}"""' if "\n" not in told else f'"""{told}\n"""'
    return textwrap.indent(quoted, "    ").lstrip()


def harmless(text: str) -> str:
    """A text as it may stand in a docstring: of a table of one's own anybody may have named the columns."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.fill(plain.replace("\\", "/").replace('"', "'"), WIDEST - 10)


def called(name: str, x: str) -> str:
    """The call of a function, or x where there is none."""
    return f"{name}({x})" if name else x


def folded(line: str) -> str:
    """A line of a constructor, over as many as it needs."""
    if len(line) <= WIDEST - 8:
        return line
    call = ast.parse(line).body[0].value
    texts = [ast.get_source_segment(line, word) for word in [*call.args, *call.keywords]]
    body = ", ".join(texts)
    if len(body) > WIDEST - 12:
        body = ",\n            ".join(texts) + ","
    return f"{line[: line.index('(') + 1]}\n            {body}\n        )"


def listed(items: list[str]) -> str:
    """A dictionary, over as many lines as it has items if it is long."""
    flat = f"{{{', '.join(items)}}}"
    lines = "".join(f"    {item},\n" for item in items)
    return flat if len("CHANGES = " + flat) <= WIDEST else f"{{\n{lines}}}"


def definition(make: Callable) -> str:
    """The source of a function without its decorators."""
    lines = inspect.getsource(inspect.unwrap(make)).splitlines()
    return "\n".join(lines[next(i for i, line in enumerate(lines) if line.startswith("def ")) :])


class Words:
    """What the template says of an experiment ``e``: the rows of its choices, and their parts filled in."""

    def __init__(self, e: Experiment):
        self.e = e
        self.stages = [e.at(-1), *(e.at(step) for step, _, _ in read_changes(e.changes))]
        self.ever = {
            name for name in e.live() if any(getattr(s, name) != FIELDS[name].default for s in self.stages)
        }
        self.table, self.kind = DATA[e.data].make, NORMS[e.norm].make
        named = {name: getattr(e, name) for name in PARTS}
        if e.view == "auto":
            named["view"] = MODELS[e.model].make.views[0]
        self.row = {name: FIELDS[name].metadata["registry"][value] for name, value in named.items()}
        model = PARTS["model"][e.model]
        images = model.axis == 1
        self.leaves = MODELS[e.model].make.widths(e)[-1] // e.width
        self.near, self.wide = ("n_in", "n") if self.leaves > 1 else ("WIDTH", "WIDTH")
        self.known = {
            "e": e,
            "images": images,
            "dims": model.dims,
            "blocks": model.count,
            "positions": e.positions,
            "channels": self.row["view"].make.features,
            "wide": self.wide,
            "per_feature": f"({self.wide}, 1, 1)" if images else f"({self.wide},)",
            "gate": "self.gate(x.movedim(1, -1)).movedim(-1, 1)" if images else "self.gate(x)",
            "label": json.dumps(self.table.label, ensure_ascii=False),
            "slack": f" + {self.table.slack}" if self.table.slack else "",
        }
        self.part = {name: self.filled(PARTS[name].get(value, OWN)) for name, value in named.items()}
        self.model = self.part["model"]
        self.slots = (
            PLACEMENTS[e.placement].make if e.norm != "none" and self.kind.over != "w" else frozenset()
        )
        moving = "placements" in self.ever
        self.loose = frozenset(ROAD) - MODELS[e.model].make.fixed(e, 1) if moving else frozenset()
        _, self.bias_std, self.law = self.row["init"].make(e, 1, 1, 1)

    def filled(self, part):
        """A part, or a text of it, whose templates have been rendered."""
        if isinstance(part, str):
            return template(part).render(self.known)
        texts = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        return dataclasses.replace(
            part, **{name: self.filled(text) for name, text in texts.items() if isinstance(text, str)}
        )

    def normed(self, slot: str, x: str, module: str = "") -> str:
        """What stands in a slot, called."""
        if slot in self.loose:
            return f'{"" if slot in ("inner", "activated") else "self."}at("{slot}", {x})'
        if slot not in self.slots:
            return x
        gain = "NORM_GAIN * " if "norm_gain" in self.ever else ""
        return gain + called(f"self.{module or slot}", x)

    def literal(self, name: str, value) -> str:
        """The value of a live knob in Python; for a block whose norms moved, which stands in which slot."""
        of = FIELDS[name].metadata.get("single")
        if of is None:
            return str(value)
        values = read_blocks(value, of)
        if of == "placement":
            own = self.e.placement
            values = {
                block: {
                    slot: moves(own, place).get(slot, slot) for slot in ROAD if slot in PLACEMENTS[place].make
                }
                for block, place in values.items()
            }
        return str(values if of else {*values} or "()").replace("'", '"')

    def start(self, n_in: str, n_out: str, power: str, factor: str) -> tuple[str, bool]:
        """The std that weights start with, and the words behind it; and whether it is zero."""
        e, init = self.e, self.part["init"]
        sizes = {"n_in": n_in, "n_out": n_out, "power": f"power={power}"}
        std = f"spread({', '.join(sizes[name] for name in init.takes.split(', '))})"
        std += (f" * {e.gain}" if e.gain != 1 else "") + factor
        zero = factor == ZERO or e.gain == 0
        if zero and self.kind.over == "w":  # they have to point somewhere even where they start at zero
            std = f"1 / math.sqrt({n_in})"
        law = f", draw={self.law}" if self.law != "normal" else ""
        bias = f", bias_std={init.bias.format(**sizes)}" if self.bias_std else ""
        return f"std={std}{law}{bias}", zero

    def made(self, place: str, layer: str, zero: bool) -> list[str]:
        """The lines that make a layer of a branch, and normalize its weights."""
        lines = [f"self.{place} = {layer}"]
        if self.kind.over == "w":
            lines.append(f"normed(self.{place}{', gain=0.0' if zero else ''})")
        return lines

    def layer(
        self, place: str, n_in: str, n_out: str, power: str, factor: str, more="", make="linear", reach=""
    ) -> list[str]:
        """The lines that make a layer of a branch."""
        start, zero = self.start(reach + n_in, reach + n_out, power, factor)
        words = f'f"{{name}}.{place}", {n_in}, {n_out}, {start}{more}'
        return self.made(place, f"{make}({words})", zero)

    def walk(self) -> dict:
        """What the recurrent layers say, time step by time step."""
        e, model = self.e, self.model
        power = "POWER" if model.gates == 1 else "1"
        wide = f"{model.gates} * WIDTH" if model.gates > 1 else "WIDTH"
        last = ZERO if e.zero_last else self.part["residual"].last
        start, zero = self.start("WIDTH", "WIDTH", power, last)
        again, nothing = self.start("WIDTH", "WIDTH", power, "")
        again, _, bias = again.partition(", bias_std=")
        entrance = self.made("input", f'linear(f"{{name}}.input", WIDTH, {wide}, {start})', zero)
        memory = self.made("recurrent", f'recurrent(f"{{name}}.recurrent", {model.gates}, {again})', nothing)
        own, norms = entrance + memory, {}
        if "inner" in self.slots:
            sums = model.sums if e.joint else [("of_input", wide), ("of_state", wide)]
            norms = dict(sums) | dict(model.cell)
        if "activated" in self.slots:
            norms["activated"] = "WIDTH"
        own += [f"self.{slot} = norm({features})" for slot, features in norms.items()]
        if "dropout" in self.ever:
            own.append('self.dropout = Dropout(f"{name}.dropout")')

        gain = "NORM_GAIN * " if "norm_gain" in self.ever else ""

        def at(slot: str, x: str) -> str:
            return gain + called(f"self.{slot}", x) if slot in norms else x

        def whole(slot: str, x: str) -> str:
            return f"({at(slot, x)})" if gain or slot not in norms else at(slot, x)

        return {
            "own": own,
            "inputs": whole("of_input", "self.input(x)") if "of_input" in norms else "self.input(x)",
            "state": at("of_state", "self.recurrent(h)"),
            "at": at,
            "gated": whole,
            "activation": lambda x: called(self.part["activation"], x),
            "bias": bias,
            "out": called("self.dropout" if "dropout" in self.ever else "", "torch.stack(states, dim=1)"),
        }

    def branch(self) -> dict:
        """Constructor lines and result of the branch: linear, activation and, with two layers, linear."""
        e, model, residual = self.e, self.model, self.part["residual"]
        near, wide, last = self.near, self.wide, ZERO if e.zero_last else residual.last
        kind = {"make": model.layer, "reach": model.reach}
        halved = ", stride=1 if n_in == n else 2" if near != wide else ""
        if e.layers == 2:
            inside = model.hidden + wide
            own = [
                *self.layer("first", near, inside, "1", residual.inner, halved, **kind),
                *self.layer("last", inside, wide, "POWER", last, **kind),
            ]
        else:
            inside = wide
            own = self.layer("first", near, wide, "POWER", last, halved, **kind)
        there = self.slots - self.loose
        own += [f"self.{slot} = norm({inside})" for slot in ("inner", "activated") if slot in there]
        out = self.normed("inner", "self.first(x)")
        out = self.normed("activated", called(self.part["activation"], out))
        if "dropout" in self.ever:
            own.append('self.dropout = Dropout(f"{name}.dropout")')
            out = f"self.dropout({out})"
        return {"own": own, "out": f"self.last({out})" if e.layers == 2 else out}

    def attention(self) -> dict:
        """Constructor lines and result of the attention branch."""
        residual = self.part["residual"]
        last = ZERO if self.e.zero_last else residual.last
        own, scaled = [], residual.inner and " * values"
        if scaled:
            own.append(f"values = torch.tensor([1, 1, 1{residual.inner}]).repeat_interleave(WIDTH)")
        own += [
            *self.layer("first", "WIDTH", "3 * WIDTH", "1", scaled),
            *self.layer("last", "WIDTH", "WIDTH", "1", last),
            *(f"self.{slot} = norm(WIDTH)" for slot in ("inner", "activated") if slot in self.slots),
        ]
        return {"own": own, "out": f"self.last({self.normed('activated', self.normed('inner', 'mixed'))})"}

    def block(self) -> dict:
        """Constructor lines, result and description of the one equation."""
        places = {"before": "before", "branch": "between", "after": "after"}
        features = {"before": self.near}
        own = [
            f"self.{name} = norm({features.get(slot, self.wide)})"
            for slot, name in places.items()
            if slot in self.slots - self.loose
        ]
        if self.loose:
            made = (f'"{slot}": norm({features.get(slot, self.wide)})' for slot in ROAD if slot in self.slots)
            own.append(f"self.norms = nn.ModuleDict({{{', '.join(made)}}})  # by the slot where they began")
        own += self.part["residual"].own.splitlines()
        at = ", self.at" if "inner" in self.loose else ""
        fx = self.normed("branch", f"self.branch({self.normed('before', 'x')}{at})", "between")
        if "drop_path" in self.ever:
            own.append('self.drop = DropPath(f"{name}.drop_path")')
            fx = f"self.drop({fx})"
        row = self.row["residual"]
        about = ["One unit of the stream.", f"Skip: {row.label}. {row.about}"]
        if self.slots:
            place = PLACEMENTS[self.e.placement]
            about.append(f"Norm: {place.label}. {place.about}")
        lines, joined, valves = (
            [],
            self.part["residual"].code,
            {"skip_gain", "skip_gains", "cut", "drop_branch"} & self.ever,
        )
        if len(joined) + len(fx) > MANY or valves:
            lines, fx = [f"fx = {fx}"], "fx"
        if valves or self.loose:
            own.append('self.number = int(name.split(".")[1]) + 1')
        if "drop_branch" in valves:
            lines.append("fx = (self.number not in DROP_BRANCH) * fx")
        everywhere = "gain_block" not in self.ever
        factors = {
            "skip_gain": "SKIP_GAIN"
            if everywhere
            else "(SKIP_GAIN if GAIN_BLOCK in (0, self.number) else 1)",
            "skip_gains": "SKIP_GAINS.get(self.number, 1)",
            "cut": "(self.number not in CUT)",
        }
        if valves - {"drop_branch"}:
            lines.append(f"x = {' * '.join(factors[name] for name in factors if name in valves)} * x")
        if self.leaves > 1 and self.e.residual != "none":
            projection = 'halving(f"{name}.projection", n_in, n)'
            own.append(f"self.projection = nn.Identity() if n_in == n else {projection}")
            joined = re.sub(r"\bx\b", "skip", joined)
            lines.append("skip = self.projection(x)")
        lines.append(f"return {self.normed('after', joined.replace('FX', fx))}")
        return {"own": own, "lines": lines, "about": about}

    def shifting(self) -> list[str]:
        """The lines that change inputs."""
        lines = {
            "contrast": "x = x * CONTRAST",
            "contrast_spread": 'own = torch.randn((len(x), 1), generator=generator(SEED, "contrast", key))\n'
            "x = x * (CONTRAST_SPREAD * own).exp()",
            "brightness": "x = x + BRIGHTNESS",
            "noise": 'x = x + NOISE * torch.randn(x.shape, generator=generator(SEED, "noise", key))',
        }
        return [line for name in lines if name in self.ever for line in lines[name].splitlines()]

    def all(self) -> dict:
        """Every word of the template."""
        e, row, part, ever = self.e, self.row, self.part, self.ever
        wrapper = {(1, -1): "FeaturesLast", (-1, 1): "FeaturesSecond"}.get(
            (self.model.axis, part["norm"].axis), ""
        )
        scaled = e.affine and self.slots
        start = [f"layer.weight.data *= {e.gamma}  # γ at the start"] if scaled and e.gamma != 1 else []
        if scaled and e.beta and self.kind.shifts:
            start.append(f"layer.bias.data += {e.beta}  # β at the start")
        masks = {"dropout": "Dropout.step = step", "drop_path": "DropPath.step = step"}
        warmup = f" * min(1, (step + 1) / {e.warmup})" if e.warmup > 1 else ""
        changes: dict[int, list[str]] = {}
        for step, name, value in read_changes(e.changes):
            changes.setdefault(step, []).append(f'"{name.upper()}": {self.literal(name, value)}')
        group = [f"{n}={n.upper()}" for n in ("momentum", "weight_decay") if f"{n}=" in part["optimizer"]]
        rate = "learning_rate(step)" if warmup or part["schedule"] else "LR"
        stepping = ["globals().update(CHANGES.get(step, {}))"] if changes else []
        stepping += [line for name, line in masks.items() if name in ever]
        if changes or rate != "LR":
            stepping.append(
                f"optimizer.param_groups[0].update({', '.join([f'lr={rate}', *(group if changes else [])])})"
            )
        bias = 'draw(generator(SEED, f"{name}.bias"), 1, n_out, std=bias_std)[0]'
        draw = ", draw=normal" if self.law != "normal" else ""
        shifting, where = self.shifting(), SHIFTS[e.shift].make
        batch = f"x[picked]{part['stream'].gain}"
        return self.known | {
            "row": row,
            "part": part,
            "table": self.table,
            "ever": ever,
            "start": {name: self.literal(name, getattr(e, name)) for name in e.live()},
            "changes": listed([f"{step}: {{{', '.join(new)}}}" for step, new in changes.items()]),
            "doc": doc,
            "source": lambda name: definition(DATA[name].make.func),
            "title": harmless(f"{e.label()}: {row['model'].label}, {row['data'].label}"),
            "folded": folded,
            "power": f"{second_moment(ACTIVATIONS[e.activation].make.__call__):.12g}",
            "law": self.law,
            "drawing": draw,
            "keywords": draw + (", bias_std=0.0" if self.bias_std else ""),
            "draw": "draw" if draw else "normal",
            "biases": f"layer.bias.data = {bias if draw else bias.replace('draw', 'normal')}"
            if self.bias_std
            else "nn.init.zeros_(layer.bias)",
            "norm": start,
            "wrapped": lambda layer: called(wrapper, layer),
            "branch": self.branch(),
            "attention": self.attention(),
            "staged": self.leaves > 1,
            "leaves": f"{self.leaves} * WIDTH" if self.leaves > 1 else "WIDTH",
            "walk": self.walk() if self.model.seen else {},
            "block": self.block(),
            "loose": self.loose,
            "made": str({slot: slot for slot in ROAD if slot in self.slots}).replace("'", '"'),
            "enter": self.model.code.replace("VIEW", part["view"]),
            "final": self.slots and e.final_norm and self.kind.over != "p",
            "outputs": "CLASSES" if self.table.classes else "FEATURES",
            "loss": "F.cross_entropy" if self.table.classes else "F.mse_loss",
            "warmup": warmup,
            "stepping": stepping,
            "shifting": shifting,
            "batch": f"shifted({batch}, step)" if shifting and "train" in where else batch,
            "tested": 'shifted(test_x, "test")' if shifting and "test" in where else "test_x",
        }


def shaken(source: str) -> str:
    """The source without the definitions, imports and constants that nothing in it uses."""
    chunks = [chunk.lstrip("\n") for chunk in source.split("\n\n\n") if chunk.strip()]
    trees = [ast.parse(chunk) for chunk in chunks]
    named = [{node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} for tree in trees]
    defined = [
        {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for tree in trees
    ]
    used, wanted = set(), {"train"}
    while wanted:
        used |= wanted
        wanted = set().union(*(n for n, d in zip(named, defined, strict=True) if d & used)) - used
    head, *rest = (c for c, d in zip(chunks, defined, strict=True) if not d or d & used)
    return "\n\n\n".join(["\n".join(_kept(head, used)), *rest])


def _kept(head: str, used: set[str]) -> list[str]:
    """The lines of imports and constants, without what is not used."""
    lines = head.split("\n")
    for node in ast.parse(head).body:
        k = node.lineno - 1
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [name for name in node.names if (name.asname or name.name) in used]
            lines[k] = ast.unparse(node) if node.names else None
        elif isinstance(node, ast.Assign) and node.targets[0].id not in used:
            lines[k] = None
    return [line for line in lines if line is not None]
