"""How devices are reached, and how the agent is carried to them."""
