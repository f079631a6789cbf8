"""Prediction for files: read, judge, draw and write, all at the same time.

Threads read and draw while the network works; what waits between them is a few
batches, so that memory is the same for ten images and for a hundred thousand.
Rows go into a journal as they come (`journal`): the same command goes on after
a kill. Files that others read are made of it at the end, under temporary names,
and then moved to their own.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.devices import processes
from mtlmoe_jax.predicting import (
  formats,
  identity,
  inputs,
  journal,
  judging,
  passport,
  pictures,
  rows,
)
from mtlmoe_jax.predicting.predictor import Prediction, Predictor
from mtlmoe_jax.predicting.reading import Seen
from mtlmoe_jax.utils import files
from mtlmoe_jax.utils import progress as progress_lib
from mtlmoe_jax.version import __version__

# Pictures that wait for their threads, in batches.
_DRAWN_LATER = 2


@dataclasses.dataclass(frozen=True)
class Options:
  """How files are predicted.

  Attributes:
    boxes: a detector's file; each of its boxes is predicted in a window.
    batch_size: images at a time; 0: see `Predictor.batch_size`.
    views: of each image; "" for `config.eval.views`.
    every: of a video every so many frames; 0: one a second.
    overlays: one of `pictures.OVERLAYS`.
    crops: whether each object is written, too.
    thumbnails: whether small pictures are.
    out_format: names of `formats`, with commas between them.
    format_options: of them, see `formats.OPTIONS`.
  """

  boxes: str = ""
  batch_size: int = 0
  views: str = ""
  every: int = 0
  overlays: str = "auto"
  crops: bool = False
  thumbnails: bool = False
  out_format: str = ""
  format_options: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a prediction gave.

  Attributes:
    out: the folder of the outputs.
    count: rows, of which `unreadable` have an error instead of an answer.
    unreadable: files, frames or objects that could not be read.
    first_error: why the first one could not.
    names: of the files of all rows, in `out`.
  """

  out: pathlib.Path
  count: int
  unreadable: int
  first_error: str
  names: tuple[str, ...]


def predict_files(
  restored: Restored,
  paths: Sequence[str | os.PathLike[str]],
  out: str | os.PathLike[str],
  options: Options | None = None,
  *,
  progress: bool = True,
) -> Outcome:
  """Predicts images, folders and videos, and writes what came out.

  What cannot be read is a row with its reason; all others are predicted.

  Args:
    restored: a checkpoint; its temperature is used.
    paths: what to predict, see `inputs.find`.
    out: folder of the outputs, made where missing: a file for each format,
      passport.json, and the pictures.
    options: how; None: as a command without flags.
    progress: whether to show how far it is.

  Raises:
    InputError: nothing to predict, an unknown option, a path that does not
      exist, an output folder that cannot be written or that another process
      writes to.
  """
  options = options or Options()
  names = formats.check(options.out_format, options.format_options)
  predictor = Predictor(restored, views=options.views)
  out = pathlib.Path(out)
  items = _items(predictor, [os.fspath(path) for path in paths], out, options)
  kinds = pictures.Kinds(
    pictures.settled(options.overlays, len(items)),
    options.crops,
    options.thumbnails,
  )
  size = predictor.batch_size(len(items), options.batch_size)
  predictor.prepare(size)
  facts = passport.of(restored, predictor, size)
  root = os.fspath(paths[0]) if len(paths) == 1 else ""
  about = _about(restored, predictor, items, kinds, options, root)
  formats.foresee(names, [item.path for item in items], about)
  depends_on = {"passport": facts, "pictures": dataclasses.asdict(kinds)}
  with _claimed(out):
    stems = pictures.stems(items, out) if kinds.any else [""] * len(items)
    keys = identity.keys(items)
    signatures = identity.signatures(items, keys, stems, size)
    with journal.Journal(out, keys, signatures, depends_on) as kept:
      _announce(kept, len(items))
      pictures.make_folders(kinds, out)
      writer = _Writer(items, stems, kinds, out, passport.name(facts), kept)
      with progress_lib.Progress(
        len(items),
        initial=kept.done,
        unit="image",
        label="predict",
        enabled=progress,
      ) as bar:
        writer.run(predictor, size, bar)
      files.write_json(out / passport.FILE, passport.record(facts, restored))
      about = dataclasses.replace(about, time=kept.begun)
      written = _write(kept, names, about, out)
      unreadable, first_error = _errors(kept)
    kept.remove()
  return Outcome(out, len(items), unreadable, first_error, written)


def _items(
  predictor: Predictor,
  paths: list[str],
  out: pathlib.Path,
  options: Options,
) -> list[inputs.Item]:
  """What is to be predicted."""
  config = predictor.config
  if options.boxes:
    # Here, not above: few predictions have a use for the layouts.
    from mtlmoe_jax.predicting import boxes

    found = boxes.read(options.boxes, paths, config, predictor.class_names)
    return [_as_told(item) for item in found]
  if config.data.objects == "each":
    processes.say(
      "note: this model has learned from windows around objects; give it "
      "those of a detector (--boxes=FILE), or whole images look small to it"
    )
  return inputs.find(paths, out, every=options.every)


def _as_told(item: inputs.Item) -> inputs.Item:
  """An object whose box has the digits that its row will have.

  From the row alone it can then be computed again.
  """
  if item.detection is None:
    return item
  x1, y1, x2, y2 = (round(share, rows.SHARES) for share in item.detection.box)
  detection = dataclasses.replace(item.detection, box=(x1, y1, x2, y2))
  return dataclasses.replace(item, detection=detection)


def _about(
  restored: Restored,
  predictor: Predictor,
  items: Sequence[inputs.Item],
  kinds: pictures.Kinds,
  options: Options,
  root: str,
) -> formats.About:
  """What the formats are told, but for the time."""
  config = predictor.config
  model = config.model
  return formats.About(
    class_names=restored.class_names,
    model=(
      f"mtlmoe_jax {__version__}, {model.experts} x {model.backbone}, step "
      f"{restored.step}"
    ),
    tasks=tuple(config_lib.resolve(config).tasks),
    time="",
    has_detections=bool(options.boxes),
    has_frames=any(item.frame is not None for item in items),
    pictures=tuple(kinds.none()),
    root=root if os.path.isdir(root) else "",
    detector=os.path.basename(options.boxes),
    options=options.format_options,
  )


def _errors(kept: journal.Journal) -> tuple[int, str]:
  """(how many rows have an error, the first one)."""
  count, first = 0, ""
  for row in kept.rows():
    if row["error"]:
      count += 1
      first = first or row["error"]
  return count, first


@dataclasses.dataclass
class _Writer:
  """Pictures and rows of what was judged.

  Attributes:
    items: all of them.
    stems: names of the pictures of each.
    kinds: of the pictures.
    out: folder of the outputs.
    passport_name: of the rows.
    kept: where rows go.
  """

  items: Sequence[inputs.Item]
  stems: Sequence[str]
  kinds: pictures.Kinds
  out: pathlib.Path
  passport_name: str
  kept: journal.Journal

  def run(
    self, predictor: Predictor, size: int, bar: progress_lib.Progress
  ) -> None:
    """Predicts what the journal does not hold.

    Args:
      predictor: how the model is asked.
      size: images of a compiled batch.
      bar: moves on with the rows.
    """
    drawn: collections.deque[list[_Drawn]] = collections.deque()
    pool = judging.make_pool()
    batches = judging.judge(
      predictor,
      self.items,
      self._missing(size),
      size,
      pool,
      keep_images=self.kinds.any,
    )
    try:
      for batch in batches:
        drawn.append([self._begin(judged, pool) for judged in batch])
        if len(drawn) > _DRAWN_LATER:
          self._append(drawn.popleft(), bar)
      while drawn:
        self._append(drawn.popleft(), bar)
    finally:
      pool.shutdown(cancel_futures=True)
      batches.close()

  def _missing(self, size: int) -> Iterator[range]:
    """Batches of which something is missing, always cut at the same places.

    What a batch holds is then the same after a kill, and so is each bit.
    """
    for begin in range(0, len(self.items), size):
      numbers = range(begin, min(begin + size, len(self.items)))
      if not all(map(self.kept.has, numbers)):
        yield numbers

  def _begin(
    self, judged: judging.Judged, pool: concurrent.futures.Executor
  ) -> "_Drawn":
    """The row of an item, and the pictures that a thread draws of it."""
    seen, prediction = judged
    row = rows.row(seen, prediction, self.passport_name) | self.kinds.none()
    if prediction is None or not self.kinds.any:
      return seen.number, row, None
    return seen.number, row, pool.submit(self._draw, seen, prediction)

  def _draw(self, seen: Seen, prediction: Prediction) -> pictures.Names:
    stem = self.stems[seen.number]
    names = pictures.write(
      seen, prediction, stem, self.kinds, self.out, self.out / journal.FOLDER
    )
    seen.image = None
    return names

  def _append(
    self, done: "Sequence[_Drawn]", bar: progress_lib.Progress
  ) -> None:
    """Writes rows whose pictures are there."""
    for _, row, future in done:
      if future is not None:
        row |= future.result()
    self.kept.append([(number, row) for number, row, _ in done])
    bar.update(len(done))


# Number of an item, its row, and the pictures that are being drawn of it.
_Future = concurrent.futures.Future
_Drawn = tuple[int, rows.Row, "_Future[pictures.Names] | None"]


def _announce(kept: journal.Journal, count: int) -> None:
  """Says what an earlier, unfinished prediction left."""
  if kept.done:
    processes.say(f"{kept.done} of {count} are there already: going on")
  elif kept.discarded:
    processes.say(
      "note: an unfinished prediction of another model, or with other options, "
      "was there: begun anew"
    )


def _write(
  kept: journal.Journal,
  names: Sequence[str],
  about: formats.About,
  out: pathlib.Path,
) -> tuple[str, ...]:
  """Makes the files of all rows and moves them to their names."""
  folder = out / journal.FOLDER / "files"
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  written = [
    name for f in names for name in formats.write(f, kept.rows, about, folder)
  ]
  for name in written:
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    os.replace(folder / name, out / name)
  return tuple(written)


@contextlib.contextmanager
def _claimed(out: pathlib.Path) -> Iterator[None]:
  """The output folder, made where missing, for this process alone.

  Raises:
    InputError: it cannot be written, or another process writes to it.
  """
  try:
    (out / journal.FOLDER).mkdir(parents=True, exist_ok=True)
    claim = files.claim(out / journal.FOLDER / "lock")
    with contextlib.ExitStack() as stack:
      if not stack.enter_context(claim):
        raise errors.InputError(
          f"--out={out}: another prediction is being written there; wait for "
          "its end, or choose another folder"
        )
      yield
  except OSError as error:
    raise errors.InputError(
      f"--out={out}: cannot write there ({error.strerror}); choose another "
      "folder"
    ) from None
