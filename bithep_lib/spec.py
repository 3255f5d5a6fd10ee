"""What a BitLinear layer quantises, and how finely: one frozen description for each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

WeightKind = Literal["ternary", "binary", "int8"]
ActivationScale = Literal["token", "tensor", "static_po2"]


@dataclass(frozen=True)
class QuantSpec:
    """What a BitLinear layer quantises, and how finely.

    Args:
        weights: ``"ternary"`` (1.58 bit, equation 1), ``"binary"`` (1 bit, sign(theta - <theta>) with the same beta),
            ``"int8"`` (a control: absmax, 127 levels) or None (full-precision weights, a control).
        activation_bits: bits b of the input codes, 2 to 16, or None (full-precision inputs, a control).
        levels: the largest code Q_b, by default 2^(b-1) - 1 = 127 for 8 bits. The paper's 2^(b-1) = 128 does not fit a
            signed byte.
        activation_scale: ``"token"``: one gamma for each vector that enters the layer; ``"tensor"``: one gamma for the
            whole tensor, as in equation 2. With ``"tensor"`` a jet's output depends on the other jets in its batch.
            ``"static_po2"``, for hardware: the constant s = 2^activation_exponent, so that inputs beyond Q_b / s
            saturate, beta rounded to a power of two, and the bias to a multiple of beta / s. Then every scaling is a
            shift of bits, and the layer adds integers only.
        activation_exponent: of ``"static_po2"`` only; `bithep_lib.export.calibrate` sets it from data.

    Raises:
        ValueError: names the field, the value and the values allowed.
    """

    weights: WeightKind | None = "ternary"
    activation_bits: int | None = 8
    levels: int | None = None
    activation_scale: ActivationScale = "token"
    activation_exponent: int | None = None

    def __post_init__(self) -> None:
        def refuse(field: str, allowed: str) -> None:
            raise ValueError(f"QuantSpec: {field}={getattr(self, field)!r} is not allowed; choose {allowed}")

        def is_int(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool)

        if self.weights not in (*get_args(WeightKind), None):
            refuse("weights", f"one of {', '.join(get_args(WeightKind))} or None")
        if self.activation_bits is not None and not (is_int(self.activation_bits) and 2 <= self.activation_bits <= 16):
            refuse("activation_bits", "an integer from 2 to 16, or None")
        if self.levels is not None and self.activation_bits is None:
            refuse("levels", "None when activation_bits is None (nothing is rounded)")
        if self.levels is not None and not (
            is_int(self.levels) and 1 <= self.levels <= 2 ** (self.activation_bits - 1)
        ):
            refuse("levels", f"an integer from 1 to 2^(b-1) = {2 ** (self.activation_bits - 1)}, or None")
        if self.activation_scale not in get_args(ActivationScale):
            refuse("activation_scale", f"one of {', '.join(get_args(ActivationScale))}")
        if self.power_of_two and self.activation_bits is None:
            refuse("activation_scale", "token or tensor when activation_bits is None (there is no scale)")
        exponent = self.activation_exponent
        if exponent is not None and not (self.power_of_two and is_int(exponent) and -64 <= exponent <= 64):
            refuse("activation_exponent", "an integer from -64 to 64 with activation_scale='static_po2', or None")

    @property
    def q_max(self) -> int | None:
        """The largest activation code Q_b (None for full-precision inputs)."""
        if self.activation_bits is None:
            return None
        return self.levels if self.levels is not None else 2 ** (self.activation_bits - 1) - 1

    @property
    def t_max(self) -> int | None:
        """The largest weight code: 1 (ternary, binary), 127 (int8), None for full-precision weights."""
        return {"ternary": 1, "binary": 1, "int8": 127, None: None}[self.weights]

    @property
    def integers(self) -> bool:
        """True where both operands are integers, so that the sums are exact."""
        return self.weights is not None and self.activation_bits is not None

    @property
    def power_of_two(self) -> bool:
        """True where all scales are powers of two and known before the data."""
        return self.activation_scale == "static_po2"

    @property
    def fixed_scale(self) -> float | None:
        """The constant s of ``"static_po2"``, None for a scale that follows the data.

        Raises:
            ValueError: the layer is not calibrated.
        """
        if not self.power_of_two:
            return None
        if self.activation_exponent is None:
            raise ValueError(
                "QuantSpec: activation_scale='static_po2' has no activation_exponent yet; "
                "run bithep_lib.export.calibrate(model, example) before the first forward pass"
            )
        return 2.0**self.activation_exponent

    @property
    def fields(self) -> tuple[WeightKind | None, int | None, int | None, ActivationScale, int | None]:
        """The arguments that make this spec, in order (compiled operators take them instead of the object)."""
        return self.weights, self.activation_bits, self.levels, self.activation_scale, self.activation_exponent

    @classmethod
    def paper(cls, weights: WeightKind = "ternary") -> QuantSpec:
        """Equations 1-3 to the letter: 128 levels, one gamma for the whole tensor. Outputs depend on the batch."""
        return cls(weights=weights, levels=128, activation_scale="tensor")

    @classmethod
    def reference(cls, weights: WeightKind = "ternary") -> QuantSpec:
        """What the published code runs, and the default here: 127 levels, one gamma for each token."""
        return cls(weights=weights)

    @classmethod
    def hardware(cls, weights: WeightKind = "ternary", activation_bits: int = 8) -> QuantSpec:
        """Powers of two only, for FPGAs: ``activation_scale="static_po2"``, to be calibrated."""
        return cls(weights=weights, activation_bits=activation_bits, activation_scale="static_po2")
