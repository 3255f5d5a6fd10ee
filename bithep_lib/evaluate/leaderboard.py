"""What the generators of the CaloChallenge reached: the published tables, as they were released.

C. Krause et al., arXiv:2410.21611, and ``final_results`` in the repository CaloChallenge/homepage. All of it is for the
public files, with 121 000, 120 800 or 100 000 showers; "GEANT4" is the public training file judged in the same way.
Numbers for other showers, or for fewer, are not comparable: their own Geant4 against Geant4 belongs beside them.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bithep_lib.data.calochallenge.geometry import geometry
from bithep_lib.suggest import did_you_mean

__all__ = ["beside_published", "leaderboard", "published_separation"]

FOLDER = Path(__file__).parent / "published"


def leaderboard(dataset: str) -> pd.DataFrame:
    """Submissions for a data set, best first, after Geant4 itself.

    Returns:
        one row a submission; columns ``parameters_training`` and ``parameters_generation``; ``auc_low``, ``auc_high``
        (the classifiers on voxels and on high-level features), ``auc_cnn`` (a 3-D residual network; ds2 and ds3),
        ``kpd_1e3``, ``fpd_1e3`` (times 1000) and ``log_posterior``, each with a partner ``..._error``; ``precision``,
        ``recall``, ``density``, ``coverage``; ``cpu_ms_1`` .. ``gpu_ms_10000``, milliseconds a shower by batch size.
        NaN where nothing was published.

    Raises:
        ValueError: no such data set.
    """
    return _rows("leaderboard.csv", dataset)


def published_separation(dataset: str) -> pd.DataFrame:
    """Separation powers of some submissions: one row each, one column a group, mean over layers.

    Raises:
        ValueError: no such data set.
    """
    return _rows("separation.csv", dataset) / 1e3


def beside_published(
    table: pd.DataFrame, dataset: str, submissions: Sequence[str] = ("GEANT4", "CaloINN")
) -> pd.DataFrame:
    """A :func:`.separation_table` with columns of published ones added, all times 1000 as in the challenge's tables.

    Raises:
        ValueError: no such data set, or a submission without published separation powers.
    """
    published = published_separation(dataset)
    for name in submissions:
        if name not in published.index:
            raise ValueError(
                f"no separation powers of {name!r} are published for {dataset}; there are those of "
                f"{', '.join(published.index)}{did_you_mean(name, published.index)}"
            )
    ours = 1e3 * table[["separation", "by chance"]]
    theirs = 1e3 * published.loc[list(submissions)].T.add_suffix(" (published)")
    return ours.join(theirs)


def _rows(file: str, dataset: str) -> pd.DataFrame:
    table = pd.read_csv(FOLDER / file)
    return table[table["dataset"] == geometry(dataset).name].drop(columns="dataset").set_index("submission")
