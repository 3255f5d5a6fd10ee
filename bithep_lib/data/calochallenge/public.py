"""The challenge's own files on Zenodo (Geant4; CC BY 4.0), as one training and one reference part.

M. Faucci Giannelli et al., Fast Calorimeter Simulation Challenge 2022: data set 1 doi:10.5281/zenodo.8099322, data set
2 doi:10.5281/zenodo.6366271, data set 3 doi:10.5281/zenodo.6366324. Sizes: 0.2 GB a file of ds1, 1.4 GB of ds2.
"""

from pathlib import Path

import pooch

from bithep_lib.data.cache import cache_dir
from bithep_lib.data.calochallenge.geometry import geometry
from bithep_lib.data.quark_gluon.public import resuming_download

__all__ = ["FILES", "PARTS", "RECORDS", "fetch"]

RETRIES = 5
BASE_URL = "https://zenodo.org/records/{record}/files/"
PARTS = ("train", "reference")
"""The challenge trains on the first half of the files and judges with the second."""

RECORDS = {"ds1-photons": 8099322, "ds1-pions": 8099322, "ds2": 6366271, "ds3": 6366324}
"""Number of the Zenodo record, the end of its DOI."""

# MD5 is what Zenodo publishes. These sums are those that independent programs which download the files check against
# (L2LFlows' data module for all of them, further ones for ds2); a file that Zenodo has replaced since is refused.
FILES: dict[str, dict[str, str]] = {
    "ds1-photons": {
        "dataset_1_photons_1.hdf5": "005d2adeda7db034b388112661265656",
        "dataset_1_photons_2.hdf5": "4767715ed56e99565fd9c67340661e70",
    },
    "ds1-pions": {
        "dataset_1_pions_1.hdf5": "6a5f52722064a1bcd8a0bc002f16515d",
        "dataset_1_pions_2.hdf5": "fee7457b40127bc23c8ab909e2638ca0",
    },
    "ds2": {
        "dataset_2_1.hdf5": "e590333e9a2da51b258288d74bd8357a",
        "dataset_2_2.hdf5": "7a56fd68aa53ded37c2ac445694d9736",
    },
    "ds3": {
        "dataset_3_1.hdf5": "d33f03418aa311b0965452fcbef1ff87",
        "dataset_3_2.hdf5": "911dec2c40aafa64a07b7450b80881bf",
        "dataset_3_3.hdf5": "5ea62f6831a1821bb5035fafc9f030e8",
        "dataset_3_4.hdf5": "5e8d82e6a6c28c6914a3b602a1cfa299",
    },
}
"""File names and MD5 sums, in order."""

SHOWERS = {"ds1-photons": 121_000, "ds1-pions": 120_800, "ds2": 100_000, "ds3": 50_000}
"""Showers in each file."""


def fetch(dataset: str, part: str | None = None, n: int | None = None) -> list[Path]:
    """The files of a data set, downloaded to ``$BITHEP_CACHE/calochallenge/public`` where they are not there yet.

    Each download is checked against its sum, retried, and resumed where it stopped. Files that were downloaded by
    other means can be put into that folder under their names.

    Args:
        part: "train" or "reference"; None for both, in this order.
        n: no more files than hold this many showers; None for all.

    Raises:
        ValueError: no such data set or part, or a complete download has the wrong sum.
        requests.RequestException: Zenodo cannot be reached.
    """
    files = FILES[geometry(dataset).name]
    if part not in (None, *PARTS):
        raise ValueError(f"part must be {' or '.join(map(repr, PARTS))}, or None for both, got {part!r}")
    names, half = list(files), len(files) // 2
    names = {None: names, "train": names[:half], "reference": names[half:]}[part]
    store = pooch.create(
        path=cache_dir("calochallenge", "public"),
        base_url=BASE_URL.format(record=RECORDS[dataset]),
        registry={name: f"md5:{md5}" for name, md5 in files.items()},
        retry_if_failed=RETRIES,
    )
    needed = len(names) if n is None else -(-n // SHOWERS[dataset])
    return [Path(store.fetch(name, downloader=resuming_download)) for name in names[:needed]]
