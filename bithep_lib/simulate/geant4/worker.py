"""The process in which Geant4 runs: ``python -m bithep_lib.simulate.geant4.worker``.

A fatal error of Geant4 ends the interpreter, and there is one run manager a process; so every file of showers is made
in a process of its own (started by :mod:`bithep_lib.simulate.showers`). The job comes as JSON on the standard input,
the voxels leave as one NumPy array on the standard output, and everything Geant4 prints goes to the standard error.
"""

import io
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import geant4_pybind as g4
import numpy as np

from bithep_lib.data.calochallenge.geometry import geometry
from bithep_lib.simulate.geant4.detector import Detector
from bithep_lib.simulate.geant4.read_out import birks
from bithep_lib.simulate.geant4.stacks import stack

__all__ = ["main", "simulate"]


class Physics(g4.G4VModularPhysicsList):
    """A list of Geant4's physics constructors, by name; ``window`` is the end of the read-out's, in ns, if any."""

    def __init__(self, constructors: list[str], window: float | None = None) -> None:
        super().__init__()
        self.SetVerboseLevel(0)
        self.constructors = [getattr(g4, name)() for name in constructors]
        for constructor in self.constructors:
            if window and isinstance(constructor, g4.G4NeutronTrackingCut):
                constructor.SetTimeLimit(window * g4.ns)
            self.RegisterPhysics(constructor)


class Gun(g4.G4VUserPrimaryGeneratorAction):
    """One particle an event along +z, just before the front face, within a micrometre of the axis.

    On the axis itself, where all wedges meet, Geant4's navigator can get stuck.
    """

    def __init__(self, particle: str, seed: int) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)
        self.gun = g4.G4ParticleGun(1)
        self.gun.SetParticleDefinition(g4.G4ParticleTable.GetParticleTable().FindParticle(particle))
        self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(0, 0, 1))

    def GeneratePrimaries(self, event: g4.G4Event) -> None:
        x, y = self.random.normal(scale=1e-3, size=2)
        self.gun.SetParticlePosition(g4.G4ThreeVector(x, y, -1))  # mm
        self.gun.GeneratePrimaryVertex(event)


class Collector(g4.G4UserEventAction):
    """Takes the voxels of each event."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.voxels = np.zeros(detector.geometry.n_voxels)

    def EndOfEventAction(self, event: g4.G4Event) -> None:
        self.voxels = self.detector.voxels(event)


class Window(g4.G4UserStackingAction):
    """Leaves out particles that come too late to be seen, as the electrons of muons that decayed at rest."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end * g4.ns

    def ClassifyNewTrack(self, track: g4.G4Track) -> g4.G4ClassificationOfNewTrack:
        late = track.GetGlobalTime() > self.end
        return g4.G4ClassificationOfNewTrack.fKill if late else g4.G4ClassificationOfNewTrack.fUrgent


class Actions(g4.G4VUserActionInitialization):
    """All of the above, or those that a job has."""

    def __init__(self, *actions: Gun | Collector | Window) -> None:
        super().__init__()
        self.actions = actions

    def Build(self) -> None:
        for action in self.actions:
            self.SetUserAction(action)


def simulate(job: Mapping[str, Any]) -> np.ndarray:
    """Run the events of a job, in order.

    Args:
        job: ``dataset``; ``stack``, its sections as plain dictionaries; ``physics``, names of constructors;
            ``cut``, the range below which secondary electrons and photons are not followed, in mm; ``particle``,
            Geant4's name; ``energies`` in MeV; ``seed``; ``rebuilt_tables``, whether G4LEDATA is ours; ``read_out``,
            None where all deposits are seen, or ``birks``, the constants of each material, and ``window_ns``.

    Returns:
        energy in each voxel in MeV: float32 (len(energies), n_voxels).
    """
    parent = os.getppid()
    g4.G4Random.setTheSeed(job["seed"])
    manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
    read_out = job["read_out"]
    laws, window = (birks(read_out["birks"]), read_out["window_ns"]) if read_out else (None, None)
    detector = Detector(stack(job["stack"]), geometry(job["dataset"]), laws)
    manager.SetUserInitialization(detector)
    physics = Physics(job["physics"], window)
    parameters = g4.G4EmParameters.Instance()
    parameters.SetVerbose(0)
    parameters.SetFluo(False)  # the K lines of tungsten (59 keV) and lead (75 keV) lie below the production cuts
    if job["rebuilt_tables"]:
        parameters.SetLivermoreDataDir("livermore")
    g4.G4HadronicParameters.Instance().SetVerboseLevel(0)
    manager.SetUserInitialization(physics)
    gun, collector = Gun(job["particle"], job["seed"]), Collector(detector)
    actions = Actions(gun, collector, *([Window(window)] if window else []))
    manager.SetUserInitialization(actions)
    manager.Initialize()
    for command in ("/run/verbose 0", f"/run/setCut {job['cut']} mm"):  # SetDefaultCutValue has no effect from Python
        g4.G4UImanager.GetUIpointer().ApplyCommand(command)
    showers = np.empty((len(job["energies"]), detector.geometry.n_voxels), np.float32)
    for shower, energy in zip(showers, job["energies"], strict=True):
        if os.getppid() != parent:
            raise SystemExit("the process that asked for these showers is gone")
        gun.gun.SetParticleEnergy(energy * g4.MeV)
        manager.BeamOn(1)
        shower[:] = collector.voxels
    return showers


def main() -> None:
    """Read the job, keep the standard output free of Geant4's prints, answer."""
    answer = os.dup(1)
    os.dup2(2, 1)
    content = io.BytesIO()
    np.save(content, simulate(json.load(sys.stdin)))
    with os.fdopen(answer, "wb") as pipe:
        pipe.write(content.getbuffer())


if __name__ == "__main__":
    main()
    # Geant4's destructors and Python's collector disagree about who frees what: leave without either.
    sys.stderr.flush()
    os._exit(0)
