"""The tasks, one file each: what a file here registers, every command knows."""
