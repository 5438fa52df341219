"""``python -m bench peers``: our estimators against every rival that is installed."""
