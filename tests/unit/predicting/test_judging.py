"""What the device works on when nobody wants its answers any more."""

import types

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax.predicting import judging, run
from mtlmoe_jax.predicting.inputs import Item
from tests.support import fake_model


class Output:
  """What a device computes until somebody waits for it."""

  def __init__(self):
    self.waited = False

  def block_until_ready(self):
    self.waited = True


def test_a_batch_that_runs_is_waited_for(tmp_path):
  Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
  items = [Item(str(tmp_path / "a.png"))] * 9
  outputs = []

  def start(frames, size):
    outputs.append(Output())
    return [(None, outputs[-1])]

  config = types.SimpleNamespace(data=types.SimpleNamespace(image_size=8))
  predictor = types.SimpleNamespace(
    config=config,
    frames=lambda image: {"image": image},
    start=start,
    finish=lambda started, about: [None] * len(about),
  )
  ranges = [range(i, i + 3) for i in (0, 3, 6)]
  with judging.make_pool() as pool:
    batches = judging.judge(
      predictor, items, ranges, 3, pool, keep_images=False
    )
    next(batches)
    assert [output.waited for output in outputs] == [False, False]
    batches.close()
  assert [output.waited for output in outputs] == [False, True]


def test_an_interrupted_prediction_closes_its_batches(monkeypatch, tmp_path):
  restored = fake_model.restored_of(monkeypatch)
  for i in range(12):
    pixels = np.full((8, 8, 3), 20 * i, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{i}.png")
  waited = []
  monkeypatch.setattr(judging, "_wait", waited.append)

  def interrupted(self, done, bar):
    raise KeyboardInterrupt

  monkeypatch.setattr(run._Writer, "_append", interrupted)
  options = run.Options(batch_size=2, overlays="none")
  with pytest.raises(KeyboardInterrupt):
    run.predict_files(
      restored, [tmp_path], tmp_path / "out", options, progress=False
    )
  assert len(waited) == 1 and waited[0] is not None
