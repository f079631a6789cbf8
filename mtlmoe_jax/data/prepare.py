"""Getting CUB-200-2011: download, check, unpack and, if wanted, a TFDS copy.

The data set is for research use; please cite Wah, Branson, Welinder, Perona,
Belongie: The Caltech-UCSD Birds-200-2011 Dataset, 2011.
"""

import hashlib
import http.client
import os
import pathlib
import shutil
import tarfile
import tempfile
import types
import urllib.error
import urllib.request

from mtlmoe_jax import errors
from mtlmoe_jax.data.readers import cub
from mtlmoe_jax.data.readers.file_source import Whole
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.utils.progress import Progress

FOLDER = "CUB_200_2011"
ARCHIVE = f"{FOLDER}.tgz"
URL = f"https://data.caltech.edu/records/65de6-vp158/files/{ARCHIVE}"
MD5 = "97eceeb196236b17998738112f37df78"
COUNTS = {"images": 11788, "classes": 200, "train": 5994, "test": 5794}
EXPECTS = ("full", "any")

_CHUNK = 1 << 20
_TRIES = 5
_TIMEOUT_SECONDS = 60
_MIB = 1 << 20


def prepare(
  out: str,
  archive: str = "",
  expect: str = "full",
  tfds_dir: str = "",
  url: str = URL,
) -> pathlib.Path:
  """Makes the folder `out/CUB_200_2011` and says where it is.

  Finished steps are not done again, and a broken download goes on where it
  stopped.

  Args:
    out: folder to work in.
    archive: a local CUB_200_2011.tgz; empty downloads it to `out`.
    expect: "full" checks the archive's md5 and the official counts; "any"
      takes any archive in the same layout.
    tfds_dir: TFDS data directory to build an ArrayRecord copy in; empty: none.
    url: where to download from.

  Returns:
    The folder to use as `config.data.path`.

  Raises:
    InputError: a bad option, archive or connection, or missing packages.
  """
  if expect not in EXPECTS:
    raise errors.InputError(f"--expect={expect!r}: must be full or any")
  if tfds_dir:
    _import_tfds()  # Better told now than after a gigabyte.
  target = pathlib.Path(out) / FOLDER
  file = pathlib.Path(archive) if archive else pathlib.Path(out) / ARCHIVE
  if archive and not file.is_file():
    raise errors.InputError(f"--archive={archive!r}: no such file")
  if not target.exists():
    if not archive:
      download(url, file)
    if expect == "full":
      check_md5(file, MD5)
    extract(file, target)
  check_counts(target, expect)
  if tfds_dir:
    if not file.is_file():
      download(url, file)
    build_tfds(file, tfds_dir)
  return target


def download(url: str, target: pathlib.Path) -> None:
  """Downloads a file, going on where an earlier try stopped.

  The part that is there is kept as `NAME.part` and completed by an HTTP Range
  request; a server that cannot do that sends the whole file again.

  Args:
    url: http(s) address.
    target: file to write; nothing is done if it exists.

  Raises:
    InputError: no complete file after five tries.
  """
  if target.exists():
    return
  target.parent.mkdir(parents=True, exist_ok=True)
  part = target.with_name(target.name + ".part")
  reason: object = "the connection ended early"
  for _ in range(_TRIES):
    try:
      if _fetch(url, part):
        os.replace(part, target)
        return
    except urllib.error.HTTPError as error:
      if error.code == 416:
        # What is there is longer than the file: it is not the file.
        part.unlink(missing_ok=True)
      elif error.code < 500:
        reason = error
        break
      reason = error
    except (OSError, http.client.HTTPException) as error:
      reason = error
  raise errors.InputError(
    f"{url} could not be downloaded ({reason}): run again to go on, or give "
    "a copy with --archive=FILE"
  )


def _fetch(url: str, part: pathlib.Path) -> bool:
  """Appends what is missing to `part`; returns whether it is complete."""
  have = part.stat().st_size if part.exists() else 0
  request = urllib.request.Request(url)
  if have:
    request.add_header("Range", f"bytes={have}-")
  with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
      have = 0
    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else None
    with (
      part.open("ab" if have else "wb") as file,
      Progress(
        (total or 0) // _MIB,
        initial=have // _MIB,
        unit="MiB",
        item="MiB",
        label=part.name.removesuffix(".part"),
      ) as progress,
    ):
      while chunk := answer.read(_CHUNK):
        file.write(chunk)
        progress.update(len(chunk) // _MIB)
  return total is None or part.stat().st_size == total


def check_md5(file: pathlib.Path, expected: str) -> None:
  """Compares a file's md5.

  Raises:
    InputError: it differs.
  """
  with file.open("rb") as stream:
    digest = hashlib.file_digest(stream, "md5").hexdigest()
  if digest != expected:
    raise errors.InputError(
      f"{file} has the md5 {digest}, not {expected}: it is damaged or another "
      "file; delete it and run again (or --expect=any)"
    )


def extract(archive: pathlib.Path, target: pathlib.Path) -> None:
  """Unpacks the data set's folder; all of it appears at once, or nothing.

  Args:
    archive: tar file, perhaps compressed, that holds `images.txt` in one
      folder (other files beside that folder are left out).
    target: what to call that folder; must not exist.

  Raises:
    InputError: a broken archive, one without `images.txt`, or one with
      absolute paths, `..`, links or devices.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  work = tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.")
  try:
    try:
      with (
        tarfile.open(archive) as tar,
        Progress(0, unit="file", item="files", label="unpacking") as progress,
      ):
        for member in tar:
          _check_member(archive, member)
          # The filter of Python itself is the second lock on the door.
          tar.extract(member, work, filter="data")
          progress.update()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
      if isinstance(error, errors.InputError):
        raise
      raise errors.InputError(
        f"{archive} cannot be unpacked ({error}): it is incomplete or no tar "
        "file; delete it and run again"
      ) from error
    folders = [p.parent for p in pathlib.Path(work).glob("**/images.txt")]
    if len(folders) != 1:
      raise errors.InputError(
        f"{archive} holds {len(folders)} folders with images.txt: one is "
        f"expected, as in {ARCHIVE}"
      )
    os.chmod(folders[0], 0o755)
    os.replace(folders[0], target)
  finally:
    shutil.rmtree(work, ignore_errors=True)


def _check_member(archive: pathlib.Path, member: tarfile.TarInfo) -> None:
  path = pathlib.PurePosixPath(member.name.replace("\\", "/"))
  if path.is_absolute() or ".." in path.parts or ":" in member.name:
    why = "a path that leads outside"
  elif not (member.isfile() or member.isdir()):
    why = "a link or device"
  else:
    return
  raise errors.InputError(
    f"{archive} is unsafe: {member.name!r} is {why}; nothing was unpacked"
  )


def check_counts(folder: pathlib.Path, expect: str) -> None:
  """Opens the folder as training would, and compares the official counts.

  Args:
    folder: in CUB's layout.
    expect: "full" or "any" (then there must be only no mistakes).

  Raises:
    InputError: a mistake in the folder, or other counts.
  """
  whole: Whole = cub.open_cub(str(folder), Problems())
  counts = {
    "images": len(whole.source),
    "classes": len(whole.source.class_names),
    **{name: len(index) for name, index in whole.official.items()},
  }
  if expect == "full" and counts != COUNTS:
    raise errors.InputError(
      f"{folder} has {_listed(counts)}, not {_listed(COUNTS)}: delete it and "
      "run again (or --expect=any)"
    )


def _listed(counts: dict[str, int]) -> str:
  return ", ".join(f"{number} {name}" for name, number in counts.items())


def build_tfds(archive: pathlib.Path, tfds_dir: str) -> None:
  """Builds TFDS's caltech_birds2011 as ArrayRecord files.

  TFDS reads the archive given here, and downloads the segmentations (39 MB)
  unless `segmentations.tgz` lies beside it. It accepts the official archives
  only.

  Args:
    archive: CUB_200_2011.tgz.
    tfds_dir: TFDS data directory; a finished copy is not built again.

  Raises:
    InputError: missing packages, or a failed preparation.
  """
  tfds = _import_tfds()
  with tempfile.TemporaryDirectory(prefix="mtlmoe_jax_") as manual:
    # TFDS finds files by their official names in its "manual" folder.
    for name, file in (
      (ARCHIVE, archive),
      ("segmentations.tgz", archive.with_name("segmentations.tgz")),
    ):
      if file.is_file():
        os.symlink(file.resolve(), pathlib.Path(manual) / name)
    try:
      builder = tfds.builder(
        "caltech_birds2011", data_dir=tfds_dir, file_format="array_record"
      )
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual)
      )
    # TFDS has no common base of its errors; this is the end of the command.
    except Exception as error:
      raise errors.InputError(
        f"--tfds_dir={tfds_dir!r}: TFDS could not prepare caltech_birds2011 "
        f"({' '.join(str(error).split())[:300]}): correct that and run again"
      ) from error


def _import_tfds() -> types.ModuleType:
  try:
    import cv2  # noqa: F401
    import importlib_resources  # noqa: F401  (TFDS needs it, and forgot it)
    import tensorflow  # noqa: F401
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise errors.InputError(
      f"--tfds_dir needs the package {error.name!r}: "
      "pip install 'mtlmoe_jax[tfds-prepare]'"
    ) from None
  return tfds
