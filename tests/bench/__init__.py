"""Benchmarks: ratios taken in one run, run by ``python -m lnres bench``."""

from lnres.registry import Registry

BENCHES = Registry("bench")

from tests.bench import boards, browser, core, gpu, lessons, memory, verdict  # noqa: E402, F401  rows register themselves
