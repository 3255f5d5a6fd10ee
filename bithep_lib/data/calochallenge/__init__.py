"""Calorimeter showers in the voxels of the CaloChallenge.

>>> from bithep_lib.data.calochallenge import geometry
>>> geometry("ds1-photons").n_voxels
368
"""

from bithep_lib.data.calochallenge.checks import DataError
from bithep_lib.data.calochallenge.files import Reader, Writer, write
from bithep_lib.data.calochallenge.geometry import DATASETS, Geometry, Layer, dataset_of_size, geometry
from bithep_lib.data.calochallenge.showers import Showers, concatenate, split

__all__ = [
    "DATASETS",
    "DataError",
    "Geometry",
    "Layer",
    "Reader",
    "Showers",
    "Writer",
    "concatenate",
    "dataset_of_size",
    "geometry",
    "split",
    "write",
]
