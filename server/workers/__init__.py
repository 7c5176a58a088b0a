"""Several processes that serve as one: their parent, their port, where they meet, and their metrics together."""
