"""Predictions in Python of what is given badly, or by halves."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import api, errors
from tests.support import fake_model, tiny

GREY = np.full((8, 8, 3), 128, np.uint8)


@pytest.fixture
def model(monkeypatch):
  return api.Model(fake_model.restored_of(monkeypatch))


def answered(found):
  """(how many answers came, the error after them)."""
  count = 0
  try:
    for _ in found:
      count += 1
  except (errors.InputError, KeyError) as error:
    return count, error
  return count, None


@pytest.mark.parametrize("good", [1, 3, 4, 6, 9])
def test_all_before_a_bad_image_are_answered(model, good):
  images = [GREY] * good + [b"no image"] + [GREY] * 5
  for given in (images, iter(images)):
    count, error = answered(model.predict(given, batch_size=4))
    assert count == good
    assert str(error).startswith(f"image {good} cannot be read")


@pytest.mark.parametrize("good", [1, 3, 6])
def test_all_before_a_mistake_of_the_generator_are_answered(model, good):
  def given():
    yield from [GREY] * good
    raise KeyError("of the user")

  count, error = answered(model.predict(given(), batch_size=4))
  assert count == good and isinstance(error, KeyError)


@pytest.mark.parametrize("size", [2.5, "3", None])
def test_a_batch_size_is_a_whole_number(model, size):
  with pytest.raises(errors.InputError, match=rf"batch_size={size!r}: must be"):
    model.predict([GREY], batch_size=size)
  assert answered(model.predict([GREY] * 3, batch_size=np.int64(2)))[0] == 3


def test_open_files_and_folders_are_named_as_such(model, tmp_path):
  path = tmp_path / "a.png"
  Image.fromarray(GREY).save(path)
  with open(path, "rb") as file:
    for given in (file, [file]):
      with pytest.raises(errors.InputError, match=r"read\(\)"):
        model.predict(given)
    assert answered(model.predict(file.read()))[0] == 1
  with pytest.raises(errors.InputError, match="is a folder: give the files"):
    model.predict(tmp_path)


def test_a_process_ends_with_answers_that_nobody_took():
  program = textwrap.dedent("""
    import itertools, types
    import numpy as np
    from mtlmoe_jax.predicting import stream
    predictor = types.SimpleNamespace(
      largest_batch=lambda most: 4, batch_size=lambda count, most: 4,
      frames=lambda image: {}, start=lambda frames, size: len(frames),
      finish=lambda started, about: [None if a is None else a for a in about],
    )
    grey = np.zeros((8, 8, 3), np.uint8)
    answers = stream.predict(predictor, itertools.repeat(grey), 0)
    next(answers)
  """)
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, "")
