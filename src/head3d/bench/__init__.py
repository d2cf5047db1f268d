"""How fast this machine is: ``head3d bench`` and ``make bench``; ratios within one run, no time is tested.

The parts: :mod:`~head3d.bench.networks` (ratios of plain and fast ways), :mod:`~head3d.bench.data` (clips, from video
to batch), :mod:`~head3d.bench.steps` (training steps: time, arithmetic and memory by size), and
:mod:`~head3d.bench.engines` (commands with nothing to do).
"""
