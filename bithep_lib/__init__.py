"""Low-bit neural networks for high-energy physics: the library behind the book BitHEP.

>>> from bithep_lib import BitLinear, QuantSpec, quantize_
"""

from bithep_lib.bitlinear import BitLinear, QuantSpec
from bithep_lib.quantize import quantize_
from bithep_lib.stored import load

__all__ = ["BitLinear", "QuantSpec", "load", "quantize_"]
