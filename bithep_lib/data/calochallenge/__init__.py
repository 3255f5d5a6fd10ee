"""Calorimeter showers in the voxels of the CaloChallenge.

>>> from bithep_lib.data.calochallenge import geometry
>>> geometry("ds1-photons").n_voxels
368
"""

from bithep_lib.data.calochallenge.geometry import DATASETS, Geometry, Layer, dataset_of_size, geometry

__all__ = ["DATASETS", "Geometry", "Layer", "dataset_of_size", "geometry"]
