"""Prediction for image files: JSON, CSV and pictures.

Letters: B images of a batch, h w size of an image in its file, L classes, N
experts, K selected per image.

Nothing is half-written: all outputs are made in a hidden folder inside the
output folder and moved to their names at the very end.
"""

import copy
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from PIL import Image

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.config import TASKS, check_config
from mtlmoe_jax.data import images as images_lib
from mtlmoe_jax.data import pipeline
from mtlmoe_jax.evaluation import calibrate, evaluate, results
from mtlmoe_jax.evaluation import test_time as views_lib
from mtlmoe_jax.metrics.predictions import Gate, softmax, top
from mtlmoe_jax.reports import overlay
from mtlmoe_jax.reports.plots import display_name
from mtlmoe_jax.utils import files
from mtlmoe_jax.utils import progress as progress_lib


@dataclasses.dataclass(frozen=True)
class Found:
  """One image file to predict.

  Attributes:
    path: the file.
    named: whether the user named it, rather than a folder that holds it.
  """

  path: pathlib.Path
  named: bool


def predict_images(
  restored: Any,
  paths: Sequence[str | pathlib.Path],
  out: str | pathlib.Path,
  *,
  batch_size: int = 0,
  views: str = "",
  workdir: str | pathlib.Path | None = None,
  progress: bool = True,
) -> list[dict[str, Any]]:
  """Predicts every image and writes predictions.json, .csv and overlays.

  A file that the user named must be an image, else nothing is written. In a
  folder that the user named, what has an image suffix but cannot be read is
  collected: the others are written, then an error lists it.

  Args:
    restored: from `training.checkpoint.restore_for_eval`.
    paths: image files and folders; folders are searched to any depth, for
      files with an image suffix, in sorted order.
    out: folder of the outputs; made where missing.
    batch_size: images at a time; 0 for `config.eval.batch_size`.
    views: of each image; "" for `config.eval.views`.
    workdir: the run's folder, whose calibration.json gives the temperature of
      the probabilities; None: they are as the model says.
    progress: whether to show how far it is.

  Returns:
    What predictions.json holds, an entry an image: `id` (its path), `width`,
    `height` (pixels), `class`, `class_index`, `probability`, `top5` (a list of
    `class`, `probability`), `box` (`pixels` and `normalised`, xyxy), `experts`
    (task -> list of `expert`, `weight`, heaviest first), `overlay` (a file
    name). `class` ... `top5` or `box` are null without that task.

  Raises:
    InputError: nothing to predict, unknown views, a path that does not exist,
      an unreadable file, or an output folder that cannot be written.
  """
  out = pathlib.Path(out)
  config = copy.deepcopy(restored.config)
  if views:
    config.eval.views = views
  check_config(config)
  temperature = None
  if workdir is not None:
    temperature = calibrate.read(workdir, config, restored.step)
  found = find_images(paths, out)
  names = tuple(restored.class_names)
  try:
    out.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=".predict-", dir=out))
  except OSError as error:
    raise errors.InputError(
      f"--out={out}: cannot write there ({error.strerror}); choose another "
      "folder"
    ) from None
  unreadable: list[str] = []
  entries = []
  taken = {f.path.resolve() for f in found}
  try:
    size = min(batch_size or config.eval.batch_size, len(found))
    step = evaluate.make_predict_step(models.build_model(config, len(names)))
    with progress_lib.Progress(
      len(found), unit="image", label="predict", enabled=progress
    ) as bar:
      for pieces in _read(found, size, unreadable):
        for path, image, said in _forward(
          step, restored.variables, config, pieces, size
        ):
          name = _overlay_name(path, out, taken)
          entry = _entry(path, image, said, names, temperature or 1.0)
          entry["overlay"] = name
          Image.fromarray(_draw(image, entry, said)).save(temporary / name)
          entries.append(entry)
        bar.update(len(pieces))
    if entries:
      files.write_json(temporary / "predictions.json", entries)
      files.write_text(temporary / "predictions.csv", _csv(entries))
    for file in sorted(temporary.iterdir()):
      os.replace(file, out / file.name)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  if unreadable:
    raise errors.InputError(
      f"{len(unreadable)} of {len(found)} files could not be read: "
      f"{'; '.join(unreadable)}; {len(entries)} were predicted, see {out}"
    )
  return entries


def find_images(
  paths: Sequence[str | pathlib.Path], out: pathlib.Path
) -> list[Found]:
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
  found: dict[pathlib.Path, Found] = {}
  for path in map(pathlib.Path, paths):
    if path.is_dir():
      inside = sorted(_in_folder(path, out))
      if not inside:
        raise errors.InputError(
          f"no images in {path}: looked for {', '.join(images_lib.SUFFIXES)}"
        )
      for file in inside:
        found.setdefault(file.resolve(), Found(file, named=False))
    elif path.is_file():
      found[path.resolve()] = Found(path, named=True)
    else:
      raise errors.InputError(f"no such file or folder: {path}")
  return list(found.values())


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
    if hidden or file.suffix.lower() not in images_lib.SUFFIXES:
      continue
    if file.is_file() and not file.resolve().is_relative_to(out.resolve()):
      yield file


def _read(
  found: Sequence[Found], size: int, unreadable: list[str]
) -> Iterator[list[tuple[pathlib.Path, np.ndarray]]]:
  """Groups of at most `size` decoded images: (path, u8 [h, w, 3])."""
  for start in range(0, len(found), size):
    pieces = []
    for file in found[start : start + size]:
      try:
        pieces.append((file.path, data_lib.load_image(file.path)))
      except errors.InputError as error:
        if file.named:
          raise
        unreadable.append(str(error))
    yield pieces


def _forward(
  step: evaluate.PredictStep,
  variables: Any,
  config: ml_collections.ConfigDict,
  pieces: list[tuple[pathlib.Path, np.ndarray]],
  size: int,
) -> Iterator[tuple[pathlib.Path, np.ndarray, dict[str, Any]]]:
  """Each image with its row of the model's outputs."""
  if not pieces:
    return
  rows = [data_lib.eval_frames(image, config) for _, image in pieces]
  batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  # Always `size` images, so that the model is compiled once.
  batch = pipeline.pad({**batch, "valid": np.ones(len(rows), bool)}, size)
  outputs = views_lib.combine(
    views_lib.forward(step, variables, batch, config.eval)
  )
  for i, (path, image) in enumerate(pieces):
    row = jax.tree.map(lambda x, i=i: x[i], outputs)
    # jit gives dicts back sorted by key.
    routing = {t: row["routing"][t] for t in TASKS if t in row["routing"]}
    yield path, image, {**row, "routing": routing}


def _entry(
  path: pathlib.Path,
  image: np.ndarray,
  said: dict[str, Any],
  names: Sequence[str],
  temperature: float,
) -> dict[str, Any]:
  """One element of predictions.json, without its overlay."""
  height, width = image.shape[:2]
  entry: dict[str, Any] = {"id": str(path), "width": width, "height": height}
  entry |= dict.fromkeys(("class", "class_index", "probability", "top5", "box"))
  if "logits" in said:
    probabilities = softmax(said["logits"], temperature)
    best = top(said["logits"])
    entry["class"] = names[best[0]]
    entry["class_index"] = int(best[0])
    entry["probability"] = float(probabilities[best[0]])
    entry["top5"] = [
      {"class": names[c], "probability": float(probabilities[c])} for c in best
    ]
  if "box" in said:
    box = np.asarray(said["box"], np.float64)
    entry["box"] = {
      "pixels": (box * [width, height, width, height]).round(2).tolist(),
      "normalised": box.round(6).tolist(),
    }
  entry["experts"] = {
    task: [
      {"expert": int(expert), "weight": float(weight)}
      for weight, expert in sorted(
        zip(gate["weights"], gate["experts"]), key=lambda p: -p[0]
      )
    ]
    for task, gate in said["routing"].items()
  }
  return entry


def _draw(
  image: np.ndarray, entry: dict[str, Any], said: dict[str, Any]
) -> np.ndarray:
  label = ""
  if entry["class"] is not None:
    # The number first: a long name is cut at its end.
    label = f"{entry['probability']:.2f} {display_name(entry['class'], 60)}"
  # One row of a batch as a gate of one image.
  gates = {
    task: Gate(**{k: v[None] for k, v in gate.items()}).dense[0]
    for task, gate in said["routing"].items()
    if len(gate["probs"]) > 1
  }
  box = entry["box"] and entry["box"]["pixels"]
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
  (normalised), pixel_x1 ... pixel_y2, experts_<task> (`expert=weight;...`),
  overlay.
  """
  tasks = list(entries[0]["experts"])
  columns = [
    *("id", "width", "height", "class", "probability", "top5"),
    *results.box_columns("box"),
    *results.box_columns("pixel"),
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
    for task in tasks:
      row[f"experts_{task}"] = ";".join(
        f"{e['expert']}={e['weight']:.4f}" for e in entry["experts"][task]
      )
    rows.append(row)
  return results.to_csv(rows, columns)
