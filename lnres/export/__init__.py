"""Leave with it: what was seen, as a script, a table, a configuration or a page that needs nothing else.

Every row of FORMATS turns records into a text; a record of no steps will do where only its experiment counts.
"""

from collections.abc import Sequence

from lnres.export.report import report
from lnres.export.script import script
from lnres.export.tables import experiment_of, to_csv, to_json
from lnres.record import Record
from lnres.registry import Registry
from lnres.scene import Scene

FORMATS = Registry("to")


@FORMATS.add("script", "PyTorch script")
def as_script(records: Sequence[Record]) -> str:
    """A stand-alone script in plain torch.nn whose losses are those of the first seed."""
    if len(records) > 1:
        raise ValueError(f"a script is of one configuration, here are {len(records)}: choose one of them")
    return script(experiment_of(records[0]))


@FORMATS.add("json", "configuration")
def as_json(records: Sequence[Record]) -> str:
    """Every setting of every configuration, as JSON."""
    return to_json(Scene([experiment_of(record) for record in records]))


@FORMATS.add("csv", "table")
def as_csv(records: Sequence[Record]) -> str:
    """Everything that was measured but histograms, a row for each step, seed and block."""
    return to_csv(records)


@FORMATS.add("html", "report")
def as_report(records: Sequence[Record]) -> str:
    """One page with the settings, a sentence on each configuration, and every chart, without any network."""
    return report(records)
