"""Groups of settings, by what they are about; ``configs.settings`` puts them together."""
