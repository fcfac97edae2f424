"""What the commands do, from Python. Each takes a Display, which is told what happens; the default is silent."""
