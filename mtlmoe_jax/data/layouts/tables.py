"""A table of images: CSV, JSON lines or lists, Hugging Face's `metadata` files.

A row is an image, or one object of it. Columns go by their usual names
(`columns`); where none names the class, it is that of the image's folder.
"""

import collections
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.layouts import columns, placing, texts
from mtlmoe_jax.data.layouts.numbers import Meaning, Numbers, settled
from mtlmoe_jax.data.layouts.scenes import (
  Scene,
  Scenes,
  Thing,
  frame,
  number,
  numbers,
)
from mtlmoe_jax.data.layouts.tree import Tree, named_split, split_of
from mtlmoe_jax.data.readers.attributes import ATTRIBUTES
from mtlmoe_jax.data.readers.problems import Problems, some

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
# Tables of ours that list no classes or boxes.
_OTHERS = (ATTRIBUTES, "split.csv")
# Keys of Hugging Face's `objects`.
_CATEGORIES = (
  *("categories", "category", "labels", "label", "class", "class_name"),
  *("category_name", "category_id", "class_id", "names", "name"),
)
# What programs write for nothing.
_NOTHING = ("", "nan", "NaN", "NA", "N/A", "None", "null")
# Of tables without a header: columns by their number.
_HEADERS = {
  2: ("path", "class"),
  5: ("path", "x1", "y1", "x2", "y2"),
  6: ("path", "x1", "y1", "x2", "y2", "class"),
}


class Found(NamedTuple):
  """A table that names images.

  Attributes:
    path: in its tree.
    rows: (line, value by column).
    columns: what is read of it; None: `objects` alone.
    is_headless: whether columns go by their places.
  """

  path: str
  rows: list[tuple[int, dict[str, Any]]]
  columns: columns.Columns
  is_headless: bool

  @property
  def names_classes(self) -> bool:
    """Whether it has a column for the class."""
    return bool(self.columns.label) or self._has_objects

  @property
  def has_boxes(self) -> bool:
    """Whether it has columns for a box."""
    return bool(self.columns.box) or self._has_objects

  @property
  def _has_objects(self) -> bool:
    return any("objects" in row for _, row in self.rows)


def is_rows(value: Any) -> bool:
  """Whether a JSON value is a list of rows, columns as keys."""
  return (
    isinstance(value, list)
    and bool(value)
    and all(isinstance(row, dict) for row in value)
    and columns.meant(tuple(value[0])) is not None
  )


def find(
  tree: Tree,
  paths: Sequence[str],
  lists: Mapping[str, list[dict[str, Any]]],
  images_tree: Tree,
) -> tuple[list[Found], list[str], list[str]]:
  """Tables of images that are there.

  Args:
    tree: of the tables.
    paths: of files that may be some.
    lists: rows of JSON files that have been read, by path.
    images_tree: of the images.

  Returns:
    (tables, lines about those whose images are elsewhere, lines about files
    that are none).

  Raises:
    InputError: a table that cannot be read, or has no rows.
  """
  tables, absent, notes = [], [], []
  for path in [*paths, *lists]:
    if path.rpartition("/")[2].lower() in _OTHERS:
      continue
    if path.lower().endswith(".parquet"):
      notes.append(f"left out: {path} (save it as CSV or JSON lines)")
      continue
    try:
      found = _open(tree, path, lists.get(path))
    except errors.InputError as error:
      if not _is_meant(tree, path):
        notes.append(f"left out: {error}")
        continue
      raise
    if found is None:
      notes.append(
        f"left out: {path}, none of whose columns is known as an image with a "
        "class or box (path, file_name, image ...; class, label, species ...; "
        "xmin, x, bbox ...)"
      )
    elif not found.rows:
      raise errors.InputError(
        f"{tree.file(path)}: no rows: add them, or remove the file"
      )
    elif not _is_there(found, images_tree):
      names = (row.get(found.columns.path) for _, row in found.rows)
      absent.append(f"none of the images of {path} is there ({some(names)})")
    else:
      tables.append(found)
  return tables, absent, notes


def _is_meant(tree: Tree, path: str) -> bool:
  """Whether a file that cannot be read is a table of images, by its words."""
  head = tree.file(path).read_bytes()[:4096].decode("utf-8", "replace")
  first = re.split(r"[,;\t|\"{}:]", head.partition("\n")[0])
  words = [word.strip() for word in first]
  return (
    not any(words)
    or columns.meant(words) is not None
    or any(map(images.is_named_image, words))
    or any(images.is_named_image(w) for w in re.split(r"[,;\t|\"\s]", head))
  )


def _open(
  tree: Tree, path: str, listed: list[dict[str, Any]] | None
) -> Found | None:
  file = tree.file(path)
  if not path.lower().endswith((".csv", ".tsv")):
    rows = _json_lines(file) if listed is None else list(enumerate(listed, 1))
    header = tuple(dict.fromkeys(key for _, row in rows for key in row))
    return _found(path, rows, header, False)
  table = texts.table(file, path, _places)
  rows = [(line, dict(row)) for line, row in table.rows]
  is_headless = bool(rows) and rows[0][0] == 1
  return _found(path, rows, table.columns, is_headless)


def _places(first: Sequence[str]) -> Sequence[str] | None:
  """Names of columns by their places, where the first row names an image."""
  names = _HEADERS.get(len(first))
  if names is None or not images.is_named_image(first[0]):
    return None
  if len(names) == 6 and number(first[1]) is None and first[1]:
    return ("path", "class", "x1", "y1", "x2", "y2")
  return names


def _found(
  path: str,
  rows: list[tuple[int, dict[str, Any]]],
  header: Sequence[str],
  is_headless: bool,
) -> Found | None:
  meant = columns.meant(header)
  while meant and rows and not any(row.get(meant.path) for _, row in rows):
    header = [name for name in header if name != meant.path]
    meant = columns.meant(header)
  if meant is None:
    return None
  if not (meant.label or meant.box or "objects" in header):
    return None
  # Of a number and a name of the class the name.
  named = [
    label
    for label in meant.labels
    if any(number(row.get(label)) is None for _, row in rows if row.get(label))
  ]
  first = tuple(dict.fromkeys([*named[:1], *meant.labels]))
  return Found(path, rows, meant._replace(labels=first), is_headless)


def _json_lines(file: Any) -> list[tuple[int, dict[str, Any]]]:
  rows = []
  for line_number, line in enumerate(texts.text(file).splitlines(), 1):
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise errors.InputError(
        f"{file} line {line_number}: is no JSON, or is cut ({error}): correct "
        "or remove it"
      ) from None
    if not isinstance(value, dict):
      raise errors.InputError(
        f"{file} line {line_number}: {line.strip()!r:.60} must be an object "
        "with the columns as keys"
      )
    rows.append((line_number, value))
  if not rows:
    raise errors.InputError(f"{file}: is empty: fill it, or remove it")
  return rows


def _is_there(found: Found, tree: Tree) -> bool:
  names = (str(row.get(found.columns.path)) for _, row in found.rows)
  return any(tree.ending(name) or tree.ending_stem(name) for name in names)


class Row(NamedTuple):
  """What one row says, before its numbers are understood.

  Attributes:
    label: class, or "" where it has none.
    values: four numbers of a box, or None.
  """

  label: str
  values: tuple[float, ...] | None


def read(
  tables: Sequence[Found],
  tree: Tree,
  meaning: Meaning,
  problems: Problems,
) -> Scenes:
  """Reads tables that together are one data set.

  Of a table of classes and one of boxes an image has what both say.

  Args:
    tables: of `find`.
    tree: of the images.
    meaning: `config.data.box_format` and `box_unit`.
    problems: where mistakes are reported.

  Returns:
    The scenes; classes sorted, numbers as numbers. Objects of tables without a
    class column have the class "".

  Raises:
    InputError: it cannot be told what the numbers mean; and see
      `placing.place`.
  """
  notes: list[str] = []
  what = some(table.path for table in tables)

  def placed(tables: Sequence[Found]) -> list[Scene]:
    said: list[placing.Said] = []
    for table in tables:
      said += _said(table, tree, meaning, notes, problems)
    which = some(table.path for table in tables)
    return placing.place(said, tree, which, notes, problems)

  labelled = [table for table in tables if table.names_classes]
  boxed = [table for table in tables if not table.names_classes]
  if labelled and boxed and not any(table.has_boxes for table in labelled):
    scenes = _joined(placed(labelled), placed(boxed), problems)
    which = some(table.path for table in boxed)
    notes.append(f"boxes of {which} have the class of their image")
  else:
    scenes = placed(tables)
  names = {thing.class_name for scene in scenes for thing in scene.things}
  if names and all(number(name) is not None for name in names):
    notes.append(f"classes have numbers alone in {what}: these are their names")
    in_order = sorted(names, key=float)
  else:
    in_order = sorted(names)
  return Scenes("table", tree, in_order, scenes, notes=notes)


def _joined(
  labelled: list[Scene], boxed: list[Scene], problems: Problems
) -> list[Scene]:
  """Images of one table with a class, and of another with boxes alone."""
  of_path = {scene.path: scene for scene in labelled}
  for scene in boxed:
    known = of_path.get(scene.path)
    boxes = [thing.box for thing in scene.things if thing.box is not None]
    names = {thing.class_name for thing in known.things} if known else set()
    if boxes and len(names) != 1:
      problems(
        f"{scene.where}: {scene.path} has {len(names)} classes in the table "
        "that names them, so which this box shows is not known: give each box "
        "a class, or remove it"
      )
    if known is None or len(names) != 1:
      continue
    known.is_spoiled |= scene.is_spoiled
    if boxes:
      known.things = [Thing(name, box) for name in names for box in boxes]
      known.size, known.pixels = scene.size or known.size, scene.pixels
      known.split = known.split or scene.split
  return labelled


def _said(
  table: Found,
  tree: Tree,
  meaning: Meaning,
  notes: list[str],
  problems: Problems,
) -> list[placing.Said]:
  """Entries of one table, one for each image, with boxes as xyxy."""
  entries, rows_of = _entries(table, problems)
  found = [
    Numbers(row.values, name, entries[name].base, entries[name].size)
    for name, rows in rows_of.items()
    for row in rows
    if row.values is not None
  ]
  columns_ = table.columns
  told = Meaning(
    meaning.layout if meaning.layout != "auto" else columns_.layout,
    meaning.unit if meaning.unit != "auto" else columns_.unit,
  )
  if any("objects" in row for _, row in table.rows):
    # As Hugging Face's documentation has it.
    told = Meaning(told.layout or "xywh", told.unit or "pixels")
  is_forced = meaning.layout != "auto"
  meant = settled(found, told, is_forced, table.path, tree, notes)
  for name, rows in rows_of.items():
    entry = entries[name]
    entry.pixels = meant.unit == "pixels"
    for row in rows:
      box = None if row.values is None else meant.corners(row.values)
      if row.label or box is not None:
        entry.things.append(Thing(row.label, box))
  if columns_.split and not _has_splits(table):
    notes.append(
      f"{table.path}: no entry of {columns_.split!r} is a word for a part "
      "(train, validation, test): it is not used"
    )
    columns_ = columns_._replace(split="")
  notes.append(f"{table.path}: {columns_.text()}")
  if table.is_headless:
    notes[-1] += " (by their places: it has no header)"
  return list(entries.values())


def _entries(
  table: Found, problems: Problems
) -> tuple[dict[str, placing.Said], dict[str, list[Row]]]:
  """(entry, what its rows say) of each image, by its name."""
  base = table.path.rpartition("/")[0]
  entries: dict[str, placing.Said] = {}
  rows_of: dict[str, list[Row]] = collections.defaultdict(list)
  has_splits = _has_splits(table)
  kind = "row" if table.path.lower().endswith(".json") else "line"
  for line, row in table.rows:
    where = f"{table.path} {kind} {line}"
    name = str(row.get(table.columns.path) or "").strip()
    if not name:
      problems(f"{where}: names no image: add it, or remove the row")
      continue
    folder = str(row.get(table.columns.folder) or "").strip()
    if folder and not _is_below(name, folder):
      name = f"{folder}/{name}"
    entry = entries.get(name)
    if entry is None:
      entry = placing.Said(name, base, [], where, split_of(table.path))
      entries[name] = entry
    word = str(row.get(table.columns.split) or "") if has_splits else ""
    if word:
      split = named_split(word)
      if split is None:
        problems(
          f"{where}: {table.columns.split} {word!r} must be train, validation "
          "or test"
        )
      entry.split = split or entry.split
    if table.columns.size:
      entry.size = frame(*(row.get(key) for key in table.columns.size))
    before = problems.count
    rows_of[name] += _rows(row, table, where, problems)
    if problems.count > before:
      entry.is_spoiled = True
  return entries, rows_of


def _is_below(name: str, folder: str) -> bool:
  """Whether a path has its folder already."""
  return f"/{name}/".replace("\\", "/").find(f"/{folder.strip('/')}/") >= 0


def _has_splits(table: Found) -> bool:
  """Whether the column of parts has words for them at all."""
  return bool(table.columns.split) and any(
    named_split(str(row.get(table.columns.split))) for _, row in table.rows
  )


def _rows(
  row: Mapping[str, Any], table: Found, where: str, problems: Problems
) -> list[Row]:
  """The objects of a row."""
  if "objects" in row:
    return _objects(row["objects"], where, problems)
  value = row.get(table.columns.label) if table.columns.label else None
  box = table.columns.box
  cells = [row.get(column) for column in box]
  if len(box) == 1 and _is_nested(cells[0]):
    return _objects({"bbox": cells[0], "label": value}, where, problems)
  if isinstance(value, list) and len(value) == 1:
    value = value[0]
  label = "" if value is None else str(value).strip()
  if isinstance(value, list | Mapping) or _is_structure(label):
    problems(
      f"{where}: {table.columns.label} {label!r:.60} must be the name of one "
      "class"
    )
    return []
  if not box:
    return [Row(label, None)]
  if len(box) == 1:
    cells = _parted(cells[0])
  if all(cell is None or str(cell).strip() in _NOTHING for cell in cells):
    return [Row(label, None)]
  values = numbers(cells, 4)
  if values is None:
    shown = ",".join("" if cell is None else str(cell) for cell in cells)
    problems(
      f"{where}: {shown!r:.80} must be four numbers {','.join(box)}: correct "
      "the row"
    )
    return []
  return [Row(label, values)]


def _is_nested(cell: Any) -> bool:
  return isinstance(cell, list) and any(isinstance(c, list) for c in cell)


def _is_structure(cell: str) -> bool:
  """Whether a text is a JSON object or list."""
  if not cell.startswith(("[", "{")):
    return False
  try:
    json.loads(cell)
  except (ValueError, RecursionError):
    return False
  return True


def _parted(cell: Any) -> list[Any]:
  """The numbers of one cell, as [1, 2, 3, 4] or 1 2 3 4."""
  if isinstance(cell, list):
    return cell
  return re.findall(r"[^\s,;\[\](){}]+", "" if cell is None else str(cell))


def _objects(value: Any, where: str, problems: Problems) -> list[Row]:
  """The rows of Hugging Face's `objects`: boxes and as many categories."""
  if isinstance(value, list) and all(isinstance(v, Mapping) for v in value):
    keys = dict.fromkeys(key for entry in value for key in entry)
    value = {key: [entry.get(key) for entry in value] for key in keys}
  if not isinstance(value, Mapping):
    problems(f"{where}: objects must hold bbox and categories")
    return []
  found = value.get("bbox") or []
  labels = next((value[key] for key in _CATEGORIES if key in value), None)
  if found and labels is None:
    problems(
      f"{where}: objects has {some(value)}, and none of them names classes: "
      "call it categories"
    )
    return []
  if not isinstance(labels, list):
    labels = ["" if labels is None else labels] * len(found)
  if len(labels) != len(found):
    problems(
      f"{where}: objects has {len(found)} boxes and {len(labels)} categories: "
      "give each box one"
    )
    return []
  rows = []
  for box, label in zip(found, labels):
    values = numbers(box, 4)
    if values is None:
      problems(f"{where}: bbox {box!r:.80} must be four numbers")
    else:
      rows.append(Row(str(label), values))
  return rows
