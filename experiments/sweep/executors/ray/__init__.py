"""A Ray cluster: at RAY_ADDRESS, or made on this machine. The one folder that knows of Ray."""

from experiments.sweep.executors.ray.cluster import Cluster as Cluster  # before Ray itself: it sets what that reads
