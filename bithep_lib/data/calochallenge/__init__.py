"""Calorimeter showers in the voxels of the CaloChallenge: load, check, cut, split, rotate, write.

>>> from bithep_lib.data import calochallenge
>>> showers = calochallenge.load("gflash", "ds2", n=100)      # doctest: +SKIP
>>> parts = calochallenge.split(showers, {"train": 60, "valid": 10, "reference": 20, "floor": 10}, seed=1)
>>> parts["train"].voxels.shape
(60, 6480)
>>> calochallenge.write("train.hdf5", parts["train"])
"""

from bithep_lib.data.calochallenge.checks import DataError
from bithep_lib.data.calochallenge.cuts import select, zero_below
from bithep_lib.data.calochallenge.files import Reader, Writer, write
from bithep_lib.data.calochallenge.geometry import DATASETS, Geometry, Layer, dataset_of_size, geometry
from bithep_lib.data.calochallenge.showers import Showers, concatenate, split
from bithep_lib.data.calochallenge.sources import SAMPLE, load, read
from bithep_lib.data.calochallenge.symmetry import augment, images, mirror, rotate

__all__ = [
    "DATASETS",
    "SAMPLE",
    "DataError",
    "Geometry",
    "Layer",
    "Reader",
    "Showers",
    "Writer",
    "augment",
    "concatenate",
    "dataset_of_size",
    "geometry",
    "images",
    "load",
    "mirror",
    "read",
    "rotate",
    "select",
    "split",
    "write",
    "zero_below",
]
