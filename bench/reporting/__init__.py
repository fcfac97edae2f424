"""Tables, figures and a page from a results folder alone; no torch, so that they can be made on any machine."""
