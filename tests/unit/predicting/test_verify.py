"""Predictions computed again."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import verify
from tests.support import annotated, fake_model, written


@pytest.fixture
def restored(monkeypatch):
  restored = fake_model.restored_of(monkeypatch)
  return dataclasses.replace(
    restored, digest="a" * 64, meta={"dataset_fingerprint": "b"}
  )


@pytest.fixture
def photos(tmp_path):
  folder = tmp_path / "in"
  folder.mkdir()
  random = np.random.default_rng(0)
  for i in range(11):
    pixels = random.integers(0, 256, (40 + i, 50, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{i:02d}.png")
  (folder / "bad.png").write_text("no image")
  return folder


def predicted(restored, photos, out, **options):
  written.rows(restored, [photos], out, batch_size=4, **options)
  return out / "predictions.jsonl"


def test_nothing_has_changed(restored, photos, tmp_path):
  file = predicted(restored, photos, tmp_path / "out")
  for sample in (1, 5, 0, 100):
    found = verify.verify(restored, file, sample)
    assert found.compared == found.equal == (min(sample, 12) or 12)
    assert found.rows == 12 and found.changed == found.examples == ()


@pytest.mark.parametrize("sample", [1, 2, 5, 11, 0])
def test_rows_are_computed_in_their_places(
  photos, tmp_path, monkeypatch, sample
):
  # Without a digest, so that no program of another model is kept for it.
  restored = fake_model.restored_of(monkeypatch, model=fake_model.PlacedModel)
  file = predicted(restored, photos, tmp_path / "out")
  found = verify.verify(restored, file, sample)
  assert found.equal == found.compared == (sample or 12)


def test_what_is_sampled():
  for count, size, sample in itertools.product(
    (1, 2, 7, 16, 33, 1000), (1, 3, 16), (1, 2, 5, 50, 0)
  ):
    found = verify._sampled(count, size, sample)
    assert len(found) == min(sample or count, count)
    assert found <= set(range(count))
  # Fifty of thirty thousand are of ten batches, the first to the last.
  batches = {number // 16 for number in verify._sampled(30000, 16, 50)}
  assert len(batches) == 10 and {0, 1874} <= batches
  assert len({n % 16 for n in verify._sampled(30000, 16, 50)}) > 8


def test_relative_paths_and_other_folders(
  restored, photos, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  file = predicted(restored, "in", tmp_path / "out")
  monkeypatch.chdir("/")
  assert verify.verify(restored, file).equal == 12
  (tmp_path / "new").mkdir()
  photos.rename(tmp_path / "new" / "in")
  found = verify.verify(restored, file)
  assert found.equal < 12 and "no such" in found.examples[0]
  assert verify.verify(restored, file, folder=str(tmp_path / "new")).equal == 12


def test_views_and_objects(restored, photos, tmp_path):
  file = predicted(restored, photos, tmp_path / "flip", views="flip")
  assert verify.verify(restored, file).equal == 12
  found = [
    {"category": "1", "conf": 0.9, "bbox": [0.1, 0.2, 1 / 3, 0.31]},
    {"category": "1", "conf": 0.8, "bbox": [0.3, 0.4, 0.4, 0.5]},
  ]
  annotated.write(
    tmp_path / "md.json",
    {
      "images": [{"file": "00.png", "detections": found}],
      "detection_categories": {"1": "animal"},
    },
  )
  out = tmp_path / "boxes"
  file = predicted(restored, photos, out, boxes=str(tmp_path / "md.json"))
  verdict = verify.verify(restored, file)
  assert verdict.equal == verdict.rows == 2


def test_what_differs_is_told(restored, photos, tmp_path):
  file = predicted(restored, photos, tmp_path / "out")
  Image.new("RGB", (50, 40), "white").save(photos / "00.png")
  (photos / "01.png").unlink()
  other = dataclasses.replace(restored, digest="c" * 64)
  found = verify.verify(other, file)
  assert (found.compared, found.equal) == (12, 10)
  assert found.classes >= 1 and found.probability > 0
  assert len(found.examples) == 2
  assert (
    "01.png" in found.examples[1] and "error None then" in found.examples[1]
  )
  assert found.changed == (
    f"checkpoint.digest: {'a' * 64} then, {'c' * 64} now",
  )


def test_files_that_are_no_predictions(restored, photos, tmp_path):
  file = predicted(restored, photos, tmp_path / "out")

  def refused(said, path=file):
    with pytest.raises(errors.InputError, match=said) as caught:
      verify.verify(restored, path)
    assert "\n" not in str(caught.value)

  refused("there is no passport.json beside it", tmp_path / "none.jsonl")
  refused("cannot be read", file.with_name("none.jsonl"))
  refused("JSON object a line", file.with_name("predictions.json"))
  rows = file.read_text().splitlines()
  row = json.loads(rows[3])
  for wrong in ({**row, "passport": "0" * 16}, {"id": "a"}, [1], 3):
    file.write_text("\n".join([*rows[:3], json.dumps(wrong), *rows[4:]]))
    refused(
      "passport" if isinstance(wrong, dict) and "box" in wrong else "no file"
    )
  file.write_text("")
  refused("holds no predictions")
  passport = file.with_name("passport.json")
  facts = json.loads(passport.read_text())
  for text in ("", "[]", "{}", '{"passport": 1}'):
    passport.write_text(text)
    refused("is no passport")
  for wrong in ({"run": 3}, {"folder": None}, {"checkpoint": "x"}):
    passport.write_text(json.dumps({**facts, **wrong}))
    refused("is no passport")


@pytest.mark.parametrize(
  "wrong",
  [
    {"batch_size": 3},
    {"batch_size": 0},
    {"views": "flip"},
    {"checkpoint": {"digest": "e" * 64, "step": 1}},
    {"versions": {}},
    {"passport": "0" * 16},
    {"more": 1},
  ],
)
def test_a_passport_that_was_changed(restored, photos, tmp_path, wrong):
  file = predicted(restored, photos, tmp_path / "out")
  passport = file.with_name("passport.json")
  facts = json.loads(passport.read_text())
  passport.write_text(json.dumps({**facts, **wrong}))
  with pytest.raises(errors.InputError, match="is not as it was written"):
    verify.verify(restored, file)


@pytest.mark.parametrize(
  "wrong",
  [
    *({"id": 3}, {"id": None}, {"passport": [1]}, {"probability": "x"}),
    *({"box": "x"}, {"box": {"pixels": [1]}}, {"detection": {}}),
    *({"detection": {"normalised": [0, 0, 1]}}, {"frame": "3"}),
    {"frame": 3, "seconds": "x"},
  ],
)
def test_rows_that_are_none(restored, photos, tmp_path, wrong):
  file = predicted(restored, photos, tmp_path / "out")
  rows = file.read_text().splitlines()
  rows[2] = json.dumps({**json.loads(rows[2]), **wrong})
  file.write_text("\n".join(rows))
  with pytest.raises(errors.InputError, match=r"line 3\): name the pred"):
    verify.verify(restored, file)
