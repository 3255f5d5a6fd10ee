"""The sizes of every chapter at every scale: the one place where they are written down.

======  ==============================================================================================================
smoke   seconds; what the tests run
book    the default; a whole notebook within 2.5 CPU minutes and 1.5 GB on one thread, so that Binder can run it
laptop  what the stored records were made with; core-hours
paper   the sizes and hyper-parameters of arXiv:2504.03387; a GPU or a cluster
======  ==============================================================================================================
"""

from __future__ import annotations

from bithep_lib.study.settings import (
    CALODREAM_SETUPS,
    WZ,
    Atlas,
    BitLinear,
    CaloDREAM,
    CaloINN,
    Jets,
    QuarkGluon,
    RealBits,
    Results,
    Settings,
    Showers,
    Smeft,
)

SCALE_NAMES = ("smoke", "book", "laptop", "paper")

_CALODREAM_REDUCED = {
    "energy_width": 48,
    "energy_depth": 1,
    "energy_feedforward": 96,
    "velocity_width": 144,
    "shape_width": 96,
    "shape_depth": 6,
    "energy_batch_size": 32,
    "energy_learning_rate": 3e-3,
    # Few showers a step: within minutes it is the number of steps that decides (at equal time, a validation loss of
    # 1.32 with 16 showers, 1.10 with 8 and 0.9 with 4).
    "batch_size": 4,
    "learning_rate": 4e-3,
    "clip": 1.0,
    # 20 and 12 evaluations: means shifted by 0.02 and 0.04 of a width, beside 0.03 of statistics (record "solver").
    "method": "rk4",
    "energy_steps": 5,
    "shape_steps": 3,
}

SCALES: dict[str, dict[str, Settings]] = {
    "bitlinear": {
        "smoke": BitLinear(n_seeds=1, n_train=200, n_test=200, epochs=2, batch_size=50, learning_rate=1e-2),
        "book": BitLinear(n_seeds=3, n_train=1000, n_test=2000, epochs=40, batch_size=100, learning_rate=1e-2),
        "laptop": BitLinear(n_seeds=10, n_train=1000, n_test=10_000, epochs=100, batch_size=100, learning_rate=1e-2),
        # No table of the paper belongs to this chapter: the laptop's study with more seeds and points.
        "paper": BitLinear(n_seeds=20, n_train=1000, n_test=100_000, epochs=100, batch_size=100, learning_rate=1e-2),
    },
    "jets": {
        "smoke": Jets(n_jets=500),
        "book": Jets(n_jets=10_000),
        "laptop": Jets(data="simulate", n_jets=50_000),
        "paper": Jets(data="public", n_jets=2_000_000),
    },
    "wz": {
        "smoke": WZ(n_jets=500),
        "book": WZ(n_jets=10_000),
        "laptop": WZ(data="simulate", n_jets=70_000),
        "paper": WZ(data="simulate", n_jets=3_126_000),
    },
    "showers": {
        "smoke": Showers(n_showers=600, classifier="smoke"),
        "book": Showers(n_showers=10_000, classifier="book"),
        "laptop": Showers(data="simulate", n_showers=40_000, classifier="laptop"),
        # Both official files of photons, cut by the same shares.
        "paper": Showers(data="public", n_showers=242_000, classifier="challenge"),
    },
    "quark_gluon": {
        "smoke": QuarkGluon(
            n_seeds=1,
            n_train=300,
            n_valid=100,
            n_test=200,
            max_constituents=30,
            epochs=1,
            batch_size=50,
            learning_rate=1e-3,
        ),
        "book": QuarkGluon(
            n_seeds=1, n_train=5000, n_valid=1000, n_test=4000, epochs=6, batch_size=128, learning_rate=1e-3
        ),
        "laptop": QuarkGluon(
            data="simulate",
            weights="train",
            n_seeds=5,
            n_train=20_000,
            n_valid=5000,
            n_test=25_000,
            epochs=8,
            batch_size=128,
            learning_rate=1e-3,
        ),
        # Section 3 and the released code: 1.6 M / 200 k / 200 k of the public jets, AdamW at 1e-4, batches of 64, up to
        # 100 epochs, five trainings (Table 1).
        "paper": QuarkGluon(
            data="public",
            weights="train",
            strategies=("none", "attention"),
            n_seeds=5,
            n_train=1_600_000,
            n_valid=200_000,
            n_test=200_000,
            epochs=100,
            batch_size=64,
            learning_rate=1e-4,
        ),
    },
    "smeft": {
        "smoke": Smeft(n_seeds=1, n_train=200, n_valid=100, n_test=200, epochs=1, batch_size=50, learning_rate=3e-3),
        "book": Smeft(n_seeds=1, n_train=5000, n_valid=1000, n_test=4000, epochs=3, batch_size=128, learning_rate=3e-3),
        "laptop": Smeft(
            data="simulate",
            weights="train",
            strategies=("none", "all", "mlp", "message_passing"),
            n_seeds=5,
            n_train=25_000,
            n_valid=5000,
            n_test=25_000,
            epochs=3,
            batch_size=128,
            learning_rate=3e-3,
        ),
        # Section 4 and the released log: 3.13 M jets, 20 % of them to test on. A twentieth of the others chooses the
        # epoch; the paper has no validation jets. One reference and one more training (Table 2) are five here, and 30
        # passes in mini-batches take the place of 249 steps with the gradient of all jets.
        "paper": Smeft(
            data="simulate",
            weights="train",
            strategies=("none", "all", "mlp", "message_passing"),
            n_seeds=5,
            n_train=2_376_000,
            n_valid=125_000,
            n_test=625_000,
            epochs=30,
            batch_size=1024,
            learning_rate=1e-3,
        ),
    },
    "caloinn": {
        "smoke": CaloINN(
            n_seeds=1,
            n_train=300,
            n_valid=100,
            n_reference=200,
            n_floor=200,
            n_blocks=5,
            hidden=16,
            bins=4,
            epochs=1,
            batch_size=25,  # for ds2 within the memory of Binder
            learning_rate=3e-3,
            classifier="smoke",
        ),
        # A reduced flow, so that all setups are trained five times on the bundled showers in an hour of one core.
        "book": CaloINN(
            n_train=4700,
            n_valid=500,
            n_reference=2400,
            n_floor=2400,
            n_blocks=8,
            hidden=48,
            bins=6,
            epochs=10,
            batch_size=128,
            learning_rate=2e-3,
            classifier="book",
        ),
        # The published flow with a schedule of 2500 steps instead of 105 000.
        "laptop": CaloINN(
            data="simulate",
            weights="train",
            setups=("Default", "ExchangePermutation", "NNCentral", "BlockCentral", "All"),
            n_train=17_920,  # 35 steps
            n_valid=1000,
            n_reference=4000,
            n_floor=4000,
            n_blocks=12,
            hidden=256,
            bins=10,
            epochs=71,
            batch_size=512,
            learning_rate=5e-4,
            classifier="laptop",
        ),
        # Section 5.1, arXiv:2312.09290 and the released card. The paper trains on one official file of 121 000 photons,
        # judges with the other and trains once; here a part of the second file stands in for generated showers.
        "paper": CaloINN(
            data="public",
            weights="train",
            setups=("Default", "ExchangePermutation", "NNCentral", "BlockCentral", "All"),
            n_train=119_790,
            n_valid=1210,
            n_reference=60_000,
            n_floor=60_000,
            n_blocks=12,
            hidden=256,
            bins=10,
            epochs=450,
            batch_size=512,
            learning_rate=1e-4,
            classifier="challenge",
        ),
    },
    "calodream": {
        "smoke": CaloDREAM(
            n_seeds=1,
            n_train=100,
            n_valid=50,
            n_reference=100,
            n_floor=100,
            energy_width=48,
            energy_depth=1,
            energy_feedforward=16,
            velocity_width=16,
            shape_width=24,
            shape_depth=2,
            energy_epochs=1,
            energy_batch_size=50,
            energy_learning_rate=2e-3,
            epochs=1,
            batch_size=50,
            learning_rate=2e-3,
            method="midpoint",
            energy_steps=2,
            shape_steps=2,
            classifier="smoke",
        ),
        "book": CaloDREAM(
            n_seeds=1,
            n_train=2500,
            n_valid=300,
            n_reference=400,
            n_floor=400,
            **_CALODREAM_REDUCED,
            energy_epochs=5,
            epochs=1,
            classifier="book",
        ),
        # The published depth and 135 tokens, nearly the published fractions in bits, at a fifth of the width; and six
        # minutes of one thread for a shape network, which sees each shower three times: after one pass those in bits
        # have hardly begun to learn (variants "epochs=1"). (Published: 80 million showers.)
        "laptop": CaloDREAM(
            data="simulate",
            weights="train",
            setups=CALODREAM_SETUPS,
            n_seeds=3,
            n_train=7800,
            n_valid=200,
            n_reference=1000,
            n_floor=1000,
            **_CALODREAM_REDUCED,
            energy_epochs=5,
            epochs=3,
            classifier="book",
        ),
        # Section 5.2 and the released cards: 100 000 showers to train on and as many to judge with. The published
        # shape network anneals with a cosine and the released validation set is a single shower.
        "paper": CaloDREAM(
            data="public",
            weights="train",
            setups=CALODREAM_SETUPS,
            n_seeds=3,
            n_train=99_000,
            n_valid=1000,
            n_reference=50_000,
            n_floor=50_000,
            energy_width=64,
            energy_depth=4,
            energy_feedforward=512,
            velocity_width=512,
            shape_width=480,
            shape_depth=6,
            energy_epochs=500,
            energy_batch_size=4000,
            energy_learning_rate=2e-3,
            epochs=800,
            batch_size=64,
            learning_rate=1e-3,
            method="rk4",
            energy_steps=50,
            shape_steps=20,
            classifier="challenge",
        ),
    },
    # The bundled samples end at 4000 showers of ds2, so that more than the laptop's epochs would only overfit.
    "atlas": {
        "smoke": Atlas(n_seeds=1, n_train=60, n_valid=20, n_test=40, epochs=1, batch_size=20),
        "book": Atlas(n_seeds=1, n_train=500, n_valid=200, n_test=500, epochs=4, batch_size=50),
        "laptop": Atlas(n_seeds=3, n_train=2000, n_valid=500, n_test=1500, epochs=6, batch_size=50),
        "paper": Atlas(n_seeds=5, n_train=2000, n_valid=500, n_test=1500, epochs=6, batch_size=50),
    },
    "results": dict.fromkeys(SCALE_NAMES, Results()),
    "real_bits": {
        "smoke": RealBits(n_train=300, n_valid=100, n_test=200, epochs=1, batch_size=50, learning_rate=1e-3, repeats=3),
        "book": RealBits(
            n_train=5000, n_valid=1000, n_test=4000, epochs=10, batch_size=128, learning_rate=1e-3, repeats=20
        ),
        "laptop": RealBits(
            data="simulate",
            n_train=20_000,
            n_valid=5000,
            n_test=25_000,
            epochs=20,
            batch_size=128,
            learning_rate=1e-3,
            repeats=100,
        ),
        "paper": RealBits(
            data="public",
            n_train=1_600_000,
            n_valid=200_000,
            n_test=200_000,
            epochs=20,
            batch_size=1024,
            learning_rate=1e-3,
            repeats=100,
        ),
    },
}
