"""Whether a picture that was made again looks like the one that is kept: `python alike.py MADE KEPT`."""

import sys

import numpy as np
from PIL import Image

MOST = 0.03
"""Mean difference of a pixel, of 1: fonts and rounding move some, another figure moves more."""

made, kept = (np.asarray(Image.open(path).convert("L"), dtype=float) / 255 for path in sys.argv[1:3])
if made.shape != kept.shape:
    sys.exit(f"{sys.argv[2]}: {kept.shape[::-1]} pixels, made again {made.shape[::-1]}; keep {sys.argv[1]} instead.")
difference = np.abs(made - kept).mean()
if difference > MOST:
    sys.exit(f"{sys.argv[2]}: differs by {difference:.3f} a pixel, at most {MOST}; keep {sys.argv[1]} instead.")
sys.stdout.write(f"{sys.argv[2]}: differs by {difference:.4f} a pixel, at most {MOST}\n")
