"""Nothing below a folder is left out without a word."""

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.data.layouts.tree import Tree
from mtlmoe_jax.data.readers import class_folders
from mtlmoe_jax.data.readers.problems import Problems


def touch(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
  return root


def listed(root, problems=None, tables=()):
  within = class_folders.holder(Tree(root).images) if root.is_dir() else ""
  return class_folders.list_classes(
    root, "data.path", tables, within, problems or Problems()
  )


def found(root):
  """Of each image: split, class, path."""
  return [
    (file.split, file.class_name, file.path.relative_to(root).as_posix())
    for file in listed(root).files
  ]


def test_images_at_any_depth_are_the_classs(tmp_path):
  touch(tmp_path, "cat/a.jpg", "cat/2025/may/b.JPG", "dog/2025/c.png")
  touch(tmp_path, "dog/.hidden/d.jpg", ".cache/e.jpg")
  assert found(tmp_path) == [
    ("", "cat", "cat/2025/may/b.JPG"),
    ("", "cat", "cat/a.jpg"),
    ("", "dog", "dog/2025/c.png"),
  ]
  assert listed(tmp_path).notes == (
    "2 of 3 images lie in folders below their class folder, such as "
    "cat/2025/may/b.JPG",
  )
  parted = touch(tmp_path / "parted", "train/cat/a.jpg", "test/cat/x/b.jpg")
  assert [note[:6] for note in listed(parted).notes] == ["1 of 2"]


def test_a_link_that_leads_back_is_not_followed(tmp_path):
  touch(tmp_path, "cat/a.jpg", "elsewhere/b.jpg")
  root = touch(tmp_path / "set", "dog/c.jpg", "cat/sub/d.jpg")
  (root / "cat/sub/up").symlink_to(root)
  (root / "bird").symlink_to(tmp_path / "elsewhere")
  assert [name for _, _, name in found(root)] == [
    "bird/b.jpg",
    "cat/sub/d.jpg",
    "dog/c.jpg",
  ]


def test_what_is_left_out_is_counted(tmp_path):
  touch(tmp_path, "cat/a.jpg", "cat/b.CR2", "cat/c.cr2", "dog/d.jpg")
  touch(tmp_path, "dog/Thumbs.db", "dog/README", "loose.jpg", "Boxes.csv")
  touch(tmp_path, "annotations.csv", "attributes.csv")
  assert listed(tmp_path, tables=["Boxes.csv"]).notes == (
    "left out: 1 images in no class folder (loose.jpg)",
    "left out: files that are not read (2 .cr2, 1 .db, 1 no suffix)",
    "left out: files beside the class folders (annotations.csv)",
  )


def test_what_lies_beside_the_parts_is_left_out_with_a_word(tmp_path):
  touch(tmp_path, "train/a/1.jpg", "test/a/2.jpg", "3.jpg", "test/4.jpg")
  touch(tmp_path, "x.json", "train/y.csv", "boxes.csv")
  assert listed(tmp_path, tables=["boxes.csv"]).notes == (
    "left out: 2 images in no class folder (3.jpg, test/4.jpg)",
    "left out: files beside the class folders (x.json, train/y.csv)",
  )


def test_a_class_does_not_vanish(tmp_path):
  touch(tmp_path, "cat/a.jpg", "dog/b.jxl", "dog/c.jxl", "texts/d.txt")
  problems = Problems(collect=True)
  assert len(listed(tmp_path, problems).files) == 1
  (message,) = problems.messages
  assert "class 'dog' are of a kind that is not read (2 .jxl)" in message
  with pytest.raises(errors.InputError, match="class 'dog'"):
    listed(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
  vehicles = touch(tmp_path / "v", "bus/a.jpg", "car/b.jpg", "train/c.jpg")
  assert [row[:2] for row in found(vehicles)] == [
    ("", "bus"),
    ("", "car"),
    ("", "train"),
  ]
  mixed = touch(
    tmp_path / "m", "train/bus/a.jpg", "test/bus/b.jpg", "car/c.jpg"
  )
  with pytest.raises(errors.InputError, match=r"test, train part .*but car "):
    listed(mixed)
  beside = touch(tmp_path / "b", "Train/x/a.jpg", "VAL/x/b.jpg", "docs/c.txt")
  assert [row[0] for row in found(beside)] == ["train", "validation"]


@pytest.mark.parametrize(
  "name",
  ["images", "JPEGImages", "obj_train_data", "train2017", "val2014", "Image"],
)
def test_folders_of_other_layouts_are_no_classes(tmp_path, name):
  touch(tmp_path, f"{name}/a.jpg", "cat/b.jpg")
  with pytest.raises(errors.InputError, match=f"'{name}' .*is no class"):
    listed(tmp_path)


def test_nothing_there_is_told_with_what_is(tmp_path):
  with pytest.raises(errors.InputError, match="no such folder"):
    listed(tmp_path / "none")
  archive = tmp_path / "birds.zip"
  archive.touch()
  with pytest.raises(errors.InputError, match=r"is a file: .*unpacked"):
    listed(archive)
  for i, (name, said) in enumerate(
    {
      "a.jpg": r"1 images are in no class folder \(a\.jpg\)",
      "cat/a.txt": r"there are others \(1 \.txt\)",
      "train/a.jpg": r"in no class folder \(train/a\.jpg\)",
    }.items()
  ):
    root = touch(tmp_path / str(i), name)
    with pytest.raises(errors.InputError, match=said) as info:
      listed(root)
    assert "no images in class sub-folders" in str(info.value)


def test_words_for_parts_and_folders_that_are_none(tmp_path):
  touch(tmp_path, "Training/a/1.jpg", "Testing/a/2.jpg", "Training/b/3.jpg")
  touch(tmp_path, "Training/a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg")
  assert found(tmp_path) == [
    ("test", "a", "Testing/a/2.jpg"),
    ("train", "a", "Training/a/1.jpg"),
    ("train", "b", "Training/b/3.jpg"),
  ]
  deep = touch(tmp_path / "deep", "birds/a/1.jpg", "birds/b/2.jpg")
  assert any(f"give {deep / 'birds'}" in note for note in listed(deep).notes)


def test_class_folders_may_lie_in_one_called_images(tmp_path):
  plain = touch(tmp_path / "plain", "images/cat/a.jpg", "images/dog/2025/b.jpg")
  touch(plain, "boxes.csv", "images/notes.txt", "cover.jpg")
  assert [row[1:] for row in found(plain)] == [
    ("cat", "images/cat/a.jpg"),
    ("dog", "images/dog/2025/b.jpg"),
  ]
  assert listed(plain, tables=["boxes.csv"]).notes == (
    "1 of 2 images lie in folders below their class folder, such as "
    "images/dog/2025/b.jpg",
    "left out: 1 images in no class folder (cover.jpg)",
    "left out: files beside the class folders (images/notes.txt)",
  )
  parted = touch(tmp_path / "b", "Photos/train/x/a.jpg", "Photos/test/x/b.jpg")
  assert [row[:2] for row in found(parted)] == [("test", "x"), ("train", "x")]
  for i, name in enumerate(("birds/{}/x/a.jpg", "photos/birds/{}/x/a.jpg")):
    deep = touch(tmp_path / f"c{i}", *map(name.format, ("train", "val")))
    assert [row[:2] for row in found(deep)] == [
      ("train", "x"),
      ("validation", "x"),
    ]
  # One image of no class, or a class beside it, and it holds no classes.
  for i, other in enumerate(("images/a.jpg", "cat/a.jpg")):
    root = touch(tmp_path / str(i), "images/cat/b.jpg", other)
    with pytest.raises(errors.InputError, match=r"'images' .*is no class"):
      listed(root)
