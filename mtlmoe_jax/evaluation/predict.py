"""Prediction for image files: JSON, CSV and pictures.

Letters: B images of a batch, h w size of an image in its file, L classes, N
experts, K selected per image.

Nothing is half-written: all outputs are made in a hidden folder inside the
output folder and moved to their names at the very end.
"""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.data import images as images_lib
from mtlmoe_jax.data import windows
from mtlmoe_jax.devices import processes
from mtlmoe_jax.evaluation import detections, results
from mtlmoe_jax.evaluation.prediction import Prediction, Predictor
from mtlmoe_jax.reports import overlay
from mtlmoe_jax.reports.names import display_name
from mtlmoe_jax.utils import files
from mtlmoe_jax.utils import progress as progress_lib


@dataclasses.dataclass(frozen=True)
class ImageFile:
  """One image file to predict, or one object of it.

  Attributes:
    path: the file.
    named: whether the user named it, rather than a folder that holds it.
    detection: the object; None: the image is looked at as a whole.
  """

  path: pathlib.Path
  named: bool
  detection: detections.Detection | None = None


@dataclasses.dataclass(frozen=True)
class Seen:
  """What the model is shown.

  Attributes:
    file: of which image.
    image: u8 [h, w, 3], the whole of it.
    window: the part that is shown, in pixels; None: all.
  """

  file: ImageFile
  image: np.ndarray
  window: windows.Window | None

  def pixels(self) -> np.ndarray:
    """u8 [h', w', 3], what is shown."""
    if self.window is None:
      return self.image
    return windows.pixels(self.image, self.window)

  def told(self, prediction: Prediction) -> Prediction:
    """A prediction about what was shown, told of the whole image."""
    if self.window is None:
      return prediction
    size = (self.image.shape[0], self.image.shape[1])
    return detections.in_image(prediction, self.window, size)


def predict_images(
  restored: Restored,
  paths: Sequence[str | pathlib.Path],
  out: str | pathlib.Path,
  *,
  boxes: str = "",
  batch_size: int = 0,
  views: str = "",
  progress: bool = True,
) -> list[dict[str, Any]]:
  """Predicts every image and writes predictions.json, .csv and overlays.

  A file that the user named must be an image, else nothing is written. In a
  folder that the user named, what has an image suffix but cannot be read is
  collected: the others are written, then an error lists it.

  Args:
    restored: from `checkpoints.restore_for_eval`; its temperature is used.
    paths: image files and folders; folders are searched to any depth, for
      files with an image suffix, in sorted order.
    out: folder of the outputs; made where missing.
    boxes: a detector's file: each of its boxes is predicted, in a window as
      those that `config.data.objects=each` has; `paths` is then the folder of
      the images, or empty where they lie beside that file.
    batch_size: images at a time; 0 for `config.eval.batch_size`.
    views: of each image; "" for `config.eval.views`.
    progress: whether to show how far it is.

  Returns:
    What predictions.json holds, an entry an image: `id` (its path), `width`,
    `height` (pixels), `class`, `class_index`, `probability`, `top5` (a list of
    `class`, `probability`), `box` (`pixels` and `normalised`, xyxy), `experts`
    (task -> list of `expert`, `weight`, heaviest first), `overlay` (a file
    name). `class` ... `top5` or `box` are null without that task. With
    `boxes` an entry an object, which has `detection` (as `box`), too.

  Raises:
    InputError: nothing to predict, unknown views, a path that does not exist,
      an unreadable file, or an output folder that cannot be written.
  """
  out = pathlib.Path(out)
  predictor = Predictor(restored, views=views)
  if boxes:
    inputs = _detected(boxes, paths, predictor.config)
  else:
    inputs = find_images(paths, out)
    if predictor.config.data.objects == "each":
      processes.say(
        "note: this model has learned from windows around objects; give it "
        "those of a detector (--boxes=FILE), or whole images look small to it"
      )
  temporary = _temporary_folder(out)
  unreadable: list[str] = []
  entries = []
  taken = {file.path.resolve() for file in inputs}
  try:
    size = min(batch_size or predictor.config.eval.batch_size, len(inputs))
    with progress_lib.Progress(
      len(inputs), unit="image", label="predict", enabled=progress
    ) as bar:
      for batch in _read(inputs, size, unreadable):
        images = [(str(seen.file.path), seen.pixels()) for seen in batch]
        predictions = predictor.predict(images, size)
        for seen, found in zip(batch, predictions):
          prediction = seen.told(found)
          name = _overlay_name(seen.file.path, out, taken)
          entries.append({**_entry(prediction, seen.file), "overlay": name})
          Image.fromarray(_draw(seen.image, prediction)).save(temporary / name)
        bar.update(len(batch))
    if entries:
      files.write_json(temporary / "predictions.json", entries)
      files.write_text(temporary / "predictions.csv", _csv(entries))
    for file in sorted(temporary.iterdir()):
      os.replace(file, out / file.name)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  if unreadable:
    raise errors.InputError(
      f"{len(unreadable)} of {len(inputs)} files could not be read: "
      f"{'; '.join(unreadable)}; {len(entries)} were predicted, see {out}"
    )
  return entries


def _detected(
  boxes: str,
  paths: Sequence[str | pathlib.Path],
  config: ml_collections.ConfigDict,
) -> list[ImageFile]:
  """The objects of a detector's file.

  Raises:
    InputError: more than one folder of images; a file that cannot be read.
  """
  if len(paths) > 1:
    raise errors.InputError(
      f"--boxes={boxes}: names the images itself; give the one folder that "
      f"they lie in, not {len(paths)} paths"
    )
  images = str(paths[0]) if paths else ""
  return [
    ImageFile(found.path, named=False, detection=found)
    for found in detections.read(boxes, images, config)
  ]


def _temporary_folder(out: pathlib.Path) -> pathlib.Path:
  """A hidden folder inside the output folder, which is made where missing."""
  try:
    out.mkdir(parents=True, exist_ok=True)
    return pathlib.Path(tempfile.mkdtemp(prefix=".predict-", dir=out))
  except OSError as error:
    raise errors.InputError(
      f"--out={out}: cannot write there ({error.strerror}); choose another "
      "folder"
    ) from None


def find_images(
  paths: Sequence[str | pathlib.Path], out: pathlib.Path
) -> list[ImageFile]:
  """The image files that a list of files and folders means.

  Args:
    paths: what the user wrote.
    out: the output folder; whatever lies below it is not an input.

  Returns:
    Each file once, in order.

  Raises:
    InputError: no paths, a path that does not exist, or a folder without an
      image.
  """
  if not paths:
    raise errors.InputError(
      "no images given: name image files or folders after the flags"
    )
  inputs: dict[pathlib.Path, ImageFile] = {}
  for path in map(pathlib.Path, paths):
    if path.is_dir():
      inside = sorted(_in_folder(path, out))
      if not inside:
        raise errors.InputError(
          f"no images in {path}: looked for {', '.join(images_lib.SUFFIXES)}"
        )
      for file in inside:
        inputs.setdefault(file.resolve(), ImageFile(file, named=False))
    elif path.is_file():
      inputs[path.resolve()] = ImageFile(path, named=True)
    else:
      raise errors.InputError(f"no such file or folder: {path}")
  return list(inputs.values())


def _in_folder(
  folder: pathlib.Path, out: pathlib.Path
) -> Iterator[pathlib.Path]:
  """Visible image files below a folder, without earlier outputs."""
  if folder.resolve() == out.resolve():
    raise errors.InputError(
      f"--out={out} is also an input folder: choose another for the outputs"
    )
  for file in folder.rglob("*"):
    hidden = any(p.startswith(".") for p in file.relative_to(folder).parts)
    if hidden or not images_lib.is_named_image(file):
      continue
    if file.is_file() and not file.resolve().is_relative_to(out.resolve()):
      yield file


def _read(
  inputs: Sequence[ImageFile], size: int, unreadable: list[str]
) -> Iterator[list[Seen]]:
  """Groups of at most `size` decoded images, or windows of them."""
  for start in range(0, len(inputs), size):
    batch = []
    for file in inputs[start : start + size]:
      try:
        image = data_lib.load_image(file.path)
        window = None
        if file.detection is not None:
          window = detections.window(file.detection, image)
        batch.append(Seen(file, image, window))
      except errors.InputError as error:
        if file.named:
          raise
        unreadable.append(str(error))
    yield batch


def _entry(prediction: Prediction, file: ImageFile) -> dict[str, Any]:
  """One element of predictions.json, without its overlay."""
  p = prediction
  entry: dict[str, Any] = {
    "id": p.id,
    "width": p.width,
    "height": p.height,
    "class": p.label,
    "class_index": p.class_index,
    "probability": p.probability,
    "top5": None,
    "box": None,
  }
  if p.top5:
    entry["top5"] = [
      {"class": name, "probability": value} for name, value in p.top5
    ]
  if p.box is not None:
    entry["box"] = _corners(p.box.pixels, p.box.shares)
  if file.detection is not None:
    shares = file.detection.box
    sides = (p.width, p.height) * 2
    pixels = [share * side for share, side in zip(shares, sides)]
    entry["detection"] = _corners(pixels, shares)
  entry["experts"] = {
    task: [{"expert": e.expert, "weight": e.weight} for e in experts]
    for task, experts in p.experts.items()
  }
  return entry


def _corners(
  pixels: Sequence[float], shares: Sequence[float]
) -> dict[str, list[float]]:
  return {
    "pixels": np.round(pixels, 2).tolist(),
    "normalised": np.round(shares, 6).tolist(),
  }


def _draw(image: np.ndarray, prediction: Prediction) -> np.ndarray:
  label = ""
  if prediction.label is not None:
    # The number first: a long name is cut at its end.
    name = display_name(prediction.label, 60)
    label = f"{prediction.probability:.2f} {name}"
  gates = {
    task: np.asarray(weights)
    for task, weights in prediction.weights.items()
    if len(weights) > 1
  }
  box = None
  if prediction.box is not None:
    # As predictions.json tells it.
    box = np.round(prediction.box.pixels, 2).tolist()
  image, box = overlay.magnify(image, box)
  return overlay.draw(image, box, label, gates)


def _overlay_name(
  path: pathlib.Path, out: pathlib.Path, taken: set[pathlib.Path]
) -> str:
  """`<stem>.png`, or `<stem>_2.png` ... where that is an input or taken.

  Names that differ in case only are the same file on some systems.
  """
  lower = {str(p).lower() for p in taken}
  number, name = 1, f"{path.stem}.png"
  while str((out / name).resolve()).lower() in lower:
    number += 1
    name = f"{path.stem}_{number}.png"
  taken.add((out / name).resolve())
  return name


def _csv(entries: Sequence[dict[str, Any]]) -> str:
  """predictions.csv: as predictions.json, a row an image.

  Columns: id, class, probability, top5 (`name=p;...`), box_x1 ... box_y2
  (normalised), pixel_x1 ... pixel_y2, with a detector's boxes detection_x1 ...
  detection_y2 (normalised), experts_<task> (`expert=weight;...`),
  overlay.
  """
  tasks = list(entries[0]["experts"])
  columns = [
    *("id", "width", "height", "class", "probability", "top5"),
    *results.box_columns("box"),
    *results.box_columns("pixel"),
    *(results.box_columns("detection") if "detection" in entries[0] else ()),
    *(f"experts_{task}" for task in tasks),
    "overlay",
  ]
  rows = []
  for entry in entries:
    row = {k: entry[k] for k in columns if k in entry}
    row["top5"] = ";".join(
      f"{t['class']}={t['probability']:.4f}" for t in entry["top5"] or ()
    )
    box = entry["box"] or {}
    row |= results.box_cells("box", box.get("normalised"))
    row |= results.box_cells("pixel", box.get("pixels"))
    if "detection" in entry:
      found = entry["detection"]["normalised"]
      row |= results.box_cells("detection", found)
    for task in tasks:
      row[f"experts_{task}"] = ";".join(
        f"{e['expert']}={e['weight']:.4f}" for e in entry["experts"][task]
      )
    rows.append(row)
  return results.to_csv(rows, columns)
