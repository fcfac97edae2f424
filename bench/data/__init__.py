"""From a folder of WAVs to batches of chunks: fsd50k and demo make or read the folder, pack decodes it once, chunks
gathers batches from the pack."""
