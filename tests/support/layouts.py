"""Small data sets in real layouts, made for the tests."""

import io
import pathlib
import tarfile

import numpy as np
from PIL import Image

# Class, width, height, box x y w h, 1 = train; numbers are not consecutive.
CUB_ROWS = {
  1: ("001.Red_bird", 40, 30, (4.0, 6.0, 20.0, 15.0), 1),
  2: ("001.Red_bird", 30, 40, (0.0, 0.0, 30.0, 40.0), 0),
  5: ("001.Red_bird", 32, 32, (8.0, 8.0, 16.0, 8.0), 1),
  6: ("002.Sky_blue_bird", 50, 20, (10.0, 5.0, 25.0, 10.0), 1),
  9: ("002.Sky_blue_bird", 24, 36, (6.0, 9.0, 12.0, 18.0), 0),
}


def picture(seed: int, width: int, height: int) -> np.ndarray:
  """Smooth noise, u8 [height, width, 3]: survives JPEG, differs by seed."""
  noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3))
  image = Image.fromarray(noise.astype(np.uint8))
  return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def encode(image: np.ndarray, kind: str = "JPEG", **options) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, kind, **options)
  return buffer.getvalue()


def cub_name(number: int) -> str:
  folder = CUB_ROWS[number][0]
  return f"{folder}/{folder[4:]}_{number:04d}_{number + 10}.jpg"


def make_cub(root: pathlib.Path, rows=None) -> pathlib.Path:
  """Writes CUB's official layout for `rows` (CUB_ROWS) into `root`."""
  rows = rows or CUB_ROWS
  names = sorted({row[0] for row in rows.values()})
  lines = {
    "images.txt": [f"{n} {cub_name(n)}" for n in rows],
    "image_class_labels.txt": [
      f"{n} {int(row[0][:3])}" for n, row in rows.items()
    ],
    "bounding_boxes.txt": [
      f"{n} " + " ".join(str(v) for v in row[3]) for n, row in rows.items()
    ],
    "train_test_split.txt": [f"{n} {row[4]}" for n, row in rows.items()],
    "classes.txt": [f"{int(name[:3])} {name}" for name in names],
  }
  root.mkdir(parents=True, exist_ok=True)
  for name, text in lines.items():
    (root / name).write_text("\n".join(text) + "\n")
  for number, row in rows.items():
    path = root / "images" / cub_name(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(picture(number, row[1], row[2]), quality=95))
  return root


def make_cub_archive(work: pathlib.Path) -> pathlib.Path:
  """CUB_200_2011.tgz with the same content, and a file beside the folder."""
  make_cub(work / "CUB_200_2011")
  (work / "attributes.txt").write_text("1 x\n")
  archive = work / "CUB_200_2011.tgz"
  with tarfile.open(archive, "w:gz") as tar:
    tar.add(work / "attributes.txt", "attributes.txt")
    tar.add(work / "CUB_200_2011", "CUB_200_2011")
  return archive


def edit(path: pathlib.Path, old: str, new: str) -> None:
  """Replaces one whole line of a text file; an empty `new` removes it."""
  lines = path.read_text().splitlines()
  place = lines.index(old)
  lines[place : place + 1] = [new] if new else []
  path.write_text("\n".join(lines) + "\n")
