"""What the words of a command line mean."""

import io
import os
import sys

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import inputs, videos
from tests.support import films


@pytest.fixture
def here(tmp_path, monkeypatch):
  """An empty current folder."""
  monkeypatch.chdir(tmp_path)
  return tmp_path


def touch(*paths):
  """Files that are named as images: what is in them is not looked at."""
  for path in paths:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
      file.write(b"x")


def found(*words, out="out", **options):
  return [item.path for item in inputs.find(words, out, **options)]


def listed(*lines, end="\n"):
  return io.BytesIO("".join(line + end for line in lines).encode())


def test_folders_to_any_depth_in_natural_order(here):
  touch(
    *("in/IMG_10.JPG", "in/IMG_9.jpg", "in/img_9.png", "in/b/1.png"),
    *("in/B2/deep/er/x.heic", "in/b10/2.tif", "in/notes.txt", "in/a.xml"),
  )
  assert found("in") == [
    *("in/b/1.png", "in/B2/deep/er/x.heic", "in/b10/2.tif"),
    *("in/IMG_9.jpg", "in/img_9.png", "in/IMG_10.JPG"),
  ]
  assert found("./in/") == found("in")
  absolute = found(str(here / "in"))
  assert absolute == [str(here / path) for path in found("in")]
  assert found(".") == found("in") and found("in/b/..")[0] == "in/b/../b/1.png"


def test_what_is_hidden_is_no_input(here):
  touch(
    *("in/a.jpg", "in/.trash/b.jpg", "in/._a.jpg", "in/@eaDir/a.jpg"),
    *("in/__MACOSX/a.jpg", "in/$RECYCLE.BIN/c.jpg"),
  )
  assert found("in") == ["in/a.jpg"]


def test_each_file_once(here):
  touch("in/a.jpg", "in/deep/b.jpg")
  os.symlink("a.jpg", "in/z.jpg")
  os.symlink(here / "in/deep", "in/again")
  assert found("in/deep/b.jpg", "in", "in/*", "in", "in/z.jpg") == [
    *("in/deep/b.jpg", "in/a.jpg"),
  ]


def test_links_that_lead_back_end(here):
  touch("in/a/1.jpg", "in/b/2.jpg", "other/3.jpg")
  os.symlink(here / "in", "in/a/up")
  os.symlink(here / "in/a", "in/b/across")
  os.symlink(here / "in/b", "in/a/across")
  os.symlink("self.jpg", "in/self.jpg")
  os.symlink("nowhere.jpg", "in/gone.jpg")
  os.symlink(here / "other", "in/c")
  wanted = ["in/a/1.jpg", "in/b/2.jpg", "in/c/3.jpg"]
  assert found("in") == found("in/**") == found("in/**/*.jpg") == wanted


def test_deep_folders(here):
  folder, top = "in", os.getcwd()
  os.mkdir("in")
  os.chdir("in")
  for _ in range(300):
    os.mkdir("d")
    os.chdir("d")
  touch("a.jpg")
  os.chdir(top)
  (path,) = found(folder)
  assert path.count("/") == 301


def test_outputs_are_no_inputs(here):
  touch(
    *("in/a.jpg", "in/out/overlays/a.jpg", "in/out/x.png"),
    *("in/old/overlays/a.jpg", "in/old/crops/a.jpg", "in/old/sub/b.jpg"),
    *("in/older/a.png", "in/older/own.png", "in/odd/overlays/real.jpg"),
    *("in/run/thumbnails/a.jpg", "in/run/a_box.png", "in/run/own.jpg"),
    *("in/table/a.png", "in/table/own.png", "in/killed/a.jpg"),
    *("in/killed/own.jpg", "in/theirs/a.jpg"),
  )
  with open("in/table/predictions.csv", "w") as file:
    file.write("id,overlay\nown.png,a.png\nother.png,\n")
  os.mkdir("in/killed/.predict")
  with open("in/killed/.predict/rows.jsonl", "w") as file:
    file.write('["k", "1 2", {"id": "own.jpg", "overlay": "a.jpg"}]\n["k2')
  with open("in/theirs/predictions.csv", "wb") as file:
    file.write(b"\xff\0\n")
  with open("in/old/passport.json", "w") as file:
    file.write("{}")
  with open("in/older/predictions.json", "w") as file:
    file.write('[{"id": "own.png", "overlay": "a.png"}, {"overlay": null}]')
  with open("in/run/predictions.jsonl", "w") as file:
    file.write('{"overlay": "a_box.png"}\n{"overl')
  wanted = [
    *("in/a.jpg", "in/killed/own.jpg", "in/odd/overlays/real.jpg"),
    *("in/old/sub/b.jpg", "in/older/own.png", "in/run/own.jpg"),
    *("in/table/own.png", "in/theirs/a.jpg"),
  ]
  assert found("in", out="in/out") == wanted
  assert found("in/**", out="in/out") == wanted
  assert found("in/*", out=str(here / "in/out")) == wanted
  for folder in ("in/out", "in/out/overlays"):
    with pytest.raises(errors.InputError, match="also an input folder"):
      found(folder, out="in/out")
  # The outputs may be above the inputs.
  assert found("in/old/sub", out="in/old") == ["in/old/sub/b.jpg"]


@pytest.mark.parametrize(
  ("pattern", "wanted"),
  [
    ("in/*.jpg", ["in/a1.jpg", "in/a2.jpg"]),
    ("in/a?.jpg", ["in/a1.jpg", "in/a2.jpg"]),
    ("in/a[!1].jpg", ["in/a2.jpg"]),
    ("in/**/*.jpg", ["in/a1.jpg", "in/a2.jpg", "in/c1/d/b.jpg"]),
    ("in/*/", ["in/c1/d/b.jpg", "in/c1/x.PNG"]),
    ("in/c*", ["in/c1/d/b.jpg", "in/c1/x.PNG"]),
    ("in/**/d", ["in/c1/d/b.jpg"]),
    ("in/**/x.*", ["in/c1/x.PNG"]),
    ("i*/c1/*.PNG", ["in/c1/x.PNG"]),
    ("**/b.jpg", ["in/c1/d/b.jpg"]),
    ("in/c1/*.dat", ["in/c1/odd.dat"]),
    ("./in/*.jpg", ["./in/a1.jpg", "./in/a2.jpg"]),
  ],
)
def test_patterns_that_no_shell_has_read(here, pattern, wanted):
  touch(
    *("in/a1.jpg", "in/a2.jpg", "in/c1/d/b.jpg", "in/c1/x.PNG"),
    *("in/c1/odd.dat", "in/.h/a.jpg", "in/c1/notes.txt"),
  )
  assert found(pattern) == wanted
  assert found(f"{here}/{pattern}") == [f"{here}/{path}" for path in wanted]


def test_a_name_with_brackets_is_a_name(here):
  touch("a[1].jpg", "a1.jpg", "b[2]/x.jpg")
  assert found("a[1].jpg") == ["a[1].jpg"]
  assert found("b[2]") == ["b[2]/x.jpg"]
  assert found("b[2]/*.jpg") == ["b[2]/x.jpg"]


def test_a_pattern_looks_into_no_other_folder(here, monkeypatch):
  touch("in/a.jpg", "in/deep/b.jpg", "other/c.jpg")
  seen = []
  scandir = os.scandir
  monkeypatch.setattr(
    os, "scandir", lambda path: seen.append(path) or scandir(path)
  )
  assert found("i*/*.jpg") == ["in/a.jpg"]
  assert seen == [".", "in"]


@pytest.mark.parametrize(
  "text",
  [
    b"in/a.jpg\nin/b c.jpg\n",
    b"in/a.jpg\nin/b c.jpg",
    b"\xef\xbb\xbfin/a.jpg\r\n\r\n  in/b c.jpg  \r\n",
    b"in/a.jpg\0in/b c.jpg\0",
    b"in/a.jpg\0in/b c.jpg\n",
    b'"in/a.jpg"\nin/b c.jpg\nin/a.jpg\n',
    "in/a.jpg\r\nin/b c.jpg\r\n".encode("utf-16"),
  ],
)
def test_lists(here, text):
  touch("in/a.jpg", "in/b c.jpg")
  wanted = ["in/a.jpg", "in/b c.jpg"]
  assert found("-", stdin=io.BytesIO(text)) == wanted
  with open("list.TXT", "wb") as file:
    file.write(text)
  assert found("list.TXT") == wanted


def test_a_list_may_name_folders_and_any_file(here):
  touch("in/a.jpg", "in/b.jpg", "odd name\udcff.dat", "new\nline.jpg")
  text = b"in\0" + os.fsencode("odd name\udcff.dat") + b"\0new\nline.jpg\0"
  assert found("-", stdin=io.BytesIO(text)) == [
    *("in/a.jpg", "in/b.jpg", "odd name\udcff.dat", "new\nline.jpg")
  ]


def test_a_list_beside_its_images(here):
  touch("card/1.jpg", "card/2.jpg", "2.jpg")
  with open("card/list.txt", "w") as file:
    file.write("1.jpg\n2.jpg\n")
  assert found("card/list.txt") == ["card/1.jpg", "2.jpg"]


def test_stdin_is_read_once(here):
  touch("a.jpg", "b.jpg")
  stdin = listed("b.jpg")
  assert found("-", "a.jpg", "-", stdin=stdin) == ["b.jpg", "a.jpg"]


def test_stdin_of_the_program(here, monkeypatch):
  touch("a.jpg")
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(listed("a.jpg")))
  assert found("-") == ["a.jpg"]


def test_a_named_file_may_be_anything(here):
  touch("a.dat", "noending")
  assert found("a.dat", "noending") == ["a.dat", "noending"]


def test_the_home_folder(here, monkeypatch):
  touch("a.jpg")
  monkeypatch.setenv("HOME", str(here))
  assert found("~/a.jpg") == found("-", stdin=listed("~/a.jpg"))
  assert found("~/*.jpg") == [str(here / "a.jpg")]


def test_mistakes(here):
  touch("in/a.jpg", "empty/notes.md", "some.txt")
  os.symlink("gone.jpg", "link.jpg")
  os.mkfifo("pipe")
  for words, match in (
    ([], "no images given"),
    (["no.jpg"], r"no such file or folder: no\.jpg"),
    (["in", "no\nway.jpg"], r"no such file or folder: 'no\\nway"),
    ([""], "no such file or folder: ''"),
    (["link.jpg"], r"link to gone\.jpg, which does not exist"),
    (["pipe"], "neither a file nor a folder"),
    (["empty"], "no images in empty: looked for"),
    (["in/*.JPG"], r"no image matches in/\*\.JPG.*capital or small"),
    (["no/*.jpg"], r"no image matches no/\*"),
    (["empty/*"], r"no image matches empty/\*"),
    (["https://a.org/b.jpg"], "is an address: download"),
    (["s3://a/b"], "is an address"),
    (
      ["some.txt"],
      r"some\.txt: 1 of 1 paths do not exist \(x\).*a list of paths",
    ),
  ):
    with pytest.raises(errors.InputError, match=match) as caught:
      found(*words)
    assert "\n" not in str(caught.value)
  with pytest.raises(errors.InputError, match="--every=-1"):
    found("in", every=-1)


def test_lists_with_mistakes(here):
  touch("a.jpg")
  lines = ["a.jpg", *(f"no{n}.jpg" for n in range(2000))]
  with pytest.raises(errors.InputError) as caught:
    found("-", stdin=listed(*lines))
  message = str(caught.value)
  assert "stdin (-): 2000 of 2001 paths do not exist (no0.jpg, no1" in message
  assert len(message) < 300
  with pytest.raises(errors.InputError, match="no path in it"):
    found("-", stdin=io.BytesIO(b"\n \n"))
  with pytest.raises(errors.InputError, match=r"http://a/b\.jpg is an address"):
    found("-", stdin=listed("a.jpg", "http://a/b.jpg"))
  with pytest.raises(errors.InputError, match="UTF-16"):
    found("-", stdin=io.BytesIO(b"\xff\xfea"))
  with pytest.raises(errors.InputError) as caught:
    found("-", stdin=listed("bi\x1bnary" * 200))
  assert len(str(caught.value)) < 500 and "\x1b" not in str(caught.value)


def test_folders_that_may_not_be_read(here, monkeypatch, capsys):
  touch("in/a.jpg", "in/locked/b.jpg")
  scandir = os.scandir

  def refused(path):
    if path == "in/locked":
      raise PermissionError(13, "Permission denied")
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refused)
  assert found("in") == ["in/a.jpg"]
  assert "1 folders may not be read" in capsys.readouterr().err
  with pytest.raises(errors.InputError, match="may not be read"):
    found("in/locked")


def test_videos_without_the_extra(here, monkeypatch, capsys):
  touch("in/a.jpg", "in/b.MP4", "in/c/d.avi", "only/e.mov")
  monkeypatch.setattr(videos, "is_available", lambda: False)
  assert found("in") == ["in/a.jpg"]
  told = capsys.readouterr().err
  assert told.count("note:") == 1 and "2 videos are left out" in told
  assert r"pip install 'mtlmoe_jax[video]'" in told
  for word in ("in/b.MP4", "in/*.MP4", "only"):
    with pytest.raises(errors.InputError, match=r"pip install .*\[video\]"):
      found(word)
  with pytest.raises(errors.InputError, match=r"pip install .*\[video\]"):
    found("-", stdin=listed("in/b.MP4"))


def test_frames_of_videos(here, capsys):
  films.film(here / "in/b.avi", count=20)
  touch("in/a.jpg", "in/c.mp4")
  items = inputs.find(["in"], "out")
  assert [(i.path, i.frame, i.seconds) for i in items] == [
    ("in/a.jpg", None, None),
    *(("in/b.avi", 8 * n, float(n)) for n in range(3)),
    ("in/c.mp4", 0, 0.0),  # That it cannot be read is told when it is.
  ]
  assert "2 videos, 4 frames of them: one a second" in capsys.readouterr().err
  items = inputs.find(["in/b.avi"], "out", every=15)
  assert [item.frame for item in items] == [0, 15]
