"""The run that version 0.2.0 made; see golden/run_0.2.0/README.md."""

import json
import pathlib
import tarfile

import numpy as np

from tests.support import tiny

FOLDER = tiny.ROOT / "tests" / "support" / "golden" / "run_0.2.0"
ANSWERS = json.loads((FOLDER / "answers.json").read_text())
CONFIGS = json.loads((FOLDER / "configs.json").read_text())


def images() -> list[np.ndarray]:
  """Five images of different sizes, those that 0.2.0 was given."""
  rng = np.random.default_rng(20)
  shapes = ((32, 32), (40, 64), (90, 50), (33, 31), (120, 120))
  noise = [rng.integers(0, 256, (*s, 3), dtype=np.uint8) for s in shapes]
  return [image // 4 + np.uint8(40 * i) for i, image in enumerate(noise)]


def unpacked(folder: pathlib.Path) -> pathlib.Path:
  """Its workdir, laid into a folder."""
  with tarfile.open(FOLDER / "run.tar.xz") as archive:
    archive.extractall(folder, filter="data")
  return folder
