"""Checkpoints on disk, so that a worker that dies takes nothing with it."""

import shutil
import tempfile
from pathlib import Path

from lnres.record import Frame, pack, unpack


class Store:
    """One folder of safetensors files, a file a run, gone when the engine stops."""

    def __init__(self, folder: str | None = None):
        self.folder = Path(folder or tempfile.mkdtemp(prefix="lnres-"))

    def path(self, key: str) -> Path:
        """Where the checkpoint of a run lies."""
        return self.folder / f"{key}.safetensors"

    def save(self, key: str, checkpoint: Frame) -> None:
        """Write it whole or not at all: a worker may die while it writes."""
        half = self.path(key).with_suffix(".half")
        half.write_bytes(pack(*checkpoint))
        half.replace(self.path(key))

    def load(self, key: str) -> Frame | None:
        """The last checkpoint of a run, if there is one."""
        return unpack(self.path(key).read_bytes()) if self.path(key).exists() else None

    def drop(self, key: str) -> None:
        """Forget a run."""
        self.path(key).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
