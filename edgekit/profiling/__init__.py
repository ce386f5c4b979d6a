"""Jobs for the agent, statistics of what comes back, comparison of profiles."""
