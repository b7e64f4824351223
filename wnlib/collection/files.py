"""Files as the world has them: replaced in one step, several together, and read with suspicion."""

import json
import os
import secrets
import shutil
import stat
from contextlib import ExitStack, contextmanager


@contextmanager
def _part(path):
    """Give a new file beside `path` whose name nobody can foresee; in the end it is gone. No link is followed."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def write(path, text):
    """Replace the file `path` by `text` in one step, or leave it as it was; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _part(path) as part:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def replace_all(sources):
    """Replace each file of `sources` (path → the file it is to become, in this order): all of them, or none.

    Raises OSError, which says that the old files are back, or which could not be brought back.
    """
    with ExitStack() as stack:  # all is prepared beside its destination before the first is replaced

        def copy(file, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = stack.enter_context(_part(path))
            shutil.copyfile(file, part)
            return part

        new = {path: copy(source, path) for path, source in sources.items()}
        old = {path: copy(path, path) for path in sources if path.exists()}
        done, mixed = [], []
        try:
            for path in sources:
                os.replace(new[path], path)
                done.append(path)
        except OSError as error:
            for other in done:
                try:
                    os.replace(old[other], other) if other in old else other.unlink()
                except OSError:
                    mixed.append(other.name)
            state = f"new are now {', '.join(mixed)}, all else is old" if mixed else "the old files are back"
            raise OSError(error.errno, f"{error.strerror} ({path.name}); {state}") from None


def read(path):
    """Return the bytes of a file; ValueError for what is no regular file. It never waits, as a pipe would make it."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        return file.read()


def parsed(path):
    """Return what the JSON file `path` holds."""
    return json.loads(read(path))
