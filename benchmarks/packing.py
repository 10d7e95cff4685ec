"""``python -m benchmarks.packing``: best fit of a million documents, CPU-seconds and waste.

Only lengths matter to it. They are log-normal, of about 1,000 tokens for documents and 200 for chats; a document longer
than a row is left out, since it is cut before.
"""

import time
from statistics import median

import numpy as np

from tokenization.packing.bestfit import best_fit

LENGTHS = 1_000_000
SIGMA = 0.8
RUNS = 3


def main() -> None:
    """Print a table."""
    print("| mean tokens | row | CPU-s | waste |\n|---|---|---|---|")
    for mean, capacity in ((1_000, 4_096), (1_000, 8_192), (200, 4_096)):
        drawn = np.random.default_rng(0).lognormal(np.log(mean) - SIGMA**2 / 2, SIGMA, LENGTHS)
        lengths = np.clip(drawn, 1, None).astype(np.int32)
        lengths = lengths[lengths <= capacity]
        cpus = []
        for _ in range(RUNS):
            begin = time.process_time()
            rows = len(best_fit(lengths, capacity).offsets) - 1
            cpus.append(time.process_time() - begin)
        waste = 1 - lengths.sum() / (rows * capacity)
        print(f"| {mean:,} | {capacity:,} | {median(cpus):.2f} | {waste:.3%} |")


if __name__ == "__main__":
    main()
