"""`python one_machine_nodes.py`: a cluster of Ray's nodes on this machine, told through standard input what to do.

It takes lines of JSON, {"do": "join" | "lose", "name": ..., "cache": ...}, answers each with one, and ends with its
input. The head is the first to join. This is a process of its own, since Ray moves whoever starts a cluster into
another process group, and remembers in it what it has found.
"""

import json
import sys
from typing import Any

from ray.cluster_utils import Cluster

NUM_BYTES = 200_000_000


def main() -> None:
    cluster = Cluster()
    nodes: dict[str, Any] = {}
    try:
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "join":
                nodes[order["name"]] = cluster.add_node(
                    num_cpus=1,
                    object_store_memory=NUM_BYTES,
                    include_dashboard=False,
                    env_vars={"STN_BENCH_CACHE": order["cache"]},
                )
            else:
                cluster.remove_node(nodes.pop(order["name"]), allow_graceful=False)
            print(json.dumps({"address": cluster.address}), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
