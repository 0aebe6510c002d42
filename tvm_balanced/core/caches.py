"""What is known of this machine's caches."""

from pathlib import Path

LARGE_BYTES = 4 << 20  # of packed weights: a model of a few such layers does not stay in a last-level cache


CACHE_MULTIPLE = 4  # cold: copies of the weights take this many times the last-level cache


def last_level_cache() -> int:
    """Return the bytes of the last-level cache; 32 MiB where the system does not say."""
    sizes = [p.read_text().strip() for p in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    kib = [int(size.removesuffix("K")) for size in sizes if size.endswith("K")]
    return max(kib, default=32 << 10) << 10
