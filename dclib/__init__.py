"""DeeperCluster: unsupervised pre-training of image features on non-curated data."""

from dclib.machine import keep_memory, wait_quietly

__version__ = "0.1.0"

keep_memory()  # here, since every process imports this first, and before torch
wait_quietly()
