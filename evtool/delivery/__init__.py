"""Delivery: from a store's topics to whoever handles the events. Knows stores by their methods only, and no files."""
