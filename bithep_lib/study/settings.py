"""The settings of every chapter: what they mean and which values they may take.

To add a chapter, write a dataclass with its parameters here and its values at each scale in `study.scales`. Every field
is at once a setting and a papermill parameter of the notebook.
"""

from __future__ import annotations

from dataclasses import dataclass

from bithep_lib.study.parameters import choice, choices, device, folder, integer, limit, number


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every chapter has."""

    seed: int = integer("first seed of split, initialisation and training", default=1)
    device: str = device("where networks run; auto: a GPU if there is one")
    threads: int = integer("CPU threads (0: all); fixed for equal results", default=1)
    max_minutes: float | None = limit("stop after so many minutes; say what is left out")
    output_dir: str | None = folder("where records go (default: the cache)")


@dataclass(frozen=True, kw_only=True)
class BitLinear(Settings):
    """Chapter 1: the layer, and a two-moons network in bits."""

    n_seeds: int = integer("trainings, with seeds seed, seed + 1, ...", low=1)
    n_train: int = integer("points to train on", low=10)
    n_test: int = integer("points to judge on", low=10)
    epochs: int = integer("passes over the training points", low=1)
    batch_size: int = integer("points per training step", low=1)
    learning_rate: float = number("step size of AdamW", below=1.0)


@dataclass(frozen=True, kw_only=True)
class Jets(Settings):
    """The data card of the quark and gluon jets."""

    data: str = choice("which jets", "sample", "simulate", "public", or_path=True, default="sample")
    n_jets: int = integer("jets to look at", low=100)


@dataclass(frozen=True, kw_only=True)
class Showers(Settings):
    """The data card of the calorimeter showers, and their judge."""

    data: str = choice("which showers", "sample", "simulate", "gflash", "public", or_path=True, default="sample")
    dataset: str = choice("detector and particle to judge on", "ds1-photons", "ds2", default="ds1-photons")
    n_showers: int = integer("showers to judge with (at most), cut into four sets", low=300)
    classifier: str = choice("settings of the judge's classifier", "smoke", "book", "laptop", "challenge")


@dataclass(frozen=True, kw_only=True)
class QuarkGluon(Settings):
    """Chapter 2: quark and gluon jets."""

    data: str = choice("which jets", "sample", "simulate", "public", or_path=True, default="sample")
    weights: str = choice("stored networks, or train them all", "stored", "train", default="stored")
    strategies: tuple[str, ...] = choices(
        "which layers become bits",
        *("none", "phi", "f", "hidden", "attention", "attention+features", "all"),
        default=("none", "all"),
    )
    n_seeds: int = integer("trainings of each network: seed, seed + 1, ...", low=1)
    n_train: int = integer("jets to train on", low=10)
    n_valid: int = integer("jets to choose the epoch on", low=10)
    n_test: int = integer("jets to judge on", low=10)
    max_constituents: int = integer("leading constituents of a jet that a network sees", low=1, default=100)
    epochs: int = integer("passes over the training jets", low=1)
    batch_size: int = integer("jets per training step", low=1)
    learning_rate: float = number("step size of AdamW", below=1.0)
    weight_decay: float = number("weight decay of AdamW", below=1.0, zero=True, default=0.01)


@dataclass(frozen=True, kw_only=True)
class WZ(Settings):
    """The data card of the W Z jets."""

    data: str = choice("which jets", "sample", "simulate", or_path=True, default="sample")
    n_jets: int = integer("jets to look at", low=100)


@dataclass(frozen=True, kw_only=True)
class Smeft(Settings):
    """Chapter 3: the decay angle of a boosted W, and what it says about C_W."""

    data: str = choice("which jets", "sample", "simulate", or_path=True, default="sample")
    weights: str = choice("stored networks, or train them all", "stored", "train", default="stored")
    strategies: tuple[str, ...] = choices(
        "which layers become bits", "none", "all", "mlp", "message_passing", default=("none", "all")
    )
    n_seeds: int = integer("trainings of each network: seed, seed + 1, ...", low=1)
    n_train: int = integer("jets to train on", low=10)
    n_valid: int = integer("jets to choose the epoch on", low=10)
    n_test: int = integer("jets to judge on", low=100)
    epochs: int = integer("passes over the training jets", low=1)
    batch_size: int = integer("jets per training step", low=1)
    learning_rate: float = number("step size of AdamW", below=1.0)
    weight_decay: float = number("weight decay of AdamW", below=1.0, zero=True, default=0.01)


CALODREAM_SETUPS = tuple(
    f"{energy}/{shape}" for shape in ("regular", "no_embedding", "full") for energy in ("regular", "quantized")
)
"""The six combinations of Table 4."""


@dataclass(frozen=True, kw_only=True)
class CaloDREAM(Settings):
    """Chapter 5: electrons in a calorimeter by flow matching, an energy network and a shape network."""

    data: str = choice("which showers", "sample", "simulate", "gflash", "public", or_path=True, default="sample")
    dataset: str = choice("detector and particle", "ds2", default="ds2")
    weights: str = choice("stored networks, or train them all", "stored", "train", default="stored")
    setups: tuple[str, ...] = choices(
        "which layers become bits, energy network/shape network",
        *CALODREAM_SETUPS,
        default=("regular/regular", "quantized/regular"),
    )
    n_seeds: int = integer("trainings of each network: seed, seed + 1, ...", low=1)
    n_train: int = integer("showers to train on", low=10)
    n_valid: int = integer("showers to choose the epoch on", low=10)
    n_reference: int = integer("showers to judge with, one generated for each", low=50)
    n_floor: int = integer("simulated showers that are judged as if they were generated", low=50)
    energy_width: int = integer("width of the energy network's tokens", low=47)
    energy_depth: int = integer("layers of its encoder, and of its decoder", low=1)
    energy_feedforward: int = integer("hidden width inside of these layers", low=1)
    velocity_width: int = integer("hidden width of its velocity network", low=1)
    shape_width: int = integer("width of the shape network's tokens, a multiple of 6", low=6)
    shape_depth: int = integer("blocks of the shape network", low=1)
    energy_epochs: int = integer("passes over the training showers, energy network", low=1)
    energy_batch_size: int = integer("showers per training step, energy network", low=1)
    energy_learning_rate: float = number("largest step size of AdamW, energy network", below=1.0)
    epochs: int = integer("passes over the training showers, shape network", low=1)
    batch_size: int = integer("showers per training step, shape network", low=1)
    learning_rate: float = number("largest step size of AdamW, shape network", below=1.0)
    clip: float = number("largest norm of a gradient, both networks", default=100.0)
    method: str = choice("solver of the differential equations", "euler", "midpoint", "heun3", "rk4")
    energy_steps: int = integer("its steps for each energy ratio", low=1)
    shape_steps: int = integer("its steps for the voxels", low=1)
    classifier: str = choice("settings of the judge's classifier", "smoke", "book", "laptop", "challenge")


@dataclass(frozen=True, kw_only=True)
class CaloINN(Settings):
    """Chapter 4: a flow that makes calorimeter showers."""

    data: str = choice("which showers", "sample", "simulate", "gflash", "public", or_path=True, default="sample")
    dataset: str = choice(
        "detector and particle (the published flow of ds2 has 14 blocks)",
        *("ds1-photons", "ds1-pions", "ds2"),
        default="ds1-photons",
    )
    weights: str = choice("stored networks, or train them all", "stored", "train", default="stored")
    setups: tuple[str, ...] = choices(
        "which layers become bits, as in Table 3",
        *("Default", "ExchangePermutation", "NNCentral", "BlockCentral", "All"),
        default=("Default", "BlockCentral"),
    )
    n_seeds: int = integer("trainings of each flow: seed, seed + 1, ...", low=1, default=5)
    n_train: int = integer("showers to train on", low=10)
    n_valid: int = integer("showers to follow the training on", low=10)
    n_reference: int = integer("showers that generated ones are compared with", low=100)
    n_floor: int = integer("showers that stand in for generated ones (at least n_reference)", low=100)
    n_blocks: int = integer("coupling blocks", low=5)
    hidden: int = integer("width of the conditioner networks", low=1)
    bins: int = integer("bins of each spline", low=1)
    epochs: int = integer("passes over the training showers", low=1)
    batch_size: int = integer("showers per training step", low=1)
    learning_rate: float = number("largest step size of AdamW", below=1.0)
    weight_decay: float = number("weight decay of AdamW", below=1.0, zero=True, default=0.01)
    classifier: str = choice("settings of the judge's classifier", "smoke", "book", "laptop", "challenge")


@dataclass(frozen=True, kw_only=True)
class Atlas(Settings):
    """The sensitivity atlas: small networks of all models, one block at a time in bits."""

    n_seeds: int = integer("trainings of each network: seed, seed + 1, ...", low=1)
    n_train: int = integer("jets or showers to train on", low=10)
    n_valid: int = integer("jets or showers to choose the epoch on", low=10)
    n_test: int = integer("jets or showers to judge on", low=10)
    epochs: int = integer("passes over the training examples", low=1)
    batch_size: int = integer("examples per training step", low=1)


@dataclass(frozen=True, kw_only=True)
class Results(Settings):
    """The page of all results: which records, and the machines of an estimate."""

    records: str | None = folder("records beside those of the package (default: none)")
    core_gflops: float = number("float32 peak of the core of the stored runs, GFLOP/s", default=220.0)
    gpu_tflops: float = number("float32 peak of one GPU, TFLOP/s (an assumption: A100)", default=19.5)
    n_gpus: int = integer("GPUs of a cluster (an assumption)", low=1, default=16)


@dataclass(frozen=True, kw_only=True)
class RealBits(Settings):
    """Chapter 6: what a bit costs."""

    data: str = choice("which jets", "sample", "simulate", "public", or_path=True, default="sample")
    n_train: int = integer("jets to train the trigger tagger on", low=10)
    n_valid: int = integer("jets to choose the epoch on", low=10)
    n_test: int = integer("jets to judge on", low=10)
    epochs: int = integer("passes over the training jets", low=1)
    batch_size: int = integer("jets per training step", low=1)
    learning_rate: float = number("step size of AdamW", below=1.0)
    repeats: int = integer("interleaved repetitions of each timing", low=3)
