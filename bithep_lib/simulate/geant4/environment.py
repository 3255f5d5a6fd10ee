"""Where Geant4 finds its data: the true data sets where the environment names them, otherwise the rebuilt tables.

A data set is named by its own variable (``G4LEDATA``, ``G4PARTICLEXSDATA``, ...) or lies, under the name it has in
Geant4's distribution (``G4EMLOW8.8``, ...), in the folder that ``GEANT4_DATA_DIR`` names.
"""

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["DATA_SETS", "data_sets", "variables"]

DATA_SETS = {
    "G4LEDATA": "G4EMLOW",
    "G4PARTICLEXSDATA": "G4PARTICLEXS",
    "G4ENSDFSTATEDATA": "G4ENSDFSTATE",
    "G4LEVELGAMMADATA": "PhotonEvaporation",
    "G4RADIOACTIVEDATA": "RadioactiveDecay",
    "G4PIIDATA": "G4PII",
    "G4SAIDXSDATA": "G4SAIDDATA",
    "G4NEUTRONHPDATA": "G4NDL",
    "G4ABLADATA": "G4ABLA",
    "G4INCLDATA": "G4INCL",
    "G4REALSURFACEDATA": "RealSurface",
}
"""Variable of each data set, and how its folder's name begins."""


def data_sets(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """The true data sets that the environment names: variable to folder.

    Raises:
        FileNotFoundError: a variable names a folder that is not there.
    """
    found = {}
    for variable, stem in DATA_SETS.items():
        if environment.get(variable):
            found[variable] = Path(environment[variable])
            if not found[variable].is_dir():
                raise FileNotFoundError(
                    f"{variable} names {found[variable]}, which is no folder: correct it, or unset it to use tables "
                    "rebuilt from NIST"
                )
        elif environment.get("GEANT4_DATA_DIR"):
            folders = sorted(Path(environment["GEANT4_DATA_DIR"]).glob(f"{stem}[0-9]*"))
            found |= {variable: folders[-1]} if folders else {}
    return found


def variables(true: Mapping[str, Path], tables: Path, neutrons: Path) -> dict[str, str]:
    """What Geant4's environment must hold: ``true`` data sets, and for all others ``tables`` and ``neutrons``.

    Without ``GEANT4_DATA_DIR`` the wheel asks on the terminal, while it is imported, whether it may download two
    gigabytes, or, where ``CI`` is set, does so unasked.
    """
    rebuilt = dict.fromkeys(DATA_SETS, tables) | {"G4PARTICLEXSDATA": neutrons}
    return {variable: str(path) for variable, path in (rebuilt | true).items()} | {"GEANT4_DATA_DIR": str(tables)}
