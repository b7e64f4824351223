"""Files are replaced in one step: whoever reads finds the old one or the new one, never a part."""

import os
import secrets
from contextlib import contextmanager


@contextmanager
def replacing(path):
    """Give the path of a part file beside `path`, which it replaces when all went well; else it is removed.

    The folder is made. The part has a name that nobody can foresee and must not exist: no link is followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write(path, text):
    """Replace the file `path` by `text` in one step."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
