"""The Columbia speed-dating experiment (Fisman, Iyengar, Kamenica and Simonson, 2006) as a test of pre-date ranking.

``python -m recommender.datasets.speed_dating PATH --protocol cold|warm|both`` prints the table.
"""
