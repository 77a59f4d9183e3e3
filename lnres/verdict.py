"""What is happening, in one plain sentence, from the numbers that were recorded."""

import math

import numpy as np

from lnres.record import Record

VANISHED, EXPLODED = 1e-3, 1e3
"""Gradient norm at the first block relative to the last beyond which depth alone explains the trouble."""
GREW = 10
"""Growth of the signal through the stack that is worth telling."""
ALIKE = 0.98
"""Mean cosine between different examples at which a network can hardly tell them apart."""


def times(value: float) -> str:
    """A factor as people read it: 0.031, 24 or 3·10⁻⁷."""
    if value < 1e-37:
        return "less than 10⁻³⁷"
    if 0.01 <= value < 1000:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    digits, power = f"{value:.0e}".split("e")
    return f"{digits}·10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def mean_log(values: np.ndarray) -> float:
    """Geometric mean of what is positive and finite, 0 if nothing is."""
    good = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.log(good.astype(np.float64)).mean())) if good.size else 0.0


def sentence(record: Record) -> str:
    """One sentence on the latest state of a run."""
    if record.last_step < 0 or not record.rows("probe_step"):
        return "Waiting for the first step."
    loss, accuracy = record["loss_train"], record["acc_train"]
    members, alive = loss.shape[1], int(np.isfinite(loss[-1]).sum())
    fallen = [event for event in record.events if event["kind"] == "diverged"]
    if alive == 0 and not fallen:
        return "Diverged: no seed has a finite loss."
    if fallen and 2 * alive <= members:
        first, last = fallen[0], record["act_rms"].shape[1] - 1
        size = np.where(np.isfinite(record["act_rms"][0]), record["act_rms"][0], np.inf)
        gain = mean_log(size[-1]) / max(mean_log(size[0]), 1e-38)
        grew = f" The signal grew {times(gain)}-fold up the stack." if gain > GREW else ""
        where = {0: "the stem", last + 1: "the head"}.get(first["block"], f"block {first['block']}")
        who = f"{members - alive} of {members}" if alive else "all"
        return f"Diverged: {who} seeds by step {fallen[-1]['step']}, first in {where}.{grew}"
    gradient = record["grad_norm"][-1]
    reach = mean_log(gradient[0]) / max(mean_log(gradient[-1]), 1e-38)
    right = accuracy[-10:][np.isfinite(accuracy[-10:])]
    if alive and not right.size:  # nothing to classify
        return f"Loss from {float(np.nanmean(loss[:1])):.2g} to {float(np.nanmean(loss[-10:])):.2g}."
    share = float(right.mean()) if alive else math.nan
    now, start = float(np.nanmean(loss[-10:])), float(np.nanmean(loss[:1]))
    lost = f" {members - alive} of {members} seeds diverged." if alive < members else ""
    if share >= 0.9:
        return (
            f"Learns: {share:.0%} right; block 1 receives {times(reach)} times the gradient of the top.{lost}"
        )
    if reach < VANISHED:
        return f"Vanishing gradient: block 1 receives {times(reach)} of the top's; {share:.0%} right.{lost}"
    if reach > EXPLODED:
        return f"Exploding gradient: {times(reach)} times the top's at block 1; {share:.0%} right.{lost}"
    if now < 0.8 * start and record.last_step > 5 and share > 0.2:
        return f"Learning: loss from {start:.2g} to {now:.2g}, {share:.0%} right so far.{lost}"
    alike = float(np.nanmean(record["cosine"][-1, -1]))
    if alike > ALIKE:
        return f"Collapsed: at the top all examples look alike (cosine {alike:.3f}); {share:.0%} right.{lost}"
    told = f"Not learning yet: loss {now:.2f}, {share:.0%} right"
    return f"{told}; block 1 receives {times(reach)} of the top's gradient.{lost}"
