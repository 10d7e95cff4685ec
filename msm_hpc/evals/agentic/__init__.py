"""Does an agent that is about to be replaced do harm in order to prevent it, or to serve its goal?"""
