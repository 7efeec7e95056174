"""DeeperCluster: unsupervised pre-training of image features on non-curated data."""

from dclib.machine import wait_quietly

__version__ = "0.1.0"

wait_quietly()  # here, since every process imports this first, and before torch
