"""pycocotools' own loading as a contestant."""

import resource
from collections.abc import Callable

from pycocotools import coco


def load(folder: str) -> tuple[Callable[[], None], dict]:
  """Parses and indexes a COCO file.

  Args:
    folder: of annotations.json.
  """

  def run() -> None:
    coco.COCO(f"{folder}/annotations.json")

  run()
  most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return run, {"bytes": most}
