"""DeeperCluster: unsupervised pre-training of image features on non-curated data."""

__version__ = "0.1.0"
