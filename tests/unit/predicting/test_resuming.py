"""A prediction that is stopped anywhere and started again."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import run
from mtlmoe_jax.utils import files
from tests.support import fake_model

OPTIONS = run.Options(crops=True, thumbnails=True, batch_size=4)


class Killed(BaseException):
  """What no handler of ours expects."""


@pytest.fixture
def restored(monkeypatch):
  return fake_model.restored_of(monkeypatch)


@pytest.fixture
def photos(tmp_path):
  folder = tmp_path / "in"
  random = np.random.default_rng(1)
  for i in range(22):
    name = folder / f"{i % 3}" / f"{i}.png"
    name.parent.mkdir(parents=True, exist_ok=True)
    grey = random.integers(0, 256, (9 + i, 12, 1), np.uint8)
    Image.fromarray(np.repeat(grey, 3, 2)).save(name)
  for i in (4, 5, 6, 7, 13):  # all of one batch, and one of another
    path = folder / f"{i % 3}" / f"{i}.png"
    path.write_bytes(path.read_bytes()[:40])
  return folder


def contents(out):
  return {
    str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(out.rglob("*"))
    if path.is_file()
  }


def predict(restored, photos, out):
  return run.predict_files(restored, [photos], out, OPTIONS, progress=False)


def test_stopped_at_every_rename_and_started_again(
  restored, photos, tmp_path, monkeypatch
):
  whole, out = tmp_path / "whole", tmp_path / "out"
  assert predict(restored, photos, whole).unreadable == 5
  expected = contents(whole)
  assert len(expected) == 3 * 17 + 4
  replace, left = os.replace, [0]

  def fails_later(*names):
    left[0] -= 1
    if left[0] < 0:
      raise Killed
    replace(*names)

  monkeypatch.setattr(os, "replace", fails_later)
  kills = 0
  while True:
    left[0] = 5 + 3 * kills
    try:
      predict(restored, photos, out)
      break
    except Killed:
      kills += 1
      assert kills < 60
  assert kills > 4
  assert contents(out) == expected


def white(path):
  path.parent.mkdir(exist_ok=True)
  Image.new("RGB", (20, 20), "white").save(path)


def replaced_and_added_at_the_end(photos):
  white(photos / "0" / "0.png")
  white(photos / "9" / "0.png")


def moved(photos):
  white(photos / "0" / "00.png")
  # It takes the name of an overlay from one that is there.
  white(photos / "00" / "21.png")
  (photos / "1" / "1.png").unlink()


@pytest.mark.parametrize(
  ("change", "most"), [(replaced_and_added_at_the_end, 2), (moved, 6)]
)
def test_what_came_later_and_what_changed_is_predicted(
  restored, photos, tmp_path, monkeypatch, change, most
):
  out = tmp_path / "out"

  def fail(*_):
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(run.formats, "write", fail)
    with pytest.raises(Killed):
      predict(restored, photos, out)
  change(photos)
  # Only batches with other files than before are computed again.
  computed = []
  start = run.Predictor.start

  def counted(self, frames, size):
    computed.append(len(frames))
    return start(self, frames, size)

  with monkeypatch.context() as patch:
    patch.setattr(run.Predictor, "start", counted)
    predict(restored, photos, out)
  assert 0 < len(computed) <= most
  fresh = tmp_path / "fresh"
  predict(restored, photos, fresh)
  assert contents(fresh).items() <= contents(out).items()


def test_other_options_begin_anew(restored, photos, tmp_path, monkeypatch):
  out = tmp_path / "out"
  with monkeypatch.context() as patch:
    patch.setattr(run.formats, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      predict(restored, photos, out)
  said = []
  monkeypatch.setattr(run.processes, "say", said.append)
  run.predict_files(restored, [photos], out, run.Options(views="flip"))
  assert "begun anew" in said[0]


def test_two_at_once_are_refused(restored, photos, tmp_path):
  out = tmp_path / "out"
  (out / ".predict").mkdir(parents=True)
  with (
    files.claim(out / ".predict" / "lock"),
    pytest.raises(errors.InputError, match="another prediction is being"),
  ):
    predict(restored, photos, out)
