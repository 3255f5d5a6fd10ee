"""The networks, each written once with `torch.nn.Linear`; `quantize_` decides from outside which layers become bits."""

from bithep_lib.models.calodream import CaloDREAM
from bithep_lib.models.caloinn import CaloINN
from bithep_lib.models.pdat import PDAT
from bithep_lib.models.pfn import ParticleFlowNetwork
from bithep_lib.models.smeftnet import SMEFTNet

__all__ = ["CaloDREAM", "CaloINN", "PDAT", "ParticleFlowNetwork", "SMEFTNet"]
