"""AutoBot: gates on channels are trained to a budget, and the channels whose gates close are cut."""
