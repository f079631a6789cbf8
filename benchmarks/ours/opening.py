"""Opening a data set as a contestant."""

import resource
from collections.abc import Callable

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data


def coco(folder: str) -> tuple[Callable[[], None], dict]:
  """Opens a COCO file, an object a record.

  Args:
    folder: of annotations.json and the images.
  """
  config = config_lib.default_config()
  config.data.path, config.data.objects = folder, "each"

  def run() -> None:
    data.open_data(config)

  run()
  most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return run, {"bytes": most}
