"""Low-bit neural networks for high-energy physics: the library behind the book BitHEP.

>>> from bithep_lib import BitLinear, QuantSpec, pack, quantize_
"""

from bithep_lib.bitlinear import BitLinear, QuantSpec
from bithep_lib.costs import cost
from bithep_lib.packed import pack
from bithep_lib.packed_files import load_packed, save_packed
from bithep_lib.quantize import quantize_
from bithep_lib.stored import load

__all__ = ["BitLinear", "QuantSpec", "cost", "load", "load_packed", "pack", "quantize_", "save_packed"]
