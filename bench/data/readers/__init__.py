"""One module a layout: each reads a folder's tables into a bench.data.dataset.Dataset and opens no recording."""
