"""Pictures of predictions: how large, in which format, where."""

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import pictures
from mtlmoe_jax.predicting.inputs import Item
from tests.support import fake_model, written


@pytest.fixture
def restored(monkeypatch):
  return fake_model.restored_of(monkeypatch)


def photograph(path, size):
  """Its right lower quarter (what the fake model says) is red."""
  path.parent.mkdir(parents=True, exist_ok=True)
  width, height = size
  pixels = np.zeros((height, width, 3), np.uint8)
  pixels[height // 2 : 3 * height // 4, width // 4 :] = (255, 0, 0)
  Image.fromarray(pixels).save(path, quality=95)
  return path


def size_of(path):
  with Image.open(path) as image:
    image.load()
    return image.format, image.size


def test_a_large_photograph_is_drawn_small_and_cropped_in_full(
  restored, tmp_path
):
  file = photograph(tmp_path / "a.jpg", (6000, 4000))
  out = tmp_path / "out"
  (row,) = written.rows(restored, [file], out, crops=True, thumbnails=True)
  assert (row["width"], row["height"]) == (6000, 4000)
  assert row["box"]["pixels"] == [1500, 2000, 6000, 3000]
  assert size_of(out / row["overlay"]) == ("JPEG", (1600, 1067))
  assert size_of(out / row["crop"]) == ("JPEG", (4500, 1000))
  assert size_of(out / row["thumbnail"]) == ("JPEG", (256, 171))
  assert row["crop"] == "crops/a.jpg"
  crop = np.asarray(Image.open(out / row["crop"])).reshape(-1, 3)
  assert np.abs(crop.mean(0) - (255, 0, 0)).max() < 4
  # The box is where it is in the small picture.
  drawn = np.asarray(Image.open(out / row["overlay"]).convert("RGB"), int)
  orange = np.abs(drawn - (255, 127, 14)).max(-1) < 60
  assert orange[:, 400].sum() > 200 and orange[:, 300].sum() < 50


def test_formats_of_overlays(restored, tmp_path):
  file = photograph(tmp_path / "a.png", (300, 300))
  for kind, wanted in (("jpeg", "JPEG"), ("png", "PNG"), ("auto", "JPEG")):
    (row,) = written.rows(restored, [file], tmp_path / kind, overlays=kind)
    assert size_of(tmp_path / kind / row["overlay"])[0] == wanted
  (row,) = written.rows(restored, [file], tmp_path / "none", overlays="none")
  assert row["overlay"] is None and "crop" not in row
  assert not list((tmp_path / "none").glob("*g"))


def test_what_is_drawn_changes_no_answer(restored, tmp_path):
  file = photograph(tmp_path / "a.jpg", (3000, 2600))
  answers = []
  for i, options in enumerate(
    ({"overlays": "none"}, {"overlays": "png"}, {"crops": True})
  ):
    (row,) = written.rows(restored, [file], tmp_path / str(i), **options)
    answers.append({k: row[k] for k in ("top5", "box", "experts")})
  assert answers[0] == answers[1] == answers[2]


def test_auto_draws_for_few(restored):
  assert pictures.settled("auto", pictures.MOST_OVERLAYS) == "jpeg"
  assert pictures.settled("auto", pictures.MOST_OVERLAYS + 1) == "none"
  assert pictures.settled("png", 10**6) == "png"
  with pytest.raises(errors.InputError, match="--overlays=gif: must be one of"):
    pictures.settled("gif", 1)


def test_a_model_without_boxes_has_no_crops(monkeypatch, tmp_path):
  restored = fake_model.restored_of(monkeypatch, ("class",))
  file = photograph(tmp_path / "a.jpg", (300, 300))
  (row,) = written.rows(restored, [file], tmp_path / "out", crops=True)
  assert row["crop"] is None and row["overlay"]


def test_names(tmp_path):
  items = [
    *(Item(f"card{i}/IMG_1.JPG") for i in range(3)),
    *(Item("card0/img_1_2.png"), Item("v/a.mp4", None, 0, 0.0)),
    *(Item("v/a.mp4", None, 25, 1.0), Item(str(tmp_path / "x.png"))),
    Item("card0/x.jpg"),
  ]
  found = pictures.stems(items, tmp_path)
  assert found == [
    *("IMG_1", "IMG_1_2", "IMG_1_3", "img_1_2_2"),
    *("a_000000", "a_000025", "x_2", "x_3"),
  ]
  # Ten thousand of one name take no time.
  many = pictures.stems([Item(f"{i}/a.jpg") for i in range(10000)], tmp_path)
  assert len(set(many)) == 10000


def test_long_names(restored, tmp_path):
  # 255 bytes of one ending, and the same of another; characters of 2 bytes.
  names = ["x" * 251 + ".png", "x" * 251 + ".bmp", "\u00e4" * 125 + ".jpeg"]
  files = [photograph(tmp_path / "in" / name, (40, 30)) for name in names]
  rows = written.rows(
    restored, files, tmp_path / "out", crops=True, thumbnails=True
  )
  assert [row["overlay"] for row in rows] == [
    *("x" * 200 + ".jpg", "x" * 200 + "_2.jpg", "\u00e4" * 100 + ".jpg")
  ]
  for row in rows:
    for kind in ("overlay", "crop", "thumbnail"):
      assert (tmp_path / "out" / row[kind]).is_file()


def test_a_crop_that_is_longer_than_any_jpeg(restored, tmp_path):
  file = tmp_path / "a.png"
  Image.new("RGB", (100_000, 8)).save(file)
  (row,) = written.rows(
    restored, [file], tmp_path / "out", crops=True, overlays="none"
  )
  assert size_of(tmp_path / "out" / row["crop"]) == ("JPEG", (65500, 2))


def test_few_pixels_of_a_large_png_wait_to_be_drawn(
  restored, tmp_path, monkeypatch
):
  file = photograph(tmp_path / "a.png", (6000, 4000))
  waiting = []
  write = pictures.write

  def seen(one, *rest):
    waiting.append(one.image.shape)
    return write(one, *rest)

  monkeypatch.setattr(pictures, "write", seen)
  (row,) = written.rows(restored, [file], tmp_path / "out", crops=True)
  assert waiting == [(1632, 2449, 3)]
  assert size_of(tmp_path / "out" / row["overlay"]) == ("JPEG", (1600, 1066))
  assert size_of(tmp_path / "out" / row["crop"]) == ("JPEG", (4500, 1000))
