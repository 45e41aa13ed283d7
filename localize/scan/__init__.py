"""Finding what a model can recite: a corpus cut into windows, one teacher-forced pass for each, and what crosses the threshold."""
