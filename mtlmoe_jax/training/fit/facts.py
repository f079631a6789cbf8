"""What choices rest on: counts of a data set, and what the machine can do."""

import dataclasses
import os
import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from mtlmoe_jax import pretrained
from mtlmoe_jax.data import images, opening, windows
from mtlmoe_jax.data.readers.file_source import FileSource
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.data.source import Source
from mtlmoe_jax.devices import processes

# Images whose size is looked at, and whose pixels are where that is the way.
_HEADERS, _DECODED = 200, 16
# Side of the matrix products that time a device, and for how long: what other
# programs take comes and goes.
_SIDE, _SECONDS = {"cpu": 1024}, 1.5


@dataclasses.dataclass(frozen=True)
class Facts:
  """What is known before anything is chosen.

  Attributes:
    classes: L.
    train: training images, those of a validation split of their own left out.
    test: test images.
    validation: images of the data set's own validation split.
    boxes: training images with a box.
    box_side: median over those of the square root of a box's share of its
      image; 0 without any.
    pixels: median shorter side of the images.
    cores: of the CPU, that this process may use.
    backend: JAX's name of the devices.
    devices: how many.
    processes: that train together.
    gflops: of one device, as busy as it is now, see `measured_gflops`.
    memory_gib: of the machine.
    disk_gib: free where the run is written.
    packaged: backbones whose weights the extra `lite` has brought.
  """

  classes: int
  train: int
  test: int
  validation: int = 0
  boxes: int = 0
  box_side: float = 0.0
  pixels: int = 375
  cores: int = 2
  backend: str = "cpu"
  devices: int = 1
  processes: int = 1
  gflops: float = 178.0
  memory_gib: float = 16.0
  disk_gib: float = 100.0
  packaged: tuple[str, ...] = ()

  def text(self) -> str:
    """All of them that choices rest on, for the eye."""
    box = f", {self.boxes:,} with a box" if self.boxes else ", none with a box"
    side = f" (median side {self.box_side:.2f} of the image)"
    own = f", {self.validation:,} for validation" if self.validation else ""
    return (
      f"{self.classes:,} classes, {self.train:,} training images{own}, median "
      f"shorter side {self.pixels:,} pixels{box}{side if self.boxes else ''}; "
      f"{self.devices} x {self.backend}, {self.cores} cores, "
      f"{self.gflops:,.0f} GFLOP/s now"
    )


def look(config: ml_collections.ConfigDict, folder: str) -> Facts:
  """The facts of a config's data and of this machine.

  Args:
    config: the whole config; its data are opened, as for a run.
    folder: the workdir, which need not be there.

  Raises:
    InputError: anything wrong with the data.
  """
  config = config.copy_and_resolve_references()
  # Nothing is held out yet, and what is cached is not read.
  config.data.validation_fraction = 0.0
  whole = opening.open_whole(config, Problems())
  data = opening.split_data(config, whole)
  if config.data.objects == "each" and data.files is not None:
    boxes, pixels = _in_windows(data.train, data.files)
  else:
    boxes, pixels = _seen(data.train, data.files)
  sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1))
  share = len(boxes) / max(1, min(len(data.train), _DECODED))
  count = len(boxes) if data.files else round(share * len(data.train))
  return Facts(
    classes=len(data.class_names),
    train=len(data.train),
    test=len(data.test),
    validation=len(whole.official.get("validation", ())),
    boxes=count,
    box_side=float(np.median(sides)) if len(sides) else 0.0,
    pixels=pixels,
    cores=len(os.sched_getaffinity(0)),
    backend=jax.default_backend(),
    devices=jax.device_count(),
    processes=processes.count(),
    # One rate for all, for choices go by it.
    gflops=processes.of_first(measured_gflops()),
    memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
    disk_gib=_free(pathlib.Path(folder)) / 2**30,
    packaged=pretrained.packaged(),
  )


def _in_windows(train: Source, files: FileSource) -> tuple[np.ndarray, int]:
  """As `_seen`, of objects in windows of their own, as they are judged."""
  place = {name: i for i, name in enumerate(files.ids)}
  rows = [place[name] for name in train.ids if files.has_box[place[name]]]
  if not rows:
    return _seen(train, files)
  sides = []
  for i in np.unique(np.linspace(0, len(rows) - 1, _HEADERS).astype(int)):
    (height, width), box = files.upright(rows[i])
    x1, y1, x2, y2 = windows.around(box, (height, width), windows.EVALUATION)
    sides.append(min(x2 - x1, y2 - y1))
  edge = (1 - 1 / windows.EVALUATION) / 2
  boxes = np.tile([edge, edge, 1 - edge, 1 - edge], (len(rows), 1))
  return boxes, int(np.median(sides))


def _seen(train: Source, files: FileSource | None) -> tuple[np.ndarray, int]:
  """Boxes f64 [n, 4] and the median shorter side, of files or of a sample."""

  def some(most: int) -> np.ndarray:
    return np.unique(np.linspace(0, len(train) - 1, most).astype(int))

  if files is None:
    # A set like TFDS's: only its records tell.
    whole = getattr(train, "uncached", train)
    records = [whole[int(i)] for i in some(_DECODED)]
    boxes = [record["box"] for record in records if record["has_box"]]
    sides = [min(record["image"].shape[:2]) for record in records]
  else:
    place = {name: i for i, name in enumerate(files.ids)}
    rows = np.asarray([place[name] for name in train.ids], int)
    boxes = list(files.boxes[rows[files.has_box[rows]]])
    paths = [files.paths[rows[i]] for i in some(_HEADERS)]
    sides = [min(images.image_size(path)) for path in paths]
  return np.asarray(boxes, np.float64).reshape(-1, 4), int(np.median(sides))


def measured_gflops() -> float:
  """Of one device, at matrix products.

  On a CPU that other programs use, the threads of a product wait for each
  other, so that it loses more than a training does: what counts is the rate of
  a second of the CPU, times the root of the share of it that was to be had.
  """
  side = _SIDE.get(jax.default_backend(), 4096)
  product = jax.jit(lambda x: x @ x)
  x = jnp.ones((side, side), jnp.float32)
  product(x).block_until_ready()
  count, start, busy = 0, time.perf_counter(), time.process_time()
  while time.perf_counter() < start + _SECONDS:
    product(x).block_until_ready()
    count += 1
  seconds, busy = time.perf_counter() - start, time.process_time() - busy
  rate = 2e-9 * count * side**3 / seconds
  if jax.default_backend() != "cpu":
    return rate
  share = min(1.0, busy / (seconds * len(os.sched_getaffinity(0))))
  return rate / max(share, 0.05) ** 0.5


def _free(folder: pathlib.Path) -> int:
  """Free bytes of the disk of a folder, which need not be there."""
  while not folder.exists() and folder != folder.parent:
    folder = folder.parent
  return shutil.disk_usage(folder).free
