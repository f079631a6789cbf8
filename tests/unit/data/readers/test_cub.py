import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.data.readers import cub
from mtlmoe_jax.data.readers.problems import Problems
from tests.support import layouts


@pytest.fixture
def root(tmp_path):
  return layouts.make_cub(tmp_path / "cub")


def test_reads_names_labels_boxes_and_split(root):
  whole = cub.open_cub(str(root), Problems())
  source = whole.source
  assert source.class_names == ("001.Red_bird", "002.Sky_blue_bird")
  assert source.ids == [layouts.cub_name(n) for n in layouts.CUB_ROWS]
  np.testing.assert_array_equal(source.labels, [0, 0, 0, 1, 1])
  np.testing.assert_array_equal(whole.official["train"], [0, 2, 3])
  np.testing.assert_array_equal(whole.official["test"], [1, 4])
  record = source[0]
  np.testing.assert_allclose(record["box"], [0.1, 0.2, 0.6, 0.7], atol=1e-7)
  assert record["box"].dtype == np.float32
  assert record["image"].shape == (30, 40, 3)
  want = layouts.picture(1, 40, 30).astype(int)
  assert np.abs(record["image"] - want).mean() < 4
  assert record["has_label"] is True
  assert record["has_box"] is True
  np.testing.assert_array_equal(source[1]["box"], [0, 0, 1, 1])


def test_nabirds_has_uuids_and_classes_of_inner_nodes(root):
  """As its 1,011 classes, of which 555 are those of images."""
  for name in cub.FILES[:4]:
    rows = (root / name).read_text().splitlines()
    rows = [f"0000139e-21dc-4d0c-bfe1-00000000000{row}" for row in rows if row]
    (root / name).write_text("\n".join(rows))
  with (root / "classes.txt").open("a") as file:
    file.write("0 Birds\n817 Wren (Female, juvenile)\n")
  whole = cub.open_cub(str(root), Problems())
  assert whole.source.class_names[0] == "Birds"
  assert len(whole.source.class_names) == 4
  (root / "hierarchy.txt").write_text("1 0\n2 0\n817 0\n")
  whole = cub.open_cub(str(root), Problems())
  assert whole.source.class_names == ("001.Red_bird", "002.Sky_blue_bird")
  np.testing.assert_array_equal(whole.source.labels, [0, 0, 0, 1, 1])
  np.testing.assert_array_equal(whole.official["test"], [1, 4])


def test_fingerprint_tells_content(root, tmp_path):
  first = cub.open_cub(str(root), Problems()).source.fingerprint
  again = layouts.make_cub(tmp_path / "again")
  assert cub.open_cub(str(again), Problems()).source.fingerprint == first
  layouts.edit(
    again / "bounding_boxes.txt",
    "1 4.0 6.0 20.0 15.0",
    "1 4.0 6.0 20.0 16.0",
  )
  assert cub.open_cub(str(again), Problems()).source.fingerprint != first


# File, line, what replaces it, what the message must name.
BAD = {
  "no label row": ("image_class_labels.txt", "5 1", "", "image 5"),
  "no box row": (
    "bounding_boxes.txt",
    "1 4.0 6.0 20.0 15.0",
    "",
    "image 1",
  ),
  "no split row": ("train_test_split.txt", "9 0", "", "image 9"),
  "row without image": (
    "images.txt",
    f"6 {layouts.cub_name(6)}",
    "",
    "row of image 6 without",
  ),
  "label out of range": (
    "image_class_labels.txt",
    "6 2",
    "6 7",
    "'7', which is not in",
  ),
  "label no number": ("image_class_labels.txt", "6 2", "6 x", "'x'"),
  "split neither 0 nor 1": ("train_test_split.txt", "9 0", "9 2", "'2'"),
  "box outside": (
    "bounding_boxes.txt",
    "1 4.0 6.0 20.0 15.0",
    "1 60.0 6.0 20.0 15.0",
    "image 1 .*outside its image",
  ),
  "box without area": (
    "bounding_boxes.txt",
    "1 4.0 6.0 20.0 15.0",
    "1 4.0 6.0 0.0 15.0",
    "image 1 .*no area",
  ),
  "box no number": (
    "bounding_boxes.txt",
    "1 4.0 6.0 20.0 15.0",
    "1 4.0 6.0 wide 15.0",
    "wide",
  ),
  "box nan": (
    "bounding_boxes.txt",
    "1 4.0 6.0 20.0 15.0",
    "1 4.0 6.0 nan 15.0",
    "not a number",
  ),
  "short row": (
    "bounding_boxes.txt",
    "1 4.0 6.0 20.0 15.0",
    "1 4.0",
    "line 1",
  ),
  "repeated number": ("train_test_split.txt", "9 0", "6 0", "number 6"),
  "missing image": (
    "images.txt",
    f"6 {layouts.cub_name(6)}",
    "6 gone/away.jpg",
    r"no such image file: .*away\.jpg",
  ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_give_one_clear_line(root, name):
  file, old, new, message = BAD[name]
  layouts.edit(root / file, old, new)
  with pytest.raises(errors.InputError, match=message) as info:
    cub.open_cub(str(root), Problems())
  assert "\n" not in str(info.value)
  # Collecting goes on and keeps every good row.
  problems = Problems(collect=True)
  whole = cub.open_cub(str(root), problems)
  assert problems.messages
  assert len(whole.source) == 4


def test_wrong_folder_and_missing_file(root):
  with pytest.raises(errors.InputError, match=r"config\.data\.path='/none'"):
    cub.open_cub("/none", Problems())
  (root / "bounding_boxes.txt").unlink()
  with pytest.raises(errors.InputError, match=r"no bounding_boxes\.txt there"):
    cub.open_cub(str(root), Problems())


def test_image_without_a_row_is_ignored(root):
  (root / "images" / "extra.jpg").write_text("not even an image")
  assert len(cub.open_cub(str(root), Problems()).source) == 5


def test_a_box_a_little_outside_is_cut(root):
  # As in CUB itself: x + width is one pixel beyond the image.
  layouts.edit(
    root / "bounding_boxes.txt",
    "2 0.0 0.0 30.0 40.0",
    "2 1.0 0.0 30.0 40.0",
  )
  box = cub.open_cub(str(root), Problems()).source[1]["box"]
  np.testing.assert_allclose(box, [1 / 30, 0, 1, 1], atol=1e-6)


def test_file_that_is_no_image_is_told_at_open(root):
  (root / "images" / layouts.cub_name(5)).write_text("text")
  with pytest.raises(errors.InputError, match=layouts.cub_name(5)):
    cub.open_cub(str(root), Problems())


def test_real_photographs(cub_dir):
  whole = cub.open_cub(str(cub_dir), Problems())
  assert len(whole.official["train"]) + len(whole.official["test"]) == len(
    whole.source
  )
  record = whole.source[0]
  height, width = record["image"].shape[:2]
  line = (cub_dir / "bounding_boxes.txt").read_text().split("\n")[0]
  x, y, w, h = (float(v) for v in line.split()[1:])
  np.testing.assert_allclose(
    record["box"] * [width, height, width, height],
    [x, y, x + w, y + h],
    rtol=1e-5,
  )
