"""FSD50K from its server: files over HTTP, split zip archives, and the stages from nothing to a folder or a pack."""
