"""What chapter 3 runs: every network, control and fault by the name that stands in its record."""

from __future__ import annotations

from bithep_lib.experiments.variants import Variant, grid
from bithep_lib.models import SMEFTNet

VARIANTS: dict[str, Variant] = (
    {f"smeftnet/{strategy}": Variant("smeftnet", strategy) for strategy in SMEFTNet.strategies}
    | {
        f"smeftnet/{strategy} as published": Variant("smeftnet", strategy, sizes={"as_published": True})
        for strategy in SMEFTNet.strategies
    }
    | grid("smeftnet", "all")
    | {
        "smeftnet/all frozen": Variant("smeftnet", "all", frozen=True),
        "smeftnet/all after training": Variant("smeftnet", "all", after="smeftnet/none"),
        "smeftnet/none equal bytes": Variant("smeftnet", sizes={"layers": ((6, 4), (6, 4)), "mlp": (8, 8)}),
        "smeftnet/none shuffled angles": Variant("smeftnet", shuffled=True),
        "smeftnet/none as published vector head": Variant("smeftnet with a vector head", sizes={"as_published": True}),
    }
)
