"""From a folder of recordings to a pack.

`download` fetches FSD50K and `synthetic` generates a set like it; `readers` read a folder's tables into a Dataset;
`audio` probes and decodes recordings; `packing` decodes a data set once, into a pack; `pack` opens one.
"""
