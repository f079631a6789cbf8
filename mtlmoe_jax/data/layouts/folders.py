"""A folder for each class, and perhaps a table with the boxes.

```
DIR/<class>/*.jpg                          split here, seeded
DIR/{train,test}/<class>/*.jpg             split as it is
DIR/{train,val,test}/<class>/*.jpg         val chooses the best checkpoint
DIR/{train,val}/<class>/*.jpg              val is the test split
DIR/boxes.csv                              optional: any table of `tables`
DIR/attributes.csv                         optional, see readers/attributes.py
```

Class folders may lie in one called images, photos or the like, and images
deeper in a class folder (readers/class_folders.py).
"""

import unicodedata
from collections.abc import Sequence

from mtlmoe_jax.data.layouts import tables
from mtlmoe_jax.data.layouts.numbers import Meaning
from mtlmoe_jax.data.layouts.scenes import Scene, Scenes, Thing
from mtlmoe_jax.data.layouts.tree import Tree
from mtlmoe_jax.data.readers import class_folders
from mtlmoe_jax.data.readers.problems import Problems, some


def classes(tree: Tree) -> dict[str, str]:
  """The class that each image's folder may name, by image.

  Args:
    tree: of the images.

  Returns:
    Nothing of images in folders of other layouts, or in none.
  """
  found = {}
  start = class_folders.holder(tree.images)
  for path in tree.images:
    above = path.removeprefix(start).split("/")[:-1]
    if above and class_folders.named_split(above[0]):
      above = above[1:]
    if above and not any(map(class_folders.is_no_class, above)):
      found[path] = unicodedata.normalize("NFC", above[0])
  return found


def read(
  tree: Tree,
  found: Sequence[tables.Found],
  absent: Sequence[str],
  meaning: Meaning,
  key: str,
  problems: Problems,
) -> Scenes:
  """Reads class folders.

  Args:
    tree: of the images.
    found: tables of them; their classes are not looked at.
    absent: lines about tables of images none of which is there.
    meaning: see `tables.read`.
    key: of the config, that named the folder.
    problems: where mistakes are reported.

  Returns:
    A scene of each image in a class folder, sorted by split folder, class
    folder and path.

  Raises:
    InputError: see `class_folders.list_classes` and `tables.read`.
  """
  listing = class_folders.list_classes(
    tree.root,
    key,
    [table.path for table in found],
    class_folders.holder(tree.images),
    problems,
  )
  for line in absent:
    problems(f"{tree.root}: {line}: correct it, or remove it")
  said: dict[str, Scene] = {}
  notes = [*listing.notes]
  if found:
    boxes = tables.read(found, tree, meaning, problems)
    said = {scene.path: scene for scene in boxes.scenes}
    notes += boxes.notes
  scenes = []
  for file in listing.files:
    path = file.path.relative_to(tree.root).as_posix()
    scene = said.pop(path, None) or Scene(path, [], path)
    scene.split = file.split
    drawn = [thing for thing in scene.things if thing.box is not None]
    scene.things = [Thing(file.class_name, thing.box) for thing in drawn] or [
      Thing(file.class_name, None)
    ]
    scenes.append(scene)
  if said:
    problems(
      f"{tree.root}: a table names {len(said)} images in no class folder "
      f"({some(said)}): lay them into one, or remove the rows"
    )
  names = sorted({file.class_name for file in listing.files})
  evidence = f"{len(names)} class folders"
  if found:
    evidence += f" and {some(table.path for table in found)}"
  return Scenes("folder", tree, names, scenes, evidence, notes)
