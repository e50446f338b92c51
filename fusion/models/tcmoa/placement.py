"""Placement of TC-MoA's adapters among the blocks."""

from fusion.errors import ConfigError


def default_tau_shift(tau: int) -> int:
    """Shift that puts a site two blocks before the end of its group, always behind a shifted-window block.

    tau = 4 has 2 in the released code; tau = 2 has no room for it and takes 0; tau = 1 has a site after every block.
    """
    return 2 if tau > 2 else 0


def site_blocks(depth: int, tau: int, tau_shift: int | None = None) -> list[int]:
    """0-based blocks that a site follows: those with (i + tau_shift) mod tau == tau - 1.

    Raises:
        ConfigError: tau does not divide the depth, or the shift does not leave one site in every group of tau blocks.
    """
    shift = default_tau_shift(tau) if tau_shift is None else tau_shift
    if tau < 1 or depth % tau:
        divisors = [d for d in range(1, depth + 1) if depth % d == 0]
        raise ConfigError(f"model.tau={tau} must divide the number of blocks {depth}: one of {divisors}")
    if not 0 <= shift < tau:
        raise ConfigError(f"model.tau_shift={shift} must lie in 0..{tau - 1} for model.tau={tau}")
    return [i for i in range(depth) if (i + shift) % tau == tau - 1]
