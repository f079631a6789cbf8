"""Lists of paths, as programs write them: a line each, or NUL between them."""

import codecs
import os

from mtlmoe_jax import errors

# Windows' own programs write two bytes a letter, and say so first.
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def entries(data: bytes, what: str) -> list[str]:
  """The paths of a list.

  Lines end as on any system; empty ones do not count. Where a byte is NUL, as
  `find -print0` writes it, that alone ends a path.

  Args:
    data: the list.
    what: its name, for a message.

  Raises:
    InputError: text in UTF-16 that is none.
  """
  if data.startswith(_WIDE):
    try:
      data = data.decode("utf-16").encode()
    except UnicodeDecodeError as error:
      raise errors.InputError(
        f"{what}: begins as text in UTF-16, but is none ({error.reason}): save "
        "it as UTF-8"
      ) from None
  data = data.removeprefix(codecs.BOM_UTF8)
  if b"\0" in data:
    parts = data.split(b"\0")
    # What people add at the end of a file.
    if not parts[-1].strip():
      parts.pop()
  else:
    parts = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    parts = [part for part in parts if part.strip()]
  return [os.fsdecode(part) for part in parts if part]


def there(entry: str, folder: str) -> str | None:
  """The path that an entry means; None: there is nothing.

  Args:
    entry: of a list.
    folder: where it may lie, if not in the current folder; "": nowhere else.
  """
  if os.path.exists(entry):
    return entry
  for name in dict.fromkeys((entry, entry.strip(), entry.strip().strip('"'))):
    for path in (os.path.expanduser(name), os.path.join(folder, name)):
      if name and os.path.exists(path):
        return path
  return None
