"""The first furniture: the price list and the model catalogue as files, and how they come into the store."""
