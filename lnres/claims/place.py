"""Where the norm stands, how many there are, and where γ starts (E12, E14, E15, E16)."""

from lnres.blocks import PLACEMENTS
from lnres.claims.bench import ADAM, EXPERIMENTS, FIRST, SGD, Found, Steps, plain, rates, residual, sweep

PLACEMENTS.put(
    "entered", "before branch and activation", "y=x+W_2f(N(W_1N(x)))", listed=False,
    make=frozenset({"before", "inner"}), about="At the entrance of the branch and before its activation.",
)  # fmt: skip

SIX = "pre", "post", "sandwich", "branch", "entered", "every"
"""Placements of E14."""
EXTRA = "sandwich", "entered", "every"
"""Those with more norms a block than one."""
GAMMAS = 0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0


@EXPERIMENTS.add("E12", "Before or after the sum")
def before_or_after(first: int = FIRST) -> Steps:
    """Residual networks of 6, 24, 48 blocks, Adam, 300 steps: pre, post, with warm-up, DeepNorm, bare."""
    found = Found()
    for depth in (6, 24, 48):
        arms = {
            scheme: residual(scheme, depth=depth, steps=300, seed=first)
            for scheme in ("pre-LN", "post-LN", "DeepNorm", "bare")
        }
        arms["post-LN + warm-up"] = arms["post-LN"].replace(warmup=100)
        arms = {f"{arm} D={depth}": e for arm, e in arms.items()}
        yield from sweep(found, arms, rates(ADAM, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2))
    return found


@EXPERIMENTS.add("E14", "How many norms")
def how_many(first: int = FIRST) -> Steps:
    """Residual networks of 8 and 32 blocks with LayerNorm in six places, always one before the head."""
    found = Found()
    for grid in (rates(SGD, 0.01, 0.05, 0.1), rates(ADAM, 3e-4, 1e-3, 3e-3)):
        for depth in (8, 32):
            arms = {
                f"{place} D={depth} {grid[0][0]}": residual(
                    "pre-LN", depth=depth, steps=250, seed=first
                ).replace(placement=place)
                for place in SIX
            }
            yield from sweep(found, arms, grid)
    return found


@EXPERIMENTS.add("E15", "Norm before or after the activation")
def order(first: int = FIRST) -> Steps:
    """Plain networks of 4 to 24 blocks, LayerNorm before or after the ReLU, SGD, 400 steps."""
    found = Found()
    for depth in (4, 8, 12, 16, 24):
        arms = {
            f"{name} D={depth}": plain(norm="layer", placement=place, depth=depth, steps=400, seed=first)
            for name, place in (("before", "inner"), ("after", "activated"))
        }
        yield from sweep(found, arms, rates(SGD, 0.01, 0.05, 0.1))
    return found


@EXPERIMENTS.add("E16", "Where γ starts")
def starts(first: int = FIRST) -> Steps:
    """γ from 0 to 10 in every LayerNorm of a plain and a residual network; and γ, β on or off."""
    found = Found()
    grid = rates(SGD, 0.01, 0.05, 0.1)
    nets = {
        "plain": plain(norm="layer", depth=4, steps=300, seed=first),
        "residual": residual("pre-LN", depth=16, steps=300, seed=first),
    }
    affine = {
        name: residual("pre-LN", depth=8, steps=300, seed=first, affine=on)
        for name, on in (("affine", True), ("no affine", False))
    }
    yield from sweep(found, affine, grid)
    for net, e in nets.items():
        arms = {f"{net} γ={gamma:g}": e.replace(gamma=gamma) for gamma in GAMMAS}
        yield from sweep(found, arms, grid + rates(ADAM, 1e-3, 3e-3))
    return found
