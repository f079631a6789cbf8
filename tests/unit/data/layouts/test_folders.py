import unicodedata

import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.config import default_config
from mtlmoe_jax.data import opening
from mtlmoe_jax.data.readers.problems import Problems
from tests.support import layouts

PIXELS = "path,x_min_px,y_min_px,x_max_px,y_max_px\n"
SHARES = "path,x_min,y_min,x_max,y_max\n"


def fill(root, *names):
  for i, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(layouts.encode(layouts.picture(i, 20, 10)))
  return root


def opened(root, problems=None):
  config = default_config()
  config.data.name, config.data.path = "folder", str(root)
  return opening.open_whole(config, problems or Problems())


def refused(root, table, text, said):
  """Opens two images beside a table that is refused in one line."""
  fill(root, "a/1.jpg", "a/2.jpg")
  (root / table).write_text(text)
  with pytest.raises(errors.InputError, match=said) as info:
    opened(root)
  assert "\n" not in str(info.value)


def test_split_folders_and_hidden_files(tmp_path):
  fill(
    tmp_path,
    "train/cat/b.jpg",
    "train/cat/a.jpg",
    "train/ant/c.JPG",
    "val/cat/d.jpg",
    "test/bee/e.jpg",
  )
  (tmp_path / "train/cat/notes.txt").write_text("x")
  (tmp_path / "train/cat/._a.jpg").write_text("x")
  whole = opened(tmp_path)
  assert whole.source.class_names == ("ant", "bee", "cat")
  ids = {
    split: [whole.source.ids[i] for i in index]
    for split, index in whole.official.items()
  }
  assert ids == {
    "train": ["train/ant/c.JPG", "train/cat/a.jpg", "train/cat/b.jpg"],
    "validation": ["val/cat/d.jpg"],
    "test": ["test/bee/e.jpg"],
  }
  record = whole.source[0]
  assert record["has_box"] is False
  np.testing.assert_array_equal(record["box"], np.zeros(4))


def test_train_and_val_alone_test_on_val(tmp_path):
  whole = opened(fill(tmp_path, "train/a/1.jpg", "val/a/2.jpg"))
  assert set(whole.official) == {"train", "test"}
  assert whole.source.ids[whole.official["test"][0]] == "val/a/2.jpg"


def test_no_split_holds_out_a_seeded_fifth_of_each_class(tmp_path):
  fill(tmp_path, *(f"{c}/{i}.jpg" for c in "ab" for i in range(10)))
  first, again = opened(tmp_path), opened(tmp_path)
  test = first.official["test"]
  np.testing.assert_array_equal(test, again.official["test"])
  np.testing.assert_array_equal(np.bincount(first.source.labels[test]), [2, 2])
  both = np.sort(np.concatenate([test, first.official["train"]]))
  np.testing.assert_array_equal(both, np.arange(20))


def test_boxes_in_pixels_and_in_shares_are_equal(tmp_path):
  fill(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
  (tmp_path / "boxes.csv").write_text(
    PIXELS + "a/1.jpg,2,1,12,9\n./b/3.jpg, 0, 0, 20, 10\n"
  )
  pixels = opened(tmp_path).source
  (tmp_path / "boxes.csv").write_text(
    SHARES + "b/3.jpg,0,0,1,1\na\\1.jpg,0.1,0.1,0.6,0.9\n"
  )
  shares = opened(tmp_path).source
  for source in (pixels, shares):
    want = np.array([0.1, 0.1, 0.6, 0.9], np.float32)
    np.testing.assert_array_equal(source[0]["box"], want)
    assert source[1]["has_box"] is False
    assert source[2]["has_box"] is True
  assert pixels.fingerprint == shares.fingerprint


BAD = {
  PIXELS + "a/9.jpg,0,0,5,5\n": r"none of the images of boxes\.csv is there",
  PIXELS + "a/1.jpg,0,0,5,5\na/9.jpg,0,0,5,5\n": r"1 of 2 images.*\(a/9\.jpg",
  PIXELS + "a/1.jpg,0,0,0,5\n": r"line 2 \(a/1\.jpg\): .*no area",
  PIXELS + "a/1.jpg,30,0,50,5\n": "outside its image",
  PIXELS + "a/1.jpg,x,0,5,5\n": "four numbers",
  PIXELS + "a/1.jpg,1,2\n": "3 entries under 5 columns",
  PIXELS + "a/1.jpg,0,0,5,5\na/1.jpg,0,0,6,6\n": "several objects, 2 together",
  SHARES + "a/1.jpg,0,0,105,8\n": "outside its image",
  PIXELS: r"boxes\.csv: no rows",
  PIXELS + "a/1.jpg,0,0,5," + "5" * 200_000: r"line 2: field larger than",
  PIXELS + "a/1.jpg,0,0,5,5,6\n": "6 entries under 5 columns",
  "path,x,x,w,h\na/1.jpg,0,0,5,5\n": "names a column twice",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_boxes_file(tmp_path, text):
  refused(tmp_path, "boxes.csv", text, BAD[text])


def test_tables_are_found_and_read_as_people_have_them(tmp_path):
  """Capital letters, rows of commas, names that macOS has composed."""
  decomposed = unicodedata.normalize("NFD", "Bl\u00e4sshuhn/\u00e9.jpg")
  composed = unicodedata.normalize("NFC", decomposed)
  assert decomposed != composed
  fill(tmp_path, decomposed, "b/2.jpg")
  (tmp_path / "Boxes.CSV").write_text(
    PIXELS + f",,,,\n{composed},0,0,20,10\n , , , , \n", encoding="utf-8"
  )
  (tmp_path / "Attributes.csv").write_text(
    f"path,camera\n,\n{composed},north\n", encoding="utf-8"
  )
  source = opened(tmp_path).source
  assert source.class_names == (composed.split("/")[0], "b")
  assert source.ids == [decomposed, "b/2.jpg"]
  assert source[0]["has_box"] and not source[1]["has_box"]
  assert source[0]["attributes"] == {"camera": "north"}


def test_attributes_are_known_of_each_image_and_change_nothing(tmp_path):
  fill(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
  plain = opened(tmp_path).source
  assert "attributes" not in plain[0]
  (tmp_path / "attributes.csv").write_text(
    "\ufeffcamera, path,night\n north ,a\\1.jpg,no\n\n,./b/3.jpg,yes\n",
    encoding="utf-8",
  )
  source = opened(tmp_path).source
  assert [source[i]["attributes"] for i in range(3)] == [
    {"camera": "north", "night": "no"},
    {"camera": "", "night": ""},
    {"camera": "", "night": "yes"},
  ]
  assert source.fingerprint == plain.fingerprint


BAD_ATTRIBUTES = {
  "path,camera\na/9.jpg,x\n": r"attributes\.csv line 2: no image 'a/9\.jpg'",
  "path,camera\na/1.jpg,x\na/1.jpg,y\n": "line 3: .* already",
  "path,camera\na/1.jpg,x,y\n": "3 entries under 2 columns",
  "path,camera\na/1.jpg\n": "1 entries under 2 columns",
  "path,camera\na/1.jpg," + "x" * 200_000: "line 2: field larger than",
  "path\na/1.jpg\n": "at least one attribute",
  "": "at least one attribute",
  "file,camera\na/1.jpg,x\n": "must be path and",
  "path,class\na/1.jpg,x\n": "column 'class'",
  "path,camera,camera\na/1.jpg,x,y\n": "name of its own",
  "path,camera,\na/1.jpg,x,y\n": "name of its own",
}


@pytest.mark.parametrize("text", BAD_ATTRIBUTES)
def test_bad_attributes_file(tmp_path, text):
  refused(tmp_path, "attributes.csv", text, BAD_ATTRIBUTES[text])
  problems = Problems(collect=True)
  assert len(opened(tmp_path, problems).source) == 2
  assert len(problems.messages) == 1


def test_wrong_folders(tmp_path):
  with pytest.raises(errors.InputError, match="no such folder"):
    opened(tmp_path / "none")
  with pytest.raises(errors.InputError, match="no images in class"):
    opened(tmp_path)
  (tmp_path / "loose.jpg").write_bytes(layouts.encode(QUARTER))
  with pytest.raises(errors.InputError, match="no images in class"):
    opened(tmp_path)
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "text.png").write_text("text")
  with pytest.raises(errors.InputError, match=r"text\.png cannot be read"):
    opened(tmp_path)


QUARTER = layouts.picture(0, 8, 8)


def test_class_folders_in_a_folder_of_images_are_recognised(tmp_path):
  fill(tmp_path, "images/cat/1.jpg", "images/cat/2.jpg", "images/dog/3.jpg")
  (tmp_path / "boxes.csv").write_text(PIXELS + "images/dog/3.jpg,2,1,12,9\n")
  config = default_config()
  config.data.path = str(tmp_path)
  source = opening.open_whole(config, Problems()).source
  assert source.class_names == ("cat", "dog")
  assert list(source.labels) == [0, 0, 1]
  assert list(source.has_box) == [False, False, True]
  np.testing.assert_allclose(source[2]["box"], [0.1, 0.1, 0.6, 0.9])
