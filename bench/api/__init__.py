"""What the commands do, from Python. Each takes a Display, which shows what happens."""
