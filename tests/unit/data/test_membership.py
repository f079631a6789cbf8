"""No image ever changes its part, whatever is done to the folder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import errors
from mtlmoe_jax.data import membership
from mtlmoe_jax.data.readers.file_source import FileSource, Item

PARTS = ("train", "validation", "test", "none")


class Folder:
  """Files of bytes, whose parts were written down at the start."""

  def __init__(self, root, count=8):
    self.root = root
    self.contents = {f"{i}.jpg": bytes([i]) * 20 for i in range(count)}
    self.parts = {name: PARTS[i % 4] for i, name in enumerate(self.contents)}
    # By contents: what is followed through all edits.
    self.part_of = {c: self.parts[n] for n, c in self.contents.items()}
    ids = {p: [n for n in self.parts if self.parts[n] == p] for p in PARTS[:3]}
    membership.write(root / membership.FILE, ids, self.source())

  def source(self):
    files = self.root / "files"
    files.mkdir(exist_ok=True)
    for path in files.iterdir():
      path.unlink()
    items = []
    for name in sorted(self.contents):
      (files / name).write_bytes(self.contents[name])
      items.append(Item(name, files / name, 0, None))
    return FileSource("folder", ["a"], items)

  def found(self, official=None):
    """Part by id now, of images that are in one, and the notes."""
    source = self.source()
    images = membership.read(self.root / membership.FILE)
    if official is not None:
      official = {
        part: np.asarray([source.ids.index(n) for n in names])
        for part, names in official.items()
      }
    parts, notes = membership.find(images, source, official)
    assert set(parts) == set(membership.PARTS)
    return {
      source.ids[i]: part for part, index in parts.items() for i in index
    }, notes


def used(parts):
  return {name: part for name, part in parts.items() if part != "none"}


def test_nothing_changed_nothing_said(tmp_path):
  folder = Folder(tmp_path)
  assert folder.found() == (used(folder.parts), ())
  text = (tmp_path / membership.FILE).read_text()
  assert text.startswith("part,id,contents\ntrain,0.jpg,")


def test_each_edit_is_told(tmp_path):
  folder = Folder(tmp_path)
  files = folder.contents
  files["new.jpg"] = b"new"
  files["copy.jpg"] = files["2.jpg"]
  files["other name.jpg"] = files.pop("4.jpg")
  files["5.jpg"] = b"edited"
  del files["6.jpg"], files["1.jpg"], files["0.jpg"]
  parts, notes = folder.found()
  assert parts == {
    "2.jpg": "test",
    "other name.jpg": "train",
    "5.jpg": PARTS[1],
  }
  assert notes == (
    "1 images are new since the training, in no part (new.jpg)",
    "1 images are copies of others, left out (copy.jpg)",
    "1 images have another name than in the training, and keep their part "
    "(other name.jpg)",
    "1 images have other contents than in the training, and keep their part "
    "(5.jpg)",
    "2 images that were held out are missing (1.jpg, 6.jpg)",
    "1 images that were trained on are missing (0.jpg)",
  )


def test_names_that_were_exchanged_say_nothing(tmp_path):
  folder = Folder(tmp_path)
  files = folder.contents
  files["0.jpg"], files["2.jpg"] = files["2.jpg"], files["0.jpg"]
  parts, _ = folder.found()
  assert (parts["0.jpg"], parts["2.jpg"]) == ("test", "train")
  # A new photograph under the name of one that was renamed.
  folder = Folder(tmp_path)
  files = folder.contents
  files["moved.jpg"], files["0.jpg"] = files["0.jpg"], b"new"
  parts, notes = folder.found()
  assert parts["moved.jpg"] == "train" and "0.jpg" not in parts
  assert notes[0].startswith("1 images are new")


def test_new_images_go_where_the_folder_says(tmp_path):
  folder = Folder(tmp_path)
  folder.contents |= {"x.jpg": b"x", "y.jpg": b"y"}
  # Whatever it says of the others.
  everything = [n for n in folder.contents if n != "x.jpg"]
  parts, notes = folder.found({"train": ["x.jpg"], "test": everything})
  assert parts == {**used(folder.parts), "x.jpg": "train", "y.jpg": "test"}
  assert "in the part that its folder says (x.jpg, y.jpg)" in notes[0]


def test_another_data_set_is_judged_as_a_whole(tmp_path):
  folder = Folder(tmp_path)
  folder.contents = {"a.jpg": b"a", "b.jpg": b"b"}
  parts, notes = folder.found()
  assert parts == {"a.jpg": "test", "b.jpg": "test"}
  assert notes == ("none of its 2 images is one of the run's",)
  parts, _ = folder.found({"train": ["a.jpg"], "test": ["b.jpg"]})
  assert parts == {"a.jpg": "train", "b.jpg": "test"}


def test_two_alike_of_which_one_was_trained_on(tmp_path):
  """Renamed, both, they cannot be told apart: one of them is not judged."""
  folder = Folder(tmp_path)
  folder.contents["0.jpg"] = folder.contents["2.jpg"]
  ids = {"train": ["0.jpg"], "test": ["2.jpg"]}
  membership.write(tmp_path / membership.FILE, ids, folder.source())
  same = folder.contents["2.jpg"]
  folder.contents = {"p.jpg": same, "3.jpg": folder.contents["3.jpg"]}
  assert folder.found()[0] == {"p.jpg": "train"}


@settings(max_examples=30, deadline=None)
@given(
  st.lists(
    st.tuples(
      st.sampled_from(["add", "remove", "rename", "copy", "swap"]),
      st.integers(0, 30),
      st.integers(0, 30),
    ),
    max_size=12,
  )
)
def test_no_image_changes_its_part(tmp_path_factory, edits):
  folder = Folder(tmp_path_factory.mktemp("edits"))
  for step, (edit, one, other) in enumerate(edits):
    names = sorted(folder.contents)
    if edit == "add":
      folder.contents[f"{other} new {step}.jpg"] = f"new {step}".encode()
    elif names:
      name, second = names[one % len(names)], names[other % len(names)]
      files = folder.contents
      if edit == "remove":
        del files[name]
      elif edit == "rename":
        files[f"{other} {step}.jpg"] = files.pop(name)
      elif edit == "copy":
        files[f"{other} copy {step}.jpg"] = files[name]
      else:
        files[name], files[second] = files[second], files[name]
  known = [c for c in folder.contents.values() if c in folder.part_of]
  if not known:
    return
  parts, _ = folder.found()
  judged = []
  for name, part in parts.items():
    if folder.contents[name] in folder.part_of:
      assert part == folder.part_of[folder.contents[name]]
      judged.append(folder.contents[name])
    else:  # As one that was edited, under its name.
      assert part == folder.parts[name]
  # Once each, copies or not.
  assert sorted(judged) == sorted(
    {c for c in known if folder.part_of[c] != "none"}
  )


def test_a_broken_list_is_refused(tmp_path):
  path = tmp_path / membership.FILE
  assert membership.read(path) is None
  for text, said in {
    "": "is not the list",
    "a,b\n": "is not the list",
    "part,id,contents\ntrain,a.jpg\n": "line 2: 'train,a.jpg' must be one of",
    "part,id,contents\ntrain,a,b\nx,a,b\n": "line 3: 'x,a,b' must be one of",
    "part,id,contents\ntrain,a," + "5" * 200_000: "line 2: field larger than",
  }.items():
    path.write_text(text)
    with pytest.raises(errors.InputError, match=said):
      membership.read(path)
