"""The measurements: each takes a model and paragraphs and gives a `MemorizationSignature`."""
