"""How fast this machine runs the benchmark, beside what a user would otherwise write and what the machine allows; and
how far the statistics can be trusted. Run from the repository root, and no part of what is installed."""
