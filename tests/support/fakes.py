"""Sources without files."""

import numpy as np

from mtlmoe_jax.data import source as source_lib


class FakeSource:
  """Seven flat images; some without a label or a box."""

  name = "fake"
  class_names = ("a", "b", "c")

  def __init__(self, n=7):
    self.ids = [f"{i}.png" for i in range(n)]
    labels = [i % 3 if i != 2 else -1 for i in range(n)]
    self.labels = np.asarray(labels, np.int32)
    self.fingerprint = source_lib.fingerprint(self.ids, self.labels)

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, i):
    return {
      "image": np.full((40, 50, 3), 30 * i, np.uint8),
      "label": self.labels[i],
      "has_label": bool(self.labels[i] >= 0),
      "box": np.asarray([0.1, 0.2, 0.6, 0.5 + 0.05 * i], np.float32),
      "has_box": i != 4,
      "id": self.ids[i],
    }
