"""Judging rankers offline and online with the same code: arrays in, figures out.

``accuracy``: AUC within groups, with intervals by bootstrap over groups. ``calibration``: log loss and whether stated
probabilities come true. ``two_sided``: what lists are worth to both sides, and to whom attention goes.
``counterfactual``: what another policy would have earned, from logged propensities.
"""
