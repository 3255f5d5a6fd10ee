"""EnergyFlow's public quark and gluon jets on Zenodo: twenty files of 100 000 jets (about 100 MB each).

P. Komiske, E. Metodiev, J. Thaler, doi:10.5281/zenodo.3164691 (Pythia 8.226, u, d and s quarks).
"""

from pathlib import Path

import pooch
import requests
from tqdm.auto import tqdm

from bithep_lib.data.cache import cache_dir

__all__ = ["FILES", "JETS_PER_FILE", "fetch"]

JETS_PER_FILE = 100_000
RETRIES = 5
BLOCK = 1 << 16  # bytes; what is lost of a broken connection
BASE_URL = "https://zenodo.org/records/3164691/files/"

_SHA256 = """
3f27a02eab06e8b83ccc9d25638021e6e24c9361341730961f9d560dee12c257
648e49cd59b5353e0064e7b1a3388d9c2f4a454d3ca67afaa8d0344c836ecb35
09f7b16fa7edb312c0f652bb8504de45f082c4193df65204d693155017272fe9
7dc9a50bb38e9f6fc1f11db18f9bd04f72823c944851746b848dee0bba808537
3e6217aad8e0502f5ce3b6371c61396dfc48a6cf4f26ee377cc7b991b1d2b543
b5b7d742b2599bcbe1d7a639895bca64c28da513dc3620b0e5bbb5801f8c88fd
7d31bc48c15983401e0dbe8fd5ee938c3809d9ee3c909f4adab6daf8b73c14f1
cec0d7b2afa9d955543c597f9b7f3b3767812a68b2401ec870caf3a2ceb98401
e984620f57abe06fc5d0b063f9f84ba54bd3e8c295d2b2419a7b1c6175079ed4
6e3b69196995d6eb3b8e7af874e2b9f93d904624f7a7a73b8ff39f151e3bd189
fa3d386f230b806058ff17e5bd77326ff4bf01d72aa5eb3325c1df2a8825927c
acd49ab7bea8f72ecf699a9a898bccacc8730474259d68406656a5a43d407fb0
2edd55b8bc30c686a0637855e1ba068586eb97041e8114d5540d96db2a7a2e17
7276a8a0e573f9795a47f9d5addc10d2af903c2a0ffa5c848a720ccae93daa90
2068ecfa912e94cd3ce7273b7c77af0bbd5ec57940997e7483b56f03434a6869
41a732ce6321dd593214225b03fb87329607ccae768c705e3896ffecc28bfcca
9d68caeb18f3ccf127b9032f52e63ee011c4381293a3a503f894e5c0741ae215
086053ca611bb04d97fa0b6509b4ffb6955421b067c7b277498f0e5188879331
cdc595f5fedef7db9411a9f93f2786f110073b4d17a523700f625846588b1e44
d07781139320ae134ce4824bc0cefa43fd5003cd97cdf3aed90d4fb12fad8a1d
"""

FILES = {f"QG_jets{f'_{i}' if i else ''}.npz": sha256 for i, sha256 in enumerate(_SHA256.split())}
"""File names and SHA-256 sums (as listed in EnergyFlow's ``qg_jets.json``)."""


def fetch(count: int) -> list[Path]:
    """The first ``count`` files, downloaded to ``$BITHEP_CACHE/quark_gluon/public`` where they are not there yet.

    Each download is checked against its sum, retried, and resumed where it stopped.

    Raises:
        ValueError: ``count`` is not 1 .. 20, or a complete download has the wrong sum.
        requests.RequestException: Zenodo cannot be reached.
    """
    if not 1 <= count <= len(FILES):
        raise ValueError(f"there are {len(FILES)} public files of {JETS_PER_FILE} jets, asked for {count}")
    store = pooch.create(
        path=cache_dir("quark_gluon", "public"), base_url=BASE_URL, registry=FILES, retry_if_failed=RETRIES
    )  # fmt: skip
    return [Path(store.fetch(name, downloader=resuming_download)) for name in list(FILES)[:count]]


def resuming_download(url: str, output_file: str, store: pooch.Pooch) -> None:
    """A downloader for ``pooch``: bytes go to ``<name>.part``, and a later try asks only for what is missing."""
    part = store.abspath / f"{Path(url).name}.part"
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=60) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # longer than the file: not ours, start again at the next try
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        have = have if resumed else 0
        total = have + int(response.headers.get("Content-Length", 0))
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=Path(url).name) as bar,
        ):
            for block in response.iter_content(BLOCK):
                file.write(block)
                bar.update(len(block))
    size = part.stat().st_size
    if total and size < total:
        raise requests.ConnectionError(f"{url}: the connection closed after {size} of {total} bytes")
    part.replace(output_file)
