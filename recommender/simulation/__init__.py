"""Made-up markets whose truth is known: what a ranking is worth before anybody is shown a card."""
