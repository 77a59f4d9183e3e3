"""Damaged files and links, the same ones in every run of the suite."""

import random
from urllib.parse import quote_plus, urlencode

from lnres.experiment import FIELDS
from lnres.scene import MOST

ODD = (
    "",
    "~",
    "~~~~~~",
    "1~2~3~4~5",
    "nan",
    "-inf",
    "1e999",
    "-1",
    "0x1",
    "1_000",
    "9" * 400,
    "<b>",
    "\0",
    "٣",
    "a\nb",
)


def damaged(blob: bytes, rng: random.Random) -> bytes:
    """A file with some of it gone, doubled, swapped or overwritten; mostly in its first part."""
    data = bytearray(blob)
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = rng.randrange(min(len(data), rng.choice((40, 2000, len(data)))) or 1)
        size = rng.choice((1, 1, 8, 100, len(data)))
        match rng.randrange(5):
            case 0:
                del data[at : at + size]
            case 1:
                data[at:at] = data[at : at + size]
            case 2:
                data[at : at + 1] = rng.randbytes(1)
            case 3:
                data[at : at + 1] = rng.choice(
                    (b"0", b"9", b"-", b'"', b",", b"\n", b"{", b"[", b"null", b"nan")
                )
            case _:
                data[at : at + size] = bytes(reversed(data[at : at + size]))
        if not data:
            break
    return bytes(data)


def link(rng: random.Random) -> str:
    """A query of settings that are right, odd or wrong together; every second one is damaged on top of it."""

    def value(name: str) -> str:
        told = FIELDS[name].metadata
        right = list(told.get("registry") or [str(told.get(end, "5.lr.0.1")) for end in ("low", "high")])
        right += [str(FIELDS[name].default), "5.lr.0.1--90.dropout.0.3", "5_9-post", "5-0.5_9-2"]
        return rng.choice(right if rng.random() < 0.7 else ODD)

    def values(name: str) -> str:
        count = rng.choice((1, 1, 1, 2, MOST))
        return "~".join(value(name) if name in FIELDS else rng.choice(ODD) for _ in range(count))

    names = rng.sample([*FIELDS, "scene", "__class__", "panels", ""], rng.randrange(1, 7))
    query = urlencode({name: values(name) for name in names})
    blob = damaged(query.encode(), rng) if rng.random() < 0.5 else query.encode()
    return blob.decode("utf-8", "replace") if rng.random() < 0.9 else quote_plus(rng.randbytes(40))
