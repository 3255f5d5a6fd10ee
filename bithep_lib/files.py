"""Writing files so that nothing is lost: a file is either the old one or the new one, never half of it."""

import errno
import os
import tempfile
from pathlib import Path

__all__ = ["write_atomic"]


def write_atomic(path: str | Path, content: bytes | str) -> Path:
    """Write `content` to `path` by way of a temporary file beside it, which is flushed to disk and then renamed.

    The folder is created. When the write fails (full disk, read-only folder, Ctrl-C) the temporary file is removed and
    an existing file at `path` is left as it was.

    Raises:
        OSError: names the file and the reason.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files only their owner can read; a stored result is as readable as any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
            kept = "; the file that was there is unchanged" if path.exists() else ""
            raise OSError(error.errno, f"could not write {path} ({len(data)} bytes): {reason}{kept}") from error
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
