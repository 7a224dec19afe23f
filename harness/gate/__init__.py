"""Check before the first episode that a policy and a suite mean the same by images, states, actions and prompts."""
