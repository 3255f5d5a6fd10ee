"""The four geometries of the CaloChallenge as plain numbers (arXiv:2410.21611, section 3).

One row a layer: the number the challenge gives it, what it is, the number of angular bins, and the edges of the radial
bins in mm. In the files of ds2 and ds3 all layers are alike, so their table has one row that stands for all of them.
"""

__all__ = ["DS1_PHOTONS", "DS1_PIONS", "DS2", "DS3", "ENERGIES"]

# ATLAS, 0.20 < eta < 0.25. Layers without voxels (4 to 11 and 15 to 23; for photons 13 and 14 as well) are left out.
DS1_PHOTONS = """
 0  presampler    1  0 5 10 30 50 100 200 400 600
 1  EM-strips    10  0 2 4 6 8 10 12 15 20 30 40 50 70 90 120 150 200
 2  EM-middle    10  0 2 5 10 15 20 25 30 40 50 60 80 100 130 160 200 250 300 350 400
 3  EM-back       1  0 50 100 200 400 600
12  tile-1        1  0 100 200 400 1000 2000
"""

DS1_PIONS = """
 0  presampler    1  0 5 10 30 50 100 200 400 600
 1  EM-strips    10  0 1 4 7 10 15 30 50 90 150 200
 2  EM-middle    10  0 5 10 20 30 50 80 130 200 300 400
 3  EM-back       1  0 50 100 200 400 600
12  tile-1       10  0 10 20 30 50 80 100 130 160 200 250 300 350 400 1000 2000
13  tile-2       10  0 10 20 30 50 80 100 130 160 200 250 300 350 400 600 1000 2000
14  tile-3        1  0 50 100 150 200 250 300 400 600 1000 2000
"""

# A cylinder of tungsten and silicon, inner radius 800 mm: 45 layers, each of two times 1.4 mm W + 0.3 mm Si.
DS2 = """
0-44  W-Si       16  0 4.65 9.3 13.95 18.6 23.25 27.9 32.55 37.2 41.85
"""

DS3 = """
0-44  W-Si       50  0 2.325 4.65 6.975 9.3 11.625 13.95 16.275 18.6 20.925 23.25 25.575 27.9 30.225 32.55 34.875
                     37.2 39.525 41.85
"""

# Incident energies of one file of ds1, in MeV, and how many showers have them; ds2 and ds3 are log-uniform instead.
_LOW = {2**k: 10_000 for k in range(8, 19)}
_HIGH = {2**19: 5_000, 2**20: 3_000, 2**21: 2_000, 2**22: 1_000}
ENERGIES = {"ds1-photons": _LOW | _HIGH, "ds1-pions": _LOW | {2**18: 9_800} | _HIGH}
