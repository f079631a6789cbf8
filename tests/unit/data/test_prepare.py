import functools
import hashlib
import http.server
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import threading

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.data import prepare
from tests.support import layouts

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves one file; knows Range; may break off after some bytes."""

  def __init__(self, state, *args):
    self.state = state
    super().__init__(*args)

  def do_GET(self):
    body, asked = self.state["body"], self.headers.get("Range")
    self.state["asked"].append(asked)
    if self.state.get("status"):
      self.send_error(self.state["status"])
      return
    start = 0
    if asked and self.state["ranges"]:
      start = int(asked.removeprefix("bytes=").rstrip("-"))
      if start >= len(body):
        self.send_error(416)
        return
    self.send_response(206 if start else 200)
    self.send_header("Content-Length", str(len(body) - start))
    self.end_headers()
    break_at = self.state["breaks"].pop(0) if self.state["breaks"] else None
    self.wfile.write(body[start:break_at])

  def log_message(self, *_):
    pass


@pytest.fixture
def server():
  state = {"body": b"", "asked": [], "breaks": [], "ranges": True}
  handler = functools.partial(Handler, state)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    state["url"] = f"http://127.0.0.1:{serving.server_port}/file.tgz"
    yield state
    serving.shutdown()


def test_download_goes_on_where_it_stopped(server, tmp_path):
  server["body"] = os.urandom(3 * 2**20 + 17)
  # Two breaks; then an earlier run's part is completed as well.
  server["breaks"] = [1000, 2**20 + 5]
  target = tmp_path / "new" / "file.tgz"
  prepare.download(server["url"], target)
  assert target.read_bytes() == server["body"]
  assert server["asked"] == [None, "bytes=1000-", f"bytes={2**20 + 5}-"]
  assert [p.name for p in target.parent.iterdir()] == ["file.tgz"]
  prepare.download(server["url"], target)
  assert len(server["asked"]) == 3


def test_server_without_ranges_sends_all_again(server, tmp_path):
  server.update(body=os.urandom(5000), ranges=False)
  (tmp_path / "file.tgz.part").write_bytes(b"x" * 100)
  prepare.download(server["url"], tmp_path / "file.tgz")
  assert (tmp_path / "file.tgz").read_bytes() == server["body"]


def test_part_longer_than_the_file_is_thrown_away(server, tmp_path):
  server["body"] = os.urandom(5000)
  (tmp_path / "file.tgz.part").write_bytes(b"x" * 6000)
  prepare.download(server["url"], tmp_path / "file.tgz")
  assert (tmp_path / "file.tgz").read_bytes() == server["body"]


def test_failures_are_told_in_one_line(server, tmp_path):
  server["status"] = 404
  with pytest.raises(errors.InputError, match="404") as info:
    prepare.download(server["url"], tmp_path / "file.tgz")
  assert len(server["asked"]) == 1
  assert "\n" not in str(info.value)
  server.update(status=None, body=os.urandom(100), breaks=[0] * 9)
  with pytest.raises(errors.InputError, match="run again to go on"):
    prepare.download(server["url"], tmp_path / "file.tgz")


def test_md5(tmp_path):
  (tmp_path / "a").write_bytes(b"bird")
  prepare.check_md5(tmp_path / "a", hashlib.md5(b"bird").hexdigest())
  with pytest.raises(errors.InputError, match="has the md5"):
    prepare.check_md5(tmp_path / "a", prepare.MD5)


def test_whole_way_from_a_server(server, tmp_path):
  archive = layouts.make_cub_archive(tmp_path / "work")
  server["body"] = archive.read_bytes()
  server["breaks"] = [len(server["body"]) // 2]
  out = tmp_path / "out"
  folder = prepare.prepare(str(out), expect="any", url=server["url"])
  assert folder == out / "CUB_200_2011"
  # The archive stays; no temporary folder does.
  assert sorted(p.name for p in out.iterdir()) == [
    "CUB_200_2011",
    "CUB_200_2011.tgz",
  ]
  for path in (tmp_path / "work" / "CUB_200_2011").rglob("*"):
    if path.is_file():
      copy = folder / path.relative_to(tmp_path / "work" / "CUB_200_2011")
      assert copy.read_bytes() == path.read_bytes()
  asked = len(server["asked"])
  assert prepare.prepare(str(out), expect="any", url=server["url"]) == folder
  assert len(server["asked"]) == asked


def test_expect_full_refuses_another_archive(tmp_path):
  archive = layouts.make_cub_archive(tmp_path / "work")
  with pytest.raises(errors.InputError, match="has the md5"):
    prepare.prepare(str(tmp_path / "out"), str(archive))
  assert not (tmp_path / "out" / "CUB_200_2011").exists()
  with pytest.raises(errors.InputError, match="5 images, 2 classes, 3 train"):
    prepare.check_counts(tmp_path / "work" / "CUB_200_2011", "full")


def member(name, kind=tarfile.REGTYPE, target=""):
  info = tarfile.TarInfo(name)
  info.type, info.linkname = kind, target
  return info


UNSAFE = {
  "absolute": member("/tmp/evil.txt"),
  "parent": member("CUB_200_2011/../../evil.txt"),
  "backslash": member("CUB_200_2011\\..\\..\\evil.txt"),
  "drive": member("C:evil.txt"),
  "symlink": member("CUB_200_2011/l", tarfile.SYMTYPE, "/etc"),
  "hardlink": member("CUB_200_2011/l", tarfile.LNKTYPE, "images.txt"),
  "fifo": member("CUB_200_2011/l", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_archives_leave_nothing(tmp_path, name):
  archive = tmp_path / "a.tgz"
  with tarfile.open(archive, "w:gz") as tar:
    good = member("CUB_200_2011/images.txt")
    good.size = 4
    tar.addfile(good, io.BytesIO(b"1 a\n"))
    tar.addfile(UNSAFE[name])
  with pytest.raises(errors.InputError, match="unsafe"):
    prepare.extract(archive, tmp_path / "deep" / "out" / "CUB_200_2011")
  left = [p for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()]
  assert left == [archive]


def test_broken_archives(tmp_path):
  archive = layouts.make_cub_archive(tmp_path / "work")
  cut = tmp_path / "cut.tgz"
  cut.write_bytes(archive.read_bytes()[:-1500])
  target = tmp_path / "out" / "CUB_200_2011"
  with pytest.raises(errors.InputError, match="cannot be unpacked"):
    prepare.extract(cut, target)
  cut.write_text("no tar")
  with pytest.raises(errors.InputError, match="cannot be unpacked"):
    prepare.extract(cut, target)
  with tarfile.open(cut, "w:gz") as tar:
    tar.addfile(member("readme.txt"))
  with pytest.raises(errors.InputError, match=r"0 folders with images\.txt"):
    prepare.extract(cut, target)
  assert not target.exists()
  assert list(target.parent.iterdir()) == []


def test_bad_options(tmp_path):
  with pytest.raises(errors.InputError, match=r"--expect='some'"):
    prepare.prepare(str(tmp_path), expect="some")
  with pytest.raises(errors.InputError, match="no such file"):
    prepare.prepare(str(tmp_path), archive=str(tmp_path / "no.tgz"))


def test_tfds_packages_are_asked_for_first(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  monkeypatch.setitem(sys.modules, "cv2", None)
  with pytest.raises(errors.InputError, match=r"mtlmoe_jax\[tfds-prepare\]"):
    prepare.prepare(str(tmp_path), tfds_dir=str(tmp_path / "tfds"))


def test_script(tmp_path):
  archive = layouts.make_cub_archive(tmp_path / "work")
  command = [
    sys.executable,
    str(ROOT / "launch" / "prepare_cub.py"),
    f"--out={tmp_path / 'out'}",
    f"--archive={archive}",
  ]
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  done = subprocess.run(
    [*command, "--expect=any"],
    capture_output=True,
    text=True,
    env=environment,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  path = tmp_path / "out" / "CUB_200_2011"
  assert f"--config.data.path={path}\n" in done.stdout
