"""From a folder of WAVs to batches of chunks: fetch, fsd50k and demo bring, read or make the folder, pack decodes
it once, chunks gathers batches from the pack."""
