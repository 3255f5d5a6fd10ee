"""Geant4 in a process of its own: tables, detectors, scoring. The front is :mod:`bithep_lib.simulate.showers`.

The wheel ``geant4-pybind`` brings Geant4 without its data sets. Electrons, positrons and photons need three tables from
them, which are rebuilt here from numbers of NIST (:mod:`~bithep_lib.simulate.geant4.tables`) unless the environment
names the true ones (:mod:`~bithep_lib.simulate.geant4.environment`). Hadrons need cross sections of slow neutrons too
(:mod:`~bithep_lib.simulate.geant4.neutrons`), and a read-out that does not see all that they deposit
(:mod:`~bithep_lib.simulate.geant4.read_out`).

This product includes software developed by Members of the Geant4 Collaboration (https://cern.ch/geant4).
"""
