"""Scales, parameters, run records and claims: how the book keeps its numbers honest.

>>> from bithep_lib import study
>>> run = study.setup("quark_gluon", scale="smoke", seed=3)
>>> run.n_train, run.seeds
(300, (3,))
"""

import pandas as pd

from bithep_lib.study.parameters import ParameterError
from bithep_lib.study.run import Run, resolve, setup
from bithep_lib.study.scales import SCALE_NAMES, SCALES
from bithep_lib.study.settings import Settings
from bithep_lib.study.statements import claims
from bithep_lib.study.storage import measurements, record, records
from bithep_lib.study.tables import spread, summarise
from bithep_lib.study.verdicts import AtMost, Claim, Difference, Exact, Measurement, holm, judge, table

__all__ = [
    "SCALES",
    "SCALE_NAMES",
    "AtMost",
    "Claim",
    "Difference",
    "Exact",
    "Measurement",
    "ParameterError",
    "Run",
    "Settings",
    "claims",
    "claims_table",
    "holm",
    "judge",
    "measurements",
    "record",
    "records",
    "resolve",
    "setup",
    "spread",
    "summarise",
    "table",
]


def claims_table(chapter: str | None = None, scale: str | None = None) -> pd.DataFrame:
    """All claims with what the stored records measured and the verdicts: the page ``book/claims.md``.

    Args:
        chapter: only this chapter's claims.
        scale: only measurements at this scale; by default each claim's largest.
    """
    chosen = claims(chapter)
    known = {claim.id for claim in chosen}
    return table(chosen, {name: found for name, found in measurements(scale).items() if name in known})
