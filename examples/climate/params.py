#!/usr/bin/env python3
"""Writes the members of the sweep, one a line, by a Latin hypercube: `params.py 400 > params.txt`. Same count, same lines."""

import random
import sys

RANGES = {
    "feedback": (1.4, 3.0),
    "diffusion": (0.40, 0.75),
    "mixed_m": (30, 150),
    "exchange": (0.3, 1.5),
    "aerosol": (0.3, 1.9),
    "ice_albedo": (0.50, 0.66),
}

count = int(sys.argv[1])
chance = random.Random(1750)
columns = []
for name, (low, high) in RANGES.items():
    steps = [low + (high - low) * (i + 0.5) / count for i in range(count)]
    chance.shuffle(steps)
    columns.append([f"{name}={step:.4g}" for step in steps])
for line in zip(*columns):
    print(*line)
