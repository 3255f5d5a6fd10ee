"""Starting Pythia, and keeping C++ quiet (needs the ``simulate`` extra)."""

import contextlib
import os
from collections.abc import Iterator

import pythia8mc

__all__ = ["make_pythia", "silent_stdout"]


def make_pythia(settings: list[str], hook: "pythia8mc.UserHooks") -> "pythia8mc.Pythia":
    """A generator that is ready to run. The caller must keep ``hook`` alive as long as it.

    Raises:
        ValueError: Pythia does not know a setting.
        RuntimeError: it cannot be initialised.
    """
    pythia = pythia8mc.Pythia("", False)
    for setting in settings:
        if not pythia.readString(setting):
            raise ValueError(f"Pythia does not know the setting {setting!r}")
    pythia.setUserHooksPtr(hook)
    if not pythia.init():
        raise RuntimeError(f"Pythia could not be initialised with {settings}")
    return pythia


@contextlib.contextmanager
def silent_stdout() -> Iterator[None]:
    """Send C++ prints (FastJet's banner) to nowhere: they bypass ``sys.stdout`` and would land in notebooks."""
    kept = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
