"""Every record of a data set as plain values: what `check_data --json` writes.

One record a line, in the order of the data set:

```
[
{"image": "a/1.jpg", "class": "a", "box": [4, 6, 24, 21], "split": "train"},
{"image": "a/2.jpg", "class": null, "box": null, "split": null}
]
```

`image` is the id of the picture, for files its path; `box` is in pixels of the
upright picture, x1, y1, x2, y2, to a ten-thousandth of one; `split` is null
where a run would not use the record (a class that is not chosen).
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtlmoe_jax.data.opening import Data
from mtlmoe_jax.data.readers.file_source import FileSource
from mtlmoe_jax.data.source import Source
from mtlmoe_jax.utils import files

_DECIMALS = 4


def write(
  path: str | os.PathLike, source: Source, data: Data | None = None
) -> None:
  """Writes `rows`, whole or not at all.

  Args:
    path: the JSON file.
    source: the whole data set.
    data: its parts; None: it has none.

  Raises:
    InputError: an image whose size cannot be read.
  """
  # Escaped to ASCII: a file's name need not be text.
  lines = map(json.dumps, rows(source, parts_of(data)))
  files.write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def parts_of(data: Data | None) -> dict[str, str]:
  """ "train", "validation" or "test" by the id of each record of a run."""
  if data is None:
    return {}
  return {name: part for part, ids in data.ids().items() for name in ids}


def rows(source: Source, part_of: Mapping[str, str]) -> list[dict[str, Any]]:
  """A row for each record: image, class, box, split.

  Args:
    source: of n records; of files the headers alone are read.
    part_of: split by id.

  Returns:
    n rows.

  Raises:
    InputError: an image whose size cannot be read.
  """
  image_ids = source.image_ids if isinstance(source, FileSource) else source.ids
  out = []
  for i, (name, image) in enumerate(zip(source.ids, image_ids, strict=True)):
    label = int(source.labels[i])
    out.append(
      {
        "image": image,
        "class": source.class_names[label] if label >= 0 else None,
        "box": _pixels(source, i),
        "split": part_of.get(name),
      }
    )
  return out


def _pixels(source: Source, index: int) -> list[float] | None:
  """The box of a record in pixels of the upright image."""
  if isinstance(source, FileSource):
    if not source.has_box[index]:
      return None
    (height, width), box = source.upright(index)
  else:
    record = source[index]
    if not record["has_box"]:
      return None
    box, (height, width) = record["box"], record["image"].shape[:2]
  corners = np.asarray(box, np.float64) * (width, height, width, height)
  # A float32 share is off by up to a thousandth of a large image's pixel.
  return np.round(corners, _DECIMALS).tolist()
