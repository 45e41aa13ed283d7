"""One HTML file of one or several runs: what was asked, what stands out, every figure, the paragraphs themselves."""
