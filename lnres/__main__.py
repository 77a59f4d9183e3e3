"""The command line: train, probe, export, report, claims, papers and bench."""

import argparse
import dataclasses
import json
import os
import sys
import time
from inspect import signature
from pathlib import Path
from typing import NoReturn

import numpy as np


def experiment_of(pairs: list[str], **options):
    """An experiment from ``key=value`` words."""
    from lnres.experiment import Experiment  # after the parser: --help should not wait for torch

    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"{pair!r}: write key=value, as in depth=32")
    values = dict(own(pair).split("=", 1) for pair in pairs)
    return Experiment.parse(values | {name: value for name, value in options.items() if value is not None})


def own(pair: str) -> str:
    """A setting; where it is a CSV file of one's own, the file is read and the setting names its table."""
    from lnres.tables import read_csv

    name, _, value = pair.partition("=")
    return (
        f"data={read_csv(Path(value).read_bytes()).enrol()}"
        if name == "data" and value.endswith(".csv")
        else pair
    )


def plain(array: np.ndarray) -> list:
    """Nested lists for JSON, which knows no NaN and no infinity: they become null."""
    return np.where(np.isfinite(array), array, None).tolist() if array.dtype.kind == "f" else array.tolist()


def trained(run, quiet: bool):
    """The record of a run that has made all its steps; what happens on the way is told on stderr."""
    from tqdm import tqdm

    from lnres.meanfield import foreseen
    from lnres.record import Record

    e = run.first
    record = Record({"experiment": e.link(), "label": e.label()})
    with tqdm(total=e.steps, unit="step", disable=quiet) as bar:
        while run.step < e.steps:
            arrays, header = next(run)
            if run.step == 1:  # to the first belongs what theory says of it
                arrays |= foreseen(e.at(0), arrays)
            record.extend(arrays, header)
            for event in header["events"]:
                bar.write(event["text"], file=sys.stderr)
            loss = "diverged" if all(run.diverged) else f"{np.nanmean(arrays['loss_train']):.3g}"
            bar.set_postfix(loss=loss, refresh=False)
            bar.update()
    return record


def writable(path: str | None, option: str = "--out") -> None:
    """Raise ``ValueError`` where there is no folder for a file."""
    if path and not Path(path).absolute().parent.is_dir():
        raise ValueError(f"{option} {path}: there is no such folder; make it first")


def train(args) -> None:
    """Train one experiment and keep its record."""
    from lnres.train import Run, one_thread
    from lnres.verdict import sentence

    writable(args.out)
    one_thread()
    run = Run(experiment_of(args.settings, steps=args.steps))
    start = time.perf_counter()
    record = trained(run, args.quiet)
    seconds = time.perf_counter() - start
    loss, accuracy = run.test()
    if args.out:
        record.save(args.out)
    summary = {
        "experiment": dataclasses.asdict(run.first), "steps": run.step, "seconds": round(seconds, 3),
        "loss_train": plain(record["loss_train"][-1]), "acc_train": plain(record["acc_train"][-10:].mean(0)),
        "loss_test": plain(loss.cpu().numpy()), "acc_test": plain(accuracy.cpu().numpy()),
        "events": record.events, "verdict": sentence(record),
    }  # fmt: skip
    print(json.dumps(summary))


def records_of(words: list[str]) -> list:
    """Records from files, and records of no steps from settings (``key=value``) or a link of them."""
    from lnres.record import Record
    from lnres.scene import MOST, Scene

    records = [Record.load(word) for word in words if word.endswith(".safetensors")]
    settings = [word for word in words if not word.endswith(".safetensors")]
    for word in settings:
        if "=" not in word:
            raise ValueError(
                f"{word!r}: write key=value, as in depth=32, or a file that ends in .safetensors"
            )
    if settings or not words:
        scene = Scene.parse("&".join(map(own, settings)))
        records += [Record({"experiment": e.link()}) for e in scene.experiments]
    if len(records) > MOST:
        raise ValueError(f"here are {len(records)} configurations; up to {MOST} can be compared")
    return records


def export(args) -> None:
    """Print settings or records in another format, such as a stand-alone PyTorch script."""
    from lnres.export import FORMATS

    sys.stdout.write(FORMATS[args.to].make(records_of(args.source)))


def report(args) -> None:
    """Write a comparison as one HTML page; what has no record yet is trained first."""
    from lnres.export import FORMATS
    from lnres.export.tables import experiment_of
    from lnres.train import Run, one_thread

    writable(args.out)
    one_thread()
    asked = {"steps": args.steps} if args.steps else {}
    records = [
        record if record.rows("step") else trained(Run(experiment_of(record).replace(**asked)), args.quiet)
        for record in records_of(args.source)
    ]
    Path(args.out).write_text(FORMATS["html"].make(records), encoding="utf-8")


def probe(args) -> None:
    """One forward and backward pass at init, as JSON."""
    from lnres.train import one_thread
    from lnres.train import probe as measure

    one_thread()
    experiment = experiment_of(args.settings)
    arrays = measure(experiment)
    profiles = {name: plain(array) for name, array in arrays.items() if not name.endswith("_hist")}
    print(json.dumps({"experiment": dataclasses.asdict(experiment)} | profiles))


def claims(args) -> None:
    """Decide claims by experiment; finished experiments are kept in a folder beside FILE."""
    from contextlib import nullcontext
    from tempfile import TemporaryDirectory

    from lnres.claims import results
    from lnres.claims.conduct import side_by_side

    writable(args.json, "--json")
    with nullcontext(results.folder_of(args.json)) if args.json else TemporaryDirectory() as kept:
        folder = Path(kept)
        todo = [name for name in results.needed(args.names) if not results.load(name, folder)]
        for _ in side_by_side(todo, folder, args.jobs):
            if args.json:
                results.write(Path(args.json), results.rows(folder))
        rows = results.rows(folder)
    if args.json:
        results.write(Path(args.json), rows)
    else:
        print(
            json.dumps([row for row in rows if not args.names or row["id"] in args.names], ensure_ascii=False)
        )


def papers(args) -> None:
    """Measure what papers printed; rows of FILE that are not named stay."""
    from tqdm import tqdm

    from lnres import papers
    from lnres.claims import results
    from lnres.train import one_thread

    writable(args.json, "--json")
    one_thread()
    names = args.names or list(papers.PAPERS)
    for name in names:
        papers.PAPERS[name]
    file = Path(args.json) if args.json else None
    kept = {row["id"]: row for row in json.loads(file.read_text("utf-8"))} if file and file.exists() else {}
    for name in tqdm(names, unit="row"):
        kept[name] = papers.run(name)
        if file:
            results.write(file, [kept[n] for n in papers.PAPERS if n in kept])
    if not file:
        print(json.dumps([kept[name] for name in names], ensure_ascii=False))


def bench(args) -> None:
    """Ratios, both sides interleaved in one run."""
    from tests.bench import BENCHES

    results, asked = {}, {"minutes": args.minutes} if args.minutes else {}
    for name in args.names or BENCHES:
        if wrong := asked.keys() - signature(BENCHES[name].make).parameters.keys():
            raise ValueError(f"--{min(wrong)}: {name} takes the time it takes; leave it out")
        print(f"{name}: {BENCHES[name].about}", file=sys.stderr)
        results[name] = BENCHES[name].make(**asked)
        print(json.dumps({name: results[name]}), flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


class Parser(argparse.ArgumentParser):
    """Tells a wrong option in one line, as everything else that is wrong."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"lnres: {message}; see {self.prog} --help\n")


def main() -> int:
    """Run a command; bad input is one line on stderr and exit status 2."""
    parser = Parser(prog="python -m lnres", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (train, probe, export, report, claims, papers, bench):
        sub = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        if command in (claims, papers, bench):
            sub.add_argument("names", nargs="*", metavar="NAME")
            sub.add_argument("--json", metavar="FILE")
        elif command in (export, report):
            sub.add_argument("source", nargs="*", metavar="KEY=VALUE|LINK|FILE")
        else:
            sub.add_argument("settings", nargs="*", metavar="KEY=VALUE")
        if command is bench:
            sub.add_argument("--minutes", type=float, help="how long the bench memory looks on (3)")
        if command is claims:
            sub.add_argument(
                "--jobs", type=int, default=os.cpu_count(), help="processes that train (a core each)"
            )
        if command is export:
            sub.add_argument("--to", default="script", help="script (the default), json, csv or html")
        if command is report:
            sub.add_argument("--out", metavar="FILE", default="report.html", help="where to write the page")
            sub.add_argument("--steps", type=int, help="how long to train what has no record")
            sub.add_argument("--quiet", action="store_true", help="no progress bars")
        if command is train:
            sub.add_argument("--steps", type=int)
            sub.add_argument("--out", metavar="FILE", help="where to write the record (safetensors)")
            sub.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args()
    try:
        args.command(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as with head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    except OSError as error:  # of a file, mostly
        print(f"lnres: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"lnres: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
