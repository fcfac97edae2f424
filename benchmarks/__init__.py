"""How fast this machine runs the benchmark, beside what a user would otherwise write and what the machine allows."""
