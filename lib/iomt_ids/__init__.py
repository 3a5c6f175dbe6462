"""Learn to see cyber attacks in the traffic of hospital devices, on a cluster.

A flow goes in at `ingest`, gets its meaning from `contract`, its cleanliness from
`prepare`, a verdict from `models`, a mark from `evaluate`; only `runtime` touches the
outside world, only `distributed` knows there is more than one worker.
"""

__version__ = "0.1.0"
