"""What is run: experiments, protocols, seeds, and the ordered plan of episodes."""
