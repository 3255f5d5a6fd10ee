r"""Particle-flow network: a jet is a *set* of particles, so the tagger is a function of a sum over them.

.. math:: \mathrm{PFN}(\{p_1, \dots, p_n\}) = F\Big(\sum_{i=1}^{n} \Phi(p_i)\Big)

with two multilayer perceptrons, :math:`\Phi` per particle and :math:`F` per jet (Komiske, Metodiev and Thaler,
arXiv:1810.05165; deep sets, arXiv:1703.06114). Any permutation-invariant function of a set can be written so. The sum
(not a mean) keeps the number of particles, the best single variable between quarks and gluons.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.quantize import QuantReport, Select, quantize_


class ParticleFlowNetwork(nn.Module):
    """Deep-sets tagger for padded jets.

    Args:
        n_features: numbers per particle.
        phi_sizes: widths of the per-particle network; the last one is that of the jet's latent vector.
        f_sizes: hidden widths of the per-jet network, to which one output (the logit) is added.
        pooling_scale: the sum over particles is divided by this fixed number, about the mean multiplicity, so that the
            latent vector starts of order one. It is no mean: a jet of twice the particles has twice the sum.

    Example:
        >>> model, report = ParticleFlowNetwork.build("phi", n_features=4, phi_sizes=(8, 8), f_sizes=(8,))
        >>> x, mask = torch.ones(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
        >>> model(x, mask).shape
        torch.Size([2])
    """

    strategies: ClassVar[dict[str, Select | None]] = {
        "none": None,
        "phi": lambda name, linear: name.startswith("phi."),
        "f": lambda name, linear: name.startswith("f."),
        "hidden": lambda name, linear: name != "phi.0" and linear.out_features > 1,
        "all": lambda name, linear: True,
    }
    """What becomes bits: nothing, the particle network, the jet network, all but the first and the last layer (the
    usual choice for low-bit networks), everything."""

    def __init__(
        self,
        n_features: int,
        *,
        phi_sizes: Sequence[int] = (64, 64, 64),
        f_sizes: Sequence[int] = (64, 64),
        pooling_scale: float = 40.0,
    ) -> None:
        super().__init__()
        for name, sizes in (("n_features", (n_features,)), ("phi_sizes", phi_sizes), ("f_sizes", f_sizes)):
            if not sizes or any(size < 1 for size in sizes):
                raise ValueError(f"{name} must be positive, got {sizes}")
        self.phi = _mlp((n_features, *phi_sizes), activate_last=True)
        self.f = _mlp((phi_sizes[-1], *f_sizes, 1), activate_last=False)
        self.pooling_scale = pooling_scale

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Logits of P(quark), shape (B,), of jets with particles ``x`` (B, N, n_features), real where ``mask`` (B, N).

        Raises:
            ValueError: shapes that do not belong together, or a jet without particles.
        """
        n_features = self.phi[0].in_features
        if x.ndim != 3 or x.shape[-1] != n_features or mask.shape != x.shape[:2]:
            raise ValueError(
                f"x must be (jets, particles, {n_features}) and mask (jets, particles), "
                f"got {tuple(x.shape)} and {tuple(mask.shape)}"
            )
        jet, slot = mask.nonzero(as_tuple=True)
        empty = torch.bincount(jet, minlength=len(x)) == 0
        if empty.any():
            raise ValueError(f"jet {int(empty.nonzero()[0])} of the batch has no particles")
        # Only real particles go through phi: less than half of the padded slots of a typical batch.
        particles = self.phi(x[jet, slot])
        pooled = particles.new_zeros(len(x), particles.shape[-1]).index_add(0, jet, particles)
        return self.f(pooled / self.pooling_scale).squeeze(-1)

    @classmethod
    def build(
        cls,
        strategy: str = "none",
        *,
        n_features: int,
        spec: QuantSpec = QuantSpec(),
        example: tuple[Tensor, Tensor] | None = None,
        **sizes: Any,
    ) -> tuple["ParticleFlowNetwork", QuantReport]:
        """A network with one of the ``strategies`` applied, and the report of what that quantised.

        Args:
            strategy: a key of ``strategies``.
            n_features: numbers per particle.
            spec: what to quantise; by default ternary weights and 8-bit activations.
            example: (x, mask) of a few jets, for the report's counts by use; see `quantize_`.
            sizes: further arguments of the class.
        """
        if strategy not in cls.strategies:
            raise ValueError(f"strategy must be one of {', '.join(cls.strategies)}, got {strategy!r}")
        model = cls(n_features, **sizes)
        return model, quantize_(model, cls.strategies[strategy], spec, example=example)


def _mlp(sizes: Sequence[int], *, activate_last: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*(layers if activate_last else layers[:-1]))
