"""What is known of a run, and its rows.

A row is what `predictions.jsonl` has on a line: one image, object of an image
or frame of a video, as a JSON object (see docs/outputs.md).
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Rows = Callable[[], Iterator[Row]]


@dataclasses.dataclass(frozen=True)
class About:
  """What is the same for all rows of a run.

  Attributes:
    class_names: all classes of the model, by their number.
    model: name and version, for people.
    tasks: of the model, such as ("class", "box").
    time: of the run, ISO 8601 with its zone; a resumed run has that of its
      start, so that its files are the same.
    has_detections: whether rows are about a detector's boxes.
    has_frames: whether some rows are frames of videos.
    pictures: which of overlay, crop and thumbnail the run draws.
    root: folder that file names of other tools begin at; "": the lowest one
      that holds all images.
    detector: name of what found the boxes, such as its file.
    options: of the formats, by name (see `formats.OPTIONS`).
  """

  class_names: Sequence[str]
  model: str
  tasks: Sequence[str]
  time: str
  has_detections: bool = False
  has_frames: bool = False
  pictures: Sequence[str] = ("overlay",)
  root: str = ""
  detector: str = ""
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def option(self, name: str) -> str:
    """Value of an option; "" where it is not set."""
    return self.options.get(name, "")


def by_image(rows: Rows) -> Iterator[tuple[str, list[Row]]]:
  """(id, its rows) of each image or video; rows of one id follow each other."""
  for key, group in itertools.groupby(rows(), key=lambda row: row["id"]):
    yield key, list(group)
