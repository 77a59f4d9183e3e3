"""What a worker gives its turns to: it goes on until its goal, unless it is held."""

import math
from collections.abc import Sequence


def why(error: Exception) -> str:
    """What went wrong: a sentence of our own as it is, anything else with its kind."""
    return f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


class Turns:
    """Base of runs, studies and measures: what ``Worker`` asks of them, and the commands they all know."""

    ids: Sequence[str] = ()
    """Keys of what is kept of it in the store."""
    reached = 0.0
    """What the goal is while paused."""

    def __init__(self):
        self.goal, self.held = math.inf, False

    def play(self) -> None:
        """Go on to the end."""
        self.goal = math.inf

    def pause(self) -> None:
        """Stand still."""
        self.goal = min(self.goal, float(self.reached))

    def hold(self, unwatched: bool) -> None:
        """Nobody looks: stand still without being paused; somebody looks again: go on."""
        self.held = unwatched

    def behind(self) -> int | None:
        """Which part of it is next, None if there is nothing to do."""
        raise NotImplementedError

    def wait(self, now: float) -> float:
        """Seconds until it wants a turn."""
        raise NotImplementedError

    def advance(self) -> None:
        """The smallest piece of work."""
        raise NotImplementedError

    def flush(self, now: float) -> list[tuple[str, bytes]]:
        """What is new, as (of what, frame)."""
        raise NotImplementedError

    def replayed(self) -> dict[str, int] | None:
        """How far runs are that make steps again; None where there is nothing new to say of that."""

    def checkpoint(self, now: float) -> None:
        """Save what a worker that dies would lose."""

    def share(self, room: int) -> None:
        """Remember at most so many bytes a run."""
