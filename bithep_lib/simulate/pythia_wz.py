"""W Z events of Pythia 8 and the jet of the hadronic W, the FastJet way (needs the ``simulate`` extra).

As in :mod:`bithep_lib.simulate.pythia_jets`, everything that costs time stays in C++ or in arrays, and events that
cannot give a wanted jet are dropped before the expensive part. The hard process is noted on the way, because the SMEFT
weights are functions of it.
"""

from dataclasses import asdict, dataclass

import awkward as ak
import fastjet
import numpy as np
import pythia8mc
import vector

from bithep_lib.data.wz.kinematics import angles, cos_theta, decay_angle, eta_phi, pair_frame, wrap
from bithep_lib.data.wz.layout import WIDTH
from bithep_lib.simulate.diboson_amplitudes import HardProcess, weights
from bithep_lib.simulate.pythia import make_pythia, silent_stdout
from bithep_lib.simulate.wz import WZProcess

__all__ = ["Counters", "hard_processes", "select", "simulate"]

BATCH = 250  # events a call: about 35 MB of event record
FB_PER_MB = 1e12
NEUTRINOS = (12, 14, 16)
LEPTONS = (11, 13)
HARD_ROWS = range(3, 11)  # of Pythia's process record: two incoming, Z and W, and their four decay products

vector.register_awkward()


@dataclass
class Counters:
    """What happened to the events: of ``tried`` hard processes ``vetoed_early`` were dropped and ``simulated`` went on
    to the end; ``in_acceptance`` have a jet that passes all cuts but that on the mass, ``accepted`` all."""

    tried: int = 0
    vetoed_early: int = 0
    simulated: int = 0
    in_acceptance: int = 0
    accepted: int = 0


class EarlyVeto(pythia8mc.UserHooks):
    """Note each hard process; drop the event if its W is too soft when the shower has come down to ``early_scale``.

    At 10 GeV the W's momentum is within a few GeV of its last value: of jets above 500 GeV, 0.1 to 0.3 % are lost with
    the default 480 GeV.
    """

    def __init__(self, process: WZProcess, counters: Counters):
        super().__init__()
        self.process, self.counters = process, counters
        self.hard: list[list[tuple[float, ...]]] = []

    def canVetoProcessLevel(self) -> bool:
        return True

    def doVetoProcessLevel(self, event: "pythia8mc.Event") -> bool:
        self.counters.tried += 1
        self.hard.append([(p.id(), p.e(), p.px(), p.py(), p.pz()) for p in (event[i] for i in HARD_ROWS)])
        return False

    def canVetoPT(self) -> bool:
        return True

    def scaleVetoPT(self) -> float:
        return self.process.early_scale

    def doVetoPT(self, position: int, event: "pythia8mc.Event") -> bool:
        if position == 5:  # asked again for the shower of each resonance decay
            return False
        w = next(p for p in (event[i] for i in range(event.size() - 1, 0, -1)) if p.idAbs() == 24)
        veto = w.pT() < self.process.early_w_pt_min
        self.counters.vetoed_early += veto
        return veto


def simulate(process: WZProcess, n: int, seed: int) -> tuple[dict[str, np.ndarray], dict]:
    """``n`` selected jets.

    Args:
        seed: 1 .. 900 000 000; the same seed, configuration and Pythia version give the same jets.

    Returns:
        float64 and integer columns named as in :mod:`bithep_lib.data.wz.layout`; and the counters, together with
        ``sigma_fb``, Pythia's cross-section of all ``tried`` processes with their branching fractions, in fb.
    """
    counters = Counters()
    # Pythia keeps a bare pointer to the hook: it must live as long as the generator.
    hook = EarlyVeto(process, counters)
    pythia = make_pythia(process.settings(seed), hook)
    parts = []
    with silent_stdout():
        while counters.accepted < n:
            # About 0.6 of the simulated events give a jet: small requests take small batches.
            events = min(BATCH, 10 + 2 * (n - counters.accepted))
            hook.hard.clear()
            batch = pythia.nextBatch(events)
            columns, in_acceptance = select(batch, np.array(hook.hard), process)
            parts.append(columns)
            counters.simulated += len(batch.prt)
            counters.in_acceptance += in_acceptance
            counters.accepted += len(columns["jet_pt"])
    columns = {key: np.concatenate([part[key] for part in parts])[:n] for key in parts[0]}
    # Pythia's estimate is that of the finished events.
    sigma = pythia.infoPython().sigmaGen() * FB_PER_MB * counters.tried / counters.simulated
    return columns, asdict(counters) | {"sigma_fb": sigma}


def select(batch: ak.Array, hard: np.ndarray, process: WZProcess) -> tuple[dict[str, np.ndarray], int]:
    """The jets of a batch that pass the selection of arXiv:2401.10323.

    Args:
        hard: (H, 8, 5) of (id, E, px, py, pz): the hard processes since the last batch, in any order.

    Returns:
        the columns, and the number of jets in the acceptance before the cut on the soft-drop mass.
    """
    record = batch.prt
    size = abs(record.id)
    quarks = record[(record.status == -23) & (size <= 5)]
    quarks = quarks[ak.argsort(size[(record.status == -23) & (size <= 5)] % 2, axis=1, stable=True)]  # up type first
    leptons = record[(abs(record.status) == 23) & ((size == LEPTONS[0]) | (size == LEPTONS[1]))]
    visible = record[record.status > 0]
    for neutrino in NEUTRINOS:
        visible = visible[abs(visible.id) != neutrino]
    truth = {
        "up": _momenta(quarks[:, 0]),
        "down": _momenta(quarks[:, 1]),
        "leptons": np.stack([_momenta(leptons[:, 0]), _momenta(leptons[:, 1])], axis=1),
        "incoming": np.stack([ak.to_numpy(record.p.pz[:, 3]), ak.to_numpy(record.p.pz[:, 4])], axis=-1),
    }
    truth["W"], truth["Z"] = truth["up"] + truth["down"], truth["leptons"].sum(1)

    found, jet, members = _w_jets(visible, truth["W"], process)
    truth = {key: value[found] for key, value in truth.items()}
    inside = _in_acceptance(jet, members, truth, process)
    mass = _soft_drop_mass(members.momentum[inside], process)
    low, high = process.mass_window
    kept = np.flatnonzero(inside)[(low < mass) & (mass < high)]
    mass = mass[(low < mass) & (mass < high)]

    truth = {key: value[kept] for key, value in truth.items()}
    columns = _columns(jet[kept], members[kept], truth) | {"jet_mass_softdrop": mass}
    return columns | _weights(truth["incoming"], hard), int(inside.sum())


def _w_jets(visible: ak.Array, w: np.ndarray, process: WZProcess) -> tuple[np.ndarray, np.ndarray, ak.Array]:
    """The hardest jet near the W of each event that has one.

    Returns:
        the events (K,), the momenta (K, 4), and the particles (K, var) with fields ``momentum`` and ``pid``.
    """
    momentum = ak.zip(
        {"px": visible.p.px, "py": visible.p.py, "pz": visible.p.pz, "E": visible.p.e}, with_name="Momentum4D"
    )
    clusters = fastjet.ClusterSequence(momentum, fastjet.JetDefinition(fastjet.antikt_algorithm, process.radius))
    # Both lists come in the same order, which is not that of pt.
    jets = ak.Array(clusters.inclusive_jets(min_pt=process.clustering_pt_min), with_name="Momentum4D")
    members = clusters.constituent_index(min_pt=process.clustering_pt_min)
    w_eta, w_phi = eta_phi(w)
    near = np.hypot(jets.eta - w_eta, wrap(jets.phi - w_phi)) < process.match_distance
    found = np.flatnonzero(ak.any(near, axis=1))
    hardest = ak.to_numpy(ak.fill_none(ak.argmax(ak.where(near, jets.pt, -1.0)[found], axis=1), 0))
    jet, member = jets[found, hardest], members[found, hardest]
    particles = ak.zip({"momentum": momentum[found][member], "pid": visible.id[found][member]}, depth_limit=2)
    return found, np.stack([ak.to_numpy(jet[k]) for k in ("E", "px", "py", "pz")], axis=-1), particles


def _in_acceptance(jet: np.ndarray, members: ak.Array, truth: dict[str, np.ndarray], process: WZProcess) -> np.ndarray:
    pt = np.hypot(jet[:, 1], jet[:, 2])
    inside = pt > process.pt_min
    for quark in (truth["up"], truth["down"]):
        inside &= _distance(jet, quark) < process.quark_distance_max
    for lepton in LEPTONS:
        fraction = ak.to_numpy(ak.sum(members.momentum.pt * (abs(members.pid) == lepton), axis=1)) / pt
        inside &= fraction < process.lepton_fraction_max
    return inside


def _soft_drop_mass(particles: ak.Array, process: WZProcess) -> np.ndarray:
    """Mass after reclustering with Cambridge-Aachen and soft drop (arXiv:1402.2657), (N,) in GeV."""
    if len(particles) == 0:
        return np.zeros(0)
    again = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.cambridge_algorithm, process.radius))
    groomed = again.exclusive_jets_softdrop_grooming(
        njets=1, beta=process.softdrop_beta, symmetry_cut=process.softdrop_z, symmetry_measure="scalar_z",
        R0=process.radius,
    )  # fmt: skip
    return ak.to_numpy(ak.flatten(groomed.msoftdrop, axis=None))


def _columns(jet: np.ndarray, members: ak.Array, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = ak.argsort(members.momentum.pt, axis=1, ascending=False, stable=True)
    leading = ak.pad_none(members[order], WIDTH, clip=True)
    p = np.stack([_filled(leading.momentum[k]) for k in ("E", "px", "py", "pz")], axis=-1)
    real = p[..., 0] > 0
    p[~real] = (1, 1, 0, 0)  # any direction off the beam: masked below
    frame = pair_frame(jet, truth["Z"])
    theta, phi = angles(p, frame)
    eta, azimuth = eta_phi(p)
    jet_eta, jet_phi = eta_phi(jet)
    w, z = truth["W"], truth["Z"]
    leptons, pair = truth["leptons"], w + z
    particles = {
        "pt": np.hypot(p[..., 1], p[..., 2]),
        "theta": theta,
        "phi": phi,
        "deta": eta - jet_eta[:, None],
        "dphi": wrap(azimuth - jet_phi[:, None]),
        "pid": _filled(leading.pid).astype(np.int16),
    }
    beam = np.broadcast_to([1.0, 0, 0, 1.0], w.shape)
    return {key: np.where(real, value, 0) for key, value in particles.items()} | {
        "jet_pt": np.hypot(jet[:, 1], jet[:, 2]),
        "phi_decay": decay_angle(truth["up"], w, z),
        "cos_theta": cos_theta(truth["up"], w, z),
        "jet_eta": jet_eta,
        "n_particles": ak.to_numpy(ak.num(members.momentum, axis=1)).astype(np.int16),
        "w_pt": np.hypot(w[:, 1], w[:, 2]),
        "z_pt": np.hypot(z[:, 1], z[:, 2]),
        "m_wz": np.sqrt(pair[:, 0] ** 2 - (pair[:, 1:] ** 2).sum(-1)),
        "cos_scattering": np.cos(angles(beam, pair_frame(w, z))[0]),
        "phi_decay_jet": angles(truth["up"], frame)[1],
        "lepton_pt_min": np.hypot(leptons[..., 1], leptons[..., 2]).min(1),
        "lepton_eta_max": np.abs(eta_phi(leptons)[0]).max(1),
    }


def _weights(incoming: np.ndarray, hard: np.ndarray) -> dict[str, np.ndarray]:
    """SMEFT weights of the hard processes whose incoming partons have longitudinal momenta ``incoming`` (N, 2).

    Vetoed events left their hard processes in the list as well; equal momenta tell which one belongs to an event.
    """
    same = (incoming[:, None] == hard[:, :2, 4]).all(-1)
    if not (same.sum(1) == 1).all():
        raise RuntimeError("a simulated event does not have one noted hard process: has Pythia's event record changed?")
    noted = as_hard_process(hard[same.argmax(1)])
    return {"w_charge": np.where(noted.up, 1, -1), **asdict(weights(noted))}


def as_hard_process(rows: np.ndarray) -> HardProcess:
    """Sort the particles of noted hard processes (N, 8, 5), each (id, E, px, py, pz), into their roles."""
    ids, p = rows[..., 0].astype(int), rows[..., 1:]
    incoming, size = np.arange(rows.shape[1]) < 2, np.abs(ids)
    groups = (incoming & (size < 6), ~incoming & (size < 6), np.isin(size, LEPTONS))
    every = np.arange(len(rows))
    places = [(group & (sign * ids > 0)).argmax(1) for group in groups for sign in (1, -1)]
    return HardProcess(*(p[every, place] for place in places), up=ids[every, places[0]] % 2 == 0)


def hard_processes(process: WZProcess, n: int, seed: int) -> HardProcess:
    """``n`` hard processes without shower and hadronisation (thousands a second)."""
    hook = EarlyVeto(process, Counters())
    pythia = make_pythia([*process.settings(seed), "PartonLevel:all = off"], hook)
    with silent_stdout():
        pythia.nextBatch(n)
    return as_hard_process(np.array(hook.hard))


def _momenta(particles: ak.Array) -> np.ndarray:
    return np.stack([ak.to_numpy(particles.p[k]) for k in ("e", "px", "py", "pz")], axis=-1).astype(np.float64)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (eta, phi), (other_eta, other_phi) = eta_phi(a), eta_phi(b)
    return np.hypot(eta - other_eta, wrap(phi - other_phi))


def _filled(column: ak.Array) -> np.ndarray:
    return ak.to_numpy(ak.fill_none(column, 0)).astype(np.float64)
