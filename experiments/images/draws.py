"""Random numbers that are functions of what they are for, not of when they are drawn.

Every draw of a run is a function of (seed, epoch, image, purpose): the number of workers, the order of batches,
a restart and the device cannot change it. The same numbers come out on every device.
"""

import hashlib
import math

import torch
from torch import Tensor

MASK32 = 0xFFFFFFFF


def philox4x32(counter_N4: Tensor, key: tuple[int, int]) -> Tensor:
    """Ten rounds of Philox: (N, 4) int64 tensors of 32-bit words to (N, 4) random 32-bit words.

    Source: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3, section 3.3 (Philox-4x32-10).
    """
    c0, c1, c2, c3 = counter_N4.unbind(1)
    k0, k1 = key
    for _ in range(10):
        # The 64-bit products wrap in int64, yet shift and mask still give both exact 32-bit halves.
        product0, product1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            ((product1 >> 32) & MASK32) ^ c1 ^ k0,
            product1 & MASK32,
            ((product0 >> 32) & MASK32) ^ c3 ^ k1,
            product0 & MASK32,
        )
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return torch.stack([c0, c1, c2, c3], dim=1)


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed for generators that take one, from what they are for."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uniform(index_N: Tensor, num_draws: int, *, seed: int, epoch: int, purpose: str) -> Tensor:
    """num_draws uniform numbers in [0, 1) for each index, (N, num_draws) float32, on the index's device.

    index_N: int64, non-negative: which image the draw is for.
    """
    word = seed_of(seed, purpose)
    key = (word & MASK32, (word >> 32) & MASK32)
    blocks = [index_N.new_empty(len(index_N), 0)]
    for block in range(-(-num_draws // 4)):
        words = (index_N & MASK32, index_N >> 32, torch.full_like(index_N, epoch), torch.full_like(index_N, block))
        blocks.append(philox4x32(torch.stack(words, dim=1), key))
    # 24 bits are what a float32 in [0, 1) holds exactly.
    return (torch.cat(blocks, dim=1)[:, :num_draws] >> 8).float() * 2.0**-24


def permutation(index_N: Tensor, *, seed: int, epoch: int, purpose: str) -> Tensor:
    """The indices in a random order, (N,): sorted by a random number that each of them has."""
    return index_N[uniform(index_N, 1, seed=seed, epoch=epoch, purpose=purpose)[:, 0].argsort(stable=True)]


def normal(u: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones, float64, by the inverse of the distribution; within 5.5 of 0."""
    # Draws are multiples of 2^-24: half of one more makes them symmetric, and none of them infinite.
    return math.sqrt(2) * torch.erfinv(2 * (u.double() + 2.0**-25) - 1)
