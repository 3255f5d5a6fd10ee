"""Make the data: Monte-Carlo generators behind one convention (seeded shards, resumable, atomic).

The generators are optional: ``pip install 'bithep_lib[simulate]'`` for jets, ``'bithep_lib[geant4]'`` for calorimeter
showers. Import the module you need, for example ``from bithep_lib.simulate import jets``.
"""
